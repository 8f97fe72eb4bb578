"""Checkpoints (C2SP tlog-checkpoint) and cosignatures (C2SP tlog-cosignature, cosignature/v1): signed statements of a log's size and root.

Rules
1. Three lines, no extension lines: an extension is signed but audited by nobody, so a checkpoint that has one is refused.
2. The log signs `body`; a witness signs `cosignature_message`, which begins with its own header, so neither can pass for the other.
3. A checkpoint is trusted only as the return value of `open_checkpoint`.
"""

from __future__ import annotations

import msgspec

from vouchgate.audit.hashing import HASH_BYTES
from vouchgate.audit.notes import (
    COSIGNATURE_V1,
    ED25519,
    SIGNATURE_BYTES,
    Verifier,
    check_ed25519,
    decode64,
    encode64,
    parse_note,
    require_signature,
    signature_line,
    signatures_of,
    verifier,
)
from vouchgate.vocabulary.errors import InvalidInput, Unverified

MAX_SIZE = 2**63 - 1
"""Entries; sizes are signed 64-bit numbers in stores and other implementations."""
TIMESTAMP_BYTES = 8


class Checkpoint(msgspec.Struct, frozen=True):
    """What a log says of itself."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The note's text ("Note text")."""
        return f"{self.origin}\n{self.size}\n{encode64(self.root)}\n"


def log_verifier(origin: str, key: bytes) -> Verifier:
    """The log's key under its origin, as it signs checkpoints."""
    return verifier(origin, ED25519, key)


def witness_verifier(name: str, key: bytes) -> Verifier:
    """A witness's key under its name, as it cosigns."""
    return verifier(name, COSIGNATURE_V1, key)


def origin_of(trust_domain: str, generation: int = 0) -> str:
    """Name of a trust domain's log. The generation rises where a restore could not continue the log that a witness knows."""
    return f"{trust_domain}/log" if generation == 0 else f"{trust_domain}/log/{generation}"


def parse_body(text: str) -> Checkpoint:
    """Read the three lines. Raises `InvalidInput`."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise _bad("it has not exactly three lines")
    if not (lines[1].isascii() and lines[1].isdigit()) or len(lines[1]) > 19 or str(int(lines[1])) != lines[1] or int(lines[1]) > MAX_SIZE:
        raise _bad(f"`{lines[1][:40]}` is not a size")
    root = decode64(lines[2])
    if len(root) != HASH_BYTES:
        raise _bad("its root is not 32 bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def read_checkpoint(note: bytes) -> Checkpoint:
    """Read a checkpoint without trusting it. Raises `InvalidInput`."""
    return parse_body(parse_note(note).text)


def signed_checkpoint(checkpoint: Checkpoint, log: Verifier, signature: bytes) -> bytes:
    """The note for a body that the log's key signed. Raises `Unverified` where it did not."""
    note = f"{checkpoint.body}\n{signature_line(log, signature)}".encode()
    open_checkpoint(note, log)
    return note


def open_checkpoint(note: bytes, log: Verifier) -> Checkpoint:
    """Read a checkpoint that `log` signed. Raises `InvalidInput` or `Unverified`."""
    parsed = parse_note(note)
    checkpoint = parse_body(parsed.text)
    if checkpoint.origin != log.name:
        raise Unverified(
            f"the checkpoint is of the log `{checkpoint.origin[:80]}`, not of `{log.name}`", remedy="give this log's checkpoint"
        )
    require_signature(parsed, log)
    return checkpoint


def cosignature_message(body: str, timestamp: int) -> bytes:
    """What a witness signs ("Ed25519 signed message"); `timestamp` in seconds since 1970."""
    if not 0 <= timestamp <= MAX_SIZE:
        raise InvalidInput(f"`{timestamp}` is not a time", remedy="give seconds since 1970")
    return f"cosignature/v1\ntime {timestamp}\n{body}".encode()


def cosignature_line(witness: Verifier, timestamp: int, signature: bytes) -> str:
    """The signature line of a cosignature: timestamp and signature together ("Format")."""
    return signature_line(witness, timestamp.to_bytes(TIMESTAMP_BYTES, "big") + signature)


def add_cosignature(note: bytes, line: str, witness: Verifier) -> bytes:
    """The checkpoint with the witness's line added. Raises `Unverified` where the line is not this witness's over this checkpoint."""
    cosigned = note + line.encode()
    require_cosignature(cosigned, witness)
    return cosigned


def require_cosignature(note: bytes, witness: Verifier) -> int:
    """Newest timestamp, in seconds, at which `witness` cosigned. Raises `InvalidInput` or `Unverified`."""
    parsed = parse_note(note)
    found = signatures_of(parsed, witness)
    if not found:
        raise Unverified(f"the witness `{witness.name}` did not cosign", remedy="ask the witness again; see `vouchgate status`")
    times = []
    for blob in found:
        timestamp = int.from_bytes(blob[:TIMESTAMP_BYTES], "big")
        signature = blob[TIMESTAMP_BYTES:]
        holds = len(signature) == SIGNATURE_BYTES and timestamp <= MAX_SIZE
        if not holds or not check_ed25519(witness.key, signature, cosignature_message(parsed.text, timestamp)):
            raise Unverified(f"the cosignature of `{witness.name}` does not verify", remedy="the note was changed or forged: do not use it")
        times.append(timestamp)
    return max(times)


def _bad(why: str) -> InvalidInput:
    return InvalidInput(f"the checkpoint cannot be read: {why}", remedy="fetch it again; see c2sp.org/tlog-checkpoint")
