"""The X.509 authority as the signer runs it: roots, the issuers under the active one, and their revocation lists.

A root's way        requested --install--> prepared --activate--> active --(another is activated)--> retiring --retire--> gone
                    (a root of our own begins as prepared; requested and prepared ones can be abandoned)
Rules
1. What is in the trust bundle: prepared, active and retiring roots. So a verifier knows a root before the first leaf under it, and goes on
   knowing the old one while leaves under it live.
2. Leaves are signed by the newest issuer under the active root, which lives `issuer_seconds` and is replaced at half of that. The old one
   goes on verifying without anybody's doing: each leaf brings its issuer along. Its key is kept until its last leaf has expired, for its
   revocation list, and no longer.
3. A root with path length 0, and every CA that a CA above ours signed (upstream.py), signs leaves itself.
4. A key is durable before its certificate, the certificate before it is used, a root's new state before anything acts on it; so whatever
   a kill -9 leaves is either in use whole, or swept at the next start.
5. Activating waits until readers of the bundle have asked again; retiring until the last leaf has expired. A person may force either.
Left to others: who may ask (flows/sign.py), keeping keys (`KeyStore`), publishing the bundle (flows/rotate_ca.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cryptography import x509

from vouchgate.flows.x509_state import (
    FIRST,
    CaKeys,
    CaState,
    Issuer,
    Root,
    RootState,
    RootStatus,
    Step,
    above_name,
    issuer_name,
    root_name,
)
from vouchgate.identity.bundle import DEFAULT_REFRESH_SECONDS
from vouchgate.identity.ca import BACKDATE_MS, instant, load_ca, make_ca, make_issuer, make_request, path_length_of, spki_of
from vouchgate.identity.crl import NEXT_UPDATE_SECONDS, make_crl
from vouchgate.identity.upstream import check_upstream
from vouchgate.identity.x509svid import MAX_TTL_SECONDS, IssuedX509, issue_x509
from vouchgate.vocabulary.errors import Conflict, LimitExceeded, NotFound, StoreDamaged, VouchgateError
from vouchgate.vocabulary.principals import Binding
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import UnixMillis

T = TypeVar("T")
ROOT_DAYS = 365
"""Days a new root of our own lives."""
ISSUER_SECONDS = 7 * 86_400
"""Seconds an issuer lives where the settings say nothing else."""
MAX_ROOTS = 4
"""Roots at once: the active one, its successor, its predecessor, and one asked for."""
MAX_ISSUERS = 32
"""Issuers whose leaves may still live: forced rotations within a day, and the ordinary ones."""
SPREAD_MS = 2 * DEFAULT_REFRESH_SECONDS * 1000
"""Milliseconds after which every reader of the bundle has asked again."""
LEAVES_MS = MAX_TTL_SECONDS * 1000 + BACKDATE_MS
"""Milliseconds after which no leaf of an issuer lives that signs no more."""


class Authority:
    """See the module's text. `remember` makes the state durable."""

    def __init__(
        self,
        trust_domain: str,
        keys: CaKeys,
        before: CaState,
        *,
        remember: Callable[[CaState], Awaitable[None]],
        issuer_seconds: int = ISSUER_SECONDS,
    ) -> None:
        self._trust_domain, self._keys, self._remember, self._issuer_seconds = trust_domain, keys, remember, issuer_seconds
        known = before.roots or (RootState(number=FIRST, status="active", since=UnixMillis(0)),)
        self._roots = {state.number: self._load_root(state) for state in known}
        self._issuers = [issuer for number in sorted(before.issuers) if (issuer := self._load_issuer(number)) is not None]
        self._changing = asyncio.Lock()
        self._steps: set[asyncio.Future[Issuer]] = set()
        self.trouble = ""
        """Why the last rotation of the issuer failed; empty where it did not."""

    # -- what others read

    @property
    def active(self) -> Root:
        """The root under which leaves are issued."""
        return next(root for root in self._roots.values() if root.state.status == "active")

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """Rule 1, the active one first."""
        shown = [root for root in self._roots.values() if root.chain]
        return tuple(root.chain[0] for root in sorted(shown, key=lambda root: (root.state.status != "active", root.state.number)))

    @property
    def notice(self) -> str:
        """What a person should do about the CA some day; empty where it is in order."""
        if self.trouble:
            return self.trouble
        if not self.active.state.upstream and path_length_of(self.active.certificate) == 0:
            return "the CA was made with path length 0 and signs leaves itself: `vouchgate admin renew-ca` lets issuers rotate under it"
        return ""

    def describe(self) -> list[dict[str, Any]]:
        """Every root, for a person."""
        return [_told(root) for _, root in sorted(self._roots.items())]

    # -- issuing

    async def issuer(self, now: UnixMillis) -> Issuer:
        """Who signs leaves now; makes a new issuer where one is due. Raises what kept it from that if there is none to go on with."""
        current = self._current(now)
        if current is not None and not current.due(now):
            return current
        step = asyncio.ensure_future(self._renewed(now))
        self._steps.add(step)  # it goes on to its end even if the caller is cut off meanwhile
        step.add_done_callback(self._steps.discard)
        return await asyncio.shield(step)

    async def _renewed(self, now: UnixMillis) -> Issuer:
        async with self._changing:
            current = self._current(now)
            if current is not None and not current.due(now):
                return current
            try:
                current = await self._rotate(self.active, now)
                self.trouble = ""
            except VouchgateError as error:
                if current is None:
                    raise
                self.trouble = f"the X.509 issuer could not be renewed: {error.reason}"
        return current

    async def issue(
        self, spki: bytes, principal: str, *, now: UnixMillis, ttl_seconds: int, dns: Sequence[str] = (), binding: Binding | None = None
    ) -> IssuedX509:
        """A leaf with what is above it. Raises `InvalidInput`."""
        by = await self.issuer(now)

        def sign() -> IssuedX509:
            return issue_x509(
                spki,
                principal,
                ca=by.certificate,
                ca_key=by.key,
                trust_domain=self._trust_domain,
                now=now,
                ttl_seconds=ttl_seconds,
                dns=dns,
                above=by.above,
                binding=binding,
            )

        return await asyncio.to_thread(sign) if self._keys.slow else sign()

    async def crls(self, serials: Sequence[str], number: int, now: UnixMillis) -> list[bytes]:
        """One list for each issuer whose leaves may live, the current one first, then one for each root."""
        current = await self.issuer(now)
        others = [one for one in reversed(self._issuers) if one.number != current.number]
        signing = [(one.certificate, one.key) for one in (*([current] if current.number else []), *others)]
        signing += [(root.certificate, root.key) for root in self._roots.values() if root.state.status in ("active", "retiring")]
        return [
            await asyncio.to_thread(make_crl, serials, issuer=certificate, key=key, number=number, now=now) for certificate, key in signing
        ]

    # -- steps

    async def sweep(self) -> None:
        """Forget what a crash left behind (rule 4): roots that are in no state, and an issuer that never came into use."""
        roots = [root_name(number) for number in range(FIRST + 1, max(self._roots) + 2) if number not in self._roots]
        for name in (*roots, issuer_name(self._next_issuer())):
            if self._keys.has(name):
                await self._off(self._keys.remove, name)

    async def step(self, step: Step, now: UnixMillis, *, force: bool = False) -> None:
        """Take one step of the way. Raises `Conflict` where it does not follow."""
        async with self._changing:
            if step == "issuer":
                await self._rotate(self.active, now)
            elif step == "prepare":
                await self._prepare(now)
            elif step == "activate":
                await self._activate(now, force)
            elif step == "retire":
                await self._retire(now, force)
            else:
                await self._abandon()

    async def renew(self, now: UnixMillis) -> None:
        """A new certificate for the active root's key; leaves and issuers under the old one go on verifying. Raises `Conflict`."""
        async with self._changing:
            root = self.active
            if root.state.upstream:
                raise Conflict("a CA above ours signs it", remedy="ask for another certificate: `vouchgate admin ca-request`")
            made = await self._off(make_ca, self._trust_domain, root.key, now=now, days=ROOT_DAYS)
            await self._off(self._keys.put_certificate, root_name(root.state.number), made)
            await self._set(Root(root.state, root.key, (made,)))

    async def request(self, now: UnixMillis) -> bytes:
        """DER of a request to a CA above ours. Asking again gives another request for the same key."""
        async with self._changing:
            root = self._with("requested")
            if root is None:
                number = self._next_root()
                key = await self._off(self._keys.ec, root_name(number), make=True)
                root = Root(RootState(number=number, status="requested", since=now, upstream=True), key, ())
                await self._set(root)
            return make_request(self._trust_domain, root.key)

    async def install(self, chain: Sequence[bytes], fingerprint: str, now: UnixMillis) -> tuple[str, ...]:
        """Take in what the CA above ours made of the request; it stands as prepared. Gives warnings. Raises `InvalidInput`, `Unverified`."""
        async with self._changing:
            root = self._with("requested")
            if root is None:
                raise NotFound("no certificate was asked for", remedy="run `vouchgate admin ca-request` first")
            checked = check_upstream(
                chain, spki=spki_of(root.key.public_key()), trust_domain=self._trust_domain, root_fingerprint=fingerprint, now=now
            )
            ours, *above = checked.chain
            for place, one in enumerate(above, 1):
                await self._off(self._keys.put_certificate, above_name(root.state.number, place), one)
            await self._off(self._keys.put_certificate, root_name(root.state.number), ours)
            state = RootState(number=root.state.number, status="prepared", since=now, upstream=True, above=len(above))
            await self._set(Root(state, root.key, checked.chain))
            return checked.warnings

    async def _prepare(self, now: UnixMillis) -> None:
        if self._with("prepared") is not None:
            raise Conflict("a root is prepared already", remedy="activate it, or abandon it: `vouchgate admin ca-rotate abandon`")
        number = self._next_root()
        key = await self._off(self._keys.ec, root_name(number), make=True)
        made = await self._off(make_ca, self._trust_domain, key, now=now, days=ROOT_DAYS)
        await self._off(self._keys.put_certificate, root_name(number), made)
        await self._set(Root(RootState(number=number, status="prepared", since=now), key, (made,)))

    async def _activate(self, now: UnixMillis, force: bool) -> None:
        root = self._with("prepared")
        if root is None:
            raise Conflict("no root is prepared", remedy="prepare one: `vouchgate admin ca-rotate prepare`, or ca-request and ca-install")
        if now - root.state.since < SPREAD_MS and not force:
            left = (SPREAD_MS - now + root.state.since) // 1000 + 1
            raise Conflict(f"the bundle with the new root may not be everywhere yet: {left} s", remedy="wait, or say --force")
        if self._with("retiring") is not None:
            raise Conflict("an older root is not retired yet", remedy="retire it first: `vouchgate admin ca-rotate retire`")
        if root.certificate.not_valid_after_utc <= instant(UnixMillis(now + LEAVES_MS)):
            raise Conflict("the prepared root expires within a day", remedy="abandon it, and prepare or ask for another")
        if not self._signs_itself(root):
            await self._rotate(root, now)
        retiring = replace(self.active, state=_moved(self.active.state, "retiring", now))
        await self._set(retiring, replace(root, state=_moved(root.state, "active", now)))

    async def _retire(self, now: UnixMillis, force: bool) -> None:
        root = self._with("retiring")
        if root is None:
            raise Conflict("no root is retiring", remedy="see `vouchgate admin ca`")
        if now - root.state.since < LEAVES_MS and not force:
            left = (LEAVES_MS - now + root.state.since) // 60_000 + 1
            raise Conflict(
                f"certificates under the old root may live for {left} more minutes",
                remedy="wait, or say --force if its key was stolen: whoever holds one is out until it has another",
            )
        gone = [one for one in self._issuers if one.root == root.state.number]
        self._issuers = [one for one in self._issuers if one.root != root.state.number]
        await self._drop(root)
        for one in gone:
            await self._off(self._keys.remove, issuer_name(one.number))

    async def _abandon(self) -> None:
        root = self._with("prepared") or self._with("requested")
        if root is None:
            raise Conflict("no root is requested or prepared", remedy="see `vouchgate admin ca`")
        await self._drop(root)

    async def _drop(self, root: Root) -> None:
        await self._commit({number: one for number, one in self._roots.items() if number != root.state.number}, self._issuers)
        if root.state.number != FIRST:
            for name in (root_name(root.state.number), *(above_name(root.state.number, 1 + place) for place in range(root.state.above))):
                await self._off(self._keys.remove, name)

    async def _set(self, *changed: Root) -> None:
        await self._commit(self._roots | {root.state.number: root for root in changed}, self._issuers)

    async def _commit(self, roots: dict[int, Root], issuers: list[Issuer]) -> None:
        """Durable first; nobody acts on what is not."""
        await self._remember(CaState(roots=tuple(root.state for root in roots.values()), issuers=tuple(one.number for one in issuers)))
        self._roots, self._issuers = roots, issuers

    @staticmethod
    async def _off(work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Files and tokens are slow: off the event loop."""
        return await asyncio.to_thread(work, *arguments, **named)

    # -- issuers

    def _current(self, now: UnixMillis) -> Issuer | None:
        root = self.active
        if self._signs_itself(root):
            return Issuer(0, root.state.number, root.key, root.certificate, root.chain if root.state.upstream else ())
        live = [one for one in self._issuers if one.root == root.state.number and now < min(one.ends, root.ends)]
        return live[-1] if live else None

    async def _rotate(self, root: Root, now: UnixMillis) -> Issuer:
        if self._signs_itself(root):
            raise Conflict("the CA signs leaves itself: it has no issuers to rotate", remedy=self.notice or "see `vouchgate admin ca`")
        outlived = self._outlived(now)
        kept = [one for one in self._issuers if one not in outlived]
        if len(kept) >= MAX_ISSUERS:
            raise LimitExceeded(f"{MAX_ISSUERS} issuers have live certificates", remedy="wait until the oldest of them have expired")
        number = self._next_issuer()
        key = await self._off(self._keys.ec, issuer_name(number), make=True)
        made = await self._off(
            make_issuer, self._trust_domain, key, root=root.certificate, root_key=root.key, now=now, seconds=self._issuer_seconds
        )
        await self._off(self._keys.put_certificate, issuer_name(number), made)
        issuer = Issuer(number, root.state.number, key, x509.load_der_x509_certificate(made), (made,))
        await self._commit(self._roots, [*kept, issuer])
        for one in outlived:
            with contextlib.suppress(VouchgateError):
                await self._off(self._keys.remove, issuer_name(one.number))
        return issuer

    def _next_issuer(self) -> int:
        return max((one.number for one in self._issuers), default=0) + 1

    def _outlived(self, now: UnixMillis) -> list[Issuer]:
        """Rule 2: an issuer signed its last leaf when the next one under its root was made."""
        found: list[Issuer] = []
        for one in self._issuers:
            later = [other.begins + BACKDATE_MS for other in self._issuers if other.root == one.root and other.number > one.number]
            if now > min(min(later, default=now) + LEAVES_MS, one.ends):
                found.append(one)
        return found

    @staticmethod
    def _signs_itself(root: Root) -> bool:
        return root.state.upstream or path_length_of(root.certificate) == 0

    # -- loading

    def _load_root(self, state: RootState) -> Root:
        name = root_name(state.number)
        if state.status == "requested":
            return Root(state, self._keys.ec(name), ())
        chain = (
            self._keys.certificate(name),
            *(self._keys.certificate(above_name(state.number, 1 + place)) for place in range(state.above)),
        )
        root = Root(state, self._keys.ec(name), chain)
        if load_ca(chain[0], self._trust_domain).public_key() != root.key.public_key():
            raise StoreDamaged(f"the certificate of `{name}` is for another key", remedy="restore the signer's folder from its backup")
        return root

    def _load_issuer(self, number: int) -> Issuer | None:
        """What fits whole: a key, its certificate, and a root that signed it. Another issuer is made in the place of one that does not."""
        name = issuer_name(number)
        if not self._keys.has(name) or not self._keys.has_certificate(name):
            return None
        made, key = self._keys.certificate(name), self._keys.ec(name)
        certificate = load_ca(made, self._trust_domain)
        for root in self._roots.values():
            if root.chain and root.certificate.subject == certificate.issuer and certificate.public_key() == key.public_key():
                certificate.verify_directly_issued_by(root.certificate)
                return Issuer(number, root.state.number, key, certificate, (made,))
        return None

    def _with(self, status: RootStatus) -> Root | None:
        return next((root for root in self._roots.values() if root.state.status == status), None)

    def _next_root(self) -> int:
        if len(self._roots) >= MAX_ROOTS:
            raise LimitExceeded(f"there are {MAX_ROOTS} roots already", remedy="retire or abandon one: `vouchgate admin ca-rotate`")
        return max(self._roots) + 1


def _moved(state: RootState, status: RootStatus, now: UnixMillis) -> RootState:
    return RootState(number=state.number, status=status, since=now, upstream=state.upstream)


def _told(root: Root) -> dict[str, Any]:
    said: dict[str, Any] = {
        "number": root.state.number,
        "status": root.state.status,
        "since": root.state.since,
        "upstream": root.state.upstream,
        "key_id": key_id(spki_of(root.key.public_key())),
        "fingerprint": hashlib.sha256(root.chain[0]).hexdigest() if root.chain else "",
        "not_after": int(root.certificate.not_valid_after_utc.timestamp()) * 1000 if root.chain else 0,
    }
    return said


def next_update(now: UnixMillis) -> UnixMillis:
    """When a revocation list that is made now is due again."""
    return UnixMillis(now + NEXT_UPDATE_SECONDS * 1000)
