"""The signer's files: private keys and what was signed last, in folders that nobody else can enter.

Rules
1. `DIR/keys` is 0700 and each file in it 0600, regular, with one link, owned by this process's uid; anything wider is refused, never
   silently corrected, because a key that others could read must be replaced.
2. A file is created whole and exclusively (O_EXCL, fsync, fsync of the folder), so that a crash never leaves half a key in use.
3. Keys are made at the first start, and one by one where a person asks to replace a stolen one. `state.json` is written last; once it is
   there, a missing key is damage, not a first start.
Left to others: what the keys may sign (flows/sign.py).
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from vouchgate.flows.sign import ROLES, Keys, SignedBefore, same_key
from vouchgate.identity.ca import load_ca, make_ca
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotPermitted, StoreDamaged, Unavailable
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import decode, encode

CA_DAYS = 365
"""Days a new CA certificate lives; `--renew-ca` makes another for the same key."""
MAX_FILE_BYTES = 65_536
"""Bytes of a key or of the state."""
EC_NAMES = ("x509-ca", "jwt")
ED25519_NAMES = ("log", "policy", *ROLES)
_RESTORE = "restore the signer's folder from its backup; new keys need a new TrustRoot"


class Files:
    """The signer's folder. `Durable` for flows/sign.py."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._keys, self._state = folder, folder / "keys", folder / "state.json"

    def open(
        self, trust_domain: str, now: UnixMillis, *, renew_ca: bool = False, replace: Collection[str] = ()
    ) -> tuple[Keys, SignedBefore]:
        """Load everything, making it at the first start; `replace` names keys to make anew. Raises `NotPermitted`, `StoreDamaged`,
        `Conflict`, and `InvalidInput` for a name that is no key's."""
        unknown = sorted(set(replace) - {*EC_NAMES, *ED25519_NAMES})
        if unknown:
            raise InvalidInput(f"`{unknown[0][:40]}` is not a key", remedy=f"the keys are {', '.join((*EC_NAMES, *ED25519_NAMES))}")
        self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check(self._folder, 0o755)
        self._check(self._keys, 0o700)
        first = not os.path.lexists(self._state)
        before = SignedBefore(trust_domain=trust_domain) if first else self._before()
        if before.trust_domain != trust_domain:
            raise Conflict(
                f"the keys are of trust domain `{before.trust_domain}`, not `{trust_domain[:80]}`",
                remedy="give the signer a folder of its own",
            )
        absent = {name for name in (*EC_NAMES, *ED25519_NAMES) if first and not os.path.lexists(self._keys / f"{name}.key")}
        make = absent | set(replace)
        ecs = {name: self._ec(name, make=name in make) for name in EC_NAMES}
        signing = {name: self._ed25519(name, make=name in make) for name in ED25519_NAMES}
        certificate = self._ca(ecs["x509-ca"], trust_domain, now, first=first, renew=renew_ca or "x509-ca" in replace)
        if first:
            self._replace(self._state, encode(before))
        return Keys(ca=ecs["x509-ca"], ca_certificate=certificate, jwt=ecs["jwt"], ed25519=signing), before

    async def save(self, state: bytes) -> None:
        """Make the state durable, off the event loop. Raises `Unavailable` where the disk does not take it."""
        try:
            await asyncio.to_thread(self._replace, self._state, state)
        except OSError as error:
            raise Unavailable(
                f"the signer cannot remember what it signs: {error.strerror}", remedy="make room on the disk of the data directory"
            ) from None

    def _before(self) -> SignedBefore:
        try:
            return decode(SignedBefore, self._read(self._state), what="signer's state")
        except InvalidInput as error:
            raise StoreDamaged(error.reason, remedy=_RESTORE) from None

    def _ca(self, key: ec.EllipticCurvePrivateKey, trust_domain: str, now: UnixMillis, *, first: bool, renew: bool) -> bytes:
        path = self._keys / "x509-ca.crt"
        if renew or (first and not os.path.lexists(path)):
            self._replace(path, make_ca(trust_domain, key, now=now, days=CA_DAYS))
        certificate = self._read(path)
        try:
            load_ca(certificate, trust_domain)
        except InvalidInput as error:
            raise StoreDamaged(error.reason, remedy=_RESTORE) from None
        if not same_key(certificate, key):
            raise StoreDamaged("the CA certificate is not for the CA's key", remedy=_RESTORE)
        return certificate

    def _ec(self, name: str, *, make: bool) -> ec.EllipticCurvePrivateKey:
        key = self._private(name, make, lambda: ec.generate_private_key(ec.SECP256R1()))
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise StoreDamaged(f"the key file `{name}.key` does not hold a P-256 key", remedy=_RESTORE)
        return key

    def _ed25519(self, name: str, *, make: bool) -> Ed25519PrivateKey:
        key = self._private(name, make, Ed25519PrivateKey.generate)
        if not isinstance(key, Ed25519PrivateKey):
            raise StoreDamaged(f"the key file `{name}.key` does not hold an Ed25519 key", remedy=_RESTORE)
        return key

    def _private(self, name: str, make: bool, generate: Callable[[], ec.EllipticCurvePrivateKey | Ed25519PrivateKey]) -> object:
        path = self._keys / f"{name}.key"
        if make:
            self._replace(path, generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        try:
            return load_der_private_key(self._read(path), password=None)
        except (ValueError, TypeError):
            # The parser's own text may quote the file.
            raise StoreDamaged(f"the key file `{path.name}` cannot be read", remedy=_RESTORE) from None

    def _read(self, path: Path) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StoreDamaged(f"`{path.name}` cannot be opened: {error.strerror}", remedy=_RESTORE) from None
        try:
            self._hold(os.fstat(descriptor), path, 0o600, folder=False)
            data = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > MAX_FILE_BYTES:
            raise StoreDamaged(f"`{path.name}` is over the bound of {MAX_FILE_BYTES} bytes", remedy=_RESTORE)
        return data

    def _replace(self, path: Path, data: bytes) -> None:
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _check(self, path: Path, mode: int) -> None:
        self._hold(path.lstat(), path, mode, folder=True)

    @staticmethod
    def _hold(facts: os.stat_result, path: Path, mode: int, *, folder: bool) -> None:
        right_kind = stat.S_ISDIR(facts.st_mode) if folder else stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1
        if not right_kind or facts.st_uid != os.geteuid():
            raise NotPermitted(
                f"`{path.name}` is not the signer's own {'folder' if folder else 'file'}", remedy=f"chown it to uid {os.geteuid()}"
            )
        if stat.S_IMODE(facts.st_mode) & ~mode:
            raise NotPermitted(
                f"`{path.name}` has mode {stat.S_IMODE(facts.st_mode):04o}, wider than {mode:04o}",
                remedy=f"if nobody else read it: chmod {mode:04o}; otherwise replace the keys",
            )
