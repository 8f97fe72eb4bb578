"""`vouchgate zones list`: zones, their mode and lease."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import ZoneState

SUMMARY = "zones, their mode and lease"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """One zone a line."""
    zones = session.client.get(tuple[ZoneState, ...], "/api/v1/zones")
    if session.json(zones):
        return 0
    now = session.client.now
    rows = [
        (state.zone.name, state.zone.mode, duration(state.zone.observe_until - now) if state.zone.observe_until else "-",
         f"{state.zone.lease_seconds} s", str(state.endpoints), str(state.would_deny))
        for state in zones
    ]  # fmt: skip
    session.printer.table(("zone", "mode", "observe for", "lease", "endpoints", "would refuse"), rows, indent=0)
    return 0
