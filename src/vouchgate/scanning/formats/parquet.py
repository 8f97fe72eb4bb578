"""Parquet by its footer and its pages: every byte is a page, an index, a filter or the footer.

Rules (Apache Parquet format, parquet.thrift)
1. `PAR1`, column chunks, indexes, footer (Thrift compact), its length, `PAR1`. An encrypted file (`PARE`) cannot be read, and is refused.
2. A chunk is exactly its pages: each header and as many bytes as it says; unpacked sizes have a bound; checksums, where written, are right. Right
   behind it may stand a copy of its metadata, equal to the footer's.
3. Chunks, indexes and filters neither overlap nor reach into the footer; between them only zeros.
4. No column lies in another file (`file_path`): the file would choose what is read.
5. Metadata: `ARROW:schema` and `pandas` as in arrow_schema.py.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, NoReturn

from vouchgate.scanning.arrow_schema import SCHEMA, message, pairs_reasons, schema_reasons
from vouchgate.scanning.checksums import crc32
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.thrift_compact import Compact, Struct
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "parquet"
REMEDY = "write the data again with Arrow or pandas (`to_parquet`)"
MAX_FOOTER = 256 * 1024**2
MAX_PAGES = 5_000_000
MAX_PATH = 64
_MAGIC = b"PAR1"
_PAGE_KINDS = frozenset((0, 1, 2, 3))


def recognise(sight: Sight) -> Claim:
    """The magic at the beginning."""
    return Claim(strength="certain", kind=NAME, because="Parquet's magic number", above=TEXTS) if sight.head[:4] == _MAGIC else NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """Footer first, then each chunk."""
    view = sight.view
    length = int.from_bytes(view[-8:-4], "little")
    begin = len(view) - 8 - length
    if len(view) < 12 or bytes(view[-4:]) != _MAGIC or begin < 4 or length > MAX_FOOTER:
        _refuse("footer", len(view), "its end is not a footer's length and `PAR1`")
    reader = Compact(view, NAME, begin, begin + length)
    footer = reader.struct()
    if reader.here != begin + length:
        _refuse("footer", reader.here, "behind its metadata stands something else")
    columns = [(row, column) for row in _list(footer, 4) for column in _list(row, 1)]
    file = _File(view, scope, begin)
    for _, column in columns:
        file.column(column)
    file.tiled()
    return Reading(
        covered=len(view),
        reasons=tuple(_metadata(footer)),
        facts={
            "rows": footer.get(3, 0),
            "row_groups": len(_list(footer, 4)),
            "columns": max(len(_list(footer, 2)) - 1, 0),
            "pages": file.pages,
        },
    )


class _File:
    """The bytes in front of the footer."""

    def __init__(self, view: memoryview, scope: Scope, end: int) -> None:
        self._view, self._scope, self._end = view, scope, end
        self._spans: list[tuple[int, int]] = []
        self.pages = 0

    def column(self, column: Struct) -> None:
        """Rules 2 and 4."""
        where = _struct(column, 3)
        if 1 in column:
            _refuse("external", 0, "a column lies in another file, which it chooses")
        if 8 in column or 9 in column:
            _refuse("encrypted", 0, "a column is encrypted, so what it holds is not known")
        starts = [where[field] for field in (9, 11) if _count(where.get(field)) > 0]
        begin, length = min(starts, default=-1), _count(where.get(7))
        if begin < 4 or length < 0 or begin + length > self._end:
            _refuse("chunk", max(begin, 0), "a column's place or length lies outside the file")
        self._spans.append((begin, begin + length))
        self._pages(begin, begin + length)
        self._copy(column, begin + length)
        for offset, size in ((4, 5), (6, 7)):
            if offset in column:
                self._add(_count(column[offset]), _count(column.get(size)))
        if 14 in where:
            self._filter(_count(where[14]), where.get(15))

    def _copy(self, column: Struct, here: int) -> None:
        """The chunk's metadata once more, right behind it, where older writers put it (parquet.thrift, ColumnChunk.file_offset)."""
        if _count(column.get(2)) != here or here >= self._end:
            return
        reader = Compact(self._view, NAME, here, self._end)
        try:
            copied = reader.struct()
        except Refuse:
            return  # it is no copy, so these bytes are held to rule 3
        if copied in (column, column[3]):
            self._spans.append((here, reader.here))

    def _pages(self, here: int, end: int) -> None:
        while here < end:
            reader = Compact(self._view, NAME, here, end)
            header = reader.struct()
            unpacked, packed = _count(header.get(2)), _count(header.get(3))
            self.pages += 1
            if header.get(1) not in _PAGE_KINDS or unpacked < 0 or packed < 0 or reader.here + packed > end or self.pages > MAX_PAGES:
                _refuse("page", here, "a page's kind or length is none")
            if unpacked > self._scope.settings.max_unpacked_member:
                _refuse("bomb", here, f"a page unpacks to {unpacked} bytes, the bound is {self._scope.settings.max_unpacked_member}")
            if (
                4 in header
                and self._scope.deep
                and crc32(self._view[reader.here : reader.here + packed]) != (header[4] & 0xFFFFFFFF if isinstance(header[4], int) else -1)
            ):
                _refuse("crc", here, "a page's checksum is wrong")
            here = reader.here + packed

    def _filter(self, begin: int, length: Any) -> None:
        """A Bloom filter: a header that says its bytes, or a length in the footer."""
        if not 4 <= begin < self._end:
            _refuse("filter", 0, "a filter lies outside the file")
        reader = Compact(self._view, NAME, begin, self._end)
        size = _count(reader.struct().get(1))
        if size < 0 or (length is not None and reader.here + size != begin + _count(length)):
            _refuse("filter", begin, "a filter's length is none")
        self._add(begin, reader.here + size - begin)

    def _add(self, begin: int, length: int) -> None:
        if begin < 4 or length < 0 or begin + length > self._end:
            _refuse("index", max(begin, 0), "an index lies outside the file")
        self._spans.append((begin, begin + length))

    def tiled(self) -> None:
        """Rule 3."""
        here = len(_MAGIC)
        for begin, end in sorted(self._spans):
            if begin < here and end > begin:
                _refuse("overlap", begin, "two parts of it overlap")
            self._zeros(here, begin)
            here = max(here, end)
        self._zeros(here, self._end)

    def _zeros(self, begin: int, end: int) -> None:
        for here in range(begin, end, 65_536):
            if bytes(self._view[here : min(end, here + 65_536)]).strip(b"\0"):
                _refuse("gap", here, "bytes between its columns belong to none")


