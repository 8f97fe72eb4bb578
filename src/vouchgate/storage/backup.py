"""Backup of a running store, and a restore that forgets no revocation.

Rules
1. A backup is a consistent copy as of one moment, one file, private to its user, synced before it gets its name; it holds the newest
   checkpoint, so that it can be judged on its own.
2. A restore verifies the whole log in the backup before anything is replaced.
3. A backup older than the newest checkpoint known outside (witness, gateway) is refused unless the revocations since are handed in: restoring
   would otherwise bring revoked things back. A backup that contradicts that checkpoint is of another history and always refused.
4. Restoring an older backup cannot continue the log that the witness knows, so a new log begins beside it: the generation rises, and with
   it the log's origin. Old proofs stay valid; that a new log began is visible to everyone.
5. Leases start empty: grants are dropped, and the epoch leaps past any that an enforcement point may have seen.
6. A store that is in use is not restored over; what was there is kept beside it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from vouchgate.audit import tree
from vouchgate.audit.checkpoints import Checkpoint, log_verifier, open_checkpoint, origin_of, read_checkpoint
from vouchgate.audit.notes import Verifier
from vouchgate.audit.verify import LogBroken, verify_log
from vouchgate.storage.contract import BumpEpoch, Change, PutRecord
from vouchgate.storage.group import StoreReader
from vouchgate.storage.opening import open_sqlite, read_sqlite
from vouchgate.storage.sqlite import SqliteReads, connect, migrate, take_lock, typed
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import Conflict, NotFound, StoreDamaged, Unavailable, Unverified
from vouchgate.vocabulary.vouches import Revocation

TRANSIENT_KINDS = ("grant", "lease")
"""Records that do not survive a restore."""
EPOCH_LEAP = 1 << 32
"""Epochs by which a restore leaps: more than a store hands out in a century at one a second, so that no grant from before is newer."""


class BackupReport(msgspec.Struct, frozen=True):
    """What a backup file holds."""

    path: str
    size: int
    """Entries of the log."""
    epoch: int
    generation: int
    checkpoint: bytes
    file_bytes: int


class RestoreReport(msgspec.Struct, frozen=True):
    """What a restore did."""

    size: int
    epoch: int
    generation: int
    """Rises where a new log began (rule 4)."""
    revocations: int
    dropped: int
    """Grants and leases that were dropped."""
    kept: str
    """Where the store that was there before is; empty where there was none."""


def backup(store: StoreReader, target: Path) -> BackupReport:
    """Copy a running SQLite store. Raises `Conflict` where the file is there or the log has no checkpoint yet, `Unavailable` on disk errors."""
    engine = store.engine
    if not isinstance(engine, SqliteReads):
        raise Conflict("this store is not a file", remedy="back PostgreSQL up with its own tools (`pg_basebackup`)")
    if target.exists():
        raise Conflict(f"`{target.name}` is there already", remedy="give the backup a new name")
    part = target.with_name(target.name + ".part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with typed(part), closing(sqlite3.connect(part)) as copy:
            engine.copy_to(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        report = _inspect(part, store.trust_domain, target)
        _sync(part)
        part.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise Unavailable(
            f"the backup `{target.name}` cannot be written: {error.strerror}", remedy="make room, or choose another folder"
        ) from None
    finally:
        _remove(part)
    return report


def _inspect(part: Path, trust_domain: str, target: Path) -> BackupReport:
    with closing(read_sqlite(part, trust_domain)) as copy:
        checkpoint = copy.latest_checkpoint()
        if checkpoint is None:
            raise Conflict("the log has no checkpoint yet", remedy="wait until the first checkpoint is signed (a second), then back up")
        report = BackupReport(str(target), copy.size(), copy.epoch(), copy.generation, checkpoint, part.stat().st_size)
    with typed(part), closing(sqlite3.connect(part)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    return report


def restore(
    source: Path,
    target: Path,
    trust_domain: str,
    log_key: bytes,
    *,
    known_checkpoint: bytes | None,
    revocations_since: Sequence[bytes] | None = None,
) -> RestoreReport:
    """Put a backup in the place of the store.

    `log_key` is the log's raw public key. `known_checkpoint` is the newest one held outside; None only where neither witness nor gateway
    holds any. `revocations_since` are encoded `Revocation` nouns whose signatures the caller has verified; an empty sequence is the
    statement that there were none, None that they are unknown. Raises `NotFound`, `Conflict`, `StoreDamaged`, `Unverified`, `Unavailable`.
    """
    if not source.is_file():
        raise NotFound(f"there is no backup `{source.name}`", remedy="give the path of a file that `vouchgate backup` wrote")
    revocations = [wire.decode(Revocation, data, what="revocation") for data in revocations_since or ()]
    known = None if known_checkpoint is None else _known(known_checkpoint, trust_domain, log_key)
    lock = take_lock(target, create=False)
    part = target.with_name(target.name + ".restoring")
    try:
        _copy(source, part)
        generation = _judge(part, trust_domain, log_key, known, revocations_known=revocations_since is not None)
        report = _prepare(part, trust_domain, revocations, generation)
        kept = _swap(part, target)
    except OSError as error:
        raise Unavailable(
            f"the store cannot be restored: {error.strerror}", remedy="make room, check the owner of the data directory"
        ) from None
    finally:
        for leftover in (part, *_beside(part), Path(f"{part}.lock")):
            _remove(leftover)
        os.close(lock)
    return msgspec.structs.replace(report, kept=kept)


class _Known(msgspec.Struct, frozen=True):
    """A checkpoint from outside, verified."""

    generation: int
    checkpoint: Checkpoint


def _known(note: bytes, trust_domain: str, log_key: bytes) -> _Known:
    origin = read_checkpoint(note).origin
    number = origin.removeprefix(origin_of(trust_domain)).removeprefix("/") or "0"
    generation = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1
    if generation < 0 or origin_of(trust_domain, generation) != origin:
        raise Unverified(
            f"the known checkpoint is of `{origin[:80]}`, not of `{trust_domain}`", remedy="give this installation's checkpoint"
        )
    return _Known(generation, open_checkpoint(note, log_verifier(origin, log_key)))


def _copy(source: Path, part: Path) -> None:
    for leftover in (part, *_beside(part)):
        _remove(leftover)
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with (
        typed(source),
        closing(sqlite3.connect(f"file:{_quoted(source)}?mode=ro&immutable=1", uri=True)) as old,
        closing(connect(part)) as new,
    ):
        old.backup(new)
        migrate(new)


def _judge(part: Path, trust_domain: str, log_key: bytes, known: _Known | None, *, revocations_known: bool) -> int:
    """The generation that the restored store must have (rules 2 to 4)."""
    with closing(read_sqlite(part, trust_domain)) as copy:
        copy.check()
        _require_whole(copy, log_verifier(origin_of(trust_domain, copy.generation), log_key))
        if known is None or known.generation < copy.generation:
            return copy.generation
        if known.generation == copy.generation and known.checkpoint.size <= copy.size():
            if tree.root_at(known.checkpoint.size, copy.tile) != known.checkpoint.root:
                raise StoreDamaged(
                    f"the backup is not of the log that had {known.checkpoint.size} entries when its checkpoint was cosigned",
                    remedy="take a backup of this installation's own log",
                )
            return copy.generation
        if not revocations_known:
            raise Conflict(
                f"the backup has {copy.size()} log entries, the newest known checkpoint of `{known.checkpoint.origin}`"
                f" {known.checkpoint.size}: what was revoked since would come back",
                remedy="use a newer backup, or hand in the revocations since (`vouchgate restore --revocations FILE`)",
            )
        return known.generation + 1


def _require_whole(copy: StoreReader, log: Verifier) -> None:
    notes = [note for note in copy.checkpoints() if read_checkpoint(note).origin == log.name]
    older = [note for note in copy.checkpoints() if read_checkpoint(note).origin != log.name]
    if not notes and not (older and copy.generation):
        raise StoreDamaged("the backup holds no checkpoint of its log", remedy="take another backup")
    if not notes:
        log, notes = log_verifier(read_checkpoint(older[-1]).origin, log.key), older[-1:]
    found = verify_log(copy, notes[-1], log, against=notes)
    if isinstance(found, LogBroken):
        raise StoreDamaged(f"the log in the backup does not hold: {found.reason}", remedy="take another backup; this one was changed")


def _prepare(part: Path, trust_domain: str, revocations: Sequence[Revocation], generation: int) -> RestoreReport:
    dropped = 0
    with typed(part), closing(connect(part)) as db:
        domain = db.execute("SELECT id FROM domain WHERE name = ?", (trust_domain,)).fetchone()[0]
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE domain SET epoch = epoch + ?, generation = ? WHERE id = ?", (EPOCH_LEAP, generation, domain))
        for kind in TRANSIENT_KINDS:
            db.execute("DELETE FROM record_index WHERE domain = ? AND kind = ?", (domain, kind))
            dropped += db.execute("DELETE FROM record WHERE domain = ? AND kind = ?", (domain, kind)).rowcount
        db.execute("COMMIT")
    with closing(open_sqlite(part, trust_domain)) as store:
        changes: list[Change] = [PutRecord("revocation", made.id, wire.encode(made), {"target": made.target}) for made in revocations]
        store.commit([*changes, BumpEpoch("restored from a backup")])
        report = RestoreReport(store.size(), store.epoch(), store.generation, len(revocations), dropped, "")
    with typed(part), closing(connect(part)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _sync(part)
    return report


def _swap(part: Path, target: Path) -> str:
    kept = ""
    if target.exists():
        # a damaged store is kept as it is, with its WAL beside it
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(target)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        number = next(number for number in range(1, 10_000) if not target.with_name(f"{target.name}.before-restore-{number}").exists())
        for there in (target, *_beside(target)):
            if there.exists():
                there.replace(there.with_name(there.name.replace(target.name, f"{target.name}.before-restore-{number}", 1)))
        kept = f"{target}.before-restore-{number}"
    part.replace(target)
    _sync(target.parent)
    return kept


def _beside(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
