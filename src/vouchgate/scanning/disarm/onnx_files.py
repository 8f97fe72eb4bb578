"""ONNX without what a runtime does not need: text, metadata, training; and where it names code of others, its tensors alone.

Rules (onnx-ml.proto; protobuf "Encoding" guide)
1. Fields are copied as they are encoded, or left out; nothing is decoded and encoded again but the lengths around what was left out.
2. Left out: documentation, metadata, names of the producer, training, device configuration, and every field that the table does not have.
3. A model that still does not pass the scan (custom operators, files outside, a broken graph) gives its initialisers as tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.tensors import DTYPE_BYTES, BadTensor, Storage, Tensor, row_major
from vouchgate.scanning.onnx_schema import SCHEMA

MAX_DEPTH = 64
"""Messages within each other; the bound of the scan."""
_LEFT_OUT = frozenset(
    {"doc_string", "metadata_props", "producer_name", "producer_version", "training_info", "configuration", "device_configurations"}
)
_DTYPES = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 12: "U32", 13: "U64", 14: "C64",
    16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2", 20: "F8_E5M2FNUZ", 24: "F8_E8M0",
}  # fmt: skip
"""TensorProto.DataType -> safetensors."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class NotProtobuf(ValueError):
    """The bytes are no message of this table."""


@dataclass(frozen=True)
class Field:
    """One field as it lies: its tag begins at `tag`, its value spans `begin` to `end`."""

    number: int
    wire: int
    tag: int
    begin: int
    end: int
    value: int = 0
    """Of a varint."""


