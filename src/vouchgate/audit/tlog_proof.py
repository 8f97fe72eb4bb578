"""Portable evidence (C2SP tlog-proof): one text file that proves an entry is in the log, checked offline by someone who has two keys.

The verifier needs the entry's own bytes, the log's verifier key and, to trust more than this machine, a witness's. Extra data is not
authenticated by the format, so we write none and refuse a proof that carries some.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vouchgate.audit.checkpoints import Checkpoint, open_checkpoint, require_cosignature
from vouchgate.audit.hashing import HASH_BYTES, leaf_hash
from vouchgate.audit.notes import MAX_NOTE_BYTES, Verifier, decode64, encode64
from vouchgate.audit.proofs import MAX_PROOF_HASHES, verify_inclusion
from vouchgate.vocabulary.errors import InvalidInput, Unverified

HEADER = "c2sp.org/tlog-proof@v1"


class TlogProof(msgspec.Struct, frozen=True):
    """A proof taken apart; nothing about it is trusted yet."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes


def write_proof(index: int, path: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The text of a proof ("Format")."""
    return "\n".join([HEADER, f"index {index}", *(encode64(value) for value in path), "", ""]).encode() + checkpoint


def read_proof(data: bytes) -> TlogProof:
    """Take a proof apart. Raises `InvalidInput`."""
    head, separator, checkpoint = data.partition(b"\n\n")
    if not separator or len(data) > 2 * MAX_NOTE_BYTES:
        raise _bad("there is no empty line before the checkpoint, or it is too large")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise _bad("it is not text") from None
    if lines[0] != HEADER or len(lines) < 2:
        raise _bad(f"it does not begin with {HEADER}")
    if lines[1].startswith("extra "):
        raise _bad("it carries extra data, which nobody signed")
    number = lines[1].removeprefix("index ")
    if number == lines[1] or not number.isdigit() or len(number) > 19 or str(int(number)) != number:
        raise _bad("it has no index")
    path = tuple(decode64(line) for line in lines[2:])
    if len(path) > MAX_PROOF_HASHES or any(len(value) != HASH_BYTES for value in path):
        raise _bad("its hashes are not SHA-256 hashes")
    return TlogProof(int(number), path, checkpoint)


def verify_proof(data: bytes, entry: bytes, log: Verifier, witnesses: Sequence[Verifier] = ()) -> Checkpoint:
    """The checkpoint that covers `entry`, signed by the log and cosigned by every witness given. Raises `InvalidInput` or `Unverified`."""
    proof = read_proof(data)
    checkpoint = open_checkpoint(proof.checkpoint, log)
    for witness in witnesses:
        require_cosignature(proof.checkpoint, witness)
    if not verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.path, checkpoint.root):
        raise Unverified(
            f"the entry is not number {proof.index} of the log", remedy="the entry or the proof was changed: do not rely on it"
        )
    return checkpoint


def _bad(why: str) -> InvalidInput:
    return InvalidInput(f"the proof cannot be read: {why}", remedy="make it again with `vouchgate audit prove`")
