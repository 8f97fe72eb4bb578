"""numpy's dtypes as pickles hold them: what one element is, worked out from abstract values.

A dtype is `numpy.dtype(code, False, True)` with a state `(version, byteorder, subarray, names, fields, itemsize, alignment, flags[, metadata])`
(numpy `descriptor.c`, `arraydescr_setstate`). Sizes of plain kinds follow from the code; those of structured ones are checked against their fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from vouchgate.scanning.pickles.fitting import dimensions, is_int
from vouchgate.scanning.pickles.values import Dict, Made, Name, Tuple, Value
from vouchgate.scanning.pickles.work import visit

NAMES = ("numpy.dtype",)
MAX_ITEM_BYTES = 2**31 - 1
"""numpy's own bound."""
MAX_ALIGNMENT = 256
"""Bytes; types of today need 16."""
MAX_FIELDS = 10_000
"""Fields of one structure."""
RECORDS = ("numpy.record", "numpy.void", "numpy.rec.record", "numpy.core.records.record")
_OF_OBJECTS = 0x03
"""NPY_ITEM_REFCOUNT and NPY_LIST_PICKLE (numpy `ndarraytypes.h`)."""
VISITS = 40
"""Price of looking at one dtype, in visits of values: fields may be dtypes of one dtype, again and again."""
MAX_DEPTH = 16
"""Structures within structures."""
_SIZES = {
    "b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 10, 12, 16), "c": (8, 16, 20, 24, 32), "m": (8,), "M": (8,), "O": (4, 8),
}  # fmt: skip
_LETTERS = {"?": "b1", "b": "i1", "B": "u1", "h": "i2", "H": "u2", "l": "i8", "L": "u8", "q": "i8", "Q": "u8", "i": "i4", "I": "u4", "e": "f2",
            "f": "f4", "d": "f8", "F": "c8", "D": "c16", "O": "O8", "M": "M8", "m": "m8", "S": "S0", "U": "U0", "V": "V0", "a": "S0"}  # fmt: skip
"""One-letter codes, as they are on 64-bit Linux."""


@dataclass(frozen=True, slots=True)
class Dtype:
    """One element of an array."""

    code: str
    """`f8`, `U10`, `V16`, `O8`: kind and size, without byte order."""
    order: str = "|"
    """`<`, `>` or `|`."""
    size: int = 0
    """Bytes; 0 for text and void of no length."""
    objects: bool = False
    """Elements, or parts of them, are pickled objects."""
    fields: tuple[tuple[str, Dtype, int], ...] = ()
    """Of a structure: name, dtype, offset."""
    shape: tuple[int, ...] = ()
    """Of a subarray; `fields` then holds its base under the name ``."""


def parse_code(text: Value, order: str = "") -> Dtype | None:
    """From a code such as `<f8`, `|S5`, `O`; None for what is none."""
    if not isinstance(text, str) or not 0 < len(text) <= 16:
        return None
    if text[0] in "<>|=":
        order, text = text[0], text[1:]
    text, bracket, unit = text.partition("[")
    if bracket and (text not in ("M8", "m8") or not unit.endswith("]") or not unit[:-1].isalnum()):
        return None
    text = _LETTERS.get(text, text)
    kind, digits = text[:1], text[1:]
    if not digits.isdigit() or not digits.isascii():
        return None
    size = int(digits)
    if kind in _SIZES:
        if size not in _SIZES[kind]:
            return None
    elif kind in ("S", "V", "U"):
        size *= 4 if kind == "U" else 1
    else:
        return None
    if size > MAX_ITEM_BYTES:
        return None
    return Dtype(code=f"{kind}{digits}", order=order.replace("=", "<") or "|", size=size, objects=kind == "O")


def dtype_of(value: Value, depth: int = 0) -> Dtype | None:
    """From what a pickle made; None where it is no dtype, or does not add up."""
    if not isinstance(value, Made) or not value.calls(*NAMES) or not value.args or depth > MAX_DEPTH:
        return None
    visit(VISITS)
    value.closed = True  # a dtype whose state came after an array of it was made would turn the array's bytes into pointers
    kind = value.args[0]
    plain = parse_code("V0" if isinstance(kind, Name) and kind.full in RECORDS else kind)
    if plain is None or value.state is None:
        return plain
    if not isinstance(value.state, Tuple):
        return None
    return _with_state(plain, value.state.items, depth)


def _with_state(plain: Dtype, state: tuple[Value, ...], depth: int) -> Dtype | None:
    if len(state) not in (8, 9) or not is_int(state[0], 1, 4) or state[1] not in ("<", ">", "|", "="):
        return None
    order, sub, names, fields, size, flags = state[1].replace("=", "<"), state[2], state[3], state[4], state[5], state[7]
    if not is_int(size, -1, MAX_ITEM_BYTES) or not is_int(state[6], -1, MAX_ALIGNMENT) or not is_int(flags, 0, 255):
        return None
    if sub is not None:
        found = _subarray(sub, size, depth)
    elif names is not None or fields is not None:
        found = _structure(names, fields, size, depth)
    elif size > 0 and plain.size not in (size, 0):
        found = None
    else:
        found = Dtype(plain.code, order, plain.size or max(size, 0), plain.objects)
    return found if found and _flags_fit(found, flags) else None


def _flags_fit(dtype: Dtype, flags: int) -> bool:
    """Loaders believe these flags: without them, the bytes of an array would be taken for pointers to its objects."""
    return (flags & _OF_OBJECTS) == (_OF_OBJECTS if dtype.objects else 0)


def _subarray(sub: Value, size: int, depth: int) -> Dtype | None:
    if not isinstance(sub, Tuple) or len(sub.items) != 2:
        return None
    base, shape = dtype_of(sub.items[0], depth + 1), dimensions(sub.items[1])
    if base is None or shape is None or base.size * product(shape) != size:
        return None
    return Dtype(code=f"V{size}", size=size, objects=base.objects, fields=(("", base, 0),), shape=shape)


def _structure(names: Value, fields: Value, size: int, depth: int) -> Dtype | None:
    if not isinstance(names, Tuple) or not isinstance(fields, Dict) or len(names.items) > MAX_FIELDS:
        return None
    held = {key: value for key, value in fields.pairs if isinstance(key, str)}
    found: list[tuple[str, Dtype, int]] = []
    titles = set()
    for name in names.items:
        field = held.get(name) if isinstance(name, str) else None
        if not isinstance(field, Tuple) or len(field.items) not in (2, 3) or not is_int(field.items[1]):
            return None
        inner = dtype_of(field.items[0], depth + 1)
        if inner is None or field.items[1] + inner.size > size:
            return None
        titles |= {title for title in field.items[2:] if isinstance(title, str)}
        found.append((name, inner, field.items[1]))
    objects = any(one.objects for _, one, _ in found)
    if len(held) != len(fields.pairs) or set(held) - titles != {name for name, _, _ in found} or (objects and _overlap(found)):
        return None
    return Dtype(code=f"V{size}", size=size, objects=objects, fields=tuple(found))


def _overlap(fields: list[tuple[str, Dtype, int]]) -> bool:
    """A number over an object's place would be taken for a pointer."""
    spans = sorted((offset, offset + dtype.size) for _, dtype, offset in fields)
    return any(end > begin for (_, end), (begin, _) in pairwise(spans))


def product(shape: tuple[int, ...]) -> int:
    """Elements of that shape."""
    total = 1
    for dimension in shape:
        total *= dimension
    return total
