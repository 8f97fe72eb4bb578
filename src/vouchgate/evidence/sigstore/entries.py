"""What a log wrote down of a signature (Rekor types dsse, hashedrekord, intoto), held against the bundle: an entry of another signature proves nothing.

Rules
1. The entry's kind is one of the table; what is compared is the whole of what that kind says of signature, signer and content.
2. The signer is compared as the certificate's own bytes, however the log spelt them; nothing else may stand beside it.
3. The hash of an envelope in `dsse` and `intoto` entries is over a spelling of it that nobody keeps: the payload's is compared instead.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from vouchgate.evidence.dsse import pae
from vouchgate.evidence.sigstore.bundle import MAX_BODY_BYTES, Message, Payload, SigstoreBundle
from vouchgate.evidence.strict_documents import member, only, parse, unb64
from vouchgate.vocabulary.errors import InvalidInput, Unverified

_WHAT = "log entry"
_REMEDY = "ask for the bundle again; if it stays so, treat it as forged"
_DETAILS = {
    "secp256r1": ("PKIX_ECDSA_P256_SHA_256", "SHA2_256", hashlib.sha256),
    "secp384r1": ("PKIX_ECDSA_P384_SHA_384", "SHA2_384", hashlib.sha384),
    "secp521r1": ("PKIX_ECDSA_P521_SHA_512", "SHA2_512", hashlib.sha512),
}
"""What Rekor v2 calls a key, and with which hash it signs (the algorithm registry of architecture-docs)."""


def check_body(bundle: SigstoreBundle, digest: bytes) -> None:
    """Rules 1 to 3; `digest` is the signed file's SHA-256, empty for a payload. Raises `Unverified`, `InvalidInput`."""
    body = parse(bundle.entry.body, limit=MAX_BODY_BYTES, what=_WHAT)
    only(body, {"apiVersion", "kind", "spec"}, _WHAT)
    kind = f"{member(body, 'kind', str, _WHAT)} {member(body, 'apiVersion', str, _WHAT)}"
    reader = _KINDS.get((kind, type(bundle.content)))
    if kind != bundle.entry.kind or reader is None:
        raise Unverified(f"the log's entry is `{kind[:80]}`, which is not one for such a signature", remedy=_REMEDY)
    if not reader(member(body, "spec", dict, _WHAT), bundle, digest):
        raise Unverified("the log's entry is of another signature, signer or content", remedy=_REMEDY)


def _dsse_1(spec: dict[str, Any], bundle: SigstoreBundle, _: bytes) -> bool:
    only(spec, {"envelopeHash", "payloadHash", "signatures"}, _WHAT)
    assert isinstance(bundle.content, Payload)
    signatures = member(spec, "signatures", list, _WHAT)
    if len(signatures) != 1:
        return False
    only(_object(signatures[0]), {"signature", "verifier"}, _WHAT)
    return (
        _hex_hash(spec, "payloadHash") == hashlib.sha256(bundle.content.payload).digest()
        and unb64(member(signatures[0], "signature", str, _WHAT), _WHAT) == bundle.signature
        and _pem(member(signatures[0], "verifier", str, _WHAT)) == bundle.certificate
    )


def _hashed_1(spec: dict[str, Any], bundle: SigstoreBundle, digest: bytes) -> bool:
    only(spec, {"data", "signature"}, _WHAT)
    data, signature = member(spec, "data", dict, _WHAT), member(spec, "signature", dict, _WHAT)
    only(data, {"hash"}, _WHAT)
    only(signature, {"content", "publicKey"}, _WHAT)
    return (
        _hex_hash(data, "hash") == digest
        and unb64(member(signature, "content", str, _WHAT), _WHAT) == bundle.signature
        and _pem(member(member(signature, "publicKey", dict, _WHAT), "content", str, _WHAT)) == bundle.certificate
    )


def _hashed_2(spec: dict[str, Any], bundle: SigstoreBundle, digest: bytes) -> bool:
    """Rekor v2: of an envelope, what is hashed is its pre-authentication encoding, with the hash of the signer's key."""
    only(spec, {"hashedRekordV002"}, _WHAT)
    inner = member(spec, "hashedRekordV002", dict, _WHAT)
    only(inner, {"data", "signature"}, _WHAT)
    details, name, hashed = _details(bundle)
    if isinstance(bundle.content, Payload):
        digest = hashed(pae(bundle.content.kind, bundle.content.payload)).digest()
    elif name != "SHA2_256":
        return False
    return _hash_2(inner, "data", name) == digest and _signature_2(member(inner, "signature", dict, _WHAT), bundle, details)


