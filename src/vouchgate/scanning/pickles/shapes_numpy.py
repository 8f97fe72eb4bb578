"""Rules over the arguments and states of numpy's names.

Sizes are checked here because loaders trust them: an array's bytes are exactly shape x itemsize, objects come as a list of exactly that many, and a
random generator's position lies within its buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles.dtypes import RECORDS, Dtype, dtype_of, parse_code, product
from vouchgate.scanning.pickles.fitting import Fit, attributes, children, dimensions, is_attribute, is_bytes, is_int, is_plain, is_text
from vouchgate.scanning.pickles.values import Array, Dict, List, Made, Numbers, Span, Tuple, Value, text_of
from vouchgate.scanning.pickles.work import visit

ARRAYS = (
    "numpy.ndarray", "numpy.matrix", "numpy.memmap", "numpy.core.memmap.memmap", "numpy.matrixlib.defmatrix.matrix", "numpy.recarray",
    "numpy.rec.recarray", "numpy.core.records.recarray", "numpy.ma.core.MaskedArray", "numpy.ma.MaskedArray", "numpy.chararray",
    "numpy.core.defchararray.chararray", "numpy.char.chararray",
)  # fmt: skip
"""Array classes whose construction does nothing but reserve what the state then says."""
ENCODERS = ("_codecs.encode", "builtins.bytes", "builtins.bytearray")
TEXT_PER_VISIT = 64
"""Bytes of text decoded for the price of one visit."""
RECONSTRUCTORS = ("numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct")
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_GENERATOR_NAMES = tuple(
    f"numpy.random.{module}{name}" for name in BIT_GENERATORS for module in ("", "_mt19937.", "_pcg64.", "_philox.", "_sfc64.")
)
_POSITIONS = {"pos": 624, "buffer_pos": 4}
"""State of generators that is used as an index: MT19937's into 624 words, Philox's into 4."""
_UFUNC_MODULES = ("numpy", "numpy._core.umath", "numpy.core.umath", "scipy.special", "scipy.special._ufuncs")


def size_of(view: memoryview, data: Value) -> int | None:
    """Bytes that this gives: bytes as they are, text by one byte a character, or a call that encodes text. None for anything else."""
    if isinstance(data, bytes | str):
        return len(data)
    if isinstance(data, Span) and data.kind in ("bytes", "bytearray"):
        return data.length
    if is_text(data):
        visit(1 if isinstance(data, str) else data.length // TEXT_PER_VISIT)
        text = text_of(view, data)
        return None if text is None else len(text)
    if isinstance(data, Made) and data.calls(*ENCODERS) and data.args:
        return size_of(view, data.args[0])
    return 0 if isinstance(data, Made) and data.calls(*ENCODERS) else None


def _kind(value: Value) -> bool:
    """`b"b"`, a placeholder for the dtype that the state replaces."""
    if isinstance(value, Made) and value.calls(*ENCODERS):
        return len(value.args) == 2 and isinstance(value.args[0], str) and parse_code(value.args[0]) is not None
    return parse_code(value.decode("latin-1") if isinstance(value, bytes) else value) is not None


def _reconstruct(fit: Fit) -> str:
    """`_reconstruct(ndarray, (0,), b"b")`: an empty array of a class of numpy's own."""
    if len(fit.args) != 3 or not fit.refers(fit.args[0], *ARRAYS):
        return "it does not make one of numpy's own arrays"
    shape = dimensions(fit.args[1])
    return "" if shape is not None and product(shape) == 0 and _kind(fit.args[2]) else "it does not make an empty array"


def _dtype(fit: Fit) -> str:
    """`dtype("f8", False, True)`."""
    if not 1 <= len(fit.args) <= 3 or not all(type(flag) in (bool, int) for flag in fit.args[1:]):
        return "its arguments are no code and two flags"
    known = fit.refers(fit.args[0], *RECORDS) or parse_code(fit.args[0]) is not None
    return "" if known else "its code is none of a plain dtype"


def _dtype_state(fit: Fit) -> str:
    extra = fit.state.items[8:] if isinstance(fit.state, Tuple) else ()
    fits = dtype_of(fit.made) is not None and all(is_plain(one) for one in extra)
    return "" if fits else "it does not add up to a dtype, or its flags are not those of its fields"


def _array_state(fit: Fit) -> str:
    """`(version, shape, dtype, fortran, data)`, version left out in the oldest."""
    items = fit.state.items if isinstance(fit.state, Tuple) else ()
    parts = items[1:] if len(items) == 5 and is_int(items[0], 0, 4) else items
    if len(parts) != 4:
        return "it is not shape, dtype, order and data"
    return _filled(fit.view, parts[0], parts[1], parts[3])


def _filled(view: memoryview, shape: Value, kind: Value, data: Value) -> str:
    dtype, sizes = dtype_of(kind), dimensions(shape)
    if dtype is None or sizes is None:
        return "its shape or dtype is none"
    if dtype.objects:
        held = sum(one.count if isinstance(one, Numbers) else 1 for one in data.items) if isinstance(data, List) else -1
        return "" if held == product(sizes) else "its objects are not a list of as many as its shape says"
    return "" if size_of(view, data) == dtype.size * product(sizes) else "its data has not as many bytes as its shape says"


def _masked_state(fit: Fit) -> str:
    """`(version, shape, dtype, fortran, data, mask, fill value)`."""
    items = fit.state.items if isinstance(fit.state, Tuple) else ()
    if len(items) != 7:
        return "it is not shape, dtype, order, data, mask and fill value"
    mask, sizes = size_of(fit.view, items[5]), dimensions(items[1])
    if sizes is None or mask is None or (product(sizes) and mask % product(sizes)):
        return "its mask has not as many elements as its shape says"
    return _filled(fit.view, items[1], items[2], items[4])


