"""`vouchgate secrets list`: others' secrets, how old they are and where their rotation stands; never their bytes."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.secrets import SecretLine

SUMMARY = "others' secrets and where their rotation stands"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """One secret a line, what needs a person below it."""
    lines = session.client.get(tuple[SecretLine, ...], "/api/v1/secrets")
    if session.json(lines):
        return 0
    now = session.client.now
    rows = [
        (one.name, one.rotator, one.state, str(one.version or "-"), duration(one.age_ms) if one.version else "-",
         duration(one.rotates_at - now) if one.rotates_at > now else "-")
        for one in lines
    ]  # fmt: skip
    session.printer.table(("secret", "rotator", "state", "version", "age", "next turn in"), rows, indent=0)
    for one in lines:
        if one.problem:
            session.printer.marked("warn", f"{one.name}: {one.problem}")
    return 0
