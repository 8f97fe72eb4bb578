"""The load guard: libraries load only content that was admitted, and load exactly the bytes that were verified.

    import vouchgate.integrations.guard as guard
    guard.install()                                  before the libraries are imported; or, without a change: vouchgate run --guard -- COMMAND

Rules
1. Each library's way in (guards/, one file a library) is wrapped when the library is imported. One that no longer has it does not get imported:
   a guard that guards nothing must not look like one.
2. A load opens (guard_opening.py), asks (guard_asking.py), and hands the verified descriptor to the library in the place of the name.
3. What is opened inside something verified is known by its bytes and not asked about again; everything else is.
4. What the process loaded first is what its endpoint is said to serve, for as long as the process lives; a fork says so for itself.
This guards against files, not against the process's own code: code that runs here can load what it likes.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vouchgate.integrations import guard_hook
from vouchgate.integrations.guard_asking import Beside, ControlPlane, Judge
from vouchgate.integrations.guard_opening import Opened, Opening
from vouchgate.integrations.guard_parts import Parts
from vouchgate.integrations.guard_store import Store
from vouchgate.integrations.guard_views import View
from vouchgate.vocabulary.digests import Digest, parse_digest
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError

RETRY_SECONDS = 5.0
"""Between tries to say what is served, where that failed."""
FIRST_SECONDS = 60.0
"""Before the first renewal, should the answer not say when."""


class Guard:
    """What the wrapped libraries call."""

    def __init__(self, opening: Opening, judge: Judge) -> None:
        self._opening, self._judge = opening, judge
        self._views: dict[str, View] = {}
        self._serving: Serving | None = None
        os.register_at_fork(after_in_child=self._forked)

    def file(self, path: str | bytes | os.PathLike[str], library: str) -> Opened:
        """A verified, admitted file. Raises `LoadRefused`, and what opening raises."""
        known = self._of_view(path)
        if known is not None:
            return known
        opened = self._opening.open(path)
        return self._admitted(opened, os.fsdecode(path), library)

    def path(self, digest: str) -> Path:
        """Where admitted content lies in the store, by its digest (`sha256:...`, or `sha256-tree:...` for a folder): a name to load it by.

        Whoever loads it is asked about like any other. Raises `NotFound`, `InvalidInput`.
        """
        return self._opening.stores.path(parse_digest(digest))

    def content(self, data: bytes | bytearray | memoryview, library: str) -> Opened:
        """The same of bytes in memory."""
        return self._admitted(self._opening.of_bytes(data), "bytes in memory", library)

    def named(self, path: str | bytes | os.PathLike[str], library: str) -> View:
        """A file in a view under the name it has, for libraries that go by suffixes or look beside the file."""
        return self._shown(View.of_file(self.file(path, library), os.fsdecode(path)))

    def content_named(self, data: bytes | bytearray | memoryview, name: str, library: str) -> View:
        """The same of bytes in memory."""
        return self._shown(View.of_file(self.content(data, library), name))

    def parts(self, path: str | bytes | os.PathLike[str], library: str) -> Parts | None:
        """A file whose tensors are verified when they are read, where a manifest of it lies beside it and was vouched for; else None. What lies in a view was
        verified as a whole."""
        if self._place(path) is not None:
            return None
        name = os.fsdecode(path)
        return Parts.of(path, lambda digest: self._admit(digest, name, library))

    def folder(self, path: str | os.PathLike[str], library: str) -> View:
        """A whole folder as one artifact."""
        view = View.of_folder(self._opening, path)
        try:
            self._admit(view.digest, str(path), library)
        except BaseException:
            view.close()
            raise
        return self._shown(view)

    def beside(self, path: str | os.PathLike[str], library: str) -> tuple[View, str]:
        """The folder of a file as one artifact, for models that lie in several files, and what the file is called in it. Inside something verified it is
        that folder's files."""
        place = self._place(path)
        if place is None:
            name = Path(os.path.normpath(Path(os.fsdecode(path)).absolute()))
            return self.folder(name.parent, library), name.name
        view, within = place
        return self._shown(view.beneath(str(Path(within).parent))), Path(within).name

    def inside(self, path: Any) -> bool:
        """Whether a path is a view's folder, or in one, that was admitted here and is open: what lies there was verified."""
        return self._place(path) is not None

    def _shown(self, view: View) -> View:
        self._views[str(view.folder)] = view
        return view

    def _place(self, path: Any) -> tuple[View, str] | None:
        """The open view that a path leads into, and what it is called there."""
        if not isinstance(path, str | os.PathLike):
            return None
        name = Path(os.path.normpath(os.fsdecode(path)))
        for folder, view in list(self._views.items()):
            if not view.is_open:
                self._views.pop(folder, None)
            elif name.is_relative_to(folder):
                return view, str(name.relative_to(folder))
        return None

    def _of_view(self, path: Any, descriptor: int = -1) -> Opened | None:
        """Rule 3 by name: the view's own descriptor, whatever its link leads to by now; of an open file only where that is the same file."""
        place = self._place(path)
        return place[0].again(place[1], descriptor) if place is not None else None

    @contextlib.contextmanager
    def stream(self, file: Any, library: str) -> Iterator[Any]:
        """A verified file in the place of an open one, at its position; afterwards the open one stands where the reading ended.

        The whole file behind it is what is verified. What is no file on a disk is read to its end and verified as bytes.
        """
        begin, opened = self._behind(file, library)
        with opened, opened.reader() as reader:
            reader.seek(begin)
            yield reader
            with contextlib.suppress(OSError, AttributeError, io.UnsupportedOperation):
                file.seek(reader.tell())

    def _behind(self, file: Any, library: str) -> tuple[int, Opened]:
        try:
            descriptor = file.fileno()
            on_disk = stat.S_ISREG(os.fstat(descriptor).st_mode) and type(file) in (io.BufferedReader, io.FileIO, io.BufferedRandom)
        except (AttributeError, OSError, ValueError):
            on_disk = False
        if on_disk:
            name = file.name if isinstance(getattr(file, "name", None), str) else "an open file"
            known = self._of_view(name, descriptor)
            if known is not None:
                return file.tell(), known
            return file.tell(), self._admitted(self._opening.of_descriptor(descriptor), name, library)
        begin = file.tell() if hasattr(file, "seek") and file.seekable() else 0
        if begin:
            file.seek(0)
        data = file.read()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidInput("the open file does not give bytes", remedy="open it in binary mode")
        return begin, self.content(data, library)

    def _admitted(self, opened: Opened, name: str, library: str) -> Opened:
        if opened.known:
            return opened
        try:
            self._admit(opened.digest, name, library)
        except BaseException:
            opened.close()
            raise
        return opened

    def _admit(self, digest: Digest, name: str, library: str) -> str:
        manifest = self._judge.admit(digest, name, library)
        if isinstance(self._judge, ControlPlane) and self._judge.endpoint and self._serving is None:
            self._serving = Serving(self._judge, digest)
        return manifest

    def _forked(self) -> None:
        if isinstance(self._judge, ControlPlane):
            self._judge.forked()
        if self._serving is not None and isinstance(self._judge, ControlPlane):
            self._serving = Serving(self._judge, self._serving.digest)


