"""The signer's keys as its story needs them: each opened or made by name, the CA's certificate, and what was signed last.

Rules
1. Keys are made at the first start, and one by one where a person asks to replace a stolen one. `state.json` is written last; once it is
   there, a missing key is damage, not a first start.
2. What is there is never replaced unless a person names it.
Left to others: where a key lies (the `KeyStore`), the rules of files (signer_folder.py), what the keys may sign (flows/sign.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.edges.processes.signer_folder import RESTORE, Folder
from vouchgate.edges.processes.signer_plain import PlainKeys
from vouchgate.flows.keystore import KeyStore
from vouchgate.flows.sign import ROLES, Keys, SignedBefore, same_key
from vouchgate.identity.ca import load_ca, make_ca
from vouchgate.vocabulary.errors import Conflict, InvalidInput, StoreDamaged, Unavailable
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import decode, encode

CA_DAYS = 365
"""Days a new CA certificate lives; `--renew-ca` makes another for the same key."""
EC_NAMES = ("x509-ca", "jwt")
ED25519_NAMES = ("log", "policy", *ROLES)
STATE = "state.json"


class Files:
    """The signer's folder. `Durable` for flows/sign.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = Folder(folder)
        self.keys = Folder(folder / "keys")

    def open(
        self,
        trust_domain: str,
        now: UnixMillis,
        *,
        renew_ca: bool = False,
        replace: Collection[str] = (),
        store: KeyStore | None = None,
        remake: bool = False,
    ) -> tuple[Keys, SignedBefore]:
        """Load everything, making it at the first start; `replace` names keys to make anew, with `remake` whatever the store lacks. Raises `NotPermitted`, `StoreDamaged`,
        `Conflict`, and `InvalidInput` for a name that is no key's."""
        unknown = sorted(set(replace) - {*EC_NAMES, *ED25519_NAMES})
        if unknown:
            raise InvalidInput(f"`{unknown[0][:40]}` is not a key", remedy=f"the keys are {', '.join((*EC_NAMES, *ED25519_NAMES))}")
        before = self.before(trust_domain)
        first = self.first
        store = store or PlainKeys(self.keys)
        make = {name for name in (*EC_NAMES, *ED25519_NAMES) if (first or remake) and not store.has(name)} | set(replace)
        ecs = {name: store.ec(name, make=name in make) for name in EC_NAMES}
        signing = {name: store.ed25519(name, make=name in make) for name in ED25519_NAMES}
        certificate = _ca(store, ecs["x509-ca"], trust_domain, now, first=first, renew=renew_ca or "x509-ca" in replace)
        if first:
            self.folder.write(STATE, encode(before))
        return Keys(ca=ecs["x509-ca"], ca_certificate=certificate, jwt=ecs["jwt"], ed25519=signing), before

    @property
    def first(self) -> bool:
        """Whether the first start is not over."""
        return not self.folder.has(STATE)

    def before(self, trust_domain: str) -> SignedBefore:
        """What was signed last, or nothing before the end of the first start; the folders are held to their rules."""
        self.keys.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.make(0o755)
        self.keys.make(0o700)
        if not self.folder.has(STATE):
            return SignedBefore(trust_domain=trust_domain)
        try:
            before = decode(SignedBefore, self.folder.read(STATE), what="signer's state")
        except InvalidInput as error:
            raise StoreDamaged(error.reason, remedy=RESTORE) from None
        if before.trust_domain != trust_domain:
            raise Conflict(
                f"the keys are of trust domain `{before.trust_domain}`, not `{trust_domain[:80]}`",
                remedy="give the signer a folder of its own",
            )
        return before

    async def save(self, state: bytes) -> None:
        """Make the state durable, off the event loop. Raises `Unavailable` where the disk does not take it."""
        try:
            await asyncio.to_thread(self.folder.write, STATE, state)
        except Unavailable as error:
            raise Unavailable(f"the signer cannot remember what it signs: {error.reason}", remedy=error.remedy) from None


def _ca(store: KeyStore, key: ec.EllipticCurvePrivateKey, trust_domain: str, now: UnixMillis, *, first: bool, renew: bool) -> bytes:
    if renew or (first and not store.has_certificate("x509-ca")):
        store.put_certificate("x509-ca", make_ca(trust_domain, key, now=now, days=CA_DAYS))
    certificate = store.certificate("x509-ca")
    try:
        load_ca(certificate, trust_domain)
    except InvalidInput as error:
        raise StoreDamaged(error.reason, remedy=RESTORE) from None
    if not same_key(certificate, key):
        raise StoreDamaged("the CA certificate is not for the CA's key", remedy=RESTORE)
    return certificate
