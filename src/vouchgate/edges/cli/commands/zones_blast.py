"""`vouchgate zones blast`: what is reached if one identity, endpoint or piece of content is in the wrong hands."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.client import LONG_TIMEOUT_SECONDS
from vouchgate.edges.cli.commands.zones_prove import told
from vouchgate.edges.cli.printing import short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import BlastRadius

SUMMARY = "what is reached if an identity or content is in the wrong hands"
SHOWN = 60
"""Lines of the tree; --json has all of them."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "origin", metavar="PRINCIPAL|DIGEST", help="an identity, an endpoint, an asset or a digest, by its whole or short name"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Counts, the tree, and what revoking it ends."""
    found = session.client.get(BlastRadius, "/api/v1/zones/blast", timeout=LONG_TIMEOUT_SECONDS, of=options.origin)
    if session.json(found):
        return 0
    show = session.printer
    counts = f"{found.principals} identities, {found.endpoints} endpoints, {found.assets} things, {found.secrets} secrets"
    show.marked("warn", f"{short_name(found.origin)} reaches {counts} in {', '.join(found.zones) or 'no zone'}")
    for row in found.tree[:SHOWN]:
        show.line(f"  {'  ' * min(row.distance - 1, 8)}{row.kind} {short_name(row.name)}" + (f" in {row.zone}" if row.zone else ""))
        show.field("", f"{'  ' * min(row.distance - 1, 8)}{told(row.via)}; by {row.via.by}")
    show.field("more", f"{len(found.tree) - SHOWN} more lines: --json" if len(found.tree) > SHOWN else "")
    show.field("breaks", *found.breaks[:12])
    show.field("cut", found.cut)
    return 0
