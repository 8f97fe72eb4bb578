"""The store's contract, the same on every engine."""

from __future__ import annotations

import asyncio
import threading

import pytest
from signed_logs import checkpointed, signed, whole_log

from vouchgate.audit.hashing import leaf_hash, node_hash
from vouchgate.storage.contract import (
    MAX_CHANGES,
    Append,
    BumpEpoch,
    Change,
    Committed,
    DeleteRecord,
    Position,
    PutCheckpoint,
    PutRecord,
    Record,
    SetOffset,
)
from vouchgate.storage.group import GroupStore
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, StoreDamaged, Unavailable


def test_one_commit_holds_records_entries_offset_and_epoch(store: GroupStore) -> None:
    done = store.commit(
        [PutRecord("vouch", "a", b"1"), Append(b"e0"), Append(b"e1", "label"), SetOffset("log", 7, 100, 0), BumpEpoch("a vouch came")]
    )
    assert done == Committed(first_index=0, entry_count=2, epoch=1)
    assert store.get("vouch", "a") == b"1"
    assert store.entries(0, 10) == [b"e0", b"e1"]
    assert store.find_entries("label") == [1]
    assert store.offset("log") == Position(7, 100)
    assert (store.epoch(), store.size()) == (1, 2)


def test_an_empty_store_has_nothing(store: GroupStore) -> None:
    assert (store.size(), store.epoch(), store.entries(0, 5), store.entries(9, 5)) == (0, 0, [], [])
    assert store.get("vouch", "a") is None
    assert store.scan("vouch") == []
    assert store.offset("log") is None
    assert store.latest_checkpoint() is None
    assert store.checkpoints() == []
    assert store.find_entries("x") == []
    assert (store.trust_domain, store.generation) == ("test.local", 0)
    with pytest.raises(StoreDamaged):
        store.tile(0, 0, 1)


def test_a_conflict_applies_nothing_of_its_commit(store: GroupStore) -> None:
    store.commit([SetOffset("log", 7, 100, 0)])
    before = store.size(), store.epoch()
    with pytest.raises(Conflict, match="100 of inode 7"):
        store.commit([PutRecord("vouch", "a", b"1"), Append(b"e", "label"), BumpEpoch("x"), SetOffset("log", 7, 150, 50)])
    assert (store.size(), store.epoch()) == before
    assert store.get("vouch", "a") is None
    assert store.find_entries("label") == []
    assert store.offset("log") == Position(7, 100)
    assert store.commit([Append(b"next")]).first_index == 0


@pytest.mark.parametrize(
    "bad",
    [
        SetOffset("log", 7, 200, 99),
        SetOffset("log", 7, 200, 0),
        SetOffset("log", 7, 200, 101),
        SetOffset("log", 8, 200, 100, expected_inode=8),
        SetOffset("other", 7, 200, 100),
        PutRecord("nonce", "n", b"", must_be_new=True),
        DeleteRecord("token", "t", must_exist=True),
    ],
)
def test_contradicting_changes_are_refused(store: GroupStore, bad: Change) -> None:
    store.commit([SetOffset("log", 7, 100, 0), PutRecord("nonce", "n", b"")])
    with pytest.raises(Conflict):
        store.commit([Append(b"x"), bad])
    assert store.size() == 0


def test_an_offset_moves_on_and_over_to_a_rotated_file(store: GroupStore) -> None:
    store.commit([SetOffset("log", 7, 100, 0), SetOffset("log", 7, 120, 100)])
    store.commit([SetOffset("log", 8, 0, 120, expected_inode=7)])
    store.commit([SetOffset("log", 8, 40, 0, expected_inode=8)])
    assert store.offset("log") == Position(8, 40)


def test_a_token_is_used_once(store: GroupStore) -> None:
    store.commit([PutRecord("token", "t", b"", must_be_new=True)])
    store.commit([DeleteRecord("token", "t", must_exist=True)])
    with pytest.raises(Conflict, match="not there"):
        store.commit([DeleteRecord("token", "t", must_exist=True)])
    store.commit([DeleteRecord("token", "t")])


def test_conditions_see_the_same_commit_and_group(store: GroupStore) -> None:
    store.commit(
        [PutRecord("a", "k", b"1", must_be_new=True), DeleteRecord("a", "k", must_exist=True), PutRecord("a", "k", b"2", must_be_new=True)]
    )
    assert store.get("a", "k") == b"2"

    async def race() -> list[object]:
        tries = [store.commit_async([PutRecord("nonce", "n", b"", must_be_new=True), Append(b"won")]) for _ in range(20)]
        return list(await asyncio.gather(*tries, return_exceptions=True))

    outcomes = asyncio.run(race())
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19
    assert store.entries(0, 9) == [b"won"]


