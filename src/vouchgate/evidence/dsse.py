"""DSSE envelopes (secure-systems-lab/dsse v1.0): what is signed is PAE(type, payload), never JSON.

Rules
1. Base64 is canonical and of the standard alphabet, so that one envelope has one spelling.
2. The reader names the payload type it expects; another type is refused before a signature is looked at (protocol.md, section
   "Verification": the type is authenticated, and must be known).
3. Unknown members are refused: narrower than the specification, because an envelope carries only what is checked.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.wire import Noun, decode, encode

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""A vouch (in-toto Statement)."""
MAX_ENVELOPE_BYTES = 1_048_576
"""Bytes of one envelope; a vouch with a thousand subjects has about 300 KiB."""
MAX_SIGNATURES = 16
"""Signatures of one envelope."""
_REMEDY = "send a DSSE envelope as vouchgate writes it"


@dataclass(frozen=True)
class Signature:
    """One signature and whose it says it is."""

    key_id: str
    signature: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload with signatures that nobody has checked yet."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


class _WireSignature(Noun, frozen=True, kw_only=True):
    keyid: str
    sig: str


class _WireEnvelope(Noun, frozen=True, kw_only=True):
    payload: str
    payloadType: str
    signatures: list[_WireSignature]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding (protocol.md, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def spki_of(key: Ed25519PrivateKey) -> bytes:
    """DER SubjectPublicKeyInfo of the public half."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(payload_type: str, payload: bytes, key: Ed25519PrivateKey) -> Signature:
    """Sign the payload under its type."""
    return Signature(key_id(spki_of(key)), key.sign(pae(payload_type, payload)))


def holds(payload_type: str, payload: bytes, signature: bytes, spki: bytes) -> bool:
    """Whether an Ed25519 key made this signature over this payload and type."""
    try:
        key = load_der_public_key(spki)
        if not isinstance(key, Ed25519PublicKey):
            return False
        key.verify(signature, pae(payload_type, payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def write_envelope(envelope: Envelope) -> bytes:
    """The envelope as JSON."""
    signatures: list[dict[str, Any]] = [
        {"keyid": one.key_id, "sig": base64.b64encode(one.signature).decode()} for one in envelope.signatures
    ]
    payload = base64.b64encode(envelope.payload).decode()
    return encode({"payload": payload, "payloadType": envelope.payload_type, "signatures": signatures})


def parse_envelope(data: bytes, *, payload_type: str = PAYLOAD_TYPE, limit: int = MAX_ENVELOPE_BYTES) -> Envelope:
    """Read an envelope of exactly this payload type and at most `limit` bytes (and never over `wire.MAX_DOCUMENT_BYTES`). Raises `InvalidInput`."""
    if len(data) > limit:
        raise InvalidInput(f"the envelope has {len(data)} bytes, the bound is {limit}", remedy="state less in one vouch")
    wire = decode(_WireEnvelope, data, what="envelope")
    if wire.payloadType != payload_type:
        raise InvalidInput(f"the envelope holds `{wire.payloadType[:80]}`, not {payload_type}", remedy=_REMEDY)
    if not 1 <= len(wire.signatures) <= MAX_SIGNATURES or len({one.keyid for one in wire.signatures}) != len(wire.signatures):
        raise InvalidInput("the envelope has no signature, too many, or two of one key", remedy=_REMEDY)
    signatures = tuple(Signature(one.keyid, _unb64(one.sig)) for one in wire.signatures)
    envelope = Envelope(wire.payloadType, _unb64(wire.payload), signatures)
    if write_envelope(envelope) != data:
        raise InvalidInput("the envelope is not in its canonical form", remedy=_REMEDY)
    return envelope


def _unb64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("the envelope's base64 is malformed", remedy=_REMEDY) from None
    if base64.b64encode(raw).decode() != text:
        raise InvalidInput("the envelope's base64 is not canonical", remedy=_REMEDY)
    return raw
