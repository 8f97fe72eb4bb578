"""`vouchgate admin renew-trust`: sign the next TrustRoot with the offline root key; needed before it expires and after a key was replaced."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.secret import ask_secret
from vouchgate.edges.cli.session import Session

SUMMARY = "sign the next TrustRoot with the offline root key, for the keys that are there now"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--root-key", required=True, metavar="FILE", help="the offline root key (PEM)")
    parser.add_argument(
        "--producer",
        action="append",
        default=[],
        metavar="ROLE=FILE",
        help="let a producer outside vouch: device or reviewer=its public key (PEM)",
    )
    parser.add_argument(
        "--drop-producer", action="append", default=[], metavar="KEY", help="a producer outside vouches no longer: its key's id"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """While vouchgate does not run on the data directory; the next start adopts it."""
    producers = [_producer(text) for text in options.producer]
    answer = installation().renew_trust(
        session.settings, Path(options.root_key), ask_secret, producers=producers, dropped=options.drop_producer
    )
    if not session.json(answer):
        session.printer.marked("good", "the next TrustRoot is signed; the next `vouchgate up` adopts it, and verifies every vouch anew")
        session.printer.field("root", answer.root_fingerprint)
    return 0


def _producer(text: str) -> tuple[str, Path]:
    role, equals, path = text.partition("=")
    if not (role and equals and path):
        raise Usage(f"`{text[:80]}` is not ROLE=FILE", remedy="write device=FILE")
    return role, Path(path)
