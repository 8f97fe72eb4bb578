"""Where the signer's keys lie: in files, in files under a passphrase, or in a token; opening them there, and moving them elsewhere.

Rules
1. `keys/place.json` says where; without it they lie in plain files. The settings must say the same: keys are moved by a person who asks
   (`vouchgate admin move-keys`), never because a setting changed.
2. A move: `moving.json` first, then every key in its new form, each opened again and compared; then `place.json`, which is one rename and
   decides; then the old forms are erased, and `moving.json` last. kill -9 before the rename leaves the old keys, after it the new ones; the
   next start clears away what the other side left.
3. Outside a move, a key in a form that is not this place's stops the signer: a plain file beside encrypted ones protects nothing.
4. A key never leaves a token, and one that a token does not take in is made anew in it (`--generate`): all keys anew, so that no copy of the
   old ones signs for the new, and a new TrustRoot must say so.
5. A PIN that the token refused is written down (`pin-refused`), and no PIN is tried until a person takes that file away; a try whose end
   nobody saw is counted (`pin-tries`), `MAX_PIN_TRIES` at most.
Left to others: which keys there are (signer_keys.py), each form (signer_plain.py, signer_sealed.py, signer_token.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vouchgate import wiring
from vouchgate.edges.processes.signer_folder import RESTORE, Folder
from vouchgate.edges.processes.signer_plain import AnyKey, PlainKeys
from vouchgate.edges.processes.signer_sealed import SEAL, Seal, SealedKeys, master_of, new_master, new_seal, parts_of, read_seal
from vouchgate.edges.processes.signer_secret import WrongSecret, check_new, derive, read_secret, wipe
from vouchgate.edges.processes.signer_token import BESIDE, TOKEN_SEAL, TokenKeys
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotPermitted, StoreDamaged, Unsupported, VouchgateError
from vouchgate.vocabulary.wire import Noun, decode, encode

PlaceName = Literal["file", "encrypted", "token"]
SUFFIXES: dict[PlaceName, tuple[str, ...]] = {"file": (".key",), "encrypted": (".sealed",), "token": (".token", BESIDE)}
SEALS: dict[PlaceName, tuple[str, ...]] = {"file": (), "encrypted": (SEAL,), "token": (TOKEN_SEAL,)}
PLACE, MOVING, PIN_REFUSED, PIN_TRIES = "place.json", "moving.json", "pin-refused", "pin-tries"
MAX_PIN_TRIES = 2
"""Tries whose end nobody saw; tokens lock themselves after three at least."""
T = TypeVar("T")
MOVE = "run `vouchgate admin move-keys`, or set `[keys] place` to where they lie"

log = logging.getLogger("vouchgate.signer")


class Place(Noun, frozen=True, kw_only=True):
    """place.json"""

    version: Literal[1] = 1
    place: PlaceName


class Moving(Noun, frozen=True, kw_only=True):
    """moving.json"""

    version: Literal[1] = 1
    to: PlaceName
    generate: bool = False


@dataclass(frozen=True)
class Access:
    """How a place is opened; nothing secret is in it."""

    place: PlaceName = "file"
    secret: int = -1
    """Descriptor of the passphrase or PIN; -1: none was handed down."""
    remember: bool = False
    """Whether the kernel's keyring keeps the unlocking key until the machine ends."""
    module: str = ""
    token: str = ""


Store = PlainKeys | SealedKeys | TokenKeys


