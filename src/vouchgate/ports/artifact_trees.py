"""Folders in the content store: an artifact of several files lies in one folder of its own, named by the digest of its tree.

Rules
1. What comes is one stream (vocabulary/tree_frames.py), copied file by file while it is hashed: a file lies under its digest, and the manifest
   says which paths have it. Beside it `named/` holds the same files by their paths, as links to the same inodes, for whoever may read the store;
   the store itself never goes by them. Where this disk cannot have such paths, there is no such folder.
2. The folder gets its name with one rename(2), after each file and the manifest were made durable: it is there whole or not at all. Where it is
   there already, the two change places, so that a damaged one is mended.
3. A manifest counts only where its paths, digests and sizes have the digest by which it was asked for; a file only where its bytes do.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from vouchgate.vocabulary.digests import Digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound, StoreDamaged, VouchgateError
from vouchgate.vocabulary.stored import NAMED
from vouchgate.vocabulary.tree_frames import MAGIC, REMEDY, Paths, next_head
from vouchgate.vocabulary.wire import Noun, decode, encode

MANIFEST = "manifest"
MAX_MANIFEST_BYTES = 64 * 1024**2
"""Bytes of a manifest: 10,000 files with paths of 4 KiB."""
COPY_BYTES = 1024 * 1024
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
KEPT_MODE = 0o444
"""Of a kept file; who gets as far as it, the store's own folder says (vocabulary/layout.py)."""
TREE_MODE = 0o711
"""Of a kept folder: what lies in it is asked for by name; `named/` may be listed."""
_RENAME_EXCHANGE = 2
"""renameat2(2)."""
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class TreeFile(Noun, frozen=True, kw_only=True):
    """One file of a folder."""

    path: bytes
    """Inside the folder, with `/`."""
    digest: Digest


class Manifest(Noun, frozen=True, kw_only=True):
    """What lies in a folder, in the order of the paths' bytes."""

    files: tuple[TreeFile, ...]

    @property
    def digest(self) -> Digest:
        """Of the tree."""
        return tree_digest((file.path, file.digest) for file in self.files)


