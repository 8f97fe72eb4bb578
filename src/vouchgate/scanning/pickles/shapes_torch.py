"""Rules over the arguments and states of torch's names.

A tensor is a window onto a storage: loaders grow the storage, or read beyond it, where the window is larger. So offset, sizes and strides are
checked against the storage's elements. Hooks are called on every backward pass, so there must be none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles.fitting import MAX_ELEMENTS, Fit, attributes, dimensions, is_int, is_number, is_plain
from vouchgate.scanning.pickles.torch_storages import DEVICES, storage_of
from vouchgate.scanning.pickles.values import Dict, List, Made, Name, Tuple, Value

DTYPE_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1, "complex32": 4, "complex64": 8, "complex128": 16, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1,
    "bits8": 1, "bits16": 2, "bits1x8": 1, "bits2x4": 1, "bits4x2": 1,
}  # fmt: skip
"""Bytes an element of each dtype."""
TENSORS = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.nn.Parameter", "torch._tensor.Tensor")
LAYOUTS = ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")
MAX_HANDLES = 2**48
"""Handles of hooks that one process could ever have made: counting goes on from a state's number."""
_METADATA = ("conj", "neg")
_WINDOW = "its window is larger than its storage"
_HOOKS = "it brings hooks, which would be called while training"


def _window(args: tuple[Value, ...], item: int = 0) -> str:
    """What is wrong with a window onto a storage: `(storage, offset, size, stride)`."""
    storage, offset, size, stride = args[:4]
    found, sizes = storage_of(storage), dimensions(size)
    steps = stride.items if isinstance(stride, Tuple | List) else None
    if found is None or sizes is None or steps is None or not is_int(offset):
        return "it is no window onto a storage of torch's own"
    if len(steps) != len(sizes) or not all(is_int(step, 0, MAX_ELEMENTS) for step in steps):
        return "its strides are none of its sizes"
    have = found.view[2] if found.view else found.elements
    if item:
        have = have * found.item // item
    need = offset + 1 + sum((count - 1) * step for count, step in zip(sizes, steps, strict=True)) if 0 not in sizes else offset
    return "" if need <= have else _WINDOW


def _no_hooks(value: Value) -> bool:
    if value is None:
        return True
    empty = isinstance(value, Made) and value.calls("collections.OrderedDict") and not value.args and not value.pairs and not value.items
    if empty:
        value.closed = True  # hooks could still be put into it
    return empty


def _metadata(value: Value) -> bool:
    """`{"conj": True}`: bits of a view."""
    return value is None or (isinstance(value, Dict) and all(key in _METADATA and isinstance(flag, bool) for key, flag in value.pairs))


def _tensor(fit: Fit) -> str:
    """`_rebuild_tensor(storage, offset, size, stride)`; v2 adds requires_grad, hooks, metadata."""
    if len(fit.args) not in (4, 6, 7):
        return "its arguments are none that are written"
    rest = (*fit.args[4:], None, None, None)
    if len(fit.args) > 4 and (not isinstance(rest[0], bool | int) or not _metadata(rest[2])):
        return "its flags are none that are written"
    if not _no_hooks(rest[1]):
        return _HOOKS
    return _window(fit.args)


def _tensor_v3(fit: Fit) -> str:
    """`_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`: sizes count elements of dtype."""
    if len(fit.args) not in (7, 8) or not isinstance(fit.args[4], bool) or not _metadata(fit.args[7] if len(fit.args) == 8 else None):
        return "its arguments are none that are written"
    item = _dtype_bytes(fit, fit.args[6])
    if not item:
        return "its dtype is none of torch's"
    return _HOOKS if not _no_hooks(fit.args[5]) else _window(fit.args, item)


def _dtype_bytes(fit: Fit, value: Value) -> int:
    if not fit.refers(value, *(f"torch.{name}" for name in DTYPE_BYTES)):
        return 0
    return DTYPE_BYTES[value.name]


def _parameter(fit: Fit) -> str:
    """`_rebuild_parameter(tensor, requires_grad, hooks[, state])`."""
    if len(fit.args) not in (3, 4) or not isinstance(fit.args[0], Made) or not isinstance(fit.args[1], bool | int):
        return "its arguments are none that are written"
    if not _no_hooks(fit.args[2]):
        return _HOOKS
    return _attributes(fit.args[3]) if len(fit.args) == 4 else ""


def _attributes(state: Value) -> str:
    """Attributes set on a tensor: its own ones, such as hooks or grad_fn, are not for a file to set."""
    wrong = attributes(state)
    parts = state.items if isinstance(state, Tuple) else (state,)
    keys = [key for part in parts if isinstance(part, Dict) for key, _ in part.pairs]
    return wrong or next((f"it sets `{key}` on a tensor" for key in keys if key in _TENSOR_OWN), "")


_TENSOR_OWN = frozenset({"data", "grad", "grad_fn", "_grad", "_grad_fn", "_backward_hooks", "_post_accumulate_grad_hooks", "names"})


