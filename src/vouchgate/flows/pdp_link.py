"""The control plane's end of the PDP worker: feed it every change in order, ask it for cells, keep its lease.

1. A worker that is new (another instance) or has a gap gets the whole state; then it is fed change by change.
2. Cells are asked only of a worker that has every change so far.
3. The state is read and encoded off the event loop, a message at a time: ten thousand registrations delay nobody, and are never in memory twice.
4. While the control plane is well, the worker's lease is renewed each `RENEW_SECONDS`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence

from vouchgate.flows.context import Remote
from vouchgate.flows.facts_cells import Cell
from vouchgate.flows.sequence import Sequenced
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import Conflict, Unavailable, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis

CHUNK = 500
"""Changes of one message, so that a message stays far below the frame bound."""
MAX_WAITING = 50_000
"""Changes kept for a worker that is away; beyond it the whole state is sent."""
RENEW_SECONDS = 1.0
"""Seconds between renewals of the worker's lease; it is a third of the shortest lease at most."""


class PdpLink:
    """See the module's text. Feeding and asking share one lock, so a cell is never decided between two halves of a load."""

    def __init__(
        self, remote: Remote, snapshot: Callable[[], tuple[int, Iterator[Sequenced]]], lease_ms: int, clock: Callable[[], UnixMillis]
    ) -> None:
        self._remote, self._snapshot, self._lease_ms, self._clock = remote, snapshot, lease_ms, clock
        self._waiting: list[Sequenced] = []
        self._instance = ""
        self._epoch = 0
        self._lock = asyncio.Lock()
        self.trouble = ""
        self.alarm = ""
        """Why the worker no longer decides; leases are held back while it stands."""
        self.heard_at = UnixMillis(0)
        """When the worker last had every change."""
        self.lease_until = UnixMillis(0)

    @property
    def epoch(self) -> int:
        """The newest epoch that the worker has."""
        return self._epoch

    def tell(self, batch: Sequence[Sequenced]) -> None:
        """Changes that are durable and applied."""
        self._waiting += batch
        if len(self._waiting) > MAX_WAITING:
            # a worker that is away for so long is loaded anew
            self._waiting, self._instance = [], ""

    async def decide_cells(self, cells: Sequence[Cell]) -> tuple[int, list[list[Decision]]]:
        """Step 2. Raises `Unavailable`."""
        async with self._lock:
            await self._feed()
            said = await self._remote.call("cells", cells=[list(cell) for cell in cells])
        return said["epoch"], [[wire.decode(Decision, one, what="decision") for one in cell] for cell in said["cells"]]

    async def run(self, healthy: Callable[[], bool]) -> None:
        """Step 4, until cancelled."""
        while True:
            try:
                async with self._lock:
                    await self._feed()
                    self.alarm = (await self._remote.call("hello")).get("alarm", "")
                    if healthy():
                        await self._remote.call("lease", milliseconds=self._lease_ms)
                        self.lease_until = UnixMillis(self._clock() + self._lease_ms)
                self.heard_at = self._clock()
                self.trouble = ""
            except VouchgateError as error:
                self.trouble = error.reason
            await asyncio.sleep(min(RENEW_SECONDS, self._lease_ms / 3000))

    async def _feed(self) -> None:
        """Step 1."""
        said = await self._remote.call("hello")
        if said["instance"] != self._instance or said["epoch"] != self._epoch:
            await self._load(said["instance"])
        # a load reads the store, which may already hold what is told only now
        self._waiting = [one for one in self._waiting if one.epoch > self._epoch]
        while self._waiting:
            part = self._waiting[:CHUNK]
            try:
                said = await self._remote.call("apply", since=self._epoch, changes=[wire.encode(one) for one in part])
            except Conflict as error:
                self._instance = ""
                raise Unavailable(f"the PDP worker lost step: {error.reason}", remedy="it is loaded again at once") from None
            self._epoch = said["epoch"]
            self._waiting = [one for one in self._waiting if one.epoch > self._epoch]
        if not self._instance:
            raise Unavailable("the PDP worker fell too far behind", remedy="it is loaded again at once")

    async def _load(self, instance: str) -> None:
        # what is told from here on is newer than the snapshot, or in it and filtered out by its epoch
        self._waiting.clear()
        epoch, everything = await asyncio.to_thread(self._snapshot)
        await self._remote.call("begin")
        while part := await asyncio.to_thread(_encoded, everything):
            await self._remote.call("load", changes=part)
        said = await self._remote.call("end", epoch=epoch)
        if said["instance"] != instance:
            raise Unavailable("the PDP worker was restarted while it was loaded", remedy="it is loaded again at once")
        self._instance, self._epoch = instance, said["epoch"]


def _encoded(changes: Iterator[Sequenced]) -> list[bytes]:
    """The next message's worth; reads the store, so it runs off the event loop."""
    return [wire.encode(one) for one in itertools.islice(changes, CHUNK)]
