"""Open a store: the three engines under one contract."""

from __future__ import annotations

from pathlib import Path

from vouchgate.storage.group import GroupStore, StoreReader
from vouchgate.storage.memory import MemoryEngine
from vouchgate.storage.sqlite import APPLICATION_ID, SqliteEngine, SqliteReads, connect, typed
from vouchgate.vocabulary.errors import Conflict
from vouchgate.vocabulary.names import trust_domain as checked_domain


def open_memory(trust_domain: str) -> GroupStore:
    """A store that ends with the process."""
    return GroupStore(MemoryEngine(), checked_domain(trust_domain))


def open_sqlite(path: Path, trust_domain: str) -> GroupStore:
    """The embedded store; made where it is not there, migrated where it is older. Raises `Conflict`, `Unavailable`, `StoreDamaged`, `Unsupported`."""
    engine = SqliteEngine(path, checked_domain(trust_domain))
    try:
        return GroupStore(engine, trust_domain)
    except BaseException:
        engine.close()
        raise


def generation_of(path: Path, trust_domain: str) -> int:
    """How often a restore began a new log, also of a store that is not migrated yet. Raises `Conflict`, `Unavailable`, `StoreDamaged`."""
    with typed(path):
        db = connect(path)
        try:
            if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                return 0  # made, and ended before it was filled
            if int(db.execute("PRAGMA application_id").fetchone()[0]) != APPLICATION_ID:
                raise Conflict(
                    f"the store `{path.name}` is another program's database", remedy="give vouchgate a data directory of its own"
                )
            row = db.execute("SELECT generation FROM domain WHERE name = ?", (trust_domain,)).fetchone()
            return int(row[0]) if row else 0
        finally:
            db.close()


def read_sqlite(path: Path, trust_domain: str) -> StoreReader:
    """The embedded store for reading, also beside the process that writes it."""
    return StoreReader(SqliteReads(path, checked_domain(trust_domain)), trust_domain)


def open_postgres(dsn: str, trust_domain: str) -> GroupStore:
    """The store in PostgreSQL (extra `postgres`). Raises `Conflict`, `Unavailable`, `StoreDamaged`, `Unsupported`."""
    from vouchgate.storage.postgres import PostgresEngine

    engine = PostgresEngine(dsn, checked_domain(trust_domain))
    try:
        return GroupStore(engine, trust_domain)
    except BaseException:
        engine.close()
        raise
