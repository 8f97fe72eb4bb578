"""Where the tensors of a safetensors file lie, so that each is hashed by itself.

Only a way to part a file: a header that is not exactly as the format says (safetensors README, "Format") gives no ranges, and the file is hashed as
one part. Whether the file is sound is for the scanner to say; every byte is hashed either way.
"""

from __future__ import annotations

import struct

import msgspec

MAX_HEADER_BYTES = 100_000_000
"""Bytes of the header: the bound of the safetensors library."""
MAX_TENSORS = 1_000_000
"""Tensors that are parts of their own; a file with more is one part."""


class _Tensor(msgspec.Struct):
    data_offsets: tuple[int, int]


def header_bytes(first: bytes, size: int) -> int:
    """Bytes of length field and header, by the file's first 9 bytes; 0 where this is no safetensors file."""
    if len(first) < 9 or first[8:9] != b"{":
        return 0
    (length,) = struct.unpack("<Q", first[:8])
    return 8 + length if 2 <= length <= min(MAX_HEADER_BYTES, size - 8) else 0


def tensor_ranges(header: bytes, size: int) -> tuple[tuple[str, int, int], ...]:
    """(name, begin, end) of the header (no name) and of each tensor, without a gap; nothing where they do not tile the file."""
    try:
        raw = msgspec.json.decode(header[8:], type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        spans = sorted((*msgspec.json.decode(one, type=_Tensor).data_offsets, name) for name, one in raw.items())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()
    if len(spans) > MAX_TENSORS:
        return ()
    found, here = [("", 0, len(header))], len(header)
    for begin, end, name in spans:
        if begin + len(header) != here or end < begin or not name:
            return ()
        found.append((name, here, here := len(header) + end))
    return tuple(found) if here == size else ()
