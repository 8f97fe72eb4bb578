"""The sequencer: one order for every change of identity, policy, evidence and risk.

Rules
1. A change is durable (state, epoch and log entry in one commit) before it is applied to the facts, and applied before anyone is told.
2. Revocations first, then everything else round-robin by requester, so that one requester who sends a thousand changes a second delays no
   other's. Each lane is bounded; over the bound the requester is told to slow down.
3. Requests are committed in batches of at most `BATCH` with at most `MAX_STEPS` steps; two changes of the same record, or of the policy, never
   share a batch, so each is checked against the one before it.
4. A commit that the store refuses for what is in it is halved until only the request at fault fails; one that could not be made durable
   fails as a whole. Nothing of what fails is applied.
5. A vouch's record names its place in the log, which a replay needs: what it rests on comes before it, and a key's revocation names a place.
   Only the sequencer appends to the log, so the place is known before the commit; a log that grew otherwise stops the sequencer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from vouchgate.flows.changes import Change, CredentialIssued, Revoked, VouchAdded, record_of
from vouchgate.flows.facts_credentials import BOUND_INDEX, ENDS_INDEX, hour_of, is_bound
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, StoreDamaged, VouchgateError
from vouchgate.vocabulary.records import Append, BumpEpoch, Committed, PutRecord, SetOffset
from vouchgate.vocabulary.records import Change as Step

BATCH = 256
"""Changes in one commit: enough to share an fsync, few enough that a revocation waits for one batch at most."""
MAX_STEPS = 4_096
"""Steps of one commit, below the store's own bound; a request that alone has more is committed alone."""
MAX_WAITING_PER_REQUESTER = 2_000
"""Changes that one requester may have waiting."""
MAX_WAITING_REVOCATIONS = 10_000
"""Revocations that may wait; they are small and are never mixed with anything else."""


class Store(Protocol):
    """What the sequencer needs of the store."""

    async def commit_async(self, changes: Sequence[Step]) -> Committed:
        """Durable when it returns."""

    def size(self) -> int:
        """Entries of the log."""


class Sequenced(wire.Noun, frozen=True, kw_only=True):
    """A change with its place in the order."""

    change: Change
    epoch: int
    log_index: int


class _Waiting:
    """One request: its changes stay together in one commit."""

    __slots__ = ("changes", "done", "entries", "first", "steps")

    def __init__(self, changes: Sequence[Change], entries: Sequence[Append], steps: Sequence[Step]) -> None:
        self.changes, self.entries, self.steps = tuple(changes), tuple(entries), tuple(steps)
        self.first = 0
        self.done: asyncio.Future[tuple[Sequenced, ...]] = asyncio.get_running_loop().create_future()

    @property
    def weight(self) -> int:
        """Steps of the store, about."""
        return 2 * len(self.changes) + len(self.entries) + len(self.steps)


