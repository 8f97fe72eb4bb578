"""An HDF5 file as groups, datasets and attributes, read without the library: bounded, every structure claimed once.

Rules (HDF5 File Format Specification 3.0; bytes in hdf5_bytes.py, indexes in hdf5_index.py, messages in hdf5_messages.py)
1. From the root group every object is reached by hard links; each object header is walked once, whatever leads to it. Soft links stay in the
   file, so that they lead to what is read anyway.
2. Object headers of both versions; messages that were not reviewed, shared or external are refused.
3. Datasets are listed with where their bytes lie; `content` gives them unfiltered, paying first. Attributes are read where they are text.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn

from msgspec.structs import replace

from vouchgate.scanning import hdf5_messages as messages
from vouchgate.scanning.hdf5_bytes import REMEDY, UNDEFINED, Bytes, Free, superblock
from vouchgate.scanning.hdf5_chunks import indexed
from vouchgate.scanning.hdf5_index import SOFT, Chunk, chunks, claim_order, dense, global_object, symbols
from vouchgate.scanning.hdf5_messages import Attribute, Datatype, Layout
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.verdict import Refuse, at
from vouchgate.vocabulary.wire import Noun

MAX_OBJECTS = 500_000
"""Groups and datasets of one file; a large model has about 5,000."""
MAX_HEADER_BLOCKS = 10_000
"""Continuations of one object header."""
MAX_DEPTH = 128
"""Groups within each other."""
MAX_TEXT_ATTRIBUTE = 64 * 1024**2
"""Bytes of one text; a model's configuration has at most a few MB."""
_SKIPPED = frozenset((0x00, 0x04, 0x0A, 0x0D, 0x0E, 0x12, 0x16))
"""Padding, old fill values, group info, comment, times, reference count: they lead nowhere."""
_SHARED = 2


class Dataset(Noun, frozen=True, kw_only=True):
    """An array in the file."""

    path: str
    datatype: Datatype
    shape: tuple[int, ...]
    layout: Layout
    filters: tuple[int, ...]
    chunks: tuple[Chunk, ...] = ()
    fill: bytes = b""
    """An element where nothing was written; empty for zeros."""
    data_at: int = 0
    """Where compact data lies; contiguous data lies at `layout.address`."""

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return prod(self.shape) * self.datatype.size


@dataclass
class Hdf5:
    """What a file holds."""

    view: memoryview
    datasets: list[Dataset] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Object's path -> name -> text, list of texts, or None for what is neither."""
    soft_links: int = 0
    """Names for what other names lead to, within the file."""
    free: Free = Free(total=0, written=0, largest=0, begins=0)

    def content(self, dataset: Dataset, scope: Scope) -> memoryview:
        """A dataset's bytes in C order (rule 3): a slice of the file where it lies in one piece. Raises `Refuse`."""
        if dataset.layout.kind == messages.COMPACT:
            return self.view[dataset.data_at : dataset.data_at + dataset.size]
        if dataset.layout.kind == messages.CONTIGUOUS:
            if dataset.layout.address == UNDEFINED:
                scope.spend_bytes(dataset.path, dataset.size)
                return memoryview(_empty(dataset)).toreadonly()
            return self.view[dataset.layout.address : dataset.layout.address + dataset.size]
        return _assembled(self.view, dataset, scope)


def open_hdf5(view: memoryview, rule: str) -> Hdf5:
    """The file's structure. `rule` is what its reasons begin with. Raises `Refuse`."""
    return _Walk(view, rule).run()


