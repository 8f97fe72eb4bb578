"""What a bill of materials leaves open: provenance of each package, by class, and whether the whole can ship.

Rules
1. `attested`: who published the very archive is verified (PEP 740), and is whom a person or a lock file named. Anybody can publish and attest.
2. `locked`: the archive is bound by a hash, in a lock file or by what the installer wrote down. `recorded`: its files are as its RECORD says, and
   nothing says where that came from. `nothing`: not even that, or files are not as recorded, or the archive is none of the locked.
3. Which archive was installed is its hash (PEP 610), else the wheel with the installed tags; one for another platform says nothing of this one.
4. It ships only where nothing speaks against it. What nobody looked at speaks against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from vouchgate.evidence.bom.lineage import AGAINST, OPEN
from vouchgate.evidence.bom.locks import Locked, fits
from vouchgate.evidence.bom.read import Component, ReadBom
from vouchgate.evidence.vulnerabilities import Finding
from vouchgate.vocabulary.wire import Noun

Provenance = Literal["attested", "locked", "recorded", "nothing"]
CLASSES: tuple[Provenance, ...] = ("attested", "locked", "recorded", "nothing")
MAX_RECORD_AGE_DAYS = 30
"""Days since the newest record about vulnerabilities; the databases change every day."""
_SILENT = frozenset({"file", "data", "machine-learning-model", "platform"})
"""Kinds of components that no database of packages is asked about."""


class Attested(Noun, frozen=True, kw_only=True):
    """One attestation that holds."""

    filename: str
    sha256: str
    identity: str
    issuer: str
    repository: str


class Gap(Noun, frozen=True, kw_only=True):
    """Where one package came from."""

    name: str
    version: str
    provenance: Provenance
    why: str
    publisher: str = ""
    altered: bool = False


class Looked(Noun, frozen=True, kw_only=True):
    """What was looked up about vulnerabilities."""

    records: int = 0
    newest: str = ""
    age_days: int = 0
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Statements that do not count, and why."""


class Answer(Noun, frozen=True, kw_only=True):
    """What a bill of materials leaves open."""

    bom: str
    ships: bool
    against: tuple[str, ...]
    """Why not, the gravest first."""
    signed: bool
    verdict: str
    files: int
    classes: dict[str, int]
    packages: tuple[Gap, ...]
    findings: tuple[Finding, ...]
    looked: Looked | None
    notes: tuple[str, ...]


def candidates(component: Component, locked: Iterable[Locked]) -> list[tuple[str, str]]:
    """Rule 3: (file name, SHA-256) of the archives that can be the installed one; the name is empty where nothing says it."""
    own, tags = component.sha256, frozenset(component.stated.get("python:wheel-tag", ()))
    names = {digest: name for one in locked for name, digest in one.archives}
    if own:
        return [(names.get(digest, ""), digest) for digest in own]
    return [(name, digest) for one in locked for name, digest in one.archives if not name or _fits_tags(name, tags)]


