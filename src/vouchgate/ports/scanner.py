"""Has artifacts read by the warm scanner process, and reads its reports without trusting them further than that.

Rules
1. The process gets one socket, an empty environment, `/` as its folder, and where the caller is root a uid of its own. It is started with
   the first artifact, again when it has ended, and ends with this object.
2. An artifact goes to a child of that process as open descriptors; this process never maps or reads a byte of it.
3. A crash, a signal, a timeout, a report over the bound, or one that is not a report, is `incomplete`; never clean, never an exception.
4. A mapped file that somebody wrote to meanwhile is incomplete: what was hashed may not be what was read. (What is small is copied by the
   child before it is looked at.) Whoever must not rest on file times scans a copy of its own, as an import does.
5. A child that has not answered within the timeout is killed: closing its socket does it.
6. Where a verdict may be known already, the child hashes first and is told whether to go on (ports/scan_cache.py keeps them). What is known
   counts as what is found does: under rule 4, and only if the child ended well.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import MappingProxyType, TracebackType
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vouchgate.ports.scan_cache import Ground, ScanCache, renamed
from vouchgate.scanning.jobs import (
    ASKS,
    BATCH,
    ENDED,
    KNOWN,
    MAX_FILES,
    MAX_QUESTION_BYTES,
    MAX_REPORT_BYTES,
    SNAPSHOT_BYTES,
    UNKNOWN,
    Batch,
    Job,
    Question,
)
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.settings import DEFAULTS, ScanSettings, settings_digest
from vouchgate.scanning.verdict import ScanReport, Verdict, unfinished
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError
from vouchgate.vocabulary.wire import decode, encode

DEFAULT_TIMEOUT_SECONDS = 900.0
"""The child's own bound is 600 s of CPU; this also ends one that sleeps."""
START_TRIES = 2
"""A process that ended since the last artifact is started again, once."""
COMMAND = (sys.executable, "-I", "-m", "vouchgate.edges.processes.scanner")
SHOWN_CHARACTERS = 200
_READ = 65_536
_TRAILER = len(ENDED) + 4

Allowed = Mapping[str, tuple[Entry, ...]]
"""Names that somebody answers for, by the text of a digest; verified by the caller."""
NOBODY: Allowed = MappingProxyType({})
Opener = Callable[[], int]
"""A fresh read-only descriptor, which the caller closes. Raises `VouchgateError` or `OSError`."""


class FolderFile(Struct, frozen=True):
    """One file of a folder: its path inside, with `/`, as the bytes that the filesystem has."""

    name: bytes
    open: Opener


