"""`vouchgate config check`: read vouchgate.toml and say whether it can be used."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session

SUMMARY = "check vouchgate.toml"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """Raises `InvalidSettings`, which is exit code 2."""
    settings = session.settings
    if not session.json(settings):
        told = f"{len(settings.endpoints)} endpoints in {len(settings.zones)} zones"
        session.printer.marked("good", f"{session.settings_path}: {told}")
    return 0
