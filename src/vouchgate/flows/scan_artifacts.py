"""Paths are scanned: what lies there is parted into artifacts, each is read in a process of its own, and told in the order of its path.

1. A file is an artifact. A folder that a format knows as one artifact is one, with everything below it; else each of its files is, and each
   of its folders is looked at by the same rule.
2. What is no readable file (links out of the folder, devices, unreadable files) is told as incomplete: by itself, or within its artifact.
3. A folder with nothing in it is incomplete: nothing was found is not the same as clean.
4. What an address was not asked for keeps its artifact from being clean, and is told.
5. Several artifacts are read at once; results come in order, and at most `WINDOW` for each reader wait for their turn.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from msgspec.structs import replace

from vouchgate.flows.walk import Found, Place, walk
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.scan import folder_format
from vouchgate.scanning.scope import shown
from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.scanning.verdict import MAX_REASONS, Reason, ScanReport, Verdict, unfinished
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import VouchgateError

WINDOW = 64
"""Results that wait behind a slow one, for each reader."""


Allowed = Mapping[str, tuple[Entry, ...]]
"""Names that somebody answers for, by the text of a digest (flows/allowances.py)."""


@dataclass(frozen=True)
class Remote:
    """How servers are asked for artifacts."""

    ca_file: str = ""
    """PEM file of the only authorities that count for the named server; empty: the system's."""
    private: bool = False
    """Whether the named server may lie in a private network."""
    s3_endpoint: str = ""
    """Of `s3://` addresses; empty: what the environment says, else AWS."""
    s3_region: str = ""
    s3_style: str = ""
    """`path` or `virtual`; empty: `path` for an endpoint of one's own."""
    fetched: Callable[[int, int], None] = lambda count, size: None
    """Told of each range: bytes that came, and bytes that its artifact has. Called in threads."""


@dataclass(frozen=True)
class Wanted:
    """How to scan."""

    jobs: int
    deep: bool = True
    allowed: Allowed = field(default_factory=dict)
    settings: ScanSettings = DEFAULTS
    explain: bool = False
    cache: str = ""
    """Folder of kept verdicts; empty for none."""
    trust_root: int = 0
    """Version of the TrustRoot that allowances were verified under; part of what a kept verdict rests on."""
    remote: Remote = Remote()


class Reader(Protocol):
    """The scanner's process (ports/scanner.py). Blocking; called in threads. Never raises for what an artifact does."""

    def scan_file(self, fd: int, *, name: str, settings: ScanSettings, deep: bool, allowed: Allowed) -> ScanReport: ...
    def scan_folder(self, files: Sequence[Any], *, name: str, settings: ScanSettings, deep: bool, allowed: Allowed) -> ScanReport: ...


@dataclass(frozen=True)
class Artifact:
    """One thing to scan: a file, or the files of a folder by their names inside it."""

    place: Place
    path: str
    """As the user would write it."""
    inside: bytes
    """Of the file or folder, relative to the place."""
    files: tuple[Found, ...]
    folder: bool = False

    @property
    def size(self) -> int:
        """Bytes of all its files, as they were found."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Scanned:
    """One artifact's result."""

    path: str
    report: ScanReport


@dataclass
class _Node:
    """A folder of the tree."""

    files: dict[bytes, Found] = field(default_factory=dict)
    folders: dict[bytes, _Node] = field(default_factory=dict)

    def all(self, above: bytes = b"") -> Iterator[tuple[bytes, Found]]:
        """Every file below it, by its path from here."""
        waiting = [(above, self)]
        while waiting:
            here, node = waiting.pop()
            yield from ((here + name, file) for name, file in node.files.items())
            waiting += [(here + name + b"/", below) for name, below in node.folders.items()]


def artifacts(place: Place) -> list[Artifact]:
    """Rules 1 and 3, in the order of the paths' bytes. Raises what listing raises."""
    if not place.is_folder:
        return [Artifact(place, place.path, b"", tuple(walk(place)))]
    root = _tree(walk(place))
    found: list[Artifact] = []
    waiting = [(b"", root)]
    while waiting:
        inside, node = waiting.pop()
        files = tuple(sorted(node.all(), key=lambda one: one[0]))
        if _is_one(files) or (not files and not inside):
            found.append(Artifact(place, _join(place, inside[:-1]), inside, tuple(file for _, file in files), folder=True))
            continue
        found += [Artifact(place, _join(place, inside + name), inside + name, (file,)) for name, file in node.files.items()]
        waiting += [(inside + name + b"/", below) for name, below in node.folders.items()]
    return sorted(found, key=lambda one: one.inside)