def _quantized(fit: Fit) -> str:
    """`_rebuild_qtensor(storage, offset, size, stride, (scheme, scale, zero point[, axis]), requires_grad, hooks)`."""
    if len(fit.args) != 7 or not isinstance(fit.args[4], Tuple) or not isinstance(fit.args[5], bool | int):
        return "its arguments are none that are written"
    scheme, *numbers = fit.args[4].items or (None,)
    if not isinstance(scheme, Name) or not all(is_number(one) or isinstance(one, Made) or is_plain(one) for one in numbers):
        return "its quantisation is none that is written"
    return _HOOKS if not _no_hooks(fit.args[6]) else _window(fit.args)


def _sparse(fit: Fit) -> str:
    """`_rebuild_sparse_tensor(layout, (indices, values, size[, coalesced]))`; torch checks the indices at the end of loading."""
    match fit.args:
        case (layout, Tuple(items=items)) if 3 <= len(items) <= 4 and (isinstance(layout, Made) or _is_layout(layout)):
            if all(isinstance(one, Made | Tuple | bool | None) for one in items):
                return ""
    return "its arguments are no layout and tensors"


def _is_layout(value: Value) -> bool:
    return isinstance(value, Name) and value.full in [f"torch.{name}" for name in LAYOUTS]


def _layout(fit: Fit) -> str:
    match fit.args:
        case (str() as name,) if name in [f"torch.{layout}" for layout in LAYOUTS]:
            return ""
    return "it is no layout of torch's"


def _meta(fit: Fit) -> str:
    """`_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)`: nothing is reserved."""
    if len(fit.args) != 4 or not _dtype_bytes(fit, fit.args[0]) or not isinstance(fit.args[3], bool):
        return "its arguments are none that are written"
    return "" if dimensions(fit.args[1]) is not None and is_plain(fit.args[2]) else "its sizes are none"


def _nested(fit: Fit) -> str:
    """`_rebuild_nested_tensor(buffer, sizes, strides, offsets)`: tensors."""
    return "" if len(fit.args) == 4 and all(isinstance(one, Made) for one in fit.args) else "its arguments are no tensors"


def _size(fit: Fit) -> str:
    """`Size((1, 2))`."""
    return "" if len(fit.args) == 1 and isinstance(fit.args[0], Tuple | List) and is_plain(fit.args[0]) else "its argument is no shape"


def _device(fit: Fit) -> str:
    match fit.args:
        case (str() as kind,) | (str() as kind, int()) if kind.partition(":")[0] in DEVICES and len(kind) < 32:
            return ""
    return "it is no device"


_REBUILDERS: Mapping[str, Callable[[Fit], str]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
}


def _from_type(fit: Fit) -> str:
    """`_rebuild_from_type_v2(rebuild, class, args, state)`: calls `rebuild(*args)`, so they must fit its own rule."""
    if len(fit.args) != 4 or not isinstance(fit.args[2], Tuple):
        return "its arguments are none that are written"
    rebuild, kind, args, state = fit.args
    if not fit.refers(rebuild, *_REBUILDERS) or not fit.refers(kind, *TENSORS):
        return "it calls something other than torch's own ways to make a tensor"
    inner = Fit(fit.view, fit.knowledge, fit.entry, args.items)
    wrong = _REBUILDERS[rebuild.full](inner)
    return wrong or _attributes(state)


def _named_tuple(fit: Fit) -> str:
    """`torch.return_types.max((values, indices), {})`: a structseq over a tuple of what was made already."""
    match fit.args:
        case (Tuple(),) | (Tuple(), Dict(pairs=[])):
            return ""
    return "its arguments are no tuple of tensors"


def _uninitialized(fit: Fit) -> str:
    """`UninitializedParameter(requires_grad[, device, dtype])`."""
    flag, *rest = fit.args or (None,)
    fits = isinstance(flag, bool) and len(rest) <= 2
    for one in rest:
        fits = fits and (one is None or (isinstance(one, Made) and one.calls("torch.device")) or bool(_dtype_bytes(fit, one)))
    return "" if fits and (fit.kwargs is None or not fit.kwargs.pairs) else "its arguments are none that are written"


def _ordered(value: Value) -> bool:
    return isinstance(value, Dict) or (isinstance(value, Made) and value.calls("collections.OrderedDict"))


def _handle_state(fit: Fit) -> str:
    """`(hooks, id[, (hooks, ...)])` of a `RemovableHandle`: dicts that it refers to weakly, and a number that the next handle's will exceed."""
    match fit.state:
        case Tuple(items=(hooks, number, *more)) if (
            (hooks is None or _ordered(hooks)) and is_int(number, 0, MAX_HANDLES) and len(more) <= 1
        ):
            others = more[0].items if more and isinstance(more[0], Tuple) else ()
            if (not more or more[0] is None or isinstance(more[0], Tuple)) and all(map(_ordered, others)):
                return ""
    return "its state is no dicts of hooks and a number"


ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {
    "torch-tensor": _tensor,
    "torch-tensor-v3": _tensor_v3,
    "torch-parameter": _parameter,
    "torch-quantized": _quantized,
    "torch-sparse": _sparse,
    "torch-layout": _layout,
    "torch-meta": _meta,
    "torch-nested": _nested,
    "torch-size": _size,
    "torch-device": _device,
    "torch-from-type": _from_type,
    "torch-named-tuple": _named_tuple,
    "torch-uninitialized": _uninitialized,
}
STATES: Mapping[str, Callable[[Fit], str]] = {
    "torch-attributes": lambda fit: _attributes(fit.state),
    "torch-handle": _handle_state,
}