def fields(view: memoryview, begin: int, end: int) -> Iterator[Field]:
    """The fields of a message. Raises `NotProtobuf`."""
    here = begin
    while here < end:
        tag = here
        key, here = _varint(view, here, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            first = here
            value, here = _varint(view, here, end)
            yield Field(number, wire, tag, first, here, value)
            continue
        if wire == _BYTES:
            length, here = _varint(view, here, end)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise NotProtobuf(f"wire type {wire} at offset {tag}")
        if length > end - here:
            raise NotProtobuf(f"a field ends beyond its message at offset {tag}")
        yield Field(number, wire, tag, here, here + length)
        here += length


def _varint(view: memoryview, here: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while here < end and shift < 70:
        byte = view[here]
        value |= (byte & 0x7F) << shift
        here, shift = here + 1, shift + 7
        if byte < 0x80:
            return value, here
    raise NotProtobuf(f"a number does not end at offset {here}")


def stripped(view: memoryview, findings: Findings) -> bytes:
    """The model by rules 1 and 2. Raises `NotProtobuf`."""
    parts: list[bytes | memoryview] = []
    _strip(view, "ModelProto", 0, len(view), parts, findings, 0)
    return b"".join(parts)


def _strip(view: memoryview, kind: str, begin: int, end: int, parts: list[bytes | memoryview], findings: Findings, depth: int) -> int:
    """Append what is kept; its bytes."""
    if depth > MAX_DEPTH:
        raise NotProtobuf(f"messages lie deeper than {MAX_DEPTH}")
    rows, total = SCHEMA[kind], 0
    for field in fields(view, begin, end):
        row = rows.get(field.number)
        name = row.name if row is not None else f"field {field.number}"
        if row is None or name in _LEFT_OUT or (kind == "ModelProto" and name == "domain"):
            findings.drop("value", kind, f"{name}, {field.end - field.begin} bytes", "a runtime does not need it")
            continue
        if row.kind in SCHEMA and field.wire == _BYTES:
            total += _within(view, row.kind, field, parts, findings, depth)
        else:
            parts.append(view[field.tag : field.end])
            total += field.end - field.tag
    return total


def _within(view: memoryview, kind: str, field: Field, parts: list[bytes | memoryview], findings: Findings, depth: int) -> int:
    inner: list[bytes | memoryview] = []
    size = _strip(view, kind, field.begin, field.end, inner, findings, depth + 1)
    if size == field.end - field.begin:
        parts.append(view[field.tag : field.end])
        return field.end - field.tag
    head = _encoded(field.number << 3 | _BYTES) + _encoded(size)
    parts.append(head)
    parts.extend(inner)
    return len(head) + size


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def initialisers(view: memoryview, origin: int, findings: Findings) -> None:
    """Rule 3: tensors of the graph and of its subgraphs, by name."""
    try:
        _search(view, origin, "ModelProto", 0, len(view), "", findings, 0)
    except NotProtobuf as bad:
        findings.drop("fault", "the model", "the rest of it", f"it is no message any more: {bad}")


def _search(view: memoryview, origin: int, kind: str, begin: int, end: int, path: str, findings: Findings, depth: int) -> None:
    if depth > MAX_DEPTH:
        return
    for field in fields(view, begin, end):
        row = SCHEMA[kind].get(field.number)
        if row is None or row.kind not in SCHEMA or field.wire != _BYTES:
            continue
        if row.kind == "TensorProto":
            _initialiser(view, origin, field, path, findings)
        elif row.name != "training_info":
            _search(view, origin, row.kind, field.begin, field.end, path, findings, depth + 1)


def _initialiser(view: memoryview, origin: int, field: Field, path: str, findings: Findings) -> None:
    name = path
    try:
        found = _read_tensor(view, field.begin, field.end)
        name = found.get("name") or "constant"
        findings.keep(name, _tensor(view, origin, found))
    except (BadTensor, NotProtobuf) as bad:
        findings.drop("fault", name, f"tensor {name}", str(bad))


def _read_tensor(view: memoryview, begin: int, end: int) -> dict[str, Any]:
    """Fields of a TensorProto that matter: text decoded, numbers listed, raw bytes as spans."""
    found: dict[str, Any] = {"dims": []}
    for field in fields(view, begin, end):
        row = SCHEMA["TensorProto"].get(field.number)
        if row is None:
            continue
        if row.name == "dims":
            found["dims"] += [field.value] if field.wire == _VARINT else _unpacked(view, field)
        elif row.name == "name":
            found["name"] = bytes(view[field.begin : field.end])[:1_000].decode("utf-8", "backslashreplace")
        elif row.kind == "int" and not row.many:
            found[row.name] = field.value
        else:
            found.setdefault(row.name, []).append(field)
    return found


def _unpacked(view: memoryview, field: Field) -> list[int]:
    values, here = [], field.begin
    while here < field.end:
        value, here = _varint(view, here, field.end)
        values.append(value)
    return values


def _tensor(view: memoryview, origin: int, found: dict[str, Any]) -> Tensor:
    if found.get("data_location") or found.get("external_data"):
        raise BadTensor("its numbers lie in another file")
    dtype = _DTYPES.get(found.get("data_type", 0), "")
    if not dtype:
        raise BadTensor("its numbers are of a kind that safetensors does not have")
    shape = tuple(found["dims"])
    size = prod(shape) * DTYPE_BYTES[dtype]
    raw = found.get("raw_data", [])
    if len(raw) == 1:
        field = raw[0]
        storage = Storage(view[field.begin : field.end], origin + field.begin if origin >= 0 else -1)
    else:
        storage = Storage(memoryview(_typed(view, found, dtype)))
    if len(storage.view) != size:
        raise BadTensor(f"its shape and dtype take {size} bytes, it has {len(storage.view)}")
    return Tensor(dtype=dtype, shape=shape, strides=row_major(shape), storage=storage)


def _typed(view: memoryview, found: dict[str, Any], dtype: str) -> bytes:
    """Numbers in a typed field: fixed ones as they lie, varints cut to the dtype's bytes."""
    out = bytearray()
    for name in ("float_data", "double_data", "int32_data", "int64_data", "uint64_data"):
        for field in found.get(name, ()):
            if name in ("float_data", "double_data"):
                out += view[field.begin : field.end]
                continue
            width = DTYPE_BYTES[dtype]
            mask = (1 << 8 * width) - 1
            for value in [field.value] if field.wire == _VARINT else _unpacked(view, field):
                out += (value & mask).to_bytes(width, "little")
    return bytes(out)
