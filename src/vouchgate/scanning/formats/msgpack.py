"""MessagePack: maps of plain values and arrays, as Flax, spaCy and others write them.

Rules (MessagePack specification; flax/serialization.py)
1. One document, every length within the bytes, depth and values bounded, no key twice in a map.
2. Extension types: the timestamp (-1), and Flax's arrays and scalars (1, 2, 3), whose bytes are shape x dtype. Any other is read by an
   application's own code.
3. msgpack-numpy unpickles a map with `nd` whose `kind` is `O`; jsonpickle and others construct what `py/...` names: refused.
"""

from __future__ import annotations

from math import prod
from typing import Any, NoReturn

from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.strict_json import acting
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "msgpack"
REMEDY = "save plain arrays and values again (`flax.serialization.to_bytes`), or as safetensors"
MAX_DEPTH = 128
MAX_VALUES = 4_000_000
MAX_SHOWN_KEY = 200
_WIDTHS = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2, "int32": 4, "uint32": 4, "float32": 4, "int64": 8,
    "uint64": 8, "float64": 8, "complex64": 8, "complex128": 16, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3b11fnuz": 1, "int4": 1,
    "uint4": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_LISTS, _MAPS = {0xDC: 2, 0xDD: 4}, {0xDE: 2, 0xDF: 4}
_ARRAY, _COMPLEX, _SCALAR, _TIME = 1, 2, 3, -1


def recognise(sight: Sight) -> Claim:
    """A map that is not empty, whose first key is a plain text of some length."""
    head = sight.head
    if not head or not (0x81 <= head[0] <= 0x8F or head[0] in _MAPS):
        return NOT_MINE
    here = 1 + _MAPS.get(head[0], 0)
    mark = head[here] if here < len(head) else 0
    length, begin = (
        (mark & 0x1F, here + 1) if 0xA0 <= mark <= 0xBF else (head[here + 1], here + 2) if mark == 0xD9 and here + 1 < len(head) else (0, 0)
    )
    key = head[begin : begin + length]
    if not 0 < length == len(key) or not key.isascii() or not key.decode("ascii").isprintable():
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a map with a text as its first key", above=TEXTS)


def read(sight: Sight, scope: Scope) -> Reading:
    """Every value."""
    del scope
    walk = _Walk(sight.view)
    value = walk.value(0)
    if walk.here != len(sight.view):
        walk.refuse("trailing", f"{len(sight.view) - walk.here} bytes stand behind the document")
    found = acting(value)
    if found:
        walk.refuse("acting-key", f"it has the key `{found[0][:80]}`: {found[1]}")
    return Reading(covered=len(sight), reasons=tuple(walk.reasons[:20]), facts={"values": walk.values, "arrays": walk.arrays})


