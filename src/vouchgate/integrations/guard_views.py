"""Verified files under names: for loaders that want a folder, a suffix or files beside each other.

Rules
1. A view is a new folder that only this user may enter, in a folder where nobody else can rename it. It holds links to descriptors
   (`/proc/self/fd/N`) and nothing else: a file that was not verified is not there, so a model that names one does not get it.
2. A folder is taken whole, hidden files too: its digest is the tree digest of every regular file by relative path. A link to a file is that file
   under another name, wherever it leads: what it leads to is verified. A link to a folder, a device, a pipe or a socket is refused.
3. `check` says whether every link is still what was put there; whoever loads asks before the result is used. Another process of the same user
   could have turned a link: a loader that runs what it reads is guarded again where it opens the file.
"""

from __future__ import annotations

import io
import os
import resource
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from vouchgate.integrations.guard_opening import Opened, Opening
from vouchgate.vocabulary.digests import Digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unsupported, Unverified

MAX_FILES = 4_096
"""Files of one folder; each takes a descriptor while it is loaded."""
MAX_DEPTH = 32
"""Folders below each other."""
SPARE_FILES = 128
"""Descriptors that are left for the process itself."""


class View:
    """A folder of links to verified bytes. Close it when what was loaded no longer needs its files."""

    def __init__(self, files: dict[str, Opened], digest: Digest) -> None:
        """`files` by relative path; they belong to the view from here on."""
        self._files, self.digest = files, digest
        self.is_open = True
        self.folder = Path(tempfile.mkdtemp(prefix="vouchgate-load-", dir=_private_place()))
        try:
            for name, opened in files.items():
                (self.folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self.folder / name).symlink_to(opened.path)
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_file(cls, opened: Opened, name: str) -> View:
        """One file under the name it had, for loaders that go by suffixes."""
        try:
            return cls({Path(name).name or "file": opened}, opened.digest)
        except BaseException:
            opened.close()
            raise

    @classmethod
    def of_folder(cls, opening: Opening, folder: str | os.PathLike[str]) -> View:
        """Rule 2. Raises `InvalidInput`, `LimitExceeded`, and what opening raises."""
        files: dict[str, Opened] = {}
        try:
            for name in _names(Path(folder)):
                _check_room(len(files))
                files[name] = opening.open(Path(folder) / name)
            digest = tree_digest((os.fsencode(name), opened.digest) for name, opened in files.items())
            return cls(files, digest)
        except BaseException:
            for opened in files.values():
                opened.close()
            raise

    def path(self, name: str) -> str:
        """Where a file of it is."""
        return str(self.folder / name)

    @property
    def names(self) -> tuple[str, ...]:
        """Of its files, relative to its folder."""
        return tuple(self._files)

    def reader(self, name: str) -> io.BufferedReader:
        """One of its files, by its descriptor."""
        return self._files[name].reader()

    @property
    def only(self) -> str:
        """Where the one file is."""
        (name,) = self._files
        return self.path(name)

    def again(self, name: str, descriptor: int = -1) -> Opened | None:
        """A file of it once more, for who opens inside; None for what it does not have, or where `descriptor` is on another file."""
        held = self._files.get(name)
        if held is None or (descriptor >= 0 and not os.path.sameopenfile(held.descriptor, descriptor)):
            return None
        return held.again()

    def beneath(self, place: str) -> View:
        """The files of one of its folders once more, as a view of their own; the digest is that of what was asked about."""
        files: dict[str, Opened] = {}
        try:
            for name, held in self._files.items():
                if Path(name).is_relative_to(place):
                    files[str(Path(name).relative_to(place))] = held.again()
            return View(files, self.digest)
        except BaseException:
            for opened in files.values():
                opened.close()
            raise

    def check(self) -> None:
        """Rule 3. Raises `Unverified`."""
        try:
            found = {str(path.relative_to(self.folder)): str(path.readlink()) for path in _links(self.folder)}
        except OSError:
            found = {}
        if found != {name: opened.path for name, opened in self._files.items()}:
            raise Unverified("the files changed while they were loaded", remedy="see which process of this user did it, then load again")

    def close(self) -> None:
        """Give descriptors and folder back; harmless the second time."""
        self.is_open = False
        for opened in self._files.values():
            opened.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> View:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _names(folder: Path) -> Iterator[str]:
    """Relative paths of all files. Raises `InvalidInput` for what is neither file nor folder."""
    waiting = [(folder, 0)]
    while waiting:
        at, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise LimitExceeded(f"`{folder}` is deeper than {MAX_DEPTH} folders", remedy="load the folder that holds the model itself")
        try:
            entries = sorted(os.scandir(at), key=lambda one: one.name)
        except OSError as error:
            raise InvalidInput(f"`{at}` cannot be listed: {error.strerror}", remedy="name a folder that you may read") from None
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append((Path(entry.path), depth + 1))
            elif entry.is_file():
                yield str(Path(entry.path).relative_to(folder))
            else:
                raise InvalidInput(f"`{entry.path}` is neither a file nor a folder", remedy="remove it, or copy what it leads to")


def _links(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path


def _check_room(held: int) -> None:
    bound = min(MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES)
    if held >= bound:
        raise LimitExceeded(
            f"the folder holds more than {bound} files, each of which takes a descriptor", remedy="raise `ulimit -n`, or load a part of it"
        )


def _private_place() -> str:
    """Where a folder of ours can be renamed by nobody else."""
    place = tempfile.gettempdir()
    facts = Path(place).stat()
    others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if facts.st_uid not in (0, os.geteuid()) or (others and not facts.st_mode & stat.S_ISVTX):
        raise Unsupported(f"others may rename what lies in `{place}`", remedy="set TMPDIR to a folder of your own")
    return place
