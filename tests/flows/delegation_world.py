"""Tokens and proofs made by hand, for whoever reads them."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from flows_world import ALICE, DIGITS, JWT, KEYS, NOW, TD

from vouchgate.identity.actors import Beyond
from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.identity.ca import spki_of
from vouchgate.identity.dpop import thumbprint
from vouchgate.identity.jwtsvid import issue_jwt
from vouchgate.vocabulary.names import PrincipalId, principal
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import UnixMillis

PERSON = principal(TD, "person", "people", "ann")
AGENT = principal(TD, "agent", "agents", "planner")
TOOLER = principal(TD, "agent", "agents", "tooler")
URL = "https://localhost:8443/predict"
ORIGINS = ("https://localhost:8443",)
DPOP_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
START = UnixMillis(NOW - 3_600_000)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwk(key: ec.EllipticCurvePrivateKey = DPOP_KEY) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}


def signed(header: dict[str, Any], claims: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def proof(
    token: str = "",
    *,
    key: ec.EllipticCurvePrivateKey = DPOP_KEY,
    header: dict[str, Any] | None = None,
    drop: tuple[str, ...] = (),
    now: int = NOW,
    **claims: Any,
) -> str:
    """A good proof, changed as named."""
    said = {"jti": f"proof-{next(_numbers)}", "htm": "POST", "htu": URL, "iat": now // 1000}
    said |= {"ath": b64(hashlib.sha256(token.encode()).digest())} if token else {}
    said = {name: value for name, value in (said | claims).items() if name not in drop}
    return signed({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(key)} | (header or {}), said, key)


def token(
    subject: str = ALICE,
    *actors: str,
    scopes: tuple[str, ...] | None = ("infer:digits",),
    audience: str = DIGITS,
    jti: str = "token-id-1",
    now: int = NOW,
    ttl: int = 300,
    x5t: str = "",
    jkt: str = "",
    **beyond: Any,
) -> str:
    """A token as the signer makes it."""
    said = Beyond(actors=tuple(PrincipalId(actor) for actor in actors), scopes=scopes, cnf_jkt=jkt, **beyond)
    kid = key_id(spki_of(JWT.public_key()))
    return issue_jwt(
        subject, audience, key=JWT, kid=kid, trust_domain=TD, now=UnixMillis(now), ttl_seconds=ttl, jti=jti, cnf_x5t=x5t, beyond=said
    ).token


JKT = thumbprint(jwk())
BUNDLE = write_jwks(make_bundle(TD, x509_authorities=(KEYS.ca_certificate,), jwt_spkis=(spki_of(JWT.public_key()),), sequence=2))
_numbers = iter(range(10_000_000, 99_999_999))
