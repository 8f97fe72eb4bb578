"""`vouchgate secrets rotate`: begin a rotation now, or with `--back` use the version before again."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.secrets import SecretLine

SUMMARY = "rotate a secret now, or go back to the version before"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("name", help="its name in vouchgate.toml")
    parser.add_argument("--back", action="store_true", help="use the version before again, as long as it was not retired")


def run(session: Session, options: argparse.Namespace) -> int:
    """Begun, or the reason why not."""
    path = "/api/v1/secrets/roll-back" if options.back else "/api/v1/secrets/rotate"
    answer = session.client.post(SecretLine, path, {"name": options.name})
    if not session.json(answer):
        session.printer.marked("good", f"{answer.name} is {answer.state}; `vouchgate secrets list` shows how it goes on")
    return 0