def test_records_are_replaced_deleted_and_found_by_index(store: GroupStore) -> None:
    store.commit(
        [
            PutRecord("vouch", key, key.encode(), {"subject": subject, "type": "scan"})
            for key, subject in [("b", "x"), ("a", "x"), ("c", "y")]
        ]
    )
    assert [record.key for record in store.scan("vouch")] == ["a", "b", "c"]
    assert [record.key for record in store.scan("vouch", index="subject", equals="x")] == ["a", "b"]
    assert store.scan("vouch", index="subject", equals="x", after="a", limit=1) == [
        Record("vouch", "b", b"b", {"subject": "x", "type": "scan"})
    ]
    store.commit([PutRecord("vouch", "a", b"new", {"subject": "y"}), DeleteRecord("vouch", "b")])
    assert store.scan("vouch", index="subject", equals="x") == []
    assert [record.value for record in store.scan("vouch", index="subject", equals="y")] == [b"new", b"c"]
    assert [record.key for record in store.scan("vouch", index="type", equals="scan")] == ["c"]
    assert store.scan("vouch", limit=0) == []
    assert store.scan("vouch", limit=-5) == []
    assert store.scan("vouch", index="no", equals="x") == []


def test_keys_sort_by_bytes_and_keep_every_character(store: GroupStore) -> None:
    keys = ["", " ", "Z", "_", "a", "a b", "a%", "é", "ü'\"\\;--", "日本", "\U0001f600"]
    store.commit([PutRecord("k", key, b"\x00\xff", {"i'n;dex": key}) for key in reversed(keys)])
    assert [record.key for record in store.scan("k")] == keys[1:]
    assert store.get("k", "") == b"\x00\xff"
    assert [record.key for record in store.scan("k", index="i'n;dex", equals="日本")] == ["日本"]


@pytest.mark.parametrize(
    "bad",
    [
        [Append(b"")],
        [PutRecord("k", "nul\x00", b"")],
        [PutRecord("k", "\ud800", b"")],
        [PutRecord("k" * 2000, "a", b"")],
        [PutRecord("k", "a", b"", {"n": "v\x00"})],
        [SetOffset("s", 1, -1, 0)],
        [SetOffset("s", 2**63, 1, 0)],
        [PutCheckpoint(b"not a note")],
        ["not a change"],
    ],
)
def test_malformed_changes_are_refused(store: GroupStore, bad: list[Change]) -> None:
    with pytest.raises(InvalidInput):
        store.commit([Append(b"x"), *bad])
    assert store.size() == 0


@pytest.mark.parametrize(
    "bad", [[Append(b"x" * 65_536)], [PutRecord("k", "a", b"x" * (16 * 1024 * 1024 + 1))], [BumpEpoch("x")] * (MAX_CHANGES + 1)]
)
def test_oversize_commits_are_refused(store: GroupStore, bad: list[Change]) -> None:
    with pytest.raises(LimitExceeded):
        store.commit(bad)
    assert store.epoch() == 0


def test_the_largest_entry_fits(store: GroupStore) -> None:
    store.commit([Append(b"x" * 65_535), Append(b"y")])
    assert [len(entry) for entry in store.entries(0, 9)] == [65_535, 1]


def test_entries_are_read_across_bundles(store: GroupStore) -> None:
    expected: list[bytes] = []
    for count in (1, 254, 3, 256, 511, 700, 1):
        new = [b"%d" % (len(expected) + at) for at in range(count)]
        assert store.commit([Append(entry) for entry in new]).first_index == len(expected)
        expected += new
    for start, count in [
        (0, 1),
        (254, 4),
        (255, 1),
        (256, 256),
        (300, 2_000),
        (len(expected) - 1, 10),
        (len(expected), 1),
        (-5, 2),
        (0, 0),
        (0, -1),
    ]:
        assert store.entries(start, count) == expected[max(start, 0) :][: max(count, 0)]
    assert whole_log(store) == expected


def test_many_writers_interleave_without_gap_or_loss(store: GroupStore) -> None:
    per_writer, writers = 40, 6

    def write(number: int) -> None:
        for at in range(per_writer):
            store.commit([Append(b"%d/%d" % (number, at)), SetOffset(f"s{number}", 1, at + 1, at), BumpEpoch("x")])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = whole_log(store)
    assert store.epoch() == len(entries) == per_writer * writers
    for number in range(writers):
        mine = [entry for entry in entries if entry.startswith(b"%d/" % number)]
        assert mine == [b"%d/%d" % (number, at) for at in range(per_writer)]


def test_checking_and_reading_beside_a_writer_disturbs_nobody(store: GroupStore) -> None:
    stop = threading.Event()
    faults: list[BaseException] = []

    def look() -> None:
        while not stop.is_set():
            try:
                store.check()
                entries = store.entries(0, 1_000)
                assert entries == [b"%d" % at for at in range(len(entries))]
                store.scan("k")
            except BaseException as error:
                faults.append(error)
                return

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for at in range(150):
        store.commit([Append(b"%d" % at), PutRecord("k", str(at % 5), b"")])
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(whole_log(store)) == 150


