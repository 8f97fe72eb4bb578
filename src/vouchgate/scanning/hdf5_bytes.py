"""An HDF5 file's bytes, its superblock, and which of its bytes have been accounted for.

Rules (HDF5 File Format Specification 3.0, section II)
1. The superblock lies at offset 0: no user block in front. Offsets and lengths have 8 bytes, as every writer in use has them.
2. The end-of-file address is the end of the file: nothing behind it. No driver block, no free-space file, no base address.
3. Whoever reads a structure claims its bytes. Two claims never overlap but where one structure is reached twice, exactly.
4. Bytes that nobody claims are free space, which the library leaves behind when it moves things; they are counted, and what stands there
   is said (`free`).
"""

from __future__ import annotations

import struct
from typing import NoReturn

from vouchgate.scanning.verdict import Refuse, at
from vouchgate.vocabulary.wire import Noun

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1
"""The address of nothing."""
REMEDY = "save the model again with Keras or h5py from weights you trust, or convert it to safetensors"
MAX_CLAIMS = 4_000_000
"""Structures and chunks of one file; each costs a step."""
DEFAULT_LEAF_K, DEFAULT_INTERNAL_K, DEFAULT_CHUNK_K = 4, 16, 32
"""Nodes' sizes where the superblock does not say (II.A)."""


class Bounds(Noun, frozen=True, kw_only=True):
    """What the superblock says."""

    version: int
    root: int
    """Address of the root group's object header."""
    leaf_k: int = DEFAULT_LEAF_K
    internal_k: int = DEFAULT_INTERNAL_K
    chunk_k: int = DEFAULT_CHUNK_K


class Free(Noun, frozen=True, kw_only=True):
    """Bytes that belong to no structure."""

    total: int
    """All of them."""
    written: int
    """Those in stretches that are not all zero."""
    largest: int
    """The longest such stretch."""
    begins: int
    """Where it begins."""


class Bytes:
    """Bounded reads and claims. `rule` is what reasons begin with."""

    def __init__(self, view: memoryview, rule: str) -> None:
        self.view, self._rule = view, rule
        self._claims: dict[int, int] = {}

    def claim(self, begin: int, count: int, what: str) -> memoryview:
        """The bytes of a structure (rule 3). Raises `Refuse` beyond the file."""
        end = begin + count
        if end > len(self.view):
            self.refuse("out-of-range", begin, f"the {what} ends behind the file")
        before = self._claims.get(begin)
        if before is not None and before != end:
            self.refuse("overlap", begin, f"the {what} begins where another structure of another size begins")
        if before is None and count:
            if len(self._claims) >= MAX_CLAIMS:
                self.refuse("too-many-structures", begin, f"more than {MAX_CLAIMS} structures")
            self._claims[begin] = end
        return self.view[begin:end]

    def peek(self, begin: int, count: int, what: str) -> memoryview:
        """Bytes that a claim will cover."""
        if begin + count > len(self.view):
            self.refuse("out-of-range", begin, f"the {what} ends behind the file")
        return self.view[begin : begin + count]

    def number(self, begin: int, size: int, what: str) -> int:
        """An unsigned little-endian number."""
        return int.from_bytes(self.peek(begin, size, what), "little")

    def free(self) -> Free:
        """What nobody claimed (rule 4). Raises `Refuse` for overlapping claims."""
        here = total = written = largest = begins = 0
        for begin, end in [*sorted(self._claims.items()), (len(self.view), len(self.view))]:
            if begin < here:
                self.refuse("overlap", begin, "two structures share bytes, so that one reading writes the other's meaning")
            gap = begin - here
            if gap and any(self.view[here:begin].tobytes().strip(b"\0")):
                written += gap
                if gap > largest:
                    largest, begins = gap, here
            total += gap
            here = end
        return Free(total=total, written=written, largest=largest, begins=begins)

    def refuse(self, rule: str, offset: int, why: str) -> NoReturn:
        """End the reading."""
        raise Refuse(f"{self._rule}:{rule}", at(offset), why, REMEDY)


def superblock(data: Bytes) -> Bounds:
    """Rules 1 and 2."""
    if bytes(data.peek(0, 8, "superblock")) != SIGNATURE:
        data.refuse("signature", 0, "no superblock at its beginning")
    version = data.number(8, 1, "superblock")
    if version in (0, 1):
        return _old(data, version)
    if version in (2, 3):
        return _new(data, version)
    return data.refuse("version", 8, f"superblock version {version} is none that was reviewed")


def _old(data: Bytes, version: int) -> Bounds:
    """II.A.1: versions 0 and 1."""
    size = 96 if version == 0 else 100
    raw = bytes(data.claim(0, size, "superblock"))
    if raw[9] or raw[10] or raw[12] or raw[13] != 8 or raw[14] != 8:
        data.refuse("superblock", 9, "it has sizes or versions inside that no writer in use has")
    leaf, internal = struct.unpack_from("<HH", raw, 16)
    chunk = struct.unpack_from("<H", raw, 24)[0] if version else DEFAULT_CHUNK_K
    base, free, end, driver, _, root = struct.unpack_from("<QQQQQQ", raw, 24 if version == 0 else 28)
    if base or free != UNDEFINED or driver != UNDEFINED:
        data.refuse("superblock", 24, "it has a base address, a free-space file or a driver of its own")
    _check_end(data, end)
    return Bounds(version=version, root=root, leaf_k=_k(data, leaf), internal_k=_k(data, internal), chunk_k=_k(data, chunk))


def _new(data: Bytes, version: int) -> Bounds:
    """II.A.2: versions 2 and 3."""
    raw = bytes(data.claim(0, 48, "superblock"))
    base, extension, end, root = struct.unpack_from("<QQQQ", raw, 12)
    if raw[9] != 8 or raw[10] != 8 or base or extension != UNDEFINED:
        data.refuse("superblock", 9, "it has a base address, an extension, or sizes that no writer in use has")
    _check_end(data, end)
    return Bounds(version=version, root=root)


def _check_end(data: Bytes, end: int) -> None:
    if end != len(data.view):
        what = "bytes stand behind the end that it states" if end < len(data.view) else "it is cut short"
        data.refuse("end-of-file", 0, f"{what}: {end} bytes announced, {len(data.view)} there")


def _k(data: Bytes, value: int) -> int:
    if not 1 <= value <= 4_096:
        data.refuse("superblock", 16, "its B-trees have nodes of no size that a writer has")
    return value
