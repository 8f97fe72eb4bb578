"""Traffic as it was seen: counters for callers and endpoints, recent decisions, and what enforcing would refuse.

Bounded: `MAX_COUNTED` callers and cells, `RECENT` lines; beyond it the least recently seen are forgotten, the log keeps all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.errors import LimitExceeded
from vouchgate.vocabulary.vouches import UnixMillis

MAX_COUNTED = 10_000
"""Callers, endpoints and cells with counters of their own."""
RECENT = 2_000
"""Decision lines at hand for the console; older ones are read from the log."""
MAX_WATCHERS = 64
"""Live streams at once."""
MAX_BEHIND = 500
"""Lines that a slow watcher may lag; then it loses the oldest."""


K = TypeVar("K")


@dataclass
class Count:
    """What was seen of one caller, endpoint or cell."""

    allowed: int = 0
    denied: int = 0
    would_deny: int = 0
    last_at: UnixMillis = UnixMillis(0)
    authenticated: bool = False
    reason: str = ""
    remedy: str = ""

    def add(self, line: DecisionLine) -> None:
        """Count one line."""
        if line.effect == "deny":
            self.denied += 1
        else:
            self.allowed += 1
            self.would_deny += line.would_be == "deny"
        self.last_at = max(self.last_at, line.at)
        self.authenticated = line.authenticated
        if line.would_be == "deny":
            self.reason, self.remedy = line.reason, line.remedy


class Traffic:
    """See the module's text."""

    def __init__(self) -> None:
        self.total = Count()
        self.callers: OrderedDict[str, Count] = OrderedDict()
        self.endpoints: OrderedDict[str, Count] = OrderedDict()
        self.cells: OrderedDict[tuple[str, str, str], Count] = OrderedDict()
        self.recent: deque[DecisionLine] = deque(maxlen=RECENT)
        self._watchers: set[asyncio.Queue[DecisionLine]] = set()

    def add(self, line: DecisionLine) -> None:
        """One call as it was answered."""
        self.total.add(line)
        _counted(self.callers, line.principal or "-").add(line)
        _counted(self.endpoints, line.resource).add(line)
        _counted(self.cells, (line.principal or "-", line.action, line.resource)).add(line)
        self.recent.append(line)
        for watcher in self._watchers:
            if watcher.full():
                watcher.get_nowait()
            watcher.put_nowait(line)

    async def watch(self) -> AsyncIterator[DecisionLine]:
        """Lines as they come. Raises `LimitExceeded`."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise LimitExceeded(f"{MAX_WATCHERS} streams of decisions are open", remedy="close one of them")
        queue: asyncio.Queue[DecisionLine] = asyncio.Queue(MAX_BEHIND)
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)


def _counted(table: OrderedDict[K, Count], key: K) -> Count:
    count = table.get(key)
    if count is None:
        count = table[key] = Count()
        if len(table) > MAX_COUNTED:
            table.popitem(last=False)
    else:
        table.move_to_end(key)
    return count
