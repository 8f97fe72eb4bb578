"""Reads a bill of materials that somebody wrote: CycloneDX JSON, without believing it.

Rules
1. One strict JSON document, bounded; valid by the published schema of the version that it names.
2. What a schema cannot say: references are unique, every reference leads to a component, and components nest within a bound.
3. Our own documents carry a serial number of their content; a changed one is told. Anybody can compute it again: only a signature binds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from vouchgate.evidence.bom.document import MODEL, serial_number
from vouchgate.evidence.bom.lineage import Vouched, read_declared
from vouchgate.evidence.bom.packages import PREFIX, PYTHON
from vouchgate.evidence.bom.python import comparable, pypi_of
from vouchgate.evidence.bom.schema import check_schema
from vouchgate.evidence.strict_documents import parse
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import encode

MAX_BOM_BYTES = 256 * 1024 * 1024
"""Bytes of one document: 500,000 components."""
MAX_COMPONENTS = 500_000
MAX_DEPTH = 32
"""Components within each other; real documents have two or three."""
_REMEDY = "ask for the bill of materials as its tool wrote it"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Component:
    """One component, as the document states it."""

    reference: str
    kind: str
    name: str
    version: str
    purl: str
    sha256: tuple[str, ...]
    stated: Mapping[str, tuple[str, ...]]
    """Our own properties, by name without the prefix."""

    def said(self, name: str) -> str:
        """The one value of a property; nothing where there is none, or are several."""
        values = self.stated.get(name, ())
        return values[0] if len(values) == 1 else ""

    @property
    def pypi(self) -> tuple[str, str]:
        """Compared name and version of a Python package; two empty texts for anything else."""
        name, version = pypi_of(self.purl.split("?")[0].split("#")[0])
        return name, version or comparable(self.version)


@dataclass(frozen=True)
class ReadBom:
    """A document that is what its schema says, or why not."""

    document: Mapping[str, Any]
    spec: str
    serial: str
    faults: tuple[str, ...]
    """Of schema and references; empty for a sound one."""
    components: tuple[Component, ...]
    """The described one first, where there is one."""
    subject: Component | None
    """`metadata.component`."""
    vouches: tuple[Vouched, ...] = ()
    """Of one of ours: what a control plane said when it was written."""

    @property
    def is_ours(self) -> bool:
        """Whether its layout is the one that write_bom writes; files can then be held against it."""
        return self.subject is not None and self.subject.reference == MODEL and bool(self.subject.said("digest"))

    @property
    def files(self) -> dict[str, Component]:
        """Files of the model by their paths."""
        return {one.name: one for one in self.components if one.kind == "file" and one.reference == f"file:{one.name}"}

    @property
    def environment(self) -> Component | None:
        """The Python environment."""
        return next((one for one in self.components if one.reference == PYTHON), None)

    @property
    def packages(self) -> tuple[Component, ...]:
        """Python packages."""
        return tuple(one for one in self.components if one.pypi[0])


def read_bom(data: bytes) -> ReadBom:
    """Rules 1 to 3. Raises `InvalidInput` for what is no CycloneDX 1.6 or 1.7 document at all, `Unavailable` without the extra."""
    return bom_of(parse(data, limit=MAX_BOM_BYTES, what="bill of materials"))


def bom_of(document: Mapping[str, Any]) -> ReadBom:
    """As `read_bom`, of a parsed document."""
    spec = document.get("specVersion")
    if document.get("bomFormat") != "CycloneDX" or not isinstance(spec, str):
        raise InvalidInput("the document is no CycloneDX bill of materials", remedy=_REMEDY)
    _spelt(document)
    faults = list(check_schema(document, spec))
    if faults:
        return ReadBom(document, spec, "", tuple(faults), (), None)
    stated = document.get("metadata", {}).get("component")
    wires = list(_flat([stated] if stated else [], 0)) + list(_flat(document.get("components", []), 0))
    if len(wires) > MAX_COMPONENTS:
        raise InvalidInput(f"the document has more than {MAX_COMPONENTS} components", remedy="split it")
    components = tuple(_component(one) for one in wires)
    subject = components[0] if stated else None
    serial = str(document.get("serialNumber", ""))
    faults += _graph(components, document.get("dependencies", []))
    read = ReadBom(document, spec, serial, tuple(faults), components, subject)
    if not read.is_ours:
        return read
    if serial != serial_number(document):
        faults.append("the serial number is not that of the content: it was changed")
    vouches: tuple[Vouched, ...] = ()
    try:
        vouches = read_declared(document, _own(read))
    except InvalidInput as error:
        faults.append(error.reason)
    return replace(read, faults=tuple(faults), vouches=vouches)


def _own(read: ReadBom) -> dict[str, str]:
    """Digests of the model and its files -> references, as write_bom has them."""
    digest = read.subject.said("digest") if read.subject else ""
    alone = digest.startswith("sha256:")
    files = {} if alone else {f"sha256:{one.sha256[0]}": one.reference for one in reversed(list(read.files.values())) if one.sha256}
    return files | {digest: MODEL}


def _spelt(document: Mapping[str, Any]) -> None:
    """Whether it can be written again as it is: endless numbers, lone surrogates and endless nesting cannot."""
    try:
        alike = msgspec.json.decode(encode(document)) == document
    except (OverflowError, ValueError, TypeError, RecursionError):
        alike = False
    if not alike:
        raise InvalidInput("the document holds numbers or texts that no tool writes alike", remedy=_REMEDY)


def _flat(components: Iterable[Mapping[str, Any]], depth: int) -> Iterator[Mapping[str, Any]]:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"components nest deeper than {MAX_DEPTH}", remedy=_REMEDY)
    for one in components:
        yield one
        yield from _flat(one.get("components", []), depth + 1)


def _component(wire: Mapping[str, Any]) -> Component:
    stated: dict[str, list[str]] = {}
    for one in wire.get("properties", []):
        name = one.get("name", "")
        if name.startswith(PREFIX):
            stated.setdefault(name.removeprefix(PREFIX), []).append(one.get("value", ""))
    hashes = [one["content"].lower() for one in wire.get("hashes", []) if one["alg"] == "SHA-256"]
    return Component(
        reference=wire.get("bom-ref", ""),
        kind=wire["type"],
        name=wire["name"],
        version=wire.get("version", ""),
        purl=wire.get("purl", ""),
        sha256=tuple(one for one in hashes if _SHA256.match(one)),
        stated={name: tuple(values) for name, values in stated.items()},
    )


def _graph(components: tuple[Component, ...], dependencies: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Rule 2."""
    seen: set[str] = set()
    for one in components:
        if one.reference and one.reference in seen:
            yield f"two components have the reference `{one.reference[:200]}`"
        seen.add(one.reference)
    told: set[str] = set()
    for edge in dependencies:
        if edge["ref"] in told:
            yield f"the dependencies of `{edge['ref'][:200]}` stand twice"
        told.add(edge["ref"])
        for reference in (edge["ref"], *edge.get("dependsOn", [])):
            if reference not in seen:
                yield f"a dependency leads to `{reference[:200]}`, which is not in the document"
