"""`make bench-audit`: what a durable log entry costs, and how long its proof takes.

Rules (contracts, "Figures cannot be bent")
1. Durable means synced: the writer's connection is asked for its mode, and the filesystem is named; a run on tmpfs is refused.
2. A rate counts only entries that are there, whole and verified, after the store was opened again.
3. Beside it stands the limit: the same bytes appended to a plain file with one fsync for as many entries as a commit.
4. Null: the same store with syncing off must be found not durable. Sabotage: a verification that takes an entry's hash from the tile
   instead of from the entry must miss flipped bytes. If either passes, the run fails.
5. Entries are real ones: OCSF events of calls, each with another request id.

Usage: python benchmarks/audit.py [--quick] [--dir DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.rows import VOLATILE, Row, emit, exit_code, filesystem, median_interval
from vouchgate.audit import ocsf, tree
from vouchgate.audit.checkpoints import Checkpoint, log_verifier, signed_checkpoint
from vouchgate.audit.hashing import HASH_BYTES, leaf_hash, split
from vouchgate.audit.proofs import inclusion_proof, verify_inclusion
from vouchgate.audit.verify import LogBroken, LogHolds, LogSource, verify_log
from vouchgate.storage.contract import Append, Change
from vouchgate.storage.group import GroupStore
from vouchgate.storage.opening import open_sqlite
from vouchgate.storage.sqlite import SqliteEngine
from vouchgate.vocabulary.events import Event

TD = "bench.local"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOG = log_verifier(f"{TD}/log", KEY.public_key().public_bytes_raw())
ENTRIES = 1_000_000
QUICK_ENTRIES = 100_000
BATCH = 256
"""Entries of one commit: the tailer's batch."""
IN_FLIGHT = 8
"""Commits handed in and not answered."""
ROUND = 64
"""Commits of one round."""
SYNCHRONOUS_FULL = 2
FLIPS = 400
SINGLES = 1_000
"""Entries committed one by one."""
GOAL_RATE, GOAL_VERIFY_MS = 50_000.0, 1.0


def entries(count: int) -> list[bytes]:
    """OCSF events of calls."""
    caller, endpoint = f"spiffe://{TD}/service/prod/client", f"vg://{TD}/endpoint/digits"
    detail = {"status": 200, "method": "POST", "path": "/v2/models/digits/infer"}
    now = 1_790_000_000_000
    return [
        ocsf.request(
            TD,
            Event(
                source="gateway",
                source_epoch=1,
                source_seq=at,
                occurred_at=now + at,
                observed_at=now + at + 50,
                principal=caller,
                authenticated=True,
                action="infer",
                resource=endpoint,
                grant_id="grant-1",
                enforced_by="gateway",
                outcome="allowed",
                request_id=f"{at:032x}",
                duration_ms=5.0,
                peer="127.0.0.1:50000",
                detail=detail,
            ),
        )
        for at in range(count)
    ]


def not_durable(store: GroupStore, folder: Path) -> list[str]:
    """Why what this store acknowledges could be lost with the power; empty where it could not."""
    engine = store.engine
    if not isinstance(engine, SqliteEngine):
        return ["it is not on a disk"]
    faults = []
    (synchronous,) = engine._writing.execute("PRAGMA synchronous").fetchone()
    if synchronous < SYNCHRONOUS_FULL:
        faults.append(f"synchronous = {synchronous}: the WAL is not synced on commit")
    if filesystem(folder) in VOLATILE:
        faults.append(f"{filesystem(folder)} forgets")
    return faults


def rounds_of(rows: Sequence[bytes]) -> list[list[list[bytes]]]:
    per_round = ROUND * BATCH
    return [
        [list(rows[at : at + BATCH]) for at in range(start, start + per_round, BATCH)]
        for start in range(0, len(rows) - per_round + 1, per_round)
    ]


def fill(store: GroupStore, rows: Sequence[bytes]) -> list[float]:
    """Durable entries a second, by round."""

    async def one(commits: list[list[bytes]]) -> float:
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def commit(batch: list[bytes]) -> None:
            async with gate:
                changes: list[Change] = [Append(entry) for entry in batch]
                await store.commit_async(changes)

        begun = time.perf_counter()
        await asyncio.gather(*[commit(batch) for batch in commits])
        return ROUND * BATCH / (time.perf_counter() - begun)

    return [asyncio.run(one(commits)) for commits in rounds_of(rows)]


