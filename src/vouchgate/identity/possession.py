"""Proof that a caller has a certificate's private key: its signature over a challenge that cannot be anything else.

Rules
1. What is signed begins with 64 spaces, a name of this protocol and a zero byte, as in RFC 8446, section 4.4.3, so that no signature made
   for another protocol is one here, and none made here is one elsewhere.
2. It holds the audience (our trust domain), the server's nonce and the SHA-256 of the leaf: a signature is for one server, one attempt and
   one certificate.
3. Algorithms by the key: RSA-PSS with SHA-256 and a salt of 32 bytes, ECDSA with the curve's own hash, Ed25519. PKCS#1 v1.5 is not taken.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

NAME = b"vouchgate x509 possession, version 1"
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""Bits of an RSA key."""
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
_CURVES: dict[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}


def challenge(audience: str, nonce: str, leaf: bytes) -> bytes:
    """What is signed; `leaf` is the certificate's DER."""
    return b" " * 64 + NAME + b"\0" + b"\0".join((audience.encode(), nonce.encode(), hashlib.sha256(leaf).digest()))


def prove(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, message: bytes) -> bytes:
    """The caller's side: sign a challenge."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, _PSS, hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(_CURVES[key.curve.name]))
    return key.sign(message)


def proves(key: object, message: bytes, signature: bytes) -> bool:
    """Whether the signature shows that its maker has the private half of `key`."""
    try:
        if isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            key.verify(signature, message, _PSS, hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
            key.verify(signature, message, ec.ECDSA(_CURVES[key.curve.name]))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True
