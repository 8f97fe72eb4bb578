"""The content store: admitted artifacts by digest, in one folder that the control plane alone writes. Whoever may enter the folder may read them.

Rules
1. A path is opened once, without following a link, and must be a regular file within the bound; from then on only the descriptor counts.
2. `stage` copies through that descriptor into a private file while hashing. What is scanned and what is kept is the private copy, so a
   source that its owner goes on writing to cannot show the scanner other bytes than those that are kept.
3. `keep` gives the copy its digest as a name: read-only, fsynced, renamed, folder fsynced. `drop` leaves nothing behind.
4. `open` hashes again before it hands out a descriptor: a file that no longer has its digest is never served.
5. A folder that is one artifact is staged, kept and opened by the same rules (artifact_trees.py), under the digest of its tree.
6. What is staged has a name that nobody can guess, and nobody else may list the folder or read the copy. What is kept everybody may read who
   may enter; of each kept file it is noted what it was when it was hashed (artifact_notes.py). The store itself never relies on a note.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path
from secrets import token_hex

from vouchgate.ports.artifact_notes import Notes
from vouchgate.ports.artifact_trees import (
    KEPT_MODE,
    TREE_MODE,
    KeptTree,
    hash_file,
    manifest_of,
    name_files,
    open_tree,
    place_tree,
    write_tree,
)
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound, StoreDamaged, Unavailable, VouchgateError
from vouchgate.vocabulary.stored import NAMED, TREE, kept_path

MAX_ARTIFACT_BYTES = 64 * 1024**3
"""Bytes of one artifact; the scanner's own bound."""
RESERVE_BYTES = 256 * 1024**2
"""Bytes left free on the filesystem, so that an import cannot stop the log."""
CHUNK_BYTES = 1024 * 1024
_STAGING = ".staging-"


