"""`vouchgate assets remove`: it lies nowhere from here on."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import AssetState

SUMMARY = "forget where something lies; nobody reaches it across zones then"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("asset", help="its whole name, its last segment, or the beginning of its digest")
    parser.add_argument("--reason", default="", help="for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """Say where it lay."""
    answer = session.client.post(AssetState, "/api/v1/assets/remove", {"name": options.asset, "reason": options.reason})
    if not session.json(answer):
        session.printer.marked(
            "good", f"{short_name(answer.asset.id)} lies nowhere; it lay in {', '.join(answer.asset.zones) or 'no zone'}"
        )
    return 0