class _Walk:
    """A reader at a place in the bytes."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self.here = self.values = self.arrays = 0
        self.reasons: list[Reason] = []

    def refuse(self, rule: str, why: str) -> NoReturn:
        raise Refuse(f"{NAME}:{rule}", at(self.here), why, REMEDY)

    def _take(self, count: int) -> memoryview:
        if count > len(self._view) - self.here:
            self.refuse("truncated", "a length reaches behind the end of the file")
        self.here += count
        return self._view[self.here - count : self.here]

    def _length(self, width: int) -> int:
        return int.from_bytes(self._take(width))

    def value(self, depth: int) -> Any:
        """The value that begins here; numbers and long bytes are not kept."""
        self.values += 1
        if self.values > MAX_VALUES or depth > MAX_DEPTH:
            self.refuse("bounds", f"it has more than {MAX_VALUES} values, or lies deeper than {MAX_DEPTH}")
        mark = self._take(1)[0]
        if mark <= 0x7F or mark >= 0xE0:
            return mark
        if mark in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[mark]
        if mark in _FIXED:
            return int.from_bytes(self._take(_FIXED[mark]))
        if mark <= 0x8F or mark in _MAPS:
            return self._map(mark & 0x0F if mark <= 0x8F else self._length(_MAPS[mark]), depth + 1)
        if mark <= 0x9F or mark in _LISTS:
            return self._list(mark & 0x0F if mark <= 0x9F else self._length(_LISTS[mark]), depth + 1)
        return self._long(mark)

    def _long(self, mark: int) -> Any:
        if mark <= 0xBF or mark in _TEXTS:
            raw = self._take(mark & 0x1F if mark <= 0xBF else self._length(_TEXTS[mark]))
            return bytes(raw[:MAX_SHOWN_KEY]).decode("utf-8", "backslashreplace")
        if mark in _BYTES:
            return bytes(self._take(self._length(_BYTES[mark]))[:MAX_SHOWN_KEY])
        if mark in _FIXED_EXTENSIONS or mark in _EXTENSIONS:
            length = _FIXED_EXTENSIONS[mark] if mark in _FIXED_EXTENSIONS else self._length(_EXTENSIONS[mark])
            kind = int.from_bytes(self._take(1), signed=True)
            self._extension(kind, self._take(length))
            return None
        return self.refuse("mark", "a byte stands where a value must begin")

    def _list(self, count: int, depth: int) -> list[Any]:
        if count > len(self._view) - self.here:
            self.refuse("count", "a list counts more elements than there are bytes")
        return [self.value(depth) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        if 2 * count > len(self._view) - self.here:
            self.refuse("count", "a map counts more entries than there are bytes")
        found: dict[str, Any] = {}
        for _ in range(count):
            begin = self.here
            key = self.value(depth)
            if isinstance(key, dict | list) or (self.here - begin > MAX_SHOWN_KEY and isinstance(key, str | bytes)):
                self.refuse("key", f"a key is no plain value, or over {MAX_SHOWN_KEY} bytes")
            name = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
            if name in found:
                self.refuse("duplicate-key", f"the key `{name[:60]!a}` occurs twice in one map, and readers differ in which one they take")
            found[name] = self.value(depth)
        if (
            found.get("nd") is True
            and str(found.get("kind", found.get("type"))) not in ("", "None", "b''", "V", "b'V'")
            and _pickled(found)
        ):
            self.refuse("pickled-array", "an array of objects is stored as a pickle, which msgpack-numpy runs when it is read")
        return found

    def _extension(self, kind: int, content: memoryview) -> None:
        """Rule 2."""
        if kind in (_ARRAY, _SCALAR):
            self.arrays += 1
            self._array(content)
        elif kind == _COMPLEX:
            inner = _Walk(content)
            if not isinstance(parts := inner.value(0), (list, tuple)) or len(parts) != 2 or inner.here != len(content):
                self.refuse("complex", "a complex number is not two numbers")
        elif kind != _TIME or len(content) not in (4, 8, 12):
            self.reasons.append(
                Reason(
                    rule=f"{NAME}:extension",
                    where=at(self.here),
                    why=f"its extension type {kind} is read by an application's own code, which is not known",
                    remedy=REMEDY,
                    weight="review",
                )
            )

    def _array(self, content: memoryview) -> None:
        inner = _Walk(content)
        mark = inner._take(1)[0]
        shape = inner.value(1) if mark == 0x93 else None
        kind = inner.value(1) if mark == 0x93 else None
        if not isinstance(shape, list) or not all(type(size) is int for size in shape) or not isinstance(kind, str) or kind not in _WIDTHS:
            self.refuse("array", "an array's shape or type is none that Flax writes")
        mark = inner._take(1)[0]
        if (
            mark not in _BYTES
            or prod(shape) * _WIDTHS[kind] != inner._length(_BYTES[mark])
            or len(content) - inner.here != prod(shape) * _WIDTHS[kind]
        ):
            self.refuse("array", "an array's bytes are not what its shape and type take")


def _pickled(array: dict[str, Any]) -> bool:
    """`kind` `O`, or a type that holds objects (msgpack_numpy.decode)."""
    text = f"{array.get('kind')}{array.get('type')}"
    return "O" in text
