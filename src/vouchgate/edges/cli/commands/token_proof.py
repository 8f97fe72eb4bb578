"""`vouchgate token proof`: the DPoP proof that one request with a key-bound token needs (RFC 9449, section 4), for clients that cannot make it."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import TokenServiceState
from vouchgate.vocabulary.base64url import b64

SUMMARY = "the DPoP proof for one request with a token that is bound to your key"
DETAIL = """The DPoP proof for one request with a token that is bound to your key, to standard output. It holds for this method and address alone, once,
for a minute: `curl -H "authorization: DPoP $TOKEN" -H "dpop: $(vouchgate token proof POST URL --key key.pem --token token.txt)" ...`"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("method", help="of the request, for example POST")
    parser.add_argument("url", help="of the request, without its query")
    parser.add_argument("--key", required=True, metavar="FILE", help="PEM file of the P-256 key that the token is bound to")
    parser.add_argument("--token", required=True, metavar="FILE", help="file with the token")


def run(session: Session, options: argparse.Namespace) -> int:
    """The proof's time is the control plane's, by whose clock it is checked."""
    from vouchgate.edges.cli.keys import dpop_proof

    session.client.get(TokenServiceState, "/api/v1/token")
    token = Path(options.token).read_text("ascii").strip()
    ath = b64(hashlib.sha256(token.encode()).digest())
    session.printer.line(dpop_proof(Path(options.key).read_bytes(), options.method.upper(), options.url, session.client.now, ath=ath))
    return 0
