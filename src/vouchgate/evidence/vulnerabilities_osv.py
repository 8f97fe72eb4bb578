"""OSV records (ossf.github.io/osv-schema), held against Python packages offline.

Rules
1. A record that was withdrawn says nothing. Members that are not used are ignored: the schema grows.
2. A package is the ecosystem `PyPI` and the normalised name, or its package URL.
3. A version is affected where it is listed, or lies in a range of the type ECOSYSTEM or SEMVER ("Evaluation"), compared by PEP 440. A local part
   (`2.0+cu118`) is left out of the comparison: what is built from 2.0 has the faults of 2.0.
4. Ranges of commits cannot be compared. Where nothing else is said, or a version is none of PEP 440, it cannot be told: affected, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec

from vouchgate.evidence.bom.python import MISSING, REMEDY, normalised, pypi_of
from vouchgate.evidence.vulnerabilities import Hit, Package
from vouchgate.vocabulary.errors import InvalidInput, Unavailable

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Bytes of one record; those with long lists of versions have some 100 KiB."""
MAX_EVENTS = 100_000
"""Events of one range."""
ECOSYSTEM = "PyPI"
_ORDER = {"fixed": 0, "introduced": 1, "last_affected": 2}
"""Of events on one version: a fault that comes back there stands, one that is introduced and last there is of that version."""


class _Package(msgspec.Struct):
    ecosystem: str = ""
    name: str = ""
    purl: str = ""


class _Range(msgspec.Struct):
    type: Literal["ECOSYSTEM", "SEMVER", "GIT"]
    events: list[dict[str, str]] = []


class _Affected(msgspec.Struct):
    package: _Package | None = None
    ranges: list[_Range] = []
    versions: list[str] = []


class Record(msgspec.Struct):
    """What is used of a record."""

    id: str
    modified: str
    aliases: list[str] = []
    withdrawn: str | None = None
    summary: str = ""
    affected: list[_Affected] = []
    database_specific: dict[str, Any] | None = None
    """Of one who published it; GitHub's has a word for the severity."""


_decoder = msgspec.json.Decoder(Record)


def read_record(data: bytes) -> Record:
    """One record. Raises `InvalidInput`."""
    if len(data) > MAX_RECORD_BYTES:
        raise InvalidInput(f"a record has {len(data)} bytes, the bound is {MAX_RECORD_BYTES}", remedy="fetch the records again")
    try:
        record = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"it is no OSV record: {error}", remedy="fetch the records again") from None
    if any(len(span.events) > MAX_EVENTS for one in record.affected for span in one.ranges):
        raise InvalidInput(f"a range has more than {MAX_EVENTS} events", remedy="fetch the records again")
    return record


def hits(record: Record, packages: Mapping[str, Iterable[Package]]) -> Iterator[Hit]:
    """What a record says of the packages, by their normalised name. Raises `Unavailable` without the extra."""
    if record.withdrawn:  # 1
        return
    told: set[tuple[str, str]] = set()
    for one in record.affected:
        name = _name(one.package)
        for package in packages.get(name, ()) if name else ():
            found, untold, fixed = _affects(one, package.version)
            if found and (name, package.version) not in told:
                told.add((name, package.version))
                yield Hit(
                    package=package,
                    id=record.id[:100],
                    aliases=tuple(alias[:100] for alias in record.aliases[:100]),
                    summary=" ".join(record.summary.split())[:200],
                    severity=str((record.database_specific or {}).get("severity", ""))[:20],
                    fixed=tuple(fixed),
                    untold=untold,
                )


def _name(package: _Package | None) -> str:
    """Rule 2."""
    if package is None:
        return ""
    if package.ecosystem == ECOSYSTEM or package.ecosystem.startswith(ECOSYSTEM + ":"):
        return normalised(package.name)
    return pypi_of(package.purl)[0]


def _affects(one: _Affected, text: str) -> tuple[bool, str, list[str]]:
    """Rules 3 and 4: whether, why that cannot be told, and in which versions it is mended."""
    version = _version(text)
    spans = [span for span in one.ranges if span.type != "GIT"]
    if version is None:
        return True, f"its version `{text[:40]}` is none of PEP 440", []
    if any(_same(listed, version, text) for listed in one.versions):
        return True, "", _mended(spans, version)
    if not spans and not one.versions:
        return True, "the record names no versions that can be compared", []
    for span in spans:
        inside = _inside(span, version)
        if inside is None:
            return True, "the record names versions that are none of PEP 440", []
        if inside:
            return True, "", _mended(spans, version)
    return False, "", []


def _inside(span: _Range, version: Any) -> bool | None:
    """OSV schema, "Evaluation"; None where it cannot be told."""
    points, limits = [], []
    for event in span.events:
        for kind, text in event.items():
            at = None if kind == "introduced" and text == "0" else _version(text)
            if kind == "limit":
                if text != "*" and at is None:
                    return None
                limits.append(at)
            elif kind in _ORDER:
                if at is None and text != "0":
                    return None
                points.append((at is not None, at, _ORDER[kind], kind))
    points.sort(key=lambda point: (point[0], point[1] if point[0] else 0, point[2]))
    inside = False
    for real, at, _, kind in points:
        if kind == "introduced" and (not real or version >= at):
            inside = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside and (not limits or any(at is None or version < at for at in limits))


def _mended(spans: Iterable[_Range], version: Any) -> list[str]:
    """The next version of each range in which it is mended."""
    found = []
    for span in spans:
        later = [(at, event["fixed"]) for event in span.events if "fixed" in event and (at := _version(event["fixed"])) and at > version]
        found += [min(later)[1]] if later else []
    return list(dict.fromkeys(found))


def _same(listed: str, version: Any, text: str) -> bool:
    return listed == text or _version(listed) == version


@lru_cache(maxsize=65_536)
def _version(text: str) -> Any:
    """Without its local part (rule 3); None where it is no version."""
    try:
        from packaging.version import InvalidVersion, Version
    except ImportError:
        raise Unavailable(MISSING, remedy=REMEDY) from None
    try:
        return Version(Version(text).public) if len(text) <= 200 else None
    except InvalidVersion:
        return None
