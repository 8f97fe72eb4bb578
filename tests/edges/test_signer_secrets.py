"""The signer as a process with each place of keys: what it says, what others can see of it, and a token that goes away while it runs."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from vouchgate.identity.ca import spki_of
from vouchgate.ports.rpc import RpcClient
from vouchgate.vocabulary.errors import NotPermitted, Unavailable, VouchgateError

TD = "test.local"
PASSPHRASE, PIN = b"plover-Anvil-misty-0451-Quorum", b"90210-Kestrel"
MODULE = next((path for path in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so") if Path(path).exists()), "")
UTIL = shutil.which("softhsm2-util")
needs_token = pytest.mark.skipif(not (MODULE and UTIL), reason="SoftHSM2 is not installed: apt-get install softhsm2")
X509 = {
    "spki": spki_of(ec.generate_private_key(ec.SECP256R1()).public_key()),
    "principal": f"spiffe://{TD}/service/prod/a",
    "ttl_seconds": 600,
}
JWT = {"principal": f"spiffe://{TD}/service/prod/a", "audience": "vg://test.local/endpoint/a", "ttl_seconds": 60}


class House:
    """A signer's folder, with a token beside it."""

    def __init__(self, path: Path) -> None:
        self.path, self.log = path, path / "stderr.txt"
        self.tokens = path / "tokens"
        self.tokens.mkdir()
        config = path / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.environment = {"PATH": os.defpath, "SOFTHSM2_CONF": str(config)}
        self.running: list[subprocess.Popen[bytes]] = []

    def initialise(self) -> None:
        words = ["--init-token", "--free", "--label", "vg", "--pin", PIN.decode(), "--so-pin", "12345678"]
        subprocess.run([UTIL, *words], env=self.environment, check=True, capture_output=True)

    def start(self, *more: str, secret: bytes | None = None, old: bytes | None = None, **options) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "vouchgate.edges.processes.signer", "--dir", str(self.path), "--control-uid", str(os.geteuid())]
        argv += ["--trust-domain", TD, *more]
        handed = []
        for option, value in (("--secret-fd", secret), ("--old-secret-fd", old)):
            if value is not None:
                handed.append(os.memfd_create("secret"))
                os.write(handed[-1], value)
                argv += [option, str(handed[-1])]
        with self.log.open("ab") as stream:
            self.running.append(
                subprocess.Popen(argv, stdout=stream, stderr=stream, env=self.environment, pass_fds=handed, cwd=self.path, **options)
            )
        for descriptor in handed:
            os.close(descriptor)
        return self.running[-1]

    def once(self, *more: str, **options) -> int:
        return self.start(*more, **options).wait(30)

    def serve(self, *more: str, **options) -> RpcClient:
        process = self.start(*more, **options)
        client = RpcClient(self.path / "signer.sock", "signer")
        for _ in range(1000):
            if process.poll() is not None:
                raise RuntimeError(self.log.read_text())
            try:
                client.call("health")
                return client
            except (Unavailable, NotPermitted):
                time.sleep(0.01)
        raise RuntimeError("the signer did not start")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.running[-1].send_signal(number)
        return self.running[-1].wait(10)


@pytest.fixture
def house():
    path = Path(tempfile.mkdtemp(prefix="vg"))
    path.chmod(0o711)
    made = House(path)
    yield made
    for one in made.running:
        if one.poll() is None:
            one.kill()
            one.wait(10)
    shutil.rmtree(path)


SEALED = ("--place", "encrypted")
TOKEN = ("--place", "token", "--module", MODULE, "--token", "vg")


