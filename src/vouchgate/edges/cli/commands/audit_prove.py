"""`vouchgate audit prove`: a proof of one entry that somebody else can check without us."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import AuditProof

SUMMARY = "write a proof of one entry (C2SP tlog-proof)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("of", help="a log index, request id or decision id")
    parser.add_argument("-o", "--out", default="", metavar="FILE", help="write it there (default: standard output)")


def run(session: Session, options: argparse.Namespace) -> int:
    """The proof as it is, so that it can be piped."""
    answer = session.client.get(AuditProof, "/api/v1/audit/proof", of=options.of)
    if session.json(answer):
        return 0
    if options.out:
        Path(options.out).write_text(answer.text, encoding="utf-8")
        session.printer.marked("good", f"wrote the proof of entry {answer.index} to {options.out}")
    else:
        session.printer.line(answer.text.rstrip("\n"))
    return 0
