"""torch's tensors, parameters and quantised tensors among a pickle's values.

Forms (torch/_utils.py, torch/_tensor.py, torch/storage.py; torch 1.0 to 2.13)
1. `_rebuild_tensor(storage, offset, size, stride)`, `_rebuild_tensor_v2(..., requires_grad, hooks[, metadata])`,
   `_rebuild_tensor_v3(..., requires_grad, hooks, dtype[, metadata])`; offset, size and stride count elements.
2. `_rebuild_parameter(data, requires_grad, hooks)` and `_rebuild_parameter_with_state`: the data.
3. `_rebuild_qtensor(storage, offset, size, stride, quantiser, requires_grad, hooks)`: the integers, and the quantiser beside them.
4. `_rebuild_from_type_v2(function, type, arguments, state)`: the call that it stands for.
5. `_rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad)`, `_rebuild_device_tensor_from_cpu_tensor`: the array, the tensor.
6. `torch.storage._load_from_bytes(bytes)`: a whole file of torch's, of one storage; how plain pickles hold it.
7. A storage is a persistent id ('storage', type, key, location, elements[, view]); found by whoever reads the container.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from vouchgate.scanning.disarm.numpy_objects import shape_of
from vouchgate.scanning.disarm.tensors import DTYPE_BYTES, BadTensor, Storage, Tensor, row_major
from vouchgate.scanning.pickles.values import Made, Name, Persistent, Tuple, Value

DTYPES = {
    "float64": ("F64", 1), "double": ("F64", 1), "float32": ("F32", 1), "float": ("F32", 1), "float16": ("F16", 1), "half": ("F16", 1),
    "bfloat16": ("BF16", 1), "int64": ("I64", 1), "long": ("I64", 1), "int32": ("I32", 1), "int": ("I32", 1), "int16": ("I16", 1),
    "short": ("I16", 1), "int8": ("I8", 1), "uint8": ("U8", 1), "uint16": ("U16", 1), "uint32": ("U32", 1), "uint64": ("U64", 1),
    "bool": ("BOOL", 1), "complex64": ("C64", 1), "cfloat": ("C64", 1), "complex128": ("F64", 2), "cdouble": ("F64", 2),
    "complex32": ("F16", 2), "chalf": ("F16", 2), "float8_e4m3fn": ("F8_E4M3", 1), "float8_e5m2": ("F8_E5M2", 1),
    "float8_e4m3fnuz": ("F8_E4M3FNUZ", 1), "float8_e5m2fnuz": ("F8_E5M2FNUZ", 1), "float8_e8m0fnu": ("F8_E8M0", 1),
    "float4_e2m1fn_x2": ("U8", 1), "qint8": ("I8", 1), "quint8": ("U8", 1), "qint32": ("I32", 1), "quint4x2": ("U8", 1), "quint2x4": ("U8", 1),
}  # fmt: skip
"""torch's dtype -> safetensors' and how many of its numbers are one element."""
_EXACT = frozenset(DTYPES) - {
    "complex128",
    "cdouble",
    "complex32",
    "chalf",
    "qint8",
    "quint8",
    "qint32",
    "quint4x2",
    "quint2x4",
    "float4_e2m1fn_x2",
}
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16", "LongStorage": "int64",
    "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128", "QInt8Storage": "qint8", "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4", "UntypedStorage": "uint8",
}  # fmt: skip
"""A storage's class, in `torch`, `torch.cuda` or `torch.storage` -> its dtype."""
_PACKED = {"quint4x2": 2, "quint2x4": 4}
"""Elements in one byte."""

