"""Installed Python distributions, from the bytes of their metadata alone; nothing of them is imported.

Rules
1. A RECORD (packaging.python.org, "Recording installed projects") lists every file with its hash. Only the RECORD itself, its signatures and
   compiled files may stand without one. A row that is malformed is a fault of the distribution, never skipped in silence.
2. METADATA gives name, version, licence and requirements (core metadata); what it says twice is taken from neither.
3. direct_url.json (PEP 610) gives where it came from. User, password and query are cut off its URL: secrets have no place in a document.
4. A requirement is an edge where its marker holds and something installed has its name; extras are followed as far as somebody asks for them.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import posixpath
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from vouchgate.evidence.strict_documents import parse
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.wire import Noun

MAX_METADATA_BYTES = 4 * 1024 * 1024
"""Bytes of METADATA: a long description has some 100 KiB."""
MAX_RECORD_BYTES = 64 * 1024 * 1024
"""Bytes of a RECORD; the largest real ones (torch, tensorflow) have 2 MiB."""
MAX_ROWS = 1_000_000
"""Files of one distribution."""
MAX_TEXT = 500
"""Characters kept of a text that a distribution says of itself."""
MAX_VERSION = 200
"""Characters of a version."""
MISSING = "the extra for bills of materials is not installed"
REMEDY = "pip install 'vouchgate[bom]'"
_ALGORITHMS = {"sha256": 32, "sha384": 48, "sha512": 64}
"""Bytes of a digest; weaker ones are not taken (binary distribution format, "sha256 or better")."""
_UNHASHED = re.compile(r"(?:^|/)[^/]+\.dist-info/RECORD(?:\.jws|\.p7s)?\Z|\.pyc\Z")
_PURL = re.compile(r"pkg:pypi/([^@?#/]+)(?:@([^?#@]+))?")
_SECRET = re.compile(r"(?<=://)[^/?#]*@|[?#].*", re.DOTALL)


class Row(Noun, frozen=True, kw_only=True):
    """One file of a RECORD."""

    path: str
    """As written: relative to the folder that holds the dist-info."""
    algorithm: str = ""
    digest: str = ""
    """Hexadecimal."""
    size: int = -1
    fault: str = ""
    """Why the row says nothing of its file."""


class Fault(Noun, frozen=True, kw_only=True):
    """A file that is not as its RECORD says."""

    path: str
    why: str


class Metadata(Noun, frozen=True, kw_only=True):
    """What METADATA says, as far as it is used here."""

    name: str
    version: str
    license: str = ""
    """SPDX expression; empty where there is none that parses."""
    license_text: str = ""
    """The older free text, shortened, where there is no expression."""
    summary: str = ""
    requires: tuple[str, ...] = ()


class Source(Noun, frozen=True, kw_only=True):
    """Where a distribution came from (PEP 610)."""

    url: str
    sha256: str = ""
    """Of the archive."""
    commit: str = ""
    editable: bool = False


class Distribution(Noun, frozen=True, kw_only=True):
    """One installed distribution, with what its RECORD says held against its files."""

    folder: str
    """Of its metadata, relative to the environment."""
    metadata: Metadata
    installer: str = ""
    tags: tuple[str, ...] = ()
    """Of the wheel that was installed (binary distribution format, WHEEL)."""
    source: Source | None = None
    record: str = ""
    """SHA-256 of the RECORD; empty where there is none."""
    files: int = 0
    hashed: int = 0
    """Files whose hash was computed again and is as recorded."""
    faults: tuple[Fault, ...] = ()
    rows: tuple[Row, ...] = ()
    """Of the RECORD, where that was asked for."""
    altered: int = 0
    """How many faults there are; `faults` holds the first of them."""

    @property
    def key(self) -> str:
        """The name as it is compared (PEP 503)."""
        return normalised(self.metadata.name)


class Environment(Noun, frozen=True, kw_only=True):
    """A Python environment, read by its path."""

    python: str
    """Version, as pyvenv.cfg says; empty where nothing says it."""
    distributions: tuple[Distribution, ...]
    unowned: tuple[str, ...] = ()
    """Files where packages lie that no RECORD lists; the first of them."""
    unowned_count: int = 0
    compiled: int = 0
    """Compiled files (`.pyc`), which no RECORD holds a hash of."""


def normalised(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def purl(name: str, version: str) -> str:
    """Package URL (purl specification, type `pypi`)."""
    return f"pkg:pypi/{normalised(name)}@{quoted(version)}"


def quoted(text: str) -> str:
    """All but unreserved characters in the percent form (RFC 3986, section 2)."""
    return "".join(
        one if one.isascii() and (one.isalnum() or one in "-._~") else "".join(f"%{b:02X}" for b in one.encode()) for one in text
    )


def pypi_of(text: str) -> tuple[str, str]:
    """Compared name, and version (empty where none is named), of a package URL; two empty texts for anything else, qualifiers included."""
    match = _PURL.fullmatch(text)
    return (normalised(_unquoted(match[1])), comparable(_unquoted(match[2] or ""))) if match else ("", "")


@lru_cache(maxsize=65_536)
def comparable(version: str) -> str:
    """The one spelling of a version (PEP 440, "Normalization"); what is none stands as it is. Raises `Unavailable` without the extra."""
    try:
        from packaging.version import InvalidVersion, Version
    except ImportError:
        raise Unavailable(MISSING, remedy=REMEDY) from None
    try:
        return str(Version(version)) if len(version) <= MAX_VERSION else version
    except InvalidVersion:
        return version


def _unquoted(text: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)


def read_record(data: bytes) -> tuple[Row, ...]:
    """Rule 1. Raises `InvalidInput` where it is no table at all."""
    try:
        lines = list(csv.reader(io.StringIO(_text(data, "RECORD", MAX_RECORD_BYTES), newline=""), strict=True))
    except csv.Error:
        raise InvalidInput("a RECORD is no table of comma-separated values", remedy="install the distribution again") from None
    if len(lines) > MAX_ROWS:
        raise InvalidInput(f"a RECORD lists more than {MAX_ROWS} files", remedy="install the distribution again")
    rows = [_row(line) for line in lines if line]
    seen: set[str] = set()
    for number, row in enumerate(rows):
        path = posixpath.normpath(row.path)
        if path in seen and not row.fault:
            rows[number] = Row(path=row.path, fault="it is listed twice")
        seen.add(path)
    return tuple(rows)


def _row(line: list[str]) -> Row:
    path = line[0]
    if len(line) != 3 or not path or "\0" in path or "\\" in path:
        return Row(path=path[:MAX_TEXT], fault="its row is not path, hash and size")
    algorithm, _, spelt = line[1].partition("=")
    if not line[1]:
        return Row(path=path) if _UNHASHED.search(path) else Row(path=path, fault="it is recorded without a hash")
    digest = _digest(algorithm, spelt)
    if not digest:
        return Row(path=path, fault=f"its hash `{line[1][:40]}` is none that counts")
    if not (line[2].isascii() and line[2].isdigit() and len(line[2]) < 20) and line[2]:
        return Row(path=path, fault="its size is no number")
    return Row(path=path, algorithm=algorithm, digest=digest, size=int(line[2]) if line[2] else -1)


def _digest(algorithm: str, spelt: str) -> str:
    """URL-safe base64 without padding (binary distribution format), as hexadecimal."""
    try:
        raw = base64.urlsafe_b64decode(spelt + "=" * (-len(spelt) % 4))
    except (binascii.Error, ValueError):
        return ""
    exact = base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == spelt
    return raw.hex() if exact and len(raw) == _ALGORITHMS.get(algorithm) else ""


def read_metadata(data: bytes) -> Metadata:
    """Rule 2. Raises `InvalidInput` for what names no distribution, `Unavailable` without the extra."""
    try:
        from packaging.metadata import parse_email
    except ImportError:
        raise Unavailable(MISSING, remedy=REMEDY) from None
    raw, _ = parse_email(_text(data, "METADATA", MAX_METADATA_BYTES))
    name, version = str(raw.get("name", "")), str(raw.get("version", ""))
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,198}[A-Za-z0-9])?", name) or not 0 < len(version) <= 100:
        raise InvalidInput("METADATA names no distribution and version", remedy="install the distribution again")
    said = raw.get("license_expression") or ""
    expression = spdx(said)
    return Metadata(
        name=name,
        version=version,
        license=expression,
        license_text="" if expression else _short(said or raw.get("license") or _classified(raw.get("classifiers", []))),
        summary=_short(raw.get("summary") or ""),
        requires=tuple(raw.get("requires_dist", [])),
    )


def spdx(text: str) -> str:
    """The SPDX expression as it is spelt in the list of licences; nothing where it is none."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(text)) if text.strip() and len(text) <= MAX_TEXT else ""
    except (InvalidLicenseExpression, RecursionError):
        return ""