def _tree(entries: Iterable[Found]) -> _Node:
    root = _Node()
    for entry in entries:
        *folders, last = entry.name.split(b"/")
        node = root
        for folder in folders:
            node = node.folders.setdefault(folder, _Node())
        node.files[last] = entry
    return root


def _is_one(files: Sequence[tuple[bytes, Found]]) -> bool:
    names = frozenset(os.fsdecode(name) for name, _ in files)
    return bool(names) and folder_format(names)[0] is not None


def _join(place: Place, inside: bytes) -> str:
    return f"{place.path}{'' if place.path.endswith('/') else '/'}{os.fsdecode(inside)}" if inside else place.path


def scan_artifact(
    artifact: Artifact,
    reader: Reader,
    folder_file: Callable[[bytes, Callable[[], int]], Any],
    *,
    settings: ScanSettings = DEFAULTS,
    deep: bool = True,
    allowed: Allowed = MappingProxyType({}),
) -> Scanned:
    """One artifact's result. Never raises for what the artifact or its files do."""
    if artifact.folder:
        return Scanned(artifact.path, _folder(artifact, reader, folder_file, settings, deep=deep, allowed=allowed))
    (file,) = artifact.files
    if file.trouble:
        return Scanned(artifact.path, _untold(artifact.path, file.trouble))
    try:
        descriptor = artifact.place.open(artifact.inside)
    except (OSError, VouchgateError) as error:
        return Scanned(artifact.path, _untold(artifact.path, _why(error)))
    try:
        report = reader.scan_file(descriptor, name=_last(artifact.path), settings=settings, deep=deep, allowed=allowed)
        return Scanned(artifact.path, _lacking(report, artifact.place.missing(artifact.inside), deep=deep))
    finally:
        os.close(descriptor)


def _folder(
    artifact: Artifact, reader: Reader, folder_file: Callable[..., Any], settings: ScanSettings, *, deep: bool, allowed: Allowed
) -> ScanReport:
    place, inside = artifact.place, artifact.inside
    good = [file for file in artifact.files if not file.trouble]
    if not good:
        why = artifact.files[0].trouble if artifact.files else "there is nothing in it"
        return _untold(artifact.path, why)
    files = [folder_file(file.name[len(inside) :], lambda name=file.name: place.open(name)) for file in good]
    report = reader.scan_folder(files, name=_last(artifact.path), settings=settings, deep=deep, allowed=allowed)
    report = _lacking(report, sum(place.missing(file.name) for file in good), deep=deep)
    troubles = [_trouble(shown(os.fsdecode(file.name[len(inside) :])), file.trouble) for file in artifact.files if file.trouble]
    return replace(report, verdict=_with(report.verdict, troubles)) if troubles else report


def _with(verdict: Verdict, reasons: Sequence[Reason]) -> Verdict:
    """Rule 2: what could not be read keeps a folder from being clean, and from being fit for a mere look."""
    outcome = verdict.outcome if verdict.outcome == "refused" else "incomplete"
    return replace(verdict, outcome=outcome, reasons=(*verdict.reasons, *reasons)[:MAX_REASONS])


def _lacking(report: ScanReport, missing: int, *, deep: bool) -> ScanReport:
    """Rule 4."""
    if not missing:
        return report
    why = f"{missing} of its bytes were not fetched: they are plain numbers if its structure is what it says"
    reason = Reason(
        rule="scan:not-fetched", where="whole artifact", why=why, remedy="scan it without `--structure`" if not deep else "scan it again",
        weight="incomplete",
    )  # fmt: skip
    return replace(report, verdict=_with(report.verdict, [reason]))


def _trouble(member: str, why: str) -> Reason:
    remedy = "replace it by the file itself, or scan the folder in which all of it lies"
    return Reason(rule="scan:unreadable", where="whole file", member=member, why=why, remedy=remedy, weight="incomplete")


def _untold(path: str, why: str) -> ScanReport:
    verdict = unfinished(_last(path), 0, why, "")
    return ScanReport(verdict=replace(verdict, reasons=(_trouble("", why),)), digest=Digest(value="0" * 64))


def _why(error: Exception) -> str:
    return (
        error.reason if isinstance(error, VouchgateError) else f"it cannot be read ({error.strerror})" if isinstance(error, OSError) else ""
    )


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2].encode("utf-8", "replace").decode()


def scan_all(found: Iterable[Artifact], scan: Callable[[Artifact], Scanned], *, jobs: int) -> Iterator[Scanned]:
    """Rule 5."""
    waiting: deque[Future[Scanned]] = deque()
    with ThreadPoolExecutor(jobs, thread_name_prefix="scan") as pool:
        try:
            for artifact in found:
                waiting.append(pool.submit(scan, artifact))
                if len(waiting) >= WINDOW * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
