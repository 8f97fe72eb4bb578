"""The content store's folder as its readers see it: where content lies by its digest, and what the keeper noted of each file.

Rules
1. A file lies under its SHA-256. A folder that is one artifact lies under `tree-` and its digest: each file under its own SHA-256, and under
   `named/` the same files by the paths that they have in the folder.
2. `.notes/<inode>` says with which size and times the keeper left a file behind whose bytes it had hashed. It stands for a hash only where the file
   still has them, and only for who trusts the keeper with it (integrations/guard_store.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import Noun

TREE = "tree-"
NAMED = "named"
NOTES = ".notes"
MAX_NOTE_BYTES = 1024
"""Bytes of one note; it takes about 170."""


class Noted(Noun, frozen=True, kw_only=True):
    """What the keeper saw of a file when it had hashed it and was never to touch it again."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str


def noted(facts: os.stat_result, sha256: str) -> Noted:
    """What is noted of a file with these facts. The device is left out: it may be called otherwise after a reboot; where the note itself lies says it."""
    return Noted(inode=facts.st_ino, size=facts.st_size, mtime_ns=facts.st_mtime_ns, ctime_ns=facts.st_ctime_ns, sha256=sha256)


def note_path(folder: Path, inode: int) -> Path:
    """Where the note of an inode lies."""
    return folder / NOTES / str(inode)


def kept_path(folder: Path, digest: Digest) -> Path:
    """Where content lies in a store. Raises `InvalidInput` for what is neither file nor folder."""
    if digest.kind not in ("file", "tree") or len(digest.value) != 64 or not set(digest.value) <= set("0123456789abcdef"):
        raise InvalidInput(f"`{digest.text[:100]}` names no file", remedy="give the digest of a file or a folder")
    return folder / (TREE * (digest.kind == "tree") + digest.value)


def readable_path(folder: Path, digest: Digest) -> Path:
    """What a loader is to name: the file, or the folder with the files under their own names. Raises `InvalidInput`."""
    kept = kept_path(folder, digest)
    return kept / NAMED if digest.kind == "tree" else kept
