"""The in-memory engine: the twin that tests and trials use. Nothing survives the process."""

from __future__ import annotations

import threading

from vouchgate.storage.contract import PutRecord, Record
from vouchgate.storage.engine import KEPT_CHECKPOINTS, Batch, Chunk, Head


class MemoryEngine:
    """Dictionaries behind a lock (`engine.Engine`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._head = Head()
        self._records: dict[tuple[str, str], PutRecord] = {}
        self._chunks: dict[int, Chunk] = {}
        self._labels: dict[str, list[int]] = {}
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._checkpoints: dict[int, bytes] = {}

    def load(self) -> Head:
        return self._head

    def free_bytes(self) -> int | None:
        return None

    def write(self, batch: Batch) -> None:
        with self._lock:
            for where, record in batch.records.items():
                if record is None:
                    self._records.pop(where, None)
                else:
                    self._records[where] = record
            self._chunks |= {chunk.first: chunk for chunk in batch.chunks}
            for label, index in batch.labels:
                self._labels.setdefault(label, []).append(index)
            self._tiles |= {(tile.level, tile.index): tile.hashes for tile in batch.tiles}
            self._checkpoints |= batch.checkpoints
            for size in sorted(self._checkpoints)[:-KEPT_CHECKPOINTS]:
                del self._checkpoints[size]
            self._head = batch.after

    def get(self, kind: str, key: str) -> bytes | None:
        found = self._records.get((kind, key))
        return None if found is None else found.value

    def scan(self, kind: str, index: str, equals: str, after: str, limit: int) -> list[Record]:
        with self._lock:
            found = [
                record
                for (of, key), record in self._records.items()
                if of == kind and key > after and (not index or record.indexes.get(index) == equals)
            ]
        found.sort(key=lambda record: record.key)
        return [Record(record.kind, record.key, record.value, record.indexes) for record in found[:limit]]

    def chunks(self, start: int, end: int) -> list[Chunk]:
        with self._lock:
            return [self._chunks[first] for first in range(start, min(end, self._head.size)) if first in self._chunks]

    def labelled(self, label: str, limit: int) -> list[int]:
        return self._labels.get(label, [])[:limit]

    def tile(self, level: int, index: int) -> bytes:
        return self._tiles.get((level, index), b"")

    def checkpoints(self, newest: int) -> list[bytes]:
        with self._lock:
            return [self._checkpoints[size] for size in sorted(self._checkpoints)[-newest:]]

    def check(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """There is nothing to let go of."""
