"""Backups are whole and private; a restore forgets no revocation and gives no lease back."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from signed_logs import KEY, LOG, checkpointed, whole_log

from vouchgate.audit.checkpoints import Checkpoint, log_verifier, origin_of, signed_checkpoint
from vouchgate.storage.backup import EPOCH_LEAP, RestoreReport, backup, restore
from vouchgate.storage.contract import Append, BumpEpoch, DeleteRecord, PutRecord
from vouchgate.storage.group import GroupStore
from vouchgate.storage.opening import open_memory, open_sqlite, read_sqlite
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, StoreDamaged, Unavailable, Unverified
from vouchgate.vocabulary.vouches import Revocation

TD = "test.local"


def revoked(number: int) -> bytes:
    return wire.encode(
        Revocation(
            id=f"r{number}",
            trust_domain=TD,
            target_kind="digest",
            target="sha256:" + "0" * 64,
            reason="poisoned",
            requested_by="spiffe://test.local/person/prod/one",
            made_at=1,
        )
    )


class House:
    """A store that lived on after its backup."""

    def __init__(self, folder: Path) -> None:
        self.path, self.copy = folder / "store.db", folder / "backup.vgb"
        self.store = open_sqlite(self.path, TD)
        self.live(0, 300)
        self.store.commit(
            [PutRecord("vouch", "v", b"v", {"s": "x"}), PutRecord("grant", "g", b"g", {"p": "x"}), PutRecord("lease", "l", b"l")]
        )
        self.store.put_checkpoint(checkpointed(self.store))
        self.report = backup(self.store, self.copy)

    def live(self, start: int, count: int) -> None:
        self.store.commit([Append(b"%d" % at) for at in range(start, start + count)] + [BumpEpoch("x")])

    def live_on(self) -> bytes:
        """The newest checkpoint, which a witness would hold."""
        self.live(300, 50)
        self.store.commit([PutRecord("revocation", "r1", revoked(1))])
        note = checkpointed(self.store)
        self.store.put_checkpoint(note)
        return note

    def restore(self, known: bytes | None, since: list[bytes] | None = None) -> RestoreReport:
        self.store.close()
        return restore(self.copy, self.path, TD, LOG.key, known_checkpoint=known, revocations_since=since)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_backup_is_whole_private_and_says_what_it_holds(house: House) -> None:
    assert (house.report.size, house.report.epoch, house.report.generation) == (300, 1, 0)
    assert house.report.checkpoint == house.store.latest_checkpoint()
    assert house.copy.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in house.copy.parent.iterdir() if path.name.startswith("backup")) == ["backup.vgb"]
    assert house.report.file_bytes == house.copy.stat().st_size


def test_a_backup_of_a_store_that_is_being_written_is_of_one_moment(tmp_path: Path) -> None:
    house = House(tmp_path)
    stop = threading.Event()

    def keep_writing() -> None:
        number = 300
        while not stop.is_set():
            house.store.commit([Append(b"%d" % number), PutRecord("last", "n", b"%d" % number)])
            number += 1

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        reports = [backup(house.store, tmp_path / f"b{number}") for number in range(5)]
    finally:
        stop.set()
        writer.join()
    for number, report in enumerate(reports):
        with_wal = read_sqlite(tmp_path / f"b{number}", TD)
        entries = whole_log(with_wal)
        assert len(entries) == report.size
        last = with_wal.get("last", "n")
        assert last is None or last == entries[-1]
        with_wal.close()
    house.store.close()


def test_a_restore_gives_everything_back_but_grants_and_leases(house: House) -> None:
    note = house.store.latest_checkpoint()
    house.store.commit([DeleteRecord("vouch", "v")])
    report = house.restore(note)
    assert (report.size, report.generation, report.revocations, report.dropped) == (300, 0, 0, 2)
    store = open_sqlite(house.path, TD)
    assert store.get("vouch", "v") == b"v"
    assert [record.key for record in store.scan("vouch", index="s", equals="x")] == ["v"]
    assert (store.scan("grant"), store.scan("lease"), store.scan("grant", index="p", equals="x")) == ([], [], [])
    assert store.epoch() == report.epoch > EPOCH_LEAP
    assert whole_log(store) == [b"%d" % at for at in range(300)]
    assert store.latest_checkpoint() == note
    store.close()
    assert read_sqlite(Path(report.kept), TD).get("vouch", "v") is None


def test_a_backup_older_than_what_the_witness_knows_is_refused(house: House) -> None:
    known = house.live_on()
    with pytest.raises(Conflict, match="what was revoked since would come back") as caught:
        house.restore(known)
    assert "--revocations" in caught.value.remedy
    store = open_sqlite(house.path, TD)
    assert (store.size(), store.get("revocation", "r1")) == (350, revoked(1))
    store.close()
    assert not [path for path in house.path.parent.iterdir() if "restoring" in path.name]


def test_with_the_revocations_since_an_older_backup_begins_a_new_log(house: House) -> None:
    report = house.restore(house.live_on(), [revoked(1), revoked(2)])
    assert (report.size, report.generation, report.revocations) == (300, 1, 2)
    store = open_sqlite(house.path, TD)
    assert store.get("revocation", "r1") == revoked(1)
    assert [record.key for record in store.scan("revocation", index="target", equals="sha256:" + "0" * 64)] == ["r1", "r2"]
    assert store.generation == 1
    store.close()


def test_that_nothing_was_revoked_since_must_be_said(house: House) -> None:
    known = house.live_on()
    with pytest.raises(Conflict):
        house.restore(known, None)
    assert house.restore(known, []).generation == 1


def signed_under(store: GroupStore, generation: int) -> bytes:
    checkpoint = Checkpoint(origin_of(TD, generation), *store.root())
    return signed_checkpoint(
        checkpoint, log_verifier(checkpoint.origin, KEY.public_key().public_bytes_raw()), KEY.sign(checkpoint.body.encode())
    )


def test_generations_go_on_rising(house: House, tmp_path: Path) -> None:
    house.restore(house.live_on(), [])
    store = open_sqlite(house.path, TD)
    unsigned_yet = tmp_path / "second"
    backup(store, unsigned_yet)
    store.commit([Append(b"new log")])
    known = signed_under(store, 1)
    store.put_checkpoint(known)
    third = tmp_path / "third"
    backup(store, third)
    store.close()
    with pytest.raises(Conflict):
        restore(house.copy, house.path, TD, LOG.key, known_checkpoint=known)
    with pytest.raises(Conflict):
        restore(unsigned_yet, house.path, TD, LOG.key, known_checkpoint=known)
    assert restore(third, house.path, TD, LOG.key, known_checkpoint=known).generation == 1
    assert restore(house.copy, house.path, TD, LOG.key, known_checkpoint=known, revocations_since=[]).generation == 2


def test_a_backup_of_another_history_is_refused_even_with_revocations(house: House, tmp_path: Path) -> None:
    other = open_sqlite(tmp_path / "other.db", TD)
    other.commit([Append(b"other %d" % at) for at in range(200)])
    known = checkpointed(other)
    other.close()
    with pytest.raises(StoreDamaged, match="not of the log"):
        house.restore(known, [])


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE chunk SET bundle = CAST(replace(bundle, x'31', x'32') AS BLOB) WHERE first = 0",
        "UPDATE tile SET hashes = zeroblob(8192) WHERE level = 0 AND number = 0",
        "DELETE FROM checkpoint",
        "DELETE FROM domain",
    ],
)
def test_a_changed_backup_is_refused(house: House, sql: str) -> None:
    db = sqlite3.connect(house.copy)
    assert db.execute(sql).rowcount > 0
    db.commit()
    db.close()
    with pytest.raises((StoreDamaged, Conflict)):
        house.restore(None)
    assert open_sqlite(house.path, TD).size() == 300


def test_a_torn_backup_is_refused(house: House) -> None:
    data = house.copy.read_bytes()
    for cut in (0, 100, len(data) // 2):
        house.copy.write_bytes(data[:cut])
        with pytest.raises((StoreDamaged, Conflict)):
            house.restore(None)


def test_checkpoints_that_do_not_verify_are_refused(house: House) -> None:
    forger = Ed25519PrivateKey.generate()
    checkpoint = Checkpoint(LOG.name, 1, b"\x00" * 32)
    forged = signed_checkpoint(
        checkpoint, log_verifier(LOG.name, forger.public_key().public_bytes_raw()), forger.sign(checkpoint.body.encode())
    )
    foreign = Checkpoint("other.local/log", 1, b"\x00" * 32)
    for origin in ("other.local/log", "test.local/log/", "test.local/log/01", "test.local/log/x", "test.local/logs", "test.local/log/-1"):
        foreign = Checkpoint(origin, 1, b"\x00" * 32)
        note = signed_checkpoint(foreign, log_verifier(origin, LOG.key), KEY.sign(foreign.body.encode()))
        with pytest.raises(Unverified):
            house.restore(note)
    with pytest.raises(Unverified):
        house.restore(forged)
    with pytest.raises(InvalidInput):
        house.restore(b"nonsense")
    with pytest.raises(InvalidInput):
        house.restore(None, [b"not a revocation"])


def test_a_store_in_use_is_not_restored_over(house: House) -> None:
    with pytest.raises(Conflict, match="in use"):
        restore(house.copy, house.path, TD, LOG.key, known_checkpoint=None)
    house.store.commit([Append(b"x")])


def test_a_restore_onto_a_fresh_machine(house: House, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "store.db"
    report = restore(house.copy, target, TD, LOG.key, known_checkpoint=house.store.latest_checkpoint())
    assert (report.kept, report.size) == ("", 300)
    open_sqlite(target, TD).close()


def test_a_restore_over_a_damaged_store_keeps_it(house: House) -> None:
    house.store.close()
    house.path.write_bytes(b"SQLite format 3\x00 ruined")
    report = restore(house.copy, house.path, TD, LOG.key, known_checkpoint=house.report.checkpoint)
    assert Path(report.kept).read_bytes().endswith(b"ruined")
    assert open_sqlite(house.path, TD).size() == 300


def test_what_cannot_be_backed_up_is_told(house: House, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="there already"):
        backup(house.store, house.copy)
    with pytest.raises(Unavailable):
        backup(house.store, tmp_path / "no" / "folder")
    with pytest.raises(Conflict, match="not a file"):
        backup(open_memory(TD), tmp_path / "m")
    fresh = open_sqlite(tmp_path / "fresh.db", TD)
    with pytest.raises(Conflict, match="no checkpoint"):
        backup(fresh, tmp_path / "f")
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / "f.part").exists()
    with pytest.raises(NotFound):
        restore(tmp_path / "none", house.path, TD, LOG.key, known_checkpoint=None)
