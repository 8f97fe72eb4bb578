"""`vouchgate identity join-token`: a token with which one workload that has nothing else to show earns its identity once."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import JoinToken, JoinTokenRequest

SUMMARY = "a single-use token that earns a registration once"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("principal", help="spiffe://..., registered without selectors")
    parser.add_argument("--ttl", type=int, default=600, metavar="SECONDS", help="the token ends after this")


def run(session: Session, options: argparse.Namespace) -> int:
    """The token goes to standard output alone, so that it can be put into a variable."""
    answer = session.client.post(JoinToken, "/api/v1/join-tokens", JoinTokenRequest(principal=options.principal, ttl_seconds=options.ttl))
    if not session.json(answer):
        session.printer.line(answer.token)
    return 0
