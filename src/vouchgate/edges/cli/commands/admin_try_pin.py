"""`vouchgate admin try-pin`: after a token refused a PIN, let one be tried again."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.session import Session

SUMMARY = "let one PIN be tried again; tokens lock themselves after few wrong ones, so nothing tries by itself"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """While vouchgate does not run on the data directory."""
    installation().try_pin(session.settings)
    if not session.json({"may_try": True}):
        session.printer.marked("good", "the next start tries the PIN once")
    return 0