class _Walk:
    """One pass over everything that the root group leads to."""

    def __init__(self, view: memoryview, rule: str) -> None:
        self._data = Bytes(view, rule)
        self._bounds = superblock(self._data)
        self._file = Hdf5(view)
        self._heaps: dict[int, dict[int, memoryview]] = {}
        self._seen: set[int] = set()

    def run(self) -> Hdf5:
        waiting = [("/", self._bounds.root, 0)]
        while waiting:
            path, address, depth = waiting.pop()
            if depth > MAX_DEPTH:
                self._data.refuse("depth", address, f"groups lie deeper than {MAX_DEPTH} within each other")
            if address in self._seen:
                continue
            self._seen.add(address)
            if len(self._seen) > MAX_OBJECTS:
                self._data.refuse("too-many-objects", address, f"more than {MAX_OBJECTS} groups and datasets")
            members = list(self._object(path, address))
            names = [name for name, _ in members]
            if len(set(names)) != len(names):
                self._data.refuse("duplicate-name", address, "two members of a group have the same name")
            for name, child in reversed(members):
                if not name or "/" in name or name in {".", ".."}:
                    self._data.refuse("name", address, "a member's name is empty or a path")
                if child == UNDEFINED:
                    self._file.soft_links += 1
                else:
                    waiting.append((path.rstrip("/") + "/" + name, child, depth + 1))
        self._file.free = self._data.free()
        return self._file

    def _object(self, path: str, address: int) -> Iterator[tuple[str, int]]:
        """Read an object header: a dataset is kept, a group's members are given."""
        found: dict[int, list[tuple[memoryview, int]]] = {}
        for kind, raw, where in self._messages(address):
            found.setdefault(kind, []).append((raw, where))
        for raw, where in found.get(0x0C, []):
            self._attribute(path, raw, where)
        for raw, where in found.get(0x15, []):
            self._dense_attributes(path, raw, where)
        if 0x08 in found:
            self._dataset(path, address, found)
            return
        self._file.groups.append(path)
        yield from self._members(found)

    def _members(self, found: dict[int, list[tuple[memoryview, int]]]) -> Iterator[tuple[str, int]]:
        for raw, where in found.get(0x11, []):
            tree, heap = struct.unpack_from("<QQ", self._least(raw, 16, where))
            for name, child, cache in symbols(self._data, self._bounds, tree, heap):
                if cache != SOFT and child == UNDEFINED:
                    self._data.refuse("link", where, "a link leads nowhere")
                yield name, UNDEFINED if cache == SOFT else child
        for raw, where in found.get(0x06, []):
            yield messages.link(self._data, raw, where)
        for raw, where in found.get(0x02, []):
            flags = self._least(raw, 18, where)[1]
            heap, tree = struct.unpack_from("<QQ", self._least(raw, 18 + (8 if flags & 1 else 0), where), 2 + (8 if flags & 1 else 0))
            for one in dense(self._data, heap, tree, 5):
                yield messages.link(self._data, one, where)
            if flags & 2:
                place = 18 + (8 if flags & 1 else 0)
                claim_order(self._data, int.from_bytes(self._least(raw, place + 8, where)[place : place + 8], "little"), 6)

    def _messages(self, address: int) -> Iterator[tuple[int, memoryview, int]]:
        new = bytes(self._data.peek(address, 4, "object header")) == b"OHDR"
        blocks = [self._head_new(address) if new else self._head_old(address)]
        done = 0
        while blocks:
            begin, end, step, tracked = blocks.pop(0)
            done += 1
            if done > MAX_HEADER_BLOCKS:
                self._data.refuse("header", address, "an object header has too many continuations")
            for kind, flags, place, size in self._block(begin, end, step, tracked):
                raw = self._data.view[place : place + size]
                if kind == 0x10:
                    blocks.append(self._continued(raw, place, step, tracked))
                    continue
                if kind in _SKIPPED or kind in (0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x0B, 0x0C, 0x11, 0x15):
                    if flags & _SHARED and kind not in _SKIPPED:
                        self._data.refuse("shared", place, "a message is kept elsewhere and shared, which no model file needs")
                    if kind not in _SKIPPED:
                        yield kind, raw, place
                    continue
                if kind == 0x07:
                    self._data.refuse("external-storage", place, "a dataset's bytes lie in other files that it names")
                self._data.refuse("message", place, f"an object header has a message of type {kind}, which was not reviewed")

    def _head_old(self, address: int) -> tuple[int, int, int, bool]:
        raw = self._data.peek(address, 16, "object header")
        size = int.from_bytes(raw[8:12], "little")
        if raw[0] != 1:
            self._data.refuse("header", address, "an object header has a version that was not reviewed")
        self._data.claim(address, 16 + size, "object header")
        return address + 16, address + 16 + size, 8, False

    def _head_new(self, address: int) -> tuple[int, int, int, bool]:
        raw = self._data.peek(address, 6, "object header")
        flags = raw[5]
        if raw[4] != 2:
            self._data.refuse("header", address, "an object header has a version that was not reviewed")
        width = 1 << (flags & 3)
        head = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        size = self._data.number(address + head, width, "object header")
        self._data.claim(address, head + width + size + 4, "object header")
        begin = address + head + width
        return begin, begin + size, 4, bool(flags & 4)

    def _continued(self, raw: memoryview, where: int, step: int, tracked: bool) -> tuple[int, int, int, bool]:
        begin, size = struct.unpack_from("<QQ", self._least(raw, 16, where))
        block = self._data.claim(begin, size, "object header's continuation")
        if step == 8:
            return begin, begin + size, step, tracked
        if size < 8 or bytes(block[:4]) != b"OCHK":
            self._data.refuse("header", begin, "an object header's continuation is malformed")
        return begin + 4, begin + size - 4, step, tracked

    def _block(self, begin: int, end: int, step: int, tracked: bool) -> Iterator[tuple[int, int, int, int]]:
        """(type, flags, place, size) of a block's messages."""
        head = 8 if step == 8 else (6 if tracked else 4)
        here = begin
        while here + head <= end:
            raw = self._data.view[here : here + head]
            kind, size, flags = (
                (int.from_bytes(raw[:2], "little"), int.from_bytes(raw[2:4], "little"), raw[4])
                if step == 8
                else (raw[0], int.from_bytes(raw[1:3], "little"), raw[3])
            )
            if here + head + size > end:
                self._data.refuse("header", here, "a message ends behind its object header")
            yield kind, flags, here + head, size
            here += head + size

    def _dataset(self, path: str, address: int, found: dict[int, list[tuple[memoryview, int]]]) -> None:
        if (
            any(len(found.get(kind, [])) != 1 for kind in (0x01, 0x03, 0x08))
            or len(found.get(0x0B, [])) > 1
            or 0x11 in found
            or 0x06 in found
        ):
            self._data.refuse("dataset", address, "a dataset has not exactly one type, shape and layout")
        kind = messages.datatype(self._data, *found[0x03][0])
        shape, _ = messages.dataspace(self._data, *found[0x01][0])
        raw, where = found[0x08][0]
        layout, compact = messages.layout(self._data, raw, where)
        applied = messages.filters(self._data, *found[0x0B][0]) if 0x0B in found else ()
        fill = messages.fill(self._data, *found[0x05][0]) if 0x05 in found else b""
        if fill and len(fill) != kind.size:
            self._data.refuse("fill", address, "a fill value is not as long as an element")
        dataset = Dataset(path=path, fill=fill, datatype=kind, shape=shape or (), layout=layout, filters=applied, data_at=where + compact)
        size = dataset.size if shape is not None else 0
        pieces: tuple[Chunk, ...] = ()
        if layout.kind == messages.CHUNKED:
            if len(layout.chunk) != len(dataset.shape) or not all(layout.chunk):
                self._data.refuse("layout", where, "a dataset's chunks have another rank than the dataset")
            pieces = tuple(self._pieces(dataset, found[0x01][0][0], where))
        elif layout.size != size and not (layout.address == UNDEFINED and not layout.size):
            self._data.refuse("size-mismatch", where, f"a dataset's type and shape make {size} bytes, its layout says {layout.size}")
        elif layout.kind == messages.CONTIGUOUS and layout.address != UNDEFINED:
            self._data.claim(layout.address, layout.size, "dataset")
        self._file.datasets.append(replace(dataset, chunks=pieces))

    def _pieces(self, dataset: Dataset, dataspace: memoryview, where: int) -> Iterator[Chunk]:
        layout = dataset.layout
        if not layout.index:
            return chunks(self._data, self._bounds, layout.address, len(dataset.shape))
        return indexed(self._data, layout, messages.extent(dataspace, dataset.shape), dataset.datatype.size, where)

    def _dense_attributes(self, path: str, raw: memoryview, where: int) -> None:
        flags = self._least(raw, 18, where)[1]
        place = 2 + (2 if flags & 1 else 0)
        heap, tree = struct.unpack_from("<QQ", self._least(raw, place + 16, where), place)
        for one in dense(self._data, heap, tree, 8):
            self._attribute(path, one, where)
        if flags & 2:
            claim_order(self._data, int.from_bytes(self._least(raw, place + 24, where)[place + 16 : place + 24], "little"), 9)

    def _attribute(self, path: str, raw: memoryview, where: int) -> None:
        found = messages.attribute(self._data, raw, where)
        held = self._file.attributes.setdefault(path, {})
        if found.name in held:
            self._data.refuse("duplicate-name", where, "two attributes of an object have the same name")
        held[found.name] = self._value(found, raw, where)

    def _value(self, found: Attribute, raw: memoryview, where: int) -> Any:
        """Texts as they are; whatever is no text is walked past."""
        count = prod(found.shape) if found.shape is not None else 0
        size = found.datatype.size
        if found.begin + count * size > len(raw):
            self._data.refuse("attribute", where, "an attribute's value is cut short")
        items = [raw[found.begin + index * size : found.begin + (index + 1) * size] for index in range(count)] if self._held(found) else []
        if found.datatype.kind == messages.VARIABLE:
            items = [self._variable(item, where) for item in items]
        if not found.datatype.text or found.datatype.kind not in (messages.STRING, messages.VARIABLE):
            return None
        texts = [self._text(item, where) for item in items]
        return texts[0] if found.shape == () and texts else texts

    def _held(self, found: Attribute) -> bool:
        return found.datatype.kind in (messages.STRING, messages.VARIABLE)

    def _variable(self, item: memoryview, where: int) -> memoryview:
        """A global heap id: length, collection, object (III.E)."""
        length, address, index = struct.unpack_from("<IQI", self._least(item, 16, where))
        if not index and not length:
            return item[:0]
        return global_object(self._data, address, index, self._heaps)[:length]

    def _text(self, item: memoryview, where: int) -> str:
        if len(item) > MAX_TEXT_ATTRIBUTE:
            self._data.refuse("attribute", where, f"a text is over the bound of {MAX_TEXT_ATTRIBUTE} bytes")
        return bytes(item).rstrip(b"\0").decode("utf-8", "surrogateescape")

    def _least(self, raw: memoryview, size: int, where: int) -> memoryview:
        if len(raw) < size:
            self._data.refuse("message", where, "a message is cut short")
        return raw


