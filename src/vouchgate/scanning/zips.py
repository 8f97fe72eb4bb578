"""A zip archive that every reader reads alike, or none at all.

Rules (PKWARE APPNOTE 6.3.10; records in zip_records.py, names in member_names.py)
1. The central directory and the local headers agree on name, flags, method, checksum and sizes of every entry; a value that was not known yet
   when the local header was written (flag bit 3) stands in the descriptor behind the data.
2. Members tile the file from its first byte to the directory, without gap or overlap: nothing in front, between or behind.
3. No encryption, no patch, no method but those listed, no flag beyond those listed. Names are UTF-8; one that is not ASCII may lack the mark of it
   (bit 11), as Info-ZIP writes it: readers that then take it for code page 437 see other letters, but the same path separators and dots.
4. Names are plain relative paths, each only once; an entry is a file or a folder: no link, no device.
5. `content` pays before it unpacks, ends exactly with the packed bytes and the stated size, and holds the CRC-32 (when `scope.deep`).
"""

from __future__ import annotations

import bz2
import lzma
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from vouchgate.scanning import zip_records
from vouchgate.scanning.checksums import crc32
from vouchgate.scanning.member_names import Names, fault_of
from vouchgate.scanning.scope import UNPACK_REMEDY, Scope, shown
from vouchgate.scanning.verdict import Refuse
from vouchgate.scanning.zip_listing import MAX_MEMBERS
from vouchgate.scanning.zip_records import DESCRIPTOR, FULL32, Directory, Header
from vouchgate.vocabulary.wire import Noun

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
"""Compression methods (4.4.5); what Python's zipfile reads."""
_DESCRIBED, _UTF8 = 1 << 3, 1 << 11
_FLAGS = 0b110 | _DESCRIBED | _UTF8
"""4.4.4: deflate's level, the two above; every other bit is encryption, a patch, or reserved."""
MAX_VERSION = 63
"""Newest version of the format that readers in use accept (4.4.3)."""
MAX_RATIO = 1_100
"""Bytes that one packed byte may become. Deflate ends at 1,032; what is beyond it, and over `RATIO_FLOOR`, is a bomb."""
RATIO_FLOOR = 64 * 1024**2
"""Bytes below which the ratio does not matter: arrays of zeros pack well."""
REMEDY = "write the archive again with an ordinary tool (Python's `zipfile`, `zip`, or the framework's own exporter)"


class Entry(Noun, frozen=True, kw_only=True):
    """One member."""

    name: str
    method: int
    flags: int
    crc: int
    packed: int
    """Bytes it takes in the archive."""
    size: int
    """Bytes it has unpacked."""
    header_at: int
    data_at: int
    is_folder: bool


@dataclass(frozen=True)
class Zip:
    """An archive whose structure holds."""

    view: memoryview
    rule: str
    entries: tuple[Entry, ...]
    """In the order of the directory, folders included."""
    by_name: dict[str, Entry]
    covered: int
    """Bytes that the structure explains: all of them. Whether a member's content is explained is for whoever reads it."""

    @property
    def files(self) -> tuple[Entry, ...]:
        """The entries that are no folders."""
        return tuple(entry for entry in self.entries if not entry.is_folder)

    def get(self, name: str) -> Entry | None:
        """The entry of exactly this name."""
        return self.by_name.get(name)

    def content(self, entry: Entry, scope: Scope) -> memoryview:
        """A member's bytes (rule 5): a slice if it is stored, else unpacked. Raises `Refuse`."""
        packed = self.view[entry.data_at : entry.data_at + entry.packed]
        if entry.method == STORED:
            data = packed
        else:
            self._pay(entry, scope)
            data = memoryview(_unpacked(packed, entry, self.rule))
        if (scope.deep or entry.method != STORED) and crc32(data) != entry.crc:
            _refuse(self.rule, "crc", _named(entry.name), "its bytes do not have the checksum that the archive states")
        return data

    def _pay(self, entry: Entry, scope: Scope) -> None:
        bound = scope.settings.max_unpacked_member
        if entry.size > bound:
            raise Refuse(
                f"{self.rule}:bomb", _named(entry.name), f"unpacked it has {entry.size} bytes, the bound is {bound}", UNPACK_REMEDY
            )
        if entry.size > RATIO_FLOOR and entry.size > MAX_RATIO * entry.packed:
            raise Refuse(f"{self.rule}:bomb", _named(entry.name), f"{entry.packed} bytes would become {entry.size}", UNPACK_REMEDY)
        scope.spend_bytes(entry.name, entry.size)