class KeptTree:
    """A folder of the store. `descriptor` is the folder's; closed by whoever opened it."""

    def __init__(self, descriptor: int, manifest: Manifest) -> None:
        self.descriptor, self.manifest = descriptor, manifest

    @property
    def digest(self) -> Digest:
        """Of the tree."""
        return self.manifest.digest

    def open(self, file: TreeFile) -> int:
        """A read-only descriptor on a file that was hashed again just now. Raises `StoreDamaged`."""
        descriptor = self.open_unchecked(file)
        if hash_file(descriptor) != (file.digest.value, file.digest.size):
            os.close(descriptor)
            raise _damaged(f"`{file.path[:200].decode('utf-8', 'replace')}` of the folder no longer has its digest")
        return descriptor

    def open_unchecked(self, file: TreeFile) -> int:
        """The same for whoever hashes it anyway, as the scanner does. Raises `StoreDamaged`."""
        try:
            return os.open(file.digest.value, READ_FLAGS | os.O_NONBLOCK, dir_fd=self.descriptor)
        except OSError as error:
            raise _damaged(f"a file of the folder cannot be read: {error.strerror}") from None

    def close(self) -> None:
        """Let go of the folder; harmless the second time."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def open_tree(path: Path) -> KeptTree:
    """A folder that was staged or kept, by its manifest; nothing is hashed yet. Raises `NotFound`, `StoreDamaged`."""
    try:
        folder = os.open(path, READ_FLAGS | os.O_DIRECTORY)
    except OSError:
        raise NotFound("the folder is not in the store", remedy="import the artifact") from None
    try:
        return KeptTree(folder, manifest_of(folder))
    except BaseException:
        os.close(folder)
        raise


def manifest_of(folder: int) -> Manifest:
    try:
        descriptor = os.open(MANIFEST, READ_FLAGS | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        raise _damaged("the folder has no manifest") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        content = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        manifest = decode(Manifest, content, what="manifest") if len(content) <= MAX_MANIFEST_BYTES else None
    except InvalidInput:
        manifest = None
    if manifest is None:
        raise _damaged("the folder's manifest cannot be read")
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """Paths as they were taken in, and digests that name files here: a manifest leads nowhere else."""
    paths = Paths()
    try:
        for file in manifest.files:
            paths.take(file.path)
            if file.digest.kind != "file" or len(file.digest.value) != 64 or not set(file.digest.value) <= set("0123456789abcdef"):
                raise InvalidInput("it names no file", remedy="import the artifact again")
    except VouchgateError:
        raise _damaged("the folder's manifest is not one that was written here") from None


def write_tree(
    source: int, folder: Path, *, max_bytes: int, check_space: Callable[[int], None], made: Callable[[int], None] = lambda _: None
) -> Digest:
    """Rule 1: the stream behind `source` into the new, private `folder`; `made` gets a descriptor on each new file before anything is in it.
    Raises `InvalidInput`, `LimitExceeded`, `OSError`."""
    check_space(os.fstat(source).st_size)
    folder.mkdir(0o700)
    here = os.open(folder, READ_FLAGS | os.O_DIRECTORY)
    try:
        stream = _Stream(source, max_bytes, made)
        manifest = Manifest(files=tuple(_files(stream, here)))
        if not manifest.files:
            raise InvalidInput("there is nothing in the folder", remedy="name a folder that is one model")
        _write_manifest(here, encode(manifest))
        name_files(folder, manifest)
        os.fsync(here)
        return manifest.digest
    finally:
        os.close(here)


def _files(stream: _Stream, here: int) -> list[TreeFile]:
    if stream.exactly(len(MAGIC)) != MAGIC:
        raise InvalidInput("the stream is no folder", remedy=REMEDY)
    files, paths = [], Paths()
    while (told := next_head(stream.exactly, paths)) is not None:
        path, size = told
        files.append(TreeFile(path=path, digest=stream.copy(size, here)))
    if stream.more():
        raise InvalidInput("something stands behind the folder's end", remedy=REMEDY)
    return files


class _Stream:
    """What is left of the stream; by `pread`, because the descriptor's own position belongs to whoever handed it over."""

    def __init__(self, source: int, max_bytes: int, made: Callable[[int], None]) -> None:
        self._source, self._max, self._made, self._at = source, max_bytes, made, 0

    def exactly(self, count: int) -> bytes:
        """The next bytes."""
        parts = bytearray()
        while len(parts) < count:
            part = os.pread(self._source, min(COPY_BYTES, count - len(parts)), self._at)
            if not part:
                raise InvalidInput("the folder broke off", remedy="send it again")
            parts += part
            self._at += len(part)
        if self._at > self._max:
            raise LimitExceeded(f"the folder is over the bound of {self._max} bytes", remedy="raise [limits] import_mib")
        return bytes(parts)

    def more(self) -> bool:
        """Whether anything is left."""
        return bool(os.pread(self._source, 1, self._at))

    def copy(self, size: int, here: int) -> Digest:
        """The next `size` bytes into a file that is named by its digest, durable and read-only."""
        target = os.open("part", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=here)
        hashing, left = hashlib.sha256(), size
        try:
            self._made(target)
            while left:
                part = self.exactly(min(COPY_BYTES, left))
                hashing.update(part)
                _write_all(target, part)
                left -= len(part)
            os.fchmod(target, KEPT_MODE)
            os.fsync(target)
        finally:
            os.close(target)
        digest = Digest(value=hashing.hexdigest(), size=size)
        os.rename("part", digest.value, src_dir_fd=here, dst_dir_fd=here)
        return digest


def _write_manifest(here: int, content: bytes) -> None:
    target = os.open(MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=here)
    try:
        _write_all(target, content)
        os.fchmod(target, KEPT_MODE)
        os.fsync(target)
    finally:
        os.close(target)


def _write_all(target: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]


def name_files(folder: Path, manifest: Manifest) -> None:
    """`named/`, anew; each folder of it durable. Where the disk refuses a path (too long, not its encoding), there is none."""
    top = folder / NAMED
    shutil.rmtree(top, ignore_errors=True)
    try:
        parents = {top}
        for file in manifest.files:
            path = top / os.fsdecode(file.path)
            parents.update(one for one in path.parents if one.is_relative_to(top))
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            os.link(folder / file.digest.value, path, follow_symlinks=False)
        for one in parents:
            _sync(one, 0o755)
    except OSError:
        shutil.rmtree(top, ignore_errors=True)


def _sync(folder: Path, mode: int) -> None:
    descriptor = os.open(folder, READ_FLAGS | os.O_DIRECTORY)
    try:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place_tree(staged: Path, final: Path) -> None:
    """Rule 2. Raises `OSError`."""
    _sync(staged, TREE_MODE)
    if final.is_dir():
        _exchange(staged, final)
        shutil.rmtree(staged, ignore_errors=True)
    else:
        staged.rename(final)


def _exchange(one: Path, other: Path) -> None:
    if _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def hash_file(descriptor: int) -> tuple[str, int]:
    """(SHA-256, size) of what lies behind the descriptor."""
    found, offset = hashlib.sha256(), 0
    while part := os.pread(descriptor, COPY_BYTES, offset):
        found.update(part)
        offset += len(part)
    return found.hexdigest(), offset


def _damaged(why: str) -> StoreDamaged:
    return StoreDamaged(why, remedy="import the artifact again")