def plain_file(folder: Path, rows: Sequence[bytes], per_sync: int) -> list[float]:
    """The limit: appending to a file, one fsync for `per_sync` entries."""
    rates = []
    with (folder / "plain").open("wb", buffering=0) as file:
        for commits in rounds_of(rows)[:10]:
            flat = [entry for batch in commits for entry in batch]
            begun = time.perf_counter()
            for at in range(0, len(flat), per_sync):
                file.write(b"".join(flat[at : at + per_sync]))
                os.fsync(file.fileno())
            rates.append(len(flat) / (time.perf_counter() - begun))
    return rates


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latency_rows(name: str, values: Sequence[float], goal: float | None = None) -> list[Row]:
    rows = []
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        low, high = median_interval(values, of=lambda some, share=share: percentile(some, share))
        met = None if goal is None else high < goal
        rows.append(
            Row(
                name=f"{name}, {label}",
                value=percentile(values, share),
                unit="ms",
                goal="" if goal is None else f"< {goal:g}",
                met=met,
                n=len(values),
                interval=(low, high),
            )
        )
    return rows


def rate_row(name: str, rates: Sequence[float], goal: float | None, note: str = "") -> Row:
    low, high = median_interval(rates)
    met = None if goal is None else low >= goal
    said = "" if goal is None else f">= {goal:,.0f}"
    return Row(
        name=name, value=statistics.median(rates), unit="entries/s", goal=said, met=met, n=len(rates), interval=(low, high), note=note
    )


def checkpoint_of(size: int, root: bytes) -> bytes:
    checkpoint = Checkpoint(LOG.name, size, root)
    return signed_checkpoint(checkpoint, LOG, KEY.sign(checkpoint.body.encode()))


class Flippable:
    """A small log in memory, of which one byte of one entry can be flipped."""

    def __init__(self, rows: Sequence[bytes]) -> None:
        self.rows = list(rows)
        state, writes = tree.append(tree.EMPTY, [leaf_hash(row) for row in rows])
        self.tiles = {(write.level, write.index): write.hashes for write in writes}
        self.note = checkpoint_of(state.size, tree.root(state))

    def size(self) -> int:
        return len(self.rows)

    def entries(self, start: int, count: int) -> list[bytes]:
        return self.rows[start : start + count]

    def tile(self, level: int, index: int, width: int) -> bytes:
        return self.tiles[level, index][: width * HASH_BYTES]


def honest(log: Flippable) -> bool:
    return isinstance(verify_log(log, log.note, LOG), LogHolds)


