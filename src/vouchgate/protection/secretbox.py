"""Secrets at rest: each version under a data key of its own, wrapped by a keeper, bound to its name and number.

    head   = "VGS1" || length of the wrapped key, two bytes || wrapped data key
    sealed = head || AES-256-GCM(data key, nonce = 0, AAD = head, secret)

Rules
1. A data key encrypts one message, so the nonce is constant (SP 800-38D, section 8.3).
2. The binding names trust domain, secret, part and number: a sealed version that is moved to another place does not open.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vouchgate.protection.keepers import Binding, Keeper
from vouchgate.vocabulary.errors import LimitExceeded, Unverified
from vouchgate.vocabulary.secrets import MAX_SECRET_BYTES

MAGIC = b"VGS1"
TAG_BYTES = 16
"""Of AES-GCM: what even an empty secret has."""
_START = len(MAGIC) + 2
_NONCE = bytes(12)


def place(trust_domain: str, name: str, part: str, number: int) -> Binding:
    """Where a version belongs."""
    digest = hashlib.sha256(f"{name}\x00{part}\x00{number}".encode()).hexdigest()
    return Binding(trust_domain=trust_domain, purpose="secret", zone="control", digest=f"sha256:{digest}")


def seal(keeper: Keeper, kek: bytes, data_key: bytes, binding: Binding, secret: bytes) -> bytes:
    """`data_key` is 32 fresh random bytes. Raises `LimitExceeded`."""
    if len(secret) > MAX_SECRET_BYTES:
        raise LimitExceeded(f"the secret is over the bound of {MAX_SECRET_BYTES} bytes", remedy="keep files elsewhere, and their key here")
    wrapped = keeper.wrap(kek, data_key, binding)
    head = MAGIC + len(wrapped).to_bytes(2, "big") + wrapped
    return head + AESGCM(data_key).encrypt(_NONCE, secret, head)


def unseal(keeper: Keeper, kek: bytes, binding: Binding, sealed: bytes) -> bytes:
    """The secret. Raises `Unverified` unless key, place and bytes belong together."""
    end = _START + int.from_bytes(sealed[len(MAGIC) : _START], "big")
    head, body = sealed[:end], sealed[end:]
    if not head.startswith(MAGIC) or len(body) < TAG_BYTES:
        raise Unverified("this is not a sealed secret", remedy="bring the secret again: `vouchgate secrets put`")
    data_key = keeper.unwrap(kek, head[_START:], binding)
    try:
        return AESGCM(data_key).decrypt(_NONCE, body, head)
    except InvalidTag:
        raise Unverified("the sealed secret was altered", remedy="bring the secret again: `vouchgate secrets put`") from None
