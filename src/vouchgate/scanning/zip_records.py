"""The records of a zip archive as they stand in the bytes, with the values that Zip64 moves elsewhere put in place.

Rules (PKWARE APPNOTE 6.3.10)
1. An end record is the last thing in the file; behind it stands only its comment, of printable ASCII, so that no second one can hide there.
2. A Zip64 end record is used only where its locator, right in front of the end record, names the very place where it stands, and where the plain
   end record says the same or says nothing.
3. Extra fields are a whole number of known fields. Padding is torch's (`FB`, filled with `Z`) or Android's zeros; a second name must be the first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import NoReturn

from vouchgate.vocabulary.wire import Noun

END, CENTRAL, LOCAL, LOCATOR64, END64, DESCRIPTOR = b"PK\5\6", b"PK\1\2", b"PK\3\4", b"PK\6\7", b"PK\6\6", b"PK\7\x08"
_END_FIELDS = struct.Struct("<4s4H2LH")  # 4.3.16
_LOCATOR64_FIELDS = struct.Struct("<4sLQL")  # 4.3.15
_END64_FIELDS = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_CENTRAL_FIELDS = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_LOCAL_FIELDS = struct.Struct("<4s5H3L2H")  # 4.3.7
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF
MAX_COMMENT = 65_535
"""Bytes of a comment: its length has 16 bits."""

Fault = Callable[[str, str, str], NoReturn]
"""(rule, where, why): ends the reading."""


class Directory(Noun, frozen=True, kw_only=True):
    """Where the central directory stands."""

    begin: int
    end: int
    count: int


class Header(Noun, frozen=True, kw_only=True):
    """A central or a local header; sizes and offset after Zip64."""

    name: bytes
    flags: int
    method: int
    needs: int
    """Version needed to extract."""
    crc: int
    packed: int
    size: int
    offset: int = 0
    """Of the local header; of a local header itself, where its data begins."""
    attributes: int = 0
    wide: bool = False
    """It has a Zip64 field."""
    next: int = 0
    """Of a central header: where the one behind it stands."""


def directory(view: memoryview, fault: Fault) -> Directory:
    """Find the central directory (rules 1 and 2)."""
    end = _end_at(view)
    if end < 0:
        fault("no-end", "whole archive", "it has no end record as its last bytes, so readers differ in what it holds")
    _, disk, first_disk, here, count, length, begin, comment = _END_FIELDS.unpack_from(view, end)
    if disk or first_disk or here != count:
        fault("split", f"offset {end}", "its end record speaks of more than one disk")
    if not _printable(view[end + _END_FIELDS.size :]) or len(view) - end - _END_FIELDS.size != comment:
        fault("comment", f"offset {end}", "bytes that are no plain text stand behind its end record")
    stop = end
    if end >= _LOCATOR64_FIELDS.size and view[end - _LOCATOR64_FIELDS.size : end][:4] == LOCATOR64:
        stop, wide = _directory64(view, end, fault)
        for plain, value, full in ((count, wide[0], FULL16), (length, wide[1], FULL32), (begin, wide[2], FULL32)):
            if plain not in (value, full):
                fault("zip64", f"offset {end}", "its two end records say different things")
        count, length, begin = wide
    if begin + length != stop:
        fault(
            "directory", f"offset {end}", "its directory does not end where its end record begins: something stands before or between them"
        )
    return Directory(begin=begin, end=stop, count=count)


def _end_at(view: memoryview) -> int:
    """The last end signature; rule 1 makes every reader find the same one."""
    begin = max(0, len(view) - _END_FIELDS.size - MAX_COMMENT)
    found = bytes(view[begin:]).rfind(END)
    return begin + found if found >= 0 and begin + found + _END_FIELDS.size <= len(view) else -1


def _directory64(view: memoryview, end: int, fault: Fault) -> tuple[int, tuple[int, int, int]]:
    """Begin of the Zip64 end record, and (count, length, begin) of the directory (rule 2)."""
    locator = end - _LOCATOR64_FIELDS.size
    _, disk, record, disks = _LOCATOR64_FIELDS.unpack_from(view, locator)
    if record + _END64_FIELDS.size != locator or view[record : record + 4] != END64:
        fault("zip64", f"offset {locator}", "its Zip64 locator does not point to the record in front of it")
    _, size, _, _, this, first, here, count, length, begin = _END64_FIELDS.unpack_from(view, record)
    if size != _END64_FIELDS.size - 12 or disk or this or first or disks > 1 or here != count:
        fault("zip64", f"offset {record}", "its Zip64 end record has an odd size or speaks of more than one disk")
    return record, (count, length, begin)


def central(view: memoryview, here: int, end: int, fault: Fault) -> Header:
    """The central header at `here`."""
    where = f"offset {here}"
    if here + _CENTRAL_FIELDS.size > end or view[here : here + 4] != CENTRAL:
        fault("directory", where, "its directory holds something that is no entry, or ends early")
    fields = _CENTRAL_FIELDS.unpack_from(view, here)
    _, _, needs, flags, method, _, _, crc, packed, size, named, extra, comment, disk, _, attributes, offset = fields
    name_at = here + _CENTRAL_FIELDS.size
    extra_at, comment_at = name_at + named, name_at + named + extra
    if comment_at + comment > end:
        fault("directory", where, "an entry runs over the end of its directory")
    if not _printable(view[comment_at : comment_at + comment]):
        fault("comment", where, "an entry's comment is no plain text")
    if disk:
        fault("split", where, "an entry lies on another disk")
    name = bytes(view[name_at:extra_at])
    wide = _extra(view[extra_at:comment_at], name, where, fault)
    (size, packed, offset), rest = _widen((size, packed, offset), wide, where, fault)
    if rest:
        fault("zip64", where, "an entry's Zip64 field holds more than what the entry leaves out")
    return Header(
        name=name, flags=flags, method=method, needs=needs, crc=crc, packed=packed, size=size, offset=offset, attributes=attributes,
        wide=bool(wide), next=comment_at + comment,
    )  # fmt: skip


def local(view: memoryview, here: int, end: int, fault: Fault) -> Header:
    """The local header at `here`; `offset` is where its data begins."""
    where = f"offset {here}"
    if here + _LOCAL_FIELDS.size > end or view[here : here + 4] != LOCAL:
        fault("local-header", where, "an entry points to no local header")
    _, needs, flags, method, _, _, crc, packed, size, named, extra = _LOCAL_FIELDS.unpack_from(view, here)
    name_at = here + _LOCAL_FIELDS.size
    data_at = name_at + named + extra
    if data_at > end:
        fault("local-header", where, "a local header runs over the end of the members")
    name = bytes(view[name_at : name_at + named])
    wide = _extra(view[name_at + named : data_at], name, where, fault)
    # 4.5.3: a local Zip64 field has both sizes, whichever of them is left out in front
    if wide and len(wide) >= 16 and FULL32 in (size, packed):
        both = struct.unpack_from("<2Q", wide)
        size, packed = (value if plain == FULL32 else plain for plain, value in zip((size, packed), both, strict=True))
    return Header(
        name=name, flags=flags, method=method, needs=needs, crc=crc, packed=packed, size=size, offset=data_at, wide=bool(wide)
    )  # fmt: skip


def _widen(plain: tuple[int, ...], wide: bytes, where: str, fault: Fault) -> tuple[tuple[int, ...], bytes]:
    """4.5.3: the Zip64 field holds, in order, only the values whose place is full. What is left of it is handed back."""
    found, there = [], bool(wide)
    for value in plain:
        if value == FULL32 and there:
            if len(wide) < 8:
                fault("zip64", where, "an entry's Zip64 field lacks a value that the entry leaves out")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]  # noqa: PLW2901
        found.append(value)
    return tuple(found), wide


_ZIP64, _UNICODE_PATH, _TORCH_PADDING, _ANDROID_PADDING = 0x0001, 0x7075, 0x4246, 0xD935
_KNOWN = frozenset({
    0x000A,  # NTFS times
    0x000D,  # PKWARE Unix: times and owner; a link's target follows for links, which are refused by their attributes
    0x5455, 0x5855, 0x7855, 0x7875,  # Info-ZIP times and owners
    0x6375,  # Info-ZIP Unicode comment
    0xCAFE,  # Java archive marker
})  # fmt: skip
_MAX_KNOWN = 64
"""Bytes of one of these: times and owners; more would be hidden data."""


def _extra(extra: memoryview, name: bytes, where: str, fault: Fault) -> bytes:
    """Rule 3. Gives the Zip64 field, empty if there is none."""
    here, wide, seen = 0, b"", set()
    while here + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, here)
        content = bytes(extra[here + 4 : here + 4 + length])
        here += 4 + length
        if len(content) != length or kind in seen:
            fault("extra", where, "an extra field runs over its end or occurs twice")
        seen.add(kind)
        if kind == _ZIP64:
            wide = content
        elif not _harmless(kind, content, name):
            fault("extra", where, f"an extra field of kind {kind:#06x} is none that this reader knows, or holds what it should not")
    if bytes(extra[here:]).strip(b"\0"):
        fault("extra", where, "bytes stand behind the last extra field")
    return wide


def _harmless(kind: int, content: bytes, name: bytes) -> bool:
    if kind == _TORCH_PADDING:
        return not content.strip(b"Z")
    if kind == _ANDROID_PADDING:
        return not content[2:].strip(b"\0")
    if kind == _UNICODE_PATH:  # 4.6.9: version, CRC-32 of the plain name, the name in UTF-8
        return content[:1] == b"\1" and content[1:5] == zlib.crc32(name).to_bytes(4, "little") and content[5:] == name
    return kind in _KNOWN and len(content) <= _MAX_KNOWN


_PRINTABLE = bytes(range(0x20, 0x7F)) + b"\t\n\r"


def _printable(text: memoryview) -> bool:
    return not bytes(text).translate(None, _PRINTABLE)
