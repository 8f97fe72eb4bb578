"""What is to be rebuilt, opened once: a file, or the files of a folder that matter, with the names of all others.

Rules
1. Every file is opened at most once, below the folder and never through a link. A folder with what is no readable file in it is refused.
2. Its digest is that of the scan: of a folder, the digest of its tree, which counts every file.
3. Nothing of it may have changed by the time its digest is known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from vouchgate.scanning.disarm.folders import wanted
from vouchgate.scanning.verdict import Refuse
from vouchgate.vocabulary.digests import Digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable, VouchgateError

MAX_FILES = 10_000
"""Files of one folder that is one artifact; the scanner's own bound."""


class NothingToRebuild(VouchgateError):
    """Nothing in the folder can be rebuilt."""

    code = "not-rebuilt"
    status = 422
    exit_code = 1


class Entry(Protocol):
    """A file below a path."""

    name: bytes
    trouble: str
    link: bool


class Place(Protocol):
    """A path (ports/artifact_files.py)."""

    is_folder: bool

    def entries(self) -> Iterator[Entry]:
        """Every file below it."""

    def open(self, name: bytes) -> int:
        """A descriptor of one of them. Raises `OSError`, `InvalidInput`."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True)
class Source:
    """An artifact that is open."""

    place: Place
    names: tuple[bytes, ...]
    """Of the descriptors; of a file, one empty name."""
    descriptors: tuple[int, ...]
    others: tuple[bytes, ...]
    before: tuple[os.stat_result, ...]

    @property
    def shown(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of a folder's files, those that are open and the others, as text."""
        if not self.place.is_folder:
            return (), ()
        return tuple(one.decode() for one in self.names), tuple(one.decode() for one in self.others)

    def digest(self, digest_of: Callable[[int], Digest]) -> Digest:
        """Rules 2 and 3. Raises `Unavailable`."""
        found = [self._digest(digest_of, one, was) for one, was in zip(self.descriptors, self.before, strict=True)]
        if not self.place.is_folder:
            return found[0]
        return tree_digest([*zip(self.names, found, strict=True), *((name, self._other(digest_of, name)) for name in self.others)])

    def _other(self, digest_of: Callable[[int], Digest], name: bytes) -> Digest:
        descriptor = _open(self.place, name)
        try:
            return self._digest(digest_of, descriptor, os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _digest(self, digest_of: Callable[[int], Digest], descriptor: int, before: os.stat_result) -> Digest:
        found = digest_of(descriptor)
        _same(before, os.fstat(descriptor), found.size)
        return found

    def unchanged(self) -> None:
        """Rule 3, once all has been read. Raises `Unavailable`."""
        for descriptor, was in zip(self.descriptors, self.before, strict=True):
            _same(was, os.fstat(descriptor), was.st_size)


@contextmanager
def opened(place: Place) -> Iterator[Source]:
    """Rule 1. Raises `InvalidInput`, `NotFound`, `NothingToRebuild`."""
    descriptors: list[int] = []
    try:
        names, others = _chosen(place)
        descriptors.extend(_open(place, name) for name in names)
        yield Source(place, names, tuple(descriptors), others, tuple(map(os.fstat, descriptors)))
    finally:
        for one in descriptors:
            os.close(one)
        place.close()


def _chosen(place: Place) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    if not place.is_folder:
        return (b"",), ()
    found: set[bytes] = set()
    for entry in place.entries():
        if entry.trouble or entry.link:
            why = entry.trouble or "it is a link"
            raise InvalidInput(f"`{_text(entry.name)}` in the folder: {why}", remedy="put the file itself in its place, or take it out")
        if not _is_text(entry.name):
            raise InvalidInput(f"`{_text(entry.name)}` in the folder is not a plain UTF-8 name", remedy="rename it")
        found.add(entry.name)
        if len(found) > MAX_FILES:
            raise InvalidInput(f"the folder has more than {MAX_FILES} files", remedy="name the folder of one model")
    try:
        names = tuple(one.encode() for one in wanted([name.decode() for name in found]))
    except Refuse as refuse:
        raise NothingToRebuild(refuse.reason.why, remedy=refuse.reason.remedy) from None
    return names, tuple(sorted(found.difference(names)))


def _open(place: Place, name: bytes) -> int:
    try:
        return place.open(name)
    except OSError as error:
        raise NotFound(f"`{_text(name)}` cannot be read: {error.strerror}", remedy="name a model that you may read") from None


def _is_text(name: bytes) -> bool:
    try:
        return name.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _text(name: bytes) -> str:
    return name[:200].decode("utf-8", "backslashreplace") or "the artifact"


def _same(before: os.stat_result, after: os.stat_result, size: int) -> None:
    if _facts(before) != _facts(after) or size != after.st_size:
        raise Unavailable("the artifact changed while it was rebuilt", remedy="copy it to a place of your own and rebuild the copy")


def _facts(one: os.stat_result) -> tuple[int, ...]:
    return (one.st_size, one.st_mtime_ns, one.st_ctime_ns)
