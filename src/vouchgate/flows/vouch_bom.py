"""What was found about a bill of materials becomes a vouch about its model.

Rules
1. Only a document whose signature was verified is vouched for; an answer that it cannot ship is a vouch too, of outcome `fail`.
2. The subject is the digest that the document states, the claims name the document by its own digest.
3. It lives for days, not for ever: what is known of vulnerabilities grows.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.evidence.bom.gaps import Answer
from vouchgate.evidence.bom.read import ReadBom
from vouchgate.evidence.catalog import check_fits, predicates
from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.statement import sign_vouch
from vouchgate.vocabulary.digests import file_digest, parse_digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import TrustDomain, resource
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import Method, SignedVouch, Subject, UnixMillis, Vouch
from vouchgate.vocabulary.wire import encode

BOM, ROLE = "bom", "reviewer"
DAY_MS = 86_400_000
MAX_AGAINST = 20
"""Reasons against shipping that a vouch holds."""


def vouch_for(
    bom: ReadBom, found: Answer, *, demand: str, domain: TrustDomain, key: Ed25519PrivateKey, now: UnixMillis, days: int, version: str
) -> SignedVouch:
    """Rules 1 to 3. Raises `InvalidInput`."""
    if not found.signed or bom.faults or not bom.is_ours or bom.subject is None:
        raise InvalidInput(
            "only a sound document whose signature was verified is vouched for", remedy="name its signer's public key with --key"
        )
    if not 1 <= days <= predicates()[BOM].max_hours // 24:
        raise InvalidInput(
            f"such a vouch lives 1 to {predicates()[BOM].max_hours // 24} days, not {days}", remedy="look again when it ends"
        )
    digest = parse_digest(bom.subject.said("digest"))
    claims = {
        "document": file_digest(encode(bom.document)).text,
        "spec": bom.spec,
        "serial": bom.serial,
        "demand": demand,
        "classes": found.classes,
        "open_vulnerabilities": sum(one.open for one in found.findings),
        "newest_record": found.looked.newest if found.looked else "",
        "against": list(found.against[:MAX_AGAINST]),
    }
    vouch = Vouch(
        id="",
        trust_domain=domain,
        predicate_type=BOM,
        predicate_version=predicates()[BOM].version,
        subjects=(Subject(name=resource(domain, "artifact", digest.text), digest=digest),),
        outcome="pass" if found.ships else "fail",
        issuer_key=key_id(spki_of(key)),
        issuer_role=ROLE,
        issued_at=now,
        not_before=now,
        expires_at=UnixMillis(now + days * DAY_MS),
        tier="declared",
        method=Method(tool="vouchgate-bom", version=version),
        claims=claims,
    )
    check_fits(vouch)
    return sign_vouch(vouch, key)