def _assembled(view: memoryview, dataset: Dataset, scope: Scope) -> memoryview:
    """Chunks put in place, filters undone in reverse (IV.A.2.l)."""
    scope.spend_bytes(dataset.path, dataset.size)
    size, whole = dataset.datatype.size, _empty(dataset)
    target = memoryview(whole)
    for chunk in dataset.chunks:
        _place(target, _unfiltered(view[chunk.address : chunk.address + chunk.size], chunk, dataset), chunk.offsets, dataset, size)
    return target.toreadonly()


def _empty(dataset: Dataset) -> bytearray:
    """The array before anything is written to it."""
    return bytearray(dataset.fill * prod(dataset.shape)) if dataset.fill.strip(b"\0") else bytearray(dataset.size)


def _unfiltered(raw: memoryview, chunk: Chunk, dataset: Dataset) -> bytes:
    size, data = dataset.datatype.size, bytes(raw)
    expected = prod(dataset.layout.chunk) * size
    for index, number in reversed(list(enumerate(dataset.filters))):
        if chunk.mask >> index & 1:
            continue
        if number == messages.DEFLATE:
            data = _inflated(data, expected + 5, chunk.address)
        elif number == messages.FLETCHER32:
            data = data[:-4]
        elif number == messages.SHUFFLE:
            count = len(data) // size
            planes = bytearray(len(data))
            for byte in range(size):
                planes[byte : count * size : size] = data[byte * count : (byte + 1) * count]
            data = bytes(planes)
    if len(data) != expected:
        _corrupt(chunk.address, "a chunk has not the size that its dataset states")
    return data


def _inflated(data: bytes, most: int, address: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return _corrupt(address, "a chunk's compressed bytes cannot be unpacked")


def _corrupt(address: int, why: str) -> NoReturn:
    raise Refuse("hdf5:chunk", at(address), why, REMEDY)


def _place(target: memoryview, data: bytes, offsets: tuple[int, ...], dataset: Dataset, size: int) -> None:
    """Copy a chunk's rows; what hangs over the edge is left out."""
    shape, chunk = dataset.shape, dataset.layout.chunk
    if any(offset >= bound for offset, bound in zip(offsets, shape, strict=True)):
        return
    counts = [min(part, bound - offset) for part, bound, offset in zip(chunk, shape, offsets, strict=True)]
    for row in range(prod(counts[:-1])):
        here, source, place, left = row, 0, 0, []
        for count in reversed(counts[:-1]):
            here, one = divmod(here, count)
            left.append(one)
        for axis, one in enumerate(reversed(left)):
            source = source * chunk[axis] + one
            place = place * shape[axis] + offsets[axis] + one
        source, place = source * chunk[-1], place * shape[-1] + offsets[-1]
        target[place * size : (place + counts[-1]) * size] = data[source * size : (source + counts[-1]) * size]
