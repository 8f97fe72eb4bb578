"""Merkle tree hashing (RFC 6962, section 2.1): leaves and nodes in different domains, so that neither can pass for the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_BYTES = 32
"""SHA-256, the only hash of C2SP tlog-tiles."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of a tree without entries."""

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one entry: SHA-256(0x00 || entry)."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Root over the hashes of equally high, complete subtrees of which only the last may be incomplete.

    Pairing neighbours and carrying an odd last one up is the same tree as splitting at the largest power of two.
    """
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    while len(row) > 1:
        above = [_sha256(b"\x01" + row[at] + row[at + 1]).digest() for at in range(0, len(row) - 1, 2)]
        if len(row) % 2:
            above.append(row[-1])
        row = above
    return row[0]


def split(hashes: bytes) -> list[bytes]:
    """Concatenated hashes taken apart."""
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
