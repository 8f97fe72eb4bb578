"""numpy's files: .npy (one array) and .npz (a zip of them).

Rules (numpy/lib/format.py, "Format Version 1.0" to "3.0")
1. The header is a Python literal of exactly `descr`, `fortran_order` and `shape`, read by a literal parser within `MAX_HEADER_BYTES`.
2. An array of objects holds a pickle, which is taken apart as every pickle is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from math import prod
from typing import Any

from vouchgate.scanning.disarm.archives import Archive
from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.numpy_types import array
from vouchgate.scanning.disarm.tensors import BadTensor, Storage
from vouchgate.scanning.pickles.dtypes import MAX_DEPTH, Dtype, parse_code

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 65_536
"""Bytes of the header; numpy itself reads 10,000 without being told otherwise, wide records need more."""
_KEYS = {"descr", "fortran_order", "shape"}

TakePickle = Callable[[Storage, str], Any]
"""(bytes, path) -> its values as JSON; tensors inside are kept under the path."""


def from_npy(stored: Storage, path: str, findings: Findings, take: TakePickle) -> Any:
    """The array as a `$tensor`, or the pickle behind the header."""
    try:
        descr, fortran, shape, begin = _header(stored.view)
        dtype = _dtype(descr)
        data = Storage(stored.view[begin:], stored.begin + begin if stored.begin >= 0 else -1)
        if dtype.objects:
            return {"$array": list(shape), "of": take(data, path)}
        tensor = array(dtype, shape, data, fortran=fortran, unit=_unit(descr))
    except BadTensor as bad:
        findings.drop("fault", path or "the whole artifact", "array", str(bad))
        return {"$dropped": "array"}
    if tensor.size < len(data.view):
        findings.drop("bytes", path, f"{len(data.view) - tensor.size} bytes behind the array", "they belong to no array")
    return {"$tensor": findings.keep(path or "array", tensor)}


def from_npz(archive: Archive, findings: Findings, take: TakePickle) -> bool:
    """Whether the archive is one of numpy's; its arrays are named as `np.load` names them."""
    names = [name for name in archive.members if name.endswith(".npy")]
    if not names or len(names) * 2 < len(archive.members):
        return False
    findings.values = {}
    for name in archive.members:
        stored = archive.content(name) if name in names else None
        if stored is not None and bytes(stored.view[:6]) == MAGIC:
            findings.values[name[:-4]] = from_npy(stored, name[:-4], findings, take)
        elif name not in names or stored is not None:
            findings.drop("member", name, name, "it is no array")
    return True


def _header(view: memoryview) -> tuple[Any, bool, tuple[int, ...], int]:
    """descr, order, shape, and where the data begin. Raises `BadTensor`."""
    major = view[6] if len(view) > 12 else 0
    width = {1: 2, 2: 4, 3: 4}.get(major)
    if width is None:
        raise BadTensor("its header is of no known version")
    length = int.from_bytes(view[8 : 8 + width], "little")
    begin = 8 + width + length
    if length > MAX_HEADER_BYTES or begin > len(view):
        raise BadTensor(f"its header announces {length} bytes")
    raw = bytes(view[8 + width : begin])
    try:
        header = ast.literal_eval(raw.decode("utf-8" if major == 3 else "latin-1").strip())
        if not isinstance(header, dict) or header.keys() != _KEYS:
            raise ValueError
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise BadTensor("its header is not the literal that numpy writes") from None
    shape = header["shape"]
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 64:
        raise BadTensor("its shape is not made of sizes")
    return header["descr"], header["fortran_order"] is True, shape, begin


def _dtype(descr: Any, depth: int = 0) -> Dtype:
    """A code, or a record as [(name, dtype[, shape]), ...]. Raises `BadTensor`."""
    if isinstance(descr, list) and depth < MAX_DEPTH:
        fields, here = [], 0
        for field in descr:
            inner = _field(field, depth)
            fields.append((str(field[0])[:200], inner, here))
            here += inner.size
        return Dtype(code=f"V{here}", size=here, objects=any(inner.objects for _, inner, _ in fields), fields=tuple(fields))
    found = parse_code(descr[: -len(_unit(descr))] if _unit(descr) else descr)
    if found is None:
        raise BadTensor(f"its dtype `{str(descr)[:40]}` is not known")
    return found


def _field(field: Any, depth: int) -> Dtype:
    if not isinstance(field, tuple) or len(field) not in (2, 3):
        raise BadTensor("its record is not written as numpy writes one")
    base = _dtype(field[1], depth + 1)
    shape = field[2] if len(field) == 3 else ()
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise BadTensor("its record is not written as numpy writes one")
    if not shape:
        return base
    size = base.size * prod(shape)
    return Dtype(code=f"V{size}", size=size, objects=base.objects, fields=(("", base, 0),), shape=shape)


def _unit(descr: Any) -> str:
    """`[D]` of `<M8[D]`."""
    bracket = descr.find("[") if isinstance(descr, str) and descr.endswith("]") and descr[1:2] in ("M", "m") else -1
    return descr[bracket:] if bracket > 0 and len(descr) < 24 else ""
