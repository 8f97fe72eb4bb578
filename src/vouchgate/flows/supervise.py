"""Keep the process tree alive: start every unit, start again what ends, end all in order.

Rules
1. A unit that ends, or cannot be started (no such program, no memory, no room for its log), is started again after a pause that doubles from `FIRST_PAUSE` to `LONGEST_PAUSE`; it falls back after `STEADY` of life.
2. Stopping ends the units of the highest rank first, so that the gateway stops letting in before what decides and records stops; units
   of one rank end together.
3. Only children started here are signalled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from vouchgate.vocabulary.processes import Spec

FIRST_PAUSE = 0.1
"""Seconds before the first restart: a crash must not become a busy loop."""
LONGEST_PAUSE = 5.0
"""Seconds between restarts of a unit that keeps failing."""
STEADY = 10.0
"""Seconds of life after which a unit counts as healthy again."""
POLL = 0.05
"""Seconds between looks at the children; bounds how long an ended process stays unnoticed."""


class Child(Protocol):
    """A running child, as ports/processes.py gives it."""

    pid: int

    def ended(self) -> int | None:
        """Exit status, or None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def wait(self, seconds: float = ...) -> int:
        """Wait for its end; kill it after `seconds`."""


class Unit:
    """One process of the tree across its restarts."""

    def __init__(self, make: Callable[[], Spec], *, rank: int = 0, on_start: Callable[[int], None] | None = None) -> None:
        self._make = make
        self._on_start = on_start
        self.rank = rank
        self.child: Child | None = None
        self.started_at = 0.0
        self.restarts = 0
        self.last_exit: int | None = None
        self._pause = FIRST_PAUSE
        self._not_before = 0.0

    def tend(self, start: Callable[[Spec], Child], now: float) -> str:
        """Look once: start, note an end, or leave it. Returns what happened: `started`, `ended`, `not started`, or nothing."""
        if self.child is not None:
            status = self.child.ended()
            if status is None:
                if now - self.started_at > STEADY:
                    self._pause = FIRST_PAUSE
                return ""
            self.child, self.last_exit = None, status
            self._put_off(now)
            return "ended"
        if now < self._not_before:
            return ""
        try:
            self.child = start(self._make())
        except OSError as error:
            self.last_exit = error.errno
            self._put_off(now)
            return "not started"
        self.started_at = now
        if self._on_start:
            self._on_start(self.child.pid)
        return "started"

    def _put_off(self, now: float) -> None:
        self.restarts += 1
        self._not_before = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


class Supervisor:
    """The units by name, in starting order."""

    def __init__(self, start: Callable[[Spec], Child], tell: Callable[[str, str, int], None]) -> None:
        self._start = start
        self._tell = tell
        self.units: dict[str, Unit] = {}

    def add(self, name: str, unit: Unit) -> None:
        """Add a unit and start it at once."""
        self.units[name] = unit
        self._look(name, unit)

    async def run(self, stop: asyncio.Event) -> None:
        """Tend all units until `stop` is set, then end them."""
        while not stop.is_set():
            for name, unit in list(self.units.items()):
                self._look(name, unit)
            try:
                async with asyncio.timeout(POLL):
                    await stop.wait()
            except TimeoutError:
                continue
        await asyncio.to_thread(self.stop)

    def _look(self, name: str, unit: Unit) -> None:
        happened = unit.tend(self._start, time.monotonic())
        if happened:
            self._tell(name, happened, unit.child.pid if unit.child else unit.last_exit or 0)

    def remove(self, name: str) -> None:
        """End a unit and forget it."""
        unit = self.units.pop(name, None)
        if unit is not None and unit.child is not None:
            unit.child.terminate()
            unit.child.wait()

    def stop(self) -> None:
        """End all units, the highest rank first."""
        for rank in sorted({unit.rank for unit in self.units.values()}, reverse=True):
            ending = [(unit, unit.child) for unit in self.units.values() if unit.rank == rank and unit.child is not None]
            for _, child in ending:
                child.terminate()
            for unit, child in ending:
                unit.last_exit = child.wait()
        for unit in self.units.values():
            unit.child = None
