"""When cells are to be decided again because time passes: at the end of what they rest on, and once before it.

Rule: a decision is looked at again `AHEAD_MS` before its end, so that what is only to be renewed never leaves the map; a look that brought no
later end is followed by one at the end itself.
"""

from __future__ import annotations

import heapq

from vouchgate.flows.facts_cells import Cell
from vouchgate.flows.seats import StandingDecisions
from vouchgate.vocabulary.vouches import UnixMillis

AHEAD_MS = 300_000
"""Milliseconds before its end at which a cell is decided again, or a quarter of its life if that is less."""
IDLE_SECONDS = 1.0
"""What is said of the next look where there is none."""
SPARE = 512
"""Looks that were overtaken, beside as many as there are cells, before they are thrown out."""


class Lapses:
    """See the module's text."""

    def __init__(self, kept: StandingDecisions) -> None:
        self._kept = kept
        self._looks: list[tuple[int, Cell]] = []

    def plan(self, cell: Cell, now: UnixMillis) -> None:
        """The cell was decided: when to look at it again."""
        kept = self._kept.of(cell)
        for one in kept:
            ahead = one.not_after - min(AHEAD_MS, (one.not_after - now) // 4)
            one.look_at = ahead if one.not_after != one.looked_for else one.not_after
            one.looked_for = one.not_after
        if kept:
            heapq.heappush(self._looks, (min(one.look_at for one in kept), cell))
        if len(self._looks) > 2 * len(self._kept) + SPARE:
            self._looks = [(min(one.look_at for one in made), cell) for cell, made in self._kept.items() if made]
            heapq.heapify(self._looks)

    def due(self, now: UnixMillis) -> list[Cell]:
        """Cells to look at now."""
        found = []
        while self._looks and self._looks[0][0] <= now:
            _, cell = heapq.heappop(self._looks)
            if any(one.look_at <= now for one in self._kept.of(cell)):
                found.append(cell)
        return found

    def seconds(self, now: UnixMillis) -> float:
        """Until the next look."""
        return (self._looks[0][0] - now) / 1000 if self._looks else IDLE_SECONDS
