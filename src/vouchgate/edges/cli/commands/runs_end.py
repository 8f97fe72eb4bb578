"""`vouchgate runs end`: end a run and strike every credential that was issued under it."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import RunOutcome

SUMMARY = "end a run and strike every credential that was issued under it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("run", help="the run's id")
    parser.add_argument("--reason", default="it is over", help="why, for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """Says where it is enforced."""
    answer = session.client.post(RunOutcome, "/api/v1/runs/end", {"id": options.run, "reason": options.reason})
    if not session.json(answer):
        session.printer.marked("good", f"{answer.run.id} has ended; {answer.credentials} credentials are struck")
        session.printer.points(answer.points, session.client.now)
    return 0
