"""The signer as a process: its files, its socket, who may speak to it, and what a crash leaves."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - a child under another uid could not load it
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from vouchgate.edges.processes.signer import main
from vouchgate.identity.ca import spki_of
from vouchgate.ports.rpc import RpcClient
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotPermitted, Unavailable, VouchgateError

TD = "test.local"
ME = os.geteuid()
OTHER, FOREIGN = 58_902, 58_903
X509 = {
    "spki": spki_of(ec.generate_private_key(ec.SECP256R1()).public_key()),
    "principal": f"spiffe://{TD}/service/prod/a",
    "ttl_seconds": 600,
}
NAMES = {"x509-ca", "jwt", "log", "policy", "scanner", "importer", "supervisor", "validator", "approver"}


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="vg"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def made():
    """A folder after a first start, to be copied: making keys takes a process of its own."""
    path = Path(tempfile.mkdtemp(prefix="vg"))
    path.chmod(0o711)
    assert run_main(path) == 0
    yield path
    shutil.rmtree(path)


@pytest.fixture
def used(folder, made):
    """A folder of its own that had its first start."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


class Process:
    """A running signer."""

    def __init__(self, folder: Path, *more: str, control: int = ME) -> None:
        self.folder, self.log = folder, folder / "stderr.txt"
        argv = [
            sys.executable,
            "-m",
            "vouchgate.edges.processes.signer",
            "--dir",
            str(folder),
            "--control-uid",
            str(control),
            "--trust-domain",
            TD,
        ]
        self.argv = [*argv, *more]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(self.argv, stderr=stream, stdout=stream)
        self.client = RpcClient(folder / "signer.sock", "signer")
        for _ in range(500):
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
            try:
                self.client.call("health")
                return
            except (Unavailable, NotPermitted):
                time.sleep(0.02)
        raise RuntimeError("the signer did not start")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.client.close()
        self.process.send_signal(number)
        return self.process.wait(10)


@pytest.fixture
def start(folder):
    running: list[Process] = []

    def starter(*more: str, **options) -> Process:
        running.append(Process(folder, *more, **options))
        return running[-1]

    yield starter
    for one in running:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def run_main(folder: Path, *more: str) -> int:
    """`--init-only` in a process of its own, because it gives up dumping and core files."""
    argv = [
        sys.executable,
        "-m",
        "vouchgate.edges.processes.signer",
        "--dir",
        str(folder),
        "--control-uid",
        str(ME),
        "--trust-domain",
        TD,
        "--init-only",
        *more,
    ]
    with (folder / "stderr.txt").open("ab") as stream:
        return subprocess.run(argv, stderr=stream, stdout=stream, timeout=30, check=False).returncode


def test_the_first_start_makes_keys_that_nobody_else_can_read(folder):
    assert run_main(folder) == 0
    keys = folder / "keys"
    assert {path.stem for path in keys.glob("*.key")} == NAMES
    assert keys.stat().st_mode & 0o7777 == 0o700
    for path in [*keys.iterdir(), folder / "state.json"]:
        assert path.stat().st_mode & 0o7777 == 0o600
        assert path.stat().st_uid == ME
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    assert run_main(folder) == 0
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before
    assert len({path.read_bytes() for path in keys.glob("*.key")}) == len(NAMES)


def test_it_answers_and_ends_cleanly(start):
    signer = start()
    assert {key["purpose"] for key in signer.client.call("public_keys")["keys"]} == NAMES
    assert signer.client.call("x509_svid", **X509)["thumbprint"]
    assert signer.client.call("health")["ok"]
    assert signer.end() == 0
    assert not (signer.folder / "signer.sock").exists()


