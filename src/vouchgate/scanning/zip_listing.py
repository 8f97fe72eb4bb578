"""Lists a zip archive from its central directory, bounded, and finds archives that hide in or behind other bytes.

It only recognises: nothing is unpacked, and what a reader then makes of the archive is for zips.py to say.
(PKWARE APPNOTE 6.3, sections 4.3.12 and 4.3.16.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vouchgate.vocabulary.wire import Noun

END_BYTES = 22
MAX_COMMENT = 65_535
MAX_MEMBERS = 200_000
"""Members looked at. An archive with more is refused by its reader (zips.py), so that what tells its kind cannot hide behind many others."""
MAX_ENDS = 64
"""End records tried; a file with more is treated as an archive."""
_END, _ENTRY, _LOCAL, _LOCATOR64, _END64 = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04", b"PK\x06\x07", b"PK\x06\x06"
_ENTRY_FIELDS = struct.Struct("<4s4B4HL2L5H2L")
_END_FIELDS = struct.Struct("<4s4H2LH")


class Member(Noun, frozen=True, kw_only=True):
    """One entry of the central directory."""

    name: str
    method: int
    offset: int
    """Of its local header, counted from the start of the bytes."""
    packed: int


def directory_of(view: memoryview) -> tuple[int, int] | None:
    """Begin and end of a central directory, if these bytes are an archive to a reader that looks from the end (or are one from the start)."""
    size = len(view)
    tail_begin = max(0, size - END_BYTES - MAX_COMMENT)
    tail = bytes(view[tail_begin:])
    found = len(tail)
    for _ in range(MAX_ENDS):
        found = tail.rfind(_END, 0, found)
        if found < 0:
            break
        end = tail_begin + found
        if end + END_BYTES > size:
            continue
        length = _END_FIELDS.unpack_from(view, end)[5]
        if tail[found - 20 : found - 16] == _LOCATOR64:
            return _directory64(view, end - 20)
        if length <= end and (length == 0 or view[end - length : end - length + 4] == _ENTRY):
            return end - length, end
    else:
        return 0, 0
    return (0, 0) if view[:4] == _LOCAL else None


def _directory64(view: memoryview, locator: int) -> tuple[int, int]:
    """Zip64: the record stands right before its locator; junk in front of the archive shifts the written offset, so it is not used."""
    record = locator - 56
    if record < 0 or bytes(view[record : record + 4]) != _END64:
        return 0, 0
    length = int.from_bytes(view[record + 40 : record + 48], "little")
    return (record - length, record) if length <= record else (0, 0)


def members(view: memoryview, begin: int, end: int) -> Iterator[Member]:
    """The entries of a central directory, as far as they make sense."""
    here = begin
    for _ in range(MAX_MEMBERS):
        if here + _ENTRY_FIELDS.size > end or view[here : here + 4] != _ENTRY:
            return
        fields = _ENTRY_FIELDS.unpack_from(view, here)
        name, extra, comment = fields[12], fields[13], fields[14]
        raw = bytes(view[here + _ENTRY_FIELDS.size : here + _ENTRY_FIELDS.size + name])
        yield Member(name=raw.decode("utf-8", "backslashreplace"), method=fields[6], offset=fields[-1], packed=fields[10])
        here += _ENTRY_FIELDS.size + name + extra + comment
