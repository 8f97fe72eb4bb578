"""`vouchgate audit checkpoint`: the newest checkpoint, to be kept elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import AuditCheckpoint

SUMMARY = "the newest checkpoint, to be kept elsewhere; `audit verify --against` it later"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("-o", "--out", default="", metavar="FILE", help="write it there (default: standard output)")


def run(session: Session, options: argparse.Namespace) -> int:
    """The note as it was signed."""
    answer = session.client.get(AuditCheckpoint, "/api/v1/audit/checkpoint")
    if session.json(answer):
        return 0
    if options.out:
        Path(options.out).write_text(answer.note, encoding="utf-8")
        session.printer.marked("good", f"wrote the checkpoint of {answer.size} entries to {options.out}")
    else:
        session.printer.line(answer.note.rstrip("\n"))
    return 0
