"""One artifact, read in a process that has nothing but its bytes.

Steps
1. Take the job and the descriptors from the socket; copy what is small, map what is large. What is hashed and what is scanned is one and
   the same memory.
2. Drop every power (confine.py) before the first byte of the artifact is looked at.
3. Hash beside the scan, in a thread that was there before threads could no longer be made; before it, where names are allowed for a digest
   (they count only for that), and where the asker may know the verdict. Pages that were hashed are given back, so that a large file is never
   in memory as a whole.
4. One `ScanReport` on the socket, or nothing: whoever reads treats silence, a signal and nonsense as incomplete.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import socket
import stat
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from msgspec.structs import replace

from vouchgate.edges.processes import confine
from vouchgate.scanning.asked import Asked
from vouchgate.scanning.jobs import ASKS, BATCH, KNOWN, MAX_FILES, MAX_REPORT_BYTES, SNAPSHOT_BYTES, Batch, Job, Question
from vouchgate.scanning.knowledge.entries import Knowledge
from vouchgate.scanning.knowledge.overlay import Overlay
from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.scan import scan, scan_folder
from vouchgate.scanning.settings import settings_digest
from vouchgate.scanning.verdict import SCANNER_VERSION, ScanReport, unfinished
from vouchgate.vocabulary.digests import Digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError
from vouchgate.vocabulary.wire import decode, encode

CHUNK_BYTES = 32 * 1024 * 1024
"""Bytes hashed at a time: the thread asks for the interpreter once a chunk, and so much of a file is in memory for it."""
ALONE_BYTES = 4 * 1024 * 1024
"""Up to so many bytes are hashed before the scan: a thread would cost more."""
SWITCH_SECONDS = 0.0005
"""The hashing thread waits so long for the interpreter at most."""
STACK_BYTES = 256 * 1024
"""Of the hashing thread."""
MAX_WORDS_BYTES = 4 * 1024 * 1024
"""Bytes of one message of the asker: the names of a batch."""
KEPT_MEMBERS = 100
"""Members told where the whole report would be over its bound."""
_FAILED = 3


@dataclass(frozen=True)
class _File:
    """One file's bytes, and the mapping of a mapped one."""

    name: bytes
    view: memoryview
    mapped: mmap.mmap | None = None


def run(job_socket: socket.socket, *, parent: int, no_network: bool) -> NoReturn:
    """Steps 1 to 4 in a fresh child of `parent`; ends the process."""
    status = _FAILED
    try:
        confine.die_with_parent()
        if os.getppid() == parent:
            _write(job_socket.fileno(), _report(job_socket, no_network=no_network))
            status = 0
    finally:
        os._exit(status)


def _write(descriptor: int, report: bytes) -> None:
    """By write(2): send(2) is not among the calls that are left."""
    left = memoryview(report)
    while left:
        left = left[os.write(descriptor, left) :]


def _report(job_socket: socket.socket, *, no_network: bool) -> bytes:
    words = _Words(job_socket)
    job = decode(Job, words.read(), what="scan job")
    try:
        files = _files(words)
        if len(files) != 1 and not job.folder:
            raise InvalidInput("a job that is no folder has one file", remedy="scan it again")
        report = _read(job, files, ("no-network",) if no_network else (), job_socket.fileno())
        return b"" if report is None else _bounded(report)
    except VouchgateError as error:
        return encode(_unread(job.name, error.reason, error.remedy))


class _Words:
    """What the asker says."""

    def __init__(self, job_socket: socket.socket) -> None:
        self._socket = job_socket

    def descriptors(self) -> list[int]:
        """Those that come with the one byte in front of a batch."""
        said, found, _, _ = socket.recv_fds(self._socket, 1, BATCH)
        if not said:
            raise InvalidInput("the asker is gone", remedy="scan it again")
        return list(found)

    def read(self) -> bytes:
        """One document behind its length."""
        (length,) = struct.unpack("!I", self._exactly(4))
        if length > MAX_WORDS_BYTES:
            raise InvalidInput("a message is over its bound", remedy="scan it again")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise InvalidInput("the asker is gone", remedy="scan it again")
            parts += part
        return bytes(parts)


def _files(words: _Words) -> list[_File]:
    """Step 1."""
    files: list[_File] = []
    while True:
        descriptors = words.descriptors()
        names = decode(Batch, words.read(), what="batch of files").names
        if len(names) != len(descriptors) or len(files) + len(names) > MAX_FILES:
            raise InvalidInput("a batch does not name its files", remedy="scan it again")
        if not names:
            return files
        files += [_file(name, descriptor) for name, descriptor in zip(names, descriptors, strict=True)]


