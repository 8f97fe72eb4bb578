"""Reads FlatBuffers tables without a schema compiler: every offset is checked before it is followed.

Rules (FlatBuffers internals, "Tables", "Vectors", "Strings")
1. A table points back to its vtable, which lies within the bytes and says where each field is; both sizes are checked.
2. Offsets point forward, vectors fit into what is left. Tables visited have a bound: they may be shared, and shared ones multiply.
"""

from __future__ import annotations

import struct
from typing import Any, NoReturn

from vouchgate.scanning.verdict import Refuse, at

MAX_TABLES = 1_000_000
REMEDY = "write the file again with the library that made it"


class Flat:
    """A buffer of tables."""

    def __init__(self, view: memoryview, rule: str, base: int = 0) -> None:
        self.view, self.rule, self.base = view, rule, base
        self.tables = 0

    def refuse(self, place: int, why: str) -> NoReturn:
        """Raise with the place in the artifact."""
        raise Refuse(f"{self.rule}:flatbuffer", at(self.base + max(place, 0)), why, REMEDY)

    def number(self, place: int, code: str) -> Any:
        """A scalar."""
        if place < 0 or place + struct.calcsize(f"<{code}") > len(self.view):
            self.refuse(place, "an offset reaches behind the end of its buffer")
        return struct.unpack_from(f"<{code}", self.view, place)[0]

    def root(self) -> Table:
        """The table that the buffer is."""
        return Table(self, self.number(0, "I"))


class Table:
    """One table."""

    def __init__(self, flat: Flat, place: int) -> None:
        flat.tables += 1
        if flat.tables > MAX_TABLES:
            flat.refuse(place, f"it has more than {MAX_TABLES} tables")
        self.flat, self.place = flat, place
        vtable = place - flat.number(place, "i")
        size, self._length = flat.number(vtable, "H"), flat.number(vtable + 2, "H")
        if size < 4 or size % 2 or vtable + size > len(flat.view) or place + self._length > len(flat.view):
            flat.refuse(place, "a table or its index reaches behind the end of its buffer")
        self._vtable, self._fields = vtable, (size - 4) // 2

    def at(self, field: int) -> int:
        """Place of a field; 0 where it is not there."""
        if field >= self._fields:
            return 0
        offset = self.flat.number(self._vtable + 4 + 2 * field, "H")
        if offset and offset >= self._length:
            self.flat.refuse(self.place, "a field lies behind its table")
        return self.place + offset if offset else 0

    def number(self, field: int, code: str, default: Any = 0) -> Any:
        """A scalar field."""
        place = self.at(field)
        return self.flat.number(place, code) if place else default

    def _follow(self, field: int) -> int:
        place = self.at(field)
        if not place:
            return 0
        offset = self.flat.number(place, "I")
        if not offset:
            self.flat.refuse(place, "an offset points at itself")
        return place + int(offset)

    def table(self, field: int) -> Table | None:
        """A table field."""
        place = self._follow(field)
        return Table(self.flat, place) if place else None

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """Begin and count of a vector's elements."""
        place = self._follow(field)
        if not place:
            return 0, 0
        count = self.flat.number(place, "I")
        if place + 4 + count * width > len(self.flat.view):
            self.flat.refuse(place, "a vector reaches behind the end of its buffer")
        return place + 4, count

    def bytes(self, field: int) -> bytes:
        """A string's or byte vector's content."""
        begin, count = self.vector(field, 1)
        return bytes(self.flat.view[begin : begin + count])

    def text(self, field: int) -> str:
        """A string."""
        return self.bytes(field).decode("utf-8", "backslashreplace")

    def rows(self, field: int, code: str) -> list[tuple[Any, ...]]:
        """A vector of structs."""
        width = struct.calcsize(f"<{code}")
        begin, count = self.vector(field, width)
        return list(struct.iter_unpack(f"<{code}", self.flat.view[begin : begin + count * width]))

    def all(self, field: int) -> list[Table]:
        """A vector of tables."""
        begin, count = self.vector(field, 4)
        if count > MAX_TABLES:
            self.flat.refuse(begin, f"it has more than {MAX_TABLES} tables")
        places = range(begin, begin + 4 * count, 4)
        return [Table(self.flat, place + self.flat.number(place, "I")) for place in places]
