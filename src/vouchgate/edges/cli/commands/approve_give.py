"""`vouchgate approve give`: agree to one request, once."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.commands.approve_list import show
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_approvals import ApprovalState

SUMMARY = "agree to one request, once"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("id", help="of `vouchgate approve list`")


def run(session: Session, options: argparse.Namespace) -> int:
    """Shows what was agreed to, and whether others have to agree too."""
    answer = session.client.post(ApprovalState, "/api/v1/approvals/give", {"id": options.id})
    if session.json(answer):
        return 0
    show(session, answer)
    if answer.state == "pending":
        session.printer.line("another group has to agree too")
    else:
        session.printer.line("the same request, sent again before it lapses, passes once")
    return 0
