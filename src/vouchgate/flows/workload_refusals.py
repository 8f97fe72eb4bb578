"""Refusals of workloads, for the log: the first of its kind at once, repeated ones counted and written together.

A workload that is not registered asks again and again, and one entry for each would let it fill the disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from vouchgate.vocabulary.wire import Noun

AGAIN_SECONDS = 60.0
"""Seconds after which a repeated refusal is written again, with how often it happened."""
MAX_KINDS = 4_096
"""Uid and code, remembered; beyond it the oldest is forgotten and would be written anew."""


class Refusal(Noun, frozen=True, kw_only=True):
    """One request that was refused."""

    uid: int
    pid: int
    code: str
    reason: str


class Refusals:
    """See the module's text. `steady` gives monotonic seconds."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._kinds: OrderedDict[tuple[int, str], tuple[Refusal, int, float]] = OrderedDict()
        """Uid and code -> newest, how often since it was written, when it was written."""
        self._due: dict[tuple[int, str], None] = {}
        self.total = 0

    def note(self, refusal: Refusal) -> bool:
        """Remember one; whether something is to be written now."""
        self.total += 1
        kind, now = (refusal.uid, refusal.code), self._steady()
        _, times, written = self._kinds.pop(kind, (refusal, 0, -AGAIN_SECONDS))
        self._kinds[kind] = (refusal, times + 1, written)
        if len(self._kinds) > MAX_KINDS:
            forgotten, _ = self._kinds.popitem(last=False)
            self._due.pop(forgotten, None)
        if now - written < AGAIN_SECONDS or kind in self._due:
            return False
        self._due[kind] = None
        return True

    def take(self) -> list[tuple[Refusal, int]]:
        """What is to be written, each with how often it happened."""
        now, found = self._steady(), []
        for kind in self._due:
            refusal, times, _ = self._kinds[kind]
            self._kinds[kind] = (refusal, 0, now)
            found.append((refusal, times))
        self._due.clear()
        return found

    def overdue(self) -> bool:
        """Whether repeated refusals wait that nobody would write otherwise; they are then due."""
        now = self._steady()
        late = [kind for kind, (_, times, written) in self._kinds.items() if times and now - written >= AGAIN_SECONDS]
        self._due.update(dict.fromkeys(late))
        return bool(self._due)
