"""Private keys of callers: made here (P-256), written 0600, never sent; only the public half travels."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from vouchgate.vocabulary.base64url import b64
from vouchgate.vocabulary.errors import InvalidInput


class P256Key:
    """One key pair on P-256 (SPIFFE X509-SVID leaves it open; ES256 and every TLS stack know it)."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo (RFC 5280, section 4.1)."""
        return self._key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def pem(self) -> str:
        """PKCS #8 PEM (RFC 5958), without a passphrase: the file's mode protects it."""
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(
            "ascii"
        )

    def __repr__(self) -> str:
        return "P256Key(...)"


def dpop_proof(pem: bytes, method: str, url: str, now: int, *, nonce: str = "", ath: str = "") -> str:
    """A proof that the key is held here (RFC 9449, section 4.2). Raises `InvalidInput` for a key that is not on P-256."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise InvalidInput("the key file cannot be read", remedy="name a PEM file without a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInput("the key is not a P-256 key", remedy="use the key.pem that `vouchgate identity issue` wrote")
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
    claims = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": now // 1000} | {
        name: value for name, value in (("nonce", nonce), ("ath", ath)) if value
    }
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def write_private(path: Path, text: str) -> None:
    """Write for the owner alone; never through a file or link that lies there already."""
    _replace(path, text, 0o600)


def write_public(path: Path, text: str) -> None:
    """Write for everybody, whole or not at all."""
    _replace(path, text, 0o644)


def _replace(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
