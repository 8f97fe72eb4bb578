"""Whether leases may be renewed: the log keeps up, the disk has room, the clock is sound, the store works, no line is lost.

Each cause holds leases back for itself (publish.py, `hold`); when it has gone, renewal goes on. A lost lease and a gap are log entries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from vouchgate.audit import ocsf
from vouchgate.flows.context import Context
from vouchgate.flows.observe_traffic import Observer
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import UnixMillis

LOOK_SECONDS = 0.5
"""Seconds between looks."""
GRACE_SECONDS = 15.0
"""After the start, the tailer may need this long for its first word."""
MIB = 1024 * 1024


class Health:
    """See the module's text."""

    def __init__(self, context: Context, observer: Observer, *, free: Callable[[], int]) -> None:
        self._context, self._observer, self._free = context, observer, free
        self._born = time.monotonic()
        self._tail_heard = 0.0
        self._behind_ms = 0
        self._completed = -1
        self._lines_at = 0
        self._held_since: dict[str, int] = {}

    def tail(self, *, behind_ms: int) -> None:
        """The tailer lives, and is so far behind."""
        self._tail_heard, self._behind_ms = time.monotonic(), behind_ms

    async def run(self) -> None:
        """Look again and again."""
        while True:
            for cause, why in self._causes():
                self._context.publisher.hold(cause, why)
                await self._note(cause, why)
            await asyncio.sleep(LOOK_SECONDS)

    def _causes(self) -> list[tuple[str, str]]:
        audit, now = self._context.settings.audit, time.monotonic()
        silent = now - max(self._tail_heard, self._born + GRACE_SECONDS - audit.max_lag_seconds)
        lag = max(silent, self._behind_ms / 1000)
        free = self._free()
        return [
            ("tail", f"the audit log is {lag:.0f} s behind the traffic" if lag > audit.max_lag_seconds else ""),
            ("disk", f"{free // MIB} MiB are free, the reserve is {audit.disk_reserve_mib}" if free < audit.disk_reserve_mib * MIB else ""),
            ("clock", self._context.clock.trouble),
            ("store", self._context.sequencer.failed),
            ("engine", self._context.pdp.alarm),
        ]

    async def _note(self, cause: str, why: str) -> None:
        """A cause that begins is an entry, as far as entries can be made."""
        now = self._context.clock.now()
        if why and cause not in self._held_since:
            self._held_since[cause] = now
            entry = ocsf.lease_lost(
                self._context.trust_domain, pep="gateway", epoch=self._context.facts.epoch, since=now, reason=why, now=now
            )
            try:
                await self._context.sequencer.submit("system:health", (), [Append(entry=entry)])
            except VouchgateError:
                del self._held_since[cause]
        elif not why:
            self._held_since.pop(cause, None)

    async def reconcile(self, completed: int) -> None:
        """The gateway's own count of ended requests. Two looks apart, because lines are flushed up to 100 ms late: what was counted at the
        last look must be in the log by now."""
        if self._completed < 0 or completed < self._completed:
            # the first look, or another gateway: how many of its lines were read before is not known, so counting begins here
            self._completed, self._lines_at = completed, self._observer.end_lines - completed
        missing = self._completed - (self._observer.end_lines - self._lines_at)
        if missing > 0:
            now = self._context.clock.now()
            entry = ocsf.gap(
                self._context.trust_domain, source="gateway", missing=missing, since=self._context.started_at, until=now, now=now
            )
            await self._context.sequencer.submit("system:health", (), [Append(entry=entry)])
            self._lines_at -= missing
        self._completed = completed

    async def gateway_ended(self, since: int, reason: str) -> None:
        """The gateway did not end by itself: what it had not yet written is lost, its counters too, so the gap is an entry by itself."""
        now = self._context.clock.now()
        entry = ocsf.gap(
            self._context.trust_domain, source="gateway", missing=0, since=UnixMillis(min(since, now)), until=now, now=now, reason=reason
        )
        await self._context.sequencer.submit("system:health", (), [Append(entry=entry)])
        self._completed, self._lines_at = 0, self._observer.end_lines
