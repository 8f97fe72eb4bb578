"""How HDF5 finds things: symbol tables, B-trees of both versions, local, global and fractal heaps.

Rules (HDF5 File Format Specification 3.0, section III)
1. Every node has its signature, its version and its type; levels fall by one on the way down, so that no tree loops.
2. Names and objects lie within the heap that they are said to be in.
3. A fractal heap has no filters and no huge objects: neither is written for links and attributes of ordinary files.

The checksums of newer structures are not computed: what they protect is read by exact structure here.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator

from vouchgate.scanning.hdf5_bytes import UNDEFINED, Bounds, Bytes
from vouchgate.vocabulary.wire import Noun

MAX_LEVELS = 32
"""Of a B-tree: 2K entries a node make 2^48 at level 10."""
MAX_ROWS = 64
"""Of a fractal heap's doubling table: 2^64 bytes."""
SOFT = 2
"""Cache type of a symbolic link."""
_SYMBOL_BYTES = 40
_NODE_HEAD = 24
_RECORDS = {5: 11, 6: 15, 8: 17, 9: 13}
"""Bytes of a record of a version 2 B-tree, by its type (III.A.2)."""


class Chunk(Noun, frozen=True, kw_only=True):
    """A piece of a dataset, as it lies in the file."""

    offsets: tuple[int, ...]
    """Its first element's place in the dataset, by dimension."""
    address: int
    size: int
    """Bytes, filtered."""
    mask: int
    """Filters left out, by bit."""


def symbols(data: Bytes, bounds: Bounds, tree: int, heap: int) -> Iterator[tuple[str, int, int]]:
    """(name, object header's address, cache type) of a group's members (III.A.1, III.B, III.D)."""
    names = _local_heap(data, heap)
    for node in _leaves(data, tree, 0, bounds.internal_k, 8):
        head = bytes(data.peek(node, 8, "symbol table node"))
        count = int.from_bytes(head[6:8], "little")
        if head[:4] != b"SNOD" or head[4] != 1 or count > 2 * bounds.leaf_k:
            data.refuse("symbol-table", node, "a symbol table's node is malformed")
        raw = data.claim(node, 8 + 2 * bounds.leaf_k * _SYMBOL_BYTES, "symbol table node")
        for index in range(count):
            offset, address, cache = struct.unpack_from("<QQI", raw, 8 + index * _SYMBOL_BYTES)
            if cache == SOFT:  # the path that it leads to is a text in the same heap (III.C)
                _name(data, names, int.from_bytes(raw[8 + index * _SYMBOL_BYTES + 24 : 8 + index * _SYMBOL_BYTES + 28], "little"), node)
            yield _name(data, names, offset, node), address, cache


def _local_heap(data: Bytes, address: int) -> memoryview:
    raw = bytes(data.claim(address, 32, "local heap"))
    if raw[:4] != b"HEAP" or raw[4]:
        data.refuse("local-heap", address, "a local heap is malformed")
    size, _, segment = struct.unpack_from("<QQQ", raw, 8)
    return data.claim(segment, size, "local heap's data")


def _name(data: Bytes, names: memoryview, offset: int, where: int) -> str:
    end = offset
    while end < len(names) and names[end]:
        end += 1
    if end >= len(names):
        data.refuse("name", where, "a member's name lies outside its heap")
    return text(data, names[offset:end], where)


def text(data: Bytes, raw: memoryview | bytes, where: int) -> str:
    """A name, in UTF-8. Raises `Refuse`."""
    try:
        found = str(raw, "utf-8")
    except UnicodeDecodeError:
        data.refuse("name", where, "a name is not UTF-8")
    return found


def _leaves(data: Bytes, tree: int, kind: int, k: int, key: int) -> Iterator[int]:
    """Addresses that the lowest level of a version 1 B-tree points to."""
    for _, child in _entries(data, tree, kind, k, key):
        yield child


def _entries(data: Bytes, tree: int, kind: int, k: int, key: int) -> Iterator[tuple[memoryview, int]]:
    """(key, child) of the lowest level (III.A.1). Iterative."""
    if tree == UNDEFINED:
        return
    size = _NODE_HEAD + 2 * k * 8 + (2 * k + 1) * key
    waiting = [(tree, -1)]
    while waiting:
        node, expected = waiting.pop()
        raw = data.claim(node, size, "B-tree node")
        level, count = raw[5], int.from_bytes(raw[6:8], "little")
        if bytes(raw[:4]) != b"TREE" or raw[4] != kind or count > 2 * k or level > MAX_LEVELS or expected not in (-1, level):
            data.refuse("btree", node, "a B-tree's node is malformed")
        found = []
        for index in range(count):
            place = _NODE_HEAD + index * (key + 8)
            found.append((raw[place : place + key], int.from_bytes(raw[place + key : place + key + 8], "little")))
        if level == 0:
            yield from found
        else:
            waiting.extend((child, level - 1) for _, child in reversed(found))