def test_a_clock_set_back_while_it_was_down_issues_nothing(used, start):
    state = json.loads((used / "state.json").read_bytes())
    later = int(time.time() * 1000) + 3_600_000
    (used / "state.json").write_text(json.dumps(state | {"at": later}))
    signer = start()
    assert not signer.client.call("health")["ok"]
    with pytest.raises(Unavailable, match="clock"):
        signer.client.call("x509_svid", **X509)
    assert signer.client.call("checkpoint", origin=f"{TD}/log", size=1, root_hash=b"a" * 32)
    assert json.loads((used / "state.json").read_bytes())["at"] >= later
    assert signer.client.call("accept_clock")["now"] >= later
    assert signer.client.call("x509_svid", **X509)


def test_a_typed_refusal_comes_back_typed(start):
    signer = start()
    with pytest.raises(InvalidInput) as caught:
        signer.client.call("x509_svid", **(X509 | {"principal": "spiffe://other.local/service/prod/a"}))
    assert caught.value.remedy
    with pytest.raises(InvalidInput):
        signer.client.call("sign", payload=b"x")
    with pytest.raises(InvalidInput):
        signer.client.call("_private", name="log")


def test_what_was_signed_last_survives_kill_9(start):
    signer = start()
    for size in range(1, 30):
        signer.client.call("checkpoint", origin=f"{TD}/log", size=size, root_hash=bytes([size]) * 32)
    signer.client.call("policy", version=4, policy_digest="sha256:" + "0" * 64, author="a", approver="b")
    signer.end(signal.SIGKILL)
    again = start()
    with pytest.raises(Conflict):
        again.client.call("checkpoint", origin=f"{TD}/log", size=28, root_hash=bytes([28]) * 32)
    with pytest.raises(Conflict):
        again.client.call("checkpoint", origin=f"{TD}/log", size=29, root_hash=b"x" * 32)
    assert again.client.call("checkpoint", origin=f"{TD}/log", size=29, root_hash=bytes([29]) * 32)
    with pytest.raises(Conflict):
        again.client.call("policy", version=4, policy_digest="sha256:" + "0" * 64, author="a", approver="b")


def test_kill_9_at_any_moment_of_the_first_start_leaves_a_signer_that_starts(folder):
    """Half a first start is finished by the next one; what is there is never replaced."""
    delays = (0.0, 0.05, 0.1, 0.13, 0.16, 0.19, 0.22, 0.25)
    argv = [sys.executable, "-m", "vouchgate.edges.processes.signer", "--dir", str(folder), "--control-uid", str(ME), "--trust-domain", TD]
    seen: dict[str, bytes] = {}
    for delay in delays:
        process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait(10)
        for name, data in seen.items():
            assert (folder / "keys" / name).read_bytes() == data
        if (folder / "keys").exists():
            seen = {path.name: path.read_bytes() for path in (folder / "keys").glob("*.key") if not path.name.startswith(".")}
    assert run_main(folder) == 0


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda keys: (keys / "log.key").chmod(0o640), "chmod 0600"), (lambda keys: (keys / "log.key").chmod(0o604), "wider than 0600"), (lambda keys: keys.chmod(0o750), "chmod 0700"),
        (lambda keys: keys.parent.chmod(0o777), "wider than"), (lambda keys: (keys.parent / "state.json").chmod(0o644), "wider than 0600"),
        (lambda keys: (keys / "log.key").unlink(), "restore the signer's folder"), (lambda keys: (keys / "log.key").write_bytes(b""), "cannot be read"),
        (lambda keys: (keys / "log.key").write_bytes((keys / "log.key").read_bytes()[:-3]), "cannot be read"), (lambda keys: (keys / "jwt.key").write_bytes((keys / "log.key").read_bytes()), "P-256"),
        (lambda keys: (keys / "log.key").write_bytes((keys / "jwt.key").read_bytes()), "Ed25519"), (lambda keys: (keys / "x509-ca.key").write_bytes((keys / "jwt.key").read_bytes()), "not for the CA's key"),
        (lambda keys: (keys / "x509-ca.crt").write_bytes(b"x"), "CA certificate"), (lambda keys: (keys / "x509-ca.crt").unlink(), "restore"), (lambda keys: (keys.parent / "state.json").write_bytes(b"{"), "state"),
        (lambda keys: (keys.parent / "state.json").write_bytes(b'{"trust_domain":"other.local"}'), "other.local"), (lambda keys: os.link(keys / "log.key", keys.parent / "copy"), "not the signer's own"),
        (lambda keys: (keys / "log.key").write_bytes(b"x" * 70_000), "bound"),
        (lambda keys: ((keys / "log.key").rename(keys.parent / "moved"), (keys / "log.key").symlink_to(keys.parent / "moved")), "cannot be opened"),
        (lambda keys: ((keys / "log.key").unlink(), os.mkfifo(keys / "log.key", 0o600)), "not the signer's own"),
        (lambda keys: ((keys / "log.key").unlink(), (keys / "log.key").mkdir()), "not the signer's own"),
    ],
)  # fmt: skip
def test_files_that_are_not_as_they_must_be_stop_it(used, spoil, says):
    folder = used
    secret = (folder / "keys" / "policy.key").read_bytes()[-32:]
    spoil(folder / "keys")
    (folder / "stderr.txt").write_bytes(b"")
    assert run_main(folder) in {1, 2, 3}
    text = (folder / "stderr.txt").read_bytes()
    assert says.encode() in text
    assert b"Traceback" not in text
    assert secret.hex().encode() not in text
    for path in (folder, folder / "keys"):
        path.chmod(0o711)


