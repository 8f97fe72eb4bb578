"""What lies below a path that somebody named, in one order: everybody who scans, measures, signs or sends a folder walks it here.

Rules
1. Files come in the order of their names' bytes, whatever order the disk or a store lists them in.
2. What is no readable file comes too, with its trouble: who walks decides whether to tell it (a scan) or to end (`sound`).
3. A folder that is left out leaves out all below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from vouchgate.vocabulary.errors import InvalidInput

SHOWN_CHARACTERS = 200
"""Of a name in a message."""


class Found(Protocol):
    """What lies below a path (ports/artifact_files.py)."""

    @property
    def name(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def trouble(self) -> str: ...
    @property
    def link(self) -> bool: ...


class Place(Protocol):
    """One path that somebody named (ports/artifact_files.py)."""

    path: str
    is_folder: bool

    def entries(self) -> Iterable[Found]: ...
    def open(self, name: bytes) -> int: ...
    def missing(self, name: bytes) -> int: ...


def walk(place: Place, without: frozenset[str] = frozenset()) -> list[Found]:
    """Rules 1 and 3; the path itself where it is a file. Raises what listing raises."""
    found = (entry for entry in place.entries() if not left_out(os_text(entry.name), without))
    return sorted(found, key=lambda entry: entry.name)


def sound(place: Place, without: frozenset[str] = frozenset(), *, links: bool, remedy: str) -> Iterator[Found]:
    """Only files that can be read; `links` says whether a link to a file inside is one. Raises `InvalidInput` for anything else."""
    for entry in walk(place, without):
        why = entry.trouble or ("" if links or not entry.link else "it is a link")
        if why:
            raise InvalidInput(f"`{shown(entry.name, place)}` cannot be taken: {why}", remedy=remedy)
        yield entry


def left_out(path: str, without: frozenset[str]) -> bool:
    """Whether a path or a folder above it was left out."""
    steps = path.split("/")
    return bool(without) and any("/".join(steps[: count + 1]) in without for count in range(len(steps)))


def os_text(name: bytes) -> str:
    """A name as text; bytes that are none stand as escaped surrogates."""
    return name.decode("utf-8", "surrogateescape")


def shown(name: bytes, place: Place) -> str:
    """A name in a message; the place's own where it is the path itself."""
    return (os_text(name)[:SHOWN_CHARACTERS] or place.path).encode("utf-8", "backslashreplace").decode()
