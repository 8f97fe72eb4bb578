"""`vouchgate admin accept-clock`: go on after the clock jumped."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import Status

SUMMARY = "go on after a jump of the clock: a person says that the present time is right"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--reason", required=True, help="why the present time is right, for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """Issuing and renewing go on."""
    answer = session.client.post(Status, "/api/v1/clock/accept", {"reason": options.reason})
    if not session.json(answer):
        session.printer.marked(
            "good" if answer.clock.state == "sound" else "bad", f"the clock is {answer.clock.state} {answer.clock.detail}".rstrip()
        )
    return 0 if answer.clock.state == "sound" else 1
