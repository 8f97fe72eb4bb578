"""Live credentials that die with something else: with a run, or with the credential they were derived from.

Rules
1. Only a credential that names a run or a parent is kept; every other one is revoked by its own id, its principal or its registration.
2. Kept until it expires, and no longer: what has expired is refused by everyone who reads it.
3. A restart reads back the live ones alone: records carry the hour in which they expire as an index (`hour_of`).
4. Over `MAX_BOUND` nothing that is bound is issued: a revocation that could not strike what it names would be no revocation.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from vouchgate.flows.changes import CredentialIssued, decode_record
from vouchgate.vocabulary.errors import LimitExceeded
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

MAX_BOUND = 100_000
"""Live credentials that are bound to a run or a parent; about 60 MB."""
MAX_LIFE_HOURS = 25
"""No credential lives longer than a day (identity/x509svid.py); an hour for clocks that differ."""
HOUR_MS = 3_600_000
BOUND_INDEX = "bound-until"
"""Index of the records of bound credentials: `hour_of` its end."""
ENDS_INDEX = "ends"
"""Index of the records of all credentials: `hour_of` its end."""
PAGE = 1_000
"""Records read at once."""


def is_bound(change: CredentialIssued) -> bool:
    """Whether it dies with something else."""
    return bool(change.run or change.parents)


def hour_of(at: UnixMillis) -> str:
    """The hour of a time, as an index."""
    return str(at // HOUR_MS)


class Credentials:
    """See the module's text."""

    def __init__(self) -> None:
        self._bound: dict[str, CredentialIssued] = {}
        self._by_run: dict[str, set[str]] = {}
        self._by_parent: dict[str, set[str]] = {}
        self._ends: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._bound)

    def check(self, change: CredentialIssued) -> None:
        """Rule 4. Raises `LimitExceeded`."""
        if is_bound(change) and len(self._bound) >= MAX_BOUND:
            raise LimitExceeded(
                f"{MAX_BOUND} credentials that are bound to runs are alive", remedy="end runs that are over, or issue shorter lives"
            )

    def add(self, change: CredentialIssued, now: UnixMillis) -> None:
        """One that was handed out."""
        self.advance(now)
        if not is_bound(change) or change.not_after <= now or change.id in self._bound:
            return
        self._bound[change.id] = change
        heapq.heappush(self._ends, (change.not_after, change.id))
        if change.run:
            self._by_run.setdefault(change.run, set()).add(change.id)
        for parent in change.parents:
            self._by_parent.setdefault(parent, set()).add(change.id)

    def advance(self, now: UnixMillis) -> None:
        """Forget what has expired."""
        while self._ends and self._ends[0][0] <= now:
            gone = self._bound.pop(heapq.heappop(self._ends)[1])
            _discard(self._by_run, gone.run, gone.id)
            for parent in gone.parents:
                _discard(self._by_parent, parent, gone.id)

    def parents(self) -> list[str]:
        """What live credentials were derived from."""
        return list(self._by_parent)

    def runs(self) -> list[str]:
        """Runs that live credentials are bound to."""
        return list(self._by_run)

    def struck(self, revocation: Revocation) -> frozenset[str]:
        """Ids of the live credentials that fall with a revoked run or credential, beside the one that it names."""
        match revocation.target_kind:
            case "run":
                found = set(self._by_run.get(revocation.target, ()))
            case "credential":
                found = set(self._by_parent.get(revocation.target, ()))
            case _:
                return frozenset()
        pending = list(found)
        while pending:
            fresh = self._by_parent.get(pending.pop(), set()) - found
            found |= fresh
            pending += fresh
        return frozenset(found - {revocation.target})

    def grounds(self, credential_id: str, run: str = "", parents: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
        """(kind, target) of every revocation that would strike a credential, what it says of itself included."""
        seen: set[str] = set()
        pending = [name for name in (credential_id, *parents) if name]
        if run:
            yield "run", run
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            yield "credential", name
            known = self._bound.get(name)
            if known is not None:
                if known.run:
                    yield "run", known.run
                pending += known.parents


class Standing:
    """What stands against callers and credentials; the part of `Facts` that only reads. `Facts` fills what is named here."""

    revocations: dict[str, Revocation]
    credentials: Credentials
    _standing: dict[tuple[str, str], dict[str, Revocation]]
    _now: UnixMillis

    def standing_revocations(self) -> list[Revocation]:
        """Every revocation that was not withdrawn."""
        return [one for one in self.revocations.values() if not one.withdrawn_by]

    def revocation_of(self, principal: str, credential_id: str = "", *, run: str = "", parents: Sequence[str] = ()) -> Revocation | None:
        """A standing revocation of this caller, this credential, its run, or what it was derived from; of several the first, so that a
        restart names the same one."""
        if not self._standing:
            return None
        targets = [("principal", principal), ("registration", principal), *self.credentials.grounds(credential_id, run, parents)]
        for target in targets:
            standing = self._standing.get(target)
            if standing:
                return min(standing.values(), key=lambda one: (one.made_at, one.id))
        return None

    def struck_credentials(self, revocation: Revocation) -> frozenset[str]:
        """Ids of the live credentials that fall with a revoked run or credential, beside the one that it names."""
        return self.credentials.struck(revocation)

    def told_revocations(self) -> list[Revocation]:
        """What enforcement points are given: all that stand, and for each credential struck by another's fall one of its own."""
        self.credentials.advance(self._now)
        standing = self.standing_revocations()
        # only what a live credential names can strike one: runs that ended long ago are not looked at, however many there were
        named = [*(("run", run) for run in self.credentials.runs()), *(("credential", parent) for parent in self.credentials.parents())]
        strikes = [by for target in named for by in self._standing.get(target, {}).values()]
        struck = [(by, one) for by in strikes for one in sorted(self.struck_credentials(by))]
        return standing + [
            msgspec.structs.replace(by, id=f"{by.id}.{one}", target_kind="credential", target=one, cascade="self") for by, one in struck
        ]


def _discard(index: dict[str, set[str]], name: str, one: str) -> None:
    index.get(name, set()).discard(one)
    if name in index and not index[name]:
        del index[name]


class Records(Protocol):
    """The store, as far as it is read here."""

    def scan(self, kind: str, *, index: str = "", equals: str = "", after: str = "", limit: int = 1_000) -> list[Any]:
        """A page of records."""


def live_credentials(store: Records, now: UnixMillis) -> Iterator[CredentialIssued]:
    """Rule 3."""
    for hour in range(now // HOUR_MS, now // HOUR_MS + MAX_LIFE_HOURS + 1):
        after = ""
        while True:
            page = store.scan("credential", index=BOUND_INDEX, equals=str(hour), after=after, limit=PAGE)
            for record in page:
                change = decode_record("credential", record.value)
                if isinstance(change, CredentialIssued) and change.not_after > now:
                    yield change
            if len(page) < PAGE:
                break
            after = page[-1].key
