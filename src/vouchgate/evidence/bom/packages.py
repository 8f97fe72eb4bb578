"""Python packages as components of a bill of materials: what is installed, the wheels that it is held to, and wheels that are only there.

Rules
1. An installed distribution carries the hash of its archive where the installer wrote it down, or where it is exactly what a wheel holds (wheels.py).
2. A wheel that nothing is installed from as it stands is a component of its own.
3. Addresses that a validator would not take are properties. Attestations are named by their hash; nothing says here that they hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vouchgate.evidence.bom.python import Distribution, Environment, comparable, purl, quoted
from vouchgate.evidence.bom.wheels import Held, Wheel, held

PREFIX = "vouchgate:"
"""Of our properties (CycloneDX property taxonomy: a namespace of the producer's)."""
PYTHON = "python"
"""Reference of the environment."""
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[A-Za-z0-9._~-]*(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@/-]*)?")
"""What every validator takes for an address (RFC 3986); another one is a property."""


def properties(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Ours, those without a value left out."""
    return [{"name": PREFIX + name, "value": value} for name, value in pairs if value]


def installed_components(environment: Environment, held: Mapping[str, Held]) -> Iterable[dict[str, Any]]:
    """The environment, and each of its distributions (rule 1); `held` is of `installed`."""
    whole: dict[str, Any] = {
        "type": "platform",
        "bom-ref": PYTHON,
        "name": "Python environment",
        "version": environment.python,
        "properties": properties(
            [
                ("python:distributions", str(len(environment.distributions))),
                ("python:unowned", str(environment.unowned_count)),
                *(("python:unowned-file", path) for path in environment.unowned),
                ("python:compiled", str(environment.compiled)),
            ]
        ),
    }
    yield {name: value for name, value in whole.items() if value}
    yield from (_distribution(one, held.get(one.folder)) for one in environment.distributions)


def distribution_reference(folder: str) -> str:
    """Reference of an installed distribution: two of one name are two."""
    return f"{PYTHON}:{folder}"


def record_state(one: Distribution) -> str:
    """`checked`, `altered` or `absent`."""
    return "altered" if one.altered else "checked" if one.record and one.hashed else "absent"


def installed(wheels: Sequence[Wheel], environment: Environment | None) -> dict[str, Held]:
    """By the metadata's folder: what each distribution is to a wheel of its release and tags."""
    by: dict[tuple[str, str], list[Wheel]] = {}
    for wheel in wheels:
        by.setdefault(wheel.release, []).append(wheel)
    found = {}
    for one in environment.distributions if environment else ():
        release = one.key, comparable(one.metadata.version)
        said = held(by.get(release, ()), release, one.tags, one.rows, one.folder)
        if said and not said.fault and one.source and one.source.sha256 not in ("", said.wheel.sha256):
            said = Held(wheel=said.wheel, fault="the installer took another archive")
        if said:
            found[one.folder] = said
    return found


def wheel_reference(file: str) -> str:
    """Reference of an archive that is not installed as it is."""
    return f"wheel:{file}"


def wheel_component(one: Wheel) -> dict[str, Any]:
    """Rule 2."""
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": wheel_reference(one.file),
        "name": one.name or one.file,
        "version": one.version,
        "hashes": [{"alg": "SHA-256", "content": one.sha256}],
        "purl": one.purl if one.name else "",
        "externalReferences": _attested(one),
        "properties": properties(
            [
                ("wheel:file", one.file),
                ("wheel:fault", one.fault),
                ("size", str(one.size)),
                ("python:record", "altered" if one.fault else "checked"),
                *(("python:wheel-tag", tag) for tag in one.tags),
            ]
        ),
    }
    return {name: value for name, value in component.items() if value}


def _attested(wheel: Wheel) -> list[dict[str, Any]]:
    """Attestations that lay beside it, by their hash; nothing says here that they hold."""
    return [{"type": "attestation", "url": quoted(one.name), "hashes": [{"alg": "SHA-256", "content": one.sha256}]} for one in wheel.beside]


def _distribution(one: Distribution, wheel: Held | None) -> dict[str, Any]:
    said, source = one.metadata, one.source
    pairs = [
        ("python:record", record_state(one)),
        ("python:record-digest", f"sha256:{one.record}" if one.record else ""),
        ("python:files", str(one.files)),
        ("python:hashed", str(one.hashed)),
        ("python:altered", str(one.altered) if one.altered else ""),
        *(("python:altered-file", f"{fault.path}: {fault.why}") for fault in one.faults),
        ("python:installer", one.installer),
        *(("python:wheel-tag", tag) for tag in one.tags),
        ("python:editable", "true" if source and source.editable else ""),
        ("python:url", source.url if source and not _URL.fullmatch(source.url) else ""),
        ("python:commit", source.commit if source else ""),
    ]
    archive = source.sha256 if source else ""
    references: list[dict[str, Any]] = [{"type": "distribution", "url": source.url}] if source and _URL.fullmatch(source.url) else []
    if wheel and wheel.fault:
        pairs += [("wheel:fault", f"{wheel.wheel.file}: {wheel.fault}")]
    elif wheel:
        archive, references = wheel.wheel.sha256, references + _attested(wheel.wheel)
        pairs += [("wheel:file", wheel.wheel.file), ("wheel:relocated", str(wheel.relocated) if wheel.relocated else "")]
        pairs += [("wheel:added", path) for path in wheel.added]
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": distribution_reference(one.folder),
        "name": said.name,
        "version": said.version,
        "description": said.summary,
        "hashes": [{"alg": "SHA-256", "content": archive}] if archive else [],
        "licenses": licenses(said.license, said.license_text),
        "purl": purl(said.name, said.version),
        "externalReferences": references,
        "properties": properties(pairs),
    }
    return {name: value for name, value in component.items() if value}


def licenses(expression: str, text: str) -> list[dict[str, Any]]:
    """What is declared: an expression, or else a name."""
    if expression:
        return [{"expression": expression, "acknowledgement": "declared"}]
    return [{"license": {"name": text, "acknowledgement": "declared"}}] if text else []
