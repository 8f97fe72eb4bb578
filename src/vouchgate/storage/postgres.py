"""The PostgreSQL engine (extra `postgres`, driver asyncpg): the same rules on a server of its own.

Rules
1. One control plane: the writing connection holds an advisory lock of the trust domain for as long as it lives; each transaction also moves
   the serial on, so a writer that lost its connection and its lock cannot write past another.
2. The driver has its event loop in a thread of its own; reads and writes have connections of their own.
3. A connection that breaks is opened again by `load`; until then everything is `Unavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import asyncpg

from vouchgate.storage.contract import Position, Record
from vouchgate.storage.engine import KEPT_CHECKPOINTS, Batch, Chunk, Head
from vouchgate.storage.loading import checked_head
from vouchgate.storage.migrations import pending
from vouchgate.vocabulary.errors import Conflict, StoreDamaged, Unavailable, VouchgateError

COMMAND_SECONDS = 30.0
"""A statement that takes longer is a server that hangs."""
CONNECT_SECONDS = 5.0
LOCK_WAIT_SECONDS = 2.0
"""The server needs a moment to see that the process which held the lock is gone."""
LOCK_RETRY_SECONDS = 0.02
READERS = 4
"""Reading connections at most."""
MIGRATION_LOCK = 0x5647_4D49
"""Advisory lock under which one process migrates, whatever its trust domain."""

T = TypeVar("T")
_GONE = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
)


class LoopThread:
    """An event loop in a thread, called from other threads."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end. Raises our errors."""
        try:
            return asyncio.run_coroutine_threadsafe(typed(work), self._loop).result(COMMAND_SECONDS * 2)
        except TimeoutError:
            raise _unavailable("it does not answer") from None

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class PostgresEngine:
    """`engine.Engine` on a PostgreSQL database."""

    def __init__(self, dsn: str, trust_domain: str) -> None:
        self._dsn, self._trust_domain = dsn, trust_domain
        self._writing: Any = None
        self._readers: Any = None
        self._domain = 0
        self._snapshot = threading.local()
        self._thread = LoopThread("store-postgres")
        try:
            self._thread.run(self._open())
        except BaseException:
            self.close()
            raise

    async def _open(self) -> None:
        db = await connect(self._dsn)
        try:
            await _migrate(db)
            await self._take_lock(db)
            await db.execute(
                "INSERT INTO domain (name, serial, epoch, epoch_reason, size, generation) VALUES ($1, 0, 0, '', 0, 0) ON CONFLICT DO NOTHING",
                self._trust_domain,
            )
            self._domain = await db.fetchval("SELECT id FROM domain WHERE name = $1", self._trust_domain)
            if self._readers is None:
                self._readers = await asyncpg.create_pool(
                    self._dsn, min_size=1, max_size=READERS, timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS
                )
        except BaseException:
            await db.close()
            raise
        self._writing = db

    async def _take_lock(self, db: Any) -> None:
        deadline = asyncio.get_running_loop().time() + LOCK_WAIT_SECONDS
        while not await db.fetchval("SELECT pg_try_advisory_lock($1)", _lock_number(self._trust_domain)):
            if asyncio.get_running_loop().time() > deadline:
                raise Conflict(
                    f"the store of `{self._trust_domain}` is in use by another control plane",
                    remedy="only one control plane may run: stop the other, or give this one another database",
                )
            await asyncio.sleep(LOCK_RETRY_SECONDS)

    def load(self) -> Head:
        if self._writing is None or self._writing.is_closed():
            self._thread.run(self._open())
        return self._head()

    def _head(self) -> Head:
        """All parts as of one moment: the writer may go on meanwhile."""
        self._snapshot.db = db = self._thread.run(self._begin())
        try:
            return checked_head(self, self._read_head())
        finally:
            self._snapshot.db = None
            self._thread.run(self._end(db))

    async def _begin(self) -> Any:
        if self._readers is None:
            raise _unavailable("the store is closed")
        db = await self._readers.acquire()
        try:
            await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except BaseException:
            await self._readers.release(db)
            raise
        return db

    async def _end(self, db: Any) -> None:
        with contextlib.suppress(*_GONE):
            await db.execute("ROLLBACK")
        await self._readers.release(db)

    def _drop(self) -> None:
        """A connection that failed once may be in any state: the next `load` opens another."""

        async def cut() -> None:
            if self._writing is not None:
                self._writing.terminate()
                self._writing = None

        self._thread.run(cut())

    def _read_head(self) -> tuple[int, int, int, int, dict[str, Position]]:
        serial, epoch, generation, size = self._rows("SELECT serial, epoch, generation, size FROM domain WHERE id = $1")[0]
        positions = self._rows("SELECT source, inode, at FROM position WHERE domain = $1")
        return serial, epoch, generation, size, {source: Position(inode, at) for source, inode, at in positions}

    def free_bytes(self) -> int | None:
        return None

    def write(self, batch: Batch) -> None:
        try:
            self._thread.run(self._transaction(batch))
        except Unavailable:
            self._drop()
            raise

    async def _transaction(self, batch: Batch) -> None:
        db, domain = self._writing, self._domain
        async with db.transaction():
            moved = await db.fetchval(
                "UPDATE domain SET serial = $3, epoch = $4, size = $5, epoch_reason = CASE WHEN $6 = '' THEN epoch_reason ELSE $6 END"
                " WHERE id = $1 AND serial = $2 RETURNING id",
                *(domain, batch.before.serial, batch.after.serial, batch.after.epoch, batch.after.size, batch.reason),
            )
            if moved is None:
                raise Conflict("another control plane wrote to the store", remedy="stop the other one; only one control plane may run")
            if batch.chunks:
                rows = [(domain, chunk.first, chunk.count, chunk.bundle) for chunk in batch.chunks]
                await db.copy_records_to_table("chunk", records=rows, columns=["domain", "first", "count", "bundle"])
            await db.executemany(
                "INSERT INTO tile VALUES ($1, $2, $3, $4) ON CONFLICT (domain, level, number) DO UPDATE SET hashes = excluded.hashes",
                [(domain, tile.level, tile.index, tile.hashes) for tile in batch.tiles],
            )
            if batch.labels:
                await db.executemany("INSERT INTO label VALUES ($1, $2, $3)", [(domain, label, index) for label, index in batch.labels])
            if batch.records:
                await self._records(batch)
            if batch.positions:
                await db.executemany(
                    "INSERT INTO position VALUES ($1, $2, $3, $4) ON CONFLICT (domain, source) DO UPDATE SET inode = excluded.inode, at = excluded.at",
                    [(domain, source, at.inode, at.offset) for source, at in batch.positions.items()],
                )
            if batch.checkpoints:
                await self._checkpoints(batch)

    async def _records(self, batch: Batch) -> None:
        db, domain = self._writing, self._domain
        touched = [(domain, kind, key) for kind, key in batch.records]
        await db.executemany(
            "DELETE FROM record_index WHERE (domain, kind, name, value, key) IN (SELECT record.domain, record.kind, each.key, each.value, record.key"
            " FROM record, json_each_text(record.indexes::json) AS each WHERE record.domain = $1 AND record.kind = $2 AND record.key = $3)",
            touched,
        )
        await db.executemany("DELETE FROM record WHERE domain = $1 AND kind = $2 AND key = $3", touched)
        puts = [put for put in batch.records.values() if put is not None]
        await db.executemany(
            "INSERT INTO record VALUES ($1, $2, $3, $4, $5)",
            [(domain, put.kind, put.key, put.value, json.dumps(put.indexes, sort_keys=True)) for put in puts],
        )
        await db.executemany(
            "INSERT INTO record_index VALUES ($1, $2, $3, $4, $5)",
            [(domain, put.kind, name, value, put.key) for put in puts for name, value in put.indexes.items()],
        )

    async def _checkpoints(self, batch: Batch) -> None:
        await self._writing.executemany(
            "INSERT INTO checkpoint VALUES ($1, $2, $3) ON CONFLICT (domain, size) DO UPDATE SET note = excluded.note",
            [(self._domain, size, note) for size, note in batch.checkpoints.items()],
        )
        await self._writing.execute(
            "DELETE FROM checkpoint WHERE domain = $1 AND size <="
            " (SELECT size FROM checkpoint WHERE domain = $1 ORDER BY size DESC LIMIT 1 OFFSET $2)",
            *(self._domain, KEPT_CHECKPOINTS),
        )

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        if self._readers is None:
            raise _unavailable("the store is closed")
        source = getattr(self._snapshot, "db", None) or self._readers
        return list(self._thread.run(source.fetch(sql, self._domain, *values)))

    def get(self, kind: str, key: str) -> bytes | None:
        rows = self._rows("SELECT value FROM record WHERE domain = $1 AND kind = $2 AND key = $3", kind, key)
        return rows[0][0] if rows else None

    def scan(self, kind: str, index: str, equals: str, after: str, limit: int) -> list[Record]:
        if index:
            rows = self._rows(
                "SELECT record.key, record.value, record.indexes FROM record_index AS found JOIN record USING (domain, kind, key)"
                " WHERE found.domain = $1 AND found.kind = $2 AND found.name = $3 AND found.value = $4 AND found.key > $5"
                " ORDER BY found.key LIMIT $6",
                *(kind, index, equals, after, limit),
            )
        else:
            rows = self._rows(
                "SELECT key, value, indexes FROM record WHERE domain = $1 AND kind = $2 AND key > $3 ORDER BY key LIMIT $4",
                kind,
                after,
                limit,
            )
        return [Record(kind, key, value, json.loads(indexes)) for key, value, indexes in rows]

    def chunks(self, start: int, end: int) -> list[Chunk]:
        sql = "SELECT first, count, bundle FROM chunk WHERE domain = $1 AND first >= $2 AND first < $3 ORDER BY first"
        return [Chunk(*row) for row in self._rows(sql, start, end)]

    def labelled(self, label: str, limit: int) -> list[int]:
        return [
            row[0] for row in self._rows("SELECT entry FROM label WHERE domain = $1 AND name = $2 ORDER BY entry LIMIT $3", label, limit)
        ]

    def tile(self, level: int, index: int) -> bytes:
        rows = self._rows("SELECT hashes FROM tile WHERE domain = $1 AND level = $2 AND number = $3", level, index)
        return rows[0][0] if rows else b""

    def checkpoints(self, newest: int) -> list[bytes]:
        rows = self._rows("SELECT note FROM checkpoint WHERE domain = $1 ORDER BY size DESC LIMIT $2", newest)
        return [row[0] for row in reversed(rows)]

    def check(self) -> None:
        """PostgreSQL checks its own pages; here the head's parts are compared."""
        self._head()

    def close(self) -> None:
        async def let_go() -> None:
            if self._readers is not None:
                self._readers.terminate()
            if self._writing is not None:
                with contextlib.suppress(*_GONE):
                    await self._writing.close(timeout=CONNECT_SECONDS)

        self._thread.run(let_go())
        self._readers = self._writing = None
        self._thread.close()


