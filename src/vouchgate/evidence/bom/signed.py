"""A bill of materials, signed: an in-toto Statement whose predicate is the document, in a DSSE envelope.

Rules
1. `predicateType` is `https://cyclonedx.org/bom` (in-toto attestation, predicate "CycloneDX"); the subject is the model with its digest.
2. The signature is over DSSE's PAE: Ed25519, or ECDSA on P-256, P-384 or P-521 with the digest of that length (RFC 5758, section 3.2).
3. The signature is checked first, then the statement is read: one subject, its digest that which the document itself states.
4. One signature: whoever verifies names one key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vouchgate.evidence.bom.read import ReadBom, bom_of
from vouchgate.evidence.dsse import PAYLOAD_TYPE, Envelope, Signature, pae, parse_envelope, write_envelope
from vouchgate.evidence.statement import STATEMENT_TYPE
from vouchgate.evidence.strict_documents import member, only, parse
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.wire import MAX_DOCUMENT_BYTES, encode

PREDICATE_TYPE = "https://cyclonedx.org/bom"
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey
MAX_ENVELOPE_BYTES = MAX_DOCUMENT_BYTES
"""Bytes of an envelope: a document of 12 MiB in base64, some 20,000 components."""
_CURVES: dict[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
_DIGESTS = {"file": "sha256", "tree": "vouchgateTreeV1"}
"""Names of digests in a subject, as vouches have them (statement.py)."""


def sign_bom(bom: ReadBom, key: PrivateKey) -> bytes:
    """The envelope. Raises `InvalidInput` for a document that is not sound, or not of a model that vouchgate described."""
    if bom.faults or not bom.is_ours or bom.subject is None:
        raise InvalidInput("the document is no sound bill of materials of a model", remedy="make it with `vouchgate bom make`")
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": bom.subject.name, "digest": _digest(bom)}],
        "predicateType": PREDICATE_TYPE,
        "predicate": bom.document,
    }
    payload = encode(statement)
    signed = pae(PAYLOAD_TYPE, payload)
    signature = key.sign(signed) if isinstance(key, Ed25519PrivateKey) else key.sign(signed, ec.ECDSA(_hash(key.curve)))
    envelope = write_envelope(Envelope(PAYLOAD_TYPE, payload, (Signature(_id(key.public_key()), signature),)))
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise InvalidInput(
            f"the envelope would have {len(envelope)} bytes, the bound is {MAX_ENVELOPE_BYTES}", remedy="sign a smaller model's"
        )
    return envelope


def verify_bom(envelope: bytes, key: PublicKey) -> ReadBom:
    """Rules 2 to 4. Raises `Unverified`, and `InvalidInput` for what is no signed bill of materials."""
    found = parse_envelope(envelope, limit=MAX_ENVELOPE_BYTES)
    if len(found.signatures) != 1:
        raise InvalidInput("the envelope has more than one signature", remedy="name one that a single key signed")
    if found.signatures[0].key_id not in ("", _id(key)):
        raise Unverified("the envelope was signed with another key", remedy="name the public key of who signed it")
    _check(key, found.signatures[0].signature, pae(PAYLOAD_TYPE, found.payload))
    return statement_bom(found.payload)


def statement_bom(payload: bytes) -> ReadBom:
    """The document of a statement (rule 3). Raises `InvalidInput`, `Unverified`."""
    what = "signed statement"
    statement = parse(payload, limit=MAX_ENVELOPE_BYTES, what=what)
    only(statement, {"_type", "subject", "predicateType", "predicate"}, what)
    kinds = (member(statement, "_type", str, what), member(statement, "predicateType", str, what))
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InvalidInput(f"the signature is over `{kinds[1][:100]}`, not over {PREDICATE_TYPE}", remedy="name a signed bill of materials")
    subjects = member(statement, "subject", list, what)
    bom = bom_of(member(statement, "predicate", dict, what))
    if not bom.faults and (len(subjects) != 1 or not bom.is_ours or _subject(subjects[0]) != _digest(bom)):
        raise Unverified("the statement is about other content than its document", remedy="ask the signer for it again")
    return bom


def same(bom: ReadBom, other: Mapping[str, Any]) -> bool:
    """Whether a document is the signed one, member for member."""
    return encode(bom.document) == encode(other)


def _id(key: PublicKey) -> str:
    return key_id(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _digest(bom: ReadBom) -> dict[str, str]:
    digest = parse_digest(bom.subject.said("digest") if bom.subject else "")
    if digest.kind not in _DIGESTS:
        raise InvalidInput("the document names no file and no folder", remedy="make it with `vouchgate bom make`")
    return {_DIGESTS[digest.kind]: digest.value}


def _subject(wire: Any) -> Any:
    return member(wire, "digest", dict, "statement's subject")


def _check(key: PublicKey, signature: bytes, signed: bytes) -> None:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            key.verify(signature, signed, ec.ECDSA(_hash(key.curve)))
    except InvalidSignature:
        raise Unverified("the signature does not hold", remedy="name the public key of who signed it") from None


def _hash(curve: ec.EllipticCurve) -> hashes.HashAlgorithm:
    found = _CURVES.get(curve.name)
    if found is None:
        raise InvalidInput(f"keys of the curve `{curve.name}` sign nothing here", remedy="use Ed25519, P-256, P-384 or P-521")
    return found
