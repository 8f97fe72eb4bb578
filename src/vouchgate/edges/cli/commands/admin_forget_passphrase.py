"""`vouchgate admin forget-passphrase`: the kernel's keyring gives up what opens the signer's keys."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.session import Session

SUMMARY = "empty the kernel's keyring; the next start asks for the passphrase"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """While vouchgate does not run on the data directory."""
    installation().forget_passphrase(session.settings)
    if not session.json({"forgotten": True}):
        session.printer.marked("good", "the next start asks for the passphrase")
    return 0
