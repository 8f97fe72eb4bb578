"""TensorFlow's checkpoints (TensorBundle): a sorted table of tensors, and shards that hold their bytes one behind the other.

Rules (tensorflow/core/lib/io/table_format, tensorflow/core/util/tensor_bundle)
1. The table is LevelDB's: data blocks from offset 0, an empty meta index, the index, a footer; together they are the file. Blocks are not
   compressed, which is how TensorFlow writes them; each one's CRC-32C is computed. Keys rise.
2. The first key is empty, its value the header; every other value is an entry with fields of tensor_bundle.proto only.
3. An entry's bytes are as many as its type and shape take; strings add up with their lengths. Entries tile each shard: none overlap, and what lies
   between them is zero.
4. CRC-32C of tensors is computed over the first `MAX_SUMMED` bytes' worth; what was summed is told. The artifact's own digest covers the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import prod
from typing import NoReturn

from vouchgate.scanning.protobuf_wire import WireReader
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.sniff import Folder
from vouchgate.scanning.tf_schema import SCHEMA
from vouchgate.scanning.verdict import Refuse, at
from vouchgate.vocabulary.wire import Noun

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
"""The last bytes of a table (LevelDB's `kTableMagicNumber`)."""
REMEDY = "write the checkpoint or SavedModel again with TensorFlow from a model you trust"
FOOTER, TRAILER = 48, 5
MAX_SUMMED = 256 * 1024
"""Bytes of tensors whose CRC-32C is computed: this checksum has no fast implementation in the standard library, about 10 MB/s."""
MAX_SHARDS = 100_000
"""The name of a shard has five digits."""
STRING = 7
_TYPES = {
    1: ("<f4", 4), 2: ("<f8", 8), 3: ("<i4", 4), 4: ("|u1", 1), 5: ("<i2", 2), 6: ("|i1", 1), 8: ("<c8", 8), 9: ("<i8", 8), 10: ("|b1", 1),
    11: ("|i1", 1), 12: ("|u1", 1), 13: ("<i4", 4), 14: ("bfloat16", 2), 15: ("<i2", 2), 16: ("<u2", 2), 17: ("<u2", 2), 18: ("<c16", 16),
    19: ("<f2", 2), 22: ("<u4", 4), 23: ("<u8", 8), 24: ("float8_e5m2", 1), 25: ("float8_e4m3fn", 1),
}  # fmt: skip
"""`DataType` (types.proto) -> numpy's name, bytes. Resources and variants are no numbers."""


class Tensor(Noun, frozen=True, kw_only=True):
    """One entry of the index."""

    name: str
    dtype: int
    """Number of TensorFlow's `DataType`."""
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool = False
    """It only says that other entries are its slices."""
    key: bytes = b""
    """As the index has it; a slice's is made of its variable's name and its place."""
    slices: tuple[tuple[tuple[int, int], ...], ...] = ()
    """Of a variable in slices: start and length along each dimension; a length of -1 is all of it."""

    @property
    def numpy(self) -> str:
        """As numpy writes it, `bfloat16`, `float8_...`, or empty for strings."""
        return _TYPES[self.dtype][0] if self.dtype in _TYPES else ""


class Bundle(Noun, frozen=True, kw_only=True):
    """What an index says."""

    shards: int
    tensors: tuple[Tensor, ...]


def is_table(view: memoryview) -> bool:
    """Whether a table's footer ends the bytes."""
    return len(view) >= FOOTER and bytes(view[-8:]) == MAGIC


def shard_name(stem: str, number: int, shards: int) -> str:
    """As TensorFlow names them (`ShardedFilename`)."""
    return f"{stem}.data-{number:05d}-of-{shards:05d}"


def stems(names: frozenset[str]) -> frozenset[str]:
    """What stands before `.index` of every checkpoint that has a shard among `names`."""
    found = frozenset(stem_of(name) for name in names) - {""}
    return frozenset(stem for stem in found if f"{stem}.index" in names)


def stem_of(name: str) -> str:
    """What stands before `.data-00000-of-00001`; empty for a file that is no shard."""
    stem, mark, rest = name.rpartition(".data-")
    first, of, last = rest.partition("-of-")
    return stem if mark and of and len(first) == len(last) == 5 and (first + last).isdigit() and (first + last).isascii() else ""


def open_bundle(view: memoryview, settings: ScanSettings, rule: str) -> Bundle:
    """The index's structure (rules 1 to 3 without the shards). Raises `Refuse`."""
    table = _Table(view, rule)
    wire = WireReader(view, SCHEMA, settings, format_name=rule, remedy=REMEDY)
    entries = table.entries()
    key, begin, end = next(entries, (b"?", 0, 0))
    head = wire.message("BundleHeaderProto", begin, end) if not key else {}
    shards = head.get("num_shards", 0)
    if not 0 < shards <= MAX_SHARDS or head.get("endianness", 0):
        table.refuse("header", begin, "its first entry is no header of a little-endian checkpoint")
    tensors: list[Tensor] = []
    for key, begin, end in entries:
        if len(tensors) >= settings.max_tensors:
            table.refuse("too-many-tensors", begin, f"more than {settings.max_tensors} tensors")
        tensors.append(_tensor(key, wire.message("BundleEntryProto", begin, end), shards, table, begin))
    return Bundle(shards=shards, tensors=tuple(tensors))


def _tensor(key: bytes, entry: Mapping[str, object], shards: int, table: _Table, where: int) -> Tensor:
    shape = entry.get("shape") or {}
    dims = [dim.get("size", 0) for dim in shape.get("dim", ())]  # type: ignore[attr-defined]
    found = Tensor(
        name=key.decode("utf-8", "backslashreplace"),
        shape=tuple(dims),
        sliced="slices" in entry,
        key=key,
        slices=tuple(map(_extents, entry.get("slices", ()))),  # type: ignore[call-overload]
        **{name: entry.get(source, 0) for name, source in _FIELDS},  # type: ignore[arg-type]
    )
    size = prod(dims) * _TYPES.get(found.dtype, ("", 0))[1]
    if any(dim >= 2**63 for dim in dims) or len(dims) > 254 or found.shard >= shards or found.dtype not in {*_TYPES, STRING}:
        table.refuse("entry", where, f"`{shown(found.name)}` has a shape, shard or type that no array in a checkpoint has")
    if not found.sliced and found.dtype != STRING and found.size != size:
        table.refuse("size", where, f"`{shown(found.name)}` takes {size} bytes by its type and shape, the index says {found.size}")
    return found


def _extents(part: Mapping[str, object]) -> tuple[tuple[int, int], ...]:
    """`TensorSliceProto`: an extent without a length is all of its dimension."""
    found: list[Mapping[str, int]] = part.get("extent", [])  # type: ignore[assignment]
    return tuple((one.get("start", 0), one.get("length", -1)) for one in found)


_FIELDS = (("dtype", "dtype"), ("shard", "shard_id"), ("offset", "offset"), ("size", "size"), ("crc", "crc32c"))


def check_shards(bundle: Bundle, shards: Sequence[memoryview], names: Sequence[str], rule: str, *, deep: bool) -> dict[str, int]:
    """Rules 3 and 4 over the shards' bytes, by number. Gives facts; raises `Refuse`."""
    by_shard: dict[int, list[Tensor]] = {}
    for one in bundle.tensors:
        if not one.sliced and one.size:
            by_shard.setdefault(one.shard, []).append(one)
    left = MAX_SUMMED if deep else 0
    for number, view in enumerate(shards):
        here = 0
        for one in sorted(by_shard.get(number, ()), key=lambda one: (one.offset, one.size)):
            _between(view, here, one.offset, names[number], rule)
            here = one.offset + one.size
            if here > len(view):
                _refuse(rule, "out-of-range", names[number], f"`{shown(one.name)}` ends behind the shard")
            if one.dtype == STRING:
                _strings(view[one.offset : here], one, names[number], rule)
            elif one.size <= left:
                left -= one.size
                if masked(crc32c(view[one.offset : here])) != one.crc:
                    _refuse(rule, "checksum", names[number], f"the bytes of `{shown(one.name)}` have another checksum than the index says")
        _between(view, here, len(view), names[number], rule)
    return {"tensors": len(bundle.tensors), "summed": (MAX_SUMMED if deep else 0) - left, "shards": len(shards)}


def check_folder(folder: Folder, stem: str, scope: Scope, rule: str) -> dict[str, int]:
    """An index and its shards in a folder: those that it counts and no others. Gives facts; raises `Refuse`."""
    index = folder.sight(f"{stem}.index")
    found = open_bundle(index.view if index else memoryview(b""), scope.settings, rule)
    names = [shard_name(stem, number, found.shards) for number in range(found.shards)]
    missing = [name for name in names if name not in folder.names]
    if missing:
        why = "the index counts it, and it is not there"
        raise Refuse(f"{rule}:missing-shard", f"shard `{shown(missing[0])}`", why, REMEDY, weight="incomplete")
    stray = sorted(name for name in folder.names if name.startswith(f"{stem}.data-") and name not in names)
    if stray:
        _refuse(rule, "stray-shard", stray[0], "the index knows no such shard")
    views = [sight.view for name in names if (sight := folder.sight(name)) is not None]
    return check_shards(found, views, names, rule, deep=scope.deep)


def content(tensor: Tensor, shards: Sequence[memoryview]) -> memoryview:
    """A tensor's bytes, after `check_shards`."""
    return shards[tensor.shard][tensor.offset : tensor.offset + tensor.size]


def _between(view: memoryview, begin: int, end: int, name: str, rule: str) -> None:
    if end < begin:
        _refuse(rule, "overlap", name, f"two tensors share the bytes at offset {end}")
    if any(bytes(view[here : min(here + 65_536, end)]).strip(b"\0") for here in range(begin, min(end, len(view)), 65_536)):
        _refuse(rule, "gap", name, f"bytes at offset {begin} belong to no tensor")


def _strings(raw: memoryview, tensor: Tensor, name: str, rule: str) -> None:
    """Lengths as varints, four bytes of their checksum, the texts."""
    here = total = 0
    count = prod(tensor.shape)
    if count > len(raw):
        _refuse(rule, "strings", name, f"`{shown(tensor.name)}` has more texts than bytes")
    for _ in range(count):
        value = shift = 0
        while here < len(raw) and shift < 64:
            byte = raw[here]
            value |= (byte & 127) << shift
            here, shift = here + 1, shift + 7
            if byte < 128:
                break
        total += value
    if here + 4 + total != len(raw):
        _refuse(rule, "strings", name, f"the texts of `{shown(tensor.name)}` are not as long as they say")


class _Table:
    """LevelDB's table (rule 1)."""

    def __init__(self, view: memoryview, rule: str) -> None:
        self.view, self._rule = view, rule
        if not is_table(view):
            self.refuse("footer", 0, "it has no table's footer at its end")
        self._end = len(view) - FOOTER

    def entries(self) -> Iterator[tuple[bytes, int, int]]:
        """(key, begin and end of its value) in order."""
        here = self._end
        handles = []
        for _ in range(4):
            value, here = self._varint(here, len(self.view) - 8)
            handles.append(value)
        if bytes(self.view[here:-8]).strip(b"\0"):
            self.refuse("footer", here, "bytes stand in the footer's padding")
        meta, index = (handles[0], handles[1]), (handles[2], handles[3])
        if next(self._block(*meta), None) is not None:
            self.refuse("meta-index", meta[0], "it has a meta index, which no checkpoint has")
        place, before = 0, b""
        for _, begin, end in self._block(*index):
            offset, after = self._varint(begin, end)
            size, after = self._varint(after, end)
            if offset != place or after != end:
                self.refuse("index", begin, "a block does not lie behind the one before it")
            place = offset + size + TRAILER
            for key, first, last in self._block(offset, size):
                if key <= before and (key or before):
                    self.refuse("order", first, "its keys do not rise")
                before = key
                yield key, first, last
        if (meta[0], meta[0] + meta[1] + TRAILER, index[0] + index[1] + TRAILER) != (place, index[0], self._end):
            self.refuse("layout", place, "its blocks are not all of the file")

    def _block(self, offset: int, size: int) -> Iterator[tuple[bytes, int, int]]:
        end = offset + size
        if size < 4 or end + TRAILER > self._end:
            self.refuse("block", offset, "a block lies outside the table")
        if self.view[end]:
            self.refuse("compressed", end, "a block is compressed, which TensorFlow writes none as")
        if masked(crc32c(self.view[offset : end + 1])) != int.from_bytes(self.view[end + 1 : end + TRAILER], "little"):
            self.refuse("checksum", offset, "a block has another checksum than it says")
        restarts = int.from_bytes(self.view[end - 4 : end], "little")
        stop = end - 4 - 4 * restarts
        if stop < offset:
            self.refuse("block", offset, "a block's restart points lie outside it")
        here, key = offset, b""
        while here < stop:
            shared, here = self._varint(here, stop)
            own, here = self._varint(here, stop)
            length, here = self._varint(here, stop)
            if shared > len(key) or here + own + length > stop or shared + own > 4_096:
                self.refuse("block", here, "an entry lies outside its block, or its key is over 4096 bytes")
            key = key[:shared] + bytes(self.view[here : here + own])
            yield key, here + own, here + own + length
            here += own + length

    def _varint(self, here: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while here < end and shift < 64:
            byte = self.view[here]
            value |= (byte & 127) << shift
            here, shift = here + 1, shift + 7
            if byte < 128:
                return value, here
        return self.refuse("block", here, "the bytes end within a number")

    def refuse(self, rule: str, offset: int, why: str) -> NoReturn:
        raise Refuse(f"{self._rule}:{rule}", at(offset), why, REMEDY)


def _refuse(rule: str, name: str, where: str, why: str) -> NoReturn:
    raise Refuse(f"{rule}:{name}", f"shard `{shown(where)}`", why, REMEDY)


@cache
def _powers() -> tuple[int, ...]:
    """CRC-32C of every byte (Castagnoli's polynomial, reflected)."""
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


def crc32c(data: memoryview | bytes) -> int:
    """RFC 3720, appendix B.4."""
    table, value = _powers(), 0xFFFFFFFF
    for byte in bytes(data):
        value = table[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """As LevelDB stores it, so that a checksum over checksums stays one."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
