"""`vouchgate admin login`: a one-time code for the console."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import CodeIssued

SUMMARY = "a one-time code for the console"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """The address to open, once."""
    answer = session.client.post(CodeIssued, "/api/v1/login-code", {})
    if not session.json(answer):
        session.printer.field("open", answer.url)
        session.printer.field("", f"works once, within {duration(answer.expires_at - session.client.now)}")
    return 0