class Sequencer:
    """Orders, commits, applies, tells."""

    def __init__(
        self,
        store: Store,
        *,
        check: Callable[[Change], None],
        apply: Callable[[Sequenced], None],
        tell: Callable[[Sequence[Sequenced]], None],
    ) -> None:
        self._store, self._check, self._apply, self._tell = store, check, apply, tell
        self._revocations: deque[_Waiting] = deque()
        self._lanes: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._wake = asyncio.Event()
        self._weight = 0
        """Of the batch that is being made."""
        self.failed = ""
        """Why the last commit failed; empty while the store works."""

    async def submit(
        self, requester: str, changes: Sequence[Change], entries: Sequence[Append], *, steps: Sequence[Step] = ()
    ) -> tuple[Sequenced, ...]:
        """Commit `changes` with one log entry each (`entries` may hold more, for lines that change nothing), in one transaction.

        Raises `LimitExceeded` where the lane is full, what `check` raises, or what the store raises; then nothing happened.
        """
        return await self._put(requester, _Waiting(changes, entries, steps)).done

    async def append(self, requester: str, entries: Sequence[Append], *, steps: Sequence[Step] = ()) -> int:
        """Commit log lines that change nothing; returns the log index of the first. Raises as `submit` does."""
        waiting = self._put(requester, _Waiting((), entries, steps))
        await waiting.done
        return waiting.first

    def _put(self, requester: str, waiting: _Waiting) -> _Waiting:
        if any(isinstance(change, Revoked) for change in waiting.changes):
            lane, bound = self._revocations, MAX_WAITING_REVOCATIONS
        else:
            lane, bound = self._lanes.setdefault(requester, deque()), MAX_WAITING_PER_REQUESTER
        if len(lane) >= bound:
            raise LimitExceeded(f"`{requester}` has {bound} changes waiting", remedy="send them more slowly; nothing of this one was done")
        lane.append(waiting)
        self._wake.set()
        return waiting

    async def run(self) -> None:
        """Commit batches until cancelled."""
        while True:
            await self._wake.wait()
            batch = self._next_batch()
            if not batch:
                self._wake.clear()
                continue
            await self._commit(batch)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        self._weight = 0
        touched: set[tuple[str, str]] = set()
        self._take(self._revocations, batch, touched, bound=BATCH)
        while self._lanes and len(batch) < BATCH:
            taken = 0
            for requester, lane in list(self._lanes.items()):
                served = self._take(lane, batch, touched, bound=1)
                taken += served
                if not lane:
                    del self._lanes[requester]
                elif served:
                    # whoever was served goes to the back: with more requesters than a batch holds, the last would else never come
                    self._lanes.move_to_end(requester)
            if not taken:
                break
        return batch

    def _take(self, lane: deque[_Waiting], batch: list[_Waiting], touched: set[tuple[str, str]], *, bound: int) -> int:
        taken = 0
        while lane and taken < bound and len(batch) < BATCH:
            waiting = lane[0]
            if batch and self._weight + waiting.weight > MAX_STEPS:
                break
            records = {_place(change) for change in waiting.changes}
            sources = {("offset", step.source) for step in waiting.steps if isinstance(step, SetOffset)}
            if touched & (records | sources):
                break
            lane.popleft()
            if waiting.done.cancelled():
                continue
            try:
                for change in waiting.changes:
                    self._check(change)
            except VouchgateError as error:
                waiting.done.set_exception(error)
                continue
            touched |= records | sources
            batch.append(waiting)
            self._weight += waiting.weight
            taken += 1
        return taken

    async def _commit(self, batch: list[_Waiting]) -> None:
        steps, first = [], self._store.size()
        for waiting in batch:
            steps += _steps(waiting, first)
            first += len(waiting.entries)
        try:
            committed = await self._store.commit_async(steps)
        except (Conflict, InvalidInput, LimitExceeded) as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            await self._commit(batch[: len(batch) // 2])
            await self._commit(batch[len(batch) // 2 :])
            return
        except VouchgateError as error:
            self.failed = error.reason
            _fail(batch, error)
            return
        self.failed = ""
        if committed.first_index + sum(len(waiting.entries) for waiting in batch) != first:
            raise StoreDamaged("the log grew beside the sequencer", remedy="end whatever else writes to the store, then start again")
        epoch = committed.epoch - sum(len(waiting.changes) for waiting in batch)
        index = committed.first_index
        everything: list[Sequenced] = []
        for waiting in batch:
            made: list[Sequenced] = []
            for change in waiting.changes:
                epoch += 1
                sequenced = Sequenced(change=change, epoch=epoch, log_index=index + len(made))
                self._apply(sequenced)
                made.append(sequenced)
            waiting.first = index
            index += len(waiting.entries)
            everything += made
            if not waiting.done.done():
                waiting.done.set_result(tuple(made))
        if everything:
            self._tell(everything)


def _fail(batch: Sequence[_Waiting], error: VouchgateError) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_exception(error)


def _place(change: Change) -> tuple[str, str]:
    """What a change must not share a batch with: changes of the same record; every policy, since versions only rise."""
    kind, key = record_of(change)
    return (kind, "") if kind == "policy" else (kind, key)


def _steps(waiting: _Waiting, first: int) -> list[Step]:
    steps: list[Step] = list(waiting.steps)
    for number, told in enumerate(waiting.changes):
        change = msgspec.structs.replace(told, log_index=first + number) if isinstance(told, VouchAdded) else told
        kind, key = record_of(change)
        indexes = _indexes(change)
        steps += [PutRecord(kind=kind, key=key, value=wire.encode(change), indexes=indexes), BumpEpoch(reason=kind)]
    steps += waiting.entries
    return steps


def _indexes(change: Change) -> dict[str, str]:
    if not isinstance(change, CredentialIssued):
        return {}
    bound = {BOUND_INDEX: hour_of(change.not_after)} if is_bound(change) else {}
    return {"principal": change.principal, ENDS_INDEX: hour_of(change.not_after), **bound}
