"""What a disk, a crash or another program can do to the embedded store: a clear error, nothing lost, nothing half-applied."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from signed_logs import LOG, checkpointed, whole_log

from vouchgate.audit.verify import LogHolds, verify_log
from vouchgate.storage.contract import Append, BumpEpoch, PutRecord, SetOffset
from vouchgate.storage.engine import Batch
from vouchgate.storage.opening import open_sqlite, read_sqlite
from vouchgate.storage.sqlite import SqliteEngine
from vouchgate.vocabulary.errors import Conflict, StoreDamaged, Unavailable, Unsupported

TD = "test.local"
KILLS = 60
WRITER = """
import sys
from pathlib import Path
from vouchgate.storage.opening import open_sqlite
from vouchgate.storage.contract import Append, BumpEpoch, PutRecord, SetOffset
store = open_sqlite(Path(sys.argv[1]), "test.local")
at = store.offset("log")
done = at.offset if at else 0
print("open", done, flush=True)
while True:
    count = done % 7 + 1
    entries = [Append(b"%d" % (done + n) * 40, f"e{done + n}") for n in range(count)]
    record = PutRecord("seen", "upto", b"%d" % (done + count), {"n": str(done + count)})
    store.commit([*entries, record, SetOffset("log", 1, done + count, done), BumpEpoch("x")])
    done += count
    print(done, flush=True)
"""


def fill(path: Path, count: int = 600) -> None:
    store = open_sqlite(path, TD)
    store.commit(
        [Append(b"%d" % at, f"l{at}") for at in range(count)] + [PutRecord("k", "a", b"1"), SetOffset("s", 1, 9, 0), BumpEpoch("x")]
    )
    store.put_checkpoint(checkpointed(store))
    store.close()


def test_kill_9_loses_nothing_acknowledged_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    pick = random.Random(3)
    acknowledged = 0
    for _ in range(KILLS):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert int(writer.stdout.readline().split()[1]) >= acknowledged
        time.sleep(pick.random() * 0.03)
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate(timeout=20)
        whole = [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = max([acknowledged, *whole])
    store = open_sqlite(path, TD)
    at = store.offset("log")
    assert at is not None
    assert store.size() == at.offset >= acknowledged > KILLS
    assert whole_log(store) == [b"%d" % number * 40 for number in range(at.offset)]
    assert store.get("seen", "upto") == b"%d" % at.offset
    assert [record.key for record in store.scan("seen", index="n", equals=str(at.offset))] == ["upto"]
    assert store.find_entries(f"e{at.offset - 1}") == [at.offset - 1]
    store.check()
    store.close()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vgd"))
    if (
        os.getuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True).returncode
    ):
        folder.rmdir()
        pytest.skip("a small disk can be mounted only by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_full_disk_is_told_and_the_store_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    store = open_sqlite(small_disk / "store.db", TD)
    stored = 0
    with pytest.raises(Unavailable) as caught:
        for stored in range(2_000):
            store.commit([Append(b"%d" % stored * 1000), SetOffset("log", 1, stored + 1, stored), BumpEpoch("x")])
    assert "full" in caught.value.reason
    assert "make room" in caught.value.remedy
    for _ in range(3):
        with pytest.raises(Unavailable):
            store.commit([Append(b"x" * 60_000), SetOffset("log", 1, stored + 1, stored)])
    at = store.offset("log")
    assert at is not None
    assert (store.size(), at.offset, store.epoch()) == (stored, stored, stored)
    assert len(whole_log(store)) == stored
    ballast.unlink()
    store.commit([Append(b"room again"), SetOffset("log", 1, stored + 1, stored)])
    assert whole_log(store)[-1] == b"room again"
    store.close()
    again = open_sqlite(small_disk / "store.db", TD)
    assert len(whole_log(again)) == stored + 1
    again.check()
    again.close()


LIMITED = """
import resource, signal, sys
from pathlib import Path
from vouchgate.storage.opening import open_sqlite
from vouchgate.storage.contract import Append, SetOffset
from vouchgate.vocabulary.errors import Unavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_sqlite(Path(sys.argv[1]), "test.local")
store.commit([Append(b"first"), SetOffset("log", 1, 1, 0)])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
done = 1
try:
    while done < 10_000:
        store.commit([Append(b"x" * 5000), SetOffset("log", 1, done + 1, done)])
        done += 1
except Unavailable as error:
    print(done, error.remedy)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.commit([Append(b"last"), SetOffset("log", 1, done + 1, done)])
