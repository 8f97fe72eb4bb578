"""Publish: what a change makes of the grants that enforcement points hold.

A change is told here right after it is durable.

1. Revocations go to every point at once, before anything is decided again.
2. In the same moment an endpoint with refused evidence is enforced, whatever its zone's mode; and a grant that was decided before a
   revocation that touches its endpoint or its caller is dropped: until the cell is decided again, its calls are asked one by one.
3. The cells (endpoint x caller) that the changes touch become dirty; the PDP worker decides them again.
4. A decision that differs from the last one of its cell is recorded; the grants that it makes take seats in the endpoint's map, oldest
   registration first, each with the epoch at which it was decided. A caller without a seat is asked about at each call: slower, never refused.
   A map that loses something is pushed at once. One that only gains waits until pushing has cost no more than a share of our time, since until
   then its callers are asked: so a flood of registrations delays no lease and no revocation.
5. A cell that a newer revocation touches is dropped and decided again: an answer from before a revocation never overtakes it.
6. A cell that lapses by itself (a vouch expires, a credential ends, observe ends) becomes dirty at that time, and once before it, so that what
   is only to be renewed never leaves the map.
7. While dirty cells that hold a seat stay undecided for longer than `MAX_UNDECIDED_SECONDS`, leases are not renewed: stale grants end by
   themselves. They are asked first.
8. After a start, gateways keep what they hold until the cells that had seats are decided again (first_push.py).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from vouchgate.flows.changes import EndpointPut, EndpointRemoved, KeysPublished, RegistrationRemoved, Revoked, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.facts_cells import Cell
from vouchgate.flows.first_push import FirstPush
from vouchgate.flows.lapses import Lapses
from vouchgate.flows.points import Decider, Points
from vouchgate.flows.seats import Seats, StandingDecisions, grants_of
from vouchgate.flows.sequence import Sequenced
from vouchgate.vocabulary.decisions import Decision, Grant
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.places import DEFAULT_LEASE_SECONDS
from vouchgate.vocabulary.vouches import UnixMillis

MAX_UNDECIDED_SECONDS = 5.0
"""A change that has not been decided by then stops the renewal of leases."""
CELLS_AT_ONCE = 64
"""Cells of one question to the PDP worker: some 5 ms of our time to take the answer in, so that no revocation waits longer for it."""
MAX_SEATS = 2_000
"""Grants of one endpoint's map at most, as the gateway bounds it (edges/envoy/maps.py); `[limits] entries_per_map` may say less."""
PUSH_REST = 20.0
"""A map that only gained is pushed when we have rested this many times as long as the last push took: a twentieth of our time."""
REST_PER_GRANT = 0.0005
"""Seconds of that rest for each entry of the map at least: the gateway takes 10 us to take one in, a fiftieth of its time."""
LOOK_SECONDS = 1.0
"""Seconds between looks at how long cells have been undecided."""
RETRY_SECONDS = 0.1
"""Pause before asking a PDP worker again that did not answer."""


