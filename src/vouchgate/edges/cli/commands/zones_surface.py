"""`vouchgate zones surface`: how much can be reached at all, with vouchgate and without."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.client import LONG_TIMEOUT_SECONDS
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import AttackSurface

SUMMARY = "how much can be reached at all, with vouchgate and without"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """Triples and listeners."""
    found = session.client.get(AttackSurface, "/api/v1/zones/surface", timeout=LONG_TIMEOUT_SECONDS)
    if session.json(found):
        return 0
    show = session.printer
    reached = found.allowed + found.depends
    factor = f", {found.factor:g} times fewer" if found.factor else ""
    show.marked("good" if found.factor > 1 else "warn", f"{reached} of {found.without} caller x action x thing can be reached{factor}")
    show.field("of", f"{found.principals} identities, {found.actions} actions, {found.things} things")
    show.field("depends", f"{found.depends} of them on the single request")
    show.field("across", f"{found.across} of them in another zone")
    show.table(("from", "to", "allowed", "depends"), [(one, two, str(a), str(b)) for one, two, a, b in found.zones])
    rows = [(one.name, one.kind, one.address, one.who) for one in found.listeners]
    show.table(("listens", "", "at", "who may connect"), rows)
    open_to_all = [one for one in found.listeners_without if one.who.startswith("everybody")]
    show.field("without", f"{len(open_to_all)} servers would be open to everybody on the network" if open_to_all else "")
    show.field("cut", found.cut)
    return 0
