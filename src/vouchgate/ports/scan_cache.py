"""Verdicts that were found before, in a folder of this user's alone.

Rules
1. The folder is this uid's and closed to everybody else (0700); a link, another owner or an opener mode is refused, and nothing is mended.
   It is held by one descriptor, and every entry is reached through that.
2. An entry is named by SHA-256 over everything that its verdict rests on: the content, the scanner's version and its very code, the knowledge
   base with what is allowed for the content, the settings, the TrustRoot's version. It holds all of that again, and counts only where it is
   what is asked, and where its report says the same.
3. An entry is a regular file of this uid with one name, closed to others, of at most `MAX_ENTRY_BYTES`, behind its own checksum. Anything else
   in its place is no entry: the artifact is scanned, and the entry is written anew.
4. An entry is written under a random name and then renamed: two that write at once leave one of theirs. Who is killed leaves at most that
   file, which the next one takes away. Nothing is forced to the disk: an entry that is lost is found again by scanning.
5. What was not read to the end is not kept.
Entries are not authenticated: whoever is this uid can write them, and could as well replace the scanner. A folder that others fill
(a shared cache of a build service) is none for this.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.resources.abc import Traversable

from msgspec.structs import replace

import vouchgate
from vouchgate.scanning.jobs import MAX_REPORT_BYTES, Job, Question
from vouchgate.scanning.verdict import ScanReport
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun, decode, encode

MAX_ENTRY_BYTES = MAX_REPORT_BYTES + 65_536
"""Bytes of an entry: a report, and what it rests on."""
MAX_ENTRIES = 100_000
"""Entries kept; a small report has about 1 KiB."""
KEPT_ENTRIES = 90_000
"""Of too many, the youngest that stay."""
ABANDONED_SECONDS = 3_600.0
"""A file with a random name that is older than this is nobody's any more."""
_NEW = ".new-"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHECKSUM = 65


class Ground(Noun, frozen=True, kw_only=True):
    """Everything that a verdict rests on (rule 2)."""

    question: Question
    folder: bool
    explain: bool
    version: str
    code: str
    """SHA-256 over the scanner's source."""
    trust_root: int
    """0 where none was named."""


class Kept(Noun, frozen=True, kw_only=True):
    """An entry."""

    ground: Ground
    report: ScanReport


class ScanCache:
    """One folder. Safe to share between threads and processes."""

    def __init__(self, folder: str, *, now: UnixMillis, trust_root: int = 0) -> None:
        """Makes the folder where there is none. Raises `InvalidInput`, `NotPermitted`."""
        self._trust_root = trust_root
        with suppress(FileExistsError):
            _make(folder)
        try:
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidInput(f"`{folder}` cannot be opened as a folder: {error.strerror}", remedy="name a folder of your own") from None
        facts = os.fstat(self._folder)
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            self.close()
            raise NotPermitted(
                f"`{folder}` is open to others, who could put verdicts into it", remedy="name a folder of your own, or chmod it to 700"
            )
        self._tidy(now)

    def close(self) -> None:
        """Let go of the folder."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def ground(self, job: Job, question: Question) -> Ground:
        """What the verdict that is asked for would rest on."""
        return Ground(
            question=question,
            folder=job.folder,
            explain=job.explain,
            version=vouchgate.__version__,
            code=code_digest(),
            trust_root=self._trust_root,
        )

    def find(self, ground: Ground) -> ScanReport | None:
        """What was found on this ground before. Never raises."""
        try:
            data = self._read(_name(ground))
            if data[:_CHECKSUM] != _checksum(data[_CHECKSUM:]):
                return None
            kept = decode(Kept, data[_CHECKSUM:], what="kept verdict")
        except (OSError, InvalidInput):
            return None
        return kept.report if kept.ground == ground and _answers(kept.report, ground.question) else None

    def keep(self, ground: Ground, report: ScanReport) -> None:
        """Rules 4 and 5. Never raises: a cache that cannot be written to is one that is not there."""
        if not _answers(report, ground.question):
            return
        body = encode(Kept(ground=ground, report=report))
        data, new = _checksum(body) + body, f"{_NEW}{secrets.token_hex(8)}"
        if len(data) > MAX_ENTRY_BYTES:
            return
        with suppress(OSError):
            descriptor = os.open(new, _WRITE, 0o600, dir_fd=self._folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                os.rename(new, _name(ground), src_dir_fd=self._folder, dst_dir_fd=self._folder)
            except OSError:
                os.unlink(new, dir_fd=self._folder)

    def _read(self, name: str) -> bytes:
        """Rule 3. Raises `OSError`; what is no entry is empty."""
        descriptor = os.open(name, _READ, dir_fd=self._folder)
        try:
            facts = os.fstat(descriptor)
            own = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and facts.st_nlink == 1 and not facts.st_mode & 0o077
            if not own or facts.st_size > MAX_ENTRY_BYTES:
                return b""
            with os.fdopen(os.dup(descriptor), "rb") as file:
                return file.read(MAX_ENTRY_BYTES + 1)
        finally:
            os.close(descriptor)

    def _tidy(self, now: UnixMillis) -> None:
        """Take away what was abandoned, and the oldest of too many."""
        abandoned = now / 1000 - ABANDONED_SECONDS
        with suppress(OSError), os.scandir(self._folder) as listing:
            entries = [(one.stat(follow_symlinks=False).st_mtime, one.name) for one in listing]
            gone = [name for at, name in entries if name.startswith(_NEW) and at < abandoned]
            if len(entries) > MAX_ENTRIES:
                gone += [name for _, name in sorted(entries)[:-KEPT_ENTRIES]]
            for name in gone:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._folder)


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102 - one folder, no parents, and the mode as it stands
    except FileExistsError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no name of a folder"
        raise InvalidInput(f"`{folder}` cannot be made: {why}", remedy="name a folder of your own, whose parent is there") from None


def _answers(report: ScanReport, question: Question) -> bool:
    """Whether a report is about what was asked, read to the end, and no more than its own words allow."""
    verdict, size = report.verdict, question.digest.size
    same = (verdict.scanner_version, verdict.knowledge_digest, verdict.settings_digest) == (
        question.scanner,
        question.knowledge,
        question.settings,
    )
    if report.digest != question.digest or not same or verdict.outcome == "incomplete" or verdict.size != size:
        return False
    if verdict.outcome == "clean":
        return not verdict.reasons and verdict.covered == size
    return bool(verdict.reasons)


def _name(ground: Ground) -> str:
    return hashlib.sha256(b"vouchgate/kept-verdict/v1\0" + encode(ground)).hexdigest()


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n"


@cache
def code_digest() -> str:
    """SHA-256 over every source file of the scanner, so that a changed rule never meets an old verdict."""
    digest = hashlib.sha256()
    for path, content in sorted(_sources(importlib.resources.files("vouchgate.scanning"), "scanning/")):
        digest.update(path.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _sources(folder: Traversable, above: str) -> Iterator[tuple[str, bytes]]:
    for one in folder.iterdir():
        if one.is_dir():
            yield from _sources(one, f"{above}{one.name}/")
        elif one.name.endswith(".py"):
            yield above + one.name, one.read_bytes()


def renamed(report: ScanReport, name: str) -> ScanReport:
    """A kept report under the name that is shown now."""
    return replace(report, verdict=replace(report.verdict, name=name))
