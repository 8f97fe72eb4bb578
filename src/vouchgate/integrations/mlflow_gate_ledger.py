"""What the workers of one MLflow server tell each other: who writes where, what is going live, and what is live. A folder of small files.

Rules
1. A worker says where it writes, or what is to go live, before it looks at what the others said. So of two that concern the same place at least one
   sees the other, and steps back.
2. What is said holds while its file is locked (flock): a worker that dies takes its word with it. It is locked before it has its name.
3. What went live is kept for good: name, version, digest, location. Who reads it goes by a token that changes with every change.
4. The folder belongs to the server's user and is open to nobody else; anything else there ends the server's start.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vouchgate.vocabulary.errors import InvalidSettings, LimitExceeded, Unavailable
from vouchgate.vocabulary.wire import Noun, decode, encode

Said = Literal["writing", "going-live"]
MAX_LIVE = 100_000
"""Versions that went live; each is a file of some 300 bytes."""
MAX_SAID = 10_000
"""Writes and promotions at once; a server has far fewer threads."""
MAX_RECORD_BYTES = 8_192
"""Of one file: names and locations are at most 500 characters in MLflow's own tables."""


class Live(Noun, frozen=True, kw_only=True):
    """A version that went live."""

    name: str
    version: str
    digest: str
    location: str
    """Where its artifacts lie, in the one spelling of `mlflow_gate_artifacts.spelled`."""


class Ledger:
    """See the module's text."""

    def __init__(self, folder: Path) -> None:
        """Raises `InvalidSettings` (rule 4)."""
        self._folder = folder
        for path in (folder, folder / "writing", folder / "going-live", folder / "live"):
            _own(path)
        self._seen: tuple[str, tuple[Live, ...]] | None = None

    @contextlib.contextmanager
    def say(self, what: Said, location: str) -> Iterator[None]:
        """Rules 1 and 2, for as long as the block runs."""
        token = secrets.token_hex(16)
        new, path = self._folder / f"new-{token}", self._folder / what / token
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, location.encode("utf-8", "surrogateescape"))
            new.rename(path)
            yield
        finally:
            for one in (new, path):
                one.unlink(missing_ok=True)
            os.close(descriptor)

    def said(self, what: Said) -> list[str]:
        """Locations that others, and this worker, say now. Raises `LimitExceeded`."""
        found = []
        names = os.listdir(self._folder / what)  # noqa: PTH208  # names alone are needed
        if len(names) > MAX_SAID:
            raise LimitExceeded(f"{len(names)} writes are going on", remedy="wait for them, or restart the server")
        for name in names:
            text = _while_locked(self._folder / what / name)
            if text is not None:
                found.append(text)
        return found

    def live(self) -> tuple[Live, ...]:
        """Rule 3. Raises `Unavailable` for a record that cannot be read: what is not known is not known to be free."""
        token = self._token()
        if self._seen is not None and self._seen[0] == token:
            return self._seen[1]
        found = tuple(_record(path) for path in sorted((self._folder / "live").glob("*.json")))
        self._seen = token, found
        return found

    def of(self, name: str, version: str) -> Live | None:
        """The record of one version."""
        path = self._path(name, version)
        found = _record(path) if path.exists() else None
        return found if found is not None and (found.name, found.version) == (name, version) else None

    def add(self, record: Live) -> None:
        """Rule 3; durable when it returns. Raises `LimitExceeded`."""
        if len(self.live()) >= MAX_LIVE:
            raise LimitExceeded(f"{MAX_LIVE} versions are live", remedy="delete versions that are no longer used")
        self._put(self._path(record.name, record.version), encode(record))
        self._turn()

    def drop(self, name: str, version: str | None = None) -> None:
        """A version, or every version of a model, is no more."""
        for one in self.live():
            if one.name == name and version in (None, one.version):
                self._path(one.name, one.version).unlink(missing_ok=True)
        self._turn()

    def _path(self, name: str, version: str) -> Path:
        return self._folder / "live" / f"{hashlib.sha256(f'{len(name)}:{name}/{version}'.encode()).hexdigest()}.json"

    def _token(self) -> str:
        try:
            return (self._folder / "token").read_text("ascii")
        except FileNotFoundError:
            return ""

    def _turn(self) -> None:
        self._put(self._folder / "token", secrets.token_hex(16).encode())

    def _put(self, path: Path, data: bytes) -> None:
        new = self._folder / f"new-{secrets.token_hex(16)}"
        with new.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)


def _own(path: Path) -> None:
    """Rule 4."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.lstat()
    except OSError as error:
        raise InvalidSettings(
            f"`{path}` cannot be made: {error.strerror}", remedy="name another folder in VOUCHGATE_MLFLOW_STATE"
        ) from None
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        raise InvalidSettings(
            f"`{path}` is not a folder of this user alone",
            remedy="make it the server's own: `chmod 700`, or name another in VOUCHGATE_MLFLOW_STATE",
        )


def _while_locked(path: Path) -> str | None:
    """What a file says, or None where nobody holds it any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, MAX_RECORD_BYTES).decode("utf-8", "surrogateescape")
    else:
        path.unlink(missing_ok=True)
        return None
    finally:
        os.close(descriptor)


def _record(path: Path) -> Live:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECORD_BYTES + 1)
        return decode(Live, data, what="record")
    except Exception as error:
        raise Unavailable(f"`{path}` cannot be read: {error}", remedy="put the folder back from a backup, or set the alias again") from None
