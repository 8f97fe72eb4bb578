"""Live streams: each wakes when the control plane says that something may be another for it, and at half of its credential's life.

1. What woke it: `check` (ask again; the same answer sends nothing), `rotate` (a new credential), `state` (bundles or lists are others).
2. A whole installation's worth of checks or rotations is spread over time where it need not be now, so that a restart is no storm.
3. A credential is renewed between 45% and 50% of its life, each at its own moment; one that cannot be renewed is tried again, each time a
   little later, while the old one lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterable, Iterator

from vouchgate.edges.spiffe.serving import Caller

RENEW_AT, RENEW_EARLIER = 0.5, 0.05
"""Share of a life after which it is renewed, and by how much earlier at most."""
RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS = 0.5, 30.0
"""Pauses after a renewal that did not come, doubled each time, each cut by a random half."""
SPREAD_PER_SECOND = 500
"""Streams that are woken a second where all are to check after a restart of the control plane."""


class Live:
    """One live stream."""

    __slots__ = ("_wake", "caller", "failed", "reasons", "retries")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.reasons: set[str] = set()
        self.failed: set[str] = set()
        """What could not be answered, and is asked again."""
        self.retries = 0
        self._wake = asyncio.Event()

    def wake(self, reason: str, after: float = 0.0) -> None:
        """Something may be another."""
        if after:
            asyncio.get_running_loop().call_later(after, self.wake, reason)
            return
        self.reasons.add(reason)
        self._wake.set()

    async def next(self, renew_at: float | None) -> set[str]:
        """Wait; what woke it. `renew_at` is in monotonic seconds; None for a stream that holds no credential."""
        timeout = None if renew_at is None else max(0.0, renew_at - time.monotonic())
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            self.reasons |= self.failed or {"rotate"}
        self._wake.clear()
        reasons, self.reasons, self.failed = self.reasons | self.failed, set(), set()
        return reasons

    def later(self, reasons: set[str]) -> float:
        """When to try this again, in monotonic seconds."""
        self.failed = reasons
        pause = min(RETRY_MOST_SECONDS, RETRY_FIRST_SECONDS * float(1 << self.retries))
        self.retries = min(self.retries + 1, 16)
        return time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load, no secret


class Streams:
    """All live streams of the agent, by connection."""

    def __init__(self) -> None:
        self._live: dict[str, set[Live]] = {}

    def __len__(self) -> int:
        return sum(len(found) for found in self._live.values())

    @contextlib.contextmanager
    def open(self, caller: Caller) -> Iterator[Live]:
        """A stream for as long as it lasts."""
        live = Live(caller)
        self._live.setdefault(caller.name, set()).add(live)
        try:
            yield live
        finally:
            there = self._live.get(caller.name, set())
            there.discard(live)
            if not there:
                self._live.pop(caller.name, None)

    def wake(self, reason: str, connections: Iterable[str]) -> None:
        """These connections' streams, now."""
        for name in connections:
            for live in self._live.get(name, ()):
                live.wake(reason)

    def wake_all(self, reason: str, *, spread: bool) -> None:
        """Every stream; with `spread`, over as many seconds as there are `SPREAD_PER_SECOND` of them."""
        everybody = [live for found in self._live.values() for live in found]
        seconds = len(everybody) / SPREAD_PER_SECOND if spread and len(everybody) > SPREAD_PER_SECOND else 0.0
        for live in everybody:
            live.wake(reason, random.uniform(0.0, seconds) if seconds else 0.0)  # noqa: S311 - spreading load, no secret


def renew_at(lives_ms: int) -> float:
    """When a credential that lives so long is renewed, in monotonic seconds (rule 3)."""
    share = RENEW_AT - random.uniform(0.0, RENEW_EARLIER)  # noqa: S311 - spreading load, no secret
    return time.monotonic() + lives_ms / 1000 * share
