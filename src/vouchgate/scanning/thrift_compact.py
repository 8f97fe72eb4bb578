"""Reads Thrift's compact protocol into plain values: a struct is a dict by field number. Nothing announced is trusted.

Rules (Thrift compact protocol specification, "Struct encoding", "List and set")
1. A varint has at most ten bytes; a length or count fits into what is left, since each element takes at least a byte.
2. A struct has each field once; depth and values have bounds.
"""

from __future__ import annotations

from typing import Any, NoReturn

from vouchgate.scanning.verdict import Refuse, at

MAX_DEPTH = 32
MAX_VALUES = 4_000_000
"""Values read, about 3 s; a footer of 1,000 columns and 1,000 row groups has about 20 million, which no reader likes."""
REMEDY = "write the file again with the library that made it"
Struct = dict[int, Any]


class Compact:
    """A reader at a place in the bytes; `here` moves on."""

    def __init__(self, view: memoryview, rule: str, begin: int = 0, end: int | None = None) -> None:
        self._view, self._rule = view, rule
        self.here, self._end = begin, len(view) if end is None else end
        self._values = 0

    def _refuse(self, why: str) -> NoReturn:
        raise Refuse(f"{self._rule}:thrift", at(self.here), why, REMEDY)

    def _byte(self) -> int:
        if self.here >= self._end:
            self._refuse("its metadata ends before what it announces")
        self.here += 1
        return self._view[self.here - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        return self._refuse("a number has more than ten bytes")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> Struct:
        """The struct that begins here."""
        if depth > MAX_DEPTH:
            self._refuse(f"its structs lie deeper than {MAX_DEPTH} within each other")
        found: Struct = {}
        field = 0
        while (head := self._byte()) & 0x0F:
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            if field in found or not 0 < field < 32_768:
                self._refuse("a field stands twice in one struct, or has no number")
            kind = head & 0x0F
            found[field] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            self._refuse(f"it has more than {MAX_VALUES} values")
        if kind in (1, 2):
            return self._byte() == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return bytes(self._take(8))
        if kind == 8:
            return bytes(self._take(self._varint()))
        if kind in (9, 10):
            return self._list(depth + 1)
        if kind == 12:
            return self.struct(depth + 1)
        return self._refuse("a value is of a kind that the format does not use")

    def _take(self, count: int) -> memoryview:
        if count > self._end - self.here:
            self._refuse("a length reaches behind the end")
        self.here += count
        return self._view[self.here - count : self.here]

    def _list(self, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            self._refuse(f"its lists lie deeper than {MAX_DEPTH} within each other")
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        if count > self._end - self.here:
            self._refuse("a list counts more elements than there are bytes")
        return [self._value(head & 0x0F, depth) for _ in range(count)]
