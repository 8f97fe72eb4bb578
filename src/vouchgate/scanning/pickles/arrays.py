"""joblib's inline arrays: a wrapper in the pickle says dtype, shape and order, the data stands right behind its BUILD.

Rules (joblib `numpy_pickle.py`, `NumpyArrayWrapper.read_array`)
1. Data of plain dtypes: with an alignment, one byte says how many bytes of padding follow (1 to the alignment, all 0xff), then exactly
   shape x itemsize bytes; without one (before 1.2) the data follows at once.
2. Arrays of objects are one more pickle, read with no dialect; it must give an array.
3. A plain unpickler would take the data for opcodes. Where those would get as far as an import, the file is two things at once.
"""

from __future__ import annotations

from typing import Any

from vouchgate.scanning.pickle_opcodes import walk
from vouchgate.scanning.pickles.dtypes import Dtype, dtype_of, product
from vouchgate.scanning.pickles.fitting import dimensions
from vouchgate.scanning.pickles.state import Broken, State
from vouchgate.scanning.pickles.values import Array, Dict, Made, Name

WRAPPERS = ("joblib.numpy_pickle.NumpyArrayWrapper", "sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper")
SUBCLASSES = ("numpy.ndarray", "numpy.matrix", "numpy.memmap", "numpy.core.memmap.memmap", "numpy.matrixlib.defmatrix.matrix")
MAX_PADDING = 64
"""Bytes of alignment; joblib uses 16."""
_KNOWN = {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}


def read_array(state: State, wrapper: Made) -> tuple[Array, Any]:
    """The array behind the wrapper, and the run of the pickle inside it, if it holds objects. Raises `Broken`."""
    if state.here == state.limit:
        state.edge()  # the wrapper's frame ends with its state
    if state.frame:
        raise Broken("array", state.begin, "an inline array begins inside a frame")
    if isinstance(wrapper.state, Dict) and not any(key not in _KNOWN for key, _ in wrapper.state.pairs):
        held = dict(wrapper.state.pairs)
        dtype, shape, order = dtype_of(held.get("dtype")), dimensions(held.get("shape")), held.get("order")
        subclass = held.get("subclass")
        if dtype and shape is not None and order in ("C", "F") and isinstance(subclass, Name) and subclass.full in SUBCLASSES:
            padding = held.get("numpy_array_alignment_bytes")
            return _data(state, Array(wrapper, dtype, shape, order == "F", state.here, 0), padding)
    raise Broken("array", state.begin, "an inline array's wrapper does not say what it holds")


def _data(state: State, array: Array, alignment: Any) -> tuple[Array, Any]:
    dtype: Dtype = array.dtype
    if dtype.objects:
        inner = state.nested(state.here)
        if inner.end < 0:
            raise Broken("array", state.begin, "the pickle inside an array of objects does not end")
        array.length, array.value, state.here = inner.end - state.here, inner.value, inner.end
        return array, inner
    if alignment is not None:
        if type(alignment) is not int or not 0 < alignment <= MAX_PADDING:
            raise Broken("array", state.begin, "an inline array's alignment is none that is written")
        count = state.view[state.take(1)]
        begin = state.take(count)
        if not 0 < count <= alignment or bytes(state.view[begin : begin + count]) != b"\xff" * count:
            raise Broken("array", state.begin, "an inline array's padding is none that is written")
    elif walk(state.view, state.here).imports:
        raise Broken("array", state.begin, "an inline array's data is a program to a plain unpickler")
    array.length = dtype.size * product(array.shape)
    array.begin = state.take(array.length)
    return array, None
