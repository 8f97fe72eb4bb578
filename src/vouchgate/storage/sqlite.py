"""The embedded engine: one SQLite file in WAL mode, every transaction synced (synchronous=FULL) before it is acknowledged.

Rules
1. One process: an advisory lock on `<file>.lock`, which the kernel drops with the process.
2. The writer has one connection; reads have their own, so a read never waits for a sync.
3. After a failed sync the page cache no longer tells what is on disk, so the engine refuses every later write until it is opened again.
4. On loading, the head's parts must agree: size, chunks, right edge, its entries' hashes and the newest checkpoint's root.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vouchgate.storage.contract import Position, Record
from vouchgate.storage.engine import KEPT_CHECKPOINTS, Batch, Chunk, Head
from vouchgate.storage.loading import checked_head
from vouchgate.storage.migrations import NEWEST, pending
from vouchgate.vocabulary.errors import Conflict, StoreDamaged, Unavailable, VouchgateError

APPLICATION_ID = 0x56474154
"""`VGAT` in the file's header (SQLite file format, section 1.3.12), so that another program's file is not taken for ours."""
WAL_PAGES = 4_000
"""Pages (16 MiB) after which SQLite moves the WAL into the file; larger makes rare, longer pauses."""
WAL_KEPT_BYTES = 64 * 1024 * 1024
"""Size to which the WAL file is cut back after a peak."""
BUSY_MILLISECONDS = 5_000
"""How long to wait for a backup or a reader that holds the file for a moment."""

_DISK_FULL = "make room on its disk; nothing of the refused change was applied, and the store goes on as soon as there is space"
_DAMAGED = "run `vouchgate audit verify`, then restore the newest backup with `vouchgate restore`"


class SqliteReads:
    """Reads over one connection of their own (`engine.EngineReads`)."""

    def __init__(self, path: Path, trust_domain: str) -> None:
        self._path = path
        self._trust_domain = trust_domain
        self._lock = threading.RLock()
        with typed(path):
            self._reading = connect(path)
            self._reading.execute("PRAGMA query_only = ON")
            schema = int(self._reading.execute("PRAGMA user_version").fetchone()[0])
            pending(schema)
            if schema != NEWEST:
                raise Conflict(
                    f"the store has schema {schema}, reading needs {NEWEST}", remedy="start vouchgate once: it migrates the store"
                )
            self._domain = self._domain_id()

    def _domain_id(self) -> int:
        found = self._rows("SELECT id FROM domain WHERE name = ?", self._trust_domain)
        if not found:
            raise Conflict(f"the store has nothing of `{self._trust_domain}`", remedy="give the trust domain that it was made for")
        return int(found[0][0])

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, typed(self._path):
            return self._reading.execute(sql, values).fetchall()

    def _blob(self, value: object) -> bytes:
        """A tampered file can hold text where bytes were stored."""
        if not isinstance(value, bytes):
            raise StoreDamaged(f"the store `{self._path.name}` holds text where bytes were written", remedy=_DAMAGED)
        return value

    def load(self) -> Head:
        """All parts as of one moment: a writer may go on meanwhile."""
        with self._lock, typed(self._path):
            self._reading.execute("BEGIN")
            try:
                return checked_head(self, self._read_head())
            finally:
                self._reading.execute("ROLLBACK")

    def _read_head(self) -> tuple[int, int, int, int, dict[str, Position]]:
        rows = self._rows("SELECT serial, epoch, generation, size FROM domain WHERE id = ?", self._domain)
        positions = self._rows("SELECT source, inode, at FROM position WHERE domain = ?", self._domain)
        serial, epoch, generation, size = rows[0]
        return serial, epoch, generation, size, {source: Position(inode, at) for source, inode, at in positions}

    def get(self, kind: str, key: str) -> bytes | None:
        rows = self._rows("SELECT value FROM record WHERE domain = ? AND kind = ? AND key = ?", self._domain, kind, key)
        return self._blob(rows[0][0]) if rows else None

    def scan(self, kind: str, index: str, equals: str, after: str, limit: int) -> list[Record]:
        if index:
            rows = self._rows(
                "SELECT record.key, record.value, record.indexes FROM record_index AS found JOIN record USING (domain, kind, key)"
                " WHERE found.domain = ? AND found.kind = ? AND found.name = ? AND found.value = ? AND found.key > ? ORDER BY found.key LIMIT ?",
                *(self._domain, kind, index, equals, after, limit),
            )
        else:
            rows = self._rows(
                "SELECT key, value, indexes FROM record WHERE domain = ? AND kind = ? AND key > ? ORDER BY key LIMIT ?",
                *(self._domain, kind, after, limit),
            )
        return [Record(kind, key, self._blob(value), json.loads(indexes)) for key, value, indexes in rows]

    def chunks(self, start: int, end: int) -> list[Chunk]:
        sql = "SELECT first, count, bundle FROM chunk WHERE domain = ? AND first >= ? AND first < ? ORDER BY first"
        return [Chunk(first, count, self._blob(bundle)) for first, count, bundle in self._rows(sql, self._domain, start, end)]

    def labelled(self, label: str, limit: int) -> list[int]:
        sql = "SELECT entry FROM label WHERE domain = ? AND name = ? ORDER BY entry LIMIT ?"
        return [row[0] for row in self._rows(sql, self._domain, label, limit)]

    def tile(self, level: int, index: int) -> bytes:
        rows = self._rows("SELECT hashes FROM tile WHERE domain = ? AND level = ? AND number = ?", self._domain, level, index)
        return self._blob(rows[0][0]) if rows else b""

    def checkpoints(self, newest: int) -> list[bytes]:
        rows = self._rows("SELECT note FROM checkpoint WHERE domain = ? ORDER BY size DESC LIMIT ?", self._domain, newest)
        return [self._blob(row[0]) for row in reversed(rows)]

    def check(self) -> None:
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            raise StoreDamaged(f"the store `{self._path.name}` is damaged: {'; '.join(found)[:300]}", remedy=_DAMAGED)

    def copy_to(self, target: sqlite3.Connection) -> None:
        """Copy the file as of one moment (SQLite online backup)."""
        with typed(self._path):
            source = connect(self._path)
            try:
                source.backup(target)
            finally:
                source.close()

    def close(self) -> None:
        self._reading.close()


class SqliteEngine(SqliteReads):
    """Reads, and one writing connection under the lock (`engine.Engine`)."""

    def __init__(self, path: Path, trust_domain: str) -> None:
        self._lock_file = take_lock(path)
        try:
            with typed(path):
                self._writing = connect(path)
                migrate(self._writing)
                self._writing.execute(
                    "INSERT INTO domain (name, serial, epoch, epoch_reason, size, generation) VALUES (?, 0, 0, '', 0, 0) ON CONFLICT DO NOTHING",
                    (trust_domain,),
                )
            super().__init__(path, trust_domain)
        except BaseException:
            os.close(self._lock_file)
            raise
        self._sync_failed = False

    def write(self, batch: Batch) -> None:
        if self._sync_failed:
            raise Unavailable(
                f"the disk under `{self._path.name}` failed to sync",
                remedy="check the disk, then restart vouchgate: it reads what was kept",
            )
        try:
            self._transaction(batch)
        except sqlite3.Error as error:
            self._sync_failed = error.sqlite_errorcode == sqlite3.SQLITE_IOERR_FSYNC
            self._roll_back()
            raise as_typed(error, self._path) from None
        except VouchgateError:
            self._roll_back()
            raise

    def free_bytes(self) -> int | None:
        """Room on the disk under the store."""
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize

    def _transaction(self, batch: Batch) -> None:
        db, domain = self._writing, self._domain
        db.execute("BEGIN IMMEDIATE")
        moved = db.execute(
            "UPDATE domain SET serial = ?, epoch = ?, size = ?, epoch_reason = CASE WHEN ? = '' THEN epoch_reason ELSE ? END"
            " WHERE id = ? AND serial = ?",
            (batch.after.serial, batch.after.epoch, batch.after.size, batch.reason, batch.reason, domain, batch.before.serial),
        )
        if moved.rowcount != 1:
            raise Conflict("another process wrote to the store", remedy="stop the other one; only one control plane may run")
        db.executemany(
            "INSERT INTO chunk VALUES (?, ?, ?, ?)", [(domain, chunk.first, chunk.count, chunk.bundle) for chunk in batch.chunks]
        )
        db.executemany("REPLACE INTO tile VALUES (?, ?, ?, ?)", [(domain, tile.level, tile.index, tile.hashes) for tile in batch.tiles])
        if batch.labels:
            db.executemany("INSERT INTO label VALUES (?, ?, ?)", [(domain, label, index) for label, index in batch.labels])
        if batch.records:
            self._records(batch)
        if batch.positions:
            rows = [(domain, source, at.inode, at.offset) for source, at in batch.positions.items()]
            db.executemany("REPLACE INTO position VALUES (?, ?, ?, ?)", rows)
        if batch.checkpoints:
            db.executemany("REPLACE INTO checkpoint VALUES (?, ?, ?)", [(domain, size, note) for size, note in batch.checkpoints.items()])
            db.execute(
                "DELETE FROM checkpoint WHERE domain = ?1 AND size <="
                " (SELECT size FROM checkpoint WHERE domain = ?1 ORDER BY size DESC LIMIT 1 OFFSET ?2)",
                (domain, KEPT_CHECKPOINTS),
            )
        db.execute("COMMIT")

    def _records(self, batch: Batch) -> None:
        db, domain = self._writing, self._domain
        touched = [(domain, kind, key) for kind, key in batch.records]
        db.executemany(
            "DELETE FROM record_index WHERE (domain, kind, name, value, key) IN (SELECT record.domain, record.kind, each.key, each.value, record.key"
            " FROM record, json_each(record.indexes) AS each WHERE record.domain = ? AND record.kind = ? AND record.key = ?)",
            touched,
        )
        db.executemany("DELETE FROM record WHERE domain = ? AND kind = ? AND key = ?", touched)
        puts = [put for put in batch.records.values() if put is not None]
        db.executemany(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?)",
            [(domain, put.kind, put.key, put.value, json.dumps(put.indexes, sort_keys=True)) for put in puts],
        )
        db.executemany(
            "INSERT INTO record_index VALUES (?, ?, ?, ?, ?)",
            [(domain, put.kind, name, value, put.key) for put in puts for name, value in put.indexes.items()],
        )

    def _roll_back(self) -> None:
        """SQLite has rolled back by itself after some errors; after all of them nothing of the transaction may stay open."""
        with suppress(sqlite3.Error):
            if self._writing.in_transaction:
                self._writing.execute("ROLLBACK")

    def close(self) -> None:
        super().close()
        self._writing.close()
        os.close(self._lock_file)


def connect(path: Path) -> sqlite3.Connection:
    """A connection with our settings. Raises `sqlite3.Error`."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
    except BaseException:
        db.close()
        raise
    return db