class Serving:
    """Rule 4, on a daemon thread: it ends with the process, and the vouch soon after."""

    def __init__(self, control: ControlPlane, digest: Digest) -> None:
        self.digest, self._control = digest, control
        self.trouble = ""
        """Why the last word was not taken; empty while all is well."""
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="vouchgate-serves", daemon=True).start()

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            try:
                said = self._control.serving(self.digest)
                self.trouble, wait = "", said.renew_ms / 1000 or FIRST_SECONDS
            except VouchgateError as error:
                if error.reason != self.trouble:
                    print(f"vouchgate: what this process serves is not vouched for: {error.reason}", file=sys.stderr)  # noqa: T201
                self.trouble, wait = error.reason, RETRY_SECONDS

    def close(self) -> None:
        """Say it no more."""
        self._stop.set()


_installed: Guard | None = None


def install(
    *,
    socket: str | os.PathLike[str] = "",
    purpose: str = "",
    endpoint: str = "",
    store: str | os.PathLike[str] = "",
    root: str | os.PathLike[str] = "",
    fingerprint: str = "",
) -> Guard:
    """Guard this process from here on. What is not given comes from VOUCHGATE_GUARD_SOCKET, _PURPOSE, _ENDPOINT, _STORE, _ROOT and _FINGERPRINT.

    `socket` is the control plane's (`<data_dir>/control/api.sock`), and the store beside it is read from where no other is named; without one, `root` and `fingerprint` pin whose vouches count that lie
    beside the files. Raises `InvalidInput` where it is told neither. The second time it changes nothing.
    """
    global _installed  # noqa: PLW0603
    if _installed is not None:
        return _installed
    from vouchgate import wiring

    told = wiring.guard_environment()
    where, key, pinned = (
        str(one) or told.get(name, "") for one, name in ((socket, "SOCKET"), (root, "ROOT"), (fingerprint, "FINGERPRINT"))
    )
    if where:
        judge: Judge = ControlPlane(Path(where), purpose=purpose or told.get("PURPOSE", ""), endpoint=endpoint or told.get("ENDPOINT", ""))
    elif key and pinned:
        judge = Beside(Path(key), pinned, wiring.clock().now)
    else:
        raise InvalidInput("the guard is told neither a control plane nor a pinned TrustRoot", remedy="set VOUCHGATE_GUARD_SOCKET")
    kept = str(store) or told.get("STORE", "")
    opening = (
        Opening(_stores(kept)) if not isinstance(judge, ControlPlane) else Opening(_stores(kept) or _beside(where), decider=judge.user)
    )
    guard = Guard(opening, judge)
    guard_hook.follow(guard)
    _installed = guard
    return guard


def _stores(folder: str) -> tuple[Store, ...]:
    """Whose folder it is now is whose it must be; our own is none."""
    if not folder:
        return ()
    path = Path(folder).resolve(strict=True)
    return (Store(path, frozenset({path.stat().st_uid})),)


def _beside(socket: str) -> tuple[Store, ...]:
    """The control plane's own store, beside its socket; where this user may not enter it, nothing of it is found."""
    folder = Path(socket).resolve().parent / "artifacts"
    return _stores(str(folder)) if folder.is_dir() else ()


def path(digest: str) -> Path:
    """`Guard.path` of the guard that was installed. Raises `InvalidInput` where none was."""
    if _installed is None:
        raise InvalidInput("the load guard is not installed", remedy="call `guard.install()` first")
    return _installed.path(digest)
