"""The messages of an HDF5 object header: datatypes, dataspaces, layouts, filters, attributes, links.

Rules (HDF5 File Format Specification 3.0, section IV.A.2)
1. Versions and classes that were reviewed, and nothing else; nothing is shared between headers.
2. Data lies in this file: no external files (IV.A.2.h), no virtual datasets (IV.A.2.i.4), no links to other files (IV.A.2.g).
3. Filters are deflate, shuffle and Fletcher-32: any other number makes the library load a plug-in.
"""

from __future__ import annotations

import struct
from math import prod

from vouchgate.scanning.hdf5_bytes import UNDEFINED, Bytes
from vouchgate.scanning.hdf5_index import text
from vouchgate.vocabulary.wire import Noun

MAX_RANK = 32
"""H5S_MAX_RANK."""
MAX_ELEMENTS = 2**48
"""Elements of one dataset; more cannot be data in a file."""
MAX_MEMBERS = 4_096
"""Members of a compound type, or of an enumeration."""
MAX_TYPE_DEPTH = 16
"""Types within each other."""
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
FIXED, FLOAT, STRING, BITFIELD, OPAQUE, COMPOUND, REFERENCE, ENUM, VARIABLE, ARRAY = 0, 1, 3, 4, 5, 6, 7, 8, 9, 10
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2


class Datatype(Noun, frozen=True, kw_only=True):
    """What an element is."""

    kind: int
    """Class number (`FIXED`, `FLOAT`, ...)."""
    size: int
    """Bytes of an element."""
    signed: bool = False
    big_endian: bool = False
    mantissa: int = 0
    """Bits of a float's mantissa: 10 is binary16, 7 with 2 bytes is bfloat16, 23 and 52 the usual ones."""
    text: bool = False
    """Fixed text, or variable-length text."""
    length: int = 0
    """Bytes of the encoded datatype."""

    @property
    def numpy(self) -> str:
        """As numpy writes it (`<f4`), `bfloat16`, or empty for what is no plain number."""
        order = ">" if self.big_endian else "<"
        if self.kind == FIXED and self.size in (1, 2, 4, 8):
            return f"{'|' if self.size == 1 else order}{'i' if self.signed else 'u'}{self.size}"
        if self.kind == FLOAT and (self.size, self.mantissa) in ((2, 10), (4, 23), (8, 52)):
            return f"{order}f{self.size}"
        if self.kind == FLOAT and (self.size, self.mantissa, self.big_endian) == (2, 7, False):
            return "bfloat16"
        return "|b1" if self.kind == ENUM and self.size == 1 and self.text else ""


class Layout(Noun, frozen=True, kw_only=True):
    """Where a dataset's bytes are."""

    kind: int
    address: int = UNDEFINED
    """Of the data, or of the chunks' B-tree."""
    size: int = 0
    chunk: tuple[int, ...] = ()
    """Elements of a chunk, by dimension."""
    index: int = 0
    """How chunks are found: 0 by a version 1 B-tree, else the number of hdf5_chunks.py."""
    mask: int = 0
    """Filters left out of a single chunk."""