def migrate(db: sqlite3.Connection) -> None:
    """Take the file to the newest schema, each step in one transaction. Raises `Unsupported`, `Conflict`, `sqlite3.Error`."""
    schema = int(db.execute("PRAGMA user_version").fetchone()[0])
    found = int(db.execute("PRAGMA application_id").fetchone()[0])
    empty = not db.execute("SELECT 1 FROM sqlite_master").fetchone()
    if found != APPLICATION_ID and not empty:
        raise Conflict("the file is another program's database", remedy="give vouchgate a data directory of its own")
    for step in pending(schema):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in step.sqlite:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {step.number}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def take_lock(path: Path, *, create: bool = True) -> int:
    """Hold the store for this process; the descriptor of the lock. Raises `Conflict` or `Unavailable`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if create:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            f"the store `{path.name}` cannot be opened: {error.strerror}", remedy="check the data directory and its owner"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace")
        os.close(lock)
        raise Conflict(
            f"the store `{path.name}` is in use by process {holder or '?'}",
            remedy="only one control plane may run: stop that process, or give this one another data directory",
        ) from None
    except OSError:
        pass  # the lock is held; its note of who holds it is a courtesy that a full disk may refuse
    return lock


@contextmanager
def typed(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_typed(error, path) from None


def as_typed(error: sqlite3.Error, path: Path) -> VouchgateError:
    """What an SQLite error means to a person."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    what = f"the store `{path.name}`"
    if code == sqlite3.SQLITE_FULL:
        return Unavailable(f"the disk under {what} is full", remedy=_DISK_FULL)
    if code == sqlite3.SQLITE_IOERR:
        return Unavailable(f"the disk under {what} does not take writes: {error}", remedy=_DISK_FULL)
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return StoreDamaged(f"{what} is damaged: {error}", remedy=_DAMAGED)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Unavailable(f"{what} is held by another program", remedy="close what has the file open")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return Unavailable(f"{what} cannot be opened for writing: {error}", remedy="check the owner and mode of the data directory")
    return StoreDamaged(f"{what} does not answer as it should: {error}", remedy=_DAMAGED)
