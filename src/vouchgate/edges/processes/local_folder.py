"""A folder of this machine as the stream that `vouchgate import` sends (vocabulary/tree_frames.py).

Rules
1. Everything is found and opened once before a byte is sent; what is no readable file in it, or leads out of it, ends the import.
2. A file has the size that was told of it: one that grew or shrank meanwhile breaks the stream off, and nothing is taken in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from vouchgate import wiring
from vouchgate.flows.walk import sound
from vouchgate.scanning.scan import folder_format
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.tree_frames import END, MAGIC, MAX_TREE_FILES, head, stream_size

READ_BYTES = 1024 * 1024


class FolderStream:
    """Read once from beginning to end, as a file is."""

    def __init__(self, place: Any, files: list[tuple[bytes, int]]) -> None:
        self.count, self.size = len(files), stream_size(files)
        self._parts = self._all(place, files)
        self._left = b""

    def read(self, count: int = -1) -> bytes:
        """At most `count` bytes; nothing at the end. Raises `InvalidInput` for a file that changed, and what opening raises."""
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._left = part
        given = self._left if count < 0 else self._left[:count]
        self._left = self._left[len(given) :]
        return given

    def _all(self, place: Any, files: list[tuple[bytes, int]]) -> Iterator[bytes]:
        yield MAGIC
        for name, size in files:
            yield head(name, size)
            yield from _content(_open(place, name), name, size)
        yield END


def _open(place: Any, name: bytes) -> int:
    try:
        return int(place.open(name))
    except OSError as error:
        why = f"`{name[:200].decode('utf-8', 'replace')}` cannot be read any more ({error.strerror})"
        raise InvalidInput(why, remedy="import the folder when it is complete") from None


def _content(descriptor: int, name: bytes, size: int) -> Iterator[bytes]:
    """Rule 2."""
    try:
        left = size
        while left and (part := os.read(descriptor, min(READ_BYTES, left))):
            left -= len(part)
            yield part
        if left or os.read(descriptor, 1):
            raise InvalidInput(
                f"`{name[:200].decode('utf-8', 'replace')}` was written to while it was sent", remedy="import it when it is complete"
            )
    finally:
        os.close(descriptor)


@contextmanager
def folder(path: str) -> Iterator[FolderStream]:
    """The folder at `path`. Raises `NotFound`, `InvalidInput`, `LimitExceeded`."""
    with closing(wiring.scan_place(path)) as place:
        yield FolderStream(place, _found(place))


def _found(place: Any) -> list[tuple[bytes, int]]:
    files: list[tuple[bytes, int]] = []
    for entry in sound(place, links=True, remedy="replace it by the file itself, or take it out"):
        files.append((entry.name, entry.size))
        if len(files) > MAX_TREE_FILES:
            raise LimitExceeded(f"the folder has more than {MAX_TREE_FILES} files", remedy="import its parts one by one")
    if folder_format(frozenset(os.fsdecode(name) for name, _ in files))[0] is None:
        raise InvalidInput("the folder is no single model in a format that is known", remedy="import its files one by one")
    return files
