"""Rules over the arguments of pyarrow's rebuilding functions.

Rules
1. `_restore_array` lays a typed array over buffers and looks at neither (pyarrow/array.pxi, `_reconstruct_array_data`; Arrow columnar format,
   "Physical Memory Layout"), so their sizes and offsets are looked at here.
2. Types taken: numbers, booleans, times, texts and bytes with offsets. Nested, dictionary and view types are refused: their children would
   have to be followed as well.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles.fitting import Fit, is_int, shown
from vouchgate.scanning.pickles.taking import BYTES, COUNT, FLAG, NONE, SCALAR, TEXT, Kind, any_of, either, made_by, raw_of, taking
from vouchgate.scanning.pickles.values import Dict, List, Made, Tuple, Value

_WIDTHS = {
    "bool": 0, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "halffloat": 2, "float16": 2, "int32": 4, "uint32": 4, "float": 4, "float32": 4,
    "date32[day]": 4, "date32": 4, "time32[s]": 4, "time32[ms]": 4, "int64": 8, "uint64": 8, "double": 8, "float64": 8, "date64[ms]": 8,
    "date64": 8, "time64[us]": 8, "time64[ns]": 8,
    "timestamp[s]": 8, "timestamp[ms]": 8, "timestamp[us]": 8, "timestamp[ns]": 8, "duration[s]": 8, "duration[ms]": 8, "duration[us]": 8, "duration[ns]": 8,
}  # fmt: skip
"""Bytes of one value; 0 is one bit."""
_OFFSETS = {"string": 4, "utf8": 4, "binary": 4, "large_string": 8, "large_utf8": 8, "large_binary": 8}
"""Bytes of one offset into the data."""
_TIMED = ("pyarrow.lib.timestamp", "pyarrow.lib.duration")
MAX_LENGTH = 2**40
"""Values of one array."""
TYPE = made_by(
    "arrow type",
    *(
        f"pyarrow.lib.{name}"
        for name in (
            "type_for_alias",
            "timestamp",
            "duration",
            "decimal128",
            "list_",
            "struct",
            "dictionary",
            "large_list",
            "map_",
            "time32",
            "time64",
            "binary",
        )
    ),
)
FIELD = made_by("arrow field", "pyarrow.lib.field")


def _alias(fit: Fit) -> str:
    known = (
        len(fit.args) == 1 and isinstance(fit.args[0], str) and (fit.args[0] in _WIDTHS or fit.args[0] in _OFFSETS or fit.args[0] == "null")
    )
    return "" if known else f"`{shown(fit.args[0] if fit.args else '')}` is no plain type"


def _array(fit: Fit) -> str:
    """`(type, length, null_count, offset, buffers, children, dictionary)`."""
    if len(fit.args) != 1 or not isinstance(fit.args[0], Tuple) or len(fit.args[0].items) != 7:
        return "its argument is no array"
    kind, length, nulls, offset, buffers, children, dictionary = fit.args[0].items
    if not (is_int(length, 0, MAX_LENGTH) and is_int(nulls, -1, MAX_LENGTH) and is_int(offset, 0, MAX_LENGTH)):
        return "its length and offset are no counts"
    if not isinstance(buffers, List) or not isinstance(children, List) or children.items or dictionary is not None:
        return "it holds other arrays"
    return _laid_out(fit.view, _type_name(kind), length + offset, buffers.items)


def _type_name(kind: Value) -> str:
    if not isinstance(kind, Made) or not kind.args:
        return ""
    if kind.calls(*_TIMED):
        return f"{kind.name.name if kind.name else ''}[{kind.args[0]}]"
    return kind.args[0] if kind.calls("pyarrow.lib.type_for_alias") and isinstance(kind.args[0], str) else ""


def _laid_out(view: memoryview, kind: str, count: int, buffers: list[Value]) -> str:
    """Rule 1: a validity bitmap (or None), then values, or offsets and data."""
    parts = [None if one is None else _buffer(view, one) for one in buffers]
    if any(part is None and one is not None for part, one in zip(parts, buffers, strict=True)):
        return "one of its buffers cannot be looked at"
    if kind in _WIDTHS and len(parts) == 2:
        width = _WIDTHS[kind]
        need = (count + 7) // 8 if width == 0 else count * width
        short = count > 0 and (parts[1] is None or len(parts[1]) < need)
    elif kind in _OFFSETS and len(parts) == 3:
        short = _offsets_wrong(parts[1], parts[2], count, _OFFSETS[kind])
    else:
        return "its type is none that is known to be laid out in plain buffers"
    if parts[0] is not None and len(parts[0]) * 8 < count:
        short = True
    return "its buffers are shorter than its length, or its offsets lead out of them" if short else ""


def _buffer(view: memoryview, value: Value) -> bytes | memoryview | None:
    if isinstance(value, Made) and value.calls("pyarrow.lib.py_buffer") and len(value.args) == 1:
        return raw_of(view, value.args[0])
    return None


def _offsets_wrong(offsets: bytes | memoryview | None, data: bytes | memoryview | None, count: int, width: int) -> bool:
    """Offsets never fall and end within the data."""
    if count == 0:
        return False
    if offsets is None or len(offsets) < (count + 1) * width:
        return True
    numbers = memoryview(offsets).cast("B")[: (count + 1) * width].cast("i" if width == 4 else "q")
    rising = all(map(operator.le, numbers, numbers[1:]))
    return not rising or numbers[0] < 0 or numbers[-1] > (0 if data is None else len(data))


def _metadata(value: Value) -> bool:
    """Bytes by bytes, as schemas keep them: no object is made of them by reading a schema."""
    return value is None or (isinstance(value, Dict) and all(not isinstance(part, Made) for pair in value.pairs for part in pair))


METADATA = Kind("metadata", lambda fit, value: _metadata(value))
_RESTORED = made_by("arrow array", "pyarrow.lib._restore_array", "pyarrow.lib.chunked_array")
_ARRAYS = Kind("list of arrow arrays", lambda fit, value: isinstance(value, List) and all(_RESTORED.fits(fit, one) for one in value.items))
_FIELDS = Kind(
    "list of arrow fields", lambda fit, value: isinstance(value, List | Tuple) and all(FIELD.fits(fit, one) for one in value.items)
)
_SCHEMA = made_by("arrow schema", "pyarrow.lib.schema")

ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {
    "arrow-array": _array,
    "arrow-buffer": taking(BYTES),
    "arrow-type": _alias,
    "arrow-timed": taking(TEXT, either(NONE, TEXT), optional=1),
    "arrow-decimal": taking(COUNT, COUNT, optional=1),
    "arrow-field": taking(TEXT, TYPE, FLAG, METADATA, optional=2),
    "arrow-schema": taking(_FIELDS, METADATA, optional=1),
    "arrow-nested": any_of(taking(either(FIELD, TYPE)), taking(_FIELDS), taking(TYPE, TYPE, FLAG)),
    "arrow-chunked": taking(_ARRAYS, TYPE, optional=1),
    "arrow-table": taking(_ARRAYS, _SCHEMA),
    "arrow-scalar": taking(SCALAR, TYPE),
}
