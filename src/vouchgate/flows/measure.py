"""Content is measured: every file is read once, hashed as a whole and piece by piece, and held against an older manifest.

1. What cannot be measured raises: links, devices, unreadable files and names that are no UTF-8 have no place in a manifest or a signature.
2. A file is opened once; one that changes while it is read raises.
3. The whole file's digest and its chunks' are computed from the same bytes, beside each other.
4. With stamps believed, a file whose size, times and inode are as the older manifest says is not read again. Off unless asked for: whoever can write
   a file can often write its times as well.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from vouchgate.evidence.merkle import (
    CHUNK_BYTES,
    Change,
    FileEntry,
    Manifest,
    Part,
    Stamp,
    chunk_ranges,
    compare_part,
    find_part,
    is_relative,
)
from vouchgate.evidence.tensor_ranges import header_bytes, tensor_ranges
from vouchgate.flows.walk import Place, os_text, shown, sound
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable

READ_BYTES = 1 << 20
"""Bytes of one read where a chunk is larger."""
WAITING = 4
"""Chunks of one file that may wait for their digest."""
READERS = 4
"""Files that are read at once."""


@dataclass(frozen=True)
class Measuring:
    """How to measure."""

    chunk_bytes: int = CHUNK_BYTES
    tensors: bool = True
    """Part safetensors files into tensors; else every file is one part."""
    stamps: bool = False
    """Write down stamps."""
    believed: Manifest | None = None
    """The manifest whose stamps are believed (rule 4)."""
    without: frozenset[str] = field(default_factory=frozenset)
    """Files left out, by their paths; a folder leaves out all below it."""


def measure(place: Place, how: Measuring = Measuring()) -> Manifest:
    """The manifest of a file or folder. Raises `InvalidInput`, `NotFound`, `Unavailable`."""
    names = _names(place, how.without)
    if not names:
        raise InvalidInput(f"`{place.path}` holds no file", remedy="name a file, or a folder with files")
    old = {file.path: file for file in how.believed.files} if how.believed else {}
    stamps = dict(how.believed.stamps) if how.believed else {}
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(READERS) as hashers:

        def one(name: bytes) -> tuple[FileEntry, Stamp]:
            return _measured(place, name, how, hashers, old.get(name.decode()), stamps.get(name.decode()))

        found = list(readers.map(one, names))
    return Manifest(
        chunk_bytes=how.chunk_bytes,
        files=tuple(file for file, _ in found),
        stamps={file.path: stamp for file, stamp in found} if how.stamps else {},
    )


def _names(place: Place, without: frozenset[str]) -> list[bytes]:
    """Rule 1: every file's name, as UTF-8, in order."""
    names = []
    for entry in sound(place, without, links=False, remedy="take it away, or put a copy of the file in its place"):
        text = os_text(entry.name)
        if place.is_folder and (not text.isprintable() or not is_relative(text)):
            raise InvalidInput(f"`{shown(entry.name, place)}` is not a plain UTF-8 name", remedy="rename it")
        names.append(entry.name)
    return names


def remeasure(place: Place, manifest: Manifest, path: str, part: str | None) -> tuple[Change, ...]:
    """One file, or one tensor of it, is held against the manifest; nothing else is read."""
    file, parts = find_part(manifest, path, part)
    descriptor = _open(place, path.encode())
    try:
        if os.fstat(descriptor).st_size != file.size:
            return (Change(kind="changed", path=path),)
        found: list[Change] = []
        for one in parts:
            chunks = tuple(_streamed(descriptor, begin, end, path) for begin, end in chunk_ranges(one.begin, one.end, manifest.chunk_bytes))
            found += compare_part(path, one, Part(name=one.name, begin=one.begin, end=one.end, chunks=chunks), manifest.chunk_bytes)
        return tuple(found)
    finally:
        os.close(descriptor)


def _measured(
    place: Place, name: bytes, how: Measuring, hashers: ThreadPoolExecutor, old: FileEntry | None, believed: Stamp | None
) -> tuple[FileEntry, Stamp]:
    descriptor = _open(place, name)
    try:
        before = _stamp(os.fstat(descriptor))
        if old is not None and believed is not None and before == believed and old.size == before.size:
            return old, believed
        file = _hashed(descriptor, name.decode(), before.size, how, hashers)
        if _stamp(os.fstat(descriptor)) != before:
            raise Unavailable(f"`{shown(name, place)}` changed while it was read", remedy="measure it when nothing writes it")
        return file, before
    finally:
        os.close(descriptor)


def _hashed(descriptor: int, path: str, size: int, how: Measuring, hashers: ThreadPoolExecutor) -> FileEntry:
    """Rule 3."""
    whole, parts = hashlib.sha256(), []
    for name, begin, end in _parts(descriptor, path, size) if how.tensors else _whole(size):
        chunks: list[str] = []
        waiting: deque[Future[str]] = deque()
        for start, stop in chunk_ranges(begin, end, how.chunk_bytes):
            if stop - start > CHUNK_BYTES:
                chunks += [one.result() for one in waiting]
                waiting.clear()
                chunks.append(_streamed(descriptor, start, stop, path, whole))
                continue
            data = _exactly(descriptor, start, stop, path)
            waiting.append(hashers.submit(_sha256, data))
            whole.update(data)
            while len(waiting) > WAITING:
                chunks.append(waiting.popleft().result())
        chunks += [one.result() for one in waiting]
        parts.append(Part(name=name, begin=begin, end=end, chunks=tuple(chunks)))
    return FileEntry(path=path, size=size, sha256=whole.hexdigest(), parts=tuple(parts))


def _streamed(descriptor: int, begin: int, end: int, path: str, whole: hashlib._Hash | None = None) -> str:
    """The digest of a range of any length, never held in memory."""
    digest = hashlib.sha256()
    for start, stop in chunk_ranges(begin, end, CHUNK_BYTES):
        data = _exactly(descriptor, start, stop, path)
        digest.update(data)
        if whole is not None:
            whole.update(data)
    return digest.hexdigest()


def _parts(descriptor: int, path: str, size: int) -> tuple[tuple[str, int, int], ...]:
    length = header_bytes(os.pread(descriptor, 9, 0), size)
    ranges = tensor_ranges(_exactly(descriptor, 0, length, path), size) if length else ()
    return ranges or _whole(size)


def _whole(size: int) -> tuple[tuple[str, int, int], ...]:
    return (("", 0, size),) if size else ()


def _exactly(descriptor: int, begin: int, end: int, path: str) -> bytes:
    pieces, here = [], begin
    while here < end:
        piece = os.pread(descriptor, min(end - here, READ_BYTES), here)
        if not piece:
            raise Unavailable(f"`{path[:200]}` became shorter while it was read", remedy="measure it when nothing writes it")
        pieces.append(piece)
        here += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _open(place: Place, name: bytes) -> int:
    try:
        return place.open(name)
    except OSError as error:
        raise NotFound(f"`{shown(name, place)}` cannot be read: {error.strerror}", remedy="make it readable") from None


def _stamp(facts: os.stat_result) -> Stamp:
    return Stamp(size=facts.st_size, mtime_ns=facts.st_mtime_ns, ctime_ns=facts.st_ctime_ns, inode=facts.st_ino, device=facts.st_dev)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
