"""`vouchgate federation list`: foreign trust domains, and whether their callers pass."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import ago, duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import PartnerState

SUMMARY = "foreign trust domains and their bundles"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--refresh", default="", metavar="NAME", help="fetch this partner's bundle now")


def run(session: Session, options: argparse.Namespace) -> int:
    """One partner a line; exit 1 where one's callers are refused."""
    if options.refresh:
        session.client.post(PartnerState, "/api/v1/partners/refresh", {"name": options.refresh})
    partners = session.client.get(tuple[PartnerState, ...], "/api/v1/partners")
    refused = any(one.state == "refused" for one in partners)
    if session.json(partners):
        return int(refused)
    now = session.client.now
    rows = [
        (one.name, one.trust_domain, one.profile, one.state, str(one.sequence), ago(one.fetched_at, now),
         duration(one.next_at - now) if one.next_at > now else "now", str(one.callers))
        for one in partners
    ]  # fmt: skip
    session.printer.table(
        ("partner", "trust domain", "profile", "callers are", "sequence", "fetched", "next in", "callers"), rows, indent=0
    )
    for one in partners:
        if one.problem:
            session.printer.marked("warn", f"{one.name}: {one.problem}")
    return int(refused)