@pytest.mark.skipif(ME != 0, reason="another owner needs root")
def test_files_of_another_owner_stop_it(used):
    folder = used
    os.chown(folder / "keys" / "log.key", OTHER, OTHER)
    assert run_main(folder) == 1


def test_another_trust_domain_needs_another_folder(used):
    assert run_main(used, "--trust-domain", "other.local") == 3


def test_the_ca_is_renewed_for_the_same_key(used):
    folder = used
    key, certificate = ((folder / "keys" / name).read_bytes() for name in ("x509-ca.key", "x509-ca.crt"))
    assert run_main(folder, "--renew-ca") == 0
    assert (folder / "keys" / "x509-ca.key").read_bytes() == key
    assert (folder / "keys" / "x509-ca.crt").read_bytes() != certificate


@pytest.mark.parametrize("given", ["", "vouch:supervisor", "vouch:nobody=1", "x509=-1", "x509=root", "=1", "keys=0"])
def test_a_malformed_allowance_stops_it(folder, given):
    assert run_main(folder, f"--allow={given}") == 2


def as_uid(uid: int, work) -> str:
    """What `work` returns in a child with that uid; root alone can ask."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                told = str(work())
            except VouchgateError as error:
                told = f"{type(error).__name__}: {error.reason}"
            except OSError as error:
                told = f"{type(error).__name__}"
            os.write(writer, told.encode()[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read().decode()
    os.waitpid(child, 0)
    return answer


@pytest.mark.skipif(ME != 0, reason="other uids need root")
def test_the_kernel_says_who_asks(start):
    """The control plane's uid is served, root learns public keys alone, everybody else is turned away before a frame is read."""
    signer = start("--allow", f"vouch:supervisor={FOREIGN}", control=OTHER)
    path = signer.folder / "signer.sock"

    def call(method, **params):
        return lambda: RpcClient(path, "signer").call(method, **params)

    assert "thumbprint" in as_uid(OTHER, call("x509_svid", **X509))
    assert as_uid(FOREIGN, call("x509_svid", **X509)).startswith("NotPermitted")
    assert "trust_domain" in as_uid(FOREIGN, call("public_keys"))
    assert as_uid(FOREIGN + 1, call("public_keys")).startswith(("NotPermitted", "Unavailable"))
    assert as_uid(FOREIGN + 1, call("x509_svid", **X509)).startswith(("NotPermitted", "Unavailable"))
    assert signer.client.call("public_keys")["trust_domain"] == TD
    with pytest.raises(NotPermitted):
        signer.client.call("x509_svid", **X509)
    assert as_uid(OTHER, (signer.folder / "keys" / "log.key").read_bytes) == "PermissionError"
    assert as_uid(OTHER, lambda: list((signer.folder / "keys").iterdir())) == "PermissionError"
    assert as_uid(OTHER, (signer.folder / "state.json").read_bytes) == "PermissionError"


