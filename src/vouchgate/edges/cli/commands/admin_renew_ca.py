"""`vouchgate admin renew-ca`: a new certificate for the CA's key; needed before the old one expires, once a year."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.secret import ask_secret
from vouchgate.edges.cli.session import Session

SUMMARY = "make a new certificate for the CA's key; certificates that it issued before go on to verify"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """While vouchgate does not run on the data directory; the next start publishes it."""
    installation().renew_ca(session.settings, ask_secret)
    if not session.json({"renewed": True}):
        session.printer.marked("good", "the CA has a new certificate; the next `vouchgate up` publishes it")
    return 0
