"""A key-encryption key of 32 bytes that lies in a file or in memory: AES-256-GCM under a key of each wrapping's own.

    salt    = HMAC-SHA-256(HKDF(kek, "salt"), binding || data key)
    wrapped = "VGK1" || salt || AES-256-GCM(key = HKDF(kek, "wrap", salt), nonce = 0, AAD = "VGK1" || salt || binding, data key)

Rules
1. Deterministic, as RFC 3394 and RFC 5297 wrap keys: the salt is a function of all that is wrapped, so no nonce can be used twice for
   different data, and no source of randomness is needed that could fail. Equal inputs give equal bytes; that is all it tells.
2. Each AES key encrypts one message (SP 800-38D, section 8.3), so the nonce is constant.
3. After decrypting, the salt is computed again and compared in constant time: GCM alone does not commit to its key, this does.
4. The binding is encoded so that no two bindings give the same bytes, and every field but the run is given.
Left to others: reading the key file, who may ask (policy), forgetting the keys afterwards.
"""

from __future__ import annotations

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vouchgate.protection.keepers import Binding, Keeper
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.wire import encode

MAGIC = b"VGK1"
KEY_BYTES = 32
"""Bytes of a key-encryption key and of a data key: AES-256."""
_SALT_BYTES, _TAG_BYTES = 32, 16
WRAPPED_BYTES = len(MAGIC) + _SALT_BYTES + KEY_BYTES + _TAG_BYTES
MAX_FIELD = 256
"""Characters of one field of a binding; a run's id and a name are shorter."""
_NONCE = bytes(12)
_FRAMED = "hand in the binding and the key that it was wrapped with"


def wrap(kek: bytes, data_key: bytes, binding: Binding) -> bytes:
    """The data key, readable only with `kek` under the same binding."""
    _check_key(kek, "key-encryption key")
    _check_key(data_key, "data key")
    bound = _bound(binding)
    salt = _salt(kek, data_key, bound)
    return MAGIC + salt + AESGCM(_derived(kek, b"wrap", salt)).encrypt(_NONCE, data_key, MAGIC + salt + bound)


def unwrap(kek: bytes, wrapped: bytes, binding: Binding) -> bytes:
    """The data key. Raises `Unverified` unless key, bytes and binding belong together."""
    _check_key(kek, "key-encryption key")
    bound = _bound(binding)
    if len(wrapped) != WRAPPED_BYTES or not wrapped.startswith(MAGIC):
        raise Unverified("this is not a wrapped key of this keeper", remedy=_FRAMED)
    salt, sealed = wrapped[len(MAGIC) : len(MAGIC) + _SALT_BYTES], wrapped[len(MAGIC) + _SALT_BYTES :]
    try:
        data_key = AESGCM(_derived(kek, b"wrap", salt)).decrypt(_NONCE, sealed, MAGIC + salt + bound)
    except InvalidTag:
        raise Unverified("the wrapped key does not open under this key and binding", remedy=_FRAMED) from None
    if not hmac.compare_digest(salt, _salt(kek, data_key, bound)):
        raise Unverified("the wrapped key does not open under this key and binding", remedy=_FRAMED)
    return data_key


def _derived(kek: bytes, use: bytes, salt: bytes | None = None) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt, b"vouchgate/keeper/file/v1/" + use).derive(kek)


def _salt(kek: bytes, data_key: bytes, bound: bytes) -> bytes:
    return hmac.digest(_derived(kek, b"salt"), len(bound).to_bytes(8, "big") + bound + data_key, "sha256")


def _bound(binding: Binding) -> bytes:
    """Rule 4: JSON with every field in its order has one reading."""
    given = (binding.trust_domain, binding.purpose, binding.zone)
    if not all(given) or any(len(field) > MAX_FIELD for field in (*given, binding.run)):
        raise InvalidInput("the binding lacks a field, or one is too long", remedy=f"give each, at most {MAX_FIELD} characters")
    parse_digest(binding.digest)
    try:
        return encode(binding)
    except UnicodeEncodeError:
        raise InvalidInput("the binding is not text", remedy="use names of vouchgate") from None


def _check_key(key: bytes, what: str) -> None:
    if len(key) != KEY_BYTES or len(set(key)) == 1:
        raise InvalidInput(f"the {what} is not {KEY_BYTES} random bytes", remedy=f"make one of {KEY_BYTES} random bytes")


KEEPER = Keeper(
    name="file", version=1, wrap=wrap, unwrap=unwrap, summary="a 32-byte key-encryption key from a file: AES-256-GCM, bound, committing"
)
