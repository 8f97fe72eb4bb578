"""Which registrations a workload of this machine can earn, kept in step with the facts.

1. A person logs in, a system process is vouchgate's own, a declared caller only claims: none of them is earned by what a process is.
2. What a change may alter for live connections errs on the side of too many.
"""

from __future__ import annotations

from collections.abc import Iterable

from vouchgate.flows.changes import Change, RegistrationPut, RegistrationRemoved
from vouchgate.flows.facts import Facts
from vouchgate.flows.workload_connections import Connections
from vouchgate.identity.catalog import RegistrationIndex
from vouchgate.vocabulary.names import principal_parts
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration, Selector
from vouchgate.vocabulary.vouches import UnixMillis

NOT_EARNED_KINDS = frozenset({"person", "system", "declared"})
"""Rule 1: an administrator's uid would otherwise give every script of theirs their name."""


class Candidates:
    """See the module's text."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._index = RegistrationIndex()
        self.ends: dict[str, UnixMillis] = {}
        """Principal -> when its registration ends by itself."""
        self.of_endpoint: dict[str, set[str]] = {}
        """Endpoint id -> principals that answer for it."""
        self.load()

    def load(self) -> None:
        """Take in every registration there is, after a replay."""
        self._index, self.ends, self.of_endpoint = RegistrationIndex(), {}, {}
        for one in self._facts.registrations.values():
            self._add(one)

    def take(self, change: Change) -> None:
        """Follow a change that the facts have applied."""
        if isinstance(change, RegistrationPut):
            self._add(change.registration)
        elif isinstance(change, RegistrationRemoved):
            self._forget(change.principal)

    def match(self, selectors: Iterable[Selector], now: UnixMillis) -> Registration | Denied:
        """The registration that the selectors earn."""
        return self._index.match(selectors, now)

    def reached(self, change: Change, live: Connections) -> set[str]:
        """Live connections whose identity a change of registrations may alter."""
        if isinstance(change, RegistrationRemoved):
            return live.of([change.principal])
        if not isinstance(change, RegistrationPut):
            return set()
        made = change.registration
        return live.of([made.principal]) | (live.holding(frozenset(made.selectors)) if is_earnable(made) else set())

    def ended(self, now: UnixMillis) -> list[str]:
        """Principals whose registrations have ended since this was asked."""
        gone = [principal for principal, at in self.ends.items() if at <= now]
        for principal in gone:
            del self.ends[principal]
        return gone

    def _add(self, made: Registration) -> None:
        self._forget(made.principal)
        if not is_earnable(made):
            return
        self._index.add(made)
        if made.expires_at:
            self.ends[made.principal] = made.expires_at
        if made.endpoint:
            self.of_endpoint.setdefault(made.endpoint, set()).add(made.principal)

    def _forget(self, principal: str) -> None:
        self._index.remove(principal)
        self.ends.pop(principal, None)
        for principals in self.of_endpoint.values():
            principals.discard(principal)


def is_earnable(made: Registration) -> bool:
    """Rule 1."""
    return bool(made.selectors) and principal_parts(made.principal).kind not in NOT_EARNED_KINDS
