"""`vouchgate audit verify`: recompute the whole log, and compare it with an older checkpoint that you kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.client import LONG_TIMEOUT_SECONDS
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import AuditReport
from vouchgate.vocabulary.errors import InvalidInput

SUMMARY = "recompute the log"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--against", default="", metavar="CHECKPOINT", help="a file with an older checkpoint: the log must extend it")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where anything does not hold."""
    answer = session.client.post(AuditReport, "/api/v1/audit/verify", {"against": _read(options.against)}, timeout=LONG_TIMEOUT_SECONDS)
    if session.json(answer):
        return 0 if answer.ok else 1
    show = session.printer
    verdict = (
        f"all {answer.checked} entries hold" if answer.ok else f"the log does not hold, {answer.checked} of {answer.size} entries checked"
    )
    show.marked("good" if answer.ok else "bad", f"{verdict} ({answer.duration_ms / 1000:.1f} s)")
    for problem in answer.problems:
        show.marked("bad", problem, indent=2)
    if answer.first_bad >= 0:
        show.field("first", f"entry {answer.first_bad}")
    show.field("root", answer.root)
    show.field("witness", ", ".join(answer.witnesses) or "none")
    show.field("means", answer.statement)
    return 0 if answer.ok else 1


def _read(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"`{path}` cannot be read: {error}", remedy="name a file that `vouchgate audit checkpoint` wrote") from None