class Scanner:
    """One warm process. Safe to share between threads: each call waits for a child of its own."""

    def __init__(
        self,
        *,
        uid: int | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        command: Sequence[str] = COMMAND,
        cache: ScanCache | None = None,
        explain: bool = False,
    ) -> None:
        self._uid, self._timeout, self._command, self._cache, self._explain = uid, timeout, tuple(command), cache, explain
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Scanner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait for it; children end with it."""
        with self._lock:
            self._end()

    def scan_file(
        self, fd: int, *, name: str = "", settings: ScanSettings = DEFAULTS, deep: bool = True, allowed: Allowed = NOBODY
    ) -> ScanReport:
        """Read the regular file behind `fd`. Blocks."""
        return self._scan(self._job(name, settings, deep, allowed), [FolderFile(b"", lambda: os.dup(fd))])

    def scan_folder(
        self,
        files: Sequence[FolderFile],
        *,
        name: str = "",
        settings: ScanSettings = DEFAULTS,
        deep: bool = True,
        allowed: Allowed = NOBODY,
    ) -> ScanReport:
        """Read the files of a folder as one artifact; they are opened now, in batches. Blocks."""
        if len(files) > MAX_FILES:
            why = f"the folder is one artifact of {len(files)} files, more than {MAX_FILES}"
            return _incomplete(name, 0, why, "split it, or scan its folders one by one")
        return self._scan(replace(self._job(name, settings, deep, allowed), folder=True), files)

    def _job(self, name: str, settings: ScanSettings, deep: bool, allowed: Allowed) -> Job:
        return Job(
            name=_shown(name),
            deep=deep,
            settings=settings,
            allowed=dict(allowed),
            explain=self._explain,
            asks=deep and self._cache is not None,
        )

    def _scan(self, job: Job, files: Sequence[FolderFile]) -> ScanReport:
        opened = _Opened(files)
        try:
            report, ground = self._ask(job, opened)
            if opened.changed():
                return _incomplete(job.name, opened.size, "it was written to while it was read", "scan it again when it is complete")
            if self._cache is not None and ground is not None:
                self._cache.keep(ground, report)
            return report
        except (VouchgateError, OSError) as error:
            why, remedy = (
                (error.reason, error.remedy) if isinstance(error, VouchgateError) else (_unreadable(error), "check its permissions")
            )
            return _incomplete(job.name, opened.size, why, remedy)
        finally:
            opened.close()

    def _ask(self, job: Job, opened: _Opened) -> tuple[ScanReport, Ground | None]:
        """One job, from a new socket to the checked report; with what it is to be kept under, where it is new."""
        end = time.monotonic() + self._timeout
        asked = _Looked()
        try:
            ours = self._begin()
        except OSError as error:
            return _incomplete(job.name, opened.size, f"the scanner did not start: {error.strerror}"), None
        with ours:
            with suppress(TimeoutError, BrokenPipeError, ConnectionResetError):  # what the child said, or that it said nothing, tells why
                _say(ours, job, opened.batches(), end)
                if job.asks and self._cache is not None:
                    asked = _look_up(ours, job, opened.size, self._cache, end + opened.seconds)
            output, why = _read(ours, end + opened.seconds, asked.said)
        if why:
            return _incomplete(job.name, opened.size, why), None
        if asked.known is not None and not output:
            return renamed(asked.known, job.name), None
        return _checked(output, job, opened.size, own_uid=self._uid is not None), None if asked.known else asked.ground

    def _begin(self) -> socket.socket:
        """A job's socket, whose other end a new child has. Raises `OSError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, self._lock:
            for left in reversed(range(START_TRIES)):
                try:
                    socket.send_fds(self._running(), [b"job"], [theirs.fileno()])
                    return ours
                except OSError:
                    self._end()
                    if not left:
                        ours.close()
                        raise
        raise AssertionError("the loop returns or raises")

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                (*self._command, "--control", str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                close_fds=True,
                env={},
                cwd="/",
                start_new_session=True,
                user=self._uid,
                group=self._uid,
                extra_groups=None if self._uid is None else [],
                umask=0o077,
            )
        self._control = ours
        return ours

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


