"""`vouchgate logout`: end the login; commands act as the unix user again."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.logins import forget
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.errors import VouchgateError

SUMMARY = "end the login"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """End it at the control plane, and forget the token whatever that answers."""
    told = True
    try:
        if session.logged_in:
            session.client.delete("/api/v1/session")
    except VouchgateError:
        # ended already, or the control plane is away: without the token the session is nobody's, and ends by itself
        told = False
    finally:
        there = forget(session.api)
    if not session.json({"logged_out": there, "told": told}):
        session.printer.marked("good", "you are logged out" if there else "nobody was logged in")
    return 0
