"""`vouchgate policy check`: validate a Cedar file, and say how it differs from the policy in force."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import PolicyReport
from vouchgate.vocabulary.errors import InvalidInput

SUMMARY = "check a policy file"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", nargs="+", help="Cedar files; checked together")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it does not hold."""
    answer = session.client.post(PolicyReport, "/api/v1/policy/check", {"text": read_policies(options.path)})
    if session.json(answer):
        return 0 if answer.ok else 1
    show = session.printer
    show.marked("good" if answer.ok else "bad", f"{answer.policies} policies {'hold' if answer.ok else 'do not hold together'}")
    for finding in answer.findings:
        where = " ".join(part for part in (finding.policy, f"line {finding.line}" if finding.line else "") if part)
        show.marked("bad" if finding.severity == "error" else "warn", f"{where}: {finding.text}" if where else finding.text, indent=2)
        show.field("fix", finding.remedy)
    for change in answer.changes:
        show.marked("note", change, indent=2)
    return 0 if answer.ok else 1


def read_policies(paths: list[str]) -> str:
    """The files' texts, one after the other."""
    try:
        return "\n".join(Path(path).read_text(encoding="utf-8") for path in paths)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"a policy file cannot be read: {error}", remedy="name Cedar files in UTF-8") from None