def blind(log: Flippable) -> bool:
    """The sabotaged verification: entries' hashes are taken from the tiles."""
    hashes = [value for index in range((log.size() + 255) // 256) for value in split(log.tiles[0, index])]
    state, _ = tree.append(tree.EMPTY, hashes)
    return checkpoint_of(state.size, tree.root(state)) == log.note


def flips_found(holds: Callable[[Flippable], bool], rows: Sequence[bytes], seed: int) -> int:
    """How many of `FLIPS` flipped bits are found."""
    chance = random.Random(seed)
    log = Flippable(rows)
    assert holds(log)
    found = 0
    for _ in range(FLIPS):
        index = chance.randrange(len(log.rows))
        whole = log.rows[index]
        changed = bytearray(whole)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        log.rows[index] = bytes(changed)
        found += not holds(log)
        log.rows[index] = whole
    return found


def found_row(name: str, found: int, *, sabotaged: bool = False) -> Row:
    """The lower bound for all found is 1 - 3/n ("rule of three")."""
    share = found / FLIPS
    low = max(0.0, share - 3 / FLIPS) if found == FLIPS else 0.0
    holds = found == FLIPS and low >= 0.99
    note = f"{found} of {FLIPS} flipped bits"
    goal = "found out" if sabotaged else ">= 0.99"
    met = not holds if sabotaged else holds
    return Row(name=name, value=share, unit="share found", goal=goal, met=met, n=FLIPS, interval=(low, 1.0), note=note)


def guard_rows(folder: Path, rows: Sequence[bytes]) -> list[Row]:
    """The null and the sabotage."""
    store = open_sqlite(folder / "null.db", TD)
    assert isinstance(store.engine, SqliteEngine)
    store.engine._writing.execute("PRAGMA synchronous = OFF")
    rates = fill(store, rows[: 4 * ROUND * BATCH])
    faults = not_durable(store, folder)
    store.close()
    null = Row(
        name="null: syncing off is found not durable",
        value=statistics.median(rates),
        unit="entries/s, not durable",
        goal="found out",
        met=bool(faults),
        n=len(rates),
        note="; ".join(faults),
    )
    return [
        null,
        found_row("flipped bits found by verification", flips_found(honest, rows[:300], 1)),
        found_row("sabotage: entries not hashed", flips_found(blind, rows[:300], 1), sabotaged=True),
    ]


def proof_rows(store: GroupStore, count: int) -> list[Row]:
    size, root = store.root()
    chance = random.Random(5)
    made, verified = [], []
    for _ in range(count):
        index = chance.randrange(size)
        leaf = leaf_hash(store.entries(index, 1)[0])
        begun = time.perf_counter()
        path = inclusion_proof(index, size, store.tile)
        made.append((time.perf_counter() - begun) * 1e3)
        begun = time.perf_counter()
        holds = verify_inclusion(leaf, index, size, path, root)
        verified.append((time.perf_counter() - begun) * 1e3)
        assert holds
    where = f"inclusion proof at {size:,} entries"
    return [*latency_rows(f"{where}: make from the store", made), *latency_rows(f"{where}: verify", verified, GOAL_VERIFY_MS)]


def verified_again(path: Path, appended: Sequence[bytes]) -> tuple[Row, GroupStore]:
    """Open the store again and verify all of it; raises where an acknowledged entry is not there."""
    store = open_sqlite(path, TD)
    note = checkpoint_of(*store.root())
    begun = time.perf_counter()
    found = verify_log(source(store), note, LOG)
    seconds = time.perf_counter() - begun
    if isinstance(found, LogBroken) or found.size != len(appended):
        raise SystemExit(f"the store does not hold what it acknowledged: {found}")
    for at in range(0, len(appended), 10_000):
        if store.entries(at, 10_000) != list(appended[at : at + 10_000]):
            raise SystemExit(f"among the entries from {at} on are others than were appended")
    return Row(name="whole log verified", value=len(appended) / seconds, unit="entries/s", n=len(appended), note="one run"), store


def source(store: GroupStore) -> LogSource:
    return store


def main(argv: Sequence[str]) -> int:
    """Exit code 1 where a goal is missed or a null or sabotage is not found out."""
    parser = argparse.ArgumentParser(description="durable entries a second, proofs")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dir", type=Path, default=Path(__file__).resolve().parents[1] / "build" / "bench-audit")
    args = parser.parse_args(argv)
    if filesystem(args.dir) in VOLATILE:
        sys.stderr.write(f"{args.dir} is on {filesystem(args.dir)}, which forgets: give --dir a disk\n")
        return 2
    shutil.rmtree(args.dir, ignore_errors=True)
    args.dir.mkdir(parents=True)
    try:
        rows = measure(args.dir, QUICK_ENTRIES if args.quick else ENTRIES)
    finally:
        shutil.rmtree(args.dir, ignore_errors=True)
    emit("audit", rows)
    return exit_code(rows)


def measure(folder: Path, count: int) -> list[Row]:
    """All rows."""
    begun = time.process_time()
    rows = entries(count)
    build = Row(name="OCSF entry built", value=(time.process_time() - begun) / count * 1e6, unit="us of processor", n=count)
    mean = sum(map(len, rows)) / count
    path = folder / "store.db"
    store = open_sqlite(path, TD)
    rates = fill(store, rows)
    faults = not_durable(store, folder)
    singles = [milliseconds(lambda at=at: store.commit([Append(rows[at])])) for at in range(SINGLES)]
    store.close()
    whole, store = verified_again(path, [*rows[: len(rates) * ROUND * BATCH], *rows[:SINGLES]])
    where = f"SQLite WAL, synchronous FULL, {filesystem(folder)}, {mean:.0f} bytes an entry"
    durable = rate_row(f"durable entries in commits of {BATCH}", rates, GOAL_RATE, "; ".join(faults) or where)
    result = [
        durable if not faults else Row(**{name: getattr(durable, name) for name in Row.__struct_fields__ if name != "met"}, met=False),
        rate_row(f"limit: plain file, fsync every {BATCH} entries", plain_file(folder, rows, BATCH), None),
        rate_row(f"limit: plain file, fsync every {BATCH * IN_FLIGHT} entries", plain_file(folder, rows, BATCH * IN_FLIGHT), None),
        *latency_rows("one entry committed alone", singles),
        *proof_rows(store, 2_000),
        whole,
        build,
        *size_rows(store, path, mean),
    ]
    return [*result, *guard_rows(folder, rows)]


def size_rows(store: GroupStore, path: Path, mean: float) -> list[Row]:
    size = store.size()
    store.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    stored = path.stat().st_size / size
    return [
        Row(name="bytes an entry", value=mean, unit="bytes", n=size),
        Row(name="bytes on disk an entry", value=stored, unit="bytes", n=size, note="entries, tiles and page overhead"),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
