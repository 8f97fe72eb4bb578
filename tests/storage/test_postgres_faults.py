"""A PostgreSQL server that drops us, is not there, or is written to by someone else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest
from signed_logs import whole_log

from vouchgate.storage.contract import Append, Committed, PutRecord, SetOffset
from vouchgate.storage.opening import open_postgres
from vouchgate.vocabulary.errors import Conflict, StoreDamaged, Unavailable, VouchgateError

TD = "test.local"


def admin(dsn: str, *statements: str) -> None:
    async def run() -> None:
        db = await asyncpg.connect(dsn)
        for statement in statements:
            await db.execute(statement)
        await db.close()

    asyncio.run(run())


DROP = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"


def test_dropped_connections_lose_and_repeat_nothing(postgres_server: Callable[[], str]) -> None:
    dsn = postgres_server()
    store = open_postgres(dsn, TD)
    acknowledged = at = 0
    refused = 0
    for number in range(120):
        if number % 15 == 7:
            admin(dsn, DROP)
        try:
            done = store.commit([Append(b"%d" % at), SetOffset("log", 1, at + 1, at), PutRecord("last", "n", b"%d" % at)])
            assert isinstance(done, Committed)
            acknowledged += 1
            at += 1
        except VouchgateError as error:
            assert isinstance(error, Unavailable | Conflict)
            refused += 1
            stored = store.offset("log")
            at = stored.offset if stored else 0
    assert acknowledged >= 100
    assert whole_log(store) == [b"%d" % number for number in range(store.size())]
    stored = store.offset("log")
    assert stored is not None
    assert store.size() == stored.offset >= acknowledged
    store.close()
    assert refused <= 20


def test_a_writer_that_lost_its_place_cannot_write_past_another(postgres_server: Callable[[], str]) -> None:
    dsn = postgres_server()
    first = open_postgres(dsn, TD)
    first.commit([Append(b"first")])
    admin(dsn, DROP)
    second = open_postgres(dsn, TD)
    second.commit([Append(b"second")])
    for _ in range(3):
        with pytest.raises((Conflict, Unavailable)):
            first.commit([Append(b"stale")])
    assert whole_log(second) == [b"first", b"second"]
    second.close()
    first.close()


def test_a_foreign_write_is_noticed_before_anything_is_added(postgres_server: Callable[[], str]) -> None:
    dsn = postgres_server()
    store = open_postgres(dsn, TD)
    store.commit([Append(b"first")])
    admin(dsn, "UPDATE domain SET serial = serial + 1")
    with pytest.raises(Conflict, match="another control plane"):
        store.commit([Append(b"lost")])
    store.commit([Append(b"second")])
    assert whole_log(store) == [b"first", b"second"]
    store.close()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM chunk",
        "UPDATE domain SET size = size + 1",
        "UPDATE tile SET hashes = 'xx'",
        "UPDATE chunk SET bundle = substring(bundle from 1 for 4)",
    ],
)
def test_a_half_written_log_is_refused_at_opening(postgres_server: Callable[[], str], sql: str) -> None:
    dsn = postgres_server()
    store = open_postgres(dsn, TD)
    store.commit([Append(b"first"), Append(b"second")])
    store.close()
    admin(dsn, sql)
    with pytest.raises(StoreDamaged):
        open_postgres(dsn, TD)


@pytest.mark.parametrize("dsn", ["postgresql://postgres@127.0.0.1:9/none", "postgresql:///none?host=/nonexistent", "postgresql://x"])
def test_an_unreachable_server_is_unavailable(dsn: str) -> None:
    with pytest.raises(Unavailable) as caught:
        open_postgres(dsn, TD)
    assert caught.value.remedy


def test_a_password_in_the_address_is_never_told() -> None:
    with pytest.raises(Unavailable) as caught:
        open_postgres("postgresql://someone:hunter2@127.0.0.1:9/none", TD)
    assert "hunter2" not in caught.value.reason + caught.value.remedy
