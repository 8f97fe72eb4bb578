"""Publish: what a change makes of the grants that enforcement points hold.

A change is told here right after it is durable.

1. Revocations go to every point at once, before anything is decided again.
2. In the same moment an endpoint with refused evidence is enforced, whatever its zone's mode; and a grant that was decided before a
   revocation that touches its endpoint or its caller is dropped: until the cell is decided again, its calls are asked one by one.
3. The cells (endpoint x caller) that the changes touch become dirty; the PDP worker decides them again.
4. A decision that differs from the last one of its cell is recorded; the grants that it makes are pushed, each with the epoch at which it was
   decided.
5. A cell that a newer revocation touches is dropped and decided again: an answer from before a revocation never overtakes it.
6. A cell that lapses by itself (a vouch expires, a credential ends, observe ends) becomes dirty at that time.
7. While dirty cells stay undecided for longer than `MAX_UNDECIDED_SECONDS`, leases are not renewed: stale grants end by themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from vouchgate.flows.changes import EndpointPut, EndpointRemoved, KeysPublished, Revoked, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.sequence import Sequenced
from vouchgate.vocabulary.decisions import Decision, Grant
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.places import Endpoint, Zone
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

MAX_UNDECIDED_SECONDS = 5.0
"""A change that has not been decided by then stops the renewal of leases."""
CELLS_AT_ONCE = 512
"""Cells of one question to the PDP worker: about 20 ms of its time, so that a revocation's cells never wait longer."""
LOOK_SECONDS = 1.0
"""Seconds between looks at how long cells have been undecided."""
RETRY_SECONDS = 0.1
"""Pause before asking a PDP worker again that did not answer."""
GATEWAY = "gateway"
"""Name of the enforcement point in grants."""

Cell = tuple[str, str]
"""(endpoint id, principal id)."""


class Points(Protocol):
    """The enforcement points, as edges/envoy/publisher.py offers them."""

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """All endpoints."""

    def set_zones(self, zones: Iterable[Zone]) -> None:
        """All zones."""

    def set_refused(self, endpoint_ids: Iterable[str]) -> None:
        """All endpoints with refused evidence: enforced in observe too."""

    def set_grants(self, endpoint_id: str, grants: Iterable[Grant]) -> None:
        """All grants of one endpoint."""

    def set_revocations(self, revocations: Iterable[Revocation], *, epoch: int) -> None:
        """All standing revocations; pushed at once."""

    def pause(self, why: str) -> None:
        """Renew no lease."""

    def resume(self) -> None:
        """Renew leases again."""


