"""`vouchgate vouch add`: hand in a vouch that a delegated producer signed."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.handing_in import hand_in_envelope, show_taken
from vouchgate.edges.cli.session import Session

SUMMARY = "hand in a vouch that a producer with a delegated key signed"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("file", help="the DSSE envelope")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it is refused."""
    return show_taken(session, hand_in_envelope(session, options.file), "took in")
