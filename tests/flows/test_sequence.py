"""The sequencer beside a store in memory: the order of records, and what a failing store does to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.flows.changes import PolicyActivated, Revoked, SettingPut, VouchAdded, decode_record
from vouchgate.flows.sequence import BATCH, MAX_STEPS, MAX_WAITING_PER_REQUESTER, Sequenced, Sequencer
from vouchgate.storage.opening import open_memory
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, StoreDamaged, Unavailable, VouchgateError
from vouchgate.vocabulary.records import Append, PutRecord, SetOffset
from vouchgate.vocabulary.vouches import Revocation


def sequencer(store: object, applied: list[Sequenced]) -> Sequencer:
    return Sequencer(store, check=lambda _: None, apply=applied.append, tell=lambda _: None)  # type: ignore[arg-type]


async def submitted(store: object, *batches: list[VouchAdded | SettingPut]) -> list[Sequenced]:
    applied: list[Sequenced] = []
    made = sequencer(store, applied)
    running = asyncio.create_task(made.run())
    try:
        await asyncio.gather(
            *(
                made.submit(f"r{number}", batch, [Append(entry=f"{number}/{n}".encode()) for n in range(len(batch) + 1)])
                for number, batch in enumerate(batches)
            )
        )
    finally:
        running.cancel()
    return applied


def test_the_record_of_a_vouch_names_the_log_index_at_which_it_was_applied() -> None:
    store = open_memory("test.local")
    vouches = [[VouchAdded(id=f"{name}{n}", envelope=b"e") for n in range(2)] for name in "zya"]
    applied = asyncio.run(submitted(store, [SettingPut(key="k", value="v")], *vouches))
    kept = {}
    for record in store.scan("vouch", after="", limit=100):
        change = decode_record("vouch", record.value)
        assert isinstance(change, VouchAdded)
        kept[change.id] = change.log_index
    indexes = {one.change.id: one.log_index for one in applied if isinstance(one.change, VouchAdded)}
    assert kept == indexes
    assert len(set(kept.values())) == 6
    assert store.entries(kept["a1"], 1) == [b"3/1"]


def test_a_log_that_grows_beside_the_sequencer_stops_it() -> None:
    store = open_memory("test.local")

    class Beside:
        async def commit_async(self, changes: object) -> object:
            store.commit([Append(entry=b"foreign")])
            return await store.commit_async(changes)  # type: ignore[arg-type]

        def size(self) -> int:
            return store.size()

    async def go() -> None:
        made = sequencer(Beside(), [])
        running = asyncio.create_task(made.run())
        waiting = asyncio.create_task(made.submit("r", [VouchAdded(id="v", envelope=b"e")], [Append(entry=b"1")]))
        with pytest.raises(StoreDamaged, match="beside"):
            await running
        waiting.cancel()

    asyncio.run(go())


# --- lanes, batches, failures ------------------------------------------------------------------------------------------------------


class Watched:
    """A store that shows its commits, can be held up, and can be told to fail."""

    def __init__(self) -> None:
        self.store = open_memory("test.local")
        self.commits: list[list[object]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Callable[[list[object]], VouchgateError | None] = lambda _: None

    async def commit_async(self, changes: Sequence[object]) -> object:
        self.commits.append(list(changes))
        await self.gate.wait()
        error = self.fails(list(changes))
        if error is not None:
            raise error
        return await self.store.commit_async(changes)  # type: ignore[arg-type]

    def size(self) -> int:
        return self.store.size()

    def keys(self, number: int) -> list[str]:
        return [step.key for step in self.commits[number] if isinstance(step, PutRecord)]


class Sequence_:
    """A sequencer that runs, with what it applied and told."""

    def __init__(self, check: Callable[[object], None] = lambda _: None) -> None:
        self.store = Watched()
        self.applied: list[Sequenced] = []
        self.told: list[list[Sequenced]] = []
        self.made = Sequencer(
            self.store,  # type: ignore[arg-type]
            check=check,
            apply=self._apply,
            tell=lambda batch: self.told.append(list(batch)),
        )

    def _apply(self, one: Sequenced) -> None:
        assert self.store.store.epoch() >= one.epoch, "applied before it was durable"
        self.applied.append(one)

    def put(self, who: str, *keys: str, value: str = "v") -> asyncio.Task[tuple[Sequenced, ...]]:
        changes = [SettingPut(key=key, value=value) for key in keys]
        return asyncio.create_task(self.made.submit(who, changes, [Append(entry=key.encode()) for key in keys]))

    def revoke(self, identity: str) -> asyncio.Task[tuple[Sequenced, ...]]:
        made = Revocation(
            id=identity, trust_domain="test.local", target_kind="principal", target="x", reason="", requested_by="r", made_at=0,
        )  # fmt: skip
        return asyncio.create_task(self.made.submit("r", [Revoked(revocation=made)], [Append(entry=identity.encode())]))


def run(story: Callable[[Sequence_], Awaitable[None]], **options: Any) -> None:
    async def go() -> None:
        world = Sequence_(**options)
        running = asyncio.create_task(world.made.run())
        try:
            await asyncio.wait_for(story(world), 20)
            assert not running.done(), running
        finally:
            running.cancel()
            world.store.store.close()

    asyncio.run(go())


def test_a_revocation_overtakes_everything_that_waits() -> None:
    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        waiting = [world.put(f"r{number % 7}", f"k{number}") for number in range(5_000)]
        await asyncio.sleep(0.01)
        first = len(world.store.commits)
        revoking = world.revoke("now")
        await asyncio.sleep(0.01)
        world.store.gate.set()
        await revoking
        assert len(world.store.commits) <= first + 2
        assert world.store.keys(first)[0] == "now"
        assert sum(one.done() for one in waiting) <= 2 * BATCH
        await asyncio.gather(*waiting)
        assert len(world.applied) == 5_001

    run(story)


def test_one_requesters_flood_delays_nobody_else() -> None:
    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        flood = [world.put("flood", f"f{number}") for number in range(MAX_WAITING_PER_REQUESTER)]
        await asyncio.sleep(0.01)
        quiet = world.put("quiet", "q")
        await asyncio.sleep(0.01)
        world.store.gate.set()
        await quiet
        assert len(world.store.commits) <= 3
        await asyncio.gather(*flood)

    run(story)


def test_more_requesters_than_a_batch_holds_all_get_their_turn() -> None:
    """Each of the first requesters sends again at once; the last one still comes with the second batch."""

    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        first = world.put("starter", "s")
        await asyncio.sleep(0.01)
        busy = [world.put(f"busy{who}", f"b{who}-{number}") for who in range(BATCH) for number in range(6)]
        await asyncio.sleep(0.01)
        late = world.put("late", "late")
        await asyncio.sleep(0.01)
        world.store.gate.set()
        await late
        assert len(world.store.commits) <= 4
        await asyncio.gather(first, *busy)

    run(story)


def test_a_full_lane_refuses_with_nothing_done_and_others_go_on() -> None:
    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        waiting = [world.put("a", f"{number}") for number in range(MAX_WAITING_PER_REQUESTER + BATCH)]
        await asyncio.sleep(0.01)
        over = [world.put("a", f"over{number}") for number in range(BATCH + 1)]
        await asyncio.sleep(0.05)
        refused = [one for one in over + waiting if one.done() and one.exception()]
        assert refused
        assert all(isinstance(one.exception(), LimitExceeded) for one in refused)
        other = world.put("b", "other")
        world.store.gate.set()
        await other
        done = await asyncio.gather(*over, *waiting, return_exceptions=True)
        kept = {record.key for record in world.store.store.scan("setting", limit=10_000)}
        assert len(kept) == 1 + sum(isinstance(one, tuple) for one in done)

    run(story)


def test_revocations_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.flows.sequence.MAX_WAITING_REVOCATIONS", 3)

    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        blocking = world.put("a", "k")
        await asyncio.sleep(0.01)
        made = [world.revoke(f"r{number}") for number in range(5)]
        await asyncio.sleep(0.01)
        world.store.gate.set()
        done = await asyncio.gather(*made, return_exceptions=True)
        assert [type(one) for one in done] == [tuple, tuple, tuple, LimitExceeded, LimitExceeded]
        await blocking

    run(story)


def test_two_changes_of_one_record_never_share_a_commit() -> None:
    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        waiting = [world.put(f"r{number}", "same", value=str(number)) for number in range(5)]
        waiting += [world.put("z", "other")]
        await asyncio.sleep(0.01)
        world.store.gate.set()
        await asyncio.gather(*waiting)
        assert all(world.store.keys(number).count("same") <= 1 for number in range(len(world.store.commits)))
        newest = [one.change.value for one in world.applied if one.change.key == "same"][-1]
        kept = decode_record("setting", world.store.store.get("setting", "same") or b"")
        assert kept.value == newest

    run(story)


def test_each_change_of_a_record_is_checked_against_the_one_before() -> None:
    seen: set[str] = set()

    def once(change: Any) -> None:
        if change.key in seen:
            raise Conflict("it was taken", remedy="another")

    async def story(world: Sequence_) -> None:
        apply = world.made._apply
        world.made._apply = lambda one: (apply(one), seen.add(one.change.key))
        done = await asyncio.gather(*(world.put(f"r{number}", "token") for number in range(20)), return_exceptions=True)
        assert sum(isinstance(one, tuple) for one in done) == 1
        assert sum(isinstance(one, Conflict) for one in done) == 19

    run(story, check=once)


def test_a_failed_check_fails_its_own_request_alone() -> None:
    def odd(change: Any) -> None:
        if change.key.startswith("bad"):
            raise InvalidInput("bad", remedy="good")

    async def story(world: Sequence_) -> None:
        good = [world.put("a", f"g{number}") for number in range(10)]
        bad = [world.put("a", f"bad{number}", "fine") for number in range(10)]
        done = await asyncio.gather(*bad, return_exceptions=True)
        assert all(isinstance(one, InvalidInput) for one in done)
        assert all(len(one) == 1 for one in await asyncio.gather(*good))
        assert world.store.store.get("setting", "fine") is None

    run(story, check=odd)


@pytest.mark.parametrize("bad", [{0}, {3, 4}, {63}, set(range(0, 64, 9))])
def test_a_refused_commit_fails_only_the_requests_at_fault(bad: set[int]) -> None:
    async def story(world: Sequence_) -> None:
        keys = {f"k{number}" for number in bad}
        world.store.fails = lambda steps: (
            Conflict("taken", remedy="other") if keys & {step.key for step in steps if isinstance(step, PutRecord)} else None
        )
        world.store.gate.clear()
        first = world.put("starter", "s")
        await asyncio.sleep(0.01)
        waiting = [world.put(f"r{number}", f"k{number}") for number in range(64)]
        await asyncio.sleep(0.01)
        world.store.gate.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert {number for number, one in enumerate(done) if isinstance(one, Conflict)} == bad
        assert len(world.store.commits) <= 2 + 12 * len(bad), "a revocation would wait for each of them"
        assert world.made.failed == "", "the store works"
        await first
        assert [one.epoch for one in world.applied] == sorted({one.epoch for one in world.applied})

    run(story)


def test_a_store_that_cannot_write_fails_the_batch_at_once_and_applies_nothing() -> None:
    async def story(world: Sequence_) -> None:
        world.store.fails = lambda _: Unavailable("the disk is full", remedy="free some space")
        done = await asyncio.gather(*(world.put(f"r{number}", f"k{number}") for number in range(50)), return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in done)
        assert (world.applied, world.told) == ([], [])
        assert len(world.store.commits) <= 2
        assert world.made.failed == "the disk is full"
        world.store.fails = lambda _: None
        await world.put("r", "again")
        assert world.made.failed == ""

    run(story)


def test_what_was_cancelled_while_it_waited_is_not_done() -> None:
    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        first = world.put("a", "first")
        await asyncio.sleep(0.01)
        second, third = world.put("a", "second"), world.put("a", "third")
        await asyncio.sleep(0.01)
        second.cancel()
        first.cancel()
        await asyncio.sleep(0.01)
        world.store.gate.set()
        await third
        assert [one.change.key for one in world.applied] == ["first", "third"], "what is on its way to disk is finished"

    run(story)


def test_an_offset_moves_once_and_its_lines_are_there_once() -> None:
    async def story(world: Sequence_) -> None:
        def lines(at: int) -> asyncio.Task[int]:
            step = SetOffset(source="gateway", inode=1, offset=at + 10, expected_offset=at)
            return asyncio.create_task(world.made.append("gateway", [Append(entry=f"line{at}".encode())], steps=(step,)))

        done = await asyncio.gather(*(lines(0) for _ in range(6)), world.put("a", "k"), return_exceptions=True)
        assert sum(isinstance(one, int) for one in done) == 1
        assert sum(isinstance(one, Conflict) for one in done) == 5
        await lines(10)
        entries = world.store.store.entries(0, 100)
        assert sorted(entries) == [b"k", b"line0", b"line10"]
        position = world.store.store.offset("gateway")
        assert position is not None
        assert position.offset == 20

    run(story)


def test_append_tells_the_index_of_its_first_entry_whatever_else_is_in_the_commit() -> None:
    async def story(world: Sequence_) -> None:
        made = [
            asyncio.create_task(
                world.made.append(f"r{number % 3}", [Append(entry=f"{number}/{line}".encode()) for line in range(number % 4)])
            )
            for number in range(1, 60)
        ]
        firsts = await asyncio.gather(*made)
        for number, first in zip(range(1, 60), firsts, strict=True):
            assert world.store.store.entries(first, number % 4) == [f"{number}/{line}".encode() for line in range(number % 4)]

    run(story)


def test_a_commit_stays_below_the_stores_bound() -> None:
    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        made = [asyncio.create_task(world.made.append(f"r{number}", [Append(entry=b"x")] * 2_000)) for number in range(8)]
        await asyncio.sleep(0.01)
        world.store.gate.set()
        await asyncio.gather(*made)
        assert max(len(commit) for commit in world.store.commits) <= MAX_STEPS
        assert world.store.size() == 16_000

    run(story)


def test_a_policy_shares_its_commit_with_no_other_policy() -> None:
    def policy(version: int) -> PolicyActivated:
        return PolicyActivated(version=version, sources=(), digest="", envelope=b"", author="", approver="", applied_at=0)

    async def story(world: Sequence_) -> None:
        world.store.gate.clear()
        made = [asyncio.create_task(world.made.submit(f"r{number}", [policy(number)], [Append(entry=b"p")])) for number in (7, 6, 5)]
        await asyncio.sleep(0.01)
        world.store.gate.set()
        await asyncio.gather(*made)
        assert [len(batch) for batch in world.told] == [1, 1, 1]

    run(story)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.sampled_from("klmn"), max_size=3, unique=True), st.integers(0, 2), st.booleans()),
        max_size=40,
    )
)
def test_epochs_and_indexes_follow_each_other_without_a_gap(requests: list[tuple[str, list[str], int, bool]]) -> None:
    async def story(world: Sequence_) -> None:
        waiting = []
        for number, (who, keys, more, pause) in enumerate(requests):
            changes = [SettingPut(key=key, value=str(number)) for key in keys]
            entries = [Append(entry=f"{number}/{line}".encode()) for line in range(len(keys) + more)]
            waiting.append(asyncio.create_task(world.made.submit(who, changes, entries)))
            if pause:
                await asyncio.sleep(0)
        made = await asyncio.gather(*waiting)
        assert [one.epoch for one in world.applied] == list(range(1, sum(len(keys) for _, keys, _, _ in requests) + 1))
        for number, sequenced in enumerate(made):
            for place, one in enumerate(sequenced):
                assert world.store.store.entries(one.log_index, 1) == [f"{number}/{place}".encode()]
        newest = {one.change.key: one.change.value for one in world.applied}
        kept = {record.key: decode_record("setting", record.value).value for record in world.store.store.scan("setting")}
        assert kept == newest

    run(story)
