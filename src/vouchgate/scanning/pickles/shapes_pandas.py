"""Rules over the arguments and states of pandas' own rebuilding functions.

Sources: pandas/core/indexes/base.py (`_new_Index`), pandas/_libs/internals.pyx (`_unpickle_block`, `BlockManager.__setstate__`),
pandas/_libs/arrays.pyx (`NDArrayBacked.__setstate__`), pandas/_libs/tslibs (offsets, `Timestamp`, `Period`, `Timedelta`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles.fitting import Fit, attributes, is_attribute, is_text, shown
from vouchgate.scanning.pickles.taking import (
    ANY,
    ARRAY,
    COUNT,
    DICT,
    FLAG,
    INT,
    LIST,
    NONE,
    NUMBER,
    OBJECT,
    SCALAR,
    TEXT,
    TUPLE,
    Kind,
    any_of,
    either,
    made_by,
    named,
    state_of,
    taking,
    texts,
)
from vouchgate.scanning.pickles.values import Dict, List, Made, Name, Tuple, Value

_INDEX_KEYS = frozenset(
    {"data", "name", "names", "start", "stop", "step", "levels", "codes", "labels", "sortorder", "freq", "tz", "dtype", "closed"}
    | {"left", "right", "verify_integrity", "copy", "categories", "ordered"}
)
"""What `Index.__reduce__` and those of its subclasses write; it goes to the class's `__new__` by name."""
_SLICE = made_by("slice", "builtins.slice", "__builtin__.slice", "dill._dill._load_type")
MAX_OFFSET_DEPTH = 3
"""An offset holds times in tuples, and those hold numbers."""


def _pandas_class(fit: Fit, value: Value) -> bool:
    """An index class of pandas that may be constructed."""
    return isinstance(value, Name) and value.module.split(".")[0] == "pandas" and value.name.endswith("Index") and fit.constructs(value)


INDEX_CLASS = Kind("index class of pandas", _pandas_class)


def _new_index(fit: Fit) -> str:
    wrong = taking(INDEX_CLASS, DICT)(fit)
    if wrong:
        return wrong
    for key, value in fit.args[1].pairs:
        if not isinstance(key, str) or key not in _INDEX_KEYS:
            return f"an index is not made of `{shown(key)}`"
        if isinstance(value, Name) and key != "name":
            return f"`{shown(key)}` of an index is no value"
    return ""


def _offset(fit: Fit) -> str:
    """Numbers, truth values, words, times, holidays; keywords of `DateOffset` are plain names."""
    if not all(_simple(value, MAX_OFFSET_DEPTH) for value in fit.args):
        return "one of its arguments is no part of an offset"
    if fit.kwargs is not None and not all(
        isinstance(key, str) and is_attribute(key) and _simple(value, 1) for key, value in fit.kwargs.pairs
    ):
        return "one of its named arguments is no part of an offset"
    return ""


def _simple(value: Value, depth: int) -> bool:
    if isinstance(value, Tuple | List):
        return depth > 0 and all(_simple(item, depth - 1) for item in value.items)
    if isinstance(value, Made):
        return value.name is not None and value.name.module in ("datetime", "numpy._core.multiarray", "numpy.core.multiarray")
    return value is None or isinstance(value, int | float) or is_text(value)


def _offset_state(fit: Fit) -> str:
    """A dict whose values `__setstate__` puts into the offset's fields and `__dict__`."""
    wrong = attributes(fit.state)
    return wrong or ("its state is no dict" if not isinstance(fit.state, Dict) else "")


def _backed_state(fit: Fit) -> str:
    """`NDArrayBacked.__setstate__`: (array, dtype, attributes), (dtype, array, attributes), or a dict of attributes."""
    if isinstance(fit.state, Dict):
        return attributes(fit.state)
    wrong = state_of(ANY, ANY, ANY, optional=2)(fit)
    if wrong:
        return wrong
    last = fit.state.items[-1]
    return attributes(last) if isinstance(last, Dict) else ""


def _manager_state(fit: Fit) -> str:
    """(axes, values, items, {"0.14.1": {axes, blocks}}); blocks are dicts of values and places."""
    state = fit.state
    if not isinstance(state, Tuple) or not 3 <= len(state.items) <= 4:
        return "its state is no frame's"
    return "" if len(state.items) == 3 or isinstance(state.items[3], Dict) else "its state has no blocks"


_OFFSETS = Kind("offset", lambda fit, value: isinstance(value, Made) and value.name is not None and value.name.module.startswith("pandas."))
_PERIOD = any_of(taking(NONE, _OFFSETS, INT), taking(NONE, TEXT, INT))
_ZONE = either(NONE, TEXT, OBJECT)

ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {
    "pandas-index": _new_index,
    "pandas-block": taking(either(ARRAY, OBJECT), either(_SLICE, ARRAY), COUNT),
    "pandas-manager": taking(TUPLE, LIST),
    "pandas-period": _PERIOD,
    "pandas-timestamp": taking(INT, either(NONE, TEXT, _OFFSETS), _ZONE, INT, optional=1),
    "pandas-timedelta": taking(INT, INT, optional=1),
    "pandas-nat": taking(ANY, optional=1),
    "pandas-interval": taking(either(SCALAR, OBJECT), either(SCALAR, OBJECT), texts("left", "right", "both", "neither")),
    "pandas-offset": _offset,
    "pandas-period-dtype": taking(either(TEXT, _OFFSETS)),
    "pandas-string-dtype": taking(
        texts("python", "pyarrow", "pyarrow_numpy"),
        either(NUMBER, named("pandas.NA", "pandas.NA", "pandas._libs.missing.NA")),
        optional=1,
    ),
    "pandas-sparse-index": taking(COUNT, ARRAY, either(ARRAY, FLAG), optional=1),
    "pandas-no-default": taking(TEXT),
}
STATES: Mapping[str, Callable[[Fit], str]] = {
    "pandas-offset": _offset_state,
    "pandas-backed": _backed_state,
    "pandas-manager": _manager_state,
}
