"""`vouchgate token exchange`: act for somebody by a token of theirs, narrowed, and bound to a key of yours.

The caller is who acts, by the kernel's word. The token is bound to the key by a DPoP proof (RFC 9449), made here; the key never leaves.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import ExchangeOutcome, ExchangeRequest, TokenServiceState
from vouchgate.vocabulary.errors import NotPermitted

SUMMARY = "act for somebody: exchange their token for a narrower one that is bound to your key"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
MAX_TOKEN_BYTES = 16_384


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("endpoint", help="id or name of the endpoint that the token is for")
    parser.add_argument("--scope", required=True, help="what it is good for, for example `infer:digits`")
    parser.add_argument("--subject", default="-", metavar="FILE", help="file with the token of who is acted for (default: standard input)")
    parser.add_argument("--subject-type", default=JWT_TYPE, metavar="TYPE", help="its type; a foreign token's names its attestor")
    parser.add_argument("--actor", default="", metavar="FILE", help="file with a token of who acts (default: whoever runs this)")
    parser.add_argument("--key", required=True, metavar="FILE", help="PEM file of the P-256 key that the token is bound to")
    parser.add_argument("--seconds", type=int, default=0, help="a shorter life")


def run(session: Session, options: argparse.Namespace) -> int:
    """The token goes to standard output alone."""
    from vouchgate.edges.cli.keys import dpop_proof

    service = session.client.get(TokenServiceState, "/api/v1/token")
    form = {
        "grant_type": GRANT_TYPE,
        "subject_token": _token(options.subject),
        "subject_token_type": options.subject_type,
        "resource": options.endpoint,
        "scope": options.scope,
    }
    if options.actor:
        form |= {"actor_token": _token(options.actor), "actor_token_type": JWT_TYPE}
    if options.seconds:
        form["expires_in"] = str(options.seconds)
    proof = dpop_proof(Path(options.key).read_bytes(), "POST", service.url, session.client.now)
    answer = session.client.post(ExchangeOutcome, "/api/v1/token", ExchangeRequest(form=form, proof=proof))
    if answer.error:
        raise NotPermitted(f"{answer.error}: {answer.reason}", remedy=answer.remedy)
    if not session.json(answer):
        session.printer.line(answer.access_token)
    return 0


def _token(name: str) -> str:
    text = sys.stdin.read(MAX_TOKEN_BYTES) if name == "-" else Path(name).read_text("ascii")[:MAX_TOKEN_BYTES]
    if not text.strip():
        raise Usage("there is no token", remedy="pass it on standard input or with --subject FILE")
    return text.strip()