class Attribute(Noun, frozen=True, kw_only=True):
    """A named value."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...] | None
    """None for a null dataspace."""
    begin: int
    """Where its bytes are within the message."""


def datatype(data: Bytes, raw: memoryview, where: int, depth: int = 0) -> Datatype:
    """IV.A.2.d."""
    if len(raw) < 8 or depth > MAX_TYPE_DEPTH:
        data.refuse("datatype", where, "a datatype is cut short, or nested too deeply")
    kind, version, bits, size = raw[0] & 15, raw[0] >> 4, int.from_bytes(raw[1:4], "little"), int.from_bytes(raw[4:8], "little")
    if not 1 <= version <= 4 or not size or size > 2**31:
        data.refuse("datatype", where, "a datatype has no version or size that was reviewed")
    if kind == FIXED:
        return Datatype(kind=kind, size=size, signed=bool(bits & 8), big_endian=bool(bits & 1), length=12)
    if kind == FLOAT:
        return Datatype(kind=kind, size=size, big_endian=bool(bits & 1), mantissa=raw[15] if len(raw) > 15 else 0, length=20)
    if kind == BITFIELD:
        return Datatype(kind=kind, size=size, length=12)
    if kind == STRING:
        return Datatype(kind=kind, size=size, text=True, length=8)
    if kind == OPAQUE:
        return Datatype(kind=kind, size=size, length=8 + -(-(bits & 255) // 8) * 8)
    if kind == REFERENCE:
        return Datatype(kind=kind, size=size, length=8)
    if kind == VARIABLE:
        base = datatype(data, raw[8:], where, depth + 1)
        return Datatype(kind=kind, size=size, text=bits & 15 == 1, length=8 + base.length)
    if kind == ENUM:
        return _enumeration(data, raw, where, bits & 0xFFFF, version, size, depth)
    if kind == ARRAY:
        return _array(data, raw, where, version, size, depth)
    if kind == COMPOUND:
        return _compound(data, raw, where, bits & 0xFFFF, version, size, depth)
    return data.refuse("datatype", where, f"datatype class {kind} is none that was reviewed")


def _array(data: Bytes, raw: memoryview, where: int, version: int, size: int, depth: int) -> Datatype:
    rank = raw[8] if len(raw) > 8 else MAX_RANK + 1
    if rank > MAX_RANK:
        data.refuse("datatype", where, "an array type has too many dimensions")
    head = 8 + (4 + 8 * rank if version < 3 else 1 + 4 * rank)
    base = datatype(data, raw[head:], where, depth + 1)
    return Datatype(kind=ARRAY, size=size, length=head + base.length)


def _enumeration(data: Bytes, raw: memoryview, where: int, count: int, version: int, size: int, depth: int) -> Datatype:
    base = datatype(data, raw[8:], where, depth + 1)
    here, names = 8 + base.length, []
    for _ in range(_bounded(data, count, where)):
        name, here = _padded(data, raw, here, version < 3, where)
        names.append(name)
    return Datatype(kind=ENUM, size=size, text=names == ["FALSE", "TRUE"], length=here + count * base.size)


def _compound(data: Bytes, raw: memoryview, where: int, count: int, version: int, size: int, depth: int) -> Datatype:
    here = 8
    for _ in range(_bounded(data, count, where)):
        _, here = _padded(data, raw, here, version < 3, where)
        here += (4 + 28 if version == 1 else 4) if version < 3 else _bytes_for(size)
        here += datatype(data, raw[here:], where, depth + 1).length
    return Datatype(kind=COMPOUND, size=size, length=here)


def _bytes_for(size: int) -> int:
    return max(1, -(-size.bit_length() // 8))


def _bounded(data: Bytes, count: int, where: int) -> int:
    if count > MAX_MEMBERS:
        data.refuse("datatype", where, f"a datatype has {count} members, the bound is {MAX_MEMBERS}")
    return count


def _padded(data: Bytes, raw: memoryview, here: int, padded: bool, where: int) -> tuple[str, int]:
    """A zero-terminated name, and the place behind it."""
    piece = bytes(raw[here : here + 4_096])
    end = piece.find(b"\0")
    if end < 0:
        data.refuse("datatype", where, "a member's name has no end")
    return text(data, piece[:end], where), here + (-(-(end + 1) // 8) * 8 if padded else end + 1)


def dataspace(data: Bytes, raw: memoryview, where: int) -> tuple[tuple[int, ...] | None, int]:
    """The shape (None where there is nothing) and the message's length (IV.A.2.b)."""
    if len(raw) < 4 or raw[0] not in (1, 2) or raw[1] > MAX_RANK:
        data.refuse("dataspace", where, "a dataspace has a version or rank that no writer has")
    version, rank, flags = raw[0], raw[1], raw[2]
    head = 8 if version == 1 else 4
    length = head + rank * 8 * (2 if flags & 1 else 1)
    if length > len(raw):
        data.refuse("dataspace", where, "a dataspace is cut short")
    shape = struct.unpack_from(f"<{rank}Q", raw, head)
    if prod(shape) > MAX_ELEMENTS or any(one > MAX_ELEMENTS for one in shape):
        data.refuse("dataspace", where, "a dataset has more elements than a file can hold")
    return (None if version == 2 and raw[3] == 2 else shape), length


