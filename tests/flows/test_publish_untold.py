"""A change that an enforcement point cannot take stops the renewal of leases, never the sequence, and is told anew until it is taken."""

from __future__ import annotations

import asyncio
from typing import Any

from vouchgate.flows.changes import ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.publish import Publisher
from vouchgate.flows.sequence import Sequenced
from vouchgate.vocabulary.errors import LimitExceeded
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.places import Zone
from vouchgate.vocabulary.vouches import UnixMillis


class Points:
    """A gateway that refuses zones until it is mended."""

    def __init__(self) -> None:
        self.broken = True
        self.paused = ""
        self.zones: list[Zone] = []

    def set_zones(self, zones: Any) -> None:
        if self.broken:
            raise LimitExceeded("too many", remedy="fewer")
        self.zones = list(zones)

    def set_endpoints(self, endpoints: Any) -> None: ...
    def set_grants(self, endpoint_id: str, grants: Any) -> None: ...
    def set_refused(self, names: Any) -> None: ...
    def set_revocations(self, revocations: Any, *, epoch: int) -> None: ...
    def withhold(self) -> None: ...
    def release(self) -> None: ...

    def pause(self, why: str) -> None:
        self.paused = why

    def resume(self) -> None:
        self.paused = ""


class Nobody:
    """A PDP worker that is never asked, since there are no cells."""

    async def decide_cells(self, cells: Any) -> Any:
        raise AssertionError("there are no cells")


def test_leases_stop_and_the_change_is_told_again() -> None:
    async def play() -> None:
        facts, points = Facts("test.local", "fingerprint"), Points()
        publisher = Publisher(
            facts,
            points,  # type: ignore[arg-type]
            Nobody(),
            clock=lambda: UnixMillis(1_000),
            record=lambda _: None,
            publish_keys=lambda: None,
            sent=lambda *_: None,
        )
        change = Sequenced(change=ZonePut(zone=Zone(name="serve", trust_domain=TrustDomain("test.local"))), epoch=1, log_index=0)
        facts.apply(change, UnixMillis(1_000))
        publisher.tell([change])
        assert "too many" in points.paused and publisher.holding
        running = asyncio.create_task(publisher.run())
        await asyncio.sleep(0.05)
        assert points.paused and not points.zones
        points.broken = False
        publisher.redecide([])
        for _ in range(100):
            await asyncio.sleep(0.02)
            if not points.paused:
                break
        running.cancel()
        assert [zone.name for zone in points.zones] == ["serve"] and not points.paused

    asyncio.run(play())
