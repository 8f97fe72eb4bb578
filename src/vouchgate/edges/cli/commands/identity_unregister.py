"""`vouchgate identity unregister`: nothing is issued for it any more, and its grants end."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.principals import Registration

SUMMARY = "take a registration away"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("principal", help="spiffe://...")
    parser.add_argument("--why", required=True, metavar="REASON", help="for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """Gone, or the reason why not."""
    body = {"principal": options.principal, "reason": options.why}
    answer = session.client.post(Registration, "/api/v1/registrations/remove", body)
    if not session.json(answer):
        session.printer.marked("good", f"{answer.principal} is not registered any more; credentials that it holds earn nothing")
    return 0