def layout(data: Bytes, raw: memoryview, where: int) -> tuple[Layout, int]:
    """Where the data is, and the place of compact data in the message (IV.A.2.i)."""
    if len(raw) < 4 or raw[0] not in (3, 4):
        data.refuse("layout", where, "a data layout has a version that was not reviewed")
    version, kind = raw[0], raw[1]
    if kind == COMPACT:
        size = int.from_bytes(raw[2:4], "little")
        if 4 + size > len(raw):
            data.refuse("layout", where, "compact data is cut short")
        return Layout(kind=COMPACT, size=size), 4
    if kind == CONTIGUOUS and len(raw) >= 18:
        address, size = struct.unpack_from("<QQ", raw, 2)
        return Layout(kind=CONTIGUOUS, address=address, size=size), 0
    if kind == CHUNKED and version == 3:
        rank = raw[2]
        if not 2 <= rank <= MAX_RANK + 1 or len(raw) < 11 + 4 * rank:
            data.refuse("layout", where, "a chunked layout is cut short, or has no rank")
        address = int.from_bytes(raw[3:11], "little")
        return Layout(kind=CHUNKED, address=address, chunk=struct.unpack_from(f"<{rank - 1}I", raw, 11)), 0
    if kind == 3:
        data.refuse("virtual", where, "a dataset is put together from other files that it names")
    if kind == CHUNKED:
        return _chunked(data, raw, where), 0
    return data.refuse("layout", where, "a data layout is cut short, or of a class that was not reviewed")


_INDEX_BYTES = {2: 0, 3: 1, 4: 5, 5: 6}
"""Bytes of an index's own parameters."""


def _chunked(data: Bytes, raw: memoryview, where: int) -> Layout:
    """Version 4: flags, rank (with the element's bytes), width of a dimension, dimensions, the index's type and parameters, address."""
    flags, rank, width = bytes(raw[2:5]) if len(raw) >= 5 else (0, 0, 0)
    here = 5 + rank * width
    if not 2 <= rank <= MAX_RANK + 1 or not 1 <= width <= 8 or here + 9 > len(raw):
        data.refuse("layout", where, "a chunked layout is cut short, or has no rank")
    chunk = tuple(int.from_bytes(raw[5 + axis * width : 5 + (axis + 1) * width], "little") for axis in range(rank - 1))
    index, size, mask, here = raw[here], 0, 0, here + 1
    if index == 1 and flags & 2:
        size, mask = int.from_bytes(raw[here : here + 8], "little"), int.from_bytes(raw[here + 8 : here + 12], "little")
    parameters = (12 if flags & 2 else 0) if index == 1 else _INDEX_BYTES.get(index, -1)
    if parameters < 0 or here + parameters + 8 > len(raw):
        data.refuse("layout", where, "its chunks have an index that was not reviewed")
    address = int.from_bytes(raw[here + parameters : here + parameters + 8], "little")
    return Layout(kind=CHUNKED, address=address, chunk=chunk, index=index, size=size, mask=mask)


