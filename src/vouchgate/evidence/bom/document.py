"""A bill of materials of a model: CycloneDX 1.6 or 1.7 (ECMA-424), with a model card, from what was seen of it.

Rules
1. `vouchgate:seen:*` was read from the bytes by the scanner, `vouchgate:claimed:*` is what the model's own files say; the two never share a property.
2. Content is named by `hashes` where the hash is of the bytes themselves; digests of trees are properties.
3. The same facts give the same document: members in one order, components by reference, the serial number computed from all but itself and the timestamp.
4. References are unique, and every reference leads to a component of the document.
5. What a control plane said of the model stands in declarations and formulation (lineage.py), never among what was seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from vouchgate.evidence.bom.card import Claims
from vouchgate.evidence.bom.lineage import HELD, Vouched, contents, declared
from vouchgate.evidence.bom.packages import (
    PYTHON,
    distribution_reference,
    installed,
    installed_components,
    licenses,
    properties,
    wheel_component,
    wheel_reference,
)
from vouchgate.evidence.bom.python import Environment, edges
from vouchgate.evidence.bom.wheels import Wheel
from vouchgate.vocabulary.wire import Noun, encode

Spec = Literal["1.6", "1.7"]
SPECS: tuple[Spec, ...] = ("1.6", "1.7")
MODEL = "model"
"""Reference of the model."""
_CLAIMED = "claimed by the model's own card, not verified"


class File(Noun, frozen=True, kw_only=True):
    """One file of the model."""

    path: str
    size: int
    sha256: str
    format: str = ""
    """What the scanner read it as."""


class Weights(Noun, frozen=True, kw_only=True):
    """What the scanner counted in one file."""

    path: str
    format: str
    tensors: int = 0
    parameters: int = 0
    dtypes: dict[str, int] = {}
    architecture: str = ""


class Scan(Noun, frozen=True, kw_only=True):
    """What the scanner said of the whole."""

    outcome: str
    format: str
    reasons: tuple[str, ...] = ()
    scanner: str = ""
    knowledge: str = ""


class Model(Noun, frozen=True, kw_only=True):
    """Everything that a bill of materials says of a model."""

    name: str
    release: str = ""
    digest: str
    """Of the file, or of the folder's tree."""
    manifest: str
    """Of the manifest of every chunk and tensor."""
    folder: bool
    files: tuple[File, ...]
    weights: tuple[Weights, ...] = ()
    scan: Scan
    claims: Claims = Claims()
    vouches: tuple[Vouched, ...] = ()
    """What a control plane holds about the model, and about what it was made from."""
    asked: bool = False
    """Whether a control plane was asked."""

    @property
    def references(self) -> dict[str, str]:
        """Digests of the model and of its files -> references."""
        found = {f"sha256:{file.sha256}": file_reference(file.path) for file in reversed(self.files)} if self.folder else {}
        return found | {self.digest: MODEL}


def write_bom(
    model: Model, environment: Environment | None, *, spec: Spec, timestamp: str, version: str, wheels: Sequence[Wheel] = ()
) -> bytes:
    """The document; `version` is of vouchgate, `timestamp` RFC 3339. Raises `Unavailable` without the extra."""
    found = installed(wheels, environment)
    components = [_file(file) for file in model.files] + ([*installed_components(environment, found)] if environment else [])
    loose = [one for one in wheels if one.file not in {held.wheel.file for held in found.values() if not held.fault}]
    components += [wheel_component(one) for one in loose]
    components += contents(model.vouches, model.references)
    document: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{spec}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": spec,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "post-build"}],
            "tools": {"components": [{"type": "application", "name": "vouchgate", "version": version}]},
            "component": _model(model),
        },
        "components": sorted(components, key=lambda one: str(one["bom-ref"])),
        "dependencies": _dependencies(model, environment, loose),
    } | declared(model.vouches, model.references)
    document["serialNumber"] = serial_number(document)
    document["metadata"]["timestamp"] = timestamp
    return encode(document)


