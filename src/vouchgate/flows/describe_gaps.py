"""What a bill of materials leaves open is looked up in folders on this machine: attestations, lock files, records about vulnerabilities, statements.

Steps
1. Lock files say which archives were bound, and may say who publishes a package.
2. Every attestation in the folder is verified offline under the pinned root. It is taken for the archive that its file name and its own statement
   name; one that does not hold counts for nothing, and is told.
3. Every record is held against every package; a record that cannot be read could be the one that matters, and is told.
4. Statements about exploitability close findings; then the whole is answered.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from vouchgate.evidence.bom.gaps import Answer, Attested, Looked, Provenance, answer, candidates, gap
from vouchgate.evidence.bom.locks import Locked, read_lock
from vouchgate.evidence.bom.python import comparable, normalised
from vouchgate.evidence.bom.read import Component, ReadBom
from vouchgate.evidence.pep740 import MAX_ATTESTATION_BYTES, Publisher
from vouchgate.evidence.statement import MAX_TIME
from vouchgate.evidence.vulnerabilities import Finding, Hit, Package, Statement, findings
from vouchgate.evidence.vulnerabilities_osv import MAX_RECORD_BYTES, hits, read_record
from vouchgate.evidence.vulnerabilities_vex import MAX_DOCUMENT_BYTES, read_statements, time_of
from vouchgate.flows.walk import Found, Place, os_text, sound
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis

DAY_MS = 24 * 60 * 60 * 1000
MAX_TOLD = 50
"""Faults of files that are told."""
_SINGLE = (".publish.attestation", ".slsa.attestation", ".attestation")
_SEVERAL = (".provenance.json", ".provenance")
"""How the files of an index's tools are named, behind the name of the archive."""

Verify = Callable[[bytes, str, Digest], Publisher]
"""evidence/pep740.py under a pinned root, now."""


@dataclass(frozen=True)
class Asked:
    """What to look into; None is what nobody named."""

    locks: tuple[bytes, ...] = ()
    pins: tuple[tuple[str, dict[str, str]], ...] = ()
    """(normalised name of a package, who publishes it)."""
    attestations: Place | None = None
    verify: Verify | None = None
    osv: Place | None = None
    vex: Place | None = None
    demand: Provenance = "recorded"
    signed: bool = False


def look_up(bom: ReadBom, path: str, asked: Asked, now: UnixMillis) -> Answer:
    """Steps 1 to 4. Raises `InvalidInput`, `NotFound`, `Unavailable`."""
    if bom.faults:
        return answer(bom, path, (), (), None, signed=asked.signed, demand=asked.demand)
    notes: list[str] = []
    locked = _locked(asked.locks, notes)
    attested = _attested(bom, asked, locked, notes)
    gaps = tuple(
        gap(one, locked.get(one.pypi, ()), attested.get(one.pypi, ()), [pin for name, pin in asked.pins if name == one.pypi[0]])
        for one in bom.packages
    )
    found, looked = _vulnerable(bom, asked, now)
    return answer(bom, path, gaps, found, looked, signed=asked.signed, demand=asked.demand, notes=notes[:MAX_TOLD])


def _locked(locks: Iterable[bytes], notes: list[str]) -> dict[tuple[str, str], tuple[Locked, ...]]:
    """Step 1, by name and version."""
    found: dict[tuple[str, str], tuple[Locked, ...]] = {}
    for data in locks:
        packages, unlocked = read_lock(data)
        notes += unlocked
        for one in packages:
            key = one.name, one.version
            found[key] = (*found.get(key, ()), one)
    return found


def _attested(
    bom: ReadBom, asked: Asked, locked: dict[tuple[str, str], tuple[Locked, ...]], notes: list[str]
) -> dict[tuple[str, str], list[Attested]]:
    """Step 2, by name and version."""
    found: dict[tuple[str, str], list[Attested]] = {}
    if asked.attestations is None or asked.verify is None:
        return found
    packages: dict[tuple[str, str], list[Component]] = {}
    for one in bom.packages:
        packages.setdefault(one.pypi, []).append(one)
    for filename, data in _each(asked.attestations, notes):
        key = _release(filename)
        known = {digest for one in packages.get(key, ()) for _, digest in candidates(one, locked.get(key, ()))}
        digest = _subject(data)
        if digest not in known:
            continue
        try:
            publisher = asked.verify(data, filename, Digest(value=digest))
        except VouchgateError as error:
            notes.append(f"an attestation of {filename[:100]} does not hold: {error.reason}")
            continue
        signer = Attested(
            filename=filename, sha256=digest, identity=publisher.identity, issuer=publisher.issuer, repository=publisher.repository
        )
        found.setdefault(key, []).append(signer)
    return found


