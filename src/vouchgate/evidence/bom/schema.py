"""CycloneDX documents held to their published JSON schema (1.6 and 1.7), and to what a schema cannot say.

Rules
1. The schema is the published one, as the library `cyclonedx-python-lib` carries it; nothing is fetched, and formats are checked too.
2. The first faults are told with where they stand.
"""

from __future__ import annotations

import importlib.resources
import json
from functools import cache
from typing import Any

from vouchgate.evidence.bom.python import MISSING, REMEDY
from vouchgate.vocabulary.errors import InvalidInput, Unavailable

MAX_FAULTS = 20
"""Faults that are told."""
_BESIDE = ("spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json", "cryptography-defs.SNAPSHOT.schema.json")
"""Schemas that the main one refers to by name."""
_BASE = "http://cyclonedx.org/schema/"


def check_schema(document: Any, spec: str) -> tuple[str, ...]:
    """What is not as the schema says; nothing where it is valid. Raises `InvalidInput` for another version, `Unavailable` without the extra."""
    if spec not in ("1.6", "1.7"):
        raise InvalidInput(f"the document is of CycloneDX `{spec[:20]}`", remedy="only 1.6 and 1.7 are read")
    found = []
    for error in _validator(spec).iter_errors(document):
        where = "/".join(str(step) for step in error.instance_path) or "the document"
        found.append(f"{where}: {error.message[:300]}")
        if len(found) == MAX_FAULTS:
            break
    return tuple(found)


@cache
def _validator(spec: str) -> Any:
    try:
        import jsonschema_rs

        whole = _schema(f"bom-{spec}.SNAPSHOT.schema.json")
        beside = [(_BASE + name, _schema(name)) for name in _BESIDE]
    except (ImportError, FileNotFoundError):
        raise Unavailable(MISSING, remedy=REMEDY) from None
    registry = jsonschema_rs.Registry(beside)
    return jsonschema_rs.Draft7Validator(whole, registry=registry, validate_formats=True)


def _schema(name: str) -> Any:
    return json.loads((importlib.resources.files("cyclonedx.schema") / "_res" / name).read_bytes())
