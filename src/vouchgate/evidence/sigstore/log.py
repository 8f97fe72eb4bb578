"""Whether an entry is in a log that the verifier pinned: its place in the tree, the tree's head, and the log's word on when it came.

1. The entry's hash and the proof give the tree's root (RFC 9162, section 2.1.3.2; leaves and nodes as RFC 6962, section 2.1).
2. The checkpoint has that root and size, and the log that the entry names signed it (C2SP signed-note, tlog-checkpoint).
3. Where there is a promise, it is the log's signature over entry, place and time (Rekor v1). A time without a promise says nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from vouchgate.evidence.sigstore.bundle import Entry, Proof
from vouchgate.evidence.sigstore.root import Log
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import encode

MAX_SIGNATURES = 64
"""Signatures of a checkpoint: the log's and its witnesses'."""
HASH_BYTES = 32
_HINT_BYTES = 4
_PROMISED = frozenset({"dsse 0.0.1", "hashedrekord 0.0.1", "intoto 0.0.2"})
"""Kinds whose log gives promises; later logs have timestamps from elsewhere."""
_REMEDY = "ask for the bundle again; if it stays so, treat it as forged"


@dataclass(frozen=True)
class Checkpoint:
    """A log's head that nobody has believed yet."""

    text: bytes
    """What is signed."""
    size: int
    root: bytes
    signatures: tuple[tuple[bytes, bytes], ...]
    """Key hint and signature."""


def check_entry(entry: Entry, logs: Mapping[bytes, Log]) -> tuple[Log, UnixMillis | None]:
    """Steps 1 to 3: the log that holds it, and since when by its own word. Raises `Unverified`, `InvalidInput`."""
    log = logs.get(entry.log_id)
    if log is None:
        raise Unverified(
            f"the signature is in the log `{entry.log_id.hex()[:16]}`, which the trusted root does not know",
            remedy="pin the trusted root of the Sigstore instance that the signer used, as new as the signature",
        )
    root = root_of(entry.body, entry.proof)  # 1
    head = read_checkpoint(entry.proof.checkpoint)
    if (head.size, head.root) != (entry.proof.size, root) or entry.proof.root != root:  # 2
        raise Unverified("the log's checkpoint is not of the tree that the proof leads to", remedy=_REMEDY)
    if not any(hint == log.id[:_HINT_BYTES] and log.holds(signature, head.text) for hint, signature in head.signatures):
        raise Unverified("the log's checkpoint is not signed by the log's key", remedy=_REMEDY)
    return log, _promised(entry, log)  # 3


def root_of(body: bytes, proof: Proof) -> bytes:
    """Step 1. Raises `Unverified`."""
    position, last, found = proof.index, proof.size - 1, hashlib.sha256(b"\x00" + body).digest()
    if not 0 <= position <= last:
        raise Unverified("the entry's place is outside the log", remedy=_REMEDY)
    for other in proof.hashes:
        if len(other) != HASH_BYTES or last == 0:
            raise Unverified("the inclusion proof is not of this place and size", remedy=_REMEDY)
        if position & 1 or position == last:
            found = hashlib.sha256(b"\x01" + other + found).digest()
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\x01" + found + other).digest()
        position, last = position >> 1, last >> 1
    if last:
        raise Unverified("the inclusion proof is not of this place and size", remedy=_REMEDY)
    return found


def read_checkpoint(note: str) -> Checkpoint:
    """C2SP tlog-checkpoint in a signed note. Raises `InvalidInput`."""
    text, blank, block = note.partition("\n\n")
    lines, signed = text.split("\n"), block.split("\n")
    if not blank or len(lines) < 3 or not lines[0] or signed[-1] or not 2 <= len(signed) <= MAX_SIGNATURES + 1:
        raise InvalidInput("the log's checkpoint is malformed", remedy=_REMEDY)
    if not (lines[1].isascii() and lines[1].isdigit() and len(lines[1]) <= 19 and (lines[1] == "0" or lines[1][0] != "0")):
        raise InvalidInput("the log's checkpoint has no size", remedy=_REMEDY)
    root = _unb64(lines[2])
    if len(root) != HASH_BYTES:
        raise InvalidInput("the log's checkpoint has no root", remedy=_REMEDY)
    return Checkpoint(f"{text}\n".encode(), int(lines[1]), root, tuple(_signature(line) for line in signed[:-1]))


def _signature(line: str) -> tuple[bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, text = rest.partition(" ")
    raw = _unb64(text)
    if dash != "\u2014" or not name or len(raw) <= _HINT_BYTES:
        raise InvalidInput("the log's checkpoint has a malformed signature", remedy=_REMEDY)
    return raw[:_HINT_BYTES], raw[_HINT_BYTES:]


def _promised(entry: Entry, log: Log) -> UnixMillis | None:
    """Step 3: what is signed is canonical JSON (RFC 8785) of these four members."""
    if not entry.promise:
        return None
    if not entry.integrated_at or entry.kind not in _PROMISED:
        raise Unverified("the log promises an entry of a kind, or without a time, for which it gives none", remedy=_REMEDY)
    said = encode(
        {
            "body": base64.b64encode(entry.body).decode(),
            "integratedTime": entry.integrated_at,
            "logID": entry.log_id.hex(),
            "logIndex": entry.index,
        }
    )
    if not log.holds(entry.promise, said):
        raise Unverified("the log's word on when it took the signature does not hold", remedy=_REMEDY)
    return UnixMillis(entry.integrated_at * 1000)


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("the log's checkpoint is malformed", remedy=_REMEDY) from None
