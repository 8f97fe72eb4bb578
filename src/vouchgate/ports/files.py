"""Files whose owner, mode and durability matter.

Rules
1. A folder is made with its mode, and an existing one is corrected; a symbolic link or a foreign owner where a folder should be is refused.
2. `write_atomic` leaves the old file or the new one, whole (write, fsync, rename, fsync of the folder).
3. Nothing follows a symbolic link in the last step of a path.
"""

from __future__ import annotations

import grp
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from vouchgate.vocabulary.errors import Conflict, InvalidInput, InvalidSettings
from vouchgate.vocabulary.processes import Folder

MAX_SMALL_FILE = 4 * 1024 * 1024
"""Bytes of a settings, policy or key file; more is refused unread."""


def make_folders(folders: Iterable[Folder]) -> None:
    """Make or correct folders, parents first. Raises `Conflict` where something else is in the way."""
    for folder in folders:
        path = Path(folder.path)
        try:
            path.mkdir(mode=folder.mode & 0o777, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError) as error:
            raise Conflict(
                f"`{path}` should be a folder: {error.strerror}", remedy="remove what is there, or choose another folder"
            ) from None
        try:
            if os.geteuid() == 0 and folder.uid is not None:
                os.fchown(descriptor, folder.uid, folder.uid if folder.gid is None else folder.gid)
            elif os.fstat(descriptor).st_uid != os.geteuid():
                raise Conflict(f"`{path}` belongs to uid {os.fstat(descriptor).st_uid}", remedy="remove it, or run as its owner")
            os.fchmod(descriptor, folder.mode)
        finally:
            os.close(descriptor)


def group_number(named: str) -> int:
    """A unix group by its name or number, to be given a folder. Raises `InvalidSettings`."""
    try:
        number = int(named) if named.isdecimal() else grp.getgrnam(named).gr_gid
    except KeyError:
        raise InvalidSettings(f"this machine has no group `{named}`", remedy=f"groupadd --system {named}, or name another one") from None
    if os.geteuid() != 0:
        raise InvalidSettings(f"only root can give a folder to the group `{named}`", remedy="start vouchgate as root, or write `everybody`")
    return number


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, owner: int | None = None) -> None:
    """Write a whole file durably; the old one stays until the new one is complete."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        if owner is not None and os.geteuid() == 0:
            os.fchown(descriptor, owner, owner)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_small(path: Path, what: str, *, bound: int = MAX_SMALL_FILE) -> bytes:
    """Read a small regular file. Raises `InvalidInput` for what is not one, or is over the bound."""
    try:
        # a pipe in the place of the file must not hold us up
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(f"the {what} `{path}` cannot be read: {error.strerror}", remedy="check the path and its mode") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > bound:
            raise InvalidInput(f"the {what} `{path}` is not a regular file of at most {bound} bytes", remedy="name the right file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(bound + 1)
    finally:
        os.close(descriptor)
    if len(data) > bound:
        raise InvalidInput(f"the {what} `{path}` grew over {bound} bytes while it was read", remedy="name the right file")
    return data


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user may still write on the filesystem of `path`."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize
