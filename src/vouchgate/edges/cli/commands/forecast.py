"""`vouchgate forecast`: what will be refused because evidence or credentials end, and what renews each."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import Forecast, Lapse

SUMMARY = "what will be refused in 24 h, 7 d, 30 d, and what renews it"
DETAIL = """Put the time forward on a copy of the facts and decide again: which calls that are allowed now will be refused within 24 hours, 7 days and
30 days because something ends, whose they are, and the command that renews it. Exit 1 where calls will be refused within 24 hours."""
MAX_NAMES = 4


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """What must be renewed first, what renews itself below."""
    said = session.client.get(Forecast, "/api/v1/forecast")
    code = 1 if said.refused.get("24h", 0) else 0
    if session.json(said):
        return code
    show = session.printer
    total = said.refused.get("30d", 0)
    words = ", ".join(f"{said.refused.get(name, 0)} within {name[:-1]} {name[-1]}" for name in ("24h", "7d", "30d"))
    show.marked("bad" if code else "warn" if total else "good", f"of {said.allowed} cells that are allowed now, refused will be: {words}")
    for lapse in said.lapses:
        if not lapse.renews_itself:
            _show(session, lapse)
    by_itself = [lapse for lapse in said.lapses if lapse.renews_itself]
    if by_itself:
        show.line(show.paint("  renews itself while vouchgate runs", "note"))
        rows = [
            (lapse.kind, short_name(lapse.subject), duration(lapse.at - said.at), str(lapse.refused), lapse.detail) for lapse in by_itself
        ]
        show.table(("what", "of", "ends in", "cells", "by"), rows)
    if said.cut_off:
        show.marked("warn", said.cut_off)
    return code


def _show(session: Session, lapse: Lapse) -> None:
    show, now = session.printer, session.client.now
    hits = f"{lapse.refused} cells refused, {lapse.calls} calls of them seen" if lapse.refused else "no cell of its own"
    show.marked(
        "bad" if lapse.within == "24h" else "warn", f"in {duration(lapse.at - now)}: {lapse.title} ({short_name(lapse.subject)}); {hits}"
    )
    if lapse.callers:
        more = f" and {len(lapse.callers) - MAX_NAMES} more" if len(lapse.callers) > MAX_NAMES else ""
        show.field("whose", ", ".join(short_name(one) for one in lapse.callers[:MAX_NAMES]) + more)
    show.field("why", lapse.detail)
    show.command("renew", lapse.command)
