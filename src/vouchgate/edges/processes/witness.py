"""The witness: a process with its own key that cosigns a checkpoint only if the log has kept everything it cosigned before.

    python -m vouchgate.edges.processes.witness --dir DIR --control-uid N --log-key HEX|PEM-FILE --origin ORIGIN

Rules (C2SP tlog-witness, `add-checkpoint`, carried in our frames instead of HTTP)
1. One log, by its origin; a checkpoint of another origin is `NotFound` (404), one that the log's key did not sign `Unverified` (403).
2. `old_size` above the checkpoint's size is `InvalidInput` (400); one that is not the size last cosigned is `Conflict` (409) whose reason
   ends with that size.
3. Same size, other root: `Conflict` (409). A consistency proof that does not verify: `Unverified` (422).
4. What it will cosign is on disk, synced, before the cosignature leaves, and nothing runs between checking and writing.
5. Its time never runs backwards.
6. A key without its state, or a state that cannot be read, is an error and never a fresh start: forgetting is what an attacker wants.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vouchgate.audit.checkpoints import (
    Checkpoint,
    cosignature_line,
    cosignature_message,
    log_verifier,
    open_checkpoint,
    read_checkpoint,
    require_cosignature,
    witness_verifier,
)
from vouchgate.audit.notes import Verifier
from vouchgate.audit.proofs import MAX_PROOF_HASHES, verify_consistency
from vouchgate.edges.processes import logs
from vouchgate.edges.processes.rpc_server import Handler, Peer, serve
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, StoreDamaged, Unavailable, Unverified, VouchgateError

Now = Callable[[], int]
"""Seconds since 1970; the witness's time is its own, so that the control plane cannot set it."""
KEY_FILE = "witness.key"
STATE_FILE = "witness.state"
SOCKET_FILE = "witness.sock"
LOCK_FILE = "witness.lock"

log = logging.getLogger("vouchgate.witness")


class Witness:
    """Key, state and the one decision."""

    def __init__(self, folder: Path, log_key: Verifier, now: Now) -> None:
        self._folder = folder
        self._log = log_key
        self._now = now
        self._notes = _load_state(folder)
        self._key = _load_key(folder)
        name = f"{log_key.name.split('/')[0]}/witness"
        self.verifier = witness_verifier(name, self._key.public_key().public_bytes_raw())
        self._latest, self._cosigned_at = self._known()

    def _known(self) -> tuple[Checkpoint | None, int]:
        note = self._notes.get(self._log.name)
        if note is None:
            return None, 0
        try:
            return open_checkpoint(note.encode(), self._log), require_cosignature(note.encode(), self.verifier)
        except (InvalidInput, Unverified) as error:
            raise _lost(f"what {STATE_FILE} holds does not verify: {error.reason}") from None

    def add_checkpoint(self, old_size: int, note: bytes, proof: Sequence[bytes]) -> str:
        """The cosignature line. Raises what the rules say."""
        if read_checkpoint(note).origin != self._log.name:
            raise NotFound("this witness does not know the log of that checkpoint", remedy=f"it cosigns `{self._log.name}`")
        checkpoint = open_checkpoint(note, self._log)
        if old_size > checkpoint.size or old_size < 0:
            raise InvalidInput("the old size is above the checkpoint's", remedy="send the size that was cosigned last")
        self._require_growth(old_size, checkpoint, proof)
        return self._cosign(checkpoint, note)

    def _require_growth(self, old_size: int, checkpoint: Checkpoint, proof: Sequence[bytes]) -> None:
        known = self._latest.size if self._latest else 0
        if old_size != known:
            raise Conflict(f"the size cosigned last is {known}", remedy="send a consistency proof from that size")
        if self._latest is None or known == 0:
            if proof:
                raise Unverified("a proof from size 0 must be empty", remedy="send no proof the first time")
            return
        if checkpoint.size == known and checkpoint.root != self._latest.root:
            log.error("the log shows another root for its %d entries than before", known)
            raise Conflict(f"another root was cosigned for the size {known}", remedy="the log was rewritten: run `vouchgate audit verify`")
        if not verify_consistency(known, checkpoint.size, proof, self._latest.root, checkpoint.root):
            log.error("the log's %d entries do not continue the %d cosigned before", checkpoint.size, known)
            raise Unverified(
                f"the checkpoint does not continue the {known} entries cosigned before",
                remedy="the log was rewritten: run `vouchgate audit verify`",
            )

    def _cosign(self, checkpoint: Checkpoint, note: bytes) -> str:
        timestamp = max(self._now(), self._cosigned_at)
        line = cosignature_line(self.verifier, timestamp, self._key.sign(cosignature_message(checkpoint.body, timestamp)))
        signed_by_log = note.decode().split("\n\n")[0] + "\n\n" + "".join(_lines_of(note, self._log.name))
        notes = {**self._notes, self._log.name: signed_by_log + line}
        _write_synced(self._folder / STATE_FILE, json.dumps(notes, sort_keys=True).encode())
        self._notes, self._latest, self._cosigned_at = notes, checkpoint, timestamp
        return line

    def latest(self) -> bytes | None:
        """The checkpoint cosigned last, with the cosignature."""
        note = self._notes.get(self._log.name)
        return None if note is None else note.encode()


