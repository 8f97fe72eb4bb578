"""`vouchgate scan`: look into a model file without running it. Works without a control plane: the scanner is a process of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.commands.import_artifact import show_outcome
from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.errors import NotFound

SUMMARY = "look into a model file without running it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="the file")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it would not be admitted for what is in it."""

    path = Path(options.path)
    if not path.is_file():
        raise NotFound(f"there is no file `{path}`", remedy="name a model file")
    answer = installation().scan(path.absolute())
    if not session.json(answer):
        show_outcome(session, answer, path.name, ("passes", "does not pass"), now=0)
    return 0 if answer.admitted else 1
