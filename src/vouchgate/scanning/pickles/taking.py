"""Rules over arguments, put together from kinds of values: `taking(INT, ARRAY, optional=1)`.

Rules
1. A kind is a name for a person and a question over one value; a rule made of kinds takes exactly as many positional arguments, the last
   `optional` of which may be missing, and no keyword arguments.
2. An array here is what numpy, joblib or dill rebuild as one: whether its own bytes fit was asked where it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vouchgate.scanning.pickles.fitting import Fit, attributes, dimensions, is_bytes, is_int, is_number, is_plain, is_scalar, is_text
from vouchgate.scanning.pickles.shapes_python import CODECS
from vouchgate.scanning.pickles.values import Array, Dict, List, Made, Tuple, Value, bytes_of, text_of

ARRAY_MAKERS = (
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
    "numpy.ma.core._mareconstruct",
    "dill._dill._create_array",
)
BYTES_MAKERS = ("_codecs.encode", "builtins.bytearray", "__builtin__.bytearray", "__builtin__.bytes", "builtins.bytes")
SCALAR_MAKERS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
MAX_COUNT = 2**40
"""Things that a count in a state may speak of: more than any machine holds, less than what overflows in products."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value."""

    name: str
    fits: Callable[[Fit, Value], bool]


def taking(*kinds: Kind, optional: int = 0) -> Callable[[Fit], str]:
    """A rule over arguments (rule 1)."""

    def rule(fit: Fit) -> str:
        if fit.kwargs is not None and fit.kwargs.pairs:
            return "it takes no arguments by name"
        if not len(kinds) - optional <= len(fit.args) <= len(kinds):
            return f"it takes {len(kinds)} arguments and is given {len(fit.args)}"
        for place, (kind, value) in enumerate(zip(kinds, fit.args, strict=False), 1):
            if not kind.fits(fit, value):
                return f"its argument {place} is no {kind.name}"
        return ""

    return rule


def any_of(*rules: Callable[[Fit], str]) -> Callable[[Fit], str]:
    """A rule that fits where one of these does; it tells what the last one says."""

    def rule(fit: Fit) -> str:
        wrong = ""
        for one in rules:
            fit.constructed.clear()  # what an alternative that did not fit accounted for does not count
            wrong = one(fit)
            if not wrong:
                break
        return wrong

    return rule


def state_of(*kinds: Kind, optional: int = 0) -> Callable[[Fit], str]:
    """A rule over a state that is a tuple of these kinds."""

    def rule(fit: Fit) -> str:
        state = fit.state
        if not isinstance(state, Tuple) or not len(kinds) - optional <= len(state.items) <= len(kinds):
            return f"its state is no tuple of {len(kinds)} values"
        for place, (kind, value) in enumerate(zip(kinds, state.items, strict=False), 1):
            if not kind.fits(fit, value):
                return f"value {place} of its state is no {kind.name}"
        return ""

    return rule


def either(*kinds: Kind) -> Kind:
    """One of several kinds."""
    return Kind(" or ".join(kind.name for kind in kinds), lambda fit, value: any(kind.fits(fit, value) for kind in kinds))


def made_by(name: str, *makers: str) -> Kind:
    """What one of these calls or constructions gave."""
    return Kind(name, lambda fit, value: isinstance(value, Made) and value.calls(*makers))


def named(name: str, *names: str) -> Kind:
    """One of these classes or functions."""
    return Kind(name, lambda fit, value: fit.refers(value, *names))


def texts(*allowed: str) -> Kind:
    """One of these words."""
    return Kind(f"word out of {', '.join(allowed)}", lambda fit, value: value in allowed if isinstance(value, str) else False)


