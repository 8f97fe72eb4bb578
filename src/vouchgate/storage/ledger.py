"""The rules of a commit, pure: which changes stand, at which log index and epoch, and what the engine must write.

Rules
1. A commit that conflicts leaves no trace; the others of its group stand.
2. Offsets, epoch and tree are known from the head alone: with one writer nothing else can have changed them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from vouchgate.audit import tree
from vouchgate.audit.checkpoints import read_checkpoint
from vouchgate.audit.hashing import leaf_hash
from vouchgate.audit.tiles import MAX_ENTRY_BYTES, TILE_WIDTH, check_entry, write_bundle
from vouchgate.storage.contract import (
    MAX_CHANGES,
    MAX_COMMIT_BYTES,
    MAX_NAME_CHARS,
    Append,
    BumpEpoch,
    Change,
    Committed,
    DeleteRecord,
    Position,
    PutCheckpoint,
    PutRecord,
    SetOffset,
)
from vouchgate.storage.engine import Batch, Chunk, Head
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, VouchgateError

MAX_INTEGER = 2**63 - 1
"""Engines hold signed 64-bit integers."""


class Planned(msgspec.Struct, frozen=True):
    """What a group of commits comes to."""

    batch: Batch
    outcomes: list[Committed | VouchgateError]
    """One for each commit handed in."""
    changed: bool


Exists = Callable[[str, str], bool]


class _Known(msgspec.Struct, frozen=True):
    """What stands before a commit: the head, what the group has done so far, and a question to the disk."""

    head: Head
    done: _Scratch
    exists: Exists


class _Scratch(msgspec.Struct):
    epoch: int
    reason: str
    entries: list[bytes] = []
    labels: list[tuple[str, int]] = []
    records: dict[tuple[str, str], PutRecord | None] = {}
    positions: dict[str, Position] = {}
    checkpoints: dict[int, bytes] = {}


def weigh(changes: Sequence[Change]) -> tuple[int, int]:
    """Check the form of a commit; `(entries, bytes)`. Raises `InvalidInput` or `LimitExceeded`."""
    if len(changes) > MAX_CHANGES:
        raise LimitExceeded(f"a commit has {len(changes)} changes, the bound is {MAX_CHANGES}", remedy="commit in parts")
    entries = total = 0
    for change in changes:
        if isinstance(change, Append):
            entry = change.entry
            if not 0 < len(entry) <= MAX_ENTRY_BYTES:
                check_entry(entry)
            if change.label:
                _name(change.label)
            entries += 1
            total += len(entry)
        elif isinstance(change, PutRecord):
            _name(change.kind, change.key, *change.indexes, *change.indexes.values())
            total += len(change.value)
        elif isinstance(change, DeleteRecord):
            _name(change.kind, change.key)
        elif isinstance(change, SetOffset):
            _name(change.source)
            _whole(change.inode, change.offset, change.expected_offset, change.expected_inode)
        elif isinstance(change, BumpEpoch):
            _name(change.reason)
        elif isinstance(change, PutCheckpoint):
            read_checkpoint(change.note)
        else:
            raise InvalidInput("this is not a change of a store", remedy="use the changes of storage.contract")
    if total > MAX_COMMIT_BYTES:
        raise LimitExceeded(f"a commit has {total} bytes, the bound is {MAX_COMMIT_BYTES}", remedy="commit in parts")
    return entries, total


def plan(head: Head, commits: Sequence[Sequence[Change]], exists: Exists) -> Planned:
    """Decide a group. `exists` answers for the records on disk."""
    done = _Scratch(head.epoch, "")
    known = _Known(head, done, exists)
    outcomes: list[Committed | VouchgateError] = []
    changed = False
    for changes in commits:
        first = head.size + len(done.entries)
        mine = _Scratch(done.epoch, done.reason)
        try:
            for change in changes:
                _apply(change, known, mine, first)
        except VouchgateError as refusal:
            outcomes.append(refusal)
            continue
        _merge(done, mine)
        changed = changed or bool(changes)
        outcomes.append(Committed(first, len(mine.entries), done.epoch))
    return Planned(_batch(head, done), outcomes, changed)


def _apply(change: Change, known: _Known, mine: _Scratch, first: int) -> None:
    if isinstance(change, Append):
        if change.label:
            mine.labels.append((change.label, first + len(mine.entries)))
        mine.entries.append(change.entry)
    elif isinstance(change, PutRecord | DeleteRecord):
        _record(change, known, mine)
    elif isinstance(change, SetOffset):
        _position(change, known, mine)
    elif isinstance(change, BumpEpoch):
        mine.epoch, mine.reason = mine.epoch + 1, change.reason
    else:
        _checkpoint(change, known, mine)


def _record(change: PutRecord | DeleteRecord, known: _Known, mine: _Scratch) -> None:
    where = (change.kind, change.key)
    wants = isinstance(change, DeleteRecord) and change.must_exist
    if wants or (isinstance(change, PutRecord) and change.must_be_new):
        group = mine.records if where in mine.records else known.done.records
        there = group[where] is not None if where in group else known.exists(*where)
        if there != wants:
            state = "is not there (any more)" if wants else "is there already"
            raise Conflict(f"the {change.kind} `{change.key[:100]}` {state}", remedy="read it again and decide anew")
    mine.records[where] = change if isinstance(change, PutRecord) else None


def _position(change: SetOffset, known: _Known, mine: _Scratch) -> None:
    stored = {**known.head.positions, **known.done.positions, **mine.positions}
    at = stored.get(change.source, Position(0, 0))
    if at.offset != change.expected_offset or (change.expected_inode and at.inode != change.expected_inode):
        raise Conflict(
            f"`{change.source[:100]}` has been read up to {at.offset} of inode {at.inode}, not {change.expected_offset}",
            remedy="read the stored offset and go on from there; these entries are already in the log, or never were read",
        )
    mine.positions[change.source] = Position(change.inode, change.offset)


def _checkpoint(change: PutCheckpoint, known: _Known, mine: _Scratch) -> None:
    """Only of entries that are on disk: that its root is theirs has been checked against their tiles."""
    checkpoint = read_checkpoint(change.note)
    newest = max(known.head.checkpoint_size, *known.done.checkpoints, *mine.checkpoints, 0)
    if not newest <= checkpoint.size <= known.head.size:
        raise Conflict(
            f"a checkpoint of {checkpoint.size} entries does not follow one of {newest} in a log of {known.head.size}",
            remedy="sign a checkpoint of the log as it is on disk",
        )
    mine.checkpoints[checkpoint.size] = change.note


def _merge(done: _Scratch, mine: _Scratch) -> None:
    done.epoch, done.reason = mine.epoch, mine.reason
    done.entries += mine.entries
    done.labels += mine.labels
    done.records |= mine.records
    done.positions |= mine.positions
    done.checkpoints |= mine.checkpoints


def _batch(head: Head, done: _Scratch) -> Batch:
    grown, tiles = tree.append(head.tree, [leaf_hash(entry) for entry in done.entries])
    after = Head(
        serial=head.serial + 1,
        epoch=done.epoch,
        generation=head.generation,
        tree=grown,
        positions={**head.positions, **done.positions},
        checkpoint_size=max(head.checkpoint_size, *done.checkpoints, 0),
    )
    return Batch(
        before=head,
        after=after,
        reason=done.reason,
        chunks=_chunks(head.size, done.entries),
        labels=done.labels,
        tiles=tiles,
        records=done.records,
        positions=done.positions,
        checkpoints=done.checkpoints,
    )


def _chunks(first: int, entries: Sequence[bytes]) -> list[Chunk]:
    chunks: list[Chunk] = []
    at = 0
    while at < len(entries):
        count = min(TILE_WIDTH - (first + at) % TILE_WIDTH, len(entries) - at)
        chunks.append(Chunk(first + at, count, write_bundle(entries[at : at + count])))
        at += count
    return chunks


def _name(*texts: str) -> None:
    for text in texts:
        if len(text) > MAX_NAME_CHARS or "\x00" in text or not _is_unicode(text):
            raise InvalidInput(
                f"`{text[:60]!a}` cannot name a record", remedy=f"use at most {MAX_NAME_CHARS} characters, no NUL, valid Unicode"
            )


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _whole(*numbers: int) -> None:
    if not all(0 <= number <= MAX_INTEGER for number in numbers):
        raise InvalidInput("an inode or offset is not between 0 and 2**63 - 1", remedy="read it again from the file")
