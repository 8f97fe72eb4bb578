"""numpy's dtypes as safetensors' numbers.

Rules
1. Booleans, integers, and floating point numbers of 2, 4 and 8 bytes have a name in safetensors; complex numbers of 8 bytes too, of 16 bytes
   they become pairs.
2. Everything else without objects (text, dates, records, long doubles) is kept byte by byte as `U8` with one more dimension, and its dtype is
   told beside it: nothing is reinterpreted, nor turned to another byte order.
"""

from __future__ import annotations

from math import prod

from vouchgate.scanning.disarm.tensors import BadTensor, Storage, Tensor, row_major
from vouchgate.scanning.pickles.dtypes import Dtype

_NUMBERS = {
    "b1": "BOOL", "i1": "I8", "u1": "U8", "i2": "I16", "u2": "U16", "i4": "I32", "u4": "U32", "i8": "I64", "u8": "U64", "f2": "F16",
    "f4": "F32", "f8": "F64", "c8": "C64",
}  # fmt: skip
_TOLD = 2_000
"""Characters of a dtype's description."""


def array(dtype: Dtype, shape: tuple[int, ...], storage: Storage, *, fortran: bool = False, unit: str = "") -> Tensor:
    """A tensor over a numpy array's bytes. `unit` is a date's or duration's. Raises `BadTensor`."""
    if dtype.objects:
        raise BadTensor("its elements are Python objects")
    name, was = _NUMBERS.get(dtype.code, ""), ""
    tail: tuple[int, ...] = ()
    if not name and dtype.code == "c16":
        name, tail, was = "F64", (2,), "complex128"
    elif not name:
        name, tail, was = "U8", (dtype.size,), told(dtype)[:_TOLD] + unit
    width = prod(tail)
    steps = tuple(reversed(row_major(tuple(reversed(shape))))) if fortran else row_major(shape)
    return Tensor(
        dtype=name,
        shape=(*shape, *tail),
        strides=(*(step * width for step in steps), *(1 for _ in tail)),
        storage=Storage(storage.view, storage.begin, big_endian=dtype.order == ">"),
        swap_bytes=4 if name == "C64" else 0,
        was=was,
    )


def told(dtype: Dtype) -> str:
    """`<f8`, `[2]<f8`, or `{name:<f8@0,...}` with the offsets of a record's fields."""
    if dtype.shape:
        return f"{list(dtype.shape)}{told(dtype.fields[0][1])}"
    if dtype.fields:
        return "{" + ",".join(f"{name}:{told(inner)}@{at}" for name, inner, at in dtype.fields) + "}"
    return dtype.order.replace("|", "") + dtype.code