INT = Kind("whole number", lambda fit, value: is_int(value, -(2**63)))
COUNT = Kind("count", lambda fit, value: is_int(value, 0, MAX_COUNT))
FLAG = Kind("truth value", lambda fit, value: isinstance(value, bool) or value in (0, 1))
NUMBER = Kind("number", lambda fit, value: is_number(value) or (isinstance(value, Made) and value.calls(*SCALAR_MAKERS)))
TEXT = Kind("text", lambda fit, value: is_text(value))
BYTES = Kind("bytes", lambda fit, value: is_bytes(value) or (isinstance(value, Made) and value.calls(*BYTES_MAKERS)))
NONE = Kind("None", lambda fit, value: value is None)
SCALAR = Kind("plain scalar", lambda fit, value: is_scalar(value))
PLAIN = Kind("plain value", lambda fit, value: is_plain(value))
ANY = Kind("value", lambda fit, value: True)
OBJECT = Kind("object", lambda fit, value: isinstance(value, Made | Array))
"""Something made, as it was itself allowed to be."""
ARRAY = Kind("array", lambda fit, value: is_array(value))
TUPLE = Kind("tuple", lambda fit, value: isinstance(value, Tuple))
LIST = Kind("list", lambda fit, value: isinstance(value, List))
DICT = Kind("dict", lambda fit, value: isinstance(value, Dict))
CONSTRUCTED = Kind("class that may be constructed", lambda fit, value: fit.constructs(value))


def is_array(value: Value) -> bool:
    """Rule 2."""
    return isinstance(value, Array) or (isinstance(value, Made) and value.calls(*ARRAY_MAKERS))


def raw_of(view: memoryview, value: Value) -> bytes | memoryview | None:
    """Bytes, also as protocols 0 to 2 and bytearrays write them; None for anything else."""
    if not isinstance(value, Made):
        return bytes_of(view, value)
    if not value.args:
        return b"" if value.calls(*BYTES_MAKERS) else None
    if value.calls("_codecs.encode"):
        text = text_of(view, value.args[0])
        codec = value.args[1] if len(value.args) > 1 else "utf-8"
        return None if text is None else text.encode(codec if codec in CODECS else "latin-1", "replace")
    return raw_of(view, value.args[0]) if value.calls(*BYTES_MAKERS) else None


def content_of(view: memoryview, value: Value) -> tuple[tuple[int, ...], bytes | memoryview] | None:
    """An array's shape and bytes in its own order; None where they cannot be told."""
    if isinstance(value, Array):
        return value.shape, view[value.begin : value.begin + value.length]
    if not isinstance(value, Made):
        return None
    parts = _reconstructed(value) or _from_buffer(value) or _created(value)
    shape, raw = (dimensions(parts[0]), raw_of(view, parts[1])) if parts else (None, None)
    return None if shape is None or raw is None else (shape, raw)


def _reconstructed(value: Made) -> tuple[Any, Any] | None:
    """`ndarray.__setstate__`: (version, shape, dtype, fortran, bytes)."""
    state = value.state
    if value.calls(*ARRAY_MAKERS[:2]) and isinstance(state, Tuple) and len(state.items) == 5:
        return state.items[1], state.items[4]
    return None


def _from_buffer(value: Made) -> tuple[Any, Any] | None:
    """`_frombuffer(buffer, dtype, shape, order)`."""
    return (value.args[2], value.args[0]) if value.calls(*ARRAY_MAKERS[2:4]) and len(value.args) == 4 else None


def _created(value: Made) -> tuple[Any, Any] | None:
    """dill's `_create_array(reconstruct, arguments, state, attributes)`: the state as in `_reconstructed`."""
    state = value.args[2] if value.calls(*ARRAY_MAKERS[5:]) and len(value.args) >= 3 else None
    return (state.items[1], state.items[4]) if isinstance(state, Tuple) and len(state.items) == 5 else None


def documented(state: Value) -> str:
    """`attributes`, beside a documentation, a name and a graph's cache: names that look like the interpreter's, and that nothing acts on."""
    if not isinstance(state, Dict):
        return attributes(state)
    own = [(key, value) for key, value in state.pairs if not (isinstance(key, str) and key in _PASSED and _PASSED[key](value))]
    return attributes(Dict(own))


_PASSED: dict[str, Callable[[Value], bool]] = {
    "__doc__": lambda value: value is None or is_text(value),
    "__name__": is_text,
    "__qualname__": is_text,
    "__networkx_cache__": lambda value: isinstance(value, Dict),
}


def entry_of(state: Value, key: str) -> Value:
    """What a dict holds last under a key; None where it holds nothing."""
    found = None
    if isinstance(state, Dict):
        for name, value in state.pairs:
            if name == key:
                found = value
    return found
