"""The folder that the signer keeps its things in, and the rules of each file in it.

Rules
1. A folder is 0700 (the signer's own 0711 at most) and each file in it 0600, regular, with one link, owned by this process's uid; anything
   wider is refused, never silently corrected, because a key that others could read must be replaced.
2. A file is written whole beside the old one and renamed over it (O_EXCL, fsync, fsync of the folder): a crash leaves the old or the new.
3. Nothing follows a symbolic link, and no pipe or device holds us up.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, StoreDamaged, Unavailable

MAX_FILE_BYTES = 65_536
"""Bytes of a key or of the state."""
RESTORE = "restore the signer's folder from its backup; new keys need a new TrustRoot"


class Folder:
    """One folder with its files by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, mode: int = 0o700) -> None:
        """Make it, or hold the one that is there to rule 1. Raises `NotPermitted`."""
        self.path.mkdir(mode=mode, parents=True, exist_ok=True)
        _hold(self.path.lstat(), self.path, mode, folder=True)

    def has(self, name: str) -> bool:
        """Whether there is anything of that name."""
        return os.path.lexists(self.path / name)

    def names(self) -> list[str]:
        """What is there, in order."""
        return sorted(path.name for path in self.path.iterdir())

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises `StoreDamaged` and `NotPermitted`."""
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StoreDamaged(f"`{name}` cannot be opened: {error.strerror}", remedy=RESTORE) from None
        try:
            _hold(os.fstat(descriptor), path, 0o600, folder=False)
            data = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > MAX_FILE_BYTES:
            raise StoreDamaged(f"`{name}` is over the bound of {MAX_FILE_BYTES} bytes", remedy=RESTORE)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put a whole file in the place of the old one. Raises `Unavailable` where the disk does not take it; the old one stays."""
        path, new = self.path / name, self.path / f".{name}.new"
        try:
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), 0o600)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(path)
            self.sync()
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise Unavailable(
                f"`{name}` cannot be written: {error.strerror}", remedy="make room on the disk of the data directory"
            ) from None

    def erase(self, name: str) -> None:
        """Overwrite a file with zeros and remove it. A copy-on-write or flash disk may keep the old blocks."""
        path = self.path / name
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                facts = os.fstat(descriptor)
                if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                    os.pwrite(descriptor, bytes(min(facts.st_size, MAX_FILE_BYTES)), 0)
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            path.unlink()
            self.sync()

    def sync(self) -> None:
        """Make the folder's names durable."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def checked_name(name: str) -> str:
    """The name of a key, which becomes a file's. Raises `InvalidInput`."""
    if not 0 < len(name) <= 64 or not name.isascii() or not name.replace("-", "").isalnum() or name != name.lower():
        raise InvalidInput(f"`{name[:40]}` is not the name of a key", remedy="use lower-case letters, digits and hyphens")
    return name


def _hold(facts: os.stat_result, path: Path, mode: int, *, folder: bool) -> None:
    right_kind = stat.S_ISDIR(facts.st_mode) if folder else stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1
    if not right_kind or facts.st_uid != os.geteuid():
        raise NotPermitted(
            f"`{path.name}` is not the signer's own {'folder' if folder else 'file'}", remedy=f"chown it to uid {os.geteuid()}"
        )
    if stat.S_IMODE(facts.st_mode) & ~mode:
        raise NotPermitted(
            f"`{path.name}` has mode {stat.S_IMODE(facts.st_mode):04o}, wider than {mode:04o}",
            remedy=f"if nobody else read it: chmod {mode:04o}; otherwise replace the keys",
        )
