"""Sealed: the knowledge base's manifest in a DSSE envelope (secure-systems-lab/dsse v1.0), and who may have signed it.

Rules
1. What is signed is PAE(type, payload) under a type of its own: no vouch, policy or TrustRoot passes for a knowledge base.
2. Exactly one signature, by a key of `PUBLISHERS`; these stand in the source, so that replacing one is a reviewed change of the source.
3. The envelope has one spelling (canonical base64, no unknown member), so that its bytes can be compared.

Rooms do not know each other, so the few lines of DSSE that are needed stand here as they stand in the evidence room for vouches.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.wire import Noun, decode, encode

PAYLOAD_TYPE = "application/vnd.vouchgate.knowledge+json"
PUBLISHERS: tuple[str, ...] = ("MCowBQYDK2VwAyEAZb2Jd1fZYU/mnDhZwZzBr7c/r3myGwTZtXydE7SW90o=",)
"""DER SubjectPublicKeyInfo in base64 of the keys that may sign; two only while one is being replaced (ADR 0023)."""
_REMEDY = "install vouchgate again from a source that you trust"


class _Signature(Noun, frozen=True, kw_only=True):
    keyid: str
    sig: str


class _Envelope(Noun, frozen=True, kw_only=True):
    payload: str
    payloadType: str
    signatures: tuple[_Signature, ...]


def seal(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """The envelope around a manifest."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signature = _Signature(keyid=key_id(spki), sig=_b64(key.sign(_pae(payload))))
    return encode(_Envelope(payload=_b64(payload), payloadType=PAYLOAD_TYPE, signatures=(signature,)))


def opened(envelope: bytes, publishers: Sequence[str] = PUBLISHERS) -> tuple[bytes, str]:
    """The payload and the id of the key that signed it. Raises `Unverified` (rules 1 to 3)."""
    try:
        read = decode(_Envelope, envelope, what="knowledge base's manifest")
    except InvalidInput as error:
        raise Unverified(error.reason, remedy=_REMEDY) from None
    if read.payloadType != PAYLOAD_TYPE or len(read.signatures) != 1:
        raise Unverified("the knowledge base's manifest is not an envelope with one signature of its own type", remedy=_REMEDY)
    payload, signature = _unb64(read.payload), _unb64(read.signatures[0].sig)
    if encode(read) != envelope or _b64(payload) != read.payload:
        raise Unverified("the knowledge base's manifest is not in its canonical form", remedy=_REMEDY)
    spkis = {key_id(spki): spki for spki in map(base64.b64decode, publishers)}
    signer = spkis.get(read.signatures[0].keyid)
    if signer is None or not _holds(payload, signature, signer):
        raise Unverified("the knowledge base is not signed by a key that this build knows", remedy=_REMEDY)
    return payload, read.signatures[0].keyid


def _holds(payload: bytes, signature: bytes, spki: bytes) -> bool:
    key = load_der_public_key(spki)
    if not isinstance(key, Ed25519PublicKey):
        return False
    try:
        key.verify(signature, _pae(payload))
    except InvalidSignature:
        return False
    return True


def _pae(payload: bytes) -> bytes:
    """Pre-authentication encoding (protocol.md, "Signature Definition")."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unverified("the knowledge base's manifest holds malformed base64", remedy=_REMEDY) from None
