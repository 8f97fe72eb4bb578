"""Whether a pinned authority saw a signature, and when (RFC 3161; RFC 5652 for the signed data around it; RFC 5816 for the certificate's hash).

1. The response grants a token, the token is signed data over a TSTInfo, by one signer (RFC 3161, section 2.4.2).
2. That signer is the lowest certificate of a pinned authority, by issuer and serial number and by its hash in the signed attributes. What
   certificates the token brings along is not looked at.
3. The signature is over the signed attributes, and they are of this TSTInfo (RFC 5652, section 5.4).
4. The TSTInfo is of the message, and its time lies where the authority and its whole chain hold; its certificate is for timestamps alone.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy

from vouchgate.evidence import der_values as der
from vouchgate.evidence.der_values import Value
from vouchgate.evidence.sigstore.certificate import chain_of
from vouchgate.evidence.sigstore.root import Authority
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

_SIGNED_DATA, _TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_CERTIFICATE_V1, _CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
_SIGNATURES: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_RSA = "1.2.840.113549.1.1.1"
"""As a signature's algorithm it has the digest's hash (RFC 3370, section 3.2)."""
_CONTEXT_0, _CONTEXT_1 = 0xA0, 0xA1
_TIME = re.compile(rb"(\d{14})(?:\.(\d{0,8}[1-9]))?Z\Z")
_DATA_VERSION, _SIGNER_VERSION = 3, 1
"""RFC 5652, sections 5.1 and 5.3: other content than data, a signer named by issuer and serial number."""
MIN_CHAIN = 2
"""Certificates of an authority: its own and a root."""
_REMEDY = "ask for the bundle again, or pin the trusted root that names this timestamp authority"


@dataclass(frozen=True)
class _Token:
    info: Value
    """TSTInfo."""
    issuer: bytes
    serial: int
    digest: hashes.HashAlgorithm
    attributes: bytes
    """As they are signed: a SET OF."""
    algorithm: hashes.HashAlgorithm
    signature: bytes


def check_timestamp(response: bytes, message: bytes, authorities: Sequence[Authority]) -> UnixMillis:
    """Steps 1 to 4: when the message was there. Raises `Unverified`, `InvalidInput`."""
    token = _read(response)
    mine = [
        one
        for one in authorities
        if len(one.certificates) >= MIN_CHAIN
        and one.certificates[0].serial_number == token.serial
        and one.certificates[0].issuer.public_bytes() == token.issuer
    ]
    if not mine:
        raise Unverified("the timestamp is of an authority that the trusted root does not know", remedy=_REMEDY)
    _check_signed(token, mine[0].certificates[0])
    at = _time_of(token.info, message)
    faults = []
    for authority in mine:
        try:
            if authority.window.holds(at):
                chain_of(authority.certificates[0], authority, at, _stamping())
                return at
            faults.append("the authority did not count then")
        except Unverified as error:
            faults.append(error.reason)
    raise Unverified(f"the timestamp's authority does not hold at its time: {faults[-1]}", remedy=_REMEDY)


def _read(response: bytes) -> _Token:
    """Step 1."""
    status, content, *_ = der.within(der.one(response, der.SEQUENCE), der.SEQUENCE, der.SEQUENCE)
    if der.integer(der.within(status, der.INTEGER)[0]) != 0:
        raise Unverified("the timestamp was not granted", remedy=_REMEDY)
    kind, wrapped = der.within(content, der.OBJECT_ID, _CONTEXT_0)[:2]
    if der.object_id(kind) != _SIGNED_DATA:
        raise InvalidInput("the timestamp is no signed data", remedy=_REMEDY)
    parts = der.within(der.one(wrapped.content, der.SEQUENCE), der.INTEGER, der.SET, der.SEQUENCE)
    if len(parts) < 4 or parts[-1].tag != der.SET or any(part.tag not in (_CONTEXT_0, _CONTEXT_1) for part in parts[3:-1]):
        raise InvalidInput("the timestamp's signed data is malformed", remedy=_REMEDY)
    kind, info = der.within(parts[2], der.OBJECT_ID, _CONTEXT_0)[:2]
    if der.object_id(kind) != _TST_INFO or der.integer(parts[0]) != _DATA_VERSION:
        raise InvalidInput("the timestamp's content is no timestamp", remedy=_REMEDY)
    signers = der.within(parts[-1], der.SEQUENCE)
    if len(signers) != 1:
        raise InvalidInput(f"the timestamp has {len(signers)} signers, not one", remedy=_REMEDY)
    token = _signer(signers[0], der.one(der.one(info.content, der.OCTETS).content, der.SEQUENCE))
    if token.digest.name not in {_HASHES[name].name for one in der.within(parts[1], der.SEQUENCE) if (name := _algorithm(one)) in _HASHES}:
        raise InvalidInput("the timestamp's signed data does not name the hash of its signer", remedy=_REMEDY)
    return token


def _signer(signer: Value, info: Value) -> _Token:
    parts = der.within(signer, der.INTEGER, der.SEQUENCE, der.SEQUENCE, _CONTEXT_0, der.SEQUENCE, der.OCTETS)
    issuer, serial = der.within(parts[1], der.SEQUENCE, der.INTEGER)[:2]
    if der.integer(parts[0]) != _SIGNER_VERSION:
        raise InvalidInput("the timestamp's signer is not named by issuer and serial number", remedy=_REMEDY)
    digest = _HASHES.get(_algorithm(parts[2]))
    name = _algorithm(parts[4])
    algorithm = digest if name == _RSA else _SIGNATURES.get(name)
    if digest is None or algorithm is None:
        raise Unverified("the timestamp is hashed or signed in a way that is not known", remedy=_REMEDY)
    attributes = bytes([der.SET]) + parts[3].whole[1:]  # RFC 5652, section 5.4: signed with the tag of a SET OF
    return _Token(info, issuer.whole, der.integer(serial), digest, attributes, algorithm, parts[5].content)


def _check_signed(token: _Token, own: x509.Certificate) -> None:
    """Steps 2 and 3."""
    attributes: dict[str, Value] = {}
    for attribute in der.within(der.one(token.attributes, der.SET)):
        kind, value = der.within(attribute, der.OBJECT_ID, der.SET)[:2]
        found = der.within(value)
        if der.object_id(kind) in attributes or len(found) != 1:
            raise InvalidInput("the timestamp has an attribute twice", remedy=_REMEDY)
        attributes[der.object_id(kind)] = found[0]
    over, digest = attributes.get(_CONTENT_TYPE), attributes.get(_MESSAGE_DIGEST)
    if over is None or digest is None or der.object_id(over) != _TST_INFO:
        raise Unverified("the timestamp's signature does not say what it is over", remedy=_REMEDY)
    if digest.tag != der.OCTETS or digest.content != _hashed(token.digest, token.info.whole):
        raise Unverified("the timestamp's signature is over another time", remedy=_REMEDY)
    if not _names(attributes, own.public_bytes(Encoding.DER)):
        raise Unverified("the timestamp does not name the authority's certificate", remedy=_REMEDY)
    key = own.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(token.signature, token.attributes, ec.ECDSA(token.algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(token.signature, token.attributes, padding.PKCS1v15(), token.algorithm)
        else:
            raise InvalidSignature
    except InvalidSignature:
        raise Unverified("the timestamp's signature does not hold", remedy=_REMEDY) from None


def _names(attributes: dict[str, Value], own: bytes) -> bool:
    """Step 2: the first hash of the signing-certificate attribute (RFC 2634, section 5.4; RFC 5816, section 2.2.1)."""
    for kind in (_CERTIFICATE_V2, _CERTIFICATE_V1):
        if kind in attributes:
            listed = der.within(der.within(attributes[kind], der.SEQUENCE)[0], der.SEQUENCE)
            parts = der.within(listed[0])
            if kind == _CERTIFICATE_V1:
                return bool(parts) and parts[0].content == hashlib.sha1(own, usedforsecurity=False).digest()
            algorithm = _HASHES.get(_algorithm(parts[0])) if parts and parts[0].tag == der.SEQUENCE else hashes.SHA256()
            rest = parts[1:] if parts and parts[0].tag == der.SEQUENCE else parts
            return algorithm is not None and bool(rest) and rest[0].tag == der.OCTETS and rest[0].content == _hashed(algorithm, own)
    return False


def _time_of(info: Value, message: bytes) -> UnixMillis:
    """Step 4 (RFC 3161, section 2.4.2, TSTInfo)."""
    parts = der.within(info, der.INTEGER, der.OBJECT_ID, der.SEQUENCE, der.INTEGER, der.GENERALIZED_TIME)
    kind, digest = der.within(parts[2], der.SEQUENCE, der.OCTETS)[:2]
    algorithm = _HASHES.get(_algorithm(kind))
    if der.integer(parts[0]) != 1 or any(part.tag == _CONTEXT_1 for part in parts[5:]):
        raise Unverified("the timestamp has extensions, or is of a version that is not known", remedy=_REMEDY)
    if algorithm is None or digest.content != _hashed(algorithm, message):
        raise Unverified("the timestamp is of another signature", remedy=_REMEDY)
    match = _TIME.match(parts[4].content)
    try:
        whole = datetime.datetime.strptime(f"{match[1].decode() if match else ''}+0000", "%Y%m%d%H%M%S%z")
    except ValueError:
        raise InvalidInput("the timestamp's time is malformed", remedy=_REMEDY) from None
    fraction = int((match[2] or b"0")[:3].ljust(3, b"0")) if match else 0
    return UnixMillis(int(whole.timestamp()) * 1000 + fraction)


def _algorithm(value: Value) -> str:
    return der.object_id(der.within(value, der.OBJECT_ID)[0])


def _hashed(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    return hashlib.new(algorithm.name, data).digest()


def _stamping() -> ExtensionPolicy:
    return (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        .require_present(x509.ExtendedKeyUsage, Criticality.CRITICAL, _stamps)
    )


def _stamps(_: Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
    """RFC 3161, section 2.3: critical, and for nothing else."""
    if list(usage) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise ValueError("its certificate is for other purposes than timestamps")