def extent(raw: memoryview, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The greatest shape that a dataspace may grow to; of a dimension without bound, what it has. After `dataspace`."""
    if not raw[2] & 1:
        return shape
    most = struct.unpack_from(f"<{len(shape)}Q", raw, (8 if raw[0] == 1 else 4) + 8 * len(shape))
    return tuple(here if one == UNDEFINED else one for one, here in zip(most, shape, strict=True))


def fill(data: Bytes, raw: memoryview, where: int) -> bytes:
    """What stands where nothing was written; empty for zeros (IV.A.2.f)."""
    if len(raw) < 2 or raw[0] not in (1, 2, 3):
        data.refuse("fill", where, "a fill value has a version that was not reviewed")
    here, defined = (4, bool(raw[3]) if len(raw) > 3 else False) if raw[0] < 3 else (2, bool(raw[1] & 0x20))
    if raw[0] > 1 and not defined:
        return b""
    size = int.from_bytes(raw[here : here + 4], "little")
    if here + 4 + size > len(raw):
        data.refuse("fill", where, "a fill value is cut short")
    return bytes(raw[here + 4 : here + 4 + size])


def filters(data: Bytes, raw: memoryview, where: int) -> tuple[int, ...]:
    """Numbers of the filters, in the order in which they were applied (IV.A.2.l)."""
    if len(raw) < 2 or raw[0] not in (1, 2) or raw[1] > 32:
        data.refuse("filters", where, "a filter pipeline has a version or length that no writer has")
    version, here, found = raw[0], 8 if raw[0] == 1 else 2, []
    for _ in range(raw[1]):
        if here + (8 if version == 1 else 6) > len(raw):
            data.refuse("filters", where, "a filter pipeline is cut short")
        number = int.from_bytes(raw[here : here + 2], "little")
        if number not in (DEFLATE, SHUFFLE, FLETCHER32):
            data.refuse("filter", where, f"filter {number} is none of HDF5's own: the library would load a plug-in for it")
        name = int.from_bytes(raw[here + 2 : here + 4], "little") if version == 1 else 0
        values = int.from_bytes(raw[here + (6 if version == 1 else 4) : here + (8 if version == 1 else 6)], "little")
        here += (8 if version == 1 else 6) + -(-name // 8) * 8 + 4 * (values + (values & 1 if version == 1 else 0))
        found.append(number)
    if here > len(raw):
        data.refuse("filters", where, "a filter pipeline is cut short")
    return tuple(found)


def attribute(data: Bytes, raw: memoryview, where: int) -> Attribute:
    """IV.A.2.m. Versions 1 to 3; shared datatypes are not read."""
    if len(raw) < 8 or raw[0] not in (1, 2, 3) or (raw[0] > 1 and raw[1]):
        data.refuse("attribute", where, "an attribute has a version that was not reviewed, or shares its datatype")
    version = raw[0]
    name_size, type_size, space_size = struct.unpack_from("<HHH", raw, 2)
    pad = 8 if version == 1 else 1
    here = 9 if version == 3 else 8
    places = []
    for size in (name_size, type_size, space_size):
        places.append(here)
        here += -(-size // pad) * pad
    if here > len(raw):
        data.refuse("attribute", where, "an attribute is cut short")
    name = text(data, bytes(raw[places[0] : places[0] + name_size]).rstrip(b"\0"), where)
    kind = datatype(data, raw[places[1] : places[1] + type_size], where)
    shape, _ = dataspace(data, raw[places[2] : places[2] + space_size], where)
    return Attribute(name=name, datatype=kind, shape=shape, begin=here)


def link(data: Bytes, raw: memoryview, where: int) -> tuple[str, int]:
    """A link's name and the object header that it leads to (IV.A.2.g): for a soft link `UNDEFINED`, since its path leads to what is read anyway."""
    if len(raw) < 4 or raw[0] != 1:
        data.refuse("link", where, "a link has a version that was not reviewed")
    flags, here = raw[1], 2
    kind = 0
    if flags & 8:
        kind, here = raw[here], here + 1
    if kind not in (0, 1):
        what = "a link to another file" if kind == 64 else "a link of a kind of its own"
        data.refuse("external-link" if kind == 64 else "link", where, f"it holds {what}, which no model file needs")
    here += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    width = 1 << (flags & 3)
    length = int.from_bytes(raw[here : here + width], "little")
    here += width
    if here + length + (2 if kind else 8) > len(raw):
        data.refuse("link", where, "a link is cut short")
    if kind:
        target = int.from_bytes(raw[here + length : here + length + 2], "little")
        text(data, raw[here + length + 2 : here + length + 2 + target], where)
        return text(data, raw[here : here + length], where), UNDEFINED
    return text(data, raw[here : here + length], where), int.from_bytes(raw[here + length : here + length + 8], "little")
