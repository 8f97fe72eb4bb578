"""Live connections of workloads, found by name, by principal and by selector, so that a change of one registration does not walk over all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Selector

K = TypeVar("K")
MAX_CONNECTIONS = 16_384
"""Connections remembered; four times what the agent accepts. The least recently seen is forgotten, and looked at anew when it asks."""


@dataclass(slots=True)
class Attached:
    """A live connection of a workload."""

    pid: int
    uid: int
    selectors: frozenset[Selector]
    refused: Denied | None
    """Why its facts establish nothing."""
    looked_at: float
    principal: str = ""
    serial: str = ""
    """Of the newest certificate that went over it."""


class Connections:
    """See the module's text."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, Attached] = OrderedDict()
        self._by_principal: dict[str, set[str]] = {}
        self._by_selector: dict[Selector, set[str]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def get(self, name: str) -> Attached | None:
        """The connection of that name."""
        return self._all.get(name)

    def put(self, name: str, made: Attached) -> None:
        """A connection that was looked at; what it held before is kept."""
        before = self._all.get(name)
        if before is not None:
            made.serial = before.serial
            principal = before.principal
            self.drop(name)
        else:
            principal = ""
        self._all[name] = made
        for one in made.selectors:
            self._by_selector.setdefault(one, set()).add(name)
        self.earned(name, principal)
        while len(self._all) > MAX_CONNECTIONS:
            self.drop(next(iter(self._all)))

    def earned(self, name: str, principal: str) -> None:
        """Whose connection it is; empty for nobody's."""
        seen = self._all[name]
        if seen.principal != principal:
            _less(self._by_principal, seen.principal, name)
            seen.principal = principal
            if principal:
                self._by_principal.setdefault(principal, set()).add(name)

    def drop(self, name: str) -> None:
        """It is gone."""
        seen = self._all.pop(name, None)
        if seen is not None:
            _less(self._by_principal, seen.principal, name)
            for one in seen.selectors:
                _less(self._by_selector, one, name)

    def clear(self) -> None:
        """Forget all."""
        for name in list(self._all):
            self.drop(name)

    def of(self, principals: Iterable[str]) -> set[str]:
        """Connections of these principals."""
        return {name for principal in principals for name in self._by_principal.get(principal, ())}

    def holding(self, selectors: Collection[Selector]) -> set[str]:
        """Connections for which all of these selectors hold; none for no selectors."""
        found = sorted((self._by_selector.get(one, set()) for one in selectors), key=len)
        return set.intersection(*found) if found else set()

    def with_serial(self, serials: Collection[str]) -> set[str]:
        """Connections whose newest certificate has one of these serial numbers."""
        return {name for name, one in self._all.items() if one.serial in serials}


def _less(index: dict[K, set[str]], key: K, name: str) -> None:
    there = index.get(key)
    if there is not None:
        there.discard(name)
        if not there:
            del index[key]
