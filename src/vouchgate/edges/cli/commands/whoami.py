"""`vouchgate whoami`: as whom commands act."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import LoggedIn

SUMMARY = "as whom commands act"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """Ask the control plane, which alone knows."""
    who = session.client.get(LoggedIn, "/api/v1/whoami")
    if not session.json(who):
        session.printer.field("as", who.principal)
        session.printer.field("groups", ", ".join(who.groups) or "none")
        session.printer.field("by", "login" if who.how == "session" else "unix user")
        if who.ends_at:
            session.printer.field("ends", f"in {duration(who.ends_at - session.client.now)}")
    return 0
