"""`vouchgate admin ca-install`: take in the chain that a CA above ours returned."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.commands.admin_ca import show
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.ca import CaInstallRequest, CaStatus
from vouchgate.vocabulary.errors import InvalidInput

SUMMARY = "take in the chain that a CA above ours returned; it signs once it is activated"
MAX_BYTES = 200_000
"""Bytes of the file."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("chain", help="PEM: our certificate, those between, the root; in this order")
    parser.add_argument("--root-fingerprint", required=True, metavar="SHA256", help="of the root's DER, as its owner publishes it")
    parser.add_argument("--reason", required=True, help="why, for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """The authority afterwards; what the chain lacks is said before anything changes."""
    try:
        with Path(options.chain).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"`{options.chain}` cannot be read: {error}", remedy="name a PEM file") from None
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"`{options.chain}` is over the bound of {MAX_BYTES} bytes", remedy="name the chain alone")
    body = CaInstallRequest(pem=text, root_fingerprint=options.root_fingerprint, reason=options.reason)
    show(session, session.client.post(CaStatus, "/api/v1/ca/install", body))
    if not session.as_json:
        session.printer.field("then", "vouchgate admin ca-rotate activate --reason TEXT")
    return 0
