"""A model is described: what the scanner saw, what its files claim, what is installed around it; and a description is held to the files again.

Describing
1. Measure every file: nothing is described that cannot be hashed.
2. Scan: the verdict of all artifacts in the folder, the heaviest counts; and look at the structure of each file with weights.
3. Read the claims of the model's own files, which were measured too.
4. Hold the files' stamps to those of the measuring: what changed meanwhile is not described.
Verifying
5. The document is sound, and signed where a key was named.
6. Every file is measured again; what differs, was added or is missing is told. The same for the environment, distribution by distribution.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vouchgate.evidence.bom import card
from vouchgate.evidence.bom.document import File, Model, Scan, Weights
from vouchgate.evidence.bom.packages import PYTHON, distribution_reference, record_state
from vouchgate.evidence.bom.python import Distribution, Environment
from vouchgate.evidence.bom.read import ReadBom
from vouchgate.evidence.bom.wheels import Wheel
from vouchgate.evidence.merkle import Manifest, content_digest, manifest_digest
from vouchgate.flows.measure import Measuring, measure
from vouchgate.flows.scan_artifacts import Artifact, Reader, Scanned, artifacts, scan_artifact
from vouchgate.flows.walk import Place
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.wire import Noun

MAX_REASONS = 20
"""Reasons of a scan that stand in a description."""
WEIGHTS = frozenset({"safetensors", "onnx", "gguf"})
"""Formats whose structure says how many parameters there are."""
_HEAVIEST = ("refused", "incomplete", "review", "clean")
_DTYPES = ("dtypes", "types")


@dataclass(frozen=True)
class Scanner:
    """What scanning is plugged into."""

    reader: Reader
    folder_file: Callable[[bytes, Callable[[], int]], Any]


class Difference(Noun, frozen=True, kw_only=True):
    """How something is not as it was described."""

    kind: str
    """`changed`, `added`, `missing`."""
    what: str
    """`file`, `package`, `wheel` or `vouch`."""
    name: str
    told: str = ""


def describe(place: Place, scanner: Scanner, *, name: str = "", release: str = "") -> Model:
    """Steps 1 to 4. Raises `InvalidInput`, `NotFound`, `Unavailable`."""
    measured = measure(place, Measuring(stamps=True))  # 1
    found = artifacts(place)
    scanned = [scan_artifact(one, scanner.reader, scanner.folder_file) for one in found]  # 2
    _agree(place, measured, scanned)
    formats = _formats(found, scanned)
    weights = tuple(_weights(place, scanner, found, scanned, measured, formats))
    claims = card.read_claims(_claimed(place, measured))  # 3
    if measure(place, Measuring(stamps=True, believed=measured, tensors=False)).stamps != measured.stamps:  # 4
        raise Unavailable(f"`{place.path}` changed while it was described", remedy="describe it when nothing writes it")
    own = Path(place.path).absolute().name
    return Model(
        name=name or own,
        release=release,
        digest=content_digest(measured).text,
        manifest=manifest_digest(measured).text,
        folder=place.is_folder,
        files=tuple(
            File(path=file.path or own, size=file.size, sha256=file.sha256, format=formats.get(file.path, "")) for file in measured.files
        ),
        weights=weights,
        scan=_scan(scanned),
        claims=claims,
    )


def compare_files(bom: ReadBom, measured: Manifest, name: str) -> list[Difference]:
    """Step 6 for the model's files; `name` is what a single file is called."""
    stated = bom.files
    here = {file.path or name: file for file in measured.files}
    alone = len(measured.files) == 1 and not measured.files[0].path
    if alone and len(stated) == 1:
        here = {next(iter(stated)): measured.files[0]}  # a file's name is not part of its content
    found = []
    for path in sorted(here.keys() | stated.keys()):
        if path not in stated:
            found.append(Difference(kind="added", what="file", name=path))
        elif path not in here:
            found.append(Difference(kind="missing", what="file", name=path))
        elif stated[path].sha256 != (here[path].sha256,):
            found.append(Difference(kind="changed", what="file", name=path))
    digest = bom.subject.said("digest") if bom.subject else ""
    if not found and digest != content_digest(measured).text:
        found.append(Difference(kind="changed", what="file", name=".", told="the digest of the whole is another"))
    return found


def compare_environment(bom: ReadBom, environment: Environment) -> list[Difference]:
    """Step 6 for what is installed."""
    stated = {one.reference: one for one in bom.packages if one.reference.startswith(f"{PYTHON}:")}
    here = {distribution_reference(one.folder): one for one in environment.distributions}
    found = []
    for reference in sorted(here.keys() | stated.keys()):
        now, then = here.get(reference), stated.get(reference)
        if now is None or then is None:
            kind, label = ("missing", then.name if then else "") if now is None else ("added", now.metadata.name)
            found.append(Difference(kind=kind, what="package", name=label, told=reference))
        elif then.version != now.metadata.version or then.said("python:record-digest") != (f"sha256:{now.record}" if now.record else ""):
            found.append(Difference(kind="changed", what="package", name=then.name, told="its RECORD is another"))
        elif record_state(now) != then.said("python:record") or _faults(now) != then.stated.get("python:altered-file", ()):
            found.append(Difference(kind="changed", what="package", name=then.name, told="; ".join(_faults(now)[:3])))
    stated_here = bom.environment.stated if bom.environment else {}
    unowned = stated_here.get("python:unowned", ()), stated_here.get("python:unowned-file", ())
    if unowned != ((str(environment.unowned_count),), environment.unowned):
        told = f"{environment.unowned_count} files that no package lists, such as {', '.join(environment.unowned[:3])}"
        found.append(Difference(kind="changed", what="package", name="the environment", told=told))
    return found


