"""numpy's arrays and scalars among a pickle's values.

Forms (numpy/_core/src/multiarray/methods.c, `array_reduce`, `array_setstate`; numeric.py, `_frombuffer`)
1. `_reconstruct(cls, (0,), b'b')` with the state (version, shape, dtype, is_fortran, data).
2. `_frombuffer(buffer, dtype, shape, order)`: protocol 5.
3. `scalar(dtype, data)`: one number.
4. joblib's inline arrays, which the pickle machine hands over with their data's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from vouchgate.scanning.disarm.numpy_types import array
from vouchgate.scanning.disarm.tensors import BadTensor, Storage, Tensor, row_major
from vouchgate.scanning.pickles.dtypes import Dtype, dtype_of
from vouchgate.scanning.pickles.values import Array, List, Made, Span, Tuple, Value, bytes_of, text_of

_CORES = ("numpy.core", "numpy._core")
RECONSTRUCT = tuple(f"{core}.multiarray._reconstruct" for core in _CORES)
MASKED = ("numpy.ma.core._mareconstruct",)
"""Its data; the mask, one byte an element, is told beside it (`mask_of`)."""
FROM_BUFFER = tuple(f"{core}.numeric._frombuffer" for core in _CORES)
_BYTES = tuple(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray"))
"""How protocols 0 to 2 write empty bytes, and every protocol below 5 a bytearray."""
PLAIN_BYTES = (*_BYTES, "_codecs.encode")
SCALAR = tuple(f"{core}.multiarray.scalar" for core in _CORES)


@dataclass(frozen=True)
class Objects:
    """An array whose elements are Python objects."""

    shape: tuple[int, ...]
    items: Value


def array_of(view: memoryview, origin: int, value: Value) -> Tensor | Objects | None:
    """The array that `value` is, None where it is none. `origin` is where `view` begins in the artifact, -1 for unpacked bytes."""
    if isinstance(value, Array):
        return _inline(view, origin, value)
    if not isinstance(value, Made):
        return None
    if value.calls(*RECONSTRUCT) and isinstance(value.state, Tuple):
        state = value.state.items
        if len(state) != 5:
            raise BadTensor("its state is not (version, shape, dtype, order, data)")
        _, shape, dtype, fortran, data = state
        return _made(view, origin, dtype, shape, data, fortran=bool(fortran))
    if value.calls(*MASKED) and isinstance(value.state, Tuple):
        state = value.state.items
        if len(state) != 7:
            raise BadTensor("its state is not (version, shape, dtype, order, data, mask, fill value)")
        return _made(view, origin, state[2], state[1], state[4], fortran=bool(state[3]))
    if value.calls(*FROM_BUFFER) and len(value.args) == 4:
        data, dtype, shape, order = value.args
        return _made(view, origin, dtype, shape, data, fortran=order == "F")
    return None


def mask_of(view: memoryview, origin: int, value: Value) -> Tensor | None:
    """A masked array's mask. Raises `BadTensor`."""
    if not isinstance(value, Made) or not value.calls(*MASKED) or not isinstance(value.state, Tuple) or len(value.state.items) != 7:
        return None
    sizes, storage = shape_of(value.state.items[1]), storage_of(view, origin, value.state.items[5])
    if storage is None or len(storage.view) != prod(sizes):
        raise BadTensor("its mask has another number of elements")
    return Tensor(dtype="BOOL", shape=sizes, strides=row_major(sizes), storage=storage)


def scalar_of(view: memoryview, origin: int, value: Made) -> Tensor:
    """Form 3, as a tensor without dimensions. Raises `BadTensor`."""
    if len(value.args) != 2:
        raise BadTensor("its number has no dtype and data")
    found = _made(view, origin, value.args[0], Tuple(()), value.args[1], fortran=False)
    if isinstance(found, Objects):
        raise BadTensor("its number is a Python object")
    return found


def shape_of(value: Value) -> tuple[int, ...]:
    """A tuple (or list) of sizes. Raises `BadTensor`."""
    items = value.items if isinstance(value, Tuple | List) else (value,)
    if not all(type(item) is int and item >= 0 for item in items):
        raise BadTensor("its shape is not made of sizes")
    return tuple(items)


def storage_of(view: memoryview, origin: int, data: Value) -> Storage | None:
    """Where bytes (a bytes, a bytearray, or Python 2's text through latin-1) lie; None for anything else."""
    if isinstance(data, Made):
        if data.calls(*_BYTES):
            return storage_of(view, origin, data.args[0]) if data.args else Storage(memoryview(b""))
        if not data.calls("_codecs.encode") or len(data.args) != 2 or data.args[1] not in ("latin1", "latin-1"):
            return None
        return _latin1(view, data.args[0])
    if isinstance(data, Span) and data.kind in ("bytes", "bytearray"):
        return Storage(view[data.begin : data.begin + data.length], origin + data.begin if origin >= 0 else -1)
    raw = bytes_of(view, data)
    return _latin1(view, data) if raw is None else Storage(memoryview(raw))


def _latin1(view: memoryview, value: Value) -> Storage | None:
    text = text_of(view, value)
    if text is None:
        return None
    try:
        return Storage(memoryview(text.encode("latin-1")))
    except UnicodeEncodeError:
        raise BadTensor("its bytes are written as text that is no latin-1") from None


def _made(view: memoryview, origin: int, of: Value, shape: Value, data: Value, *, fortran: bool) -> Tensor | Objects:
    sizes, dtype = shape_of(shape), _known(of)
    if dtype.objects:
        return Objects(sizes, data)
    storage = storage_of(view, origin, data)
    if storage is None:
        raise BadTensor("its numbers are not written as bytes")
    found = array(dtype, sizes, storage, fortran=fortran, unit=_unit(of))
    if found.size != len(storage.view):
        raise BadTensor(f"its shape and dtype take {found.size} bytes, it has {len(storage.view)}")
    return found


def _inline(view: memoryview, origin: int, value: Array) -> Tensor | Objects:
    dtype: Dtype = value.dtype
    if dtype.objects:
        return Objects(value.shape, value.value)
    storage = Storage(view[value.begin : value.begin + value.length], origin + value.begin if origin >= 0 else -1)
    return array(dtype, value.shape, storage, fortran=value.fortran)


def _unit(value: Value) -> str:
    """`[D]`, `[25s]`: of a datetime64 or timedelta64, the last part of its dtype's state ({}, (unit, number, 1, 1))."""
    state = value.state.items if isinstance(value, Made) and isinstance(value.state, Tuple) else ()
    metadata = state[8] if len(state) == 9 else None
    parts = metadata.items[-1] if isinstance(metadata, Tuple) and metadata.items else None
    if not isinstance(parts, Tuple) or len(parts.items) < 2:
        return ""
    name = parts.items[0].decode("ascii", "replace") if isinstance(parts.items[0], bytes) else parts.items[0]
    return f"[{parts.items[1] if parts.items[1] != 1 else ''}{name}]"[:40]


def _known(value: Value) -> Dtype:
    found = dtype_of(value)
    if found is None:
        raise BadTensor("its dtype is not written as numpy writes one")
    return found
