"""Drift: what enforcement points really enforce, read back every few seconds, beside what they are meant to.

1. Each point has a reader that says how it differs; a point that cannot be read is drift too: nobody knows what it enforces.
2. What differs must differ twice, `AGAIN_SECONDS` apart, before it is told, and an older version must be the same older one: a push that is
   under way is no drift, and a lease is pushed every few hundred milliseconds. So an alarm comes within
   EVERY_SECONDS + AGAIN_SECONDS and two readings: under 10 s while a reading takes less than 2 s.
3. Grants that the gateway holds are decided again, `GRANTS_AT_ONCE` of them each time, round and round: a map that outlived its reasons is
   found though it is what was pushed. While cells wait to be decided nobody can tell, and it is left for the next time.
4. A drift that begins and one that ends are log entries; those that stand are needs of `status` (flows/needs.py).
5. A reading that takes long is followed by a rest of REST_TIMES as long, so that reading back never takes more than a few percent of a core.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.context import Context
from vouchgate.identity.verify import registered
from vouchgate.policy import facts as world_facts
from vouchgate.vocabulary.answers_zones import Drift, DriftReport, PointReading
from vouchgate.vocabulary.decisions import Grant
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append

EVERY_SECONDS = 4.0
"""Seconds from one reading to the next."""
AGAIN_SECONDS = 0.5
"""Seconds until what differs is looked at again."""
REST_TIMES = 20
"""Rule 5."""
GRANTS_AT_ONCE = 200
"""Grants decided again in one round: 2 to 100 ms."""
MAX_TOLD = 20
"""Drifts of one point in one log entry; the number of all of them stands beside."""

log = logging.getLogger("vouchgate.drift")
Read = Callable[[], Awaitable[tuple[Sequence[Drift], int]]]
"""One reading of a point: (how it differs, resources compared). Raises `VouchgateError` where it cannot be read."""


class DriftWatch:
    """See the module's text. `grants` gives what the gateway holds, by endpoint."""

    def __init__(self, context: Context, readers: dict[str, Read], grants: Callable[[], Iterable[Grant]]) -> None:
        self._context, self._readers, self._grants = context, readers, grants
        self._readings = {point: PointReading(point=point) for point in readers}
        self._position = 0
        self._busy = asyncio.Lock()

    def report(self) -> DriftReport:
        """As it was read last."""
        readings = tuple(self._readings.values())
        return DriftReport(ok=all(one.read_at and not one.drifts for one in readings), points=readings)

    async def look(self) -> DriftReport:
        """Rules 1 to 4, now."""
        async with self._busy:
            for point, read in self._readers.items():
                reading = await self._one(point, read)
                before, self._readings[point] = self._readings[point], reading
                await self._tell(before, reading)
            self._context.drifts = tuple(one for reading in self._readings.values() for one in reading.drifts)
        return self.report()

    async def run(self) -> None:
        """For ever."""
        while True:
            begun = time.monotonic()
            await self.look()
            await asyncio.sleep(max(EVERY_SECONDS, REST_TIMES * (time.monotonic() - begun - AGAIN_SECONDS)))

    async def _one(self, point: str, read: Read) -> PointReading:
        begun = time.monotonic()
        found, count = await self._read(point, read)
        if found:
            await asyncio.sleep(AGAIN_SECONDS)
            again, count = await self._read(point, read)
            kept = {_stuck(one) for one in found}
            found = [one for one in again if _stuck(one) in kept]
        found += self._outlived(point)
        took = round(1000 * (time.monotonic() - begun), 1)
        return PointReading(point=point, read_at=self._context.clock.now(), resources=count, took_ms=took, drifts=tuple(found))

    async def _read(self, point: str, read: Read) -> tuple[list[Drift], int]:
        try:
            found, count = await read()
        except VouchgateError as error:
            return [Drift(point=point, kind="unreadable", what="configuration", detail=error.reason)], 0
        return list(found), count

    def _outlived(self, point: str) -> list[Drift]:
        """Rule 3."""
        if point != "gateway" or self._context.publisher.undecided or self._context.facts.policies is None:
            return []
        # one that depends on the request, or owes something, stands in no map: it is asked each time
        held = [one for one in self._grants() if one.condition == "none" and not one.obligations]
        if not held:
            return []
        self._position %= len(held)
        some = list(itertools.islice(itertools.cycle(held), self._position, self._position + min(GRANTS_AT_ONCE, len(held))))
        self._position += len(some)
        return [
            Drift(point=point, kind="loosened", what=f"map of {one.resource}", detail=f"{one.principal} may no longer {one.action} there")
            for one in some
            if not self._holds(one)
        ]

    def _holds(self, grant: Grant) -> bool:
        facts, now = self._context.facts, self._context.clock.now()
        registration = facts.registration_of(grant.principal, now)
        if grant.not_after <= now:
            return True
        if registration is None:
            return False
        made = facts.decide(registered(registration, now), grant.action, grant.resource, now, unknown=world_facts.REQUEST_FACTS)
        return made.would_be == "allow"

    async def _tell(self, before: PointReading, after: PointReading) -> None:
        """Rule 4."""
        begun = [one for one in after.drifts if _name(one) not in {_name(other) for other in before.drifts}]
        ended = [one for one in before.drifts if _name(one) not in {_name(other) for other in after.drifts}]
        for outcome, some in (("drift", begun), ("drift-ended", ended)):
            if some:
                log.error("%s: %s: %s", after.point, outcome, "; ".join(f"{one.kind} {one.what}" for one in some[:MAX_TOLD]))
                await self._record(after.point, outcome, some)

    async def _record(self, point: str, outcome: str, some: Sequence[Drift]) -> None:
        context = self._context
        entry = ocsf.act(
            context.trust_domain,
            uid=secrets.token_hex(16),
            who="system:drift",
            verb=outcome,
            resource=resource(context.trust_domain, "system", "gateway" if point == "gateway" else "control"),
            outcome="done",
            detail={"point": point, "count": len(some), "drifts": [msgspec.to_builtins(one) for one in some[:MAX_TOLD]]},
            now=context.clock.now(),
        )
        try:
            await context.sequencer.submit("system:drift", (), [Append(entry=entry)])
        except VouchgateError as error:
            log.error("a drift could not be recorded: %s", error.reason)


def _stuck(one: Drift) -> tuple[str, str, str]:
    """What must be seen twice; of a stale resource with the version that is there, which stands before the comma."""
    return one.kind, one.what, one.detail.partition(",")[0] if one.kind == "stale" else ""


def _name(one: Drift) -> tuple[str, str]:
    return one.kind, one.what