def _masked(fit: Fit) -> str:
    """`_mareconstruct(MaskedArray, ndarray, (0,), b"b")`."""
    fits = len(fit.args) == 4 and fit.refers(fit.args[0], *ARRAYS) and fit.refers(fit.args[1], *ARRAYS)
    shape = dimensions(fit.args[2]) if fits else None
    return "" if shape is not None and product(shape) == 0 and _kind(fit.args[3]) else "it does not make an empty masked array"


def _scalar(fit: Fit) -> str:
    """`scalar(dtype, bytes)`."""
    dtype = dtype_of(fit.args[0]) if len(fit.args) == 2 else None
    fits = dtype is not None and not dtype.objects and size_of(fit.view, fit.args[1]) == dtype.size
    return "" if fits else "its arguments are no dtype and the bytes of one element"


def _frombuffer(fit: Fit) -> str:
    """`_frombuffer(data, dtype, shape, order[, axes])`: protocol 5."""
    if len(fit.args) not in (4, 5) or fit.args[3] not in ("C", "F", "K", "A") or not is_bytes(fit.args[0]):
        return "its arguments are no data, dtype, shape and order"
    dtype = dtype_of(fit.args[1])
    if dtype is None or dtype.objects:
        return "its dtype is none of plain elements"
    if len(fit.args) == 5 and not is_plain(fit.args[4]):
        return "its axes are no plain numbers"
    return _filled(fit.view, fit.args[2], fit.args[1], fit.args[0])


def _dill_array(fit: Fit) -> str:
    """`dill._dill._create_array(_reconstruct, args, state[, attributes])`: makes an array and gives it its state."""
    if len(fit.args) not in (3, 4) or not fit.refers(fit.args[0], *RECONSTRUCTORS) or not isinstance(fit.args[1], Tuple):
        return "it makes something other than an array"
    inner = Fit(fit.view, fit.knowledge, fit.entry, fit.args[1].items, state=fit.args[2])
    extra = fit.args[3] if len(fit.args) == 4 else None
    wrong = _reconstruct(inner) or _array_state(inner) or (attributes(extra) if extra is not None else "")
    fit.constructed += inner.constructed
    return wrong


def _ufunc(fit: Fit) -> str:
    """`_ufunc_reconstruct(module, name)`: looks the name up, so the name must be inert itself."""
    match fit.args:
        case (str() as module, str() as name) if module in _UFUNC_MODULES and is_attribute(name):
            entry = fit.knowledge.find(module, name)
            if entry is not None and "inert" in entry.uses:
                return ""
    return "it looks up a name that is not known to be inert"


def _random(fit: Fit) -> str:
    """`__randomstate_ctor("MT19937", __bit_generator_ctor)` and its kin: the names of numpy's own generators, or one made already."""
    for index, one in enumerate(fit.args):
        named = one in BIT_GENERATORS if isinstance(one, str) else fit.refers(one, *_GENERATOR_NAMES, *_CONSTRUCTORS)
        made = isinstance(one, Made) and one.name is not None and one.name.full.startswith("numpy.random.")
        if not (named or made) or index > 1:
            return "its arguments are none of numpy's own generators"
    return ""


_SEED = "numpy.random.bit_generator.SeedSequence"
_CONSTRUCTORS = tuple(f"numpy.random._pickle.{name}" for name in ("__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"))


def _seed(fit: Fit) -> str:
    """`__pyx_unpickle_SeedSequence(SeedSequence, checksum, None or state)`."""
    fits = len(fit.args) == 3 and fit.refers(fit.args[0], _SEED) and is_int(fit.args[1])
    if not fits:
        return "it makes something other than a seed sequence"
    return "" if fit.args[2] is None else _random_state(Fit(fit.view, fit.knowledge, fit.entry, state=fit.args[2]))


def _random_state(fit: Fit) -> str:
    """Plain values and arrays, with every index in range."""
    waiting, seen = [fit.state], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, Made | Array):
            continue  # what was made was checked when it was
        seen.add(id(value))
        visit()
        if isinstance(value, Dict):
            for key, one in value.pairs:
                if isinstance(key, str) and key in _POSITIONS and not is_int(one, 0, _POSITIONS[key]):
                    return "its position lies outside of its buffer"
        if not is_plain(value) and not children(value):
            return "it holds something other than numbers and arrays"
        waiting += children(value)
    return ""


def dtype_in(value: Value) -> Dtype | None:
    """For other rules: the dtype of an array that was made here."""
    if isinstance(value, Made) and value.calls(*RECONSTRUCTORS):
        items = value.state.items if isinstance(value.state, Tuple) else ()
        return dtype_of(items[-3]) if len(items) >= 4 else None
    return None


ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {
    "numpy-reconstruct": _reconstruct,
    "numpy-dtype": _dtype,
    "numpy-masked": _masked,
    "numpy-scalar": _scalar,
    "numpy-frombuffer": _frombuffer,
    "dill-array": _dill_array,
    "numpy-ufunc": _ufunc,
    "numpy-random": _random,
    "numpy-seed": _seed,
}
STATES: Mapping[str, Callable[[Fit], str]] = {
    "numpy-array": _array_state,
    "numpy-dtype": _dtype_state,
    "numpy-masked": _masked_state,
    "numpy-random": _random_state,
}