def read_tags(data: bytes) -> tuple[str, ...]:
    """The `Tag` lines of WHEEL; nothing for what is no such file."""
    lines = data[: MAX_TEXT * 100].decode("utf-8", "replace").splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("tag:"))
    return tuple(sorted({tag for tag in found if re.fullmatch(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+", tag)}))


def read_source(data: bytes) -> Source:
    """Rule 3. Raises `InvalidInput`."""
    wire = parse(data, limit=MAX_METADATA_BYTES, what="direct_url.json")
    url, archive, vcs, folder = (wire.get(name) for name in ("url", "archive_info", "vcs_info", "dir_info"))
    if not isinstance(url, str):
        raise InvalidInput("direct_url.json has no URL", remedy="install the distribution again")
    return Source(
        url=_short(_SECRET.sub("", url)),
        sha256=_archive_hash(archive) if isinstance(archive, dict) else "",
        commit=_short(str(vcs.get("commit_id", ""))) if isinstance(vcs, dict) else "",
        editable=isinstance(folder, dict) and folder.get("editable") is True,
    )


def edges(distributions: Iterable[Distribution], python: str) -> dict[str, tuple[str, ...]]:
    """Rule 4: which metadata folders each metadata folder depends on. Raises `Unavailable` without the extra."""
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName

    by_key: dict[str, list[Distribution]] = {}
    for one in distributions:
        by_key.setdefault(one.key, []).append(one)
    parsed = {one.folder: _requirements(one) for many in by_key.values() for one in many}
    found: dict[str, set[str]] = {folder: set() for folder in parsed}
    waiting = [(one, "") for many in by_key.values() for one in many]
    done: set[tuple[str, str]] = set()
    while waiting:
        one, extra = waiting.pop()
        if (one.folder, extra) in done:
            continue
        done.add((one.folder, extra))
        environment = {"extra": extra} | (
            {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python} if python else {}
        )
        for requirement in parsed[one.folder]:
            try:
                wanted = requirement.marker is None or requirement.marker.evaluate(environment)
            except (UndefinedComparison, UndefinedEnvironmentName):
                wanted = True
            if wanted:
                there = by_key.get(normalised(requirement.name), [])
                found[one.folder] |= {other.folder for other in there}
                waiting += [(other, asked) for other in there for asked in requirement.extras]
    return {folder: tuple(sorted(others - {folder})) for folder, others in found.items()}


def _requirements(one: Distribution) -> list[Any]:
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for text in one.metadata.requires:
        try:
            found.append(Requirement(text))
        except InvalidRequirement:
            continue
    return found


def _archive_hash(archive: Mapping[str, Any]) -> str:
    """PEP 610, `archive_info`: `hashes`, or the older `hash`."""
    hashes = archive.get("hashes")
    found = hashes.get("sha256") if isinstance(hashes, dict) else None
    if found is None and isinstance(archive.get("hash"), str):
        algorithm, _, value = archive["hash"].partition("=")
        found = value if algorithm == "sha256" else None
    return found if isinstance(found, str) and re.fullmatch(r"[0-9a-f]{64}", found) else ""


def _classified(classifiers: Iterable[str]) -> str:
    return "; ".join(one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License :: "))


def _text(data: bytes, what: str, limit: int) -> str:
    if len(data) > limit:
        raise InvalidInput(f"a {what} has {len(data)} bytes, the bound is {limit}", remedy="install the distribution again")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"a {what} is no UTF-8", remedy="install the distribution again") from None


def _short(text: str) -> str:
    return " ".join(text.split())[:MAX_TEXT]