def _each(place: Place, notes: list[str]) -> Iterator[tuple[str, bytes]]:
    """(name of the archive, one attestation)."""
    for entry in _files(place):
        name = os_text(entry.name).rpartition("/")[2]
        single = next((suffix for suffix in _SINGLE if name.endswith(suffix)), "")
        several = next((suffix for suffix in _SEVERAL if name.endswith(suffix)), "")
        if not (single or several):
            continue
        try:
            data = _content(place, entry, MAX_ATTESTATION_BYTES)
            for one in [data] if single else _bundled(data):
                yield name.removesuffix(single or several), one
        except (InvalidInput, OSError) as error:
            notes.append(f"{name[:100]} cannot be read: {getattr(error, 'reason', error)}")


def _bundled(data: bytes) -> list[bytes]:
    """The attestations of a provenance object (PEP 740, "Provenance objects"), each written again as it stands."""
    try:
        wire = json.loads(data)
        return [json.dumps(one).encode() for bundle in wire["attestation_bundles"] for one in bundle["attestations"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput("it is no provenance object", remedy="fetch it from the index again") from None


def _release(filename: str) -> tuple[str, str]:
    """Compared name and version of an archive."""
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    try:
        name, version = parse_wheel_filename(filename)[:2] if filename.endswith(".whl") else parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return "", ""
    return normalised(name), comparable(str(version))


def _subject(data: bytes) -> str:
    """Which archive an attestation says it is of; nothing is believed of it before it was verified for that archive."""
    try:
        statement = json.loads(base64.b64decode(json.loads(data)["envelope"]["statement"]))
        digest = statement["subject"][0]["digest"]["sha256"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, binascii.Error):
        return ""
    return digest if isinstance(digest, str) else ""


def _vulnerable(bom: ReadBom, asked: Asked, now: UnixMillis) -> tuple[tuple[Finding, ...], Looked | None]:
    """Steps 3 and 4."""
    if asked.osv is None:
        return (), None
    packages: dict[str, list[Package]] = {}
    for name, version in sorted({one.pypi for one in bom.packages}):
        packages.setdefault(name, []).append(Package(name=name, version=version))
    found: list[Hit] = []
    unreadable: list[str] = []
    count, newest = 0, ""
    for entry in _files(asked.osv):
        if not entry.name.endswith(b".json"):
            continue
        count += 1
        try:
            record = read_record(_content(asked.osv, entry, MAX_RECORD_BYTES))
        except (InvalidInput, OSError) as error:
            unreadable.append(f"{os_text(entry.name)[:100]}: {getattr(error, 'reason', error)}")
            continue
        found += hits(record, packages)
        newest = max(newest, record.modified[:40]) if (time_of(record.modified) or MAX_TIME) * 1000 <= now else newest
    if not count:
        raise InvalidInput(f"`{asked.osv.path}` holds no record", remedy="name a folder of OSV records (one JSON file each)")
    statements, notes = _statements(bom, asked.vex, now)
    at = time_of(newest)
    age = int((now - at * 1000) // DAY_MS) if at is not None else MAX_TIME // DAY_MS
    looked = Looked(records=count, newest=newest, age_days=age, unreadable=tuple(unreadable[:MAX_TOLD]), notes=tuple(notes[:MAX_TOLD]))
    return findings(found, statements), looked


def _statements(bom: ReadBom, place: Place | None, now: UnixMillis) -> tuple[list[Statement], list[str]]:
    found: list[Statement] = []
    notes: list[str] = []
    model = [bom.serial, *(bom.subject.sha256 if bom.subject else ())]
    for entry in _files(place) if place is not None else ():
        if not entry.name.endswith(b".json"):
            continue
        assert place is not None
        try:
            statements, faults = read_statements(_content(place, entry, MAX_DOCUMENT_BYTES), model, now)
        except (InvalidInput, OSError) as error:
            notes.append(f"{os_text(entry.name)[:100]} counts for nothing: {getattr(error, 'reason', error)}")
            continue
        found += statements
        notes += faults
    return found, notes


def _files(place: Place) -> Iterator[Found]:
    yield from sound(place, links=True, remedy="name a folder of plain files")


def _content(place: Place, entry: Found, limit: int) -> bytes:
    """A whole file. Raises `InvalidInput` over the limit."""
    with os.fdopen(place.open(entry.name), "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise InvalidInput(f"it has more than {limit} bytes", remedy="name the files of the published format")
    return data
