"""A transaction as data: what one commit of the store holds, so that state, epoch and log entries stand or fall together.

Made by flows, carried out by storage; neither imports the other.
"""

from __future__ import annotations

from vouchgate.vocabulary.wire import Noun


class PutRecord(Noun, frozen=True, kw_only=True):
    """Write one record, replacing the one of the same kind and key."""

    kind: str
    key: str
    value: bytes
    indexes: dict[str, str] = {}
    """Names and values by which `scan` finds it."""


class DeleteRecord(Noun, frozen=True, kw_only=True):
    """Remove one record; absent is fine."""

    kind: str
    key: str


class Append(Noun, frozen=True, kw_only=True):
    """Append one entry to the transparency log."""

    entry: bytes


class SetOffset(Noun, frozen=True, kw_only=True):
    """Advance what was read of a source; refused with `Conflict` unless the stored (inode, offset) is the expected one."""

    source: str
    inode: int
    offset: int
    expected_inode: int
    expected_offset: int


class BumpEpoch(Noun, frozen=True, kw_only=True):
    """Give the next epoch to a change."""

    reason: str


Step = PutRecord | DeleteRecord | Append | SetOffset | BumpEpoch


class Committed(Noun, frozen=True, kw_only=True):
    """What a durable commit got."""

    first_index: int
    """Log index of its first entry; the log's size where it has none."""
    entry_count: int
    epoch: int
    """Epoch after it."""


class Record(Noun, frozen=True, kw_only=True):
    """One record as it is stored."""

    kind: str
    key: str
    value: bytes
