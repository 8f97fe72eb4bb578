"""Recompute a whole log and say, for a person, whether it holds and where it first does not.

Steps
1. The checkpoint is signed by the log, and cosigned by every witness given.
2. The log is not shorter than the checkpoint (nothing was cut off).
3. Every entry is hashed and compared with its place in the level-0 tiles; every higher tile is recomputed from the one below.
4. The recomputed root at the checkpoint's size is the signed one.
5. The recomputed root at every older checkpoint's size (`against`, and those kept) is the one signed then.

Nothing is taken from the tiles: they only help to say where the damage is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from vouchgate.audit import tree
from vouchgate.audit.checkpoints import Checkpoint, open_checkpoint, require_cosignature
from vouchgate.audit.hashing import HASH_BYTES, leaf_hash
from vouchgate.audit.notes import Verifier
from vouchgate.audit.tiles import TILE_WIDTH, tile_path
from vouchgate.vocabulary.errors import StoreDamaged, VouchgateError

_KEEP = "keep this store as evidence, do not write to it, and restore the newest backup with `vouchgate restore`"


class LogSource(Protocol):
    """Where entries and tiles come from."""

    def size(self) -> int:
        """Entries of the log."""

    def entries(self, start: int, count: int) -> list[bytes]:
        """Entries from `start`."""

    def tile(self, level: int, index: int, width: int) -> bytes:
        """A tile's hashes. Raises `StoreDamaged`."""


class LogHolds(msgspec.Struct, frozen=True):
    """Every entry is what it was when it was signed."""

    size: int
    root: bytes
    unsigned: int
    """Entries after the checkpoint, which no signature covers yet."""
    compared: tuple[int, ...]
    """Sizes of the checkpoints that the log was compared with."""


class LogBroken(msgspec.Struct, frozen=True):
    """The log is not what it was."""

    first_bad: int
    """The first entry that cannot be relied on."""
    last_bad: int
    """The damage that was found lies in `first_bad` to `last_bad`; equal where the entry is known."""
    reason: str
    remedy: str


class _Broken(Exception):
    def __init__(self, first: int, last: int, reason: str) -> None:
        super().__init__(reason)
        self.found = LogBroken(first, last, reason, _KEEP)


def verify_log(
    source: LogSource,
    checkpoint: bytes,
    log: Verifier,
    *,
    witnesses: Sequence[Verifier] = (),
    against: Sequence[bytes] = (),
) -> LogHolds | LogBroken:
    """Verify everything. Raises `InvalidInput` or `Unverified` where a checkpoint given is not this log's."""
    head = open_checkpoint(checkpoint, log)  # step 1
    for witness in witnesses:
        require_cosignature(checkpoint, witness)
    older = [open_checkpoint(note, log) for note in against]
    marks = sorted([*older, head], key=lambda mark: mark.size)
    try:
        return _recompute(source, head, marks)
    except _Broken as broken:
        return broken.found
    except StoreDamaged as damaged:
        return LogBroken(0, max(0, head.size - 1), damaged.reason, _KEEP)


def _recompute(source: LogSource, head: Checkpoint, marks: Sequence[Checkpoint]) -> LogHolds:
    size = source.size()
    if size < marks[-1].size:  # step 2
        raise _Broken(size, marks[-1].size - 1, f"the log has {size} entries, but {marks[-1].size} were signed: its end was cut off")
    state, held = tree.EMPTY, 0
    waiting = list(marks)
    for stop in _stops(size, marks):
        state = _grow(source, state, stop)  # step 3
        while waiting and waiting[0].size == stop:  # steps 4 and 5
            mark = waiting.pop(0)
            if tree.root(state) != mark.root:
                raise _Broken(
                    held,
                    mark.size - 1,
                    f"entries and tiles agree with each other, but not with the root that was signed at {mark.size} entries:"
                    f" the log was rewritten somewhere from entry {held} on",
                )
            held = mark.size
    return LogHolds(size, tree.root(state), size - head.size, tuple(mark.size for mark in marks))


def _stops(size: int, marks: Sequence[Checkpoint]) -> Iterator[int]:
    """Where to pause: at each full tile, each checkpoint, and the end."""
    sizes = sorted({mark.size for mark in marks} | {size})
    at = 0
    for stop in sizes:
        while (border := (at // TILE_WIDTH + 1) * TILE_WIDTH) < stop:
            yield border
            at = border
        yield stop
        at = stop


def _grow(source: LogSource, state: tree.TreeState, stop: int) -> tree.TreeState:
    count = stop - state.size
    if count == 0:
        return state
    last = stop - 1
    try:
        entries = source.entries(state.size, count)
    except VouchgateError as error:
        raise _Broken(state.size, last, f"the entries from {state.size} to {last} cannot be read: {error.reason}") from None
    if len(entries) != count:
        raise _Broken(state.size + len(entries), last, f"entry {state.size + len(entries)} is missing")
    grown, tiles = tree.append(state, [leaf_hash(entry) for entry in entries])
    for tile in tiles:
        _compare(source, tile, last)
    return grown


def _compare(source: LogSource, tile: tree.TileWrite, last: int) -> None:
    width = len(tile.hashes) // HASH_BYTES
    name = tile_path(tile.level, tile.index, width)
    span = 1 << (8 * tile.level)
    start = tile.index * TILE_WIDTH * span
    try:
        stored = source.tile(tile.level, tile.index, width)
    except StoreDamaged:
        raise _Broken(min(start, last), last, f"the tile {name} is missing or cut off") from None
    if stored == tile.hashes:
        return
    wrong = next(
        at for at in range(width) if stored[at * HASH_BYTES : (at + 1) * HASH_BYTES] != tile.hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]
    )
    first = start + wrong * span
    if tile.level == 0:
        raise _Broken(
            first, first, f"entry {first} does not hash to what the log recorded for it in {name}: the entry or its hash was changed"
        )
    raise _Broken(
        first, first + span - 1, f"entries {first} to {first + span - 1} do not give the hash that {name} holds: one of them was changed"
    )
