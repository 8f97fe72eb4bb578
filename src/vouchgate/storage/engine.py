"""What an engine does: load the head, write one batch durably or not at all, answer reads. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from vouchgate.audit import tree
from vouchgate.storage.contract import Position, PutRecord, Record


class Head(msgspec.Struct, frozen=True):
    """What the one writer knows of the store between two batches."""

    serial: int = 0
    """Number of the last batch: tells after a broken connection whether it was applied, and fences a second writer."""
    epoch: int = 0
    generation: int = 0
    tree: tree.TreeState = tree.EMPTY
    positions: Mapping[str, Position] = {}
    checkpoint_size: int = 0

    @property
    def size(self) -> int:
        """Entries of the log."""
        return self.tree.size


class Chunk(msgspec.Struct, frozen=True):
    """Consecutive entries in one row; never across a bundle's border."""

    first: int
    count: int
    bundle: bytes


class Batch(msgspec.Struct):
    """Everything that one transaction writes."""

    before: Head
    after: Head
    reason: str = ""
    """Why the epoch rose last."""
    chunks: list[Chunk] = []
    labels: list[tuple[str, int]] = []
    tiles: list[tree.TileWrite] = []
    records: dict[tuple[str, str], PutRecord | None] = {}
    """Final state of each record touched; None where it is gone."""
    positions: dict[str, Position] = {}
    checkpoints: dict[int, bytes] = {}


KEPT_CHECKPOINTS = 1_000
"""Checkpoints kept to compare with; older ones follow from the newest by consistency proofs."""


class EngineReads(Protocol):
    """Reads, from any thread."""

    def load(self) -> Head:
        """The head as it is on disk. Raises `StoreDamaged` where the parts do not agree."""

    def get(self, kind: str, key: str) -> bytes | None:
        """One record's value."""

    def scan(self, kind: str, index: str, equals: str, after: str, limit: int) -> list[Record]:
        """Records by rising key."""

    def chunks(self, start: int, end: int) -> Sequence[Chunk]:
        """Chunks whose first entry is in [start, end), rising."""

    def labelled(self, label: str, limit: int) -> list[int]:
        """Indexes under a label, rising."""

    def tile(self, level: int, index: int) -> bytes:
        """The tile as wide as it is; empty where it is not there."""

    def checkpoints(self, newest: int) -> list[bytes]:
        """The newest so many notes, by rising size."""

    def check(self) -> None:
        """Examine the file. Raises `StoreDamaged`."""

    def close(self) -> None:
        """Let go."""


class Engine(EngineReads, Protocol):
    """An engine that writes; `write` is called by one thread."""

    def free_bytes(self) -> int | None:
        """Room on the disk under the store; None where it is not ours to see."""

    def write(self, batch: Batch) -> None:
        """One durable transaction. Raises `Unavailable`, `StoreDamaged`, or `Conflict` where someone else wrote meanwhile."""
