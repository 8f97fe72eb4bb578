"""The clock: wall time that never runs below the last cosigned log time, nor faster than monotonic time plus `MAX_LEAD_MS`.

Rules
1. `now()` is wall time, but never less than what it returned before, nor less than `floor`.
2. If wall time has gained more than `MAX_LEAD_MS` on monotonic time since the start (or the last `accept`), the clock is frozen: `now()`
   goes on by monotonic time, `trouble` says so, and issuing and renewing stop until a person accepts the new time.
3. A step back is only slept through: `now()` goes on by monotonic time, and `trouble` names the step if it is over the bound.
4. Where wall time lies behind what was used before, `now()` stands still until that is reached; while more than the bound is missing,
   `trouble` says so, until a person accepts that too.
The steady clock counts sleep (clock_gettime(2), CLOCK_BOOTTIME): a machine that was suspended did not have its clock moved.
"""

from __future__ import annotations

import time

from vouchgate.vocabulary.vouches import UnixMillis

MAX_LEAD_MS = 2_000
"""Milliseconds that wall time may gain on monotonic time before a person is asked; NTP slews stay far below."""


class Clock:
    """The one source of time. Not shared between processes: each builds its own with the floor it knows."""

    def __init__(self, floor: UnixMillis = UnixMillis(0), *, wall: object = None, monotonic: object = None) -> None:
        self._wall = wall or time.time_ns
        self._monotonic = monotonic or _steady_ns
        self._floor = int(floor)
        self._anchor_wall = self._wall() // 1_000_000  # type: ignore[operator]
        self._anchor_mono = self._monotonic() // 1_000_000  # type: ignore[operator]
        self._last = max(self._anchor_wall, self._floor)
        self._accepted = 0
        """Time that may stand still: it was used before wall time was set back, and a person knows."""
        self.trouble = ""
        self.now()

    def now(self) -> UnixMillis:
        """Milliseconds since the epoch, by the rules above."""
        wall = self._wall() // 1_000_000  # type: ignore[operator]
        steady = self._anchor_wall + self._monotonic() // 1_000_000 - self._anchor_mono  # type: ignore[operator]
        if abs(wall - steady) > MAX_LEAD_MS:
            self.trouble = f"the machine's clock moved by {wall - steady} ms against the steady clock"
            wall = steady
        elif wall + MAX_LEAD_MS < max(self._last, self._floor) > self._accepted:
            self.trouble = f"the machine's clock is {max(self._last, self._floor) - wall} ms behind time that was used before"
        else:
            self.trouble = ""
        self._last = max(self._last, wall, self._floor)
        return UnixMillis(self._last)

    def raise_floor(self, floor: UnixMillis) -> None:
        """A newer cosigned log time is known."""
        self._floor = max(self._floor, int(floor))

    def accept(self) -> None:
        """A person says that the machine's clock is right now."""
        self._anchor_wall = self._wall() // 1_000_000  # type: ignore[operator]
        self._anchor_mono = self._monotonic() // 1_000_000  # type: ignore[operator]
        self._accepted = max(self._last, self._floor)
        self.now()


def _steady_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
