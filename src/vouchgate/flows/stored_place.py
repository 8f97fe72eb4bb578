"""An artifact of the store as a place that can be walked, so that what is kept is measured and scanned as what lies on a disk is.

Nothing is hashed here: whoever reads through it hashes what it reads, and holds the digest of all of it against the one that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import NotFound


class Kept(Protocol):
    """The content store (ports/artifacts.py)."""

    def locate(self, digest: Digest) -> int: ...
    def open_tree(self, digest: Digest) -> Any: ...


@dataclass(frozen=True)
class StagedContent:
    """What was staged and is not kept yet, read as what is kept is."""

    descriptor: int
    """Of the staged file or folder; stays whose it is."""
    path: Path
    """Where it is staged."""
    trees: Callable[[Path], Any]
    """Opens a folder by its manifest (wiring.stored_tree)."""

    def locate(self, _: Digest) -> int:
        """A descriptor of its own."""
        return os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def open_tree(self, _: Digest) -> Any:
        """The folder."""
        return self.trees(self.path)


@dataclass(frozen=True)
class StoredFile:
    """One file of it."""

    name: bytes
    size: int
    trouble: str = ""
    link: bool = False


class StoredPlace:
    """See the module's text; to be closed. Raises `NotFound`, `StoreDamaged`."""

    def __init__(self, kept: Kept, digest: Digest) -> None:
        self.path, self.is_folder = digest.text, digest.kind == "tree"
        self._tree = kept.open_tree(digest) if self.is_folder else None
        self._file = -1 if self.is_folder else kept.locate(digest)

    def entries(self) -> Iterable[StoredFile]:
        """Its files; of a file that alone, without a name."""
        if self._tree is None:
            return (StoredFile(b"", os.fstat(self._file).st_size),)
        return tuple(StoredFile(file.path, file.digest.size) for file in self._tree.manifest.files)

    def open(self, name: bytes) -> int:
        """A descriptor of its own for one file."""
        if self._tree is None:
            return os.open(f"/proc/self/fd/{self._file}", os.O_RDONLY | os.O_CLOEXEC)
        for file in self._tree.manifest.files:
            if file.path == name:
                return int(self._tree.open_unchecked(file))
        raise NotFound("the folder holds no such file", remedy="list its files")

    def missing(self, _: bytes) -> int:
        """Bytes of a file that could not be had: what is kept is whole."""
        return 0

    def close(self) -> None:
        """Let go of it; harmless the second time."""
        if self._tree is not None:
            self._tree.close()
        elif self._file >= 0:
            os.close(self._file)
            self._file = -1