def open_zip(view: memoryview, scope: Scope, rule: str) -> Zip:
    """The archive's members, as every reader sees them. `rule` is what its reasons begin with. Raises `Refuse`."""

    def fault(name: str, where: str, why: str) -> NoReturn:
        _refuse(rule, name, where, why)

    listed = zip_records.directory(view, fault)
    if listed.count > min(scope.settings.max_members, MAX_MEMBERS):
        fault("too-many-members", "whole archive", f"its end record announces {listed.count} members")
    entries = tuple(_entries(view, listed, scope, fault))
    _check_tiling(view, entries, listed, fault)
    return Zip(view=view, rule=rule, entries=entries, by_name={entry.name: entry for entry in entries}, covered=len(view))


def _entries(view: memoryview, listed: Directory, scope: Scope, fault: zip_records.Fault) -> Iterator[Entry]:
    here, names = listed.begin, Names()
    for _ in range(listed.count):
        header = zip_records.central(view, here, listed.end, fault)
        here = header.next
        entry = _entry(view, header, listed, fault)
        why = fault_of(entry.name, scope.settings.max_name_bytes)
        if why:
            fault("name", _named(entry.name), why)
        why = names.add(entry.name, is_folder=entry.is_folder)
        if why:
            fault("duplicate-name", _named(entry.name), f"{why}, and readers differ in which one they take")
        yield entry
    if here != listed.end:
        fault("directory", f"offset {here}", "its directory holds more than the members that its end record announces")


def _entry(view: memoryview, header: Header, listed: Directory, fault: zip_records.Fault) -> Entry:
    """Rules 1, 3 and 4 for one entry."""
    where = f"offset {header.offset}"
    before = zip_records.local(view, header.offset, listed.begin, fault)
    name = _name(header, where, fault)
    _check_header(header, name, fault)
    if (before.name, before.flags, before.method) != (header.name, header.flags, header.method):
        fault("disagreement", _named(name), "the directory and the member's own header differ in its name, flags or method")
    later = (0,) if header.flags & _DESCRIBED else ()
    pairs = ((before.crc, header.crc), (before.packed, header.packed), (before.size, header.size))
    if any(own not in (stated, *later) for own, stated in pairs):
        fault("disagreement", _named(name), "the directory and the member's own header differ in its checksum or sizes")
    return Entry(
        name=name, method=header.method, flags=header.flags, crc=header.crc, packed=header.packed, size=header.size,
        header_at=header.offset, data_at=before.offset, is_folder=name.endswith("/"),
    )  # fmt: skip


def _name(header: Header, where: str, fault: zip_records.Fault) -> str:
    try:
        name = header.name.decode("utf-8")
    except UnicodeDecodeError:
        fault("name", where, "a member's name is not UTF-8, so readers differ in what it is")
    if not name.strip("/"):
        fault("name", where, "a member has no name")
    return name


def _check_header(header: Header, name: str, fault: zip_records.Fault) -> None:
    """Rules 3 and 4, from the directory."""
    if header.flags & ~_FLAGS:
        fault("flags", _named(name), f"its flags {header.flags:#06x} say that it is encrypted, a patch, or something no reader defines")
    if header.method not in (STORED, *_UNPACKERS):
        fault("method", _named(name), f"it is packed by method {header.method}, which cannot be read")
    if header.needs & 0xFF > MAX_VERSION:
        fault("version", _named(name), f"it needs version {header.needs} of the format, which no reader has")
    if header.method == STORED and header.packed != header.size:
        fault("size", _named(name), "it is not packed, and yet states two sizes")
    if name.endswith("/") and (header.size or header.crc):
        fault("size", _named(name), "it is a folder, and yet has bytes")
    kind = stat.S_IFMT(header.attributes >> 16)
    if kind not in ((0, stat.S_IFDIR) if name.endswith("/") else (0, stat.S_IFREG)):
        fault("special-file", _named(name), "it is a link, a device, or a folder named as a file")


