"""`vouchgate admin ca-request`: a request that an existing CA signs, so that ours stands below it."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.ca import CaRequested
from vouchgate.vocabulary.errors import Conflict

SUMMARY = "write a request for a CA above ours: AD CS, a corporate CA, Vault"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--out", metavar="FILE", help="write it there; otherwise it is printed")


def run(session: Session, options: argparse.Namespace) -> int:
    """The key stays with the signer; asking again gives a request for the same key."""
    answer = session.client.post(CaRequested, "/api/v1/ca/request", {})
    if session.json(answer):
        return 0
    if not options.out:
        session.printer.line(answer.pem.rstrip())
        return 0
    try:
        with Path(options.out).open("x", encoding="ascii") as file:
            file.write(answer.pem)
    except OSError as error:
        raise Conflict(f"`{options.out}` cannot be written: {error.strerror}", remedy="name a file that does not exist yet") from None
    session.printer.marked("good", f"{options.out} asks for a CA certificate with path length 0")
    session.printer.field("then", "vouchgate admin ca-install CHAIN.pem --root-fingerprint SHA256 --reason TEXT")
    return 0
