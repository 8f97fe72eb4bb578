"""The growing tree: what must be remembered between appends is its right edge, one tile that is not full per level.

Rules
1. `append` is pure: it returns the new state and the tiles that changed; the caller stores both or neither.
2. Everything can be recovered from the tiles alone (`state_at`), for the newest size and for any earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vouchgate.audit.hashing import EMPTY_ROOT, root_of, split
from vouchgate.audit.tiles import TILE_BYTES, TILE_WIDTH, TileReader


class TreeState(msgspec.Struct, frozen=True):
    """A tree's size and right edge."""

    size: int = 0
    edge: tuple[bytes, ...] = ()
    """Level -> hashes, concatenated, of the tile at that level that is not full; empty where the size ends on its border."""


class TileWrite(msgspec.Struct, frozen=True):
    """A tile as it stands after an append; it replaces a narrower one of the same level and index."""

    level: int
    index: int
    hashes: bytes


EMPTY = TreeState()


def append(state: TreeState, leaf_hashes: Sequence[bytes]) -> tuple[TreeState, list[TileWrite]]:
    """Add leaves on the right."""
    edge = list(state.edge)
    writes: list[TileWrite] = []
    level, above = 0, list(leaf_hashes)
    while above:
        if level == len(edge):
            edge.append(b"")
        index = state.size >> (8 * (level + 1))
        hashes = edge[level] + b"".join(above)
        above = []
        at = 0
        while at + TILE_BYTES <= len(hashes):
            tile = hashes[at : at + TILE_BYTES]
            writes.append(TileWrite(level, index, tile))
            above.append(root_of(split(tile)))
            at, index = at + TILE_BYTES, index + 1
        edge[level] = hashes[at:]
        if edge[level]:
            writes.append(TileWrite(level, index, edge[level]))
        level += 1
    return TreeState(state.size + len(leaf_hashes), tuple(edge)), writes


def root(state: TreeState) -> bytes:
    """Root hash of the tree (RFC 6962, section 2.1)."""
    below: list[bytes] = []
    for hashes in state.edge:
        row = split(hashes) + below
        below = [root_of(row)] if row else []
    return below[0] if below else EMPTY_ROOT


def state_at(size: int, read_tile: TileReader) -> TreeState:
    """Recover the state of the tree at `size` from its tiles."""
    edge: list[bytes] = []
    level, count = 0, size
    while count:
        width = count % TILE_WIDTH
        edge.append(read_tile(level, count // TILE_WIDTH, width) if width else b"")
        level, count = level + 1, count // TILE_WIDTH
    return TreeState(size, tuple(edge))


def root_at(size: int, read_tile: TileReader) -> bytes:
    """Root hash at `size`, recomputed from the tiles of the right edge."""
    return root(state_at(size, read_tile))
