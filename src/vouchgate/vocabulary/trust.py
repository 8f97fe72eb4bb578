"""TrustRoot: who may say what. Signed offline, n of m, versions only rise."""

from __future__ import annotations

import hashlib

from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.vouches import Tier, UnixMillis
from vouchgate.vocabulary.wire import Noun


def key_id(spki: bytes) -> str:
    """Id of the key whose DER SubjectPublicKeyInfo is `spki`."""
    return hashlib.sha256(spki).hexdigest()


class PublicKey(Noun, frozen=True, kw_only=True):
    """A public key by its id."""

    key_id: str
    """Lower-case hexadecimal SHA-256 of `spki`."""
    spki: bytes
    """DER SubjectPublicKeyInfo (RFC 5280, section 4.1)."""
    purpose: str
    """`root`, `x509-ca`, `jwt`, `log`, `policy`, `witness`, or a producer's role such as `scanner`."""


class Delegation(Noun, frozen=True, kw_only=True):
    """Key -> role -> predicate types x zones x highest tier x expiry."""

    key_id: str
    role: str
    predicates: tuple[str, ...]
    """Short predicate names this key may sign."""
    zones: tuple[str, ...] = ("*",)
    highest_tier: Tier
    expires_at: UnixMillis


class TrustRoot(Noun, frozen=True, kw_only=True):
    """The document from which every verification starts."""

    trust_domain: TrustDomain
    version: int
    issued_at: UnixMillis
    expires_at: UnixMillis
    threshold: int
    """How many distinct root keys must have signed."""
    keys: tuple[PublicKey, ...]
    delegations: tuple[Delegation, ...]


class SignedTrustRoot(Noun, frozen=True, kw_only=True):
    """The TrustRoot's bytes with the root keys' signatures over them."""

    payload: bytes
    """`wire.encode(TrustRoot)`; signed as DSSE with payload type `application/vnd.vouchgate.trust-root+json`."""
    signatures: dict[str, bytes]
    """Root key id -> Ed25519 signature over the DSSE pre-authentication encoding."""
