"""Open a store: the three engines under one contract."""

from __future__ import annotations

from pathlib import Path

from vouchgate.storage.group import GroupStore, StoreReader
from vouchgate.storage.memory import MemoryEngine
from vouchgate.storage.sqlite import SqliteEngine, SqliteReads
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
