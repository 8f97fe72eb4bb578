"""The header of a .npy file, read by a literal parser and checked part by part (numpy `lib/format.py`).

`descr` is a code (`<f8`), or a list of fields `(name, descr[, shape])`, where a name may be `(title, name)`; a descr in a pair with a shape is a
subarray. Whatever else a Python literal can say is refused.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any, NoReturn

from vouchgate.scanning.pickles.dtypes import MAX_DEPTH, MAX_FIELDS, MAX_ITEM_BYTES, Dtype, parse_code, product
from vouchgate.scanning.pickles.fitting import MAX_ELEMENTS, MAX_RANK
from vouchgate.scanning.verdict import Refuse, at

MAGIC = b"\x93NUMPY"
MAX_HEADER = 65_536
"""Bytes; numpy itself refuses to read more than 10,000 unless told otherwise."""
MAX_BRACKETS = 64
"""Open brackets at once: a literal parser recurses."""
_KEYS = {"descr", "fortran_order", "shape"}
_WIDTHS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
REMEDY = "save the array again with `numpy.save(..., allow_pickle=False)`"


@dataclass(frozen=True, slots=True)
class Header:
    """What it says."""

    dtype: Dtype
    shape: tuple[int, ...]
    fortran: bool
    end: int
    """Where the data begins."""


def header_of(view: memoryview) -> Header:
    """Read it. Raises `Refuse`."""
    width = _WIDTHS.get((view[6], view[7])) if len(view) > 8 and bytes(view[:6]) == MAGIC else None
    if width is None:
        _refuse("version", 6, "it is no version of the format")
    begin = 8 + width
    length = int.from_bytes(view[8:begin], "little")
    end = begin + length
    if length > MAX_HEADER or end > len(view):
        _refuse("header-length", 8, f"the header announces {length} bytes; {len(view) - begin} are left, and the bound is {MAX_HEADER}")
    found = _literal(bytes(view[begin:end]), "utf-8" if view[6] == 3 else "latin-1")
    shape, fortran, dtype = found["shape"], found["fortran_order"], descr(found["descr"])
    if not isinstance(shape, tuple) or len(shape) > MAX_RANK or not all(type(one) is int and 0 <= one <= MAX_ELEMENTS for one in shape):
        _refuse("shape", begin, "its shape is no tuple of whole numbers")
    if type(fortran) is not bool or dtype is None:
        _refuse("header", begin, "its dtype or order is none of numpy's")
    if product(tuple(one or 1 for one in shape)) > MAX_ELEMENTS:
        _refuse("shape", begin, f"its shape is over {MAX_ELEMENTS} elements")
    return Header(dtype, shape, fortran, end)


def _literal(raw: bytes, encoding: str) -> dict[str, Any]:
    deepest = depth = 0
    for byte in raw:
        depth += (byte in b"([{") - (byte in b")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_BRACKETS or b"\0" in raw:
        _refuse("header", 10, "the header is nested too deeply, or holds a zero byte")
    try:
        found = ast.literal_eval(raw.decode(encoding).strip(" \n"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        _refuse("header", 10, "the header is no plain Python literal")
    if not isinstance(found, dict) or set(found) != _KEYS:
        _refuse("header", 10, "the header does not say exactly descr, fortran_order and shape")
    return found


def descr(value: Any, depth: int = 0) -> Dtype | None:
    """A dtype from its literal; None where it is none."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return parse_code(value)
    if isinstance(value, tuple) and len(value) == 2:
        return _repeated(descr(value[0], depth + 1), value[1])
    return _fields(value, depth) if isinstance(value, list) and 0 < len(value) <= MAX_FIELDS else None


def _repeated(base: Dtype | None, shape: Any) -> Dtype | None:
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if base is None or len(sizes) > MAX_RANK or not all(type(one) is int and 0 <= one <= MAX_ITEM_BYTES for one in sizes):
        return None
    size = base.size * product(sizes)
    if size > MAX_ITEM_BYTES:
        return None
    return Dtype(code=f"V{size}", size=size, objects=base.objects, fields=(("", base, 0),), shape=sizes)


def _fields(value: list[Any], depth: int) -> Dtype | None:
    found: list[tuple[str, Dtype, int]] = []
    here = 0
    for field in value:
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            return None
        name = field[0][-1] if isinstance(field[0], tuple) and len(field[0]) == 2 else field[0]
        inner = descr(field[1], depth + 1)
        if len(field) == 3:
            inner = _repeated(inner, field[2])
        if not isinstance(name, str) or inner is None:
            return None
        found.append((name, inner, here))
        here += inner.size
    names = [name for name, _, _ in found if name]
    if here > MAX_ITEM_BYTES or len(set(names)) != len(names):
        return None
    return Dtype(code=f"V{here}", size=here, objects=any(one.objects for _, one, _ in found), fields=tuple(found))


def _refuse(rule: str, place: int, why: str) -> NoReturn:
    raise Refuse(f"numpy:{rule}", at(place), why, REMEDY)
