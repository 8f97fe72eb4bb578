"""A transaction as data: what one commit of the store holds, so that state, epoch and log entries stand or fall together.

Made by flows, carried out by storage; neither imports the other. Plain structs, not nouns: they never travel.
"""

from __future__ import annotations

import msgspec


class PutRecord(msgspec.Struct, frozen=True):
    """Write a record, replacing one of the same kind and key."""

    kind: str
    key: str
    value: bytes
    indexes: dict[str, str] = {}
    """Names and values by which `scan` finds it."""
    must_be_new: bool = False
    """`Conflict` where the key is taken (a nonce, a registration)."""


class DeleteRecord(msgspec.Struct, frozen=True):
    """Remove a record."""

    kind: str
    key: str
    must_exist: bool = False
    """`Conflict` where it is not there (a token that is used once)."""


class Append(msgspec.Struct, frozen=True):
    """Add an entry to the log."""

    entry: bytes
    label: str = ""
    """Name under which `find_entries` finds its index, for example a decision's id; empty for none."""


class SetOffset(msgspec.Struct, frozen=True):
    """Move a source's read position, `Conflict` unless it stands at `expected_offset` (0 for a source never read).

    In one commit with the entries read up to there it makes them exactly once.
    """

    source: str
    inode: int
    offset: int
    expected_offset: int
    expected_inode: int = 0
    """0 where it does not matter; a rotated file has another one at a lower offset."""


class BumpEpoch(msgspec.Struct, frozen=True):
    """Raise the epoch by one."""

    reason: str


class PutCheckpoint(msgspec.Struct, frozen=True):
    """Keep a signed (and perhaps cosigned) checkpoint; it must agree with the log and may not be smaller than the newest."""

    note: bytes


Change = PutRecord | DeleteRecord | Append | SetOffset | BumpEpoch | PutCheckpoint


class Committed(msgspec.Struct, frozen=True):
    """A commit that is on disk."""

    first_index: int
    """Log index of its first entry; the log's size where it has none."""
    entry_count: int
    epoch: int


class Record(msgspec.Struct, frozen=True):
    """A stored record."""

    kind: str
    key: str
    value: bytes
    indexes: dict[str, str] = {}


class Position(msgspec.Struct, frozen=True):
    """How far a source has been read."""

    inode: int
    offset: int