def serial_number(document: Mapping[str, Any]) -> str:
    """Rule 3: a UUID of version 8 (RFC 9562, section 5.8) over all but itself and the timestamp."""
    rest = {name: value for name, value in document.items() if name != "serialNumber"}
    rest["metadata"] = {name: value for name, value in rest.get("metadata", {}).items() if name != "timestamp"}
    raw = bytearray(hashlib.sha256(b"vouchgate/bom/v1\0" + encode(rest)).digest()[:16])
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"urn:uuid:{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _model(model: Model) -> dict[str, Any]:
    claims = model.claims
    alone = None if model.folder else model.files[0]
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": model.name,
        "version": model.release,
        "hashes": [{"alg": "SHA-256", "content": alone.sha256}] if alone else [],
        "licenses": licenses(claims.license, claims.license_text),
        "pedigree": {"ancestors": [_ancestor(name) for name in claims.base_models]} if claims.base_models else {},
        "modelCard": _card(model),
        "properties": properties(_seen(model)) + properties(_claimed(claims)),
    }
    return {name: value for name, value in component.items() if value}


def _card(model: Model) -> dict[str, Any]:
    """CycloneDX `modelCard`; what it has a place for, the rest is in properties."""
    claims = model.claims
    seen = next((one.architecture for one in model.weights if one.architecture), "")
    parameters: dict[str, Any] = {
        "task": claims.task,
        "architectureFamily": claims.model_type or seen,
        "modelArchitecture": ", ".join(claims.architectures) or seen,
        "datasets": [{"type": "dataset", "name": name, "description": _CLAIMED} for name in claims.datasets],
    }
    card = {"modelParameters": {name: value for name, value in parameters.items() if value}}
    return card if card["modelParameters"] else {"properties": properties([("seen:format", model.scan.format)])}


def _ancestor(name: str) -> dict[str, Any]:
    return {"type": "machine-learning-model", "name": name, "description": _CLAIMED}


def _seen(model: Model) -> Iterable[tuple[str, str]]:
    yield "digest", model.digest
    yield "manifest", model.manifest
    yield "scan:verdict", model.scan.outcome
    yield "scan:scanner", model.scan.scanner
    yield "scan:knowledge", model.scan.knowledge
    yield from (("scan:reason", reason) for reason in model.scan.reasons)
    yield "seen:format", model.scan.format
    yield "seen:files", str(len(model.files))
    yield "seen:bytes", str(sum(file.size for file in model.files))
    if model.weights:
        yield "seen:tensors", str(sum(one.tensors for one in model.weights))
        yield "seen:parameters", str(sum(one.parameters for one in model.weights))
    dtypes: dict[str, int] = {}
    for one in model.weights:
        for name, count in one.dtypes.items():
            dtypes[name] = dtypes.get(name, 0) + count
    yield from ((f"seen:dtype:{name}", str(count)) for name, count in sorted(dtypes.items()))
    yield "control:asked", "true" if model.asked else ""
    held = sorted((one.predicate, one.id) for one in model.vouches if one.about == model.digest and one.standing == HELD)
    yield from ((f"vouch:{predicate}", name) for predicate, name in held)


def _claimed(claims: Claims) -> Iterable[tuple[str, str]]:
    yield "claimed:license", claims.license or claims.license_text
    for name, values in (("base-model", claims.base_models), ("dataset", claims.datasets), ("language", claims.languages)):
        yield from ((f"claimed:{name}", value) for value in values)
    yield from (("claimed:architecture", value) for value in claims.architectures)
    yield "claimed:model-type", claims.model_type
    yield "claimed:dtype", claims.dtype
    yield "claimed:tokenizer", claims.tokenizer
    yield "claimed:task", claims.task
    yield "claimed:library", claims.library
    yield from (("claimed:note", note) for note in claims.notes)


def file_reference(path: str) -> str:
    """Reference of a file's component."""
    return f"file:{path}"


def _file(file: File) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": file_reference(file.path),
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "properties": properties([("size", str(file.size)), ("seen:format", file.format)]),
    }


def _dependencies(model: Model, environment: Environment | None, wheels: Iterable[Wheel]) -> list[dict[str, Any]]:
    """The model has its files and needs the environment; that has its distributions, and each of them what it requires."""
    found = {MODEL: [*(file_reference(file.path) for file in model.files), *(wheel_reference(one.file) for one in wheels)]}
    if environment:
        graph = edges(environment.distributions, environment.python)
        found[MODEL].append(PYTHON)
        found[PYTHON] = [distribution_reference(folder) for folder in graph]
        found |= {distribution_reference(folder): [distribution_reference(one) for one in others] for folder, others in graph.items()}
    return [{"ref": reference, "dependsOn": sorted(others)} for reference, others in sorted(found.items())]
