"""`generation_of`: what `up` asks of a store before anything migrates it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from vouchgate.storage.migrations import pending
from vouchgate.storage.opening import generation_of, open_sqlite
from vouchgate.storage.sqlite import APPLICATION_ID
from vouchgate.vocabulary.errors import Conflict, StoreDamaged

TD = "test.local"


def test_a_new_store_has_generation_nought(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "s.db", TD).close()
    assert generation_of(tmp_path / "s.db", TD) == 0


def test_a_store_of_the_previous_schema_is_read_and_left_to_whoever_migrates_it(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as db:
        for statement in pending(0)[0].sqlite:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO domain (name, serial, epoch, epoch_reason, size, generation) VALUES (?, 0, 0, '', 0, 3)", (TD,))
    assert generation_of(path, TD) == 3
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
    store = open_sqlite(path, TD)
    assert store.generation == 3
    store.close()


def test_a_store_that_was_made_and_never_filled_has_generation_nought(tmp_path: Path) -> None:
    (tmp_path / "s.db").touch()
    assert generation_of(tmp_path / "s.db", TD) == 0


def test_another_programs_database_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE domain (name, generation)")
    with pytest.raises(Conflict, match="another program"):
        generation_of(tmp_path / "other.db", TD)
    (tmp_path / "bad.db").write_bytes(b"x" * 8192)
    with pytest.raises(StoreDamaged):
        generation_of(tmp_path / "bad.db", TD)
