"""Reads Universal Binary JSON (draft 12) into plain values, as XGBoost writes it, without trusting a length or a type.

Rules
1. Numbers are big-endian. Lengths and counts are non-negative integers that fit into what is left of the bytes; each element takes room.
2. Arrays of one type (`[$t#n`) are read whole, into a list of numbers; depth and the number of values have bounds.
3. Keys are UTF-8 and occur once in an object. Behind the document nothing stands.
"""

from __future__ import annotations

import struct
from typing import Any, NoReturn

from vouchgate.scanning.verdict import Refuse, at

MAX_DEPTH = 64
MAX_VALUES = 4_000_000
"""Values read one by one, about 2 s; arrays of one type count by their sixteenth."""
REMEDY = "save the model again with the library that made it"
_NUMBERS = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q", "d": "f", "D": "d", "u": "H", "m": "I", "M": "Q"}
"""Marker -> `struct` code; `u`, `m`, `M` as in BJData."""
_INTEGERS = frozenset("iUIlLumM")


class Ubjson:
    """One document; `read` gives its value. Raises `Refuse` with the asking format's name."""

    def __init__(self, view: memoryview, rule: str) -> None:
        self._view, self._rule = view, rule
        self._here = self._values = 0

    def read(self) -> Any:
        """The whole document."""
        value = self._value(self._marker(), 0)
        if self._here != len(self._view):
            self._refuse("trailing", f"{len(self._view) - self._here} bytes stand behind the document")
        return value

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise Refuse(f"{self._rule}:ubjson-{name}", at(min(self._here, len(self._view))), why, REMEDY)

    def _take(self, count: int) -> memoryview:
        if count < 0 or self._here + count > len(self._view):
            self._refuse("truncated", "a length reaches behind the end of the file")
        piece = self._view[self._here : self._here + count]
        self._here += count
        return piece

    def _marker(self) -> str:
        while True:
            marker = chr(self._take(1)[0])
            if marker != "N":  # no-operation (draft 12, "No-Op")
                return marker

    def _count(self) -> int:
        marker = self._marker()
        if marker not in _INTEGERS:
            self._refuse("count", "a count is no integer")
        count = self._number(marker)
        if count < 0:
            self._refuse("count", "a count is negative")
        return int(count)

    def _number(self, marker: str) -> Any:
        code = struct.Struct(f">{_NUMBERS[marker]}")
        return code.unpack(self._take(code.size))[0]

    def _text(self) -> str:
        raw = bytes(self._take(self._count()))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return self._refuse("utf8", "a text is not UTF-8")

    def _value(self, marker: str, depth: int) -> Any:
        self._spend(1)
        if marker in _NUMBERS:
            return self._number(marker)
        if marker == "S":
            return self._text()
        if marker in "TFZ":
            return {"T": True, "F": False, "Z": None}[marker]
        if marker == "C":
            return chr(self._take(1)[0])
        if depth >= MAX_DEPTH:
            self._refuse("depth", f"its values lie deeper than {MAX_DEPTH} within each other")
        if marker == "[":
            return self._array(depth + 1)
        if marker == "{":
            return self._object(depth + 1)
        return self._refuse("marker", "a byte stands where a value must begin")

    def _spend(self, count: int) -> None:
        self._values += count
        if self._values > MAX_VALUES:
            self._refuse("values", f"it has more than {MAX_VALUES} values")

    def _header(self) -> tuple[str, int]:
        """Type of all elements (empty: each says its own) and their count (-1: until the closing mark)."""
        kind = ""
        marker = self._peek()
        if marker == "$":
            self._here += 1
            kind = self._marker()
            marker = self._peek()
            if marker != "#":
                self._refuse("count", "a typed collection has no count")
        if marker != "#":
            return "", -1
        self._here += 1
        return kind, self._count()

    def _peek(self) -> str:
        return chr(self._view[self._here]) if self._here < len(self._view) else ""

    def _array(self, depth: int) -> list[Any]:
        kind, count = self._header()
        if count < 0:
            values = []
            while (marker := self._marker()) != "]":
                values.append(self._value(marker, depth))
            return values
        if kind in _NUMBERS:
            raw = self._take(count * struct.calcsize(f">{_NUMBERS[kind]}"))
            self._spend(count // 16)
            return list(struct.unpack(f">{count}{_NUMBERS[kind]}", raw))
        if kind:
            self._refuse("type", "an array's elements are of a type that takes no room, or that is not a number")
        if count > len(self._view) - self._here:
            self._refuse("count", "an array counts more elements than there are bytes")
        return [self._value(self._marker(), depth) for _ in range(count)]

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._header()
        if kind:
            self._refuse("type", "an object's values are all of one type, which no model has")
        found: dict[str, Any] = {}
        while count != 0:
            if count < 0 and self._peek() == "}":
                self._here += 1
                break
            key = self._text()
            if key in found:
                self._refuse("duplicate-key", "a key occurs twice in one object, and readers differ in which one they take")
            found[key] = self._value(self._marker(), depth)
            count -= 1
        return found
