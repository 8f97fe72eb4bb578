"""Writes safetensors from tensors as disarm found them, and reads the result back from nothing but its bytes.

Rules (safetensors README, "Format")
1. The header is JSON with the keys in the order of the data, padded by spaces to 8 bytes; tensors tile the data without a gap, widest
   numbers first, so that each is aligned.
2. `__metadata__` holds what disarm itself says and nothing of the artifact's own text: that goes into the sidecar.
3. What is written is written as pieces: either a span of the artifact that may be copied as it lies, or bytes.
4. Reading back trusts nothing of the plan: the header is parsed from the file, and each tensor is looked up in it by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.tensors import DTYPE_BYTES, BadTensor, Storage, Tensor, row_major

ALIGNMENT = 8
"""Bytes; the reference library pads the header to this."""
SMALL_BYTES = 256 * 1024
"""A tensor up to this size is sent as bytes: one message for many costs less than a copy for each."""
MAX_HEADER_BYTES = 16 * 1024**2
"""Bytes of the header, the bound of our own scan (`ScanSettings.max_header_bytes`)."""
READ_BYTES = 256 * 1024
"""Bytes compared at a time: both sides stay in a core's cache."""

Change = Callable[[str, Tensor, memoryview], memoryview]
"""(name, tensor, piece) -> the piece as it is to be written; how weights are disturbed on request."""


class Copy(tuple[int, int]):
    """A span of the artifact: begin and length."""

    __slots__ = ()


class Mismatch(ValueError):
    """What stands in the file is not what was to be written."""


def ordered(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names in the order of their data (rule 1)."""
    return sorted(tensors, key=lambda name: (-DTYPE_BYTES[tensors[name].dtype], name))


def header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON."""
    document: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    here = 0
    for name in ordered(tensors):
        tensor = tensors[name]
        document[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [here, here + tensor.size]}
        here += tensor.size
    raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % ALIGNMENT)
    return len(raw).to_bytes(8, "little") + raw


def pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], change: Change | None = None) -> Iterator[bytes | memoryview | Copy]:
    """The whole file (rule 3)."""
    yield header(tensors, metadata)
    for name in ordered(tensors):
        tensor = tensors[name]
        span = tensor.span()
        if span is not None and change is None and tensor.size > SMALL_BYTES:
            yield Copy(span)
        else:
            yield from _changed(name, tensor, change)


def _changed(name: str, tensor: Tensor, change: Change | None) -> Iterator[memoryview]:
    for piece in tensor.pieces():
        yield piece if change is None else change(name, tensor, piece)


def compare(read: Callable[[int], bytes], tensors: Mapping[str, Tensor], metadata: Mapping[str, str], change: Change | None = None) -> int:
    """Hold a file, read from its first byte on, to the tensors it was made from (rule 4); the bytes read. Raises `Mismatch`."""
    length = int.from_bytes(_exactly(read, 8), "little")
    if length > MAX_HEADER_BYTES:
        raise Mismatch("the header that was written is over its bound")
    found = json.loads(_exactly(read, length))
    if found.pop("__metadata__", {}) != dict(metadata) or found.keys() != tensors.keys():
        raise Mismatch("the header names other tensors than were recovered")
    here = 0
    for name in sorted(found, key=lambda name: (found[name]["data_offsets"], name)):
        entry, tensor = found[name], tensors[name]
        if entry["dtype"] != tensor.dtype or tuple(entry["shape"]) != tensor.shape or entry["data_offsets"] != [here, here + tensor.size]:
            raise Mismatch(f"tensor `{name[:80]}` is described otherwise than it was recovered")
        here += tensor.size
        for piece in _changed(name, tensor, change):
            _same(read, piece, name)
    if read(1):
        raise Mismatch("bytes stand behind the last tensor")
    return 8 + length + here


def compare_document(read: Callable[[int], bytes], document: memoryview) -> int:
    """The same for a file that is one document. Raises `Mismatch`."""
    _same(read, document, "document")
    if read(1):
        raise Mismatch("bytes stand behind the document")
    return len(document)


def taken(stored: Storage, path: str, findings: Findings) -> dict[str, Any]:
    """The tensors of a file of this format, whatever else it holds: metadata becomes a plain value."""
    length = int.from_bytes(stored.view[:8], "little")
    try:
        if length > MAX_HEADER_BYTES:
            raise BadTensor(f"its header announces {length} bytes")
        found = json.loads(bytes(stored.view[8 : 8 + length]))
        entries = {name: entry for name, entry in found.items() if name != "__metadata__"}
    except (ValueError, AttributeError, RecursionError) as bad:
        findings.drop("fault", path, "header", f"the header cannot be read: {str(bad)[:80]}")
        return {}
    values: dict[str, Any] = {}
    data = Storage(stored.view[8 + length :], stored.begin + 8 + length if stored.begin >= 0 else -1)
    for name, entry in entries.items():
        where = f"{path}.{name}" if path else name
        try:
            values[name] = {"$tensor": findings.keep(where, _entry(entry, data))}
        except (BadTensor, TypeError, KeyError, ValueError) as bad:
            findings.drop("fault", where, "tensor", f"its entry cannot be read: {str(bad)[:80]}")
    if found.get("__metadata__"):
        values["$metadata"] = _text(found["__metadata__"])
    return values


def _entry(entry: Any, data: Storage) -> Tensor:
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(size) is int for size in (*shape, begin, end)) or not 0 <= begin <= end <= len(data.view):
        raise BadTensor("its offsets or shape are not within the file")
    made = Tensor(dtype=entry["dtype"], shape=shape, strides=row_major(shape), storage=data, offset=begin)
    if made.size != end - begin:
        raise BadTensor("dtype and shape take other bytes than its offsets span")
    return made


def _text(metadata: Any) -> Any:
    return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else str(metadata)


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    parts = []
    while count:
        part = read(count)
        if not part:
            raise Mismatch("the file ends too early")
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _same(read: Callable[[int], bytes], piece: memoryview, name: str) -> None:
    flat = piece.cast("B")
    for begin in range(0, len(flat), READ_BYTES):
        expected = flat[begin : begin + READ_BYTES]
        if _exactly(read, len(expected)) != expected.tobytes():
            raise Mismatch(f"the numbers of tensor `{name[:80]}` are not those that were recovered")