def test_commits_of_one_caller_take_effect_in_order(store: GroupStore) -> None:
    async def burst() -> list[Committed]:
        return list(await asyncio.gather(*[store.commit_async([Append(b"%d" % at), BumpEpoch("x")]) for at in range(300)]))

    done = asyncio.run(burst())
    assert [one.first_index for one in done] == list(range(300))
    assert [one.epoch for one in done] == list(range(1, 301))
    assert store.entries(0, 300) == [b"%d" % at for at in range(300)]


def test_a_caller_that_gives_up_does_not_disturb_the_others(store: GroupStore) -> None:
    async def some_cancel() -> None:
        tasks = [asyncio.ensure_future(store.commit_async([Append(b"%d" % at)])) for at in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(some_cancel())
    store.commit([Append(b"last")])
    assert len(whole_log(store)) == 51


def test_checkpoints_are_kept_and_must_agree(store: GroupStore) -> None:
    store.commit([Append(b"%d" % at) for at in range(300)])
    first = checkpointed(store)
    store.put_checkpoint(first)
    store.commit([Append(b"more")])
    second = checkpointed(store)
    store.put_checkpoint(second)
    assert store.latest_checkpoint() == second
    assert store.checkpoints() == [first, second]
    with pytest.raises(Conflict):
        store.put_checkpoint(first)
    for size, root in [(301, b"\x00" * 32), (302, store.root()[1]), (2**60, b"\x01" * 32)]:
        with pytest.raises(Conflict):
            store.put_checkpoint(signed(size, root))
    assert store.latest_checkpoint() == second
    store.put_checkpoint(second)


def test_a_checkpoint_of_entries_not_yet_on_disk_is_refused(store: GroupStore) -> None:
    store.commit([Append(b"a")])
    for root in (b"\x00" * 32, node_hash(leaf_hash(b"a"), leaf_hash(b"b"))):
        with pytest.raises(Conflict):
            store.commit([Append(b"b"), PutCheckpoint(signed(2, root))])
    assert (store.size(), store.latest_checkpoint()) == (1, None)


def test_an_empty_log_has_a_checkpoint(store: GroupStore) -> None:
    store.put_checkpoint(checkpointed(store))
    assert store.latest_checkpoint() == checkpointed(store)


def test_a_closed_store_refuses(store: GroupStore) -> None:
    store.close()
    store.close()
    with pytest.raises(Unavailable):
        store.commit([Append(b"x")])


def test_everything_survives_opening_again(opener) -> None:  # type: ignore[no-untyped-def]
    if opener.engine == "memory":
        pytest.skip("a store in memory ends with the process by its contract")
    store = opener()
    for count in (1, 300, 70_000 // 7):
        store.commit([Append(b"%d" % at) for at in range(count)])
    store.commit([PutRecord("k", "a", b"1", {"i": "v"}), BumpEpoch("x"), SetOffset("s", 3, 4, 0), Append(b"l", "label")])
    store.put_checkpoint(checkpointed(store))
    before = whole_log(store), store.root(), store.latest_checkpoint(), store.epoch()
    store.close()
    again = opener()
    assert (whole_log(again), again.root(), again.latest_checkpoint(), again.epoch()) == before
    assert (again.offset("s"), again.find_entries("label"), again.get("k", "a")) == (Position(3, 4), [10_301], b"1")
    assert again.commit([Append(b"x")]).first_index == 10_302
    again.check()
    assert whole_log(again)[:-1] == before[0]


def test_trust_domains_do_not_see_each_other(opener) -> None:  # type: ignore[no-untyped-def]
    if opener.engine == "memory":
        pytest.skip("a store in memory holds one trust domain by its nature")
    one = opener("one.local")
    one.commit([PutRecord("k", "a", b"one", {"i": "v"}), Append(b"one", "l"), SetOffset("s", 1, 1, 0), BumpEpoch("x")])
    one.put_checkpoint(checkpointed(one))
    one.close()
    two = opener("two.local")
    assert (two.get("k", "a"), two.scan("k"), two.scan("k", index="i", equals="v"), two.size(), two.epoch()) == (None, [], [], 0, 0)
    assert (two.offset("s"), two.find_entries("l"), two.latest_checkpoint(), two.entries(0, 9)) == (None, [], None, [])
    two.commit([DeleteRecord("k", "a"), PutRecord("k", "b", b"two"), Append(b"two")])
    two.close()
    back = opener("one.local")
    assert (back.get("k", "a"), back.entries(0, 9)) == (b"one", [b"one"])


def test_a_second_opener_is_refused(opener) -> None:  # type: ignore[no-untyped-def]
    if opener.engine == "memory":
        pytest.skip("a store in memory has no name to open twice")
    opener()
    with pytest.raises(Conflict, match="in use") as caught:
        opener()
    assert "only one control plane" in caught.value.remedy