class Decider(Protocol):
    """The PDP worker."""

    async def decide_cells(self, cells: Sequence[Cell]) -> tuple[int, list[list[Decision]]]:
        """(epoch of the facts it used, for each cell one decision for each action and model)."""


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
    ) -> None:
        self._facts, self._points, self._decider = facts, points, decider
        self._clock, self._record, self._publish_keys, self._sent = clock, record, publish_keys, sent
        self._out: dict[str, tuple[str, ...]] = {}
        self._dirty: dict[Cell, float] = {}
        self._asked: dict[Cell, float] = {}
        self._cells: dict[Cell, tuple[Decision, ...]] = {}
        self._by_endpoint: dict[str, set[Cell]] = {}
        self._lapses: list[tuple[int, Cell]] = []
        self._revoked_at: dict[str, int] = {}
        self._refused: set[str] = set()
        self._wake = asyncio.Event()
        self.changed = asyncio.Event()
        """Set once, at the next push; then there is a new one."""
        self._holds: dict[str, str] = {}
        self._untold = ""
        """Why the last telling failed; empty while every point was told everything."""
        self.allowed_cells = 0

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
            if isinstance(one.change, EndpointRemoved):
                self._forget(one.change.id)
            reached |= set(self._facts.endpoints) if touched.everything else self._facts.endpoints_of(touched)
            self._soil(self._facts.cells(touched))
        self._tell_refused(reached)
        for endpoint_id in emptied:
            self._push(endpoint_id, self.grants(endpoint_id))
        self._wake.set()

    def start(self) -> None:
        """After a start: everything is told anew, and every cell is dirty."""
        self._points.set_zones(self._facts.zones.values())
        self._points.set_revocations(self._facts.told_revocations(), epoch=self._facts.epoch)
        self._points.set_endpoints(self._facts.endpoints.values())
        self._tell_refused(self._facts.endpoints)
        self._publish_keys()
        self._soil(self._facts.all_cells())
        self._wake.set()

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
            self._dirty.setdefault(cell, at)

    # -- the loop

    async def run(self) -> None:
        """Steps 4 to 7 until cancelled."""
        while True:
            if self._untold:
                self._tell_anew()
            self._soil(self._lapsed())
            self.hold("undecided", self._undecided())
            if not self._dirty:
                await self._sleep()
                continue
            cells = list(self._dirty)[:CELLS_AT_ONCE]
            self._asked = {cell: self._dirty.pop(cell) for cell in cells}
            try:
                epoch, decisions = await self._answer(cells)
            except VouchgateError:
                self._dirty, self._asked = self._asked | self._dirty, {}
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._asked = {}
            self._take(cells, epoch, decisions)

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
        seconds = max(0.01, min(1.0, (self._lapses[0][0] - self._clock()) / 1000)) if self._lapses else 1.0
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _lapsed(self) -> list[Cell]:
        now = self._clock()
        changed = self._facts.advance(now)
        while self._lapses and self._lapses[0][0] <= now:
            _, cell = heapq.heappop(self._lapses)
            if any(one.not_after <= now for one in self._cells.get(cell, ())):
                changed.append(cell)
        return changed

    def _undecided(self) -> str:
        since = min((*self._dirty.values(), *self._asked.values()), default=None)
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
        return len(self._dirty) + len(self._asked)

    @property
    def holding(self) -> tuple[str, ...]:
        """Why leases are not renewed; empty while they are."""
        return tuple(self._holds.values())

    # -- steps 4 and 5

    def _take(self, cells: Sequence[Cell], epoch: int, decisions: Sequence[list[Decision]]) -> None:
        endpoints: set[str] = set()
        fresh: list[Decision] = []
        for cell, news in zip(cells, decisions, strict=True):
            if self._newest_revocation(cell) > epoch:
                self._soil([cell])
                continue
            if _same(self._cells.get(cell, ()), news):
                kept = [_carried(old, new) for old, new in zip(self._cells.get(cell, ()), news, strict=True)]
            else:
                kept = news
                fresh += news
            self._keep(cell, kept)
            endpoints.add(cell[0])
        if fresh:
            self._record(fresh)
        for endpoint_id in endpoints & set(self._facts.endpoints):
            self._push(endpoint_id, self.grants(endpoint_id))

    def _newest_revocation(self, cell: Cell) -> int:
        return max(self._revoked_at.get(cell[0], 0), self._revoked_at.get(cell[1], 0))

    def _push(self, endpoint_id: str, grants: Sequence[Grant]) -> None:
        self._points.set_grants(endpoint_id, grants)
        ids = tuple(grant.id for grant in grants)
        self._tell_waiting()
        if self._out.get(endpoint_id) != ids:
            self._out[endpoint_id] = ids
            self._sent(endpoint_id, self._facts.epoch, {"grants": len(ids)})

    def _tell_waiting(self) -> None:
        waiting, self.changed = self.changed, asyncio.Event()
        waiting.set()

    def _keep(self, cell: Cell, news: Sequence[Decision]) -> None:
        self.allowed_cells -= _allows(self._cells.pop(cell, ()))
        if cell[0] not in self._facts.endpoints or cell[1] not in self._facts.registrations:
            self._by_endpoint.get(cell[0], set()).discard(cell)
            return
        self._cells[cell] = tuple(news)
        self.allowed_cells += _allows(news)
        self._by_endpoint.setdefault(cell[0], set()).add(cell)
        if news:
            heapq.heappush(self._lapses, (min(one.not_after for one in news), cell))
        if len(self._lapses) > 2 * len(self._cells) + CELLS_AT_ONCE:
            self._lapses = [(min(one.not_after for one in made), cell) for cell, made in self._cells.items() if made]
            heapq.heapify(self._lapses)

    def _forget(self, endpoint_id: str) -> None:
        for cell in self._by_endpoint.pop(endpoint_id, set()):
            self.allowed_cells -= _allows(self._cells.pop(cell, ()))
        self._out.pop(endpoint_id, None)

    def grants(self, endpoint_id: str) -> list[Grant]:
        """The grants that the kept decisions of one endpoint make."""
        endpoint = self._facts.endpoints[endpoint_id]
        return [
            grant
            for cell in sorted(self._by_endpoint.get(endpoint_id, ()))
            for decision in self._cells[cell]
            if decision.would_be == "allow" and not decision.residual and decision.evidence_epoch >= self._newest_revocation(cell)
            for grant in grants_of(decision, endpoint)
        ]

    def decisions(self) -> Iterable[Decision]:
        """The newest decision of every cell."""
        return (decision for made in self._cells.values() for decision in made)


def grants_of(decision: Decision, endpoint: Endpoint) -> list[Grant]:
    """One grant for each kind of credential that the endpoint accepts."""
    kinds = ("x509", "jwt", "both") if endpoint.bearer else ("x509",)
    return [
        Grant(
            id=f"{decision.id}.{kind[0]}",
            decision_id=decision.id,
            principal=decision.principal,
            credential_kind=kind,  # type: ignore[arg-type]
            action=decision.action,
            resource=decision.resource,
            model_digest=endpoint.model_digest,
            pep=GATEWAY,
            epoch=decision.evidence_epoch,
            not_after=decision.not_after,
            obligations=decision.obligations,
        )
        for kind in kinds
    ]


def cell_digest(decision: Decision) -> str:
    """What makes two decisions of a cell the same for whoever reads the log."""
    parts = (decision.effect, decision.residual, decision.would_be, decision.mode, decision.policy_digest, decision.determining)
    text = repr((*parts, decision.vouches_used, decision.missing, decision.errors, decision.obligations, decision.risk))
    return hashlib.sha256(text.encode()).hexdigest()


def _same(old: Sequence[Decision], new: Sequence[Decision]) -> bool:
    return len(old) == len(new) and all(
        (one.action, one.resource, cell_digest(one)) == (two.action, two.resource, cell_digest(two))
        for one, two in zip(old, new, strict=True)
    )


def _carried(old: Decision, new: Decision) -> Decision:
    """The recorded decision, with the new end of its life and the epoch at which it was found again."""
    return msgspec.structs.replace(old, not_after=new.not_after, evidence_epoch=new.evidence_epoch)


def _allows(made: Sequence[Decision]) -> bool:
    return any(one.effect == "allow" for one in made)
