"""A trust domain with a CA, a JWT key and a leaf key, for the identity room's tests."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from vouchgate.identity.bundle import make_bundle
from vouchgate.identity.ca import load_ca, make_ca, spki_of
from vouchgate.vocabulary.trust import key_id

TD = "test.local"
NOW = 1_790_000_000_000
PRINCIPAL = f"spiffe://{TD}/service/prod/scorer"
AUDIENCE = f"vg://{TD}/endpoint/digits"
CA_KEY, JWT_KEY, LEAF_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
CA_DER = make_ca(TD, CA_KEY, now=NOW, days=30)
CA = load_ca(CA_DER, TD)
JWT_SPKI = spki_of(JWT_KEY.public_key())
KID = key_id(JWT_SPKI)
LEAF_SPKI = spki_of(LEAF_KEY.public_key())
BUNDLE = make_bundle(TD, x509_authorities=(CA_DER,), jwt_spkis=(JWT_SPKI,))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def as_json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def es256(message: bytes, key: ec.EllipticCurvePrivateKey = JWT_KEY) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def header(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in ({"alg": "ES256", "kid": KID, "typ": "JWT"} | changes).items() if value is not None}


def claims(**changes: Any) -> dict[str, Any]:
    now = NOW // 1000
    said = {"sub": PRINCIPAL, "aud": AUDIENCE, "exp": now + 300, "iat": now, "jti": "abcdefgh12345678", "iss": f"spiffe://{TD}"}
    return {key: value for key, value in (said | changes).items() if value is not None}


def token(head: Any = None, body: Any = None, *, key: ec.EllipticCurvePrivateKey = JWT_KEY) -> str:
    """A token signed whatever it says."""
    signed = f"{b64(as_json(header() if head is None else head))}.{b64(as_json(claims() if body is None else body))}"
    return f"{signed}.{b64(es256(signed.encode(), key))}"