def _dsse_2(spec: dict[str, Any], bundle: SigstoreBundle, _: bytes) -> bool:
    only(spec, {"dsseV002"}, _WHAT)
    inner = member(spec, "dsseV002", dict, _WHAT)
    only(inner, {"payloadHash", "signatures"}, _WHAT)
    assert isinstance(bundle.content, Payload)
    signatures, payload = member(inner, "signatures", list, _WHAT), hashlib.sha256(bundle.content.payload).digest()
    held = _hash_2(inner, "payloadHash", "SHA2_256") == payload
    return held and len(signatures) == 1 and _signature_2(_object(signatures[0]), bundle, _details(bundle)[0])


def _intoto_2(spec: dict[str, Any], bundle: SigstoreBundle, _: bytes) -> bool:
    """Rekor v1 `intoto` 0.0.2: the signature's base64 is itself in base64, and the certificate is PEM in base64."""
    only(spec, {"content"}, _WHAT)
    content = member(spec, "content", dict, _WHAT)
    only(content, {"envelope", "hash", "payloadHash"}, _WHAT)
    envelope = member(content, "envelope", dict, _WHAT)
    only(envelope, {"payloadType", "signatures"}, _WHAT)
    assert isinstance(bundle.content, Payload)
    signatures = member(envelope, "signatures", list, _WHAT)
    if len(signatures) != 1:
        return False
    only(_object(signatures[0]), {"keyid", "publicKey", "sig"}, _WHAT)
    text = unb64(member(signatures[0], "sig", str, _WHAT), _WHAT)
    return (
        member(envelope, "payloadType", str, _WHAT) == bundle.content.kind
        and _hex_hash(content, "payloadHash") == hashlib.sha256(bundle.content.payload).digest()
        and text == base64.b64encode(bundle.signature)
        and _pem(member(signatures[0], "publicKey", str, _WHAT)) == bundle.certificate
    )


_KINDS: dict[tuple[str, type], Callable[[dict[str, Any], SigstoreBundle, bytes], bool]] = {
    ("dsse 0.0.1", Payload): _dsse_1,
    ("dsse 0.0.2", Payload): _dsse_2,
    ("intoto 0.0.2", Payload): _intoto_2,
    ("hashedrekord 0.0.1", Message): _hashed_1,
    ("hashedrekord 0.0.2", Message): _hashed_2,
    ("hashedrekord 0.0.2", Payload): _hashed_2,
}
"""Rule 1."""


def _signature_2(wire: dict[str, Any], bundle: SigstoreBundle, details: str) -> bool:
    verifier = member(wire, "verifier", dict, _WHAT)
    only(wire, {"content", "verifier"}, _WHAT)
    only(verifier, {"x509Certificate", "keyDetails"}, _WHAT)
    certificate = member(verifier, "x509Certificate", dict, _WHAT)
    return (
        unb64(member(wire, "content", str, _WHAT), _WHAT) == bundle.signature
        and member(verifier, "keyDetails", str, _WHAT) == details
        and unb64(member(certificate, "rawBytes", str, _WHAT), _WHAT) == bundle.certificate
    )


def _details(bundle: SigstoreBundle) -> tuple[str, str, Any]:
    try:
        key = x509.load_der_x509_certificate(bundle.certificate).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise InvalidInput("the bundle's certificate cannot be read", remedy=_REMEDY) from None
    found = _DETAILS.get(key.curve.name) if isinstance(key, ec.EllipticCurvePublicKey) else None
    if found is None:
        raise Unverified("the signer's key is of a kind that is not known", remedy="sign with P-256, P-384 or P-521")
    return found


def _hash_2(wire: dict[str, Any], name: str, algorithm: str) -> bytes:
    found = member(wire, name, dict, _WHAT)
    only(found, {"algorithm", "digest"}, _WHAT)
    return unb64(member(found, "digest", str, _WHAT), _WHAT) if member(found, "algorithm", str, _WHAT) == algorithm else b""


def _hex_hash(wire: dict[str, Any], name: str) -> bytes:
    """SHA-256 in hexadecimal; nothing for another hash."""
    found = member(wire, name, dict, _WHAT)
    only(found, {"algorithm", "value"}, _WHAT)
    if member(found, "algorithm", str, _WHAT) != "sha256":
        return b""
    try:
        return bytes.fromhex(member(found, "value", str, _WHAT))
    except ValueError:
        return b""


def _pem(text: str) -> bytes:
    """Rule 2: DER of the one certificate in base64 of PEM."""
    try:
        found = x509.load_pem_x509_certificates(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, x509.InvalidVersion):
        raise InvalidInput("the log's entry does not name a certificate", remedy=_REMEDY) from None
    return found[0].public_bytes(Encoding.DER) if len(found) == 1 else b""


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput("the log's entry is malformed", remedy=_REMEDY)
    return value
