"""Answers that were worked out before, kept for as long as everything that they rest on is the same.

    answers.of(request, world, unknown, make) -> what `make()` returned for an equal question

Rules
1. An answer is kept for one world at one revision (`World.revision` rises with every change, so a lapsed vouch is one too).
2. The question is the cell, what is unknown, which obligations the asker carries out, and each fact of the request that some policy of the set reads; another fact changes no answer.
   Where a policy reads the whole context, every fact counts.
3. What is kept must be a function of the question alone: no credential, no clock, no mode.
4. At most `MAX_ANSWERS`; then all are forgotten at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from vouchgate.policy.values import Uid
from vouchgate.policy.world import World

MAX_ANSWERS = 16_384
"""Answers that are kept: about 2 KB each, so 32 MB where as many cells are asked about; with more the working set is made anew."""
ABSENT = object()
"""Stands for a fact that was not given; no fact equals it."""

Made = TypeVar("Made")


class Asked(Protocol):
    """One question (`compile.Request`)."""

    @property
    def principal(self) -> Uid: ...
    @property
    def action(self) -> Uid: ...
    @property
    def resource(self) -> Uid: ...
    @property
    def context(self) -> Mapping[str, Any]: ...


class Answers(Generic[Made]):
    """See the module's text. Belongs to one set of policies and one thread."""

    def __init__(self, reads: frozenset[str] | None) -> None:
        self._reads = None if reads is None else tuple(sorted(reads))
        """Facts that some policy reads; None for all."""
        self._world: World | None = None
        self._revision = -1
        self._kept: dict[Any, Made] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self) -> None:
        """Keep nothing of what was asked so far."""
        self._kept.clear()

    def of(
        self, request: Asked, world: World, unknown: frozenset[str], make: Callable[[], Made], carries: frozenset[str] = frozenset()
    ) -> Made:
        """The kept answer, or a new one (rules 1 to 4)."""
        if world is not self._world or world.revision != self._revision:
            self._kept.clear()
            self._world, self._revision = world, world.revision
        context = request.context
        read = tuple(sorted(context.items())) if self._reads is None else tuple([context.get(name, ABSENT) for name in self._reads])
        question = (request.principal, request.action, request.resource, unknown, carries, read)
        found = self._kept.get(question)
        if found is None:
            if len(self._kept) >= MAX_ANSWERS:
                self._kept.clear()
            found = self._kept[question] = make()
        return found
