"""What a store and a bus promise, whatever engine stands behind them.

Rules
1. Everything belongs to the trust domain the store was opened for; no call can reach another's.
2. `commit` applies all its changes or none, and returns once they are on disk. Commits take effect in the order in which they are handed in.
3. A commit that contradicts what is there is `Conflict`; one that could not be made durable is `Unavailable`, and nothing of it is applied.
4. Reads see every commit that has returned, and never wait for a writer's fsync.
5. A store has one process at a time; a second opener is told so (`Conflict`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from vouchgate.vocabulary.records import (
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

__all__ = [
    "Append",
    "BumpEpoch",
    "Change",
    "Committed",
    "DeleteRecord",
    "Position",
    "PutCheckpoint",
    "PutRecord",
    "Record",
    "SetOffset",
]

MAX_CHANGES = 10_000
"""Changes of one commit, so that a group stays short."""
MAX_COMMIT_BYTES = 16 * 1024 * 1024
"""Bytes of entries and values in one commit; the largest record is an encoded noun of at most 16 MiB."""
MAX_NAME_CHARS = 1_024
"""Characters of a kind, key, index name or value, source or label."""
MAX_SCAN = 10_000
"""Records or entries of one read."""
MAX_MESSAGE_BYTES = 4_096
"""Bytes of one bus message: it says that something changed, the store says what. PostgreSQL's NOTIFY carries 8,000 characters."""
MAX_WAITING_MESSAGES = 1_000
"""Messages a subscriber may lag behind before it is told to read the store anew."""


class Health(msgspec.Struct, frozen=True):
    """How the store is doing, for readiness and for stopping heartbeats before the disk is full."""

    waiting: int
    """Commits handed in and not on disk."""
    failed: str
    """Why the last group could not be written; empty once one could."""
    free_bytes: int | None
    """Room on the disk; None where the store is elsewhere."""


class StoreReads(Protocol):
    """What can be asked of a store."""

    @property
    def trust_domain(self) -> str:
        """Whose store it is."""

    @property
    def generation(self) -> int:
        """How often a restore had to begin a new log (`audit.checkpoints.origin_of`)."""

    def get(self, kind: str, key: str) -> bytes | None:
        """One record's value."""

    def scan(self, kind: str, *, index: str = "", equals: str = "", after: str = "", limit: int = 1_000) -> list[Record]:
        """Records of a kind by rising key above `after`; with `index`, those whose index has the value `equals`."""

    def epoch(self) -> int:
        """The newest epoch."""

    def offset(self, source: str) -> Position | None:
        """How far a source has been read."""

    def size(self) -> int:
        """Entries of the log."""

    def entries(self, start: int, count: int) -> list[bytes]:
        """Up to `count` entries from index `start`."""

    def find_entries(self, label: str) -> list[int]:
        """Indexes of the entries appended under a label, rising."""

    def tile(self, level: int, index: int, width: int) -> bytes:
        """A tile's first `width` hashes (`audit.tiles`). Raises `StoreDamaged` where it is not there."""

    def latest_checkpoint(self) -> bytes | None:
        """The newest checkpoint note."""

    def checkpoints(self) -> list[bytes]:
        """The kept checkpoint notes by rising size."""


class Store(StoreReads, Protocol):
    """A store, opened for writing."""

    def commit(self, changes: Sequence[Change]) -> Committed:
        """Apply all changes or none; returns once durable. Raises `Conflict`, `Unavailable`, `InvalidInput`, `LimitExceeded`."""

    async def commit_async(self, changes: Sequence[Change]) -> Committed:
        """`commit` that lets the event loop run meanwhile."""

    def root(self) -> tuple[int, bytes]:
        """Size and root of the log as one value, to be signed."""

    def put_checkpoint(self, note: bytes) -> None:
        """Commit a `PutCheckpoint`."""

    def health(self) -> Health:
        """For `/readyz`; never waits for the writer."""

    def check(self) -> None:
        """Examine the engine's file. Raises `StoreDamaged`."""

    def close(self) -> None:
        """Finish what was handed in and let go."""


class Subscription(Protocol):
    """One subscriber's queue."""

    async def next(self) -> bytes | None:
        """The next message; None where messages were missed, so that the store must be read anew."""

    async def close(self) -> None:
        """Stop listening."""


class Bus(Protocol):
    """Small messages between the parts of one trust domain. At most once; a gap is always told."""

    async def publish(self, topic: str, message: bytes) -> None:
        """Send to everyone who subscribed. Raises `LimitExceeded`, `Unavailable`."""

    async def subscribe(self, topic: str) -> Subscription:
        """Listen from now on."""

    async def close(self) -> None:
        """Close every subscription."""
