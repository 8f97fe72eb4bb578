"""Which parts of an object a structure scan needs, so that a large file behind an address is looked at in seconds.

Rules
1. Head and tail always, and where an HDF5 file may begin: every format is recognised by them. Then, of safetensors, the header; of a zip, the directory, every member's own
   header and what stands between members, every member that is small, packed or may be anything.
2. What is left out is plain numbers by the names around it (a storage of torch's zip). They are zeros in the copy. A scan of the
   structure looks at none of them, is never clean, and is told how much was missing.
3. Any other format, and a zip that says two things, is fetched as a whole.
What is read here only decides what to fetch; whether it holds is for the scanner to say.
"""

from __future__ import annotations

from typing import NoReturn

from vouchgate.ports.remote_ranges import Copy, RemoteObject
from vouchgate.scanning import zip_records
from vouchgate.scanning.settings import DEFAULTS
from vouchgate.scanning.zip_records import Header

HEAD_BYTES = 65_536
"""Of every object: magic numbers, first lines, headers."""
TAIL_BYTES = 65_536 + 1_024
"""Of every object: a zip's end records behind the longest comment."""
SMALL_BYTES = 65_536
"""A member of so many bytes costs no more than a look at its begin."""
LOCAL_BYTES = 1_024
"""Looked at of a member's own header; longer ones are fetched to their end."""
SIGNATURE_BYTES = 8
"""Of an HDF5 superblock."""
LENGTHS_AT = 26
"""Where a local header has the lengths of its name and extra field (APPNOTE 4.3.7)."""
DESCRIPTOR_BYTES = 24
"""Bytes of a data descriptor with Zip64 sizes (APPNOTE 4.3.9)."""
MAX_DIRECTORY = 64 * 1024**2
"""Bytes of a directory: 100,000 members with long names have about 20 MiB."""
_SAFETENSORS_LENGTH = 8


class _NoZip(Exception):
    """Its records say two things, or it is none."""


def parts_of(of: RemoteObject) -> tuple[int, int]:
    """A fresh descriptor on a copy of what a structure scan needs, and how many bytes it lacks. Raises as `RemoteObject.whole`."""
    with Copy(of) as copy:
        copy.need((0, HEAD_BYTES), (of.size - TAIL_BYTES, of.size), *_hidden(of.size))
        if not _safetensors(copy) and not _zip(copy):
            copy.need((0, of.size))
        return copy.again(), of.size - copy.here


def _hidden(size: int) -> list[tuple[int, int]]:
    """Where an HDF5 file may begin inside of another (HDF5 format, "Superblock": at 512 bytes and each doubling)."""
    return [(1 << power, (1 << power) + SIGNATURE_BYTES) for power in range(HEAD_BYTES.bit_length() - 1, size.bit_length())]


def _safetensors(copy: Copy) -> bool:
    """Whether it is one by its first bytes (safetensors, "Format"); its header is then there."""
    head = copy.read(0, _SAFETENSORS_LENGTH + 1)
    end = _SAFETENSORS_LENGTH + int.from_bytes(head[:_SAFETENSORS_LENGTH], "little")
    if head[_SAFETENSORS_LENGTH:] != b"{" or not 0 < end - _SAFETENSORS_LENGTH <= min(copy.of.size, DEFAULTS.max_header_bytes):
        return False
    copy.need((0, end))
    return True


def _zip(copy: Copy) -> bool:
    """Whether it is one whose records agree; what rule 1 names is then there."""
    if copy.of.size < HEAD_BYTES:
        return True  # the head is all of it
    with copy.mapped() as view:
        try:
            headers = _headers(copy, view)
        except _NoZip:
            return False
        ends = [header.offset for header in headers[1:]] + [copy.of.size]
        raw = _raw(headers)
        spans = list(zip(headers, ends, strict=True))
        copy.need(*((header.offset, min(end, header.offset + LOCAL_BYTES)) for header, end in spans))
        copy.need(*(part for header, end in spans for part in _around(view, header, end, header.name in raw)))
    return True


def _around(view: memoryview, header: Header, end: int, raw: bool) -> list[tuple[int, int]]:
    """Of a member that is numbers what stands before and behind them, of any other all."""
    if not raw:
        return [(header.offset, end)]
    lengths = bytes(view[header.offset + LENGTHS_AT : header.offset + LENGTHS_AT + 4])
    named, extra = int.from_bytes(lengths[:2], "little"), int.from_bytes(lengths[2:], "little")
    return [(header.offset, header.offset + LENGTHS_AT + 4 + named + extra), (end - DESCRIPTOR_BYTES, end)]


def _headers(copy: Copy, view: memoryview) -> list[Header]:
    """In the order of their members. Raises `_NoZip`."""
    listed = zip_records.directory(view, _no_zip)
    if not 0 <= listed.begin <= listed.end <= copy.of.size or listed.end - listed.begin > MAX_DIRECTORY:
        raise _NoZip
    copy.need((listed.begin, copy.of.size))
    headers, here = [], listed.begin
    for _ in range(min(listed.count, DEFAULTS.max_members)):
        headers.append(zip_records.central(view, here, listed.end, _no_zip))
        here = headers[-1].next
    return sorted(headers, key=lambda header: header.offset)


def _raw(headers: list[Header]) -> frozenset[bytes]:
    """Names of members that are plain numbers (rule 2), and large."""
    names = {header.name for header in headers}
    tops = tuple(name.removesuffix(b"data.pkl") + b"data/" for name in names if name.endswith(b"/data.pkl"))
    return frozenset(
        header.name
        for header in headers
        if header.method == 0 and header.size > SMALL_BYTES and header.size == header.packed and _is_storage(header.name, tops)
    )


def _is_storage(name: bytes, tops: tuple[bytes, ...]) -> bool:
    return any(name.startswith(top) and name[len(top) :].isdigit() for top in tops)


def _no_zip(rule: str, where: str, why: str) -> NoReturn:
    raise _NoZip(rule, where, why)
