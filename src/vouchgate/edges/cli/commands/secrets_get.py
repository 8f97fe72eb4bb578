"""`vouchgate secrets get`: the credential in use, for whom policy lets have it. The act is an entry before anything is shown."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session

SUMMARY = "the credential in use, where policy releases it to you"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("name", help="its name in vouchgate.toml")
    parser.add_argument("--part", default="", metavar="PART", help="this part alone, for example password")


def run(session: Session, options: argparse.Namespace) -> int:
    """To standard output alone, so that it can be handed on through a pipe."""
    answer = session.client.post(dict[str, str], "/api/v1/secrets/release", {"name": options.name})
    if options.part and options.part not in answer:
        raise Usage(f"`{options.name}` has no part `{options.part[:64]}`", remedy=f"use one of {', '.join(sorted(answer))}")
    if options.part:
        session.printer.line(answer[options.part])
    elif not session.json(answer):
        for name, value in answer.items():
            session.printer.line(f"{name}={value}")
    return 0
