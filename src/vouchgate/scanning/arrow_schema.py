"""Arrow's IPC messages and schemas (Message.fbs, Schema.fbs): what both Arrow files and Parquet's `ARROW:schema` hold.

Rules
1. Extension types are known by name. `arrow.py_extension_type` and Ray's pickled objects are unpickled by whoever opens the file
   (CVE-2023-47248): refused. A name that is not known is for a person: what is registered under it decides what happens.
2. An extension's own metadata is never a pickle, whatever its name.
3. Metadata for pandas is strict JSON without keys that a loader acts on. Fields lie within a depth.
"""

from __future__ import annotations

from typing import NamedTuple

from vouchgate.scanning.flat_tables import Flat, Table
from vouchgate.scanning.strict_json import acting, strict_text
from vouchgate.scanning.verdict import Reason, Refuse

MAX_DEPTH = 64
MAX_FIELDS = 200_000
SCHEMA, DICTIONARY, BATCH, TENSOR, SPARSE = 1, 2, 3, 4, 5
"""MessageHeader."""
REMEDY = "write the data again with plain column types (`table.cast`, or the extension's storage)"
_NAMES = """arrow.uuid arrow.json arrow.bool8 arrow.opaque arrow.fixed_shape_tensor arrow.variable_shape_tensor arrow.timestamp_with_offset
arrow.parquet.variant parquet.variant pandas.period pandas.interval ray.data.arrow_tensor ray.data.arrow_tensor_v2"""
_INERT = frozenset(_NAMES.split())
_INERT_PREFIXES = ("geoarrow.", "datasets.features.", "ogc.", "lance.", "hnsw.", "polars.")
_UNPICKLED = frozenset(("arrow.py_extension_type", "ray.data.arrow_pickled_object", "ray.data.arrow_variable_shaped_tensor_object"))


class Message(NamedTuple):
    """One IPC message's metadata."""

    kind: int
    header: Table | None
    body: int
    """Bytes that follow."""


def message(view: memoryview, rule: str, base: int) -> Message:
    """Message.fbs."""
    root = Flat(view, rule, base).root()
    body = root.number(3, "q")
    if body < 0:
        root.flat.refuse(root.place, "a message's body has a negative length")
    return Message(root.number(1, "B"), root.table(2), body)


def schema_reasons(schema: Table, rule: str) -> tuple[int, list[Reason]]:
    """Fields in all, and what speaks against the schema. Raises `Refuse`."""
    reasons = metadata_reasons(schema, 2, "schema", rule)
    waiting = [(field, 1) for field in schema.all(1)]
    count = 0
    while waiting:
        field, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_FIELDS:
            schema.flat.refuse(field.place, "its fields lie too deep within each other, or are too many")
        reasons += metadata_reasons(field, 6, f"column `{_shown(field.text(0))}`", rule)
        waiting += [(child, depth + 1) for child in field.all(5)]
    return count, reasons[:20]


def metadata_reasons(table: Table, field: int, where: str, rule: str) -> list[Reason]:
    """Of a vector of KeyValue."""
    pairs = [(pair.text(0), pair.bytes(1)) for pair in table.all(field)]
    return pairs_reasons(pairs, where, rule)


def pairs_reasons(pairs: list[tuple[str, bytes]], where: str, rule: str) -> list[Reason]:
    """Rules 1 to 3."""
    reasons = []
    for key, value in pairs:
        if key == "ARROW:extension:name":
            reasons += _extension(value.decode("utf-8", "backslashreplace"), where, rule)
        if key == "ARROW:extension:metadata" and _pickled(value):
            raise Refuse(
                f"{rule}:pickled-extension", where, "the metadata of its extension type is a pickle, which opening the file runs", REMEDY
            )
        if key in ("pandas", "huggingface"):
            found = acting(strict_text(value.decode("utf-8", "replace"), rule, f"{where} metadata `{key}`"))
            if found:
                raise Refuse(f"{rule}:acting-key", where, f"its metadata `{key}` has the key `{_shown(found[0])}`: {found[1]}", REMEDY)
    return reasons


def _extension(name: str, where: str, rule: str) -> list[Reason]:
    if name in _UNPICKLED:
        raise Refuse(
            f"{rule}:pickled-extension",
            where,
            f"its extension type `{_shown(name)}` is unpickled when the file is opened (CVE-2023-47248)",
            REMEDY,
        )
    if name in _INERT or name.startswith(_INERT_PREFIXES):
        return []
    return [
        Reason(
            rule=f"{rule}:extension",
            where=where,
            why=f"its extension type `{_shown(name)}` is not known: what an application registered under that name reads it",
            remedy=REMEDY,
            weight="review",
        )
    ]


def _pickled(value: bytes) -> bool:
    """Protocol 2 and later begin with it; older ones end as no JSON does."""
    return value[:1] == b"\x80" or (value[-1:] == b"." and value[:1] in (b"c", b"(", b"]", b"}", b"i"))


def _shown(text: str) -> str:
    return text[:100].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")
