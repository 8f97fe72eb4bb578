"""The witness cosigns only what continues, remembers across kill -9, and answers only the control plane."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.audit import tree
from vouchgate.audit.checkpoints import Checkpoint, add_cosignature, log_verifier, require_cosignature, signed_checkpoint
from vouchgate.audit.hashing import leaf_hash
from vouchgate.audit.notes import parse_verifier, signature_line
from vouchgate.audit.proofs import consistency_proof
from vouchgate.audit.tiles import checked_tile
from vouchgate.edges.processes import witness as process
from vouchgate.edges.processes.rpc_server import Peer
from vouchgate.edges.processes.witness import KEY_FILE, SOCKET_FILE, STATE_FILE, Witness, handlers, read_log_key
from vouchgate.ports.rpc import RpcClient
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, StoreDamaged, Unavailable, Unverified, VouchgateError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOG = log_verifier("test.local/log", KEY.public_key().public_bytes_raw())


class Log:
    """A log that can be grown, rewritten and signed."""

    def __init__(self, entries: list[bytes]) -> None:
        self.state, writes = tree.append(tree.EMPTY, [leaf_hash(entry) for entry in entries])
        self._tiles = {(write.level, write.index): write.hashes for write in writes}

    def tile(self, level: int, index: int, width: int) -> bytes:
        return checked_tile(self._tiles[level, index], level, index, width)

    def note(self, size: int, *, key: Ed25519PrivateKey = KEY, origin: str = LOG.name) -> bytes:
        checkpoint = Checkpoint(origin, size, tree.root_at(size, self.tile))
        signer = log_verifier(origin, key.public_key().public_bytes_raw())
        return signed_checkpoint(checkpoint, signer, key.sign(checkpoint.body.encode()))

    def proof(self, old: int, new: int) -> list[bytes]:
        return consistency_proof(old, new, self.tile)


ROWS = [b"%d" % at for at in range(1000)]
TRUE = Log(ROWS)
FORGED = Log([*ROWS[:50], b"forged", *ROWS[51:]])


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="vgw"))
    yield made
    shutil.rmtree(made)


def started(folder: Path, now: int = 1_790_000_000) -> Witness:
    return Witness(folder, LOG, lambda: now)


def test_it_cosigns_a_growing_log(folder: Path) -> None:
    witness = started(folder)
    assert witness.latest() is None
    old = 0
    for size in (0, 1, 100, 100, 256, 1000):
        line = witness.add_checkpoint(old, TRUE.note(size), TRUE.proof(old, size))
        cosigned = add_cosignature(TRUE.note(size), line, witness.verifier)
        assert require_cosignature(cosigned, witness.verifier) == 1_790_000_000
        assert witness.latest() == cosigned
        old = size


@pytest.mark.parametrize(
    ("old", "note", "proof", "error"),
    [
        (0, TRUE.note(200), TRUE.proof(100, 200), Conflict),
        (99, TRUE.note(200), TRUE.proof(99, 200), Conflict),
        (101, TRUE.note(200), TRUE.proof(101, 200), Conflict),
        (0, TRUE.note(50), [], Conflict),
        (100, TRUE.note(50), TRUE.proof(50, 100), InvalidInput),
        (-1, TRUE.note(200), [], InvalidInput),
        (100, TRUE.note(200), [], Unverified),
        (100, TRUE.note(200), TRUE.proof(100, 200)[:-1], Unverified),
        (100, TRUE.note(200), TRUE.proof(100, 201), Unverified),
        (100, FORGED.note(200), FORGED.proof(100, 200), Unverified),
        (100, FORGED.note(100), [], Conflict),
        (100, TRUE.note(100), [b"\x00" * 32], Unverified),
        (100, TRUE.note(200, origin="other.local/log"), TRUE.proof(100, 200), NotFound),
        (100, TRUE.note(200, origin="test.local/log/1"), TRUE.proof(100, 200), NotFound),
        (100, TRUE.note(200, key=Ed25519PrivateKey.generate()), TRUE.proof(100, 200), Unverified),
        (100, TRUE.note(200)[:-1], TRUE.proof(100, 200), InvalidInput),
        (100, b"", [], InvalidInput),
        (100, TRUE.note(200).replace(b"\n200\n", b"\n201\n"), TRUE.proof(100, 200), Unverified),
    ],
)
def test_it_refuses_what_does_not_continue(folder: Path, old: int, note: bytes, proof: list[bytes], error: type[VouchgateError]) -> None:
    witness = started(folder)
    witness.add_checkpoint(0, TRUE.note(100), [])
    before = witness.latest(), (folder / STATE_FILE).read_bytes()
    with pytest.raises(error) as caught:
        witness.add_checkpoint(old, note, proof)
    assert caught.value.remedy
    assert (witness.latest(), (folder / STATE_FILE).read_bytes()) == before
    assert witness.add_checkpoint(100, TRUE.note(200), TRUE.proof(100, 200))


def test_a_conflict_tells_the_size_it_knows(folder: Path) -> None:
    witness = started(folder)
    witness.add_checkpoint(0, TRUE.note(137), [])
    with pytest.raises(Conflict, match=r"is 137\Z"):
        witness.add_checkpoint(0, TRUE.note(200), [])


def test_a_first_checkpoint_with_a_proof_is_refused(folder: Path) -> None:
    with pytest.raises(Unverified):
        started(folder).add_checkpoint(0, TRUE.note(100), TRUE.proof(50, 100))


def test_it_remembers_after_a_restart(folder: Path) -> None:
    first = started(folder)
    first.add_checkpoint(0, TRUE.note(100), [])
    again = started(folder)
    assert (again.verifier, again.latest()) == (first.verifier, first.latest())
    with pytest.raises(Conflict):
        again.add_checkpoint(0, FORGED.note(100), [])
    again.add_checkpoint(100, TRUE.note(101), TRUE.proof(100, 101))


def test_its_time_never_runs_backwards(folder: Path) -> None:
    times = iter([2_000, 1_000, 3_000])
    witness = Witness(folder, LOG, lambda: next(times))
    seen = []
    for _ in range(3):
        witness.add_checkpoint(100 if seen else 0, TRUE.note(100), [])
        seen.append(require_cosignature(witness.latest() or b"", witness.verifier))
    assert seen == [2_000, 2_000, 3_000]
    late = Witness(folder, LOG, lambda: 1)
    late.add_checkpoint(100, TRUE.note(100), [])
    assert require_cosignature(late.latest() or b"", late.verifier) == 3_000


def test_its_files_are_its_own(folder: Path) -> None:
    started(folder).add_checkpoint(0, TRUE.note(1), [])
    for name in (KEY_FILE, STATE_FILE):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / STATE_FILE).unlink(),
        lambda folder: (folder / STATE_FILE).write_bytes(b""),
        lambda folder: (folder / STATE_FILE).write_bytes(b"[]"),
        lambda folder: (folder / STATE_FILE).write_bytes(b'{"test.local/log": 5}'),
        lambda folder: (folder / STATE_FILE).write_bytes((folder / STATE_FILE).read_bytes()[:-20]),
        lambda folder: (folder / STATE_FILE).write_bytes((folder / STATE_FILE).read_bytes().replace(b"100", b"099")),
        lambda folder: (folder / STATE_FILE).write_bytes((folder / STATE_FILE).read_bytes().replace(b"witness ", b"witnesz ")),
        lambda folder: (folder / KEY_FILE).write_bytes(b"no key"),
        lambda folder: (folder / KEY_FILE).unlink(),
    ],
)
def test_lost_or_changed_state_is_never_a_fresh_start(folder: Path, damage) -> None:  # type: ignore[no-untyped-def]
    started(folder).add_checkpoint(0, TRUE.note(100), [])
    damage(folder)
    with pytest.raises(StoreDamaged, match="does not know what it cosigned"):
        started(folder)


def test_a_half_written_new_state_is_not_read(folder: Path) -> None:
    started(folder).add_checkpoint(0, TRUE.note(100), [])
    (folder / f"{STATE_FILE}.new").write_bytes(b"half")
    assert started(folder).add_checkpoint(100, TRUE.note(101), TRUE.proof(100, 101))


def test_no_cosignature_leaves_when_the_state_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = started(folder)
    witness.add_checkpoint(0, TRUE.note(100), [])
    before = witness.latest()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        witness.add_checkpoint(100, TRUE.note(200), TRUE.proof(100, 200))
    monkeypatch.undo()
    assert witness.latest() == before
    assert started(folder).add_checkpoint(100, TRUE.note(200), TRUE.proof(100, 200))


def test_strangers_lines_are_not_kept(folder: Path) -> None:
    witness = started(folder)
    stranger = log_verifier("stranger.local/x", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    witness.add_checkpoint(0, TRUE.note(100) + signature_line(stranger, b"\x00" * 64).encode(), [])
    assert b"stranger" not in (witness.latest() or b"")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"old_size": 0, "checkpoint": TRUE.note(1)},
        {"old_size": "0", "checkpoint": TRUE.note(1), "consistency_proof": []},
        {"old_size": 0, "checkpoint": TRUE.note(1).decode(), "consistency_proof": []},
        {"old_size": 0, "checkpoint": TRUE.note(1), "consistency_proof": [7]},
        {"old_size": 0, "checkpoint": TRUE.note(1), "consistency_proof": [b"\x00" * 32] * 64},
        {"old_size": 0, "checkpoint": TRUE.note(1), "consistency_proof": [], "force": True},
    ],
)
def test_malformed_requests_are_refused(folder: Path, params: dict[str, object]) -> None:
    answer = handlers(started(folder))["add_checkpoint"]
    with pytest.raises(InvalidInput):
        asyncio.run(answer(Peer(1, 1, 1), params))


def test_the_log_key_is_read_from_hex_or_pem(folder: Path) -> None:
    assert read_log_key(LOG.key.hex()) == LOG.key
    pem = folder / "log.pem"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem.write_bytes(KEY.public_key().public_bytes(serialization.Encoding.PEM, form))
    assert read_log_key(str(pem)) == LOG.key
    pem.write_bytes(ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(serialization.Encoding.PEM, form))
    for bad in (str(pem), "zz" * 32, "", str(folder / "none"), "ab" * 31):
        with pytest.raises(InvalidInput):
            read_log_key(bad)


class Running:
    """The real process."""

    def __init__(self, folder: Path, control_uid: int) -> None:
        self.folder = folder
        arguments = ["--dir", str(folder), "--control-uid", str(control_uid), "--log-key", LOG.key.hex(), "--origin", LOG.name]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vouchgate.edges.processes.witness", *arguments], stderr=subprocess.PIPE, text=True
        )

    def client(self) -> RpcClient:
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up and self.process.poll() is None:
            client = RpcClient(self.folder / SOCKET_FILE, "witness")
            try:
                client.call("latest")
            except Unavailable:
                time.sleep(0.02)
            else:
                return client
        raise AssertionError(f"the witness did not start: {self.process.poll()}")

    def end(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return self.process.returncode


def test_the_process_cosigns_and_ends_cleanly(folder: Path) -> None:
    running = Running(folder, os.getuid())
    try:
        client = running.client()
        told = client.call("public_key")
        witness = parse_verifier(told["verifier"])
        assert (witness.name, witness.key) == (told["name"], told["key"]) == ("test.local/witness", witness.key)
        line = client.call("add_checkpoint", old_size=0, checkpoint=TRUE.note(100), consistency_proof=[])
        add_cosignature(TRUE.note(100), line, witness)
        with pytest.raises(Conflict, match=r"is 100\Z"):
            client.call("add_checkpoint", old_size=0, checkpoint=TRUE.note(200), consistency_proof=[])
        with pytest.raises(InvalidInput):
            client.call("forget")
    finally:
        assert running.end(signal.SIGTERM) == 0
    assert not (folder / SOCKET_FILE).exists()


def test_a_second_witness_in_one_folder_is_refused(folder: Path) -> None:
    running = Running(folder, os.getuid())
    try:
        running.client()
        second = Running(folder, os.getuid())
        _, text = second.process.communicate(timeout=10)
        assert second.process.returncode == 3
        assert "another witness runs" in text
        running.client().call("latest")
    finally:
        running.end(signal.SIGTERM)


def test_kill_9_at_any_moment_loses_no_promise(folder: Path) -> None:
    promised = 0
    for round_ in range(6):
        running = Running(folder, os.getuid())
        client = running.client()
        note = client.call("latest")
        known = 0 if note is None else int(note.split(b"\n")[1])
        assert known >= promised
        kill_at = time.monotonic() + 0.005 * round_
        while time.monotonic() < kill_at and known < 1000:
            client.call("add_checkpoint", old_size=known, checkpoint=TRUE.note(known + 1), consistency_proof=TRUE.proof(known, known + 1))
            known = promised = known + 1
        running.end(signal.SIGKILL)
        client.close()
    assert promised > 0


def test_another_uid_is_refused(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can call as another uid")
    running = Running(folder, 58_002)
    try:
        running.client()
        folder.chmod(0o711)
        code = "import os, socket, sys; os.setuid(58009); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(200))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder / SOCKET_FILE)], capture_output=True, text=True, timeout=10, check=True
        )
        assert "not-permitted" in done.stdout
    finally:
        running.end(signal.SIGTERM)


@pytest.mark.parametrize(("flag", "value"), [("--log-key", "nonsense"), ("--dir", "/nonexistent/folder"), ("--origin", "")])
def test_wrong_arguments_end_with_a_remedy(folder: Path, flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"--dir": str(folder), "--control-uid": "1", "--log-key": LOG.key.hex(), "--origin": LOG.name, flag: value}
    assert process.main([part for pair in arguments.items() for part in pair]) in {2, 3}
    assert "; " in capsys.readouterr().err
