"""A token bucket for each caller: one busy caller does not starve the others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from vouchgate.vocabulary.errors import LimitExceeded

MAX_BUCKETS = 4096
"""Callers remembered at once; the one unseen for longest is forgotten first, and starts again with a full bucket."""
BURST_SECONDS = 2.0
"""A caller may save up this many seconds of its rate: a page load asks for several things at once."""


class Rates:
    """`take` one token or raise; `monotonic` gives seconds."""

    def __init__(self, per_second: float, monotonic: Callable[[], float], *, burst: float = 0.0) -> None:
        self._rate, self._monotonic = per_second, monotonic
        self._burst = burst or max(1.0, per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> None:
        """Raises `LimitExceeded` when the bucket of `who` is empty."""
        now = self._monotonic()
        tokens, at = self._buckets.pop(who, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        enough = tokens >= 1.0
        self._buckets[who] = (tokens - 1.0 if enough else tokens, now)
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not enough:
            raise LimitExceeded("too many requests", remedy="wait a second, then go on more slowly")
