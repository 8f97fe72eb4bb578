"""`vouchgate up`: start everything in the foreground; Ctrl-C ends it."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.secret import ask_secret
from vouchgate.edges.cli.session import Session

SUMMARY = "start everything, in the foreground"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """The process tree runs until it is ended."""
    settings = session.settings

    return installation().up(settings, session.settings_path, ask_secret)
