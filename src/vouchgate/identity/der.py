"""DER, as far as it is written and read here by hand: one spelling of everything (X.690, sections 8 and 10).

Rules
1. A length has its shortest form; the indefinite form does not exist (X.690, section 10.1).
2. A tag has one byte: no structure here needs a number above 30.
3. Nothing follows the last value; what is missing, doubled or out of order is refused, never skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from vouchgate.vocabulary.errors import InvalidInput

SEQUENCE, SET, OBJECT_ID, UTF8, OCTETS = 0x30, 0x31, 0x06, 0x0C, 0x04
"""Tags (X.690, section 8; X.680, table 1)."""
MAX_DEPTH = 24
"""Values inside values; a certificate has about ten."""
_CONSTRUCTED = 0x20
_REMEDY = "send canonical DER"


def write(tag: int, content: bytes) -> bytes:
    """One value."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def read(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first value, and what follows it. Raises `InvalidInput`."""
    if len(data) < 2 or data[0] & 0x1F == 0x1F:
        raise InvalidInput("a DER value is cut off, or its tag is unknown here", remedy=_REMEDY)
    size, start = data[1], 2
    if size >= 0x80:
        count = size & 0x7F
        size, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
        if not 1 <= count <= 4 or len(data) < start or size < 0x80 or data[2] == 0:
            raise InvalidInput("a DER length is not in its shortest form", remedy=_REMEDY)
    if len(data) < start + size:
        raise InvalidInput("a DER value is cut off", remedy=_REMEDY)
    return data[0], data[start : start + size], data[start + size :]


def values(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The values of a constructed value's content, in order. Raises `InvalidInput`."""
    while content:
        tag, inner, content = read(content)
        yield tag, inner


def only(data: bytes, tag: int) -> bytes:
    """Content of the one value that `data` is. Raises `InvalidInput`."""
    found, content, rest = read(data)
    if found != tag or rest:
        raise InvalidInput("a DER value has another type, or something follows it", remedy=_REMEDY)
    return content


def check(data: bytes, depth: int = 0) -> None:
    """Walk a value and all that is constructed in it: lengths, booleans, integers and bit strings in their one spelling.
    Raises `InvalidInput`."""
    if depth > MAX_DEPTH:
        raise InvalidInput("DER values are nested too deeply", remedy=_REMEDY)
    tag, content, rest = read(data)
    if rest:
        raise InvalidInput("bytes follow a DER value", remedy=_REMEDY)
    if tag & _CONSTRUCTED:
        inside = content
        while inside:
            before = inside
            _, _, inside = read(inside)
            check(before[: len(before) - len(inside)], depth + 1)
        if tag == SET and (parts := [write(*one) for one in values(content)]) != sorted(parts):
            raise InvalidInput("a DER set is not in order", remedy=_REMEDY)
    elif not _primitive(tag, content):
        raise InvalidInput("a DER value is not in its one spelling", remedy=_REMEDY)


def _primitive(tag: int, content: bytes) -> bool:
    if tag == 0x01:  # X.690, section 11.1
        return content in (b"\x00", b"\xff")
    if tag == 0x02:  # section 8.3.2
        return bool(content) and not (len(content) > 1 and (content[0], content[1] >> 7) in ((0, 0), (0xFF, 1)))
    if tag == 0x03:  # section 11.2: unused bits are zero
        unused = content[0] if content else 8
        return unused <= 7 and (len(content) > 1 or unused == 0) and not (unused and content[-1] & ((1 << unused) - 1))
    if tag == 0x05:
        return not content
    return not (tag == OBJECT_ID and (not content or content[-1] & 0x80))
