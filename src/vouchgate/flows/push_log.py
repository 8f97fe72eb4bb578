"""What was sent to enforcement points, and what they said to it, as log entries.

1. A map or the revocations that changed: `sent`, with the epoch. 2. A point that acknowledged a newer epoch: `acknowledged`. 3. A point that
refused a resource: `rejected`, with its words. 4. A point that is gone for longer than a lease: `lease-lost`, once.
Entries are collected and written together; what changes again meanwhile is still an entry of its own.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from vouchgate.audit import ocsf
from vouchgate.flows.context import Context
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.places import DEFAULT_LEASE_SECONDS
from vouchgate.vocabulary.records import Append

WRITE_SECONDS = 0.25
"""Seconds between writings: an entry about a push may be this late, the push itself never waits for it."""
MAX_COLLECTED = 10_000
"""Entries that may wait; beyond it the oldest are summed up in one."""


class PushLog:
    """See the module's text."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: list[Append] = []
        self._left_out = 0
        self._epochs: dict[str, int] = {}
        self._rejected: dict[str, dict[str, str]] = {}
        self._gone_since: dict[str, tuple[float, int]] = {}
        self._lost: set[str] = set()

    def sent(self, resource: str, epoch: int, detail: dict[str, Any]) -> None:
        """Step 1."""
        self._add("*", epoch, resource, "sent", detail)

    def _add(self, point: str, epoch: int, resource: str, outcome: str, detail: dict[str, Any]) -> None:
        if len(self._waiting) >= MAX_COLLECTED:
            self._left_out += 1
            return
        now = self._context.clock.now()
        entry = ocsf.push(self._context.trust_domain, pep=point, epoch=epoch, resource=resource, outcome=outcome, detail=detail, now=now)
        self._waiting.append(Append(entry=entry))

    async def run(self) -> None:
        """Steps 2 to 4, and writing."""
        while True:
            self._look()
            await self._write()
            await asyncio.sleep(WRITE_SECONDS)

    def _look(self) -> None:
        points = {one.node_id: one for one in self._context.points.status().points}
        for name, point in points.items():
            if point.epoch > self._epochs.get(name, -1):
                self._epochs[name] = point.epoch
                self._add(name, point.epoch, "revocations", "acknowledged", {})
            for resource, words in point.rejected.items():
                if self._rejected.get(name, {}).get(resource) != words:
                    self._add(name, point.epoch, resource, "rejected", {"words": words[:500]})
            self._rejected[name] = dict(point.rejected)
            self._gone_since.pop(name, None)
            self._lost.discard(name)
        for name in set(self._epochs) - set(points):
            self._gone_since.setdefault(name, (time.monotonic(), self._context.clock.now()))
            self._note_loss(name)

    def _note_loss(self, name: str) -> None:
        since, at = self._gone_since[name]
        lease = min((zone.lease_seconds for zone in self._context.facts.zones.values()), default=DEFAULT_LEASE_SECONDS)
        if name not in self._lost and time.monotonic() - since > lease:
            self._lost.add(name)
            now = self._context.clock.now()
            entry = ocsf.lease_lost(
                self._context.trust_domain,
                pep=name,
                epoch=self._epochs.get(name, 0),
                since=at,  # type: ignore[arg-type]
                reason="it is not connected",
                now=now,
            )
            self._waiting.append(Append(entry=entry))

    async def _write(self) -> None:
        if self._left_out:
            left, self._left_out = self._left_out, 0
            self._add("*", self._context.facts.epoch, "maps", "sent", {"summed_up": left})
        if not self._waiting:
            return
        while self._waiting:
            batch = self._waiting[:256]
            try:
                await self._context.sequencer.submit("system:pushes", (), batch)
            except VouchgateError:
                # leases are held back by whatever keeps the store from writing (health.py); the entries are tried again
                return
            del self._waiting[: len(batch)]
