"""Tensors as disarm finds them: where their bytes lie, how they are laid out, and what safetensors calls their numbers.

Rules
1. A tensor is checked against its storage before a byte of it is read: the last element that shape and strides reach lies inside. Sizes are
   computed in integers that cannot overflow.
2. Bytes are never interpreted as numbers. What comes out is what was there, in row-major order, turned to little-endian where it was not.
3. Whatever is gathered is gathered in pieces of at most `PIECE_BYTES`, so memory does not follow the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Literal

MAX_RANK = 64
"""Dimensions of one tensor; numpy allows 64."""
PIECE_BYTES = 16 * 1024**2
"""Bytes gathered at a time."""
MAX_SLICES = 50_000_000
"""Strided copies of one tensor (about 5 million a second): a tensor that needs more is laid out to cost time, not to hold weights."""

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "C64": 8, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip
"""safetensors' dtype -> bytes of one element (safetensors README, "Format")."""
_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


class BadTensor(ValueError):
    """A tensor that contradicts itself or its storage; the message is for a person."""


@dataclass(frozen=True, eq=False)
class Storage:
    """Bytes that tensors share. Two tensors are tied where they are the same part of the same storage."""

    view: memoryview
    begin: int = -1
    """Where the bytes begin in the artifact; -1 for bytes that had to be unpacked."""
    big_endian: bool = False


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor. Raises `BadTensor` where rule 1 does not hold."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In elements."""
    storage: Storage
    offset: int = 0
    """Bytes into the storage."""
    swap_bytes: int = 0
    """Bytes of the numbers to be turned, where an element is two of them (a complex number); 0 for the element's own size."""
    was: str = ""
    """What its numbers were called, where safetensors has no such name."""
    extra: dict[str, object] = field(default_factory=dict)
    """What belongs to it beside the numbers: a quantiser's scale, `requires_grad`."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BYTES:
            raise BadTensor(f"its numbers are {self.dtype[:40]}, which safetensors does not have")
        if len(self.shape) > MAX_RANK or len(self.strides) != len(self.shape):
            raise BadTensor(f"it has {len(self.shape)} dimensions and {len(self.strides)} strides")
        if any(size < 0 for size in self.shape) or any(step < 0 for step in self.strides) or self.offset < 0:
            raise BadTensor("its shape, strides or offset is negative")
        if self.count and self.offset + self.reach > len(self.storage.view):
            raise BadTensor(f"it reaches byte {self.offset + self.reach} of a storage of {len(self.storage.view)} bytes")

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return DTYPE_BYTES[self.dtype]

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes when written out."""
        return self.count * self.itemsize

    @property
    def reach(self) -> int:
        """Bytes from the first element to the end of the last that is reached."""
        return (sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True)) + 1) * self.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the storage holds it in row-major order already."""
        return self.count == 0 or _packed(self.shape) == tuple(
            packed if size == 1 else step for size, step, packed in zip(self.shape, self.strides, _packed(self.shape), strict=True)
        )

    @property
    def tie(self) -> tuple[object, ...]:
        """Equal for tensors that are the same numbers in the same memory."""
        return (id(self.storage), self.offset, self.dtype, self.shape, self.strides)

    def span(self) -> tuple[int, int] | None:
        """Begin and length in the artifact where its bytes can be copied as they lie."""
        if self.storage.begin < 0 or self.storage.big_endian or not self.contiguous:
            return None
        return self.storage.begin + self.offset, self.size

    def pieces(self) -> Iterator[memoryview]:
        """Its bytes in row-major order, little-endian (rules 2 and 3)."""
        if not self.count:
            return
        if not self.contiguous:
            yield from self._gathered()
            return
        begin = self.offset
        for here in range(begin, begin + self.size, PIECE_BYTES):
            yield self._turned(self.storage.view[here : min(here + PIECE_BYTES, begin + self.size)])

    def _turned(self, piece: memoryview) -> memoryview:
        width = self.swap_bytes or self.itemsize
        if not self.storage.big_endian or width == 1:
            return piece
        turned = bytearray(len(piece))
        for place in range(width):
            turned[place::width] = piece[width - 1 - place :: width]
        return memoryview(turned)

    def _gathered(self) -> Iterator[memoryview]:
        """Leading dimensions are walked until what is left of the tensor fits a piece."""
        leading, inner = 0, self.size
        while inner > PIECE_BYTES and leading < len(self.shape):
            inner //= self.shape[leading]
            leading += 1
        outer = [range(size) for size in self.shape[:leading]]
        if _slices(self.shape[leading:]) * prod(self.shape[:leading]) > MAX_SLICES:
            raise BadTensor(f"it is laid out in more than {MAX_SLICES} separate pieces")
        source = self._elements()
        for index in product(*outer):
            first = sum(place * step for place, step in zip(index, self.strides, strict=False))
            target = bytearray(inner)
            _gather(source, first, self.shape[leading:], self.strides[leading:], memoryview(target).cast(_CODES[self.itemsize]))
            yield self._turned(memoryview(target))

    def _elements(self) -> memoryview:
        part = self.storage.view[self.offset :]
        elements: memoryview = part[: len(part) // self.itemsize * self.itemsize].cast(_CODES[self.itemsize])
        return elements


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a tensor without gaps."""
    return _packed(shape)


def _packed(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _slices(shape: tuple[int, ...]) -> int:
    return prod(shape) // max(shape, default=1)


def _gather(source: memoryview, first: int, shape: tuple[int, ...], strides: tuple[int, ...], target: memoryview) -> None:
    """Copy along the longest dimension at once, walk the others. A stride of 0 repeats one element."""
    packed = _packed(shape)
    long = max(range(len(shape)), key=shape.__getitem__, default=-1)
    if long < 0:
        target[0] = source[first]
        return
    size, step, gap = shape[long], strides[long], packed[long]
    others = [axis for axis in range(len(shape)) if axis != long]
    for index in product(*(range(shape[axis]) for axis in others)):
        begin = first + sum(place * strides[axis] for place, axis in zip(index, others, strict=True))
        end = sum(place * packed[axis] for place, axis in zip(index, others, strict=True))
        where = slice(end, end + (size - 1) * gap + 1, gap)
        if step:
            target[where] = source[begin : begin + (size - 1) * step + 1 : step]
        else:
            target[where] = memoryview(bytes(source[begin : begin + 1]) * size).cast(_CODES[source.itemsize])
