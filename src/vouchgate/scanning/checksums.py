"""CRC-32 (ISO 3309, as zip, PNG and Parquet have it) at the speed of the machine: by ISA-L where it is installed, else by zlib.

Both give the same number for every input; what is slower is never another verdict. A look at a large archive is a checksum over all of it
beside its hash, and zlib's is slower than hashing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache

PIECE_BYTES = 1024**2
"""Bytes at a time: the thread that hashes asks for the interpreter in between."""


def crc32(data: memoryview) -> int:
    """Of all of it."""
    summed, value = _fastest(), 0
    for begin in range(0, len(data), PIECE_BYTES):
        value = summed(data[begin : begin + PIECE_BYTES], value)
    return value


@cache
def _fastest() -> Callable[[memoryview, int], int]:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    fast: Callable[[memoryview, int], int] = isal_zlib.crc32
    return fast
