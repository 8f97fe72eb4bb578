"""A store whose files need no copy, because nobody who loads from it can change them, and whose keeper's word on a hash may do.

Rules
1. A file counts as the store's where every folder from `/` down and the file itself belong to root or to the store's owner, who is not us, nobody but
   they may write in any of them, the file is read-only, no step is a link and the file is no mount. Only its owner could change it. A uid that this
   user namespace does not know is nobody's.
2. It lies on a filesystem of the kernel's own on this machine. What a FUSE server or another machine says of owners and times, it says itself.
3. The keeper's note stands for a hash only where the keeper is who decides whether content may be loaded: the uid that listens at the control plane's
   socket, by the kernel's word. Whoever could write a false note could as well allow the content.
4. A note fits where it lies on the same filesystem as the file, and inode, size, mtime and ctime are as the keeper left them. Nothing but root's hand on
   the clock or on the disk itself brings a ctime back: utimensat(2) cannot set it, and moves it. Whatever does not fit is hashed.
Left to others: hashing and copying (guard_opening.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from vouchgate.integrations.guard_kernel import filesystem_kind, step
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.stored import MAX_NOTE_BYTES, Noted, note_path, noted, readable_path
from vouchgate.vocabulary.wire import decode

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""A pipe or a terminal in the place of a file must not hold us up."""
NOBODY = 65_534
"""In a user namespace every uid that it does not map looks like this one (user_namespaces(7), overflowuid): it names no user."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ANYBODY_WRITES = stat.S_IWUSR | _OTHERS_WRITE
_OWN_FILESYSTEMS = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994, 0x2FC12FC1, 0xCA451A4E})
"""ext2 to ext4, XFS, btrfs, f2fs, tmpfs, ZFS, bcachefs (statfs(2))."""


class Store(Struct, frozen=True):
    """A folder of admitted artifacts and the users who alone may write there."""

    folder: Path
    owners: frozenset[int]
    """Their uids; root is always one, our own never."""


class Stores:
    """Those that a process may rely on. `decider` says which uid decides about loads, -1 where that is nobody on this machine."""

    def __init__(self, stores: Sequence[Store], decider: Callable[[], int] = lambda: -1) -> None:
        self._stores, self._decider = tuple(stores), decider

    def open(self, name: str) -> tuple[int, Store] | None:
        """Rules 1 and 2: a descriptor on the file; None where it is not one of a store, or does not lie there as it must."""
        whole = Path(os.path.normpath(Path.cwd() / name))
        for store in self._stores:
            if not whole.is_relative_to(store.folder) or whole == store.folder:
                continue
            descriptor = _walk(whole, store.owners - {os.geteuid(), NOBODY} | {0})
            if descriptor < 0:
                continue
            if _is_kept(descriptor):
                return descriptor, store
            os.close(descriptor)
        return None

    def of_descriptor(self, descriptor: int) -> tuple[int, Store] | None:
        """The same of a file that somebody else opened, by the name that the kernel has for it; it must be the same file."""
        if not self._stores:
            return None
        found = self.open(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if found is not None and not os.path.sameopenfile(found[0], descriptor):
            os.close(found[0])
            return None
        return found

    def noted(self, descriptor: int, store: Store) -> str | None:
        """Rules 3 and 4: the SHA-256 that the keeper noted of an opened file of the store, or None."""
        facts, keeper = os.fstat(descriptor), self._decider()
        if keeper in (-1, NOBODY, os.geteuid()) or facts.st_uid != keeper:
            return None
        found = _walk(note_path(store.folder, facts.st_ino), frozenset({keeper, 0}))
        if found < 0:
            return None
        try:
            about = os.fstat(found)
            if about.st_uid != keeper or about.st_dev != facts.st_dev or about.st_size > MAX_NOTE_BYTES or not _is_kept(found):
                return None
            note = decode(Noted, os.read(found, MAX_NOTE_BYTES), what="note")
        except (OSError, InvalidInput):
            return None
        finally:
            os.close(found)
        return note.sha256 if note == noted(facts, note.sha256) and _is_hash(note.sha256) else None

    def path(self, digest: Digest) -> Path:
        """Where a loader finds content by its digest. Raises `NotFound`, `InvalidInput`."""
        for store in self._stores:
            path = readable_path(store.folder, digest)
            try:
                path.stat()
            except OSError:
                continue
            return path
        raise NotFound(
            f"`{digest.text[:100]}` is in no store that this user may read",
            remedy="`vouchgate import` it, and let this user read the store: `[artifacts] readers` in vouchgate.toml",
        )


def _is_hash(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _is_kept(descriptor: int) -> bool:
    """A regular file of somebody else that nobody may write, on a filesystem of rule 2."""
    facts = os.fstat(descriptor)
    return (
        stat.S_ISREG(facts.st_mode)
        and facts.st_uid != os.geteuid()
        and not facts.st_mode & _ANYBODY_WRITES
        and filesystem_kind(descriptor) in _OWN_FILESYSTEMS
    )


def _walk(path: Path, owners: frozenset[int]) -> int:
    """A descriptor on the file, every step of whose path is in the hands of `owners`; -1 where one is not."""
    current = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.parts[1:-1]:
            if not _kept_by(os.fstat(current), owners):
                return -1
            # a folder on the way may be a mount point: it is looked at like any other
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = below
        facts = os.fstat(current)
        if not _kept_by(facts, owners):
            return -1
        found = step(current, os.fsencode(path.name), READ & ~os.O_CLOEXEC)
        if os.fstat(found).st_uid not in owners:
            os.close(found)
            return -1
        return found
    except OSError:
        return -1
    finally:
        os.close(current)


def _kept_by(facts: os.stat_result, owners: frozenset[int]) -> bool:
    """Whether nobody but `owners` can put another entry in the place of one of theirs (in a sticky folder only the entry's owner can)."""
    if facts.st_uid not in owners:
        return False
    return not facts.st_mode & _OTHERS_WRITE or (facts.st_uid == 0 and bool(facts.st_mode & stat.S_ISVTX))