class Publisher:
    """Keeps every enforcement point at what the facts say."""

    def __init__(
        self,
        facts: Facts,
        points: Points,
        decider: Decider,
        *,
        clock: Callable[[], UnixMillis],
        record: Callable[[Sequence[Decision]], None],
        publish_keys: Callable[[], None],
        sent: Callable[[str, int, dict[str, Any]], None],
        seats: int = 0,
    ) -> None:
        """`seats`: grants of one map, where that is less than `MAX_SEATS`."""
        self._facts, self._points, self._decider = facts, points, decider
        self._clock, self._record, self._publish_keys, self._sent = clock, record, publish_keys, sent
        self._out: dict[str, tuple[str, ...]] = {}
        self._dirty: dict[Cell, float] = {}
        """Undecided cells with a seat; they are asked first."""
        self._unseated: dict[Cell, float] = {}
        """Undecided cells whose callers are asked about anyway."""
        self._asked: dict[Cell, float] = {}
        self._void: set[Cell] = set()
        """Asked cells whose caller is gone since: their answers count for nothing."""
        self._kept = StandingDecisions()
        self._seats: dict[str, Seats] = {}
        self._most = min(seats or MAX_SEATS, MAX_SEATS)
        self._gained: dict[str, None] = {}
        """Endpoints whose map is to be pushed, by age."""
        self._push_at = 0.0
        self._lapses = Lapses(self._kept)
        self._revoked_at: dict[str, int] = {}
        self._refused: set[str] = set()
        self._wake = asyncio.Event()
        self.changed = asyncio.Event()
        """Set once, at the next push; then there is a new one."""
        self._holds: dict[str, str] = {}
        self._untold = ""
        """Why the last telling failed; empty while every point was told everything."""
        self._first = FirstPush(points)

    # -- told by the sequencer

    def tell(self, batch: Sequence[Sequenced]) -> None:
        """Steps 1 to 3 for a batch of changes that is durable and applied. What a point cannot take stops the renewal of leases instead of
        the sequence: the change stands, and the points end up refusing."""
        try:
            self._tell(batch)
        except VouchgateError as error:
            self._untold = error.reason
            self.hold("points", f"a change could not be told to the gateway: {error.reason}")
        self._wake.set()

    def _tell_anew(self) -> None:
        """After a telling that failed: everything again, until it is taken."""
        try:
            self.start()
        except VouchgateError as error:
            self._untold = error.reason
        else:
            self._untold = ""
        self.hold("points", f"a change could not be told to the gateway: {self._untold}" if self._untold else "")

    def _tell(self, batch: Sequence[Sequenced]) -> None:
        revoked = [one for one in batch if isinstance(one.change, Revoked)]
        if revoked:
            standing = self._facts.told_revocations()
            self._points.set_revocations(standing, epoch=revoked[-1].epoch)
            self._sent("revocations", revoked[-1].epoch, {"entries": len(standing)})
            self._tell_waiting()
        if any(isinstance(one.change, ZonePut) for one in batch):
            self._points.set_zones(self._facts.zones.values())
        if any(isinstance(one.change, EndpointPut | EndpointRemoved) for one in batch):
            self._points.set_endpoints(self._facts.endpoints.values())
        if any(isinstance(one.change, KeysPublished) for one in batch):
            self._publish_keys()
        emptied: set[str] = set()
        reached: set[str] = set()
        for one in batch:
            touched = self._facts.touched(one.change)
            if isinstance(one.change, Revoked) and not one.change.revocation.withdrawn_by:
                endpoints = self._facts.endpoints_of(touched)
                self._revoked_at |= dict.fromkeys((*endpoints, *touched.principals), one.epoch)
                emptied |= endpoints
                for caller in touched.principals:
                    self._gained |= dict.fromkeys(self._unseat(caller))
            if isinstance(one.change, EndpointRemoved):
                self._forget(one.change.id)
            if isinstance(one.change, RegistrationRemoved):
                emptied |= self._forget_caller(one.change.principal)
            reached |= set(self._facts.endpoints) if touched.everything else self._facts.endpoints_of(touched)
            self._soil(self._facts.cells(touched))
        self._tell_refused(reached)
        for endpoint_id in emptied & set(self._facts.endpoints):
            if endpoint_id in self._seats and self._revoked_at.get(endpoint_id, 0):
                self._seats[endpoint_id].drop(lambda cell, epoch: epoch < self._newest_revocation(cell))
            self._push(endpoint_id)
        if emptied or any(isinstance(one.change, RegistrationRemoved | EndpointRemoved | EndpointPut | ZonePut) for one in batch):
            self._release()
        self._wake.set()

    def start(self) -> None:
        """After a start: everything is told anew, and every cell is dirty."""
        self._points.set_zones(self._facts.zones.values())
        self._points.set_revocations(self._facts.told_revocations(), epoch=self._facts.epoch)
        self._points.set_endpoints(self._facts.endpoints.values())
        self._tell_refused(self._facts.endpoints)
        self._publish_keys()
        oldest = sorted(self._facts.registrations.values(), key=lambda one: (one.created_at, one.principal))
        self._soil((endpoint_id, one.principal) for one in oldest for endpoint_id in self._facts.endpoints)
        self._first.begin()
        if self._first.waiting and self._revoked_lately():
            self._release()
        self._wake.set()

    def _revoked_lately(self) -> bool:
        """Whether maps that a gateway still has may rest on what was revoked: those from before the longest lease have ended."""
        longest = max((zone.lease_seconds for zone in self._facts.zones.values()), default=DEFAULT_LEASE_SECONDS)
        young = [one for one in self._facts.revocations.values() if one.made_at > self._clock() - 1000 * longest and not one.withdrawn_by]
        return any(self._facts.endpoints_of(self._facts.touched(Revoked(revocation=one))) for one in young)

    def _release(self) -> None:
        """Step 8: what is decided so far, and from now on everything."""
        if self._first.waiting:
            for endpoint_id in [one for one in self._gained if one in self._facts.endpoints]:
                self._push(endpoint_id)
            self._first.release()

    def _seats_decided(self) -> bool:
        full = {endpoint_id for endpoint_id, seats in self._seats.items() if seats.full}
        return not any(cell[0] not in full for cell in itertools.chain(self._dirty, self._unseated, self._asked))

    def _tell_refused(self, reached: Iterable[str]) -> None:
        now = self._clock()
        reached = set(reached)
        refused = (self._refused - reached) | {name for name in reached if self._facts.has_refused_evidence(name, now)}
        if refused != self._refused:
            self._refused = refused
            self._points.set_refused(refused)

    def redecide(self, cells: Iterable[Cell]) -> None:
        """Facts outside the sequence (time, the PDP worker's own) made these cells stale."""
        self._soil(cells)
        self._wake.set()

    def _soil(self, cells: Iterable[Cell]) -> None:
        at = time.monotonic()
        for cell in cells:
            seats = self._seats.get(cell[0])
            (self._dirty if seats is not None and cell in seats else self._unseated).setdefault(cell, at)

    # -- the loop

    async def run(self) -> None:
        """Steps 4 to 7 until cancelled."""
        while True:
            if self._untold:
                self._tell_anew()
            self._soil(self._lapsed())
            self.hold("undecided", self._undecided())
            if self._first.due(self._seats_decided, self._facts.zones.values()):
                self._release()
            self._push_gained()
            cells = list(
                itertools.islice(itertools.chain(self._dirty, (one for one in self._unseated if one not in self._dirty)), CELLS_AT_ONCE)
            )
            if not cells:
                await self._sleep()
                continue
            self._asked = {cell: self._clean(cell) for cell in cells}
            try:
                epoch, decisions = await self._answer(cells)
            except VouchgateError:
                self._ask_again()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._asked = {}
            self._first.answered = True
            self._take(cells, epoch, decisions)
            self._void.clear()

    def _ask_again(self) -> None:
        """What was asked goes back to the front, as old as it was."""
        asked, self._asked = self._asked, {}
        self._void.clear()
        seated = {cell: at for cell, at in asked.items() if cell in self._seats.get(cell[0], ())}
        self._dirty = seated | self._dirty
        self._unseated = {cell: at for cell, at in asked.items() if cell not in seated} | self._unseated

    def _clean(self, cell: Cell) -> float:
        since = [at for at in (self._dirty.pop(cell, None), self._unseated.pop(cell, None)) if at is not None]
        return min(since)

    async def _answer(self, cells: Sequence[Cell]) -> tuple[int, list[list[Decision]]]:
        """Ask the PDP worker; while it keeps us waiting, step 7 goes on."""
        asking = asyncio.ensure_future(self._decider.decide_cells(cells))
        try:
            while not (await asyncio.wait({asking}, timeout=LOOK_SECONDS))[0]:
                self.hold("undecided", self._undecided())
            return asking.result()
        finally:
            asking.cancel()

    async def _sleep(self) -> None:
        self._wake.clear()
        seconds = max(0.01, min(1.0, self._lapses.seconds(self._clock())))
        if self._gained and not self._first.waiting:
            seconds = max(0.0, min(seconds, self._push_at - time.monotonic()))
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _lapsed(self) -> list[Cell]:
        now = self._clock()
        return self._facts.advance(now) + self._lapses.due(now)

    def _undecided(self) -> str:
        asked = (at for cell, at in self._asked.items() if cell in self._seats.get(cell[0], ()))
        since = min((*itertools.islice(self._dirty.values(), 1), *asked), default=None)
        age = 0.0 if since is None else time.monotonic() - since
        return f"{self.undecided} cells have been undecided for {age:.0f} s" if age > MAX_UNDECIDED_SECONDS else ""

    def hold(self, cause: str, why: str) -> None:
        """Stop (or with an empty `why`, no longer stop) the renewal of leases for one cause; any standing cause stops it."""
        before = bool(self._holds)
        if why:
            self._holds[cause] = why
        else:
            self._holds.pop(cause, None)
        if self._holds:
            self._points.pause("; ".join(self._holds.values()))
        elif before:
            self._points.resume()

    @property
    def undecided(self) -> int:
        """Cells that wait to be decided, or for the answer."""
        return len(self._dirty) + len(self._unseated) + len(self._asked)

    @property
    def unpushed(self) -> int:
        """Maps that gained grants and are not pushed yet; their callers are asked meanwhile."""
        return len(self._gained)

    @property
    def allowed_cells(self) -> int:
        """Cells whose newest decision lets somebody in."""
        return self._kept.allowed

    @property
    def holding(self) -> tuple[str, ...]:
        """Why leases are not renewed; empty while they are."""
        return tuple(self._holds.values())

    # -- steps 4 and 5

    def _take(self, cells: Sequence[Cell], epoch: int, decisions: Sequence[list[Decision]]) -> None:
        fresh: list[Decision] = []
        lost: set[str] = set()
        for cell, news in zip(cells, decisions, strict=True):
            if cell in self._void:
                continue
            if self._newest_revocation(cell) > epoch:
                self._soil([cell])
                continue
            if cell[0] not in self._facts.endpoints or cell[1] not in self._facts.registrations:
                self._kept.drop(cell)
                continue
            fresh += self._kept.put(cell, news)
            self._lapses.plan(cell, self._clock())
            if self._seat(cell):
                lost.add(cell[0])
        if fresh:
            self._record(fresh)
        for endpoint_id in lost & set(self._facts.endpoints):
            self._push(endpoint_id)
        self._push_gained()

    def _newest_revocation(self, cell: Cell) -> int:
        return max(self._revoked_at.get(cell[0], 0), self._revoked_at.get(cell[1], 0))

    def _seat(self, cell: Cell) -> bool:
        """Give the cell's grants their seat; whether the map loses something by it."""
        seats = self._seats.setdefault(cell[0], Seats(self._most))
        grants = self._grants_of(cell)
        outcome = seats.put(cell, grants)
        if outcome == "gained":
            self._gained[cell[0]] = None
        if outcome == "lost":
            self._refill(cell[0])
        return outcome == "lost"

    def _refill(self, endpoint_id: str) -> None:
        """Seats that came free go to whoever waits longest."""
        seats = self._seats[endpoint_id]
        while (cell := seats.next_waiting()) is not None:
            grants = self._grants_of(cell)
            if seats.put(cell, grants) == "full":
                return

    def _grants_of(self, cell: Cell) -> list[Grant]:
        endpoint, since = self._facts.endpoints.get(cell[0]), self._newest_revocation(cell)
        if endpoint is None:
            return []
        return [
            grant
            for decision in self._kept.decisions_of(cell)
            if decision.would_be == "allow" and not decision.residual and decision.evidence_epoch >= since
            for grant in grants_of(decision, endpoint)
        ]

    def _push_gained(self) -> None:
        """Maps that only gained, the one that waits longest first, within our share of time."""
        while self._gained and not self._first.waiting and time.monotonic() >= self._push_at:
            endpoint_id = next(iter(self._gained))
            del self._gained[endpoint_id]
            if endpoint_id in self._facts.endpoints:
                self._push(endpoint_id)

    def _push(self, endpoint_id: str) -> None:
        began = time.monotonic()
        grants = self._seats[endpoint_id].grants() if endpoint_id in self._seats else []
        self._gained.pop(endpoint_id, None)
        self._points.set_grants(endpoint_id, grants)
        ids = tuple(grant.id for grant in grants)
        self._tell_waiting()
        if self._out.get(endpoint_id) != ids:
            self._out[endpoint_id] = ids
            self._sent(endpoint_id, self._facts.epoch, {"grants": len(ids)})
        ended = time.monotonic()
        self._push_at = ended + max(PUSH_REST * (ended - began), REST_PER_GRANT * len(grants))

    def _tell_waiting(self) -> None:
        waiting, self.changed = self.changed, asyncio.Event()
        waiting.set()

    def _forget(self, endpoint_id: str) -> None:
        self._kept.drop_endpoint(endpoint_id)
        for name in (self._seats, self._out, self._gained, self._revoked_at):
            name.pop(endpoint_id, None)

    def _forget_caller(self, caller: str) -> set[str]:
        """The endpoints whose maps named the caller."""
        for endpoint_id in self._facts.endpoints:
            self._kept.drop((endpoint_id, caller))
        self._void |= {cell for cell in self._asked if cell[1] == caller}
        self._revoked_at.pop(caller, None)
        return self._unseat(caller)

    def _unseat(self, caller: str) -> set[str]:
        found = {endpoint_id for endpoint_id, seats in self._seats.items() if seats.remove((endpoint_id, caller))}
        for endpoint_id in found:
            self._refill(endpoint_id)
        return found

    def grants(self, endpoint_id: str) -> list[Grant]:
        """The grants that the kept decisions of one endpoint make, those without a seat among them."""
        return [grant for cell in sorted(self._kept.cells_of(endpoint_id)) for grant in self._grants_of(cell)]

    def said(self, resources: Collection[str]) -> Iterator[tuple[str, Decision]]:
        """(caller, the newest decision on one of these resources), the decision without its caller, its end and its id."""
        return self._kept.said(resources)

    def alike(self, endpoint_id: str) -> Iterator[tuple[tuple[Decision, ...], int]]:
        """The newest decisions of an endpoint's callers, likewise, and how many callers have just these."""
        return self._kept.alike(endpoint_id)

    def said_of(self, caller: str) -> Iterator[Decision]:
        """The newest decisions on a caller, likewise."""
        return self._kept.said_of(caller)
