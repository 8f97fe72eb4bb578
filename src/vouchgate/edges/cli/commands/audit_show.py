"""`vouchgate audit show`: read the log."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import ago, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import AuditPage
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.wire import decode

SUMMARY = "read the log"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--start", type=int, default=-30, help="first entry; below zero counts from the end (default: -30)")
    parser.add_argument("--count", type=int, default=30, help="how many (default: 30)")
    parser.add_argument("--follow", action="store_true", help="decisions as they happen, until Ctrl-C")


def run(session: Session, options: argparse.Namespace) -> int:
    """One entry a line."""
    if options.follow:
        return _follow(session)
    page = session.client.get(AuditPage, "/api/v1/audit/entries", start=options.start, count=options.count)
    if not session.json(page):
        now = session.client.now
        rows = [(str(entry.index), ago(entry.at, now), entry.kind, short_name(entry.actor), entry.summary) for entry in page.entries]
        session.printer.table(("entry", "when", "kind", "who", "what"), rows, indent=0)
    return 0


def _follow(session: Session) -> int:
    for data in session.client.events("/api/v1/decisions/live"):
        if data.strip() == b"{}":
            break
        line = decode(DecisionLine, data, what="event")
        if not session.json(line):
            would = line.effect == "allow" and line.would_be == "deny"
            mark = "bad" if line.effect == "deny" else "warn" if would else "good"
            who = short_name(line.principal) or "nobody"
            session.printer.marked(
                mark, f"{line.seq} {who} {line.action} {short_name(line.resource)} {line.method} {line.path} {line.reason}".rstrip()
            )
    return 0