@pytest.mark.skipif(ME != 0, reason="another uid needs root")
def test_no_core_no_dump_and_no_reading_of_its_memory(folder):
    """Even a process of the signer's own uid cannot open its memory (PR_SET_DUMPABLE, proc(5))."""
    os.chown(folder, OTHER, OTHER)
    sock = folder / "signer.sock"
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(OTHER)
        os.setuid(OTHER)
        os._exit(main(["--dir", str(folder), "--control-uid", str(OTHER), "--trust-domain", TD]))
    try:
        for _ in range(500):
            if sock.exists():
                break
            time.sleep(0.02)
        limits = Path(f"/proc/{child}/limits").read_text()
        assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
        for name in ("mem", "environ", "maps"):
            assert as_uid(OTHER, lambda name=name: Path(f"/proc/{child}/{name}").read_bytes()) == "PermissionError"
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


def every_form(folder: Path) -> list[bytes]:
    """The private keys in each form in which they could leak."""
    forms = []
    for path in (folder / "keys").glob("*.key"):
        der = path.read_bytes()
        key = load_der_private_key(der, password=None)
        forms += [der, der.hex().encode()]
        if isinstance(key, ec.EllipticCurvePrivateKey):
            number = key.private_numbers().private_value
            forms += [number.to_bytes(32, "big"), f"{number:x}".encode(), str(number).encode()]
        else:
            raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            forms += [raw, raw.hex().encode()]
    return forms


def test_no_key_in_log_argv_environment_or_answer(start):
    signer = start()
    answers = [signer.client.call("public_keys"), signer.client.call("health"), signer.client.call("x509_svid", **X509)]
    for method, params in (("x509_svid", {}), ("vouch", {"role": "log"}), ("nothing", {}), ("checkpoint", {"origin": b"\xff"})):
        try:
            signer.client.call(method, **params)
        except VouchgateError as error:
            answers.append((error.reason, error.remedy))
    seen = repr(answers).encode() + json.dumps(signer.argv).encode() + Path(f"/proc/{signer.process.pid}/cmdline").read_bytes()
    signer.end()
    seen += signer.log.read_bytes()
    for form in every_form(signer.folder):
        assert form not in seen
        assert repr(form).encode() not in seen


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\xc1\xc1",
        b"\x00\x00\x00\x01\xc0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x04\x93\x01\xa1x",
    ],
)
def test_junk_on_the_socket_leaves_it_standing(start, data):
    signer = start()
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(signer.folder / "signer.sock"))
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(5)
            while raw.recv(4096):
                pass
    assert signer.client.call("health")["ok"]


@pytest.mark.parametrize("name", ["x509-ca", "jwt", "log", "scanner"])
def test_a_stolen_key_is_replaced_alone(used, name):
    before = {path.name: path.read_bytes() for path in (used / "keys").iterdir()}
    assert run_main(used, "--replace-key", name) == 0
    after = {path.name: path.read_bytes() for path in (used / "keys").iterdir()}
    changed = {file for file in before if before[file] != after[file]}
    assert changed == ({"x509-ca.key", "x509-ca.crt"} if name == "x509-ca" else {f"{name}.key"})
    assert run_main(used) == 0


def test_what_is_no_key_is_not_replaced(used):
    before = {path.name: path.read_bytes() for path in (used / "keys").iterdir()}
    for name in ("root", "../state", "", "log.key"):
        assert run_main(used, f"--replace-key={name}") == 2
    assert run_main(used, "--replace-key", "log", "--trust-domain", "other.local") == 3
    assert {path.name: path.read_bytes() for path in (used / "keys").iterdir()} == before