assert store.size() == store.offset("log").offset == done + 1
store.close()
print("end")
"""


def test_a_file_that_may_not_grow_is_unavailable_not_half_written(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused, end = done.stdout.splitlines()
    assert (end, "make room" in refused) == ("end", True)
    store = open_sqlite(path, TD)
    assert whole_log(store)[-1] == b"last"
    assert store.size() == int(refused.split()[0]) + 1
    store.close()


def test_after_a_failed_sync_nothing_is_written_until_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_sqlite(tmp_path / "store.db", TD)
    store.commit([Append(b"kept")])
    assert isinstance(store.engine, SqliteEngine)

    def fails(batch: Batch) -> None:
        store.engine._writing.execute("BEGIN IMMEDIATE")  # type: ignore[attr-defined]
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(store.engine, "_transaction", fails)
        with pytest.raises(Unavailable, match="does not take writes"):
            store.commit([Append(b"lost")])
    for _ in range(2):
        with pytest.raises(Unavailable, match="failed to sync") as caught:
            store.commit([Append(b"lost")])
        assert "restart" in caught.value.remedy
    assert "failed to sync" in store.health().failed
    assert store.entries(0, 9) == [b"kept"]
    store.close()
    again = open_sqlite(tmp_path / "store.db", TD)
    again.commit([Append(b"next")])
    assert whole_log(again) == [b"kept", b"next"]
    assert (again.health().free_bytes or 0) > 0
    again.close()


def test_a_second_process_is_told_who_holds_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_sqlite(path, TD)
    code = "import sys; from pathlib import Path; from vouchgate.storage.opening import open_sqlite; open_sqlite(Path(sys.argv[1]), 'test.local')"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True, timeout=30)
    assert f"in use by process {os.getpid()}" in done.stderr
    store.commit([Append(b"still mine")])
    store.close()
    open_sqlite(path, TD).close()


def test_a_reader_looks_on_beside_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_sqlite(path, TD)
    reader = read_sqlite(path, TD)
    store.commit([Append(b"a"), BumpEpoch("x"), PutRecord("k", "a", b"1")])
    assert (reader.size(), reader.epoch(), reader.entries(0, 5), reader.get("k", "a")) == (1, 1, [b"a"], b"1")
    assert reader.root() == store.root()
    reader.close()
    with pytest.raises(Conflict, match="nothing of"):
        read_sqlite(path, "other.local")
    store.close()


def test_a_reader_beside_a_busy_writer_always_sees_a_whole_log(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_sqlite(path, TD)
    store.commit([Append(b"0")])
    store.put_checkpoint(checkpointed(store))
    stop = threading.Event()

    def keep_writing() -> None:
        number = 1
        while not stop.is_set():
            store.commit([Append(b"%d" % (number + more)) for more in range(number % 90 + 1)])
            store.put_checkpoint(checkpointed(store))
            number += number % 90 + 1

    writer = threading.Thread(target=keep_writing)
    writer.start()
    reader = read_sqlite(path, TD)
    try:
        seen = [reader.size() for _ in range(150)]
        note = reader.latest_checkpoint()
        assert note is not None
        assert isinstance(verify_log(reader, note, LOG), LogHolds)
    finally:
        stop.set()
        writer.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
    reader.close()
    store.close()


@pytest.mark.parametrize(
    "junk", [b"not a database at all", b"SQLite format 3\x00" + b"\x00" * 2000, b"SQLite format 3\x00" + os.urandom(8192), b"\x00" * 4096]
)
def test_a_file_that_is_no_store_is_damaged(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(junk)
    with pytest.raises(StoreDamaged) as caught:
        open_sqlite(path, TD)
    assert "restore" in caught.value.remedy
    path.unlink()
    open_sqlite(path, TD).close()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(Conflict, match="another program"):
        open_sqlite(path, TD)
    found = sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall()
    assert found == [("theirs",)]
    assert len(path.read_bytes()) == len(before)


def test_a_store_newer_than_the_program_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    fill(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Unsupported, match="schema 99") as caught:
        open_sqlite(path, TD)
    assert "update vouchgate" in caught.value.remedy
    with pytest.raises(Unsupported):
        read_sqlite(path, TD)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (99,)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM chunk WHERE first = (SELECT max(first) FROM chunk)",
        "UPDATE chunk SET bundle = substr(bundle, 1, length(bundle) - 1) WHERE first = 512",
        "UPDATE chunk SET bundle = x'0001ff' WHERE first = 512",
        "UPDATE chunk SET count = count + 1 WHERE first = 512",
        "UPDATE domain SET size = size + 1",
        "UPDATE domain SET size = size - 1",
        "UPDATE domain SET size = 256",
        "DELETE FROM tile WHERE level = 0 AND number = 2",
        "DELETE FROM tile WHERE level = 1",
        "UPDATE tile SET hashes = zeroblob(length(hashes)) WHERE level = 1",
        "UPDATE tile SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND number = 2",
        "UPDATE tile SET hashes = substr(hashes, 1, 31) WHERE level = 0 AND number = 2",
        "UPDATE checkpoint SET note = x'00'",
        "INSERT INTO chunk SELECT domain, 600, 1, x'000161' FROM chunk LIMIT 1",
    ],
)
def test_a_half_written_log_is_refused_at_opening(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "store.db"
    fill(path)
    db = sqlite3.connect(path)
    assert db.execute(sql).rowcount > 0
    db.commit()
    db.close()
    with pytest.raises(StoreDamaged) as caught:
        open_sqlite(path, TD)
    assert "audit verify" in caught.value.remedy or "restore" in caught.value.remedy


def test_overwritten_pages_are_found_by_check_or_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    fill(path, 5_000)
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'label'").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))
    store = open_sqlite(path, TD)
    with pytest.raises(StoreDamaged):
        store.check()
    with pytest.raises(StoreDamaged):
        store.find_entries("l5")
    store.close()


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_wal_cut_off_by_a_power_failure_gives_an_earlier_whole_state(tmp_path: Path, cut: float) -> None:
    path = tmp_path / "store.db"
    store = open_sqlite(path, TD)
    for at in range(40):
        store.commit([Append(b"%d" % at * 50), SetOffset("log", 1, at + 1, at)])
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("store.db", "store.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    store.close()
    wal = copy / "store.db-wal"
    with wal.open("r+b") as file:
        file.truncate(int(wal.stat().st_size * cut))
    again = open_sqlite(copy / "store.db", TD)
    at_now = again.offset("log")
    assert again.size() == (at_now.offset if at_now else 0) <= 40
    assert whole_log(again) == [b"%d" % number * 50 for number in range(again.size())]
    again.close()


def test_a_folder_that_may_not_be_written_is_unavailable(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(Unavailable, match="cannot be opened"):
        open_sqlite(blocked / "store.db", TD)


def test_the_store_is_private_to_its_user(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    fill(path)
    assert {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {0}