_PLAIN = tuple(f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"))
_QUANTISED = ("torch._utils._rebuild_qtensor",)
_WRAPPED = {
    "torch._utils._rebuild_parameter": 0,
    "torch._utils._rebuild_parameter_with_state": 0,
    "torch._utils._rebuild_device_tensor_from_numpy": 0,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": 0,
}
"""Call -> which argument is the tensor."""
_FROM_TYPE = ("torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type")
FROM_BYTES = "torch.storage._load_from_bytes"
MAX_WRAPS = 16
"""Calls around one tensor: a parameter of a subclass has two."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A storage as its container has it."""

    storage: Storage
    dtype: str
    """torch's name."""
    first: int = 0
    """Elements before the ones that the id means (views of legacy files)."""


FindStorage = Callable[[Value], Stored]
"""A persistent id, or a call that stands for a whole file of torch's (form 6), to its storage. Raises `BadTensor`."""


def storage_class(value: Value) -> str:
    """The dtype of a storage's class. Raises `BadTensor`."""
    if not isinstance(value, Name) or value.module not in ("torch", "torch.cuda", "torch.storage") or value.name not in STORAGES:
        raise BadTensor("its storage is of no class of torch's")
    return STORAGES[value.name]


def is_storage(value: Value) -> bool:
    """Whether `value` stands for a storage."""
    return isinstance(value, Persistent) or (isinstance(value, Made) and value.calls(FROM_BYTES) and len(value.args) == 1)


def unwrapped(value: Value) -> Value:
    """What forms 2, 4 and 5 stand around."""
    for _ in range(MAX_WRAPS):
        if not isinstance(value, Made) or value.name is None:
            return value
        place = _WRAPPED.get(value.name.full)
        if place is not None and len(value.args) > place:
            value = value.args[place]
        elif value.calls(*_FROM_TYPE) and len(value.args) >= 3 and isinstance(value.args[0], Name) and isinstance(value.args[2], Tuple):
            value = Made(how="reduce", name=value.args[0], args=value.args[2].items, at=value.at)
        else:
            return value
    return value


def tensor_of(value: Value, find: FindStorage) -> Tensor | None:
    """The tensor that `value` (unwrapped) is, None where it is none. Raises `BadTensor`."""
    if is_storage(value):
        return _whole(find(value))
    if not isinstance(value, Made):
        return None
    if value.calls(*_PLAIN) and len(value.args) >= 4:
        kept = value.args[6] if value.calls(_PLAIN[2]) and len(value.args) > 6 else None
        return _tensor(value, find, dtype=kept.name if isinstance(kept, Name) and kept.module == "torch" else "")
    if value.calls(*_QUANTISED) and len(value.args) >= 5:
        return _tensor(value, find, quantiser=value.args[4])
    return None


def _tensor(value: Made, find: FindStorage, *, dtype: str = "", quantiser: Value = None) -> Tensor:
    where, offset, size, stride = value.args[:4]
    if not is_storage(where) or type(offset) is not int:
        raise BadTensor("its storage is not one of torch's, or its offset no number")
    stored = find(where)
    return laid_out(stored, dtype or stored.dtype, offset + stored.first, shape_of(size), shape_of(stride), quantiser)


def laid_out(stored: Stored, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], quantiser: Value = None) -> Tensor:
    """A tensor over a storage, counted in elements of `dtype`. Raises `BadTensor`."""
    if dtype not in DTYPES:
        raise BadTensor(f"its dtype `{dtype[:40]}` is not known")
    if dtype in _PACKED:
        return _packed(stored, dtype, offset, shape, strides, quantiser)
    name, width = DTYPES[dtype]
    tail = () if width == 1 else (width,)
    return Tensor(
        dtype=name,
        shape=(*shape, *tail),
        strides=(*(step * width for step in strides), *(1 for _ in tail)),
        storage=stored.storage,
        offset=offset * width * DTYPE_BYTES[name],
        swap_bytes=4 if name == "C64" else 0,
        was="" if dtype in _EXACT else dtype,
        extra={} if quantiser is None else {"quantiser": quantiser},
    )


def _packed(stored: Stored, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], quantiser: Value) -> Tensor:
    """Several elements in a byte: kept as the bytes they are in, with the shape beside them."""
    if offset or strides != row_major(shape):
        raise BadTensor(f"its elements are packed ({dtype}) and not in order")
    size = -(-prod(shape) // _PACKED[dtype])
    was = f"{dtype} {list(shape)}"
    return Tensor(dtype="U8", shape=(size,), strides=(1,), storage=stored.storage, was=was, extra={"quantiser": quantiser})


def _whole(stored: Stored) -> Tensor:
    """A storage that is held as one."""
    dtype = "uint8" if stored.dtype in _PACKED else stored.dtype
    name, width = DTYPES[dtype]
    elements = len(stored.storage.view) // (width * DTYPE_BYTES[name])
    return laid_out(stored, dtype, stored.first, (elements - stored.first,), (1,))