def _metadata(footer: Struct) -> list[Reason]:
    """Rule 5."""
    reasons: list[Reason] = []
    pairs = [(_text(pair.get(1)), pair.get(2, b"")) for pair in _list(footer, 5)]
    if len(dict(pairs)) != len(pairs):
        _refuse("metadata", 0, "a key of its metadata stands there twice, and readers differ in which they take")
    for key, value in pairs:
        if not isinstance(value, bytes):
            _refuse("metadata", 0, f"the value of `{key[:60]}` is no text")
        if key != "ARROW:schema":
            continue
        try:
            raw = base64.b64decode(value, validate=True)
        except binascii.Error:
            _refuse("arrow-schema", 0, "its Arrow schema is not base64")
        skip = 8 if raw[:4] == b"\xff\xff\xff\xff" else 4
        found = message(memoryview(raw)[skip:], NAME, 0)
        if found.kind != SCHEMA or found.header is None:
            _refuse("arrow-schema", 0, "its Arrow schema is another message")
        reasons += schema_reasons(found.header, NAME)[1]
    return reasons + pairs_reasons(pairs, "footer", NAME)


def _list(struct: Struct, field: int) -> list[Struct]:
    """A list of structs; absent is empty."""
    value = struct.get(field, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        _refuse("footer", 0, f"the field {field} of its metadata is no list of structs")
    return value


def _struct(struct: Struct, field: int) -> Struct:
    value = struct.get(field)
    if not isinstance(value, dict):
        _refuse("footer", 0, f"the field {field} of its metadata is no struct")
    return value


def _count(value: Any) -> int:
    return value if type(value) is int else -1


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else ""


def _refuse(rule: str, offset: int, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", at(offset), why, REMEDY)
