"""`vouchgate identity list`: who is registered and who was seen."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import ago, duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_decisions import CallerState

SUMMARY = "who is registered, who was seen"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """One caller a line."""
    callers: tuple[CallerState, ...] = ()
    while page := session.client.get(tuple[CallerState, ...], "/api/v1/callers", after=callers[-1].principal if callers else ""):
        callers += page
    if session.json(callers):
        return 0
    now = session.client.now
    rows = [
        (caller.principal, caller.credential_kind, _life(caller, now), ago(caller.last_seen, now), str(caller.allowed), str(caller.denied),
         "revoked" if caller.revoked else ", ".join(caller.groups))
        for caller in callers
    ]  # fmt: skip
    session.printer.table(("principal", "credential", "for", "last seen", "allowed", "denied", "groups"), rows, indent=0)
    return 0


def _life(caller: CallerState, now: int) -> str:
    return duration(caller.credential_until - now) if caller.credential_until > now else "-"