def compare_wheels(bom: ReadBom, wheels: Iterable[Wheel]) -> list[Difference]:
    """Step 6 for the archives: those that the document names, by name and hash."""
    stated = {one.said("wheel:file"): one.sha256 for one in bom.components if one.said("wheel:file")}
    here = {one.file: (one.sha256,) for one in wheels}
    found = []
    for name in sorted(here.keys() | stated.keys()):
        kind = "added" if name not in stated else "missing" if name not in here else "changed"
        if stated.get(name) != here.get(name):
            found.append(Difference(kind=kind, what="wheel", name=name))
    return found


def _faults(one: Distribution) -> tuple[str, ...]:
    return tuple(f"{fault.path}: {fault.why}" for fault in one.faults)


def _agree(place: Place, measured: Manifest, scanned: list[Scanned]) -> None:
    """The scanner read the bytes that were measured, wherever it read them to their end."""
    known = {file.sha256 for file in measured.files} | {content_digest(measured).value}
    for one in scanned:
        digest = one.report.digest
        if digest.kind == "file" and digest != Digest(value="0" * 64) and digest.size and digest.value not in known:
            raise Unavailable(f"`{place.path}` changed while it was described", remedy="describe it when nothing writes it")
    if len(scanned) == 1 and scanned[0].report.digest.kind == "tree" and scanned[0].report.digest.value not in known:
        raise Unavailable(f"`{place.path}` changed while it was described", remedy="describe it when nothing writes it")


def _formats(found: list[Artifact], scanned: list[Scanned]) -> dict[str, str]:
    """Path -> what it was read as."""
    formats: dict[str, str] = {}
    for artifact, one in zip(found, scanned, strict=True):
        inside = os.fsdecode(artifact.inside)
        if artifact.folder:
            formats |= {inside + member: kind for member, kind in one.report.verdict.members.items() if "!/" not in member}
        else:
            formats[inside] = one.report.verdict.format
    return formats


def _weights(
    place: Place, scanner: Scanner, found: list[Artifact], scanned: list[Scanned], measured: Manifest, formats: Mapping[str, str]
) -> Iterable[Weights]:
    """Step 2: facts of each file with weights; of a folder's files by a look at their structure."""
    told = {
        os.fsdecode(artifact.inside): one.report.verdict.facts for artifact, one in zip(found, scanned, strict=True) if not artifact.folder
    }
    sizes = {file.name: file for artifact in found for file in artifact.files}
    for file in measured.files:
        kind, name = formats.get(file.path, ""), os.fsencode(file.path)
        if kind not in WEIGHTS:
            continue
        facts = told.get(file.path)
        if facts is None:
            looked = scan_artifact(Artifact(place, file.path, name, (sizes[name],)), scanner.reader, scanner.folder_file, deep=False)
            facts = looked.report.verdict.facts
        yield Weights(
            path=file.path,
            format=kind,
            tensors=_count(facts.get("tensors")),
            parameters=_count(facts.get("parameters")),
            dtypes=next((_counts(facts[key]) for key in _DTYPES if isinstance(facts.get(key), dict)), {}),
            architecture=str(facts.get("architecture", ""))[:100],
        )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _counts(value: Mapping[Any, Any]) -> dict[str, int]:
    return {str(key)[:40]: _count(count) for key, count in value.items()}


def _claimed(place: Place, measured: Manifest) -> dict[str, bytes]:
    """Step 3: the files at the top that make claims; one that is too large claims nothing, and is told by its reader."""
    sizes = {file.path: file.size for file in measured.files}
    found = {}
    for name in (card.CARD, card.CONFIG, card.TOKENIZER):
        if name in sizes:
            with os.fdopen(place.open(name.encode()), "rb") as stream:
                found[name] = stream.read(card.MAX_DOCUMENT_BYTES + 1)
    return found


def _scan(scanned: list[Scanned]) -> Scan:
    verdicts = [one.report.verdict for one in scanned]
    outcome = next((name for name in _HEAVIEST if any(one.outcome == name for one in verdicts)), "incomplete")
    reasons = [
        f"{reason.rule} at {reason.member + ', ' if reason.member else ''}{reason.where}" for one in verdicts for reason in one.reasons
    ]
    formats = sorted({one.format for one in verdicts})
    return Scan(
        outcome=outcome,
        format=", ".join(formats[:10]),
        reasons=tuple(dict.fromkeys(reason[:300] for reason in reasons))[:MAX_REASONS],
        scanner=verdicts[0].scanner_version if verdicts else "",
        knowledge=f"{verdicts[0].knowledge_version} {verdicts[0].knowledge_digest}".strip() if verdicts else "",
    )
