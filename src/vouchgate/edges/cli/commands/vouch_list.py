"""`vouchgate vouch list`: what was vouched for about one name."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import VouchState

SUMMARY = "what was vouched for about one name, the newest first"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--about", required=True, metavar="NAME", help="a digest, a whole name, or a short one where it is unique")


def run(session: Session, options: argparse.Namespace) -> int:
    """One vouch a line."""
    found = session.client.get(tuple[VouchState, ...], "/api/v1/vouches", about=options.about)
    if session.json(found):
        return 0
    if not found:
        session.printer.line("nothing is vouched for about it")
    session.printer.vouches(found, session.client.now)
    return 0