def forms_of(folder: Path) -> list[bytes]:
    """Plain keys in each form in which they could leak."""
    forms: list[bytes] = []
    for path in (folder / "keys").glob("*.key"):
        key = load_der_private_key(path.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            number = key.private_numbers().private_value
            raw = number.to_bytes(32, "big")
            forms.append(str(number).encode())
        else:
            raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        forms += [raw, raw.hex().encode(), repr(raw).encode()[2:-1]]
    return forms


def exercise(client: RpcClient) -> list[object]:
    """Every kind of answer: keys, issuing, and refusals."""
    said: list[object] = [client.call(name) for name in ("public_keys", "health")]
    said += [client.call("x509_svid", **X509), client.call("jwt_svid", **JWT)]
    said.append(client.call("checkpoint", origin=f"{TD}/log", size=1, root_hash=b"a" * 32))
    for method, params in (("x509_svid", {}), ("vouch", {"role": "log"}), ("secret", {}), ("jwt_svid", {"principal": b"\xff"})):
        try:
            said.append(client.call(method, **params))
        except VouchgateError as error:
            said.append((error.reason, error.remedy))
    return said


def seen_of(process: subprocess.Popen[bytes]) -> bytes:
    """What the system shows of a process, to root at least."""
    seen = b""
    for name in ("cmdline", "environ", "comm", "status", "limits"):
        seen += (Path(f"/proc/{process.pid}") / name).read_bytes()
    return seen


@pytest.mark.parametrize("place", ["encrypted", pytest.param("token", marks=needs_token)])
def test_neither_key_nor_secret_is_in_anything_that_others_see(house, place):
    """Log, answers, refusals, command line, environment, every file that is left: with the very keys, known from before the move."""
    assert house.once("--init-only") == 0
    forms = forms_of(house.path)
    secret, options = (PASSPHRASE, SEALED) if place == "encrypted" else (PIN, TOKEN)
    if place == "token":
        house.initialise()
    assert house.once("--move-from", "file", *options, secret=secret) == 0
    house.once(*options, "--init-only", secret=b"wrong-" + secret)
    house.once(*options, "--try-pin")
    client = house.serve(*options, secret=secret)
    seen = repr(exercise(client)).encode() + seen_of(house.running[-1])
    client.close()
    assert house.end() == 0
    seen += house.log.read_bytes()
    for path in house.path.rglob("*"):
        if path.is_file() and house.tokens not in path.parents:
            seen += path.read_bytes()
    assert len(forms) >= 4 * 9 - 7
    for form in [*forms, secret, secret.hex().encode(), repr(secret).encode()[2:-1], b"wrong-" + secret]:
        assert form not in seen


def test_the_passphrase_opens_the_keys_at_each_start_and_a_wrong_one_is_told_apart(house):
    assert house.once(*SEALED, "--init-only", secret=PASSPHRASE) == 0
    assert house.once(*SEALED, "--init-only", secret=b"not this one, no") == 4
    client = house.serve(*SEALED, secret=PASSPHRASE)
    first = client.call("public_keys")["keys"]
    assert client.call("health")["keys_place"] == "encrypted"
    client.close()
    assert house.end(signal.SIGKILL) == -signal.SIGKILL
    client = house.serve(*SEALED, secret=PASSPHRASE)
    assert client.call("public_keys")["keys"] == first
    client.close()
    assert house.once("--init-only") == 3


def test_no_core_is_written_even_where_a_core_is_allowed(house):
    """The control: the same process without the signer's precaution does leave one, or this machine cannot show it."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or pattern.startswith("|"):
        pytest.skip("this machine hands cores to a program or another folder")

    def allow() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    try:
        control = subprocess.Popen([sys.executable, "-c", "import os; os.abort()"], cwd=house.path, preexec_fn=allow)  # noqa: PLW1509 - no other thread
    except subprocess.SubprocessError:
        pytest.skip("this user may not allow cores")
    control.wait(20)
    cores = list(house.path.glob("core*"))
    if not cores:
        pytest.skip("this machine writes no cores")
    for core in cores:
        core.unlink()
    house.serve(*SEALED, secret=PASSPHRASE, preexec_fn=allow).close()
    assert house.end(signal.SIGABRT) == -signal.SIGABRT
    assert list(house.path.glob("core*")) == []


def test_a_move_onto_a_full_disk_changes_nothing(house):
    assert house.once("--init-only") == 0
    before = {path.name: path.read_bytes() for path in (house.path / "keys").iterdir()}

    house.log = Path("/dev/null")

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (120, 120))

    assert house.once("--move-from", "file", *SEALED, secret=PASSPHRASE, preexec_fn=no_room) == 3
    assert house.once("--init-only") == 0
    after = {path.name: path.read_bytes() for path in (house.path / "keys").iterdir() if not path.name.startswith("x509-issuer")}
    assert after == {name: data for name, data in before.items() if not name.startswith("x509-issuer")}


def test_kill_9_at_any_moment_of_a_move_leaves_keys_that_open(house):
    assert house.once("--init-only") == 0
    before = {path.stem: path.read_bytes() for path in (house.path / "keys").glob("*.key")}
    for delay in (0.3, 0.64, 0.75):
        process = house.start("--move-from", "file", *SEALED, secret=PASSPHRASE)
        time.sleep(delay)
        process.kill()
        process.wait(10)
        place = house.path / "keys" / "place.json"
        if place.exists() and json.loads(place.read_bytes())["place"] == "encrypted":
            assert house.once(*SEALED, "--init-only", secret=PASSPHRASE) == 0
            assert house.once("--move-from", "encrypted", old=PASSPHRASE) == 0
        else:
            assert house.once("--init-only") == 0
        assert {path.stem: path.read_bytes() for path in (house.path / "keys").glob("*.key")} == before


# --- a token


@needs_token
def test_every_purpose_is_signed_by_a_token_and_goes_on_after_a_restart(house):
    house.initialise()
    client = house.serve(*TOKEN, secret=PIN)
    assert not list((house.path / "keys").glob("*.key"))
    known = client.call("public_keys")
    leaf = client.call("x509_svid", **X509)["chain"]
    issuers = [x509.load_der_x509_certificate(der) for der in [*leaf[1:], known["x509_ca"]]]
    x509.load_der_x509_certificate(leaf[0]).verify_directly_issued_by(issuers[0])
    assert client.call("jwt_svid", **JWT)["token"].count(".") == 2
    assert client.call("checkpoint", origin=f"{TD}/log", size=1, root_hash=b"a" * 32).startswith(f"{TD}/log\n")
    assert client.call("policy", version=1, policy_digest="sha256:" + "0" * 64, author="a", approver="b")["envelope"]
    assert client.call("health")["keys_place"] == "token"
    client.close()
    assert house.end(signal.SIGKILL) == -signal.SIGKILL
    client = house.serve(*TOKEN, secret=PIN)
    assert client.call("public_keys")["keys"] == known["keys"]
    client.close()
    assert house.end() == 0
    assert house.once(*TOKEN, "--init-only", "--renew-ca", secret=PIN) == 0
    assert house.once(*TOKEN, "--init-only", "--replace-key", "log", secret=PIN) == 0
    client = house.serve(*TOKEN, secret=PIN)
    changed = {one["purpose"] for one in client.call("public_keys")["keys"]} - {
        one["purpose"] for one in client.call("public_keys")["keys"] if one in known["keys"]
    }
    assert changed == {"log"}


@needs_token
def test_a_token_that_is_taken_out_issues_nothing_and_issues_again_when_it_is_back(house):
    house.initialise()
    client = house.serve(*TOKEN, secret=PIN)
    client.call("x509_svid", **X509)
    shutil.move(house.tokens, house.path / "gone")
    assert not client.call("health")["ok"]
    for _ in range(3):
        for method, params in (
            ("x509_svid", X509),
            ("jwt_svid", JWT),
            ("checkpoint", {"origin": f"{TD}/log", "size": 2, "root_hash": b"b" * 32}),
        ):
            with pytest.raises(Unavailable):
                client.call(method, **params)
    health = client.call("health")
    assert not health["ok"]
    assert health["keys_trouble"]
    shutil.move(house.path / "gone", house.tokens)
    for _ in range(500):
        try:
            client.call("x509_svid", **X509)
            break
        except Unavailable:
            time.sleep(0.02)
    assert client.call("health")["ok"]
    assert client.call("jwt_svid", **JWT)["token"]
    assert not (house.path / "pin-refused").exists()


@needs_token
def test_a_wrong_pin_is_tried_once_whoever_starts_it_again(house):
    """A supervisor starts a signer that ended again and again: the token must not count that."""
    house.initialise()
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 0
    assert house.once(*TOKEN, "--init-only", secret=b"0000") == 1
    for secret in (b"0000", PIN, b"1111"):
        assert house.once(*TOKEN, "--init-only", secret=secret) == 1
    assert house.log.read_bytes().count(b"PinIncorrect") == 2  # noted, and told at the end, of one try
    assert house.once(*TOKEN, "--try-pin") == 0
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 0
    assert house.once(*TOKEN, "--init-only") == 4


@needs_token
def test_another_token_of_the_same_label_is_damage_and_no_first_start(house):
    house.initialise()
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 0
    shutil.move(house.tokens, house.path / "gone")
    house.tokens.mkdir()
    house.initialise()
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 3
    assert b"the key `x509-ca` is in the token" in house.log.read_bytes()


@needs_token
@pytest.mark.parametrize("spoil", [b"", b'{"version":1}'])
def test_a_spoiled_reference_stops_it(house, spoil):
    house.initialise()
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 0
    (house.path / "keys" / "jwt.token").write_bytes(spoil)
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 3


@needs_token
def test_a_reference_to_another_object_or_public_key_stops_it(house):
    house.initialise()
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 0
    keys = house.path / "keys"
    whole, other = (json.loads((keys / name).read_bytes()) for name in ("jwt.token", "x509-ca.token"))
    for change in ({"id": other["id"]}, {"spki": other["spki"]}, {"id": "00" * 16}, {"kind": "ed25519"}):
        (keys / "jwt.token").write_text(json.dumps(whole | change))
        assert house.once(*TOKEN, "--init-only", secret=PIN) == 3, change
    (keys / "jwt.token").write_text(json.dumps(whole))
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 0


@needs_token
def test_a_token_without_ed25519_holds_the_rest_and_opens_the_files_of_these(house):
    house.initialise()
    config = Path(house.environment["SOFTHSM2_CONF"])
    config.write_text(config.read_text() + "slots.mechanisms = -CKM_EDDSA,CKM_EC_EDWARDS_KEY_PAIR_GEN\n")
    client = house.serve(*TOKEN, secret=PIN)
    assert {path.stem for path in (house.path / "keys").glob("*.tsealed")} == {
        "log", "policy", "scanner", "importer", "supervisor", "validator", "approver",
    }  # fmt: skip
    assert {"x509-ca", "jwt"} <= {path.stem for path in (house.path / "keys").glob("*.token")}
    known = client.call("public_keys")["keys"]
    assert client.call("checkpoint", origin=f"{TD}/log", size=1, root_hash=b"a" * 32)
    client.close()
    house.end()
    client = house.serve(*TOKEN, secret=PIN)
    assert client.call("public_keys")["keys"] == known
    client.close()
    house.end()
    sealed = (house.path / "keys" / "log.tsealed").read_bytes()
    (house.path / "keys" / "log.tsealed").write_bytes((house.path / "keys" / "policy.tsealed").read_bytes())
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 3
    (house.path / "keys" / "log.tsealed").write_bytes(sealed)
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 0


@needs_token
def test_keys_never_leave_a_token_and_new_ones_are_made_outside_if_asked(house):
    house.initialise()
    assert house.once(*TOKEN, "--init-only", secret=PIN) == 0
    assert house.once("--move-from", "token") == 3
    assert house.once("--move-from", "token", *SEALED, "--generate", secret=PASSPHRASE) == 0
    assert not list((house.path / "keys").glob("*.token"))
    client = house.serve(*SEALED, secret=PASSPHRASE)
    assert client.call("x509_svid", **X509)["chain"]
