"""The one writer: commits of all callers gathered into groups, one fsync a group.

Rules
1. A group closes at `MAX_GROUP_ENTRIES` entries or `MAX_GROUP_BYTES`, after `GATHER_SECONDS`, or when nobody waits, whichever is first; while
   one group is on its way to disk, the next one gathers.
2. A caller gets its answer only after its group is on disk.
3. If a write fails in a way that may or may not have reached the disk, the head is loaded again: the batch's serial tells which. As long as
   that cannot be told, the callers get `Unavailable` and every later commit is refused before it changes anything.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from vouchgate.audit import tree
from vouchgate.audit.checkpoints import read_checkpoint
from vouchgate.audit.tiles import TILE_WIDTH, checked_tile, read_bundle
from vouchgate.storage import ledger
from vouchgate.storage.contract import MAX_SCAN, Change, Committed, Health, Position, PutCheckpoint, Record
from vouchgate.storage.engine import KEPT_CHECKPOINTS, Engine, EngineReads, Head
from vouchgate.vocabulary.errors import Conflict, StoreDamaged, Unavailable, VouchgateError

MAX_GROUP_ENTRIES = 2_048
"""Entries of one group: about 20 ms of work, so that no caller waits long behind one fsync."""
MAX_GROUP_BYTES = 4 * 1024 * 1024
"""Bytes after which no further commit joins a group."""
GATHER_SECONDS = 0.005
"""Longest time a group stays open for more."""
MAX_WAITING_COMMITS = 10_000
"""Commits handed in and not on disk; beyond it the store is too slow, and callers must fail closed."""


class _Job:
    """A commit on its way; `answer` is called by the writer, once."""

    __slots__ = ("bytes", "changes", "entries", "future", "loop")

    def __init__(self, changes: tuple[Change, ...], loop: asyncio.AbstractEventLoop | None) -> None:
        self.entries, self.bytes = ledger.weigh(changes)
        self.changes = changes
        self.loop = loop
        self.future: Future[Committed] | asyncio.Future[Committed] = Future() if loop is None else loop.create_future()


class StoreReader:
    """Reads of a store (`contract.StoreReads`)."""

    def __init__(self, engine: EngineReads, trust_domain: str) -> None:
        self.engine = engine
        self.trust_domain = trust_domain

    def _now(self) -> Head:
        return self.engine.load()

    @property
    def generation(self) -> int:
        return self._now().generation

    def get(self, kind: str, key: str) -> bytes | None:
        return self.engine.get(kind, key)

    def scan(self, kind: str, *, index: str = "", equals: str = "", after: str = "", limit: int = 1_000) -> list[Record]:
        return self.engine.scan(kind, index, equals, after, max(0, min(limit, MAX_SCAN)))

    def epoch(self) -> int:
        return self._now().epoch

    def offset(self, source: str) -> Position | None:
        return self._now().positions.get(source)

    def size(self) -> int:
        return self._now().size

    def root(self) -> tuple[int, bytes]:
        state = self._now().tree
        return state.size, tree.root(state)

    def entries(self, start: int, count: int) -> list[bytes]:
        start, count = max(0, start), max(0, min(count, MAX_SCAN))
        found: list[bytes] = []
        for chunk in self.engine.chunks(start - start % TILE_WIDTH, start + count):
            if chunk.first + chunk.count <= start:
                continue
            entries = read_bundle(chunk.bundle)
            if len(entries) != chunk.count or chunk.first != start + len(found) - max(0, start - chunk.first):
                raise StoreDamaged(f"the log's entries around {chunk.first} do not follow each other", remedy="restore the newest backup")
            found += entries[max(0, start - chunk.first) :]
        return found[:count]

    def find_entries(self, label: str) -> list[int]:
        return self.engine.labelled(label, MAX_SCAN)

    def tile(self, level: int, index: int, width: int) -> bytes:
        return checked_tile(self.engine.tile(level, index), level, index, width)

    def latest_checkpoint(self) -> bytes | None:
        found = self.engine.checkpoints(1)
        return found[-1] if found else None

    def checkpoints(self) -> list[bytes]:
        return self.engine.checkpoints(KEPT_CHECKPOINTS)

    def check(self) -> None:
        self.engine.check()

    def close(self) -> None:
        self.engine.close()


class GroupStore(StoreReader):
    """A store with its writer thread (`contract.Store`)."""

    def __init__(self, engine: Engine, trust_domain: str) -> None:
        super().__init__(engine, trust_domain)
        self._writes = engine
        self._head = engine.load()
        self._head_unknown = False
        self._failed = ""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def _now(self) -> Head:
        return self._head

    def commit(self, changes: Sequence[Change]) -> Committed:
        future = self._hand_in(_Job(tuple(changes), None))
        assert isinstance(future, Future)
        return future.result()

    async def commit_async(self, changes: Sequence[Change]) -> Committed:
        future = self._hand_in(_Job(tuple(changes), asyncio.get_running_loop()))
        assert isinstance(future, asyncio.Future)
        return await future

    def health(self) -> Health:
        return Health(self._jobs.qsize(), self._failed, self._writes.free_bytes())

    def put_checkpoint(self, note: bytes) -> None:
        self.commit([PutCheckpoint(note)])

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self.engine.close()

    def _hand_in(self, job: _Job) -> Future[Committed] | asyncio.Future[Committed]:
        for change in job.changes:
            if isinstance(change, PutCheckpoint):
                self._require_agreement(change.note)
        if self._jobs.qsize() >= MAX_WAITING_COMMITS:
            raise Unavailable(
                f"{MAX_WAITING_COMMITS} commits wait for the disk", remedy="see `vouchgate status`: the disk is too slow or stuck"
            )
        with self._closing:
            if self._closed:
                raise Unavailable("the store is closed", remedy="start vouchgate again")
            self._jobs.put(job)
        return job.future

    def _require_agreement(self, note: bytes) -> None:
        checkpoint = read_checkpoint(note)
        if checkpoint.size <= self.size() and tree.root_at(checkpoint.size, self.tile) != checkpoint.root:
            raise Conflict(f"a checkpoint of {checkpoint.size} entries does not agree with the log", remedy="sign the log's own root")

    def _run(self) -> None:
        more = True
        while more:
            group, more = self._gather()
            if group:
                self._settle(group)

    def _gather(self) -> tuple[list[_Job], bool]:
        job = self._jobs.get()
        if job is None:
            return [], False
        group, entries, size = [job], job.entries, job.bytes
        closes_at = time.monotonic() + GATHER_SECONDS
        while entries < MAX_GROUP_ENTRIES and size < MAX_GROUP_BYTES and time.monotonic() < closes_at:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return group, False
            group.append(job)
            entries, size = entries + job.entries, size + job.bytes
        return group, True

    def _settle(self, group: list[_Job]) -> None:
        outcomes: Sequence[Committed | BaseException]
        try:
            if self._head_unknown:
                self._head, self._head_unknown = self._writes.load(), False
            outcomes = self._write([job.changes for job in group])
        except Exception as error:
            self._failed = error.reason if isinstance(error, VouchgateError) else type(error).__name__
            outcomes = [error] * len(group)
        _tell(group, outcomes)

    def _write(self, commits: list[tuple[Change, ...]]) -> Sequence[Committed | BaseException]:
        planned = ledger.plan(self._head, commits, lambda kind, key: self._writes.get(kind, key) is not None)
        if planned.changed:
            try:
                self._writes.write(planned.batch)
            except VouchgateError as error:
                self._head_unknown = True
                loaded = self._writes.load()
                self._head, self._head_unknown = loaded, False
                if loaded.serial != planned.batch.after.serial or loaded.tree != planned.batch.after.tree:
                    self._failed = error.reason
                    return [outcome if isinstance(outcome, VouchgateError) else error for outcome in planned.outcomes]
            self._head, self._failed = planned.batch.after, ""
        return planned.outcomes


def _tell(group: list[_Job], outcomes: Sequence[Committed | BaseException]) -> None:
    """Answer the callers; one wake-up for each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Committed | BaseException]]] = {}
    for job, outcome in zip(group, outcomes, strict=True):
        if job.loop is None:
            _resolve(job.future, outcome)
        else:
            loops.setdefault(job.loop, []).append((job, outcome))
    for loop, answers in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve_all, answers)
        except RuntimeError:
            continue  # the loop was closed: nobody waits any more, the commits stand


def _resolve_all(answers: Sequence[tuple[_Job, Committed | BaseException]]) -> None:
    for job, outcome in answers:
        _resolve(job.future, outcome)


def _resolve(future: Future[Committed] | asyncio.Future[Committed], outcome: Committed | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
