"""The trust bundle of one trust domain: its X.509 CAs and JWT keys, as a SPIFFE bundle (a JWK Set).

Rules (SPIFFE Trust Domain and Bundle, section 4)
1. A key of use `x509-svid` has exactly one certificate in `x5c` and no `kid`; a key of use `jwt-svid` has a `kid` and no `x5c`.
2. `spiffe_sequence` only rises; `spiffe_refresh_hint` is in seconds.
3. A bundle belongs to one trust domain, which is not written in it: the reader says which one it asked for. Bundles are never merged.
4. Keys are P-256; a key of an unknown use is left out (section 4.2.2), anything else that is unknown is refused.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.identity.ca import load_ca, spki_of
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.base64url import b64
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.names import trust_domain as checked_trust_domain
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.wire import Noun, encode

MAX_BUNDLE_BYTES = 256 * 1024
"""Bytes of a bundle; one with ten CAs has about 10 KiB."""
MAX_KEYS = 64
"""Keys of a bundle, retired ones included."""
DEFAULT_REFRESH_SECONDS = 60
"""Seconds after which a reader of the bundle asks again."""
_REMEDY = "fetch the bundle again from its trust domain"


class TrustBundle(Noun, frozen=True, kw_only=True):
    """What verifies the credentials of one trust domain."""

    trust_domain: TrustDomain
    x509_authorities: tuple[bytes, ...] = ()
    """CA certificates, DER."""
    jwt_authorities: dict[str, bytes] = {}
    """Key id -> DER SubjectPublicKeyInfo of a P-256 key."""
    sequence: int = 1
    refresh_seconds: int = DEFAULT_REFRESH_SECONDS


def make_bundle(trust_domain: str, *, x509_authorities: tuple[bytes, ...], jwt_spkis: tuple[bytes, ...], sequence: int = 1) -> TrustBundle:
    """A bundle of checked certificates and keys. Raises `InvalidInput`."""
    for der in x509_authorities:
        load_ca(der, trust_domain)
    for spki in jwt_spkis:
        _p256(serialization.load_der_public_key(spki))
    return TrustBundle(
        trust_domain=checked_trust_domain(trust_domain),
        x509_authorities=x509_authorities,
        jwt_authorities={key_id(spki): spki for spki in jwt_spkis},
        sequence=sequence,
    )


def write_jwks(bundle: TrustBundle, *, uses: tuple[str, ...] = ("x509-svid", "jwt-svid")) -> bytes:
    """The bundle as a JWK Set; with `uses=("jwt-svid",)` what a plain JWT verifier takes."""
    keys: list[dict[str, Any]] = []
    if "x509-svid" in uses:
        for der in bundle.x509_authorities:
            public = x509.load_der_x509_certificate(der).public_key()
            keys.append({"use": "x509-svid", **_jwk(_p256(public)), "x5c": [base64.b64encode(der).decode()]})
    if "jwt-svid" in uses:
        for kid, spki in sorted(bundle.jwt_authorities.items()):
            keys.append({"use": "jwt-svid", "kid": kid, **_jwk(_p256(serialization.load_der_public_key(spki)))})
    return encode({"keys": keys, "spiffe_sequence": bundle.sequence, "spiffe_refresh_hint": bundle.refresh_seconds})


def parse_jwks(data: bytes, trust_domain: str) -> TrustBundle:
    """Read a bundle that was fetched from `trust_domain`. Raises `InvalidInput`."""
    document = parse_object(data, limit=MAX_BUNDLE_BYTES, what="trust bundle")
    keys, sequence = document.get("keys"), document.get("spiffe_sequence", 1)
    refresh = document.get("spiffe_refresh_hint", DEFAULT_REFRESH_SECONDS)
    if set(document) - {"keys", "spiffe_sequence", "spiffe_refresh_hint"} or not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise InvalidInput("the trust bundle has unknown members, or no bounded list of keys", remedy=_REMEDY)
    if not all(isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**53 for number in (sequence, refresh)):
        raise InvalidInput("the trust bundle's sequence or refresh hint is not a whole number", remedy=_REMEDY)
    authorities: list[bytes] = []
    jwt: dict[str, bytes] = {}
    for key in keys:
        use = key.get("use") if isinstance(key, dict) else None
        if use == "x509-svid":
            authorities.append(_authority(key, trust_domain))
        elif use == "jwt-svid":
            kid, spki = _jwt_key(key)
            if kid in jwt:
                raise InvalidInput("two keys of the trust bundle have one key id", remedy=_REMEDY)
            jwt[kid] = spki
        elif not isinstance(use, str):
            raise InvalidInput("a key of the trust bundle has no use", remedy=_REMEDY)
    return TrustBundle(
        trust_domain=checked_trust_domain(trust_domain),
        x509_authorities=tuple(authorities),
        jwt_authorities=jwt,
        sequence=sequence,
        refresh_seconds=refresh,
    )


def _authority(key: dict[str, Any], trust_domain: str) -> bytes:
    chain = key.get("x5c")
    if "kid" in key or not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
        raise InvalidInput("an X.509 key of the trust bundle does not have one certificate and no key id", remedy=_REMEDY)
    try:
        der = base64.b64decode(chain[0], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("a certificate of the trust bundle is not base64", remedy=_REMEDY) from None
    certificate = load_ca(der, trust_domain)
    if _read_jwk(key) != spki_of(_p256(certificate.public_key())):
        raise InvalidInput("a key of the trust bundle differs from its certificate", remedy=_REMEDY)
    return der


def _jwt_key(key: dict[str, Any]) -> tuple[str, bytes]:
    kid = key.get("kid")
    if "x5c" in key or not isinstance(kid, str) or not 1 <= len(kid) <= 256:
        raise InvalidInput("a JWT key of the trust bundle does not have a key id and no certificate", remedy=_REMEDY)
    return kid, _read_jwk(key)


def _jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    x, y = (b64(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _read_jwk(key: dict[str, Any]) -> bytes:
    known = {"use", "kid", "kty", "crv", "x", "y", "x5c", "alg", "key_ops"}
    if set(key) - known or key.get("kty") != "EC" or key.get("crv") != "P-256":
        raise InvalidInput("a key of the trust bundle is not a P-256 key", remedy=_REMEDY)
    try:
        x, y = (base64.urlsafe_b64decode(str(key[part]) + "=") for part in ("x", "y"))
        if len(x) != 32 or len(y) != 32:
            raise ValueError("length")
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        return spki_of(numbers.public_key())
    except (KeyError, ValueError, binascii.Error):
        raise InvalidInput("a key of the trust bundle is not a point of P-256", remedy=_REMEDY) from None


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInput("a key of the trust bundle is not a P-256 key", remedy="use P-256 keys")
    return key