class Places:
    """The signer's folder as places of keys. `own` is DIR, `keys` is DIR/keys; both are there, and as they must be."""

    def __init__(self, own: Folder, keys: Folder, trust_domain: str) -> None:
        self._own, self._keys, self._trust_domain = own, keys, trust_domain

    def lies(self) -> PlaceName | None:
        """Where the keys lie; None where there are none yet."""
        if self._keys.has(PLACE):
            return _read(self._keys, PLACE, Place).place
        return "file" if any(name.endswith(".key") for name in self._keys.names()) else None

    def open(self, access: Access, *, first: bool) -> Store:
        """The keys where they lie, which must be where `access` says. Raises `Conflict`, `WrongSecret`, `Unavailable`, `StoreDamaged`."""
        lies = self.lies()
        if lies is None and first and access.place != "file":
            self._keys.write(PLACE, encode(Place(place=access.place)))
        elif (lies or "file") != access.place:
            raise Conflict(f"the signer's keys lie in place `{lies or 'file'}`, the settings say `{access.place}`", remedy=MOVE)
        self._sweep(access.place)
        return self._opened(access, fresh=first)

    def remaking(self) -> bool:
        """Whether a move with `--generate` was decided and its keys are not all made."""
        return self._keys.has(MOVING) and _read(self._keys, MOVING, Moving).generate

    def made(self, store: Store) -> None:
        """All keys are there: what the other places left is erased, the move is over (rule 2)."""
        if self._keys.has(MOVING):
            self._erase_others(store.place)
            self._keys.erase(MOVING)

    def move(self, source: Access, target: Access, *, generate: bool) -> Store:
        """Rules 2 and 4. With `generate` the caller makes the keys, then says `made`."""
        lies = self.lies()
        if lies is None:
            raise Conflict("there are no keys to move", remedy="start vouchgate once with the settings that you want")
        if lies == target.place:
            raise InvalidInput(f"the keys lie in place `{lies}` already", remedy="set `[keys] place` to where they shall lie")
        self._sweep(lies)
        if lies == "token" and not generate:
            raise Unsupported("a key never leaves its token", remedy="make new keys: `vouchgate admin move-keys --generate`")
        old = None if generate else self._opened(source, fresh=False)
        self._keys.write(MOVING, encode(Moving(to=target.place, generate=generate)))
        new = self._opened(target, fresh=True)
        if old is not None and not isinstance(old, TokenKeys):
            self._copy(old, new)
        self._keys.write(PLACE, encode(Place(place=target.place)))
        if not generate:
            self.made(new)
        return new

    def change_passphrase(self, old: Access, new: Access) -> None:
        """One rename (signer_sealed.py, rule 1)."""
        if self.lies() != "encrypted":
            raise Conflict("the keys do not lie under a passphrase", remedy=MOVE)
        master = master_of(self._trust_domain, read_seal(self._keys), self._unlocking(old))
        seal = new_seal(self._trust_domain, master, self._unlocking(new, check=True))
        before = read_seal(self._keys)
        self._keys.write(SEAL, encode(seal))
        if old.remember:
            wiring.forget_secret(self._described(before))

    def forget(self) -> None:
        """Take the unlocking key out of the kernel's keyring."""
        if self._keys.has(SEAL):
            wiring.forget_secret(self._described(read_seal(self._keys)))

    def try_pin(self) -> bool:
        """Let one PIN be tried again; whether one had been refused."""
        refused = self._own.has(PIN_REFUSED)
        self._own.erase(PIN_REFUSED)
        self._own.erase(PIN_TRIES)
        return refused

    # -- each place

    def _opened(self, access: Access, *, fresh: bool) -> Store:
        if access.place == "token":
            return self._token(access)
        if access.place == "file":
            return PlainKeys(self._keys)
        if fresh and not self._keys.has(SEAL):
            self._keys.write(SEAL, encode(new_seal(self._trust_domain, new_master(), self._unlocking(access, check=True))))
        return SealedKeys(self._keys, self._trust_domain, self._master(access))

    def _master(self, access: Access) -> bytes:
        seal = read_seal(self._keys)
        if seal.by != "passphrase":
            raise StoreDamaged(f"`{SEAL}` is not sealed by a passphrase", remedy=RESTORE)
        if access.remember and access.secret < 0:
            kept = wiring.recall_secret(self._described(seal))
            if kept is None:
                raise WrongSecret("the kernel's keyring does not hold the key, as after a boot", remedy=_HAND)
            return master_of(self._trust_domain, seal, lambda _: kept)
        if not access.remember:
            return master_of(self._trust_domain, seal, self._unlocking(access))
        unlocking = self._unlocking(access)(seal)
        try:
            master = master_of(self._trust_domain, seal, lambda _: bytearray(unlocking))
            wiring.remember_secret(self._described(seal), unlocking)
        finally:
            wipe(unlocking)
        return master

    def _unlocking(self, access: Access, *, check: bool = False) -> Callable[[Seal], bytearray]:
        def unlock(seal: Seal) -> bytearray:
            if access.secret < 0:
                raise WrongSecret("no passphrase was handed down, and the keys are encrypted", remedy=_HAND)
            passphrase = read_secret(access.secret)
            try:
                if check:
                    check_new(passphrase)
                return derive(passphrase, seal.salt, seal.cost)
            finally:
                wipe(passphrase)

        return unlock

    def _token(self, access: Access) -> TokenKeys:
        if self._own.has(PIN_REFUSED):
            raise NotPermitted(
                "the token refused a PIN, so none is tried", remedy="correct the PIN, then allow one more try: `vouchgate admin try-pin`"
            )
        if access.secret < 0:
            raise WrongSecret("no PIN was handed down, and the keys are in a token", remedy="set `[keys] pin_file`, or start at a terminal")
        token = wiring.token(access.module, access.token, lambda: read_secret(access.secret, "PIN"), self._note_refused)
        self._count_try()
        try:
            token.open()
        except NotPermitted:
            raise
        except VouchgateError:
            # the token did not get as far as the PIN
            self._own.erase(PIN_TRIES)
            raise
        self._own.erase(PIN_TRIES)
        return TokenKeys(self._keys, self._trust_domain, token)

    def _count_try(self) -> None:
        """Durable before the token is asked: neither a kill nor a full disk between a refusal and its note lets tries go on."""
        tries = len(self._own.read(PIN_TRIES)) if self._own.has(PIN_TRIES) else 0
        if tries >= MAX_PIN_TRIES:
            raise NotPermitted(
                f"{tries} tries of the PIN ended without an answer, so none is made", remedy="allow one more: `vouchgate admin try-pin`"
            )
        self._own.write(PIN_TRIES, b"x" * (tries + 1))

    def _note_refused(self, why: str) -> None:
        log.error("%s", why)
        self._own.write(PIN_REFUSED, b"")

    def _described(self, seal: Seal) -> str:
        return f"vouchgate:{self._trust_domain}:{seal.salt.hex()}"

    # -- moving

    def _copy(self, old: PlainKeys | SealedKeys, new: Store) -> None:
        for name in names_in(self._keys, old.suffix):
            key = old.open(name)
            new.take(name, key)
            kind, _, spki = parts_of(key)
            again = new.ec(name) if kind == "p256" else new.ed25519(name)
            if spki_of(again) != spki:
                raise StoreDamaged(f"the key `{name}` is another one after the move", remedy="the old keys are untouched; move them again")

    def _sweep(self, lies: PlaceName) -> None:
        """Rules 2 and 3; and what a write left that was cut off, which may be half a key."""
        for name in self._keys.names():
            if name.startswith(".") and name.endswith(".new"):
                self._keys.erase(name)
        if self._keys.has(MOVING):
            moving = _read(self._keys, MOVING, Moving)
            if moving.to == lies and moving.generate:
                return
            self._erase_others(lies)
            self._keys.erase(MOVING)
        for name in self._keys.names():
            stray = any(name.endswith(suffix) for place, all_of in SUFFIXES.items() if place != lies for suffix in all_of)
            if stray:
                raise NotPermitted(
                    f"`{name}` does not belong where the keys lie (`{lies}`)", remedy=f"remove it from `{self._keys.path.name}`"
                )

    def _erase_others(self, lies: PlaceName) -> None:
        endings = tuple(suffix for place, all_of in SUFFIXES.items() if place != lies for suffix in all_of)
        seals = {seal for place, all_of in SEALS.items() if place != lies for seal in all_of}
        for name in self._keys.names():
            if name.endswith(endings) or name in seals:
                self._keys.erase(name)


_HAND = "set `[keys] passphrase_file`, or start `vouchgate up` at a terminal"


def names_in(keys: Folder, suffix: str) -> list[str]:
    """Names of the keys of one form."""
    return [name.removesuffix(suffix) for name in keys.names() if name.endswith(suffix) and not name.startswith(".")]


def spki_of(key: AnyKey) -> bytes:
    """DER of the public half of a key or a handle."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(folder: Folder, name: str, kind: type[T]) -> T:
    try:
        return decode(kind, folder.read(name), what=f"`{name}`")
    except InvalidInput as error:
        raise StoreDamaged(error.reason, remedy=RESTORE) from None
