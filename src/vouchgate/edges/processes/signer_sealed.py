"""Keys in files that open only under a passphrase or a token: `NAME.sealed` under one master key, which `seal.json` holds wrapped.

    unlocking key = scrypt(passphrase, salt)           or HMAC-SHA-256 under a secret of the token, of the salt
    seal.json     = salt, scrypt's parameters, keeper.wrap(unlocking key, master key)
    NAME.sealed   = kind, public key, keeper.wrap(master key, the key's 32 secret bytes)

Rules
1. The passphrase is changed by writing `seal.json` alone, which is one rename: kill -9 leaves the old or the new.
2. Wrapping is the keeper `file` (protection/keepers/file.py): AES-256-GCM, deterministic, committing to its key. What is wrapped is bound to the
   trust domain, the key's name and its public key, so that no file can stand in for another one.
3. A P-256 key is its scalar (SEC 1, section 2.3.7, 32 bytes), an Ed25519 key its seed (RFC 8032, section 5.1.5).
Left to others: the passphrase (signer_secret.py), the folder's rules (signer_folder.py).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from vouchgate.edges.processes.signer_folder import RESTORE, Folder
from vouchgate.edges.processes.signer_plain import AnyKey, KeyFiles
from vouchgate.edges.processes.signer_secret import Cost, WrongSecret, wipe
from vouchgate.protection.catalog import keeper
from vouchgate.protection.keepers import Binding
from vouchgate.vocabulary.errors import InvalidInput, StoreDamaged, Unverified
from vouchgate.vocabulary.wire import Noun, decode, encode

SALT_BYTES = 32
"""Bytes of salt: random, so that equal passphrases give unlike keys."""
SEAL = "seal.json"
T = TypeVar("T")


class Seal(Noun, frozen=True, kw_only=True):
    """seal.json"""

    version: Literal[1] = 1
    by: Literal["passphrase", "token"] = "passphrase"
    token_key: str = ""
    """Hexadecimal id of the token's secret, where `by` is `token`."""
    salt: bytes
    cost: Cost = Cost()
    wrapped: bytes = b""
    """The master key."""


class SealedKey(Noun, frozen=True, kw_only=True):
    """NAME.sealed"""

    version: Literal[1] = 1
    kind: Literal["p256", "ed25519"]
    spki: bytes
    """DER of the public key."""
    wrapped: bytes


Unlock = Callable[[Seal], bytearray]
"""The unlocking key of a seal. Raises `WrongSecret`, `Unavailable`."""


class SealedKeys(KeyFiles):
    """Keys under a master key, which stays in memory, as the keys that it opens do."""

    place = "encrypted"

    def __init__(self, folder: Folder, trust_domain: str, master: bytes, *, suffix: str = ".sealed") -> None:
        super().__init__(folder)
        self._trust_domain, self._master, self.suffix = trust_domain, master, suffix

    def __repr__(self) -> str:
        return "SealedKeys(...)"

    def take(self, name: str, key: AnyKey) -> None:
        """Keep a key that was made elsewhere."""
        kind, secret, spki = parts_of(key)
        wrapped = keeper("file").wrap(self._master, secret, self._bound(name, spki))
        self.folder.write(self.file(name), encode(SealedKey(kind=kind, spki=spki, wrapped=wrapped)))

    def open(self, name: str) -> AnyKey:
        """A key of either kind. Raises `StoreDamaged`."""
        file = self.file(name)
        try:
            sealed = _one_spelling(SealedKey, self.folder.read(file), file)
            secret = keeper("file").unwrap(self._master, sealed.wrapped, self._bound(name, sealed.spki))
            key = _key(sealed.kind, secret)
        except (InvalidInput, Unverified, ValueError):
            raise StoreDamaged(f"the key file `{file}` does not open under `{SEAL}`", remedy=RESTORE) from None
        if parts_of(key)[2] != sealed.spki:
            raise StoreDamaged(f"the key file `{file}` names another public key", remedy=RESTORE)
        return key

    def _bound(self, name: str, spki: bytes) -> Binding:
        digest = f"sha256:{hashlib.sha256(spki).hexdigest()}"
        return Binding(trust_domain=self._trust_domain, purpose="signer-key", zone="signer", digest=digest, run=name)


def parts_of(key: AnyKey) -> tuple[Literal["p256", "ed25519"], bytes, bytes]:
    """(kind, 32 secret bytes, DER of the public key). Raises `InvalidInput` for a key of another kind."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if isinstance(key, Ed25519PrivateKey):
        return "ed25519", key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()), spki
    if not isinstance(key.curve, SECP256R1):
        raise InvalidInput("the key is not on P-256", remedy="the signer makes its keys itself")
    return "p256", key.private_numbers().private_value.to_bytes(32, "big"), spki


def _key(kind: str, secret: bytes) -> AnyKey:
    return (
        Ed25519PrivateKey.from_private_bytes(secret)
        if kind == "ed25519"
        else derive_private_key(int.from_bytes(secret, "big"), SECP256R1())
    )


def new_master() -> bytes:
    """A master key."""
    return secrets.token_bytes(32)


def new_seal(
    trust_domain: str, master: bytes, unlock: Unlock, *, by: Literal["passphrase", "token"] = "passphrase", token_key: str = ""
) -> Seal:
    """A seal over a master key, with a salt of its own."""
    bare = Seal(by=by, token_key=token_key, salt=secrets.token_bytes(SALT_BYTES))
    key = unlock(bare)
    try:
        wrapped = keeper("file").wrap(bytes(key), master, _seal_bound(trust_domain, bare))
    finally:
        wipe(key)
    return Seal(by=by, token_key=token_key, salt=bare.salt, cost=bare.cost, wrapped=wrapped)


def read_seal(folder: Folder, name: str = SEAL) -> Seal:
    """The seal of a folder. Raises `StoreDamaged`."""
    try:
        return _one_spelling(Seal, folder.read(name), name)
    except InvalidInput as error:
        raise StoreDamaged(error.reason, remedy=RESTORE) from None


def _one_spelling(kind: type[T], data: bytes, name: str) -> T:
    """A document in the very bytes in which it was written: base64 alone has several. Raises `InvalidInput`."""
    read = decode(kind, data, what=f"`{name}`")
    if encode(read) != data:
        raise InvalidInput(f"`{name}` was written by another hand", remedy=RESTORE)
    return read


def master_of(trust_domain: str, seal: Seal, unlock: Unlock) -> bytes:
    """The master key. Raises `WrongSecret` where the seal does not open."""
    key = unlock(seal)
    try:
        return keeper("file").unwrap(bytes(key), seal.wrapped, _seal_bound(trust_domain, seal))
    except Unverified:
        raise WrongSecret(
            f"the {seal.by} does not open the signer's keys", remedy=f"give the right one; if it is right, restore `{SEAL}` from the backup"
        ) from None
    finally:
        wipe(key)


def _seal_bound(trust_domain: str, seal: Seal) -> Binding:
    named = encode([seal.version, seal.by, seal.token_key, seal.salt.hex(), seal.cost.n, seal.cost.r, seal.cost.p])
    return Binding(trust_domain=trust_domain, purpose="signer-seal", zone="signer", digest=f"sha256:{hashlib.sha256(named).hexdigest()}")
