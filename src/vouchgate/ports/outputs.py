"""Large files that appear whole or not at all.

Rules
1. The bytes go into a new file of a random name in the same folder, made with O_EXCL and O_NOFOLLOW; its mode is what the umask leaves of 0666.
2. `place` makes them durable (fsync of the file), gives them the name (rename), and makes the name durable (fsync of the folder). What had the
   name before stays until then.
3. `discard` removes the new file; nothing with the wanted name is ever touched by it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput

_CHUNK = 4 * 1024 * 1024


class Output:
    """One file that is being written."""

    def __init__(self, path: Path) -> None:
        """Raises `InvalidInput` where the name cannot be a file's."""
        self.path = path
        self._new = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.new")
        try:
            if path.exists() and not path.is_file():
                raise InvalidInput(f"`{path}` is there and is no file", remedy="name a file")
            self.descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InvalidInput(
                f"`{path}` cannot be written: {error.strerror}", remedy="name a file in a folder that you may write"
            ) from None
        self.again = os.open(self._new, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        """The same file for reading."""

    @property
    def size(self) -> int:
        """Bytes written."""
        return os.fstat(self.descriptor).st_size

    def sync(self) -> None:
        """The first half of `place`, which takes long: may be called before it is known whether the file is wanted."""
        os.fsync(self.descriptor)

    def place(self) -> None:
        """Rule 2."""
        os.fsync(self.descriptor)
        self._new.replace(self.path)
        self._close()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Rule 3; also after `place`, when there is nothing left to do."""
        self._close()
        self._new.unlink(missing_ok=True)

    def _close(self) -> None:
        for descriptor in (self.descriptor, self.again):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self.again = -1


def same_file(descriptor: int, path: Path) -> bool:
    """Whether `path` is the file behind `descriptor`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def digest_of(descriptor: int) -> Digest:
    """SHA-256 of a whole file, without moving its place."""
    hashing, here = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK, here):
        hashing.update(chunk)
        here += len(chunk)
    return Digest(value=hashing.hexdigest(), size=here)