def _check_tiling(view: memoryview, entries: tuple[Entry, ...], listed: Directory, fault: zip_records.Fault) -> None:
    """Rule 2."""
    ordered = sorted(entries, key=lambda entry: entry.header_at)
    begins = [entry.header_at for entry in ordered] + [listed.begin]
    if begins[0]:
        fault("prefix", "offset 0", f"{begins[0]} bytes stand in front of its first member")
    for entry, following in zip(ordered, begins[1:], strict=True):
        end = entry.data_at + entry.packed
        if end > following:
            fault("overlap", _named(entry.name), "it overlaps what stands behind it")
        if entry.is_folder and view[entry.data_at : end] not in _NOTHING:
            fault("size", _named(entry.name), "it is a folder, and yet has bytes")
        gap = view[end:following]
        if not _is_descriptor(gap, entry):
            fault("gap", _named(entry.name), f"{len(gap)} bytes behind it belong to no member")


_NOTHING = (b"", b"\3\0")
"""What a folder may hold: nothing, also as Java deflates it (RFC 1951, section 3.2.6: an empty block of fixed codes)."""


def _is_descriptor(gap: memoryview, entry: Entry) -> bool:
    """4.3.9: checksum and sizes, of 4 or (Zip64) 8 bytes, with or without a signature; nothing if flag bit 3 is not set."""
    if not entry.flags & _DESCRIBED:
        return not len(gap)
    if not len(gap):  # folders, and empty files of some writers, state everything in front
        return not entry.packed and not entry.size
    for width in (4, 8):
        if width == 8 or max(entry.packed, entry.size) < FULL32:
            plain = b"".join(value.to_bytes(size, "little") for value, size in ((entry.crc, 4), (entry.packed, width), (entry.size, width)))
            if gap in (plain, DESCRIPTOR + plain):
                return True
    return False


def _lzma(packed: memoryview) -> tuple[lzma.LZMADecompressor, memoryview]:
    """5.8.8: two bytes of version, two of the length of the properties, the properties, the raw stream; it must have an end mark."""
    length = int.from_bytes(packed[2:4], "little")
    properties = bytes(packed[4 : 4 + length])
    if length != 5:
        raise lzma.LZMAError
    dictionary = min(int.from_bytes(properties[1:], "little"), MAX_LZMA_DICTIONARY)
    first, lc = divmod(properties[0], 9)
    pb, lp = divmod(first, 5)
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": max(dictionary, 4096), "lc": lc, "lp": lp, "pb": pb}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), packed[4 + length :]


MAX_LZMA_DICTIONARY = 256 * 1024**2
"""Bytes that one unpacking may keep in memory for its window."""
_UNPACKERS: dict[int, Any] = {
    DEFLATED: lambda packed: (zlib.decompressobj(-zlib.MAX_WBITS), packed),
    BZIP2: lambda packed: (bz2.BZ2Decompressor(), packed),
    LZMA: _lzma,
}


def _unpacked(packed: memoryview, entry: Entry, rule: str) -> bytes:
    """Exactly `entry.size` bytes from exactly all packed ones."""
    try:
        unpacker, rest = _UNPACKERS[entry.method](packed)
        found: bytes = unpacker.decompress(rest, entry.size + 1)
    except (zlib.error, OSError, lzma.LZMAError, ValueError, EOFError, IndexError):
        _refuse(rule, "damaged", _named(entry.name), "its packed bytes are damaged")
    if not unpacker.eof or unpacker.unused_data or len(found) != entry.size:
        _refuse(rule, "size", _named(entry.name), "unpacked it does not have exactly the size that the archive states")
    return found


def _named(name: str) -> str:
    return f"member `{shown(name)}`"


def _refuse(rule: str, name: str, where: str, why: str) -> NoReturn:
    raise Refuse(f"{rule}:{name}", where, why, REMEDY)
