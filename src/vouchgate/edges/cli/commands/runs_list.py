"""`vouchgate runs list`: runs, newest first, and which go on."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "runs, newest first, and which go on"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--all", action="store_true", help="those that ended too")


def run(session: Session, options: argparse.Namespace) -> int:
    """One line a run."""
    found = session.client.get(tuple[Run, ...], "/api/v1/runs")
    now = session.client.now
    shown = [one for one in found if options.all or one.alive(UnixMillis(now))]
    if session.json(tuple(shown)):
        return 0
    for one in shown:
        left = f"ends in {duration(one.not_after - now)}" if one.alive(UnixMillis(now)) else f"ended: {one.reason or 'by itself'}"
        session.printer.line(f"{one.id}  {short_name(one.principal)}  {one.stage}  {len(one.inputs)} inputs  {left}")
    if not shown:
        session.printer.line("no run goes on")
    return 0
