"""`vouchgate assets list`: datasets, models, adapters, keys and artifacts, where they lie, and what is vouched for of them."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import AssetState

SUMMARY = "what was placed, where it lies, and what is vouched for of it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--zone", default="", help="only what lies there")


def run(session: Session, options: argparse.Namespace) -> int:
    """One thing a line."""
    found = session.client.get(tuple[AssetState, ...], "/api/v1/assets")
    shown = tuple(one for one in found if not options.zone or options.zone in one.asset.zones)
    if session.json(shown):
        return 0
    rows = [
        (one.asset.id.split("/")[3], short_name(one.asset.id), ", ".join(one.asset.zones) or "nowhere", ", ".join(one.vouches) or "-",
         ", ".join(f"{name} ({why})" for name, why in one.lacking.items()) or "-")
        for one in shown
    ]  # fmt: skip
    session.printer.table(("kind", "name", "zones", "vouches", "lacking"), rows, indent=0)
    if not rows:
        session.printer.line("nothing was placed" + (f" in {options.zone}" if options.zone else ""))
    return 0
