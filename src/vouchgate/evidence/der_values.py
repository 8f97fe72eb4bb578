"""DER values one by one, each with its own bytes, for signatures that are over a part of a structure (X.690, sections 8 and 10).

Rules
1. A length has its shortest form, a tag has one byte, and nothing follows the last value.
2. Nesting is bounded by its reader: each level is one call that names the tag that it expects.
"""

from __future__ import annotations

from dataclasses import dataclass

from vouchgate.vocabulary.errors import InvalidInput

INTEGER, OCTETS, OBJECT_ID, UTF8, SEQUENCE, SET, GENERALIZED_TIME = 0x02, 0x04, 0x06, 0x0C, 0x30, 0x31, 0x18
"""Tags (X.680, table 1)."""
MAX_VALUES = 256
"""Values of one level."""
_REMEDY = "ask for the document again: it is not in DER"


@dataclass(frozen=True)
class Value:
    """One value."""

    tag: int
    content: bytes
    whole: bytes
    """With its tag and length."""


def values_of(data: bytes) -> tuple[Value, ...]:
    """All values that stand one after the other. Raises `InvalidInput`."""
    found: list[Value] = []
    at = 0
    while at < len(data):
        start, size = _header(data, at)
        if start + size > len(data) or len(found) == MAX_VALUES:
            raise InvalidInput("a DER value is cut off, or there are too many", remedy=_REMEDY)
        found.append(Value(data[at], data[start : start + size], data[at : start + size]))
        at = start + size
    return tuple(found)


def one(data: bytes, tag: int) -> Value:
    """The only value of `data`, of this tag. Raises `InvalidInput`."""
    found = values_of(data)
    if len(found) != 1 or found[0].tag != tag:
        raise InvalidInput("a DER value is of another kind than it should be", remedy=_REMEDY)
    return found[0]


def within(value: Value, *tags: int) -> tuple[Value, ...]:
    """A constructed value's values, the first of which have these tags. Raises `InvalidInput`."""
    found = values_of(value.content)
    if tuple(each.tag for each in found[: len(tags)]) != tags:
        raise InvalidInput("a DER structure is another than it should be", remedy=_REMEDY)
    return found


def integer(value: Value) -> int:
    """X.690, section 8.3. Raises `InvalidInput`."""
    content = value.content
    padded = len(content) > 1 and (content[0], content[1] >> 7) in ((0, 0), (0xFF, 1))
    if value.tag != INTEGER or not content or padded:
        raise InvalidInput("a DER integer is malformed", remedy=_REMEDY)
    return int.from_bytes(content, "big", signed=True)


def object_id(value: Value) -> str:
    """Dotted (X.690, section 8.19). Raises `InvalidInput`."""
    content = value.content
    if value.tag != OBJECT_ID or not content or content[-1] & 0x80 or len(content) > 64:
        raise InvalidInput("a DER object identifier is malformed", remedy=_REMEDY)
    parts, number = [], 0
    for index, byte in enumerate(content):
        if number == 0 and byte == 0x80 and (index == 0 or not content[index - 1] & 0x80):
            raise InvalidInput("a DER object identifier is padded", remedy=_REMEDY)
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            parts.append(number)
            number = 0
    first = min(parts[0] // 40, 2)
    return ".".join(str(part) for part in (first, parts[0] - 40 * first, *parts[1:]))


def _header(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the value at `at` begins, and its length."""
    if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
        raise InvalidInput("a DER value is cut off, or its tag is not known", remedy=_REMEDY)
    size = data[at + 1]
    if size < 0x80:
        return at + 2, size
    count = size & 0x7F
    raw = data[at + 2 : at + 2 + count]
    if not 1 <= count <= 4 or len(raw) != count or raw[0] == 0 or int.from_bytes(raw, "big") < 0x80:
        raise InvalidInput("a DER length is not in its shortest form", remedy=_REMEDY)
    return at + 2 + count, int.from_bytes(raw, "big")
