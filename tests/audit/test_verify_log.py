"""Verifying a whole log: what holds, and where it first does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_log import LOG, OTHER_KEY, WITNESS, MemoryLog, cosign, numbered

from vouchgate.audit import tree
from vouchgate.audit.verify import LogBroken, LogHolds, verify_log
from vouchgate.vocabulary.errors import InvalidInput, StoreDamaged, Unverified


def broken(log: MemoryLog, checkpoint: bytes, **more) -> LogBroken:  # type: ignore[no-untyped-def]
    found = verify_log(log, checkpoint, LOG, **more)
    assert isinstance(found, LogBroken)
    assert found.reason
    assert found.remedy
    return found


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000, 66_000])
def test_a_whole_log_holds(size: int) -> None:
    log = MemoryLog(numbered(size))
    older = [log.checkpoint(at) for at in {0, size // 3, size // 2, size}]
    note = cosign(log.checkpoint())
    log.add([b"late"] * 3)
    found = verify_log(log, note, LOG, witnesses=[WITNESS], against=older)
    assert found == LogHolds(size + 3, tree.root(log.state), 3, tuple(sorted([*{0, size // 3, size // 2, size}, size])))


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_of_an_entry_is_found_at_its_index(data: st.DataObject) -> None:
    log = MemoryLog(numbered(data.draw(st.integers(1, 900))))
    note = log.checkpoint()
    at = data.draw(st.integers(0, log.size() - 1))
    byte, bit = data.draw(st.integers(0, len(log.rows[at]) - 1)), data.draw(st.integers(0, 7))
    row = bytearray(log.rows[at])
    row[byte] ^= 1 << bit
    log.rows[at] = bytes(row)
    found = broken(log, note)
    assert (found.first_bad, found.last_bad) == (at, at)
    assert f"entry {at} " in found.reason


@pytest.mark.parametrize(
    ("level", "index", "position", "span"), [(0, 0, 7, (7, 7)), (0, 2, 3, (515, 515)), (1, 0, 1, (256, 511)), (1, 0, 2, (512, 767))]
)
def test_a_changed_tile_is_found(level: int, index: int, position: int, span: tuple[int, int]) -> None:
    log = MemoryLog(numbered(900))
    note = log.checkpoint()
    log.flip_tile(level, index, position)
    found = broken(log, note)
    assert (found.first_bad, found.last_bad) == span


def test_an_entry_changed_with_its_hash_is_found_in_its_bundle() -> None:
    log = MemoryLog(numbered(900))
    note = log.checkpoint()
    log.rows[300] = b"forged"
    log.tiles[0, 1] = MemoryLog(log.rows).tiles[0, 1]
    found = broken(log, note)
    assert (found.first_bad, found.last_bad) == (256, 511)


def test_a_log_rewritten_with_all_its_tiles_is_found_between_checkpoints() -> None:
    log = MemoryLog(numbered(900))
    notes = [log.checkpoint(at) for at in (100, 400, 900)]
    forged = MemoryLog([*log.rows[:500], b"forged", *log.rows[501:]])
    found = broken(forged, notes[-1], against=notes[:-1])
    assert (found.first_bad, found.last_bad) == (400, 899)
    assert "rewritten" in found.reason


def test_a_rewritten_and_newly_signed_log_is_caught_by_an_older_checkpoint() -> None:
    log = MemoryLog(numbered(900))
    before = log.checkpoint(600)
    forged = MemoryLog([*log.rows[:200], b"forged", *log.rows[201:]])
    assert isinstance(verify_log(forged, forged.checkpoint(), LOG), LogHolds)
    found = broken(forged, forged.checkpoint(), against=[before])
    assert (found.first_bad, found.last_bad) == (0, 599)


@pytest.mark.parametrize("kept", [0, 1, 256, 899])
def test_a_cut_off_end_is_found(kept: int) -> None:
    log = MemoryLog(numbered(900))
    note = log.checkpoint()
    found = broken(MemoryLog(log.rows[:kept]), note)
    assert (found.first_bad, found.last_bad) == (kept, 899)
    assert "cut off" in found.reason


def test_a_log_shorter_than_an_older_checkpoint_is_found() -> None:
    log = MemoryLog(numbered(900))
    old = log.checkpoint()
    cut = MemoryLog(log.rows[:500])
    assert "cut off" in broken(cut, cut.checkpoint(), against=[old]).reason


def test_swapped_dropped_and_doubled_entries_are_found() -> None:
    rows = numbered(900)
    log = MemoryLog(rows)
    note = log.checkpoint()
    for changed, first in [
        ([*rows[:10], rows[11], rows[10], *rows[12:]], 10),
        ([*rows[:300], *rows[301:], b"x"], 300),
        ([*rows[:300], rows[299], *rows[300:]], 300),
    ]:
        log.rows = changed
        assert broken(log, note).first_bad == first


def test_missing_tiles_and_unreadable_entries_are_found() -> None:
    log = MemoryLog(numbered(900))
    note = log.checkpoint()
    del log.tiles[0, 1]
    assert "missing" in broken(log, note).reason

    class Unreadable(MemoryLog):
        def entries(self, start: int, count: int) -> list[bytes]:
            if start >= 256:
                raise StoreDamaged("the disk failed", remedy="replace it")
            return super().entries(start, count)

    found = broken(Unreadable(numbered(900)), note)
    assert found.first_bad == 256
    assert "the disk failed" in found.reason


def test_only_this_logs_checkpoints_are_taken() -> None:
    log = MemoryLog(numbered(9))
    with pytest.raises(Unverified):
        verify_log(log, log.checkpoint(key=OTHER_KEY), LOG)
    with pytest.raises(Unverified):
        verify_log(log, log.checkpoint(), LOG, witnesses=[WITNESS])
    with pytest.raises(Unverified):
        verify_log(log, log.checkpoint(), LOG, against=[log.checkpoint(3, key=OTHER_KEY)])
    with pytest.raises(InvalidInput):
        verify_log(log, b"nonsense", LOG)
