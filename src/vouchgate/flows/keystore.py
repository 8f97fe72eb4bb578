"""The shape in which the signer's story knows keys: by name, opened or made, wherever they lie.

Rules
1. A key that is given out may be a handle to something that never leaves a token: only `sign` and `public_key` may be asked of it, and `sign`
   may take as long as the token takes, so whoever has `slow` true signs off the event loop.
2. An EC key's `sign` takes `ECDSA(SHA256())` and gives DER with s in the lower half, so nobody signs twice for that (a key in memory may give
   either half).
3. `make` makes the key anew even where there is one, and is durable when it returns.
Left to others: what a key may sign (flows/sign.py); where keys lie (edges/processes/signer_*.py).
"""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class KeyStore(Protocol):
    """Private keys and certificates by name; a name has lower-case letters, digits and hyphens."""

    slow: bool
    """Whether signing leaves this process, and so belongs off the event loop."""

    def has(self, name: str) -> bool:
        """Whether there is a key of this name, readable or not."""

    def ec(self, name: str, *, make: bool = False) -> EllipticCurvePrivateKey:
        """A P-256 key. Raises `StoreDamaged`, `NotPermitted`, `Unavailable`."""

    def ed25519(self, name: str, *, make: bool = False) -> Ed25519PrivateKey:
        """An Ed25519 key. Raises `StoreDamaged`, `NotPermitted`, `Unavailable`."""

    def remove(self, name: str) -> None:
        """Destroy a key and its certificate; nothing where there is none."""

    def has_certificate(self, name: str) -> bool:
        """Whether there is a certificate of this name."""

    def certificate(self, name: str) -> bytes:
        """DER. Raises `StoreDamaged` where there is none."""

    def put_certificate(self, name: str, der: bytes) -> None:
        """Keep a certificate, durably, in the place of the one that was there."""