async def connect(dsn: str) -> Any:
    """A connection whose commits are on disk when they return."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings={"synchronous_commit": "on", "application_name": "vouchgate"},
    )


async def typed(work: Coroutine[Any, Any, T]) -> T:
    """Turn the driver's errors into ours."""
    try:
        return await work
    except VouchgateError:
        raise
    except asyncpg.DiskFullError:
        raise Unavailable(
            "the disk under the PostgreSQL store is full", remedy="make room there; nothing of the change was applied"
        ) from None
    except (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError) as error:
        raise StoreDamaged(f"the PostgreSQL store is damaged: {error}", remedy="restore the newest backup of the database") from None
    except (*_GONE, TimeoutError) as error:
        raise _unavailable(str(error) or "it does not answer") from None
    except asyncpg.PostgresError as error:
        raise Unavailable(f"the PostgreSQL store refused: {error}", remedy="check the database and the rights of its user") from None


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        f"the PostgreSQL store is not reachable: {why}", remedy="start the database, or correct its address in vouchgate.toml"
    )


def _lock_number(trust_domain: str) -> int:
    return int.from_bytes(hashlib.sha256(b"vouchgate/store/" + trust_domain.encode()).digest()[:8], "big", signed=True)


@contextlib.asynccontextmanager
async def _alone(db: Any) -> AsyncIterator[None]:
    await db.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
    try:
        yield
    finally:
        await db.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)


async def _migrate(db: Any) -> None:
    async with _alone(db):
        await db.execute("CREATE TABLE IF NOT EXISTS vouchgate_schema (number BIGINT PRIMARY KEY)")
        for step in pending(int(await db.fetchval("SELECT coalesce(max(number), 0) FROM vouchgate_schema"))):
            async with db.transaction():
                for statement in step.postgres:
                    await db.execute(statement)
                await db.execute("INSERT INTO vouchgate_schema VALUES ($1)", step.number)
