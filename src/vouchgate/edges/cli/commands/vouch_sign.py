"""`vouchgate vouch sign`: sign a vouch with a producer's own key, where that key lies; nothing is sent."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "sign a vouch with a producer's own key; nothing is sent"
DETAIL = """For a device manager that was delegated as a producer (`vouchgate admin renew-trust --producer`):
`vouchgate vouch sign --key edr.pem --about spiffe://acme.example/person/office/ann --claims claims.json --hours 1 --out posture.json`"""
ROLE = "device"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--key", required=True, metavar="FILE", help="the producer's private key (Ed25519, PEM)")
    parser.add_argument("--about", action="append", required=True, metavar="NAME", help="the caller's whole name; several are one vouch")
    parser.add_argument("--predicate", default="posture", help="what is vouched for (default: posture)")
    parser.add_argument("--claims", required=True, metavar="FILE", help="JSON object of what was found")
    parser.add_argument("--fail", action="store_true", help="it was found wanting")
    parser.add_argument("--hours", type=float, default=1.0, help="how long it holds (default: 1)")
    parser.add_argument("--tool", default="device-manager", help="name of the tool that looked")
    parser.add_argument("--tool-version", default="1", help="its version")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the envelope goes")


def run(session: Session, options: argparse.Namespace) -> int:
    """The producer's own clock counts: it is its statement."""
    from vouchgate import wiring
    from vouchgate.evidence.catalog import check_fits, predicates
    from vouchgate.evidence.dsse import spki_of
    from vouchgate.evidence.statement import sign_vouch
    from vouchgate.flows.initialise import load_root_key
    from vouchgate.vocabulary.names import principal_parts
    from vouchgate.vocabulary.names import trust_domain as checked
    from vouchgate.vocabulary.trust import key_id
    from vouchgate.vocabulary.vouches import Method, Subject, Vouch

    if options.predicate not in predicates():
        raise Usage(f"`{options.predicate[:40]}` is not a predicate", remedy=f"use one of {', '.join(sorted(predicates()))}")
    key = load_root_key(_read(options.key))
    now = wiring.clock().now()
    vouch = Vouch(
        id="",
        trust_domain=checked(principal_parts(options.about[0]).trust_domain),
        predicate_type=options.predicate,
        predicate_version=predicates()[options.predicate].version,
        subjects=tuple(Subject(name=name) for name in options.about),
        outcome="fail" if options.fail else "pass",
        issuer_key=key_id(spki_of(key)),
        issuer_role=ROLE,
        issued_at=now,
        not_before=now,
        expires_at=UnixMillis(now + int(options.hours * 3_600_000)),
        tier="cooperative",
        method=Method(tool=options.tool, version=options.tool_version),
        claims=_claims(_read(options.claims)),
    )
    check_fits(vouch)
    Path(options.out).write_bytes(sign_vouch(vouch, key).envelope)
    if not session.json(vouch):
        session.printer.marked("good", f"signed a {options.predicate} vouch; hand it in: vouchgate vouch add {options.out}")
    return 0


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Usage(f"`{path}` cannot be read: {error.strerror}", remedy="name the file") from None


def _claims(data: bytes) -> dict[str, Any]:
    try:
        claims = json.loads(data)
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise Usage("the claims are not a JSON object", remedy='write for example {"source": "edr", "checked": ["disk"]}')
    return claims
