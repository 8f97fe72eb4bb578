"""Disturbs the low bits of floating point weights, where payloads hide that no scan can find, and measures what that does.

Rules
1. Of each number of `F64`, `F32`, `F16` and `BF16` the lowest `bits` bits of the mantissa are replaced by bits that nobody can foretell (a
   keyed stream; the key is drawn for one run and kept nowhere). Never more than half of the mantissa, and infinities, NaNs and zeros stay.
2. The change is measured on the numbers themselves (a sample of each tensor) and, for matrices, on what they do to a random vector.
3. It disrupts; it detects nothing, and a payload in higher bits, in the order of numbers or in the choice of weights survives it.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from itertools import islice
from typing import Literal

from vouchgate.scanning.disarm.report import Disturbance
from vouchgate.scanning.disarm.tensors import Tensor

MANTISSA_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
_EXPONENT = {"F64": 0x7FF << 52, "F32": 0xFF << 23, "F16": 0x1F << 10, "BF16": 0xFF << 7}
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_CODES: dict[int, Literal["Q", "I", "H"]] = {8: "Q", 4: "I", 2: "H"}
KEY_BYTES = 32
SAMPLE = 4_096
"""Numbers measured of one tensor: its first ones."""
ROWS = 16
"""Rows of a matrix that a random vector is put through."""


def allowed(dtype: str, bits: int) -> int:
    """Rule 1: bits that are replaced in a number of this dtype; 0 for numbers that are left alone."""
    return min(bits, MANTISSA_BITS.get(dtype, 0) // 2)


class LowBits:
    """A `Change` for `safetensors_file.pieces`: the same bits for the same piece, however often it is asked."""

    def __init__(self, bits: int, key: bytes) -> None:
        self._bits, self._key = bits, key
        self._place: tuple[str, int] = ("", 0)

    def __call__(self, name: str, tensor: Tensor, piece: memoryview) -> memoryview:
        """Replace bits of one piece; pieces of a tensor come in order."""
        bits = allowed(tensor.dtype, self._bits)
        if not bits or not len(piece):
            return piece
        number = self._place[1] + 1 if self._place[0] == name else 0
        self._place = (name, number)
        if (number + 1) * len(piece) >= tensor.size:
            self._place = ("", 0)
        seed = hashlib.sha256(self._key + number.to_bytes(8, "big") + name.encode()).digest()
        return memoryview(replaced(piece.cast("B").tobytes(), tensor.dtype, bits, seed))


def replaced(raw: bytes, dtype: str, bits: int, seed: bytes) -> bytes:
    """`raw` with the low bits of each number taken from the stream of `seed`; special numbers as they were."""
    width = _BYTES[dtype]
    mask = int.from_bytes(((1 << bits) - 1).to_bytes(width, "little") * (len(raw) // width), "little")
    stream = int.from_bytes(hashlib.shake_256(seed).digest(len(raw)), "little")
    old = int.from_bytes(raw, "little")
    new = bytearray((old & ~mask | stream & mask).to_bytes(len(raw), "little"))
    _keep_special(raw, new, dtype)
    return bytes(new)


def _keep_special(raw: bytes, new: bytearray, dtype: str) -> None:
    """Zeros, infinities and NaNs are not numbers whose low bits are noise."""
    width, exponent = _BYTES[dtype], _EXPONENT[dtype]
    code = _CODES[width]
    before, after = memoryview(raw).cast(code), memoryview(new).cast(code)
    sign = ~(1 << (8 * width - 1))
    special = {value for value in set(before) if value & sign == 0 or value & exponent == exponent}
    if special:
        for place, value in enumerate(before):
            if value in special:
                after[place] = value


def measured(tensors: Mapping[str, Tensor], change: LowBits, bits: int, key: bytes) -> Disturbance:
    """Rule 2."""
    largest = output = 0.0
    sampled = touched = 0
    for name, tensor in tensors.items():
        if not allowed(tensor.dtype, bits):
            continue
        touched += 1
        piece = next(iter(tensor.pieces()), None)
        if piece is None:
            continue
        after = _numbers(change(name, tensor, piece), tensor.dtype, tensor)
        change._place = ("", 0)
        before = _numbers(piece, tensor.dtype, tensor)
        sampled += len(before)
        for old, new in zip(before, after, strict=True):
            if old and math.isfinite(old):
                largest = max(largest, abs(new - old) / abs(old))
        output = max(output, _through(before, after, tensor, key))
    return Disturbance(
        bits=bits, tensors=touched, untouched=len(tensors) - touched, largest_relative=largest, output_relative=output, sampled=sampled
    )


def _numbers(piece: memoryview, dtype: str, tensor: Tensor) -> list[float]:
    columns = tensor.shape[-1] if len(tensor.shape) > 1 else 1
    wanted = max(SAMPLE, min(ROWS * columns, 16 * SAMPLE))
    raw = piece.cast("B")[: wanted * _BYTES[dtype]].tobytes()
    if dtype == "BF16":
        widened = bytearray(2 * len(raw))
        widened[2::4], widened[3::4] = raw[::2], raw[1::2]
        raw, dtype = bytes(widened), "F32"
    code = {"F64": "d", "F32": "f", "F16": "e"}[dtype]
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))


def _through(before: list[float], after: list[float], tensor: Tensor, key: bytes) -> float:
    """Rows of a matrix times a vector of random signs, before and after: the length of the difference beside the length of the result."""
    columns = tensor.shape[-1] if len(tensor.shape) > 1 else 0
    rows = min(ROWS, len(before) // columns) if columns else 0
    if not rows:
        return 0.0
    bits = int.from_bytes(hashlib.shake_256(b"signs" + key).digest(columns // 8 + 1), "little")
    signs = [1.0 if bits >> place & 1 else -1.0 for place in range(columns)]
    was = changed = 0.0
    for row in range(rows):
        part = slice(row * columns, (row + 1) * columns)
        result = sum(weight * sign for weight, sign in zip(islice(before, part.start, part.stop), signs, strict=True))
        other = sum(weight * sign for weight, sign in zip(islice(after, part.start, part.stop), signs, strict=True))
        was += result * result
        changed += (other - result) ** 2
    return math.sqrt(changed / was) if was and math.isfinite(was) and math.isfinite(changed) else 0.0
