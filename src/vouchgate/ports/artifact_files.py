"""Finds the files of a path to scan, and opens each at most once, without ever leaving the folder that was named.

Rules
1. The path itself is what the user named: a link there is followed. Below it nothing is: every file is opened beneath the folder's own
   descriptor (openat2(2), RESOLVE_BENEATH), so neither a link nor a rename on the way leads out of it.
2. A link to a file inside the folder is that file under another name. Links to folders, links that lead out or nowhere, devices, pipes,
   sockets and what cannot be read are found as what they are, and told; they are never opened for reading.
3. Where the kernel has no openat2, no link is followed at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from vouchgate.vocabulary.errors import InvalidInput, NotFound

MAX_ENTRIES = 1_000_000
"""Files and folders below one path; each takes about 300 bytes here."""
_OPENAT2 = 437
"""The call's number, the same on every architecture."""
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class Entry(Struct, frozen=True):
    """Something below a path."""

    name: bytes
    """Relative path, with `/`; empty for the path itself."""
    size: int = 0
    trouble: str = ""
    """Why it is no file that can be read; empty for one that can."""
    link: bool = False
    """It is a link to a file inside the folder."""


class Place:
    """One path that the user named: a file, or a folder and all that lies in it."""

    def __init__(self, path: str) -> None:
        """Raises `NotFound`, `InvalidInput`."""
        self.path = path
        if not path or "\0" in path:
            raise InvalidInput("a path is empty or holds a NUL", remedy="name a file or a folder")
        try:
            facts = Path(path).stat()
            self.is_folder = stat.S_ISDIR(facts.st_mode)
            self._size = facts.st_size
            self._trouble = "" if self.is_folder or stat.S_ISREG(facts.st_mode) else "it is not a regular file"
            self._root = os.open(path, _READ | os.O_DIRECTORY) if self.is_folder else -1
        except OSError as error:
            raise NotFound(f"`{path}` cannot be read: {error.strerror}", remedy="name a file or a folder that you may read") from None

    def entries(self) -> Iterator[Entry]:
        """Everything below it, folders left out; the path itself for a file. Raises `InvalidInput` over `MAX_ENTRIES`."""
        if not self.is_folder:
            yield Entry(b"", self._size, self._trouble)
            return
        waiting, seen = [b""], 0
        while waiting:
            folder = waiting.pop()
            for entry in self._list(folder, waiting):
                seen += 1
                if seen + len(waiting) > MAX_ENTRIES:
                    raise InvalidInput(f"`{self.path}` holds more than {MAX_ENTRIES} entries", remedy="scan its folders one by one")
                yield entry

    def open(self, name: bytes) -> int:
        """A fresh descriptor on one file of it. Raises `OSError`, `InvalidInput` for what is no regular file any more."""
        descriptor = os.open(self.path, _READ) if not name else _beneath(self._root, name, _READ)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidInput("it is not a regular file", remedy="name a file")
        return descriptor

    def missing(self, name: bytes) -> int:
        """Bytes that what was opened lacks: none, of a file that is here."""
        del name
        return 0

    def close(self) -> None:
        """Let go of the folder."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _list(self, folder: bytes, waiting: list[bytes]) -> list[Entry]:
        """The files of one folder; its folders go to `waiting`."""
        try:
            descriptor = _beneath(self._root, folder or b".", _READ | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            return [Entry(folder, 0, f"the folder cannot be read ({error.strerror})")]
        found = []
        try:
            with os.scandir(descriptor) as listing:
                for one in listing:
                    name = (folder + b"/" if folder else b"") + os.fsencode(one.name)
                    if one.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    else:
                        found.append(self._entry(name, one))
        except OSError as error:
            found.append(Entry(folder, 0, f"the folder cannot be read to its end ({error.strerror})"))
        finally:
            os.close(descriptor)
        return found

    def _entry(self, name: bytes, one: os.DirEntry[str]) -> Entry:
        try:
            if one.is_symlink():
                return self._link(name)
            facts = one.stat(follow_symlinks=False)
        except OSError as error:
            return Entry(name, 0, f"it cannot be looked at ({error.strerror})")
        return Entry(name, facts.st_size) if stat.S_ISREG(facts.st_mode) else Entry(name, 0, f"it is {_kind(facts.st_mode)}, not a file")

    def _link(self, name: bytes) -> Entry:
        """Rule 2: what it leads to is looked at without opening it for reading."""
        try:
            target = _beneath(self._root, name, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            out = error.errno in (errno.EXDEV, errno.ELOOP, errno.ENOSYS)
            return Entry(name, 0, f"it is a link {'that is not followed' if out else 'to nothing'} ({error.strerror})")
        try:
            facts = os.fstat(target)
        finally:
            os.close(target)
        if not stat.S_ISREG(facts.st_mode):
            return Entry(name, 0, f"it is a link to {_kind(facts.st_mode)}")
        return Entry(name, facts.st_size, link=True)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def _beneath(root: int, name: bytes, flags: int) -> int:
    """Rule 1. Raises `OSError`."""
    how = _How(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    descriptor = int(_libc.syscall(_OPENAT2, root, ctypes.c_char_p(name), ctypes.byref(how), ctypes.sizeof(how)))
    if descriptor >= 0:
        return descriptor
    error = ctypes.get_errno()
    if error == errno.ENOSYS:
        return _step_by_step(root, name, flags)
    raise OSError(error, os.strerror(error))


def _step_by_step(root: int, name: bytes, flags: int) -> int:
    """Rule 3."""
    here = os.dup(root)
    try:
        *folders, last = name.split(b"/")
        for folder in folders:
            below = os.open(folder, _READ | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(last, flags & ~os.O_PATH | os.O_NOFOLLOW | _READ, dir_fd=here)
    finally:
        os.close(here)