class _Opened:
    """An artifact's files, opened a batch at a time; `size` is what they have so far."""

    def __init__(self, files: Sequence[FolderFile]) -> None:
        self._files, self.size, self.seconds = files, 0, 0.0
        """`seconds` that opening took: an address is fetched then, and that is no part of a scan's time."""
        self._open: list[int] = []
        self._watched: list[tuple[int, tuple[int, ...]]] = []
        """Descriptors of what the child maps, and what fstat(2) said before it did (rule 4)."""

    def batches(self) -> Iterator[tuple[list[bytes], list[int]]]:
        """Names and descriptors. Raises `InvalidInput` for what is not a regular file, and what opening raises."""
        left = iter(self._files)
        while batch := list(islice(left, BATCH)):
            begin = time.monotonic()
            for file in batch:
                self._take(file.open())
            self.seconds += time.monotonic() - begin
            yield [file.name for file in batch], self._open
            self._close_batch()

    def _take(self, descriptor: int) -> None:
        self._open.append(descriptor)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidInput("it is not a regular file", remedy="name a file")
        self.size += facts.st_size
        if facts.st_size > SNAPSHOT_BYTES:
            self._watched.append((os.dup(descriptor), _facts(facts)))

    def changed(self) -> bool:
        """Whether a mapped file was written to since it was opened."""
        return any(_facts(os.fstat(descriptor)) != facts for descriptor, facts in self._watched)

    def _close_batch(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def close(self) -> None:
        """Close what is open."""
        self._close_batch()
        while self._watched:
            os.close(self._watched.pop()[0])


def _facts(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _unreadable(error: OSError) -> str:
    return f"it cannot be read ({error.strerror})"


def _say(ours: socket.socket, job: Job, batches: Iterable[tuple[list[bytes], list[int]]], end: float) -> None:
    ours.settimeout(max(0.0, end - time.monotonic()) or 0.001)
    _send(ours, encode(job))
    for names, descriptors in batches:
        socket.send_fds(ours, [b"b"], descriptors)
        _send(ours, encode(Batch(names=tuple(names))))
    ours.sendall(b"e")
    _send(ours, encode(Batch()))


def _send(ours: socket.socket, document: bytes) -> None:
    ours.sendall(struct.pack("!I", len(document)) + document)


def _read(ours: socket.socket, end: float, begun: bytes = b"") -> tuple[bytes, str]:
    """The report behind which its process ended well, or why there is none."""
    parts = bytearray(begun)
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return b"", "the scan did not end in time"
        ours.settimeout(left)
        try:
            part = ours.recv(_READ)
        except TimeoutError:
            return b"", "the scan did not end in time"
        except OSError:
            part = b""
        if not part:
            return _whole(parts)
        parts += part
        if len(parts) > MAX_REPORT_BYTES + _TRAILER:
            return b"", f"the scanner's report is over {MAX_REPORT_BYTES} bytes"


def _whole(parts: bytearray) -> tuple[bytes, str]:
    report, trailer = bytes(parts[:-_TRAILER]), bytes(parts[-_TRAILER:])
    if len(trailer) < _TRAILER or not trailer.startswith(ENDED):
        return b"", "the scanner process ended"
    (status,) = struct.unpack("!i", trailer[len(ENDED) :])
    if status:
        return b"", f"the scanner was ended by signal {-status}" if status < 0 else f"the scanner ended with status {status}"
    return report, ""


class _Looked(NamedTuple):
    """What came of a child's question."""

    said: bytes = b""
    """What it said instead of asking: the begin of its report."""
    ground: Ground | None = None
    known: ScanReport | None = None


def _look_up(ours: socket.socket, job: Job, size: int, cache: ScanCache, end: float) -> _Looked:
    """Rule 6. A child that asks about anything but what it was given is told that nothing is known, and nothing of it is kept."""
    said = _exactly(ours, len(ASKS), end)
    if said != ASKS:
        return _Looked(said)
    (length,) = struct.unpack("!I", _exactly(ours, 4, end).ljust(4, b"\xff"))
    if length > MAX_QUESTION_BYTES:
        return _Looked(said)
    try:
        question = decode(Question, _exactly(ours, length, end), what="scanner's question")
    except InvalidInput:
        return _Looked(said)
    own = (question.digest.kind, question.digest.size, question.settings) == (
        "tree" if job.folder else "file",
        size,
        settings_digest(job.settings),
    )
    ground = cache.ground(job, question) if own else None
    known = cache.find(ground) if ground is not None else None
    ours.sendall(UNKNOWN if known is None else KNOWN)
    return _Looked(ground=ground, known=known)


def _exactly(ours: socket.socket, count: int, end: float) -> bytes:
    """So many bytes; fewer where the other side ended. Raises `TimeoutError`."""
    parts = bytearray()
    while len(parts) < count:
        ours.settimeout(max(0.001, end - time.monotonic()))
        part = ours.recv(count - len(parts))
        if not part:
            break
        parts += part
    return bytes(parts)


def _checked(output: bytes, job: Job, size: int, *, own_uid: bool) -> ScanReport:
    try:
        report = decode(ScanReport, output, what="scanner's report")
    except InvalidInput as error:
        return _incomplete(job.name, size, error.reason)
    if _contradicts(report.verdict, report.digest, job, size):
        return _incomplete(job.name, size, "the scanner's report contradicts itself")
    return replace(report, confinement=(*report.confinement, "own-uid")) if own_uid else report


def _contradicts(verdict: Verdict, digest: Digest, job: Job, size: int) -> bool:
    if verdict.outcome != "clean":
        return False
    kind = "tree" if job.folder else "file"
    sizes = {verdict.covered, verdict.size, digest.size, size}
    return len(sizes) != 1 or bool(verdict.reasons) or not job.deep or digest.kind != kind


def _shown(name: str) -> str:
    """The display name as plain text: it may come from anyone, and hold anything."""
    return "".join(character if character.isprintable() else "?" for character in name[:SHOWN_CHARACTERS])


def _incomplete(
    name: str, size: int, why: str, remedy: str = "scan it again; if it happens again, export it anew and report its format"
) -> ScanReport:
    return ScanReport(verdict=unfinished(_shown(name), size, why, remedy), digest=Digest(value="0" * 64, size=size))