def handlers(witness: Witness) -> dict[str, Handler]:
    """What the socket answers."""

    async def add_checkpoint(_: Peer, params: dict[str, Any]) -> str:
        match params:
            case {"old_size": int(old), "checkpoint": bytes(note), "consistency_proof": list(proof)} if len(params) == 3:
                if len(proof) > MAX_PROOF_HASHES or not all(isinstance(value, bytes) for value in proof):
                    raise InvalidInput(f"a proof has at most {MAX_PROOF_HASHES} hashes", remedy="send the consistency proof as it was made")
                return witness.add_checkpoint(old, note, proof)
        raise InvalidInput("add_checkpoint takes old_size, checkpoint and consistency_proof", remedy="both ends must run the same version")

    async def latest(_: Peer, __: dict[str, Any]) -> bytes | None:
        return witness.latest()

    async def public_key(_: Peer, __: dict[str, Any]) -> dict[str, Any]:
        return {"name": witness.verifier.name, "key": witness.verifier.key, "verifier": witness.verifier.text}

    return {"add_checkpoint": add_checkpoint, "latest": latest, "public_key": public_key}


async def run(folder: Path, log_key: Verifier, control_uid: int, now: Now) -> None:
    """Serve until SIGTERM or SIGINT. The control plane may call, and root, who restores backups."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _lock(folder):
        witness = Witness(folder, log_key, now)
        server = await serve(folder / SOCKET_FILE, handlers(witness), allowed_uids={control_uid, 0})
        await stop.wait()
        server.close()
        (folder / SOCKET_FILE).unlink(missing_ok=True)


def read_log_key(text: str) -> bytes:
    """Raw public key from 64 hexadecimal digits or a PEM file. Raises `InvalidInput`."""
    try:
        if len(text) == 64 and not Path(text).exists():
            return bytes.fromhex(text)
        key = serialization.load_pem_public_key(Path(text).read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            f"the log key `{text[:100]}` cannot be read: {error}", remedy="give 64 hexadecimal digits or a PEM file"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput(f"the log key `{text[:100]}` is not an Ed25519 key", remedy="give the public key of purpose `log`")
    return key.public_bytes_raw()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 after a clean stop, 3 where it cannot run."""
    parser = argparse.ArgumentParser(prog="vouchgate-witness", description="cosign the log's checkpoints")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--control-uid", type=int, required=True)
    parser.add_argument("--log-key", required=True)
    parser.add_argument("--origin", required=True)
    args = parser.parse_args(argv)
    logs.set_up("witness")
    try:
        log_key = log_verifier(args.origin, read_log_key(args.log_key))
        asyncio.run(run(args.dir, log_key, args.control_uid, lambda: time.time_ns() // 1_000_000_000))
    except VouchgateError as error:
        log.error("%s; %s", error.reason, error.remedy)
        return error.exit_code
    return 0


def _lines_of(note: bytes, name: str) -> list[str]:
    """The log's own signature lines: a stranger's lines are not kept."""
    return [line + "\n" for line in note.decode().splitlines() if line.startswith(f"— {name} ")]


def _load_state(folder: Path) -> dict[str, str]:
    path = folder / STATE_FILE
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        if (folder / KEY_FILE).exists():
            raise _lost(f"there is a key but no {STATE_FILE}") from None
        _write_synced(path, b"{}")
        return {}
    except (OSError, ValueError) as error:
        raise _lost(f"{STATE_FILE} cannot be read: {error}") from None
    if not isinstance(value, dict) or not all(isinstance(note, str) for note in value.values()):
        raise _lost(f"{STATE_FILE} is not what a witness writes")
    return value


def _load_key(folder: Path) -> Ed25519PrivateKey:
    path = folder / KEY_FILE
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        _write_synced(
            path,
            made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        return made
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError):
        raise _lost(f"{KEY_FILE} cannot be read") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _lost(f"{KEY_FILE} is not an Ed25519 key")
    return key


def _write_synced(path: Path, data: bytes) -> None:
    """Replace a file so that after a crash it holds the old bytes or the new. Raises `Unavailable`."""
    new = path.with_suffix(path.suffix + ".new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Unavailable(
            f"the witness cannot write {path.name}: {error.strerror}", remedy="make room on its disk, check its owner"
        ) from None


def _lost(why: str) -> StoreDamaged:
    return StoreDamaged(
        f"the witness does not know what it cosigned: {why}",
        remedy="put the witness's folder back from a backup; to begin with a new witness, move the whole folder away and tell whoever checks proofs",
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One witness a folder: two would cosign two histories."""
    try:
        file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            f"the witness's folder cannot be used: {error.strerror}", remedy="make the folder and give it to its uid"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict("another witness runs in this folder", remedy="stop it first") from None
    finally:
        os.close(file)


if __name__ == "__main__":
    raise SystemExit(main())