def open_artifact(path: Path) -> int:
    """A descriptor on the file at `path`, opened once. Raises `InvalidInput` for what is not a regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        why = "a symbolic link" if error.errno == errno.ELOOP else f"not readable ({error.strerror})"
        raise InvalidInput(f"`{path}` is {why}", remedy="name the file itself, and check that it can be read") from None
    try:
        _check_regular(descriptor, str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Staged:
    """A private copy that is neither kept nor dropped yet. `descriptor` reads it (of a folder: is the folder's); closed by `keep` and `drop`."""

    def __init__(self, path: Path, descriptor: int, digest: Digest) -> None:
        self.path, self.descriptor, self.digest = path, descriptor, digest

    def close(self) -> None:
        """Close the descriptor; harmless the second time."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class ArtifactStore:
    """One folder. Safe to share between threads: every staging has a name of its own."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_ARTIFACT_BYTES, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._folder, self._max_bytes, self._reserve = folder, max_bytes, reserve_bytes
        self._notes = Notes(folder)

    def sweep(self) -> int:
        """Remove what an interrupted import left; returns how many. To be called while nothing is being imported."""
        left = list(self._folder.glob(f"{_STAGING}*"))
        for path in left:
            _remove(path)
        for path in self._folder.iterdir():
            self._mend(path)
        return len(left)

    def _mend(self, path: Path) -> None:
        """Kept content that its readers could not read gets modes and names (rule 6); what is damaged is left as it is."""
        facts = path.lstat()
        if stat.S_ISREG(facts.st_mode) and stat.S_IMODE(facts.st_mode) != KEPT_MODE:
            path.chmod(KEPT_MODE)
        elif stat.S_ISDIR(facts.st_mode) and path.name.startswith(TREE) and stat.S_IMODE(facts.st_mode) != TREE_MODE:
            with contextlib.suppress(VouchgateError), contextlib.closing(open_tree(path)) as tree:
                for file in path.iterdir():
                    if file.name != NAMED:
                        file.chmod(KEPT_MODE)
                name_files(path, tree.manifest)
                os.fchmod(tree.descriptor, TREE_MODE)

    def stage(self, source: int) -> Staged:
        """Copy and hash the file behind `source` from its beginning. Raises `InvalidInput`, `LimitExceeded`, `Unavailable`."""
        size = _check_regular(source, "the artifact")
        if size > self._max_bytes:
            raise LimitExceeded(f"the artifact has {size} bytes, the bound is {self._max_bytes}", remedy="split it into shards")
        path = self._folder / f"{_STAGING}{token_hex(16)}"
        try:
            self._check_space(size)
            target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                self._notes.forget(target)
                digest = self._copy(source, target)
                os.fsync(target)
            finally:
                os.close(target)
            return Staged(path, os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), digest)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise Unavailable(f"the artifact could not be copied: {error.strerror}", remedy="free some space and import it again") from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def stage_tree(self, source: int) -> Staged:
        """Copy and hash the folder whose stream lies behind `source`. Raises `InvalidInput`, `LimitExceeded`, `Unavailable`."""
        _check_regular(source, "the artifact")
        path = self._folder / f"{_STAGING}{token_hex(16)}"
        try:
            digest = write_tree(source, path, max_bytes=self._max_bytes, check_space=self._check_space, made=self._notes.forget)
            return Staged(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC), digest)
        except OSError as error:
            _remove(path)
            raise Unavailable(f"the artifact could not be copied: {error.strerror}", remedy="free some space and import it again") from None
        except BaseException:
            _remove(path)
            raise

    def keep(self, staged: Staged) -> Path:
        """Give the copy its place; the same content twice is kept once."""
        final = self._path(staged.digest)
        try:
            if staged.digest.kind == "tree":
                place_tree(staged.path, final)
            else:
                os.fchmod(staged.descriptor, KEPT_MODE)
                os.fsync(staged.descriptor)
                staged.path.rename(final)
            self._sync_folder()
            self._note(staged)
        except OSError as error:
            raise Unavailable(f"the artifact could not be kept: {error.strerror}", remedy="check the data directory's disk") from None
        finally:
            staged.close()
        return final

    def drop(self, staged: Staged) -> None:
        """Forget the copy; harmless after `keep`."""
        staged.close()
        _remove(staged.path)

    def has(self, digest: Digest) -> bool:
        """Whether the content is here (not whether it is still whole: `open` says that)."""
        path = self._path(digest)
        return path.is_dir() if digest.kind == "tree" else path.is_file()

    def locate(self, digest: Digest) -> int:
        """A descriptor for whoever hashes what it reads, as the scanner does; nothing is hashed here. Raises `NotFound`."""
        try:
            return os.open(self._path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise NotFound(f"`{digest.text}` is not in the store", remedy="import the artifact") from None

    def open_tree(self, digest: Digest) -> KeptTree:
        """A folder whose manifest has the digest; each of its files is hashed again when it is opened. Raises `NotFound`, `StoreDamaged`."""
        tree = open_tree(self._path(digest))
        if tree.digest.value != digest.value:
            tree.close()
            raise StoreDamaged(f"the folder of `{digest.text}` no longer has that digest", remedy="import the artifact again")
        return tree

    def open(self, digest: Digest) -> int:
        """A read-only descriptor on a file that was hashed again just now. Raises `NotFound`, `StoreDamaged`."""
        if digest.kind != "file":
            raise InvalidInput(f"`{digest.text[:100]}` names no file", remedy="give the digest of a file")
        try:
            descriptor = os.open(self._path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise NotFound(f"`{digest.text}` is not in the store", remedy="import the artifact") from None
        if hash_file(descriptor)[0] != digest.value:
            os.close(descriptor)
            raise StoreDamaged(f"the file of `{digest.text}` no longer has that digest", remedy="import the artifact again")
        return descriptor

    def _path(self, digest: Digest) -> Path:
        return kept_path(self._folder, digest)

    def _note(self, staged: Staged) -> None:
        """Rule 6: it was hashed while it was copied, by nobody but this process."""
        if staged.digest.kind == "file":
            self._notes.write(staged.descriptor, staged.digest.value)
            return
        for name in {file.digest.value for file in manifest_of(staged.descriptor).files}:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staged.descriptor)
            try:
                self._notes.write(descriptor, name)
            finally:
                os.close(descriptor)

    def _check_space(self, size: int) -> None:
        facts = os.statvfs(self._folder)
        if facts.f_bavail * facts.f_frsize < size + self._reserve:
            raise Unavailable(
                f"there is no room for {size} bytes beside the reserve of {self._reserve}", remedy="free some space and import it again"
            )

    def _copy(self, source: int, target: int) -> Digest:
        """`pread`, because the descriptor's own position belongs to whoever handed it over."""
        digest = hashlib.sha256()
        offset = 0
        while part := os.pread(source, CHUNK_BYTES, offset):
            offset += len(part)
            if offset > self._max_bytes:
                raise LimitExceeded(f"the artifact grew over the bound of {self._max_bytes} bytes", remedy="import it when it is complete")
            digest.update(part)
            left = memoryview(part)
            while left:
                left = left[os.write(target, left) :]
        return Digest(value=digest.hexdigest(), size=offset)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    """A staged file or folder, as far as it got."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_regular(descriptor: int, what: str) -> int:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidInput(f"`{what}` is not a regular file", remedy="name a file, not a folder, a device or a pipe")
    return facts.st_size
