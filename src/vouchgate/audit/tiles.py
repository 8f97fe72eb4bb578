"""Tiles and entry bundles (C2SP tlog-tiles): how hashes and entries are cut, named and written.

A tile holds up to 256 consecutive hashes of one level; level 0 holds leaf hashes, each hash of level l + 1 is the root of a full tile of
level l. A tile that is not full yet is a prefix of the full one, so one stored row serves every width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vouchgate.audit.hashing import HASH_BYTES
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, StoreDamaged

TILE_WIDTH = 256
"""Hashes of a full tile ("Merkle Tree")."""
TILE_BYTES = TILE_WIDTH * HASH_BYTES
MAX_LEVEL = 7
"""256**8 entries are more than any log of ours holds; the specification's ceiling is 63."""
MAX_ENTRY_BYTES = 0xFFFF
"""Bytes of one entry: its length is a uint16 in a bundle ("Log entries")."""

TileReader = Callable[[int, int, int], bytes]
"""`(level, index, width) -> width * 32 bytes`. Raises `StoreDamaged` where the tile is not there."""


def tile_width(level: int, index: int, size: int) -> int:
    """Hashes in this tile of a log of `size` entries; 0 where it does not exist."""
    return max(0, min(TILE_WIDTH, (size >> (8 * level)) - index * TILE_WIDTH))


def checked_tile(data: bytes, level: int, index: int, width: int) -> bytes:
    """The first `width` hashes of a stored tile. Raises `StoreDamaged` where it is shorter."""
    if len(data) < width * HASH_BYTES:
        raise StoreDamaged(
            f"tile {tile_path(level, index, width)} has {len(data)} bytes, {width * HASH_BYTES} are needed",
            remedy="run `vouchgate audit verify`, then restore the newest backup",
        )
    return data[: width * HASH_BYTES]


def _numbered(index: int) -> str:
    """`1234067` -> `x001/x234/067` ("Merkle Tree")."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Name of a tile below the log's prefix."""
    return f"tile/{level}/{_numbered(index)}" + (f".p/{width}" if width < TILE_WIDTH else "")


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Name of an entry bundle below the log's prefix."""
    return f"tile/entries/{_numbered(index)}" + (f".p/{width}" if width < TILE_WIDTH else "")


def check_entry(entry: bytes) -> None:
    """Raises `LimitExceeded` where an entry does not fit a bundle, `InvalidInput` where it is empty."""
    if len(entry) > MAX_ENTRY_BYTES:
        raise LimitExceeded(
            f"a log entry has {len(entry)} bytes, the bound is {MAX_ENTRY_BYTES}",
            remedy="put the large part in a record, its digest in the log",
        )
    if not entry:
        raise InvalidInput("a log entry is empty", remedy="append an event")


def write_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries as big-endian uint16 length-prefixed bytes."""
    parts: list[bytes] = []
    for entry in entries:
        parts.append(len(entry).to_bytes(2, "big"))
        parts.append(entry)
    return b"".join(parts)


def read_bundle(data: bytes) -> list[bytes]:
    """Entries of a bundle. Raises `StoreDamaged` where it ends early."""
    entries: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        stop = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > end or stop > end:
            raise StoreDamaged("an entry bundle ends in the middle of an entry", remedy="restore the newest backup")
        entries.append(data[at + 2 : stop])
        at = stop
    return entries
