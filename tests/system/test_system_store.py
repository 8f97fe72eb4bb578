"""The store and the disk under it go bad: a clear error with a remedy, nothing let in, and back to work when the cause is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from installation import EXAMPLE, TRUST_DOMAIN, Installation, mine

from vouchgate.edges.cli.client import Client
from vouchgate.flows import initialise
from vouchgate.flows.sign import SignedBefore
from vouchgate.identity.ca import make_ca
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.trust import SignedTrustRoot, TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import decode, encode

LEASE = 2
DISK_MIB = 96
RESERVE_MIB = 16


@pytest.fixture(scope="module")
def made() -> Iterator[Installation]:
    """An installation that ran and ended; each test spoils a copy of its data."""
    house = Installation(isolate="off", lease=LEASE)
    try:
        house.start()
        alice = house.caller("alice")
        house.until(lambda: house.infer(alice).status == 200, 10)
        house.revoke(house.caller("gone").principal, "principal")
        house.stop()
        shutil.copytree(
            house.data, house.folder / "kept", symlinks=True, ignore=lambda _, names: [name for name in names if name.endswith(".sock")]
        )
        yield house
    finally:
        house.close()


@pytest.fixture
def fresh(made: Installation) -> Iterator[Installation]:
    shutil.rmtree(made.data)
    shutil.copytree(made.folder / "kept", made.data, symlinks=True)
    made.output.write_bytes(b"")
    yield made
    if made.process is not None:
        made.stop()


def refused(house: Installation, *words: str) -> None:
    house.start(ready=False)
    assert house.process is not None
    assert house.process.wait(30) == 3, house.said()
    said = house.said()
    assert "Traceback" not in said and "fix" in said, said
    for word in words:
        assert word in said, (word, said)
    house.stop()


def _page(house: Installation, number: int, data: bytes) -> None:
    with house.layout.store.open("r+b") as store:
        store.seek(number * 4096)
        store.write(data)


def garbage(house: Installation) -> None:
    house.layout.store.write_bytes(os.urandom(8192))


def header(house: Installation) -> None:
    _page(house, 0, b"not a database\0\0")


def cut_off(house: Installation) -> None:
    size = house.layout.store.stat().st_size
    os.truncate(house.layout.store, size // 2)


def pages(house: Installation) -> None:
    for number in range(2, house.layout.store.stat().st_size // 4096):
        _page(house, number, os.urandom(4096))


def foreign(house: Installation) -> None:
    house.layout.store.unlink()
    with sqlite3.connect(house.layout.store) as db:
        db.execute("CREATE TABLE other (a)")


def newer(house: Installation) -> None:
    with sqlite3.connect(house.layout.store) as db:
        db.execute("PRAGMA user_version = 9999")


@pytest.mark.parametrize("spoil", [garbage, header, cut_off, pages, foreign, newer])
def test_a_damaged_store_is_refused_with_a_remedy_and_serves_nobody(fresh: Installation, spoil: object) -> None:
    spoil(fresh)  # type: ignore[operator]
    refused(fresh, "store")


def test_a_store_without_its_log_entries_does_not_forget_a_revocation_silently(fresh: Installation) -> None:
    with sqlite3.connect(fresh.layout.store) as db:
        db.execute("DELETE FROM chunk")
    refused(fresh, "store")


def test_a_locked_store_is_refused_and_names_who_holds_it(fresh: Installation) -> None:
    lock = os.open(f"{fresh.layout.store}.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        refused(fresh, str(os.getpid()))
    finally:
        os.close(lock)


def test_an_expired_ca_is_told_with_the_command_that_renews_it_and_old_certificates_go_on(fresh: Installation) -> None:
    fresh.start()
    alice = fresh.caller("alice")
    fresh.until(lambda: fresh.infer(alice).status == 200, 10)
    assert fresh.cli("admin", "renew-ca").returncode == 3  # not while it runs
    fresh.stop()
    keys = fresh.layout.signer / "keys"
    key = load_der_private_key((keys / "x509-ca.key").read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    long_ago = UnixMillis(int((time.time() - 400 * 86_400) * 1000))
    (keys / "x509-ca.crt").write_bytes(make_ca(TRUST_DOMAIN, key, now=long_ago, days=365))
    refused(fresh, "the CA has expired", "vouchgate admin renew-ca")
    done = fresh.cli("admin", "renew-ca")
    assert done.returncode == 0, done.stderr
    fresh.start()
    fresh.until(lambda: fresh.infer(alice).status == 200, 10, "a certificate of the same CA key is not accepted any more")
    again = fresh.caller("alice")
    fresh.until(lambda: fresh.infer(again).status == 200, 10)


def test_an_expired_trust_root_is_told_with_the_command_that_signs_the_next() -> None:
    house = Installation(isolate="off", lease=LEASE)
    try:
        house.start()
        house.stop()
        root_key = next((house.folder / "r").glob("*.pem"))
        signed = decode(SignedTrustRoot, house.layout.trust_root.read_bytes(), what="TrustRoot")
        old = decode(TrustRoot, signed.payload, what="TrustRoot")
        hour_ago = UnixMillis(int((time.time() - 3600) * 1000))
        delegated = tuple(msgspec.structs.replace(one, expires_at=hour_ago) for one in old.delegations)
        lapsed = msgspec.structs.replace(old, issued_at=UnixMillis(hour_ago - 1000), expires_at=hour_ago, delegations=delegated)
        house.layout.trust_root.write_bytes(encode(initialise.sign_with(lapsed, [root_key.read_bytes()])))
        shutil.rmtree(house.layout.control)
        shutil.rmtree(house.layout.witness)
        (house.layout.signer / "state.json").write_bytes(
            encode(SignedBefore(trust_domain=TRUST_DOMAIN))  # as if it had never run: only its keys are old
        )
        (house.layout.signer / "state.json").chmod(0o600)
        house.output.write_bytes(b"")
        refused(house, "TrustRoot", "expired", "renew-trust")
        done = house.cli("admin", "renew-trust", "--root-key", str(root_key))
        assert done.returncode == 0, done.stderr
        house.start()
        alice = house.caller("alice")
        house.until(lambda: house.infer(alice).status == 200, 10)
    finally:
        house.close()


def test_a_policy_that_was_signed_and_never_recorded_stops_no_start(fresh: Installation) -> None:
    state = fresh.layout.signer / "state.json"
    before = decode(SignedBefore, state.read_bytes(), what="state")
    state.write_bytes(encode(msgspec.structs.replace(before, policy_version=before.policy_version + 1)))
    policy = fresh.folder / "changed.cedar"
    policy.write_text((EXAMPLE / "digits.cedar").read_text() + "\n// changed\n")
    text = fresh.settings.read_text()
    fresh.settings.write_text(text.replace(str(EXAMPLE / "digits.cedar"), str(policy)))
    try:
        fresh.start()
        assert fresh.status().policy_version == before.policy_version + 2
    finally:
        fresh.settings.write_text(text)


def test_a_half_written_line_of_the_gateway_is_a_gap_and_the_next_lines_are_taken_in(fresh: Installation) -> None:
    fresh.start()
    alice = fresh.caller("alice")
    fresh.until(lambda: fresh.infer(alice).status == 200, 10)
    before = fresh.status().log_size
    with fresh.layout.access_log.open("ab") as log:
        log.write(b'{"kind":"DownstreamEnd","id":"ha')
    fresh.infer(alice)
    answer = fresh.infer(alice)
    fresh.until(lambda: any(mine(entry).get("request_id") == answer.headers["x-request-id"] for entry in fresh.entries(before)), 5)
    assert any(entry.kind == "gap" for entry in fresh.entries(before))
    assert fresh.audited().ok


def test_a_half_written_last_line_before_a_restart_of_everything_is_told(fresh: Installation) -> None:
    logs = fresh.layout.access_log
    with logs.open("ab") as log:
        log.write(b'{"kind":"DownstreamEnd","id":"ha')
    fresh.start()
    alice = fresh.caller("alice")
    fresh.until(lambda: fresh.infer(alice).status == 200, 10)
    fresh.until(lambda: any(entry.kind == "gap" for entry in fresh.entries()), 5, "the cut line is not told")
    assert fresh.audited().ok


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root mounts a small disk of its own")
def test_a_full_disk_stops_leases_lets_nobody_in_and_is_over_when_there_is_room() -> None:
    house = Installation(lease=LEASE, more=f"[audit]\ndisk_reserve_mib = {RESERVE_MIB}\n")
    house.data.mkdir(mode=0o711)
    mount = f'mount -t tmpfs -o size={DISK_MIB}m,mode=0711 vouchgate-test "{house.data}" && exec "$@"'
    try:
        house.start(prefix=("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"), ready=False)
        assert house.process is not None
        inside = Path(f"/proc/{house.process.pid}/root{house.data}")
        house.layout = Layout(inside)
        house.client = Client(house.layout.api_socket)
        house.until_ready()
        alice, gone = house.caller("alice"), house.caller("gone")
        house.until(lambda: house.infer(alice).status == 200, 10)
        house.revoke(gone.principal, "principal")
        filler = inside / "filler"
        with filler.open("wb") as stream:
            stream.write(b"\0" * ((DISK_MIB - RESERVE_MIB) * 1024 * 1024))
        house.until(lambda: house.infer(alice).status == 503, LEASE + 3, "leases go on below the reserve")
        assert not house.ready()
        assert "MiB are free" in house.cli("status", "--socket", str(house.layout.api_socket), "--json").stdout
        _fill(filler)
        until, refused_acts, acknowledged = time.monotonic() + 4, 0, []
        while time.monotonic() < until:
            assert house.infer(alice).status in (0, 503)
            assert house.infer(gone).status != 200 and house.infer(None).status != 200
            try:
                other = house.caller(f"o{len(acknowledged)}")
                house.revoke(other.principal, "principal")
                acknowledged.append(other)
            except VouchgateError as error:
                assert error.remedy
                refused_acts += 1
        assert refused_acts
        filler.unlink()
        house.until(lambda: house.infer(alice).status == 200, 20, "it does not go on once there is room")
        house.until(house.ready, 20)
        for one in [gone, *acknowledged]:
            assert house.infer(one).status == 403
        assert house.audited().ok
        assert all(pid for name, pid in house.processes().items())
    finally:
        house.close()


def _fill(path: Path) -> None:
    """To the last byte."""
    with path.open("ab") as stream:
        try:
            while True:
                os.write(stream.fileno(), b"\0" * 65536)
        except OSError:
            return


def test_a_kill_in_the_middle_of_many_revocations_keeps_every_acknowledged_one(fresh: Installation) -> None:
    fresh.start()
    acknowledged = []
    alice = fresh.caller("alice")
    for number in range(12):
        other = fresh.caller(f"n{number}")
        if number % 4 == 3:
            fresh.send("control", signal.SIGKILL)
            fresh.until(fresh.ready, 20)
        try:
            acknowledged.append((other, fresh.revoke(other.principal, "principal")))
        except VouchgateError:
            continue
    fresh.until(lambda: fresh.infer(alice).status == 200, 20)
    assert len(acknowledged) >= 9
    for other, _ in acknowledged:
        assert fresh.infer(other).status == 403
