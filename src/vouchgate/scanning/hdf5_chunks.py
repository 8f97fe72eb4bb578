"""The newer indexes by which HDF5 finds the pieces of a dataset (libver `v110` and later).

Rules (HDF5 File Format Specification 3.0, III.C, VII and VIII; layout message version 4)
1. A single chunk, chunks one behind the other (implicit), a fixed array and a version 2 B-tree are read; an extensible array is not.
2. An index has as many entries as the dataset's greatest extent has chunks; an entry that leads nowhere is a chunk that was never written.
3. Every block has its signature, version and client, and names the header that it belongs to; every chunk's bytes are claimed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod

from vouchgate.scanning.hdf5_bytes import UNDEFINED, Bytes
from vouchgate.scanning.hdf5_index import Chunk, records
from vouchgate.scanning.hdf5_messages import Layout

SINGLE, IMPLICIT, FIXED, EXTENSIBLE, TREE = 1, 2, 3, 4, 5
MAX_CHUNKS = 2_000_000
"""Chunks of one dataset; each costs a step."""
_ADDRESS, _MASK = 8, 4
Entry = tuple[int, int, int]
"""Address, bytes, filters left out."""


def indexed(data: Bytes, layout: Layout, most: tuple[int, ...], element: int, where: int) -> Iterator[Chunk]:
    """The pieces of a chunked dataset. `most` is its greatest extent, `element` the bytes of an element. Raises `Refuse`."""
    whole = prod(layout.chunk) * element
    if layout.address == UNDEFINED:
        return
    if layout.index == TREE:
        yield from _tree(data, layout, whole)
        return
    counts = [-(-extent // part) for extent, part in zip(most, layout.chunk, strict=True)]
    count = prod(counts)
    if count > MAX_CHUNKS:
        data.refuse("layout", where, f"a dataset has more than {MAX_CHUNKS} chunks")
    if layout.index == SINGLE:
        if count != 1:
            data.refuse("layout", where, "a dataset of several chunks says that it has one")
        entries: Iterator[Entry] = iter([(layout.address, layout.size or whole, layout.mask)])
    elif layout.index == IMPLICIT:
        entries = ((layout.address + place * whole, whole, 0) for place in range(count))
    elif layout.index == FIXED:
        entries = _fixed(data, layout.address, count, whole)
    else:
        data.refuse("layout", where, "its chunks have an extensible array, or an index that was not reviewed")
    for place, (address, size, mask) in enumerate(entries):
        if address == UNDEFINED:
            continue
        data.claim(address, size, "chunk")
        yield Chunk(offsets=_offsets(place, counts, layout.chunk), address=address, size=size, mask=mask)


def _offsets(place: int, counts: list[int], chunk: tuple[int, ...]) -> tuple[int, ...]:
    found = []
    for count, part in zip(reversed(counts), reversed(chunk), strict=True):
        place, here = divmod(place, count)
        found.append(here * part)
    return tuple(reversed(found))


def _fixed(data: Bytes, address: int, count: int, whole: int) -> Iterator[Entry]:
    """VII: a header, and a data block of all entries, in pages where there are many."""
    raw = bytes(data.claim(address, 28, "fixed array"))
    client, size, bits = raw[5], raw[6], raw[7]
    entries, block = struct.unpack_from("<QQ", raw, 8)
    if raw[:4] != b"FAHD" or raw[4] or entries != count or not 0 < bits < 32 or not _fits(client, size):
        data.refuse("fixed-array", address, "a fixed array is malformed, or has not one entry for each chunk")
    if block == UNDEFINED:
        return
    page = 1 << bits
    pages = -(-entries // page) if entries > page else 0
    written = -(-pages // 8)
    head = bytes(data.peek(block, 14 + written, "fixed array's block"))
    if head[:4] != b"FADB" or head[4] or head[5] != client or int.from_bytes(head[6:14], "little") != address:
        data.refuse("fixed-array", block, "a fixed array's block is malformed")
    if not pages:
        yield from _entries(data.claim(block, 14 + entries * size + 4, "fixed array's block")[14:-4], client, size, whole)
        return
    data.claim(block, 14 + written + 4, "fixed array's block")
    here = block + 14 + written + 4
    for number in range(pages):
        held = min(page, entries - number * page)
        raw_page = data.claim(here, held * size + 4, "fixed array's page")
        here += held * size + 4
        if head[14 + number // 8] & 128 >> number % 8:
            yield from _entries(raw_page[:-4], client, size, whole)
        else:
            yield from ((UNDEFINED, 0, 0) for _ in range(held))


def _fits(client: int, size: int) -> bool:
    """An entry is an address; where there are filters, a size of up to eight bytes and a mask too."""
    return size == _ADDRESS if client == 0 else client == 1 and _ADDRESS + _MASK < size <= _ADDRESS + _MASK + 8


def _entries(raw: memoryview, client: int, size: int, whole: int) -> Iterator[Entry]:
    for place in range(0, len(raw), size):
        address = int.from_bytes(raw[place : place + _ADDRESS], "little")
        if client == 0:
            yield address, whole, 0
        else:
            length = int.from_bytes(raw[place + _ADDRESS : place + size - _MASK], "little")
            yield address, length, int.from_bytes(raw[place + size - _MASK : place + size], "little")


def _tree(data: Bytes, layout: Layout, whole: int) -> Iterator[Chunk]:
    """VIII: records of types 10 (without filters) and 11; places are counted in chunks."""
    rank = len(layout.chunk)
    kind = data.number(layout.address + 5, 1, "B-tree")
    least = _ADDRESS + 8 * rank
    sizes = range(least, least + 1) if kind == 10 else range(least + _MASK + 1, least + _MASK + 9)
    if kind not in (10, 11):
        data.refuse("btree", layout.address, "a dataset's B-tree holds no chunks")
    for record in records(data, layout.address, kind, sizes):
        places = struct.unpack_from(f"<{rank}Q", record, len(record) - 8 * rank)
        address, size, mask = next(_entries(record[: len(record) - 8 * rank], kind - 10, len(record) - 8 * rank, whole))
        data.claim(address, size, "chunk")
        offsets = tuple(place * part for place, part in zip(places, layout.chunk, strict=True))
        yield Chunk(offsets=offsets, address=address, size=size, mask=mask)
