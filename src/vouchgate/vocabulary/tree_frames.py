"""A folder as one stream of bytes: how it is sent to the control plane. Not an archive: nothing but paths and contents, and one way to write them.

`MAGIC`, then each file in the order of its path's bytes: the path's length (32 bits, network order), the path, the size (64 bits), the bytes;
at the end a length of 0, and nothing behind it.

Rules
1. A path is relative, has no empty part, `.` or `..`, no backslash and no NUL, and stands above the one before it: none stands twice.
2. No file lies where another path has a folder.
3. Counts and lengths are bounded before anything is read by them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded

MAGIC = b"vouchgate-tree-1\n"
MAX_TREE_FILES = 10_000
"""Files of one folder that is one artifact, as many as are scanned together."""
MAX_PATH_BYTES = 4_096
"""Bytes of a path inside the folder, as the system allows (PATH_MAX)."""
MAX_DEPTH = 64
"""Parts of a path."""
_LENGTH, _SIZE = struct.Struct("!I"), struct.Struct("!Q")
MAX_FILE_BYTES = 2**62
END = _LENGTH.pack(0)
REMEDY = "send the folder with `vouchgate import`"


def head(path: bytes, size: int) -> bytes:
    """What stands before a file's bytes. Raises `InvalidInput` for a path that cannot be sent."""
    check_path(path)
    return _LENGTH.pack(len(path)) + path + _SIZE.pack(size)


def stream_size(files: Iterable[tuple[bytes, int]]) -> int:
    """Bytes of the whole stream for (path, size)."""
    return len(MAGIC) + len(END) + sum(_LENGTH.size + len(path) + _SIZE.size + size for path, size in files)


def check_path(path: bytes) -> None:
    """Rule 1 for one path. Raises `InvalidInput`."""
    parts = path.split(b"/")
    if len(path) > MAX_PATH_BYTES or len(parts) > MAX_DEPTH:
        raise InvalidInput(f"a path of the folder is over {MAX_PATH_BYTES} bytes or {MAX_DEPTH} parts", remedy="shorten it")
    if b"\0" in path or b"\\" in path or any(part in (b"", b".", b"..") for part in parts):
        raise InvalidInput(f"`{path[:200].decode('utf-8', 'replace')}` is no path inside a folder", remedy="rename the file")


class Paths:
    """Paths as they come, held to rules 1 to 3."""

    def __init__(self) -> None:
        self._last = b""
        self._files: set[bytes] = set()

    def take(self, path: bytes) -> None:
        """The next one. Raises `InvalidInput`, `LimitExceeded`."""
        check_path(path)
        if len(self._files) >= MAX_TREE_FILES:
            raise LimitExceeded(f"the folder has more than {MAX_TREE_FILES} files", remedy="import its parts one by one")
        if path <= self._last:
            raise InvalidInput("the folder's paths are not in order, or one stands twice", remedy=REMEDY)
        parts = path.split(b"/")
        if any(b"/".join(parts[:count]) in self._files for count in range(1, len(parts))):
            raise InvalidInput("a path of the folder is both a file and a folder", remedy=REMEDY)
        self._last = path
        self._files.add(path)


def next_head(read: Callable[[int], bytes], paths: Paths) -> tuple[bytes, int] | None:
    """(path, size) of the next file; None at the end. `read` gives exactly so many bytes or raises. Raises `InvalidInput`, `LimitExceeded`."""
    (length,) = _LENGTH.unpack(read(_LENGTH.size))
    if not length:
        return None
    if length > MAX_PATH_BYTES:
        raise InvalidInput(f"a path of the folder is over {MAX_PATH_BYTES} bytes", remedy="shorten it")
    path = read(length)
    paths.take(path)
    (size,) = _SIZE.unpack(read(_SIZE.size))
    if size > MAX_FILE_BYTES:
        raise InvalidInput("a file of the folder has no size", remedy=REMEDY)
    return path, size
