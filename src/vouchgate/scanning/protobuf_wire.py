"""Reads the protobuf wire format against a table of messages: bounded, exact, without copying long fields.

Rules (protobuf "Encoding" guide, proto2)
1. Every field is in the table with its wire type; an unknown field, group or wire type is refused. So is a singular field that occurs
   twice: readers keep the last or merge, and a scanner must not have seen another model than the runtime.
2. A varint has at most 10 bytes and 64 bits; a tag is minimal and at most 5 bytes; a length ends within its message.
3. Strings are UTF-8 and bounded. Bytes fields stay spans.
4. Runs of one repeated number are read as one span, checked by a pattern, so that a million tree nodes cost no million steps.
5. Depth and number of fields are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn

from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.verdict import Refuse, at
from vouchgate.vocabulary.wire import Noun

MAX_VARINT_BYTES = 10
MAX_TAG_BYTES = 5
RUN = 4_096
"""Repeated numbers matched at a time, so that the pattern engine's own memory stays small."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_BAD_VARINT = re.compile(rb"[\x80-\xff]{10}|[\x80-\xff]{9}[\x02-\x7f]")
_CONTINUES = bytes(range(0x80, 0x100))
_CHUNK = 1 << 20


class Field(Noun, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    kind: str
    """`int`, `float`, `double`, `text`, `bytes`, or the name of a message."""
    many: bool = False


Schema = Mapping[str, Mapping[int, Field]]
Message = dict[str, Any]
"""Field name -> value, or list of values for repeated ones; numbers of repeated numeric fields are a `Numbers`, a float its bits."""


class Span(Noun, frozen=True, kw_only=True):
    """A bytes field, where it lies."""

    begin: int
    end: int


class Numbers:
    """A repeated numeric field: how many there are, and the first few."""

    __slots__ = ("count", "first")
    KEPT = 64
    """Values kept; `dims` is the only field whose values are needed, and a rank is at most 64."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[int] = []


_WIRE = {"int": VARINT, "float": FIXED32, "double": FIXED64, "text": BYTES, "bytes": BYTES}
_WIDTH = {"float": 4, "double": 8}


class _Frame:
    """One message while it is read."""

    __slots__ = ("depth", "end", "found", "kind")

    def __init__(self, kind: str, end: int, depth: int) -> None:
        self.kind, self.end, self.depth = kind, end, depth
        self.found: Message = {}


@cache
def _run_pattern(tag: bytes, width: int) -> re.Pattern[bytes]:
    """Up to `RUN` numbers behind one tag each; `width` 0 is a varint of at most 64 bits."""
    body = b"[\\s\\S]{%d}" % width if width else rb"(?:[\x80-\xff]{0,8}[\x00-\x7f]|[\x80-\xff]{9}[\x00\x01])"
    return re.compile(b"(?:" + re.escape(tag) + body + b"){1,%d}+" % RUN)


class WireReader:
    """Reads one buffer. `refuse` prefixes its rules with the format's name."""

    def __init__(self, view: memoryview, schema: Schema, settings: ScanSettings, *, format_name: str, remedy: str) -> None:
        self._view, self._schema, self._settings = view, schema, settings
        self._format, self._remedy = format_name, remedy
        self._fields = 0

    def message(self, kind: str, begin: int, end: int, depth: int = 0) -> Message:
        """The message `kind` in `[begin, end)`. Raises `Refuse`."""
        if depth > self._settings.max_depth:
            self.refuse("depth", begin, f"messages are nested deeper than {self._settings.max_depth}")
        frame = _Frame(kind, end, depth)
        table = self._schema[kind]
        here = begin
        while here < end:
            start = here
            number, wire, here = self._tag(here, end)
            field = table.get(number)
            if field is None:
                self.refuse("unknown-field", start, f"{kind} has no field {number}, so a reader might see what this scan does not")
            if not field.many and field.name in frame.found:
                self.refuse("duplicate-field", start, f"{kind}.{field.name} occurs twice, and readers differ in which one they take")
            here = self._value(frame, field, wire, start, here)
        return frame.found

    def _value(self, frame: _Frame, field: Field, wire: int, start: int, here: int) -> int:
        """Read one field's value into the frame; where the next field is."""
        if field.many and field.kind in ("int", "float", "double"):
            return self._numbers(frame, field, wire, start, here)
        if wire != _WIRE.get(field.kind, BYTES):
            self.refuse("wire-type", start, f"{frame.kind}.{field.name} has wire type {wire}")
        if wire == VARINT:
            frame.found[field.name], here = self.varint(here, frame.end)
            return here
        if wire in (FIXED32, FIXED64):
            stop = self._within(here + _WIDTH[field.kind], frame.end, start)
            frame.found[field.name] = int.from_bytes(self._view[here:stop], "little")
            return stop
        length, here = self.varint(here, frame.end)
        stop = self._within(here + length, frame.end, start)
        value = self._long(frame, field, here, stop)
        if field.many:
            frame.found.setdefault(field.name, []).append(value)
        else:
            frame.found[field.name] = value
        return stop

    def _long(self, frame: _Frame, field: Field, begin: int, end: int) -> Any:
        if field.kind == "text":
            return self._text(frame.kind, field.name, begin, end)
        if field.kind == "bytes":
            return Span(begin=begin, end=end)
        return self.message(field.kind, begin, end, frame.depth + 1)

    def _tag(self, here: int, end: int) -> tuple[int, int, int]:
        self._fields += 1
        if self._fields > self._settings.max_fields:
            self.refuse("too-many-fields", here, f"more than {self._settings.max_fields} fields")
        tag, after = self.varint(here, end)
        if after - here > MAX_TAG_BYTES or (after - here > 1 and self._view[after - 1] == 0) or tag >> 3 == 0:
            self.refuse("tag", here, "a field's tag is not minimal, or names field 0")
        wire = tag & 7
        if wire not in (VARINT, FIXED64, BYTES, FIXED32):
            self.refuse("wire-type", here, f"wire type {wire} (a group, or none) is not used by this format")
        return tag >> 3, wire, after

    def varint(self, here: int, end: int) -> tuple[int, int]:
        """An unsigned 64-bit varint and the offset behind it. Raises `Refuse`."""
        if here < end:
            first = self._view[here]
            if first < 0x80:
                return first, here + 1
        value = shift = 0
        for index in range(here, min(end, here + MAX_VARINT_BYTES)):
            byte = self._view[index]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    self.refuse("varint", here, "a number is over 64 bits")
                return value, index + 1
            shift += 7
        if end - here < MAX_VARINT_BYTES:
            return self.refuse("truncated", here, "the bytes end within a number")
        return self.refuse("varint", here, f"a number has more than {MAX_VARINT_BYTES} bytes")

    def _numbers(self, frame: _Frame, field: Field, wire: int, start: int, here: int) -> int:
        numbers: Numbers = frame.found.setdefault(field.name, Numbers())
        if wire == BYTES:
            length, here = self.varint(here, frame.end)
            stop = self._within(here + length, frame.end, start)
            self._packed(field, here, stop, numbers)
            return stop
        if wire != _WIRE[field.kind]:
            self.refuse("wire-type", start, f"{field.name} has wire type {wire}")
        tag = bytes(self._view[start:here])
        stop = self._run(field, tag, start, frame.end, numbers)
        return stop if stop > start else self._one(field, here, frame.end, numbers)

    def _packed(self, field: Field, begin: int, end: int, numbers: Numbers) -> None:
        if field.kind != "int":
            width = _WIDTH[field.kind]
            if (end - begin) % width:
                self.refuse("packed-length", begin, f"{field.name} is not a whole number of {width}-byte values")
            numbers.count += (end - begin) // width
            return
        if end > begin and self._view[end - 1] >= 0x80:
            self.refuse("truncated", end - 1, f"{field.name} ends within a number")
        bad = _BAD_VARINT.search(self._view, begin, end)
        if bad:
            self.refuse("varint", bad.start(), "a number is over 64 bits")
        here = begin
        while here < end and len(numbers.first) < Numbers.KEPT:
            value, here = self.varint(here, end)
            numbers.first.append(value)
        for chunk in range(begin, end, _CHUNK):
            numbers.count += len(bytes(self._view[chunk : min(chunk + _CHUNK, end)]).translate(None, _CONTINUES))

    def _run(self, field: Field, tag: bytes, start: int, end: int, numbers: Numbers) -> int:
        """Unpacked repeated numbers with the same tag, one behind the other; `start` if their values are needed or there are none."""
        if field.kind == "int" and len(numbers.first) < Numbers.KEPT:
            return start
        pattern = _run_pattern(tag, _WIDTH.get(field.kind, 0))
        here = start
        while match := pattern.match(self._view, here, end):
            numbers.count += self._counted(field, len(tag), here, match.end())
            here = match.end()
        return here

    def _counted(self, field: Field, tag_bytes: int, begin: int, end: int) -> int:
        if field.kind != "int":
            return (end - begin) // (tag_bytes + _WIDTH[field.kind])
        ends = len(bytes(self._view[begin:end]).translate(None, _CONTINUES))
        return ends // 2  # a minimal tag and a varint each have exactly one byte without the continuation bit

    def _one(self, field: Field, here: int, end: int, numbers: Numbers) -> int:
        numbers.count += 1
        if field.kind != "int":
            return self._within(here + _WIDTH[field.kind], end, here)
        value, here = self.varint(here, end)
        if len(numbers.first) < Numbers.KEPT:
            numbers.first.append(value)
        return here

    def _text(self, kind: str, name: str, begin: int, end: int) -> str:
        limit = self._settings.max_text_bytes if name in ("doc_string", "value") else self._settings.max_name_bytes
        if end - begin > limit:
            self.refuse("text-size", begin, f"{kind}.{name} has {end - begin} bytes, the bound is {limit}")
        try:
            return str(self._view[begin:end], "utf-8")
        except UnicodeDecodeError:
            self.refuse("utf8", begin, f"{kind}.{name} is not UTF-8")

    def _within(self, stop: int, end: int, start: int) -> int:
        if stop > end:
            self.refuse("truncated", start, f"a field ends {stop - end} bytes behind its message")
        return stop

    def refuse(self, rule: str, offset: int, why: str) -> NoReturn:
        """End the reading."""
        raise Refuse(f"{self._format}:{rule}", at(offset), why, self._remedy)
