"""`init`: root keys, the first TrustRoot, and the fingerprint that a person compares. Pure: the caller writes the files.

Order
1. `make_root_keys(n)`: offline keys; the caller writes each outside the data directory, 0600, and keeps none.
2. Start the signer once with `--init-only`, or ask it for `public_keys`.
3. `first_trust_root(...)`: delegates to the signer's keys exactly what their roles may state (`DELEGATED`).
4. `sign_with(trust_root, pems)`, and show `fingerprint(trust_root)` to the person.
A renewal is `next_trust_root`, signed by the same root keys; other root keys take `evidence.trustroot.verify_successor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from vouchgate.evidence.catalog import predicates
from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.trustroot import MAX_ROOT_KEYS, fingerprint, make_trust_root, sign_trust_root
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.trust import Delegation, PublicKey, SignedTrustRoot, TrustRoot, key_id
from vouchgate.vocabulary.vouches import Tier, UnixMillis

__all__ = ["fingerprint", "first_trust_root", "load_root_key", "make_root_keys", "next_trust_root", "sign_with"]

DEFAULT_DAYS = 365
"""Days a TrustRoot lives; its renewal is the yearly rehearsal of fetching the root keys."""
_DAY_MS = 86_400_000
DELEGATED: dict[str, Tier] = {
    "scanner": "verified",
    "importer": "verified",
    "supervisor": "verified",
    "validator": "rederived",
    "approver": "declared",
    "device": "cooperative",
    "reviewer": "declared",
}
"""Role -> strongest tier its key may claim: a validator recomputes, an approver says, a device manager tells."""
OUTSIDE = ("device", "reviewer")
"""Producers whose keys others hold; a renewal keeps them."""


@dataclass(frozen=True)
class RootKey:
    """One offline root key. Its text form does not show the private half."""

    pem: bytes = field(repr=False)
    public: PublicKey


def make_root_keys(count: int, *, passphrase: bytes = b"") -> tuple[RootKey, ...]:
    """New Ed25519 root keys; PEM is encrypted where a passphrase is given. Raises `InvalidInput`."""
    if not 1 <= count <= MAX_ROOT_KEYS:
        raise InvalidInput(f"{count} root keys are out of bounds", remedy=f"make 1 to {MAX_ROOT_KEYS}")
    made = (Ed25519PrivateKey.generate() for _ in range(count))
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return tuple(RootKey(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection), _public(key)) for key in made)


def load_root_key(pem: bytes, *, passphrase: bytes = b"") -> Ed25519PrivateKey:
    """Read a root key. Raises `InvalidInput`, without the parser's text, which may quote the file."""
    try:
        key = load_pem_private_key(pem, password=passphrase or None)
    except (ValueError, TypeError):
        raise InvalidInput("the root key cannot be read", remedy="give the right file and passphrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput("the root key is not an Ed25519 key", remedy="give a key that `vouchgate init` made")
    return key


def first_trust_root(
    trust_domain: str,
    *,
    root_keys: Sequence[PublicKey],
    threshold: int,
    signer_keys: Sequence[PublicKey],
    now: UnixMillis,
    witness_keys: Sequence[PublicKey] = (),
    days: int = DEFAULT_DAYS,
) -> TrustRoot:
    """Version 1, delegating to the signer's producer keys what their roles may state. Raises `InvalidInput`."""
    return _trust_root(trust_domain, (*root_keys, *signer_keys, *witness_keys), threshold, now=now, version=1, days=days)


def next_trust_root(
    before: TrustRoot,
    *,
    keys: Sequence[PublicKey],
    now: UnixMillis,
    days: int = DEFAULT_DAYS,
    producers: Sequence[PublicKey] = (),
    dropped: Sequence[str] = (),
) -> TrustRoot:
    """The next version: the same root keys and threshold, `keys` in place of our own others; producers outside stay, come or go. Raises
    `InvalidInput`."""
    roots = tuple(key for key in before.keys if key.purpose == "root")
    outside = {key.key_id: key for key in (*before.keys, *producers) if key.purpose in OUTSIDE}
    unknown = sorted(set(dropped) - set(outside))
    if unknown:
        raise InvalidInput(f"no producer outside has the key `{unknown[0][:64]}`", remedy="name the key's id, 64 hexadecimal digits")
    kept = tuple(key for name, key in outside.items() if name not in dropped)
    return _trust_root(before.trust_domain, (*roots, *keys, *kept), before.threshold, now=now, version=before.version + 1, days=days)


def producer_key(role: str, pem: bytes) -> PublicKey:
    """A producer's public key, as its holder hands it over. Raises `InvalidInput`."""
    if role not in OUTSIDE:
        raise InvalidInput(f"`{role[:40]}` is not a role of a producer outside", remedy=f"use one of {', '.join(OUTSIDE)}")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidInput("the producer's key cannot be read", remedy="give its public key as PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput("the producer's key is not an Ed25519 key", remedy="have it made as one: `openssl genpkey -algorithm ed25519`")
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key_id=key_id(spki), spki=spki, purpose=role)


def sign_with(trust_root: TrustRoot, pems: Sequence[bytes], *, passphrase: bytes = b"") -> SignedTrustRoot:
    """Sign with the root keys at hand. Raises `InvalidInput`."""
    return sign_trust_root(trust_root, [load_root_key(pem, passphrase=passphrase) for pem in pems])


def fingerprint_of(signed: SignedTrustRoot) -> str:
    """What a person compares: the fingerprint of root keys and threshold."""
    return fingerprint(wire.decode(TrustRoot, signed.payload, what="TrustRoot"))


def _trust_root(trust_domain: str, keys: tuple[PublicKey, ...], threshold: int, *, now: UnixMillis, version: int, days: int) -> TrustRoot:
    expires_at = UnixMillis(now + days * _DAY_MS)
    delegations = [
        Delegation(
            key_id=key.key_id,
            role=key.purpose,
            predicates=tuple(sorted(name for name, one in predicates().items() if key.purpose in one.roles)),
            highest_tier=DELEGATED[key.purpose],
            expires_at=expires_at,
        )
        for key in keys
        if key.purpose in DELEGATED
    ]
    return make_trust_root(
        trust_domain, keys=keys, delegations=delegations, threshold=threshold, version=version, issued_at=now, expires_at=expires_at
    )


def _public(key: Ed25519PrivateKey) -> PublicKey:
    spki = spki_of(key)
    return PublicKey(key_id=key_id(spki), spki=spki, purpose="root")
