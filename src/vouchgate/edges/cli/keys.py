"""Private keys of callers: made here (P-256), written 0600, never sent; only the public half travels."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


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
