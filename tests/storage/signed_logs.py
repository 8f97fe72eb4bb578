"""What storage tests share: a log key, checkpoints signed with it, and a check of a whole log."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.audit import tree
from vouchgate.audit.checkpoints import Checkpoint, log_verifier, origin_of, signed_checkpoint
from vouchgate.audit.hashing import leaf_hash
from vouchgate.storage.group import StoreReader

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOG = log_verifier(origin_of("test.local"), KEY.public_key().public_bytes_raw())


def signed(size: int, root: bytes) -> bytes:
    checkpoint = Checkpoint(LOG.name, size, root)
    return signed_checkpoint(checkpoint, LOG, KEY.sign(checkpoint.body.encode()))


def checkpointed(store: StoreReader) -> bytes:
    return signed(*store.root())


def whole_log(store: StoreReader) -> list[bytes]:
    """All entries, after checking that their tree is the one that the tiles give."""
    entries: list[bytes] = []
    while part := store.entries(len(entries), 1_000):
        entries += part
    state, _ = tree.append(tree.EMPTY, [leaf_hash(entry) for entry in entries])
    assert len(entries) == store.size()
    assert tree.root(state) == tree.root_at(store.size(), store.tile)
    return entries
