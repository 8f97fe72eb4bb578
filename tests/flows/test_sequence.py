"""The sequencer beside a store in memory: the order of records, and what a failing store does to it."""

from __future__ import annotations

import asyncio

import pytest

from vouchgate.flows.changes import SettingPut, VouchAdded, decode_change
from vouchgate.flows.sequence import Sequenced, Sequencer
from vouchgate.storage.opening import open_memory
from vouchgate.vocabulary.errors import StoreDamaged
from vouchgate.vocabulary.records import Append


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
        change = decode_change(record.value)
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
