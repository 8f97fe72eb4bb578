"""The content store's notes: which bytes a file had when the store had hashed it, by the kernel's own facts of the file (vocabulary/stored.py).

Rules
1. A note is written by the store alone, after the file has its last name, mode and links: every later change of the file, by whomever, moves its
   ctime, which no call sets (utimensat(2) sets the two others, and moves it too).
2. What was noted of an inode is taken away before a new file with that number is filled.
3. A note is never needed: where it is missing, cut off or does not fit, whoever reads the file hashes it. So it is not made durable.
"""

from __future__ import annotations

import os
from pathlib import Path

from vouchgate.vocabulary.stored import NOTES, note_path, noted
from vouchgate.vocabulary.wire import encode


class Notes:
    """Those of one store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def forget(self, descriptor: int) -> None:
        """Rule 2."""
        note_path(self._folder, os.fstat(descriptor).st_ino).unlink(missing_ok=True)

    def write(self, descriptor: int, sha256: str) -> None:
        """Rule 1. The folder is one that the store's readers may enter and not list. Raises `OSError`."""
        place = self._folder / NOTES
        if not place.is_dir():
            place.mkdir(mode=0o711)
            place.chmod(0o711)
        facts = os.fstat(descriptor)
        path = note_path(self._folder, facts.st_ino)
        temporary = path.with_suffix(f".{os.getpid()}.new")
        target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(target, encode(noted(facts, sha256)))
            os.fchmod(target, 0o444)
        finally:
            os.close(target)
        temporary.rename(path)
