"""`vouchgate approve refuse`: refuse one request, also after others agreed."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.commands.approve_list import show
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_approvals import ApprovalState

SUMMARY = "refuse one request, also after others agreed"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("id", help="of `vouchgate approve list`")
    parser.add_argument("--reason", default="refused", help="why, for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """Says how it stands."""
    answer = session.client.post(ApprovalState, "/api/v1/approvals/refuse", {"id": options.id, "reason": options.reason})
    if not session.json(answer):
        show(session, answer)
    return 0