def _fits_tags(filename: str, tags: frozenset[str]) -> bool:
    """Whether a wheel's name has the installed tags; a source archive could have been built into any."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    if not filename.endswith(".whl"):
        return True
    try:
        named = {str(tag) for tag in parse_wheel_filename(filename)[3]}
        return not tags or tags <= named or named <= tags
    except InvalidWheelFilename:
        return False


def gap(component: Component, locked: tuple[Locked, ...], attested: Iterable[Attested], pins: Iterable[Mapping[str, str]]) -> Gap:
    """Rules 1 to 3 for one package; `attested` are of this package alone."""
    name, version = component.pypi
    state = component.said("python:record")
    found = candidates(component, locked)
    known = {digest for _, digest in found}

    def told(provenance: Provenance, why: str, publisher: str = "") -> Gap:
        return Gap(name=name, version=version, provenance=provenance, why=why, publisher=publisher, altered=state == "altered")

    if state == "altered":
        return told("nothing", "its files are not as its RECORD says")
    if component.stated.get("wheel:fault"):
        return told("nothing", f"it is not what its wheel holds: {component.stated['wheel:fault'][0][:300]}")
    if component.said("python:editable") == "true":
        return told("nothing", "it is installed from a working folder")
    if component.sha256 and locked and not known & {digest for one in locked for _, digest in one.archives}:
        return told("nothing", "the archive that was installed is none of the locked ones")
    good = [one for one in attested if one.sha256 in known and _installed(one, component)]
    identities = [*pins, *(identity for one in locked for identity in one.identities)]
    for one in good:
        if any(fits(one, identity) for identity in identities):
            return told("attested", "published by whom it should be", one.repository or one.identity)
    if known:
        by = good[0].repository or good[0].identity if good else ""
        return told("locked", f"attested by {by}, whom nobody named" if good else "bound by hash, no publisher verified", by)
    if state == "checked":
        return told("recorded", "not locked by hash" if not locked else "locked only for other platforms")
    return told("nothing", "it has no RECORD whose hashes were checked")


def _installed(one: Attested, component: Component) -> bool:
    """Rule 3: by hash, or as the wheel with the installed tags; an attested source archive may have become any wheel."""
    if component.sha256:
        return one.sha256 in component.sha256
    tags = frozenset(component.stated.get("python:wheel-tag", ()))
    return bool(tags) and one.filename.endswith(".whl") and _fits_tags(one.filename, tags)


def answer(
    bom: ReadBom, path: str, gaps: tuple[Gap, ...], findings: tuple[Finding, ...], looked: Looked | None, *, signed: bool,
    demand: Provenance, notes: Iterable[str] = (),
) -> Answer:  # fmt: skip
    """Rule 4."""
    verdict = bom.subject.said("scan:verdict") if bom.subject else ""
    against = [*_against_document(bom, verdict), *_against_packages(bom, gaps, demand), *_against_findings(gaps, findings, looked)]
    return Answer(
        bom=path,
        ships=not against,
        against=tuple(against),
        signed=signed,
        verdict=verdict,
        files=len(bom.files),
        classes={name: sum(one.provenance == name for one in gaps) for name in CLASSES},
        packages=gaps,
        findings=findings,
        looked=looked,
        notes=tuple(notes),
    )


def _against_document(bom: ReadBom, verdict: str) -> Iterable[str]:
    if bom.faults:
        yield f"the document is not sound: {bom.faults[0]}"
    elif not verdict:
        yield "nobody scanned the model: the document has no verdict"
    elif verdict != "clean":
        yield f"the scan of the model says {verdict}"
    said = sorted((one for one in bom.vouches if one.standing != OPEN), key=lambda one: (one.issued_at, one.standing == AGAINST))
    for one in {(one.about, one.predicate): one for one in said}.values():
        if one.standing == AGAINST:
            yield f"`{one.predicate}` of {one.about[:30]} does not hold: {one.told}"


def _against_packages(bom: ReadBom, gaps: tuple[Gap, ...], demand: Provenance) -> Iterable[str]:
    altered = [one.name for one in gaps if one.altered]
    if altered:
        yield f"files of {_some(altered)} are not as recorded"
    unowned = bom.environment.said("python:unowned") if bom.environment else "0"
    if unowned != "0":
        yield f"{unowned or 'unknown'} files in the environment belong to no package"
    below = [one.name for one in gaps if not one.altered and CLASSES.index(one.provenance) > CLASSES.index(demand)]
    if below:
        yield f"{_some(below)} {'is' if len(below) == 1 else 'are'} less than {demand}"
    others = [one.name for one in bom.components if one.kind not in _SILENT and not one.pypi[0]]
    if others:
        yield f"{_some(others)} {'is' if len(others) == 1 else 'are'} of no kind that is looked up here"


def _against_findings(gaps: tuple[Gap, ...], findings: tuple[Finding, ...], looked: Looked | None) -> Iterable[str]:
    open_ = [one for one in findings if one.open]
    if open_:
        yield f"{len(open_)} known vulnerabilities are open, in {_some(list(dict.fromkeys(one.package.name for one in open_)))}"
    if looked is None:
        if gaps:
            yield "nobody looked for known vulnerabilities"
        return
    if looked.unreadable:
        yield f"{len(looked.unreadable)} records about vulnerabilities cannot be read, such as {looked.unreadable[0]}"
    if looked.age_days > MAX_RECORD_AGE_DAYS:
        yield f"the newest record about vulnerabilities is {looked.age_days} days old"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
