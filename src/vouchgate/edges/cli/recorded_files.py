"""Recorded decisions for a command: from the control plane page by page, or from files that `vouchgate policy export-log` wrote.

    material(session, log, since) -> Material          `.snapshot` and `.batches()`; what was found on the way stands in it afterwards
    old, new = material.compiled(sources)              policies as they decide here, beside what is compiled with any policy

The analysis happens in this process: the control plane only reads and sends.
"""

from __future__ import annotations

import re
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.policy.catalog import load
from vouchgate.policy.compile import CompiledPolicies, compile_policies
from vouchgate.policy.load import Source
from vouchgate.policy.recorded import NOT_RECORDED, Header, Recorded, RecordedLog, write_end, write_header
from vouchgate.policy.recorded import End as LogEnd
from vouchgate.policy.world import World, world_from_cedar_json
from vouchgate.vocabulary.answers_policy import PolicySnapshot, RecordedPage
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.wire import decode, encode

READ_BYTES = 4 * 1024 * 1024
MAX_ENTITIES_BYTES = 1024 * 1024 * 1024
"""Of the unpacked entities of a snapshot; a million callers need less."""
BESIDE = ".entities"
"""Behind the name of the file with the records: the file with the entities."""
SHOW_SECONDS = 1.0
_UNITS = {"h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


def milliseconds(text: str) -> int:
    """`12h`, `7d`, `4w`. Raises `Usage`."""
    found = re.fullmatch(r"([1-9][0-9]{0,3})([hdw])", text)
    if not found:
        raise Usage(f"`{text[:40]}` is no length of time", remedy="write hours, days or weeks: 12h, 7d, 4w")
    return int(found[1]) * _UNITS[found[2]]


class Progress:
    """How far, how fast, how long still; on standard error, and only on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._begun = self._told = time.monotonic()
        self.records = 0

    def step(self, records: int, done: float) -> None:
        """`done`: the share of all that is behind us, 0 where that is not known."""
        self.records += records
        now = time.monotonic()
        if self._quiet or now - self._told < SHOW_SECONDS:
            return
        self._told = now
        rate = self.records / max(now - self._begun, 0.001)
        left = f", about {(now - self._begun) * (1 - done) / done:.0f} s left" if done > 0 else ""
        sys.stderr.write(f"\r{self.records:,} records, {rate:,.0f} a second{left}    ")
        sys.stderr.flush()

    def end(self) -> float:
        """Seconds since it began."""
        if not self._quiet and self._told != self._begun:
            sys.stderr.write("\r" + " " * 70 + "\r")
        return time.monotonic() - self._begun


class Material:
    """Records with the entities and the policy that they are replayed on."""

    def __init__(self, snapshot: PolicySnapshot, progress: Progress) -> None:
        self.snapshot, self.progress = snapshot, progress
        self.world: World = world_from_cedar_json(_unpacked(snapshot.entities))
        self.not_recorded = frozenset(NOT_RECORDED)
        self.cut_off = False
        self.left_out: dict[str, int] = {}

    def batches(self) -> Iterator[list[Recorded]]:
        """The records; some thousand at a time."""
        raise NotImplementedError

    def compiled(self, sources: Sequence[tuple[str, str]]) -> CompiledPolicies:
        """A policy as it decides here. Raises `InvalidPolicy`."""
        return compile_policies(load([Source(name, text) for name, text in (*sources, *self.snapshot.beside)]))

    @property
    def in_force(self) -> CompiledPolicies:
        """The policy of the snapshot."""
        return self.compiled(self.snapshot.sources)


class Live(Material):
    """From the control plane."""

    def __init__(self, session: Session, since: int) -> None:
        self._client = session.client
        snapshot = self._client.get(PolicySnapshot, "/api/v1/policy/snapshot")
        self.since = max(0, snapshot.made_at - since)
        self.first = self.end = 0
        super().__init__(snapshot, Progress(quiet=session.as_json))

    def batches(self) -> Iterator[list[Recorded]]:
        for lines, _ in self.pages():
            found = RecordedLog([write_header(Header(trust_domain=self.snapshot.trust_domain)), lines]).batches()
            yield from found

    def pages(self) -> Iterator[tuple[bytes, int]]:
        """(lines, records) up to the end that the log had when the snapshot was made."""
        at, begun = -1, -1
        while at < self.snapshot.log_size:
            page = self._client.get(RecordedPage, "/api/v1/policy/records", start=at, since=self.since)
            begun = page.next if begun < 0 else begun
            for why, count in page.left_out.items():
                self.left_out[why] = self.left_out.get(why, 0) + count
            whole = max(1, self.snapshot.log_size - begun)
            self.progress.step(page.records, min(1.0, (page.next - begun) / whole))
            yield page.lines.encode(), page.records
            if page.next <= at:
                break
            at = self.end = page.next


class Filed(Material):
    """From files."""

    def __init__(self, path: Path, *, quiet: bool) -> None:
        beside = path.with_name(path.name + BESIDE)
        try:
            self._file = path.open("rb")
            self._size = max(1, path.stat().st_size)
            text = beside.read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"recorded decisions cannot be read: {error}",
                remedy=f"write them with `vouchgate policy export-log FILE`; `FILE{BESIDE}` lies beside",
            ) from None
        snapshot = decode(PolicySnapshot, text, what="snapshot of the entities")
        self._log = RecordedLog(self._chunks(), snapshot.trust_domain)
        super().__init__(snapshot, Progress(quiet=quiet))
        self.not_recorded = self._log.not_recorded

    def _chunks(self) -> Iterator[bytes]:
        with self._file:
            while chunk := self._file.read(READ_BYTES):
                yield chunk

    def batches(self) -> Iterator[list[Recorded]]:
        for batch in self._log.batches():
            self.progress.step(len(batch), 0 if self._file.closed else min(1.0, self._file.tell() / self._size))
            yield batch
        self.cut_off = self._log.cut_off
        self.left_out = self._log.end.left_out if self._log.end else {}


def material(session: Session, log: str, since: str) -> Material:
    """From `--log FILE`, else from the control plane. Raises typed errors."""
    return Filed(Path(log), quiet=session.as_json) if log else Live(session, milliseconds(since))


def export(live: Live, path: Path) -> tuple[int, int]:
    """Write both files; (records, bytes). The records are renamed into place once they are whole."""
    part = path.with_name(path.name + ".part")
    records = size = 0
    snapshot = live.snapshot
    header = Header(
        trust_domain=snapshot.trust_domain,
        policy_version=snapshot.policy_version,
        policy_digest=snapshot.policy_digest,
        end_index=snapshot.log_size,
        made_at=snapshot.made_at,
    )
    try:
        part.touch(0o600)
        with part.open("wb") as file:
            size += file.write(write_header(header))
            for lines, count in live.pages():
                records += count
                size += file.write(lines)
            size += file.write(write_end(LogEnd(records=records, left_out=live.left_out)))
        beside = path.with_name(path.name + BESIDE)
        beside.touch(0o600)
        size += beside.write_bytes(encode(snapshot))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InvalidInput(f"`{path}` cannot be written: {error.strerror}", remedy="name a file in a folder of yours") from None
    return records, size


def _unpacked(packed: bytes) -> str:
    """Raises `InvalidInput`, `LimitExceeded`."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, MAX_ENTITIES_BYTES)
        if unpacker.unconsumed_tail:
            raise LimitExceeded(f"the entities unpack to more than {MAX_ENTITIES_BYTES} bytes", remedy="export them again")
        if not unpacker.eof:
            raise InvalidInput("the entities are cut off", remedy="export them again: `vouchgate policy export-log FILE`")
        return text.decode()
    except (zlib.error, UnicodeDecodeError):
        raise InvalidInput("the entities cannot be unpacked", remedy="export them again: `vouchgate policy export-log FILE`") from None
