"""`vouchgate approve show`: what exactly one request asks for."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.commands.approve_list import show
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_approvals import ApprovalState
from vouchgate.vocabulary.errors import NotFound

SUMMARY = "what exactly one request asks for"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("id", help="of `vouchgate approve list`")


def run(session: Session, options: argparse.Namespace) -> int:
    """The whole of it, and how to answer."""
    found = session.client.get(tuple[ApprovalState, ...], "/api/v1/approvals")
    one = next((one for one in found if one.id == options.id), None)
    if one is None:
        raise NotFound(f"there is no approval `{options.id[:64]}`", remedy="list them: `vouchgate approve list --all`")
    if session.json(one):
        return 0
    show(session, one)
    if one.mine:
        session.printer.command("agree, once", f"vouchgate approve give {one.id}")
        session.printer.command("refuse", f"vouchgate approve refuse {one.id} --reason ...")
    return 0