def chunks(data: Bytes, bounds: Bounds, tree: int, rank: int) -> Iterator[Chunk]:
    """The pieces of a chunked dataset by a version 1 B-tree; `rank` counts the dataset's own dimensions. Their bytes are claimed."""
    for key, address in _entries(data, tree, 1, bounds.chunk_k, 8 + 8 * (rank + 1)):
        size, mask, *offsets = struct.unpack_from(f"<II{rank + 1}Q", key)
        data.claim(address, size, "chunk")
        yield Chunk(offsets=tuple(offsets[:rank]), address=address, size=size, mask=mask)


def global_object(data: Bytes, address: int, index: int, cache: dict[int, dict[int, memoryview]]) -> memoryview:
    """An object of a global heap (III.E); collections are walked once."""
    if address not in cache:
        cache[address] = _collection(data, address)
    found = cache[address].get(index)
    if found is None:
        data.refuse("global-heap", address, f"object {index} is not in its heap")
    return found


def _collection(data: Bytes, address: int) -> dict[int, memoryview]:
    head = bytes(data.peek(address, 16, "global heap"))
    size = int.from_bytes(head[8:16], "little")
    if head[:4] != b"GCOL" or head[4] != 1 or size < 16:
        data.refuse("global-heap", address, "a global heap is malformed")
    raw = data.claim(address, size, "global heap")
    found: dict[int, memoryview] = {}
    here = 16
    while here + 16 <= size:
        index, _, length = struct.unpack_from("<HH4xQ", raw, here)
        if index == 0:
            break  # the rest is free space
        if here + 16 + length > size or index in found:
            data.refuse("global-heap", address + here, "an object ends behind its heap, or has another's number")
        found[index] = raw[here + 16 : here + 16 + length]
        here += 16 + -(-length // 8) * 8
    return found


def dense(data: Bytes, heap: int, tree: int, kind: int) -> Iterator[memoryview]:
    """Links (kind 5) or attributes (kind 8) that lie in a fractal heap, by their names' version 2 B-tree (III.A.2, III.G)."""
    if UNDEFINED in (heap, tree):
        return
    held = _Fractal(data, heap)
    for record in records(data, tree, kind, _sizes(kind)):
        yield held.object(bytes(record[4:]) if kind == 5 else bytes(record))


def claim_order(data: Bytes, tree: int, kind: int) -> None:
    """The same links (kind 6) or attributes (kind 9) by the order of their making: walked, so that its bytes are explained."""
    if tree != UNDEFINED:
        for _ in records(data, tree, kind, _sizes(kind)):
            pass


def _sizes(kind: int) -> range:
    return range(_RECORDS[kind], _RECORDS[kind] + 1)


def records(data: Bytes, tree: int, kind: int, sizes: range) -> Iterator[memoryview]:
    """Records of a version 2 B-tree of one kind, each of one of `sizes` bytes (III.A.2)."""
    raw = bytes(data.claim(tree, 38, "B-tree"))
    node_size, record, depth = struct.unpack_from("<IHH", raw, 6)
    root, count = struct.unpack_from("<QH", raw, 16)
    if raw[:4] != b"BTHD" or raw[4] or raw[5] != kind or record not in sizes or not 64 <= node_size <= 2**20 or depth > MAX_LEVELS:
        data.refuse("btree", tree, "a B-tree's header is malformed")
    if root == UNDEFINED:
        return
    widths = _widths(node_size, record, depth)
    waiting = [(root, depth, count)]
    while waiting:
        node, level, held = waiting.pop()
        block = data.claim(node, node_size, "B-tree node")
        if bytes(block[:4]) != (b"BTIN" if level else b"BTLF") or block[4] or block[5] != kind or 6 + held * record > node_size:
            data.refuse("btree", node, "a B-tree's node is malformed")
        for index in range(held):
            yield block[6 + index * record : 6 + (index + 1) * record]
        if level:
            waiting += _children(data, node, block, 6 + held * record, held + 1, level, widths)


def _widths(node_size: int, record: int, depth: int) -> list[tuple[int, int]]:
    """Bytes of a child's record count, and of its subtree's, by the level of the node that points to it (III.A.2)."""
    most = (node_size - 10) // record
    total, width = most, _bytes_for(most)
    found = [(0, 0), (width, 0)]
    for _ in range(1, depth):
        own = (node_size - 10 - (8 + found[-1][0] + found[-1][1])) // (record + 8 + found[-1][0] + found[-1][1])
        total = own + (own + 1) * total
        found.append((width, _bytes_for(total)))
    return found


def _bytes_for(value: int) -> int:
    return max(1, -(-value.bit_length() // 8))


def _children(
    data: Bytes, node: int, block: memoryview, here: int, count: int, level: int, widths: list[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    held, total = widths[level]
    step = 8 + held + total
    if here + count * step > len(block):
        data.refuse("btree", node, "a B-tree's node is malformed")
    places = [here + index * step for index in range(count)]
    return [
        (int.from_bytes(block[place : place + 8], "little"), level - 1, int.from_bytes(block[place + 8 : place + 8 + held], "little"))
        for place in places
    ]


class _Fractal:
    """A fractal heap's blocks by their place in the heap's own addresses."""

    def __init__(self, data: Bytes, address: int) -> None:
        self._data, self._address = data, address
        raw = bytes(data.claim(address, 146, "fractal heap"))
        filters, self._flags, managed = struct.unpack_from("<HBI", raw, 7)
        _, huge_tree = struct.unpack_from("<QQ", raw, 14)
        self._width, self._start, self._largest, bits, _, root, rows = struct.unpack_from("<HQQHHQH", raw, 110)
        if raw[:4] != b"FRHP" or raw[4] or filters or huge_tree != UNDEFINED or not 8 <= bits <= 64 or rows > MAX_ROWS or not self._width:
            data.refuse("fractal-heap", address, "a fractal heap is malformed, filtered, or holds huge objects")
        if not 0 < self._start <= self._largest or self._largest & (self._largest - 1) or self._start & (self._start - 1):
            data.refuse("fractal-heap", address, "a fractal heap's blocks have no size that a writer has")
        self._offset_bytes = -(-bits // 8)
        self._length_bytes = _bytes_for(min(managed, self._largest))
        self._blocks: list[tuple[int, memoryview]] = []
        if root != UNDEFINED:
            self._walk(root, rows)
        self._blocks.sort(key=lambda item: item[0])
        self._begins = [begin for begin, _ in self._blocks]

    def _walk(self, root: int, rows: int) -> None:
        """Direct blocks, in one direct root or through indirect blocks (III.G). The doubling table: row 0 and 1 have the starting size."""
        waiting = [(root, rows, 0, self._start)]
        while waiting:
            address, rows, begin, size = waiting.pop()
            if not rows:
                self._blocks.append((begin, self._direct(address, size)))
                continue
            head = 5 + 8 + self._offset_bytes
            raw = self._data.claim(address, head + rows * self._width * 8 + 4, "fractal heap's table")
            if bytes(raw[:4]) != b"FHIB" or raw[4]:
                self._data.refuse("fractal-heap", address, "a fractal heap's table is malformed")
            for index in range(rows * self._width):
                child = int.from_bytes(raw[head + index * 8 : head + index * 8 + 8], "little")
                row = index // self._width
                block = self._start << max(0, row - 1)
                if child != UNDEFINED:
                    waiting.append((child, self._rows_of(block), begin, block))
                begin += block

    def _rows_of(self, size: int) -> int:
        """0 for a direct block; else the rows of the indirect block that covers `size` bytes."""
        if size <= self._largest:
            return 0
        return int(size // (self._start * self._width)).bit_length()

    def _direct(self, address: int, size: int) -> memoryview:
        raw = self._data.claim(address, size, "fractal heap's block")
        if bytes(raw[:4]) != b"FHDB" or raw[4]:
            self._data.refuse("fractal-heap", address, "a fractal heap's block is malformed")
        return raw

    def object(self, name: bytes) -> memoryview:
        """A managed object by its heap id (III.G); a tiny one is its own id."""
        kind = name[0] >> 4 & 3
        if name[0] >> 6 or kind != 0:
            self._data.refuse("fractal-heap", self._address, "an object is not managed by its heap")
        cut = 1 + self._offset_bytes
        begin, length = int.from_bytes(name[1:cut], "little"), int.from_bytes(name[cut : cut + self._length_bytes], "little")
        place = bisect_right(self._begins, begin) - 1
        if place >= 0:
            first, block = self._blocks[place]
            if begin + length <= first + len(block):
                return block[begin - first : begin - first + length]
        return self._data.refuse("fractal-heap", self._address, "an object lies outside its heap")
