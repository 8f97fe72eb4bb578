"""`vouchgate admin renew-trust`: sign the next TrustRoot with the offline root key; needed before it expires and after a key was replaced."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.secret import ask_secret
from vouchgate.edges.cli.session import Session

SUMMARY = "sign the next TrustRoot with the offline root key, for the keys that are there now"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--root-key", required=True, metavar="FILE", help="the offline root key (PEM)")


def run(session: Session, options: argparse.Namespace) -> int:
    """While vouchgate does not run on the data directory; the next start adopts it."""
    answer = installation().renew_trust(session.settings, Path(options.root_key), ask_secret)
    if not session.json(answer):
        session.printer.marked("good", "the next TrustRoot is signed; the next `vouchgate up` adopts it, and verifies every vouch anew")
        session.printer.field("root", answer.root_fingerprint)
    return 0
