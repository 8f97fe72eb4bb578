"""Arrow: IPC files and streams (Feather 2). Every message is walked, every byte is a message, its body, padding or the footer.

Rules (Arrow columnar format, "IPC Streaming Format", "IPC File Format")
1. A message: the continuation mark, the length of its metadata, the metadata (a FlatBuffers table), its body. The first one is the schema.
2. Buffers lie within their body; a dictionary or batch says only what its body has.
3. A file: `ARROW1`, padding, the stream, the footer, its length, `ARROW1`. The footer's schema is held to the same rules, and its blocks are
   messages of the stream: a reader takes the footer's word, a stream reader the stream's.
4. Extension types as in arrow_schema.py.
"""

from __future__ import annotations

from typing import Any, NoReturn

from vouchgate.scanning.arrow_schema import BATCH, DICTIONARY, SCHEMA, message, schema_reasons
from vouchgate.scanning.flat_tables import Flat, Table
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "arrow"
REMEDY = "write the data again with Arrow (`pyarrow.feather.write_feather`)"
MAX_MESSAGES = 1_000_000
MAX_METADATA = 64 * 1024**2
"""Bytes of one message's metadata."""
_MAGIC, _CONTINUES = b"ARROW1", b"\xff\xff\xff\xff"
_TRAILER = 10
_FOOTER_BLOCK = "qiiq"
"""offset, length of metadata, padding, length of body (File.fbs, `Block`)."""


def recognise(sight: Sight) -> Claim:
    """The file's magic, or a stream's first message mark with a schema behind it."""
    head = sight.head
    if head[:6] == _MAGIC:
        return Claim(strength="certain", kind=NAME, because="an Arrow file", above=TEXTS)
    length = int.from_bytes(head[4:8], "little")
    if head[:4] == _CONTINUES and 16 <= length <= MAX_METADATA and length % 8 == 0 and 16 + length <= len(sight):
        return Claim(strength="certain", kind=NAME, because="an Arrow stream", above=TEXTS)
    return NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """Every message."""
    del scope
    view = sight.view
    if sight.head[:6] != _MAGIC:
        walk = _Walk(view, 0, len(view))
        return Reading(covered=len(view), reasons=tuple(walk.reasons), facts=walk.facts())
    length = int.from_bytes(view[-_TRAILER:-6], "little")
    begin = len(view) - _TRAILER - length
    if bytes(view[-6:]) != _MAGIC or len(view) < 8 + _TRAILER or begin < 8 or bytes(view[6:8]) != b"\0\0":
        _refuse("file", len(view), "its end is not a footer's length and `ARROW1`")
    walk = _Walk(view, 8, begin)
    footer = Flat(view[begin : begin + length], NAME, begin).root()
    schema = footer.table(1)
    if schema is None:
        _refuse("footer", begin, "its footer has no schema")
    _, reasons = schema_reasons(schema, NAME)
    for field in (2, 3):
        for offset, metadata, _, body in footer.rows(field, _FOOTER_BLOCK):
            if walk.blocks.get(offset) != (metadata, body):
                _refuse("footer", begin, "its footer names a block that is no message of the stream")
    return Reading(covered=len(view), reasons=(*walk.reasons, *reasons), facts=walk.facts())


class _Walk:
    """The messages between two places; they tile it."""

    def __init__(self, view: memoryview, begin: int, end: int) -> None:
        self._view, self._end = view, end
        self.reasons: list[Reason] = []
        self.blocks: dict[int, tuple[int, int]] = {}
        """Offset -> lengths of metadata (mark included) and body."""
        self._rows = self._fields = 0
        here = begin
        while here < end:
            following = self._message(here)
            if not following:
                here = self._ended(here)
                break
            here = following
        if here != end or not self.blocks:
            _refuse("trailing", here, "behind its last message stands something else")

    def facts(self) -> dict[str, Any]:
        return {"messages": len(self.blocks), "rows": self._rows, "fields": self._fields}

    def _ended(self, here: int) -> int:
        """The end mark: a length of zero."""
        return here + 8 if bytes(self._view[here : here + 8]) == _CONTINUES + bytes(4) else here

    def _message(self, here: int) -> int:
        """Place behind the message at `here`; 0 for the end mark."""
        if here + 8 > self._end or bytes(self._view[here : here + 4]) != _CONTINUES:
            _refuse("message", here, "a message's mark is missing")
        length = int.from_bytes(self._view[here + 4 : here + 8], "little")
        if not length:
            return 0
        begin = here + 8
        if length > MAX_METADATA or begin + length > self._end or len(self.blocks) >= MAX_MESSAGES:
            _refuse("message", here, "a message's metadata reaches behind the file, or messages are too many")
        found = message(self._view[begin : begin + length], NAME, begin)
        body = begin + length
        if found.header is None or body + found.body > self._end:
            _refuse("message", here, "a message has no content, or its body reaches behind the file")
        if (found.kind == SCHEMA) != (not self.blocks):
            _refuse("schema", here, "its schema is not the first message, or there are two")
        self.blocks[here] = (length + 8, found.body)
        if found.kind == SCHEMA:
            self._fields, reasons = schema_reasons(found.header, NAME)
            self.reasons += reasons
        elif found.kind == BATCH:
            self._rows += self._batch(found.header, found.body)
        elif found.kind == DICTIONARY:
            inner = found.header.table(1)
            self._batch(inner, found.body) if inner else _refuse("message", here, "a dictionary has no values")
        else:
            _refuse("message", here, "a message is neither schema, dictionary nor batch")
        return body + found.body

    def _batch(self, batch: Table, body: int) -> int:
        """Rule 2."""
        rows = batch.number(0, "q")
        for offset, length in batch.rows(2, "qq"):
            if offset < 0 or length < 0 or offset + length > body:
                batch.flat.refuse(batch.place, "a buffer reaches behind its message's body")
        for length, nulls in batch.rows(1, "qq"):
            if length < 0 or not 0 <= nulls <= length:
                batch.flat.refuse(batch.place, "a column's length or count of nulls is none")
        if rows < 0:
            batch.flat.refuse(batch.place, "its number of rows is negative")
        return int(rows)


def _refuse(rule: str, offset: int, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", at(offset), why, REMEDY)
