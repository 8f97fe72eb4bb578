"""`vouchgate runs begin`: begin a run on declared inputs."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import RunOutcome, RunRequest

SUMMARY = "begin a run of a job on declared inputs; what it may read is fixed from here on"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("principal", help="the job or step, by its whole or short name")
    parser.add_argument("stage", help="what it does: ingest, train, evaluate, ...")
    parser.add_argument("--input", action="append", default=[], metavar="DIGEST", help="digest of an admitted artifact that it may read")
    parser.add_argument("--purpose", default="", help="what it is begun for; policies read it on each of its requests")
    parser.add_argument("--seconds", type=int, default=3600, help="its longest life (default: an hour)")


def run(session: Session, options: argparse.Namespace) -> int:
    """The run's id goes to standard output, so that it can be put into a variable."""
    asked = RunRequest(
        principal=options.principal,
        stage=options.stage,
        purpose=options.purpose,
        inputs=tuple(options.input),
        seconds=options.seconds,
    )
    answer = session.client.post(RunOutcome, "/api/v1/runs", asked)
    if session.json(answer):
        return 0
    show = session.printer
    show.line(answer.run.id)
    show.field("inputs", str(len(answer.run.inputs)))
    show.field("ends in", duration(answer.run.not_after - session.client.now))
    return 0
