"""Inclusion and consistency proofs: made from tiles (RFC 6962, section 2.1.1 and 2.1.2), checked from hashes alone (RFC 9162, section 2.1).

Making and checking share no code on purpose: a mistake in one is found by the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from vouchgate.audit.hashing import EMPTY_ROOT, HASH_BYTES, node_hash, root_of, split
from vouchgate.audit.tiles import TILE_WIDTH, TileReader, tile_width
from vouchgate.vocabulary.errors import InvalidInput

MAX_PROOF_HASHES = 63
"""Hashes of one proof (C2SP tlog-witness, add-checkpoint); a tree of 2**63 entries needs no more."""


def inclusion_proof(index: int, size: int, read_tile: TileReader) -> list[bytes]:
    """PATH(index, D[0:size]), from the leaf's sibling up. Raises `InvalidInput` where the index is not in the log."""
    if not 0 <= index < size:
        raise InvalidInput(f"entry {index} is not in a log of {size} entries", remedy="give an index below the checkpoint's size")
    read = _cached(read_tile)
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _largest_power_below(end - start)
        if index < middle:
            path.append(_subtree(middle, end, size, read))
            end = middle
        else:
            path.append(_subtree(start, middle, size, read))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, read_tile: TileReader) -> list[bytes]:
    """PROOF(old, D[0:new]). Empty where `old` is 0 or equals `new`. Raises `InvalidInput` where `old` is larger."""
    if not 0 <= old <= new:
        raise InvalidInput(f"a log of {new} entries cannot grow out of one of {old}", remedy="give the smaller size first")
    if old in {0, new}:
        return []
    read = _cached(read_tile)
    path: list[bytes] = []
    start, end = 0, new
    whole = True
    while old != end:
        middle = start + _largest_power_below(end - start)
        if old <= middle:
            path.append(_subtree(middle, end, new, read))
            end = middle
        else:
            path.append(_subtree(start, middle, new, read))
            start, whole = middle, False
    if not whole:
        path.append(_subtree(start, end, new, read))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size or not _are_hashes((leaf, root, *path)):
        return False
    node, last, computed = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node % 2 or node == last:
            computed = node_hash(sibling, computed)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """RFC 9162, section 2.1.4.2; an empty old tree is a prefix of every tree."""
    if not 0 <= old <= new or not _are_hashes((old_root, new_root, *path)):
        return False
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    if old == new:
        return not path and old_root == new_root
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not hashes:
        return False
    node, last = old - 1, new - 1
    while node % 2:
        node, last = node >> 1, last >> 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if node % 2 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _are_hashes(values: Sequence[bytes]) -> bool:
    return len(values) <= MAX_PROOF_HASHES + 2 and all(len(value) == HASH_BYTES for value in values)


def _largest_power_below(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def _cached(read_tile: TileReader) -> TileReader:
    """One proof reads the tiles of a right edge many times."""
    seen: dict[tuple[int, int, int], bytes] = {}

    def read(level: int, index: int, width: int) -> bytes:
        key = (level, index, width)
        if key not in seen:
            seen[key] = read_tile(level, index, width)
        return seen[key]

    return read


def _subtree(start: int, end: int, size: int, read: TileReader) -> bytes:
    """MTH(D[start:end]) where `start` is a multiple of the largest power of two that is not above `end - start`."""
    parts: list[bytes] = []
    while start < end:
        height = (end - start).bit_length() - 1
        parts.append(_complete(start, height, size, read))
        start += 1 << height
    computed = parts.pop()
    while parts:
        computed = node_hash(parts.pop(), computed)
    return computed


def _complete(start: int, height: int, size: int, read: TileReader) -> bytes:
    """MTH of the complete subtree of 2**height leaves from `start`, out of one tile."""
    level, rest = divmod(height, 8)
    first = start >> (8 * level)
    index, position = divmod(first, TILE_WIDTH)
    hashes = read(level, index, tile_width(level, index, size))
    return root_of(split(hashes[position * HASH_BYTES : (position + (1 << rest)) * HASH_BYTES]))
