"""A log in memory, its key and its witness, for the tests of this room."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.audit import tree
from vouchgate.audit.checkpoints import (
    Checkpoint,
    add_cosignature,
    cosignature_line,
    cosignature_message,
    log_verifier,
    signed_checkpoint,
    witness_verifier,
)
from vouchgate.audit.hashing import HASH_BYTES, leaf_hash
from vouchgate.audit.tiles import checked_tile

LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
LOG = log_verifier("test.local/log", LOG_KEY.public_key().public_bytes_raw())
WITNESS = witness_verifier("test.local/witness", WITNESS_KEY.public_key().public_bytes_raw())


class MemoryLog:
    """Entries and tiles (`verify.LogSource`)."""

    def __init__(self, entries: Sequence[bytes] = ()) -> None:
        self.rows = list(entries)
        self.state, writes = tree.append(tree.EMPTY, [leaf_hash(entry) for entry in self.rows])
        self.tiles = {(write.level, write.index): write.hashes for write in writes}

    def add(self, entries: Sequence[bytes]) -> None:
        self.state, writes = tree.append(self.state, [leaf_hash(entry) for entry in entries])
        self.tiles |= {(write.level, write.index): write.hashes for write in writes}
        self.rows += entries

    def size(self) -> int:
        return len(self.rows)

    def entries(self, start: int, count: int) -> list[bytes]:
        return self.rows[start : start + count]

    def tile(self, level: int, index: int, width: int) -> bytes:
        return checked_tile(self.tiles.get((level, index), b""), level, index, width)

    def flip_tile(self, level: int, index: int, position: int) -> None:
        hashes = bytearray(self.tiles[level, index])
        hashes[position * HASH_BYTES] ^= 1
        self.tiles[level, index] = bytes(hashes)

    def checkpoint(self, size: int | None = None, key: Ed25519PrivateKey = LOG_KEY) -> bytes:
        at = self.size() if size is None else size
        return sign(Checkpoint(LOG.name, at, tree.root_at(at, self.tile)), key)


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey = LOG_KEY) -> bytes:
    log = log_verifier(checkpoint.origin, key.public_key().public_bytes_raw())
    return signed_checkpoint(checkpoint, log, key.sign(checkpoint.body.encode()))


def cosign(note: bytes, timestamp: int = 1_790_000_000) -> bytes:
    body = note.decode().split("\n\n")[0] + "\n"
    return add_cosignature(note, cosignature_line(WITNESS, timestamp, WITNESS_KEY.sign(cosignature_message(body, timestamp))), WITNESS)


def numbered(count: int) -> list[bytes]:
    return [b'{"entry":%d}' % at for at in range(count)]
