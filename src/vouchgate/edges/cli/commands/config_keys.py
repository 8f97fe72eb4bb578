"""`vouchgate config keys`: every key of vouchgate.toml with its meaning, default and bounds, as a settings file."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.settings_template import known_keys, settings_template

SUMMARY = "every key of vouchgate.toml with meaning and bounds"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """With --json as a list."""
    if not session.json(known_keys()):
        session.printer.line(settings_template().rstrip("\n"))
    return 0