def _file(name: bytes, descriptor: int) -> _File:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidInput("it is not a regular file", remedy="name a file")
    if facts.st_size > SNAPSHOT_BYTES:
        mapped = mmap.mmap(descriptor, facts.st_size, prot=mmap.PROT_READ)
        os.close(descriptor)
        return _File(name, memoryview(mapped), mapped)
    content = bytearray()
    while part := os.pread(descriptor, SNAPSHOT_BYTES + 1 - len(content), len(content)):
        content += part
        if len(content) > SNAPSHOT_BYTES:
            raise InvalidInput("it grew while it was read", remedy="scan it when it is complete")
    os.close(descriptor)
    return _File(name, memoryview(bytes(content)))


def _read(job: Job, files: Sequence[_File], held: tuple[str, ...], asker: int) -> ScanReport | None:
    """Steps 2 and 3; None where the asker knows the verdict."""
    hashing = _Hashing(files, hashed=job.deep)
    sys.setswitchinterval(SWITCH_SECONDS)
    confine.limit(sum(file.mapped is not None and len(file.view) for file in files))
    confine.forbid_calls()
    hashing.begin()
    knowledge = Asked(_knowledge(job, files, hashing))
    if job.asks and job.deep and _known(job, _digest(job, files, hashing.end()), knowledge, asker):
        return None
    if job.folder:
        views = {os.fsdecode(file.name): file.view for file in files}
        verdict = scan_folder(views, job.name, job.settings, knowledge=knowledge, deep=job.deep)
    else:
        verdict = scan(files[0].view, job.name, job.settings, knowledge=knowledge, deep=job.deep)
    digests = hashing.end()
    size = sum(digest.size for digest in digests)
    digest = _digest(job, files, digests) if job.deep else Digest(value="0" * 64, size=size)
    names = knowledge.names if job.explain else ()
    return ScanReport(verdict=verdict, digest=digest, confinement=(*held, "seccomp"), names=names)


def _known(job: Job, digest: Digest, knowledge: Knowledge, asker: int) -> bool:
    """Ask; an asker that is gone knows nothing, and hears nothing either."""
    question = encode(Question(digest=digest, scanner=SCANNER_VERSION, knowledge=knowledge.digest, settings=settings_digest(job.settings)))
    _write(asker, ASKS + struct.pack("!I", len(question)) + question)
    return os.read(asker, 1) == KNOWN


def _digest(job: Job, files: Sequence[_File], digests: Sequence[Digest]) -> Digest:
    return tree_digest(zip((file.name for file in files), digests, strict=True)) if job.folder else digests[0]


def _knowledge(job: Job, files: Sequence[_File], hashing: _Hashing) -> Knowledge:
    """What ships, and over it what is allowed for exactly this content."""
    if not job.allowed or not job.deep:
        return shipped()
    own = job.allowed.get(_digest(job, files, hashing.end()).text)
    return Overlay(shipped(), own) if own else shipped()


class _Hashing:
    """Step 3. Made before the powers are dropped, begun after."""

    def __init__(self, files: Sequence[_File], *, hashed: bool) -> None:
        self._files, self._hashed = files, hashed
        self._digests: list[Digest] = []
        self._begin = threading.Event()
        self._thread: threading.Thread | None = None
        if hashed and sum(len(file.view) for file in files) > ALONE_BYTES:
            threading.stack_size(STACK_BYTES)
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def begin(self) -> None:
        """Look at the first byte."""
        if self._thread is None:
            self._hash()
        self._begin.set()

    def end(self) -> list[Digest]:
        """The files' digests, in their order; of a structure scan the sizes alone."""
        if self._thread is not None:
            self._thread.join()
        if len(self._digests) != len(self._files):
            raise InvalidInput("the artifact could not be hashed", remedy="scan it again")
        return self._digests

    def _work(self) -> None:
        self._begin.wait()
        self._hash()

    def _hash(self) -> None:
        for file in self._files:
            value = _hashed(file) if self._hashed else "0" * 64
            self._digests.append(Digest(value=value, size=len(file.view)))


def _hashed(file: _File) -> str:
    digest, size = hashlib.sha256(), len(file.view)
    for begin in range(0, size, CHUNK_BYTES):
        digest.update(file.view[begin : begin + CHUNK_BYTES])
        if file.mapped is not None:
            file.mapped.madvise(mmap.MADV_DONTNEED, begin, min(CHUNK_BYTES, size - begin))
    return digest.hexdigest()


def _bounded(report: ScanReport) -> bytes:
    """The report as it is sent; with fewer members, then without facts, where it would be too long or cannot be written."""
    verdict = report.verdict
    fewer = replace(verdict, members=dict(list(verdict.members.items())[:KEPT_MEMBERS]))
    for one in (verdict, fewer, replace(fewer, facts={}, members={})):
        try:
            written = encode(replace(report, verdict=one))
        except (TypeError, ValueError):
            continue
        if len(written) <= MAX_REPORT_BYTES:
            return written
    return encode(
        _unread(verdict.name, "the report about it cannot be written", "report the file's format and producer", size=verdict.size)
    )


def _unread(name: str, why: str, remedy: str, *, size: int = 0) -> ScanReport:
    verdict = unfinished(name, size, why, remedy)
    return ScanReport(verdict=verdict, digest=Digest(value="0" * 64, size=size))
