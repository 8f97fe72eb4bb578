"""`vouchgate admin claim`: use the bootstrap token that `init` printed."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.principals import Registration

SUMMARY = "become the first administrator, with the token that `init` printed"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("token", help="the bootstrap token; works once, within 10 minutes")


def run(session: Session, options: argparse.Namespace) -> int:
    """This unix user holds the roles from now on."""
    answer = session.client.post(Registration, "/api/v1/bootstrap", {"token": options.token})
    if not session.json(answer):
        session.printer.marked("good", f"you are {answer.principal}")
        session.printer.field("roles", ", ".join(answer.groups))
    return 0
