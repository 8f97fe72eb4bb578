"""Asked: which names a scan looked up in the knowledge base, and what it was told; so that a person can see what let each of them in.

Rules
1. A name is kept once, in the order of the first question; the first `MAX_NAMES`.
2. The answer is the knowledge base's own, untouched: looking on changes no verdict.
"""

from __future__ import annotations

from vouchgate.scanning.knowledge.entries import Entry, Knowledge
from vouchgate.vocabulary.wire import Noun

MAX_NAMES = 1_000
"""Names kept of one artifact; a forest pickled with its pipeline has about 40."""


class AskedName(Noun, frozen=True, kw_only=True):
    """One name and what is known of it; no entry is no use at all."""

    module: str
    name: str
    entry: Entry | None = None


class Asked:
    """A knowledge base that remembers what it was asked."""

    def __init__(self, base: Knowledge) -> None:
        self._base = base
        self._names: dict[tuple[str, str], AskedName] = {}
        self.version, self.digest, self.fault = base.version, base.digest, base.fault

    def find(self, module: str, name: str) -> Entry | None:
        """What the base says."""
        entry = self._base.find(module, name)
        if len(self._names) < MAX_NAMES and (module, name) not in self._names:
            self._names[module, name] = AskedName(module=module, name=name, entry=entry)
        return entry

    @property
    def names(self) -> tuple[AskedName, ...]:
        """Rule 1."""
        return tuple(self._names.values())
