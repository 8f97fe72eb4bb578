"""Wheels: archives of Python packages as they were built, and whether what is installed is what one of them holds.

Rules
1. A wheel's name says which release it is (binary distribution format, "File name convention"); its METADATA must say the same.
2. Every file of a wheel stands in its RECORD with its hash, and the other way round; only the RECORD and its signatures stand without one.
3. A distribution is a wheel's where release and tags are the same, every file of the wheel is installed with the wheel's own hash, and nothing is
   installed beside them but what installers add (INSTALLER, REQUESTED, direct_url.json, uv's notes, compiled files of sources that the wheel has, scripts).
4. Scripts and data files go elsewhere and scripts are rewritten (`.data`, "Installing a wheel"): they are counted, not compared.
Left to others: reading archives (flows/describe_wheels.py), and who published one (pep740.py).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from vouchgate.evidence.bom.python import MISSING, REMEDY, Row, comparable, normalised, purl, quoted
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.wire import Noun

_ADDED = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "RECORD", "uv_cache.json", "uv_build.json"})
"""What installers write beside a wheel's own metadata (recording installed projects; PEP 610; PEP 376; uv's notes)."""
_SIGNATURES = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s"})
_PLACED = ("purelib", "platlib")
"""Parts of `.data` that go where packages lie."""


class Beside(Noun, frozen=True, kw_only=True):
    """A file that lies beside a wheel and says something of it."""

    name: str
    sha256: str


class Wheel(Noun, frozen=True, kw_only=True):
    """One archive."""

    file: str
    """Its name."""
    size: int
    sha256: str
    name: str = ""
    """Of the package; empty where the file's name says none."""
    version: str = ""
    tags: tuple[str, ...] = ()
    """Of its WHEEL file."""
    folder: str = ""
    """Of its metadata."""
    files: dict[str, str] = {}
    """Path -> SHA-256 or longer, as hexadecimal, by its own RECORD."""
    fault: str = ""
    """Why its contents are not those of a wheel."""
    beside: tuple[Beside, ...] = ()
    """Attestations (PEP 740) that lie beside it; none is verified here."""

    @property
    def release(self) -> tuple[str, str]:
        """Name and version as they are compared."""
        return normalised(self.name), comparable(self.version)

    @property
    def purl(self) -> str:
        """Package URL with the file's name (purl specification, type `pypi`)."""
        return f"{purl(self.name, self.version)}?file_name={quoted(self.file)}"


class Held(Noun, frozen=True, kw_only=True):
    """What an installed distribution is to a wheel."""

    wheel: Wheel
    fault: str = ""
    """How it is not what the wheel holds."""
    relocated: int = 0
    """Rule 4: files of the wheel that were not compared."""
    added: tuple[str, ...] = ()
    """Scripts that the installer wrote."""


def named(file: str) -> tuple[str, str]:
    """Name and version by the file's name; two empty texts where it is no wheel's. Raises `Unavailable` without the extra."""
    try:
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    except ImportError:
        raise Unavailable(MISSING, remedy=REMEDY) from None
    try:
        name, version, _, _ = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return "", ""
    return str(name), str(version)


def contents_fault(files: Mapping[str, str], rows: Iterable[Row], folder: str) -> str:
    """Rule 2: how a wheel's members (path -> digest, by the algorithm of its row) are not as its RECORD says; nothing where they are."""
    recorded = {row.path: row for row in rows}
    for row in recorded.values():
        if row.fault:
            return f"`{row.path[:200]}`: {row.fault}"
        if row.path not in files:
            return f"`{row.path[:200]}` is recorded and not in it"
    for path, digest in files.items():
        if posixpath.dirname(path) == folder and posixpath.basename(path) in _SIGNATURES:
            continue
        if path not in recorded or not recorded[path].digest:
            return f"`{path[:200]}` is in it without a recorded hash"
        if recorded[path].digest != digest:
            return f"`{path[:200]}` is not as recorded"
    return ""


def held(wheels: Iterable[Wheel], release: tuple[str, str], tags: tuple[str, ...], rows: Iterable[Row], folder: str) -> Held | None:
    """Rule 3 for one installed distribution, whose metadata lies in `folder`; None where no wheel is of its release and tags."""
    mine = [one for one in wheels if one.name and one.release == release and one.tags == tags]
    rows = tuple(rows)
    found = [_held(one, rows, posixpath.basename(folder)) for one in mine]
    return next((one for one in found if not one.fault), found[0] if found else None)


def _held(wheel: Wheel, rows: tuple[Row, ...], folder: str) -> Held:
    if wheel.fault:
        return Held(wheel=wheel, fault=f"the wheel: {wheel.fault}")
    wanted, elsewhere, twice = _installed(wheel)
    if twice:
        return Held(wheel=wheel, fault=f"`{twice[:200]}` stands twice in the wheel")
    here = {posixpath.normpath(row.path): row for row in rows}
    for path, digest in wanted.items():
        if path not in here:
            return Held(wheel=wheel, fault=f"`{path[:200]}` of the wheel is not installed")
        if here[path].digest != digest:
            return Held(wheel=wheel, fault=f"`{path[:200]}` is not the wheel's")
    added = []
    for path in sorted(here.keys() - wanted.keys()):
        if path.startswith("../") and _placed(path, elsewhere):
            added.append(path)
        elif not _expected(path, folder, wanted):
            return Held(wheel=wheel, fault=f"`{path[:200]}` is installed and not in the wheel")
    return Held(wheel=wheel, relocated=len(elsewhere), added=tuple(added[:100]))


def _installed(wheel: Wheel) -> tuple[dict[str, str], set[str], str]:
    """Where the wheel's files go (rule 4), what goes elsewhere, relative to its place there, and a place where two of them go."""
    data = wheel.folder.removesuffix(".dist-info") + ".data/"
    found: dict[str, str] = {}
    elsewhere: set[str] = set()
    twice = ""
    for path, digest in wheel.files.items():
        if posixpath.dirname(path) == wheel.folder and posixpath.basename(path) in _SIGNATURES:
            continue
        kind, _, rest = path.removeprefix(data).partition("/") if path.startswith(data) else (_PLACED[0], "", path)
        if kind in _PLACED:
            place = posixpath.normpath(rest)
            twice = place if place in found else twice
            found[place] = digest
        else:
            elsewhere.add(rest)
    return found, elsewhere, twice


def _placed(path: str, elsewhere: set[str]) -> bool:
    """Whether a file above the packages is a script, or ends as one of the wheel's data files does."""
    steps = [step for step in path.split("/") if step != ".."]
    return steps[:-1] in (["bin"], ["Scripts"]) or any("/".join(steps[at:]) in elsewhere for at in range(len(steps)))


def _expected(path: str, folder: str, wanted: Mapping[str, str]) -> bool:
    """Whether an installer wrote it: its own notes, or the compiled form (PEP 3147) of a source that the wheel has."""
    above, name = posixpath.split(path)
    if above == folder:
        return name in _ADDED
    source = posixpath.join(posixpath.dirname(above), name.split(".")[0] + ".py")
    return posixpath.basename(above) == "__pycache__" and name.endswith(".pyc") and source in wanted
