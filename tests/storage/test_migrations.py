"""Migrations take every earlier schema to the newest without losing anything, and stop where they fail."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from signed_logs import LOG, checkpointed, whole_log

from vouchgate.audit import tree
from vouchgate.audit.hashing import leaf_hash
from vouchgate.audit.tiles import write_bundle
from vouchgate.audit.verify import LogHolds, verify_log
from vouchgate.storage import migrations
from vouchgate.storage.contract import Append, Position, PutRecord
from vouchgate.storage.group import GroupStore
from vouchgate.storage.migrations import MIGRATIONS, NEWEST, m0001_store
from vouchgate.storage.opening import open_postgres, open_sqlite, read_sqlite
from vouchgate.storage.sqlite import APPLICATION_ID
from vouchgate.vocabulary.errors import Conflict, StoreDamaged, Unsupported

TD = "test.local"
ROWS = [b"%d" % at for at in range(300)]


def first_schema() -> list[tuple[str, tuple[object, ...]]]:
    """What a store of schema 1 held, as statements with `?`."""
    _, tiles = tree.append(tree.EMPTY, [leaf_hash(row) for row in ROWS])
    return [
        (
            "INSERT INTO domain (id, name, serial, epoch, epoch_reason, size, generation) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (7, TD, 5, 9, "x", 300, 0),
        ),
        ("INSERT INTO record VALUES (?, ?, ?, ?, ?)", (7, "vouch", "a", b"1", json.dumps({"subject": "x", "type": "scan"}))),
        ("INSERT INTO record VALUES (?, ?, ?, ?, ?)", (7, "vouch", "b", b"2", json.dumps({"subject": "x"}))),
        ("INSERT INTO record VALUES (?, ?, ?, ?, ?)", (7, "zone", "z", b"3", "{}")),
        ("INSERT INTO chunk VALUES (?, ?, ?, ?)", (7, 0, 256, write_bundle(ROWS[:256]))),
        ("INSERT INTO chunk VALUES (?, ?, ?, ?)", (7, 256, 44, write_bundle(ROWS[256:]))),
        *[("INSERT INTO tile VALUES (?, ?, ?, ?)", (7, tile.level, tile.index, tile.hashes)) for tile in tiles],
        ("INSERT INTO position VALUES (?, ?, ?, ?)", (7, "log", 3, 4)),
    ]


def check_migrated(store: GroupStore) -> None:
    assert (store.epoch(), store.offset("log"), whole_log(store)) == (9, Position(3, 4), ROWS)
    assert [record.key for record in store.scan("vouch", index="subject", equals="x")] == ["a", "b"]
    assert [record.key for record in store.scan("vouch", index="type", equals="scan")] == ["a"]
    assert store.get("zone", "z") == b"3"
    store.commit([PutRecord("vouch", "a", b"new", {"subject": "y"}), Append(b"more", "label")])
    assert [record.key for record in store.scan("vouch", index="subject", equals="x")] == ["b"]
    assert store.find_entries("label") == [300]
    assert isinstance(verify_log(store, checkpointed(store), LOG), LogHolds)


def old_sqlite(path: Path) -> None:
    db = sqlite3.connect(path)
    for statement in m0001_store.SQLITE:
        db.execute(statement)
    for statement, values in first_schema():
        db.execute(statement, values)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()


def test_a_sqlite_store_of_the_previous_schema_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    old_sqlite(path)
    with pytest.raises(Conflict, match="schema 1"):
        read_sqlite(path, TD)
    for _ in range(2):
        store = open_sqlite(path, TD)
        if _ == 0:
            check_migrated(store)
        store.close()
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (NEWEST,)


def test_a_postgres_store_of_the_previous_schema_is_migrated(postgres_server: Callable[[], str]) -> None:
    dsn = postgres_server()

    async def old() -> None:
        db = await asyncpg.connect(dsn)
        for statement in m0001_store.POSTGRES:
            await db.execute(statement)
        for statement, values in first_schema():
            parts = statement.split("?")
            await db.execute("".join(part + (f"${at + 1}" if at < len(values) else "") for at, part in enumerate(parts)), *values)
        await db.execute("CREATE TABLE vouchgate_schema (number BIGINT PRIMARY KEY)")
        await db.execute("INSERT INTO vouchgate_schema VALUES (1)")
        await db.close()

    asyncio.run(old())
    store = open_postgres(dsn, TD)
    check_migrated(store)
    store.close()


def test_a_postgres_store_newer_than_the_program_is_refused(postgres_server: Callable[[], str]) -> None:
    dsn = postgres_server()
    open_postgres(dsn, TD).close()

    async def newer() -> None:
        db = await asyncpg.connect(dsn)
        await db.execute("INSERT INTO vouchgate_schema VALUES (99)")
        await db.close()

    asyncio.run(newer())
    with pytest.raises(Unsupported, match="schema 99"):
        open_postgres(dsn, TD)


def test_a_step_that_fails_leaves_the_previous_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    old_sqlite(path)
    bad = migrations.Migration(2, (*MIGRATIONS[1].sqlite, "INSERT INTO nowhere VALUES (1)"), ())
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", (MIGRATIONS[0], bad))
        with pytest.raises(StoreDamaged, match="nowhere"):
            open_sqlite(path, TD)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT name FROM sqlite_master WHERE name IN ('label', 'record_index')").fetchall() == []
    db.close()
    store = open_sqlite(path, TD)
    check_migrated(store)
    store.close()


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [step.number for step in MIGRATIONS] == list(range(1, NEWEST + 1))
    assert [step.number for step in migrations.pending(0)] == [1, 2]
    assert migrations.pending(NEWEST) == ()
    with pytest.raises(Unsupported):
        migrations.pending(NEWEST + 1)


def test_both_engines_have_the_same_tables(tmp_path: Path, postgres_server: Callable[[], str]) -> None:
    path = tmp_path / "store.db"
    open_sqlite(path, TD).close()
    db = sqlite3.connect(path)
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    ours = {(table, column[1]) for table in tables for column in db.execute(f"PRAGMA table_info({table})")}
    dsn = postgres_server()
    open_postgres(dsn, TD).close()

    async def theirs() -> set[tuple[str, str]]:
        connection = await asyncpg.connect(dsn)
        rows = await connection.fetch("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'")
        await connection.close()
        return {(row[0], row[1]) for row in rows if row[0] != "vouchgate_schema"}

    assert ours == asyncio.run(theirs())
