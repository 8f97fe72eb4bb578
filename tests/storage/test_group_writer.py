"""The one writer under an engine that fails, lies about failing, or hangs."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from signed_logs import whole_log

from vouchgate.storage import group
from vouchgate.storage.contract import Append, BumpEpoch, Committed, Health, Position, PutRecord, SetOffset
from vouchgate.storage.engine import Batch, Head
from vouchgate.storage.group import GroupStore
from vouchgate.storage.memory import MemoryEngine
from vouchgate.vocabulary.errors import Conflict, InvalidInput, Unavailable


class Faulty(MemoryEngine):
    """Fails before or after applying, and may not answer when it is asked what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_before = self.fail_after = self.fail_loads = 0
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[Batch] = []

    def load(self) -> Head:
        if self.fail_loads:
            self.fail_loads -= 1
            raise Unavailable("gone", remedy="wait")
        return super().load()

    def write(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.gate.wait(10)
        if self.fail_before:
            self.fail_before -= 1
            raise Unavailable("failed", remedy="wait")
        super().write(batch)
        if self.fail_after:
            self.fail_after -= 1
            raise Unavailable("the connection broke", remedy="wait")


@pytest.fixture
def engine() -> Faulty:
    return Faulty()


@pytest.fixture
def store(engine: Faulty) -> GroupStore:
    return GroupStore(engine, "test.local")


def step(at: int) -> list[Append | SetOffset | BumpEpoch]:
    return [Append(b"%d" % at), SetOffset("s", 1, at + 1, at), BumpEpoch("x")]


def test_a_failed_write_applies_nothing(engine: Faulty, store: GroupStore) -> None:
    store.commit(step(0))
    assert store.health() == Health(0, "", None)
    engine.fail_before = 1
    with pytest.raises(Unavailable, match="failed"):
        store.commit(step(1))
    assert store.health() == Health(0, "failed", None)
    assert (store.size(), store.epoch(), store.offset("s")) == (1, 1, Position(1, 1))
    store.commit(step(1))
    assert whole_log(store) == [b"0", b"1"]
    assert store.health().failed == ""


def test_a_commit_that_was_applied_although_the_connection_broke_is_acknowledged(engine: Faulty, store: GroupStore) -> None:
    engine.fail_after = 1
    assert store.commit(step(0)) == Committed(0, 1, 1)
    store.commit(step(1))
    assert whole_log(store) == [b"0", b"1"]


@pytest.mark.parametrize("applied", [True, False])
def test_while_nobody_knows_nothing_more_is_written(engine: Faulty, store: GroupStore, applied: bool) -> None:
    engine.fail_after, engine.fail_before = (1, 0) if applied else (0, 1)
    engine.fail_loads = 3
    for _ in range(3):
        with pytest.raises(Unavailable, match="gone"):
            store.commit(step(0))
    assert len(engine.batches) == 1
    if applied:
        with pytest.raises(Conflict):
            store.commit(step(0))
        store.commit(step(1))
    else:
        store.commit(step(0))
        store.commit(step(1))
    assert whole_log(store) == [b"0", b"1"]


def test_an_engine_with_a_fault_of_its_own_does_not_stop_the_writer(
    engine: Faulty, store: GroupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(batch: Batch) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(engine, "write", broken)
    with pytest.raises(ZeroDivisionError):
        store.commit(step(0))
    monkeypatch.undo()
    store.commit(step(0))
    assert whole_log(store) == [b"0"]


def test_what_waits_is_written_as_one_group(engine: Faulty, store: GroupStore) -> None:
    async def burst() -> list[Committed]:
        engine.gate.clear()
        waiting = [asyncio.ensure_future(store.commit_async([Append(b"%d" % at)])) for at in range(500)]
        await asyncio.sleep(0.05)
        engine.gate.set()
        return list(await asyncio.gather(*waiting))

    assert [one.first_index for one in asyncio.run(burst())] == list(range(500))
    assert len(engine.batches) <= 3


def test_a_group_is_bounded(engine: Faulty, store: GroupStore) -> None:
    async def burst() -> None:
        engine.gate.clear()
        waiting = [asyncio.ensure_future(store.commit_async([Append(b"x")] * 500)) for _ in range(20)]
        await asyncio.sleep(0.05)
        engine.gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(burst())
    sizes = [batch.after.size - batch.before.size for batch in engine.batches]
    assert sum(sizes) == 10_000
    assert max(sizes) < group.MAX_GROUP_ENTRIES + 500


def test_a_conflict_in_a_group_fails_alone(engine: Faulty, store: GroupStore) -> None:
    async def burst() -> list[object]:
        engine.gate.clear()
        first = asyncio.ensure_future(store.commit_async([Append(b"first")]))
        await asyncio.sleep(0.02)
        rest = [
            store.commit_async([Append(b"a"), BumpEpoch("x")]),
            store.commit_async([Append(b"lost"), BumpEpoch("x"), SetOffset("s", 1, 5, 4), PutRecord("k", "lost", b"")]),
            store.commit_async([Append(b"b"), BumpEpoch("x")]),
        ]
        waiting = asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0.02)
        engine.gate.set()
        await first
        return list(await waiting)

    a, lost, b = asyncio.run(burst())
    assert (a, b) == (Committed(1, 1, 1), Committed(2, 1, 2))
    assert isinstance(lost, Conflict)
    assert store.get("k", "lost") is None
    assert whole_log(store) == [b"first", b"a", b"b"]


def test_a_disk_that_hangs_refuses_more_work(engine: Faulty, store: GroupStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "MAX_WAITING_COMMITS", 10)

    async def burst() -> list[object]:
        engine.gate.clear()
        try:
            tries = [asyncio.ensure_future(store.commit_async([Append(b"x")])) for _ in range(40)]
            await asyncio.sleep(0.05)
        finally:
            engine.gate.set()
        return list(await asyncio.gather(*tries, return_exceptions=True))

    outcomes = asyncio.run(burst())
    assert any(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == store.size()


def test_reads_go_on_while_the_disk_hangs(engine: Faulty, store: GroupStore) -> None:
    store.commit([Append(b"x"), PutRecord("k", "a", b"1")])
    engine.gate.clear()
    waiting = threading.Thread(target=lambda: store.commit([Append(b"y")]))
    waiting.start()
    assert (store.get("k", "a"), store.size(), store.entries(0, 9)) == (b"1", 1, [b"x"])
    engine.gate.set()
    waiting.join()
    assert store.size() == 2


def test_a_loop_that_ended_does_not_stop_the_writer(engine: Faulty, store: GroupStore) -> None:
    loop = asyncio.new_event_loop()
    engine.gate.clear()

    async def hand_in() -> None:
        task = asyncio.ensure_future(store.commit_async([Append(b"orphan")]))
        await asyncio.sleep(0)
        task.cancel()

    loop.run_until_complete(hand_in())
    loop.close()
    engine.gate.set()
    store.commit([Append(b"next")])
    assert whole_log(store) == [b"orphan", b"next"]


def test_closing_finishes_what_was_handed_in(engine: Faulty) -> None:
    store = GroupStore(engine, "test.local")
    done: list[Committed] = []
    threads = [threading.Thread(target=lambda: done.append(store.commit([Append(b"x")]))) for _ in range(8)]
    engine.gate.clear()
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + 5
    while store._jobs.qsize() + sum(batch.after.size for batch in engine.batches) < 8 and time.monotonic() < give_up:
        time.sleep(0.001)
    closing = threading.Thread(target=store.close)
    closing.start()
    engine.gate.set()
    for thread in [*threads, closing]:
        thread.join(10)
    assert len(done) == engine.load().size == 8


def test_malformed_commits_never_reach_the_writer(engine: Faulty, store: GroupStore) -> None:
    with pytest.raises(InvalidInput):
        store.commit([Append(b"x"), Append(b"")])
    assert engine.batches == []


def test_an_empty_commit_writes_nothing(engine: Faulty, store: GroupStore) -> None:
    assert store.commit([]) == Committed(0, 0, 0)
    assert engine.batches == []
