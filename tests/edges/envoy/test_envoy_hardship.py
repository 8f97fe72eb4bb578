"""Slow clients, floods, several workers, a control plane that hangs without closing, and who may read the log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway_harness import Harness, spiffe

from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.flows.units import core_specs
from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.settings import Settings

pytestmark = pytest.mark.gateway
INFER = "/v2/models/digits/infer"
LEASE_EXPIRED = "https://vouchgate.dev/problem/lease-expired"
SLOW_CLIENTS = 20


def cut_off(sock: socket.socket, drip: bytes, seconds: float) -> tuple[bytes, float]:
    """Send a byte now and then until the other end has had enough: what it said, and after how long."""
    begun, got = time.monotonic(), b""
    sock.settimeout(0.1)
    while time.monotonic() - begun < seconds:
        try:
            sock.sendall(drip)
            part = sock.recv(65536)
            if not part:
                return got, time.monotonic() - begun
            got += part
        except TimeoutError:
            continue
        except OSError:
            return got, time.monotonic() - begun
    raise AssertionError(f"still open: {got[:200]!r}")


@pytest.mark.parametrize(
    ("begin", "drip", "details"),
    [
        (f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\nx-a: ".encode(), b"a", "request_header_timeout"),
        (f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n".encode(), b"a", "request_overall_timeout"),
        (
            b"POST /chat/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{",
            b" ",
            "request_overall_timeout",
        ),
    ],
    ids=["headers", "body", "body that is held"],
)
def test_slow_requests_are_cut_off_and_recorded(own: Callable[..., Harness], begin: bytes, drip: bytes, details: str) -> None:
    gw = own(headers_seconds=0.6, request_seconds=1.2)
    socks = []
    for _ in range(SLOW_CLIENTS):
        raw = socket.create_connection(("127.0.0.1", gw.port), timeout=5)
        socks.append(gw.context(gw.identity("alice")).wrap_socket(raw))
        socks[-1].sendall(begin)
    assert gw.call("POST", INFER, who="alice").status == 200, "others go on meanwhile"
    for sock in socks:
        with contextlib.closing(sock):
            got, after = cut_off(sock, drip, 4)
            assert b"200 OK" not in got
            assert after < 4
    ended = [line for line in gw.lines() if line["kind"] == "DownstreamEnd" and (line["details"] or "").startswith(details)]
    assert len(ended) == SLOW_CLIENTS
    assert {str(line["status"]) for line in ended} <= {"408", "504"}
    assert gw.call("POST", INFER, who="alice").status == 200


def test_every_worker_takes_a_revocation_on_its_live_connections(own: Callable[..., Harness]) -> None:
    gw = own(concurrency=2)
    connections = [gw.connect("alice") for _ in range(24)]
    assert all(gw.call("POST", INFER, on=one).status == 200 for one in connections)
    workers = [
        line.rpartition(" ")[2]
        for line in gw.admin("/stats?filter=worker_._downstream_cx_active|worker_..downstream_cx_active").splitlines()
    ]
    active = [int(text) for text in workers if text.isdecimal()]
    assert len([count for count in active if count]) >= 2, active
    gw.revoke("principal", spiffe("alice"))
    assert {gw.call("POST", INFER, on=one).status for one in connections} == {403}
    gw.revoke("principal", spiffe("alice"), withdrawn_by="r2")
    assert {gw.call("POST", INFER, on=one).status for one in connections} == {200}


CONTROL = """
import json, sys
from gateway_harness import *
made = Harness(start=False, lease_seconds=2)
made.feed()
made.identity("alice")
print(json.dumps({"dir": str(made.dir), "port": made.port, "settings": made.settings.admin_socket}), flush=True)
sys.stdin.read()
made.close()
"""


@pytest.fixture
def control() -> Iterator[tuple[subprocess.Popen[str], dict[str, str], Harness]]:
    """A control plane in a process of its own, and a harness that only calls and runs the Envoy."""
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    assert process.stdout
    said = json.loads(process.stdout.readline())
    there = Path(said["dir"])
    caller = object.__new__(Harness)
    caller.dir, caller.port, caller.envoy, caller.umask = there, said["port"], None, -1
    caller.settings = GatewaySettings(
        node_id="gateway-1",
        trust_domain="test.local",
        admin_socket=str(there / "admin.sock"),
        ads_socket=str(there / "ads.sock"),
        ext_authz_socket=str(there / "ask.sock"),
        access_log=str(there / "access.log"),
    )
    caller.start_envoy()
    yield process, said, caller
    process.send_signal(signal.SIGCONT)
    caller.stop_envoy(signal.SIGKILL)
    process.communicate("", timeout=10)


def test_a_control_plane_that_is_stopped_without_closing_leaves_one_lease(
    control: tuple[subprocess.Popen[str], dict[str, str], Harness],
) -> None:
    process, _, gw = control
    gw.ready()
    connection = gw.connect("alice")
    assert gw.call("POST", INFER, on=connection).status == 200
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.3)
    answer = gw.call("POST", INFER, on=connection)
    assert (answer.status, answer.json["type"]) == (503, LEASE_EXPIRED)
    assert gw.call("POST", INFER, who="alice").json["type"] == LEASE_EXPIRED
    process.send_signal(signal.SIGCONT)
    gw.ready(5)


def test_the_log_is_for_the_tailer_s_group_and_nobody_else(own: Callable[..., Harness]) -> None:
    """With the umask and the folder that the process tree gives it."""
    layout, users = Layout(Path("/nowhere")), Users(base=58000, own=0)
    specs = core_specs(Settings(trust_domain="test.local"), layout, users, lambda *_: ("x",), log_key="k", origin="o", gateway=("envoy",))
    folder = next(one for one in layout.folders(users) if one.path == str(layout.gateway_logs))
    gw = own(start=False, umask=next(one.umask for one in specs if one.name == "gateway"), log_folder="logs")
    logs = gw.dir / "logs"
    logs.mkdir()
    group = folder.gid if os.geteuid() == 0 else os.getegid()
    os.chown(logs, -1, group)
    logs.chmod(folder.mode)
    gw.feed()
    gw.start_envoy()
    gw.ready()
    found = Path(gw.settings.access_log).stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, group)
    assert stat.S_IMODE(logs.stat().st_mode) == 0o2750
    assert folder.gid == users.of("tailer")


@pytest.mark.parametrize("who", [None, "mallory"], ids=["anonymous", "denied"])
def test_a_flood_of_others_does_not_stop_who_is_granted(own: Callable[..., Harness], who: str | None) -> None:
    gw = own()
    stop, flooded = threading.Event(), []

    def flood() -> None:
        connection = gw.connect(who)
        while not stop.is_set():
            flooded.append(gw.call("POST", INFER, on=connection).status)

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(8)]
    connection = gw.connect("alice")
    gw.call("POST", INFER, on=connection)
    for thread in threads:
        thread.start()
    try:
        granted = [gw.call("POST", INFER, on=connection).status for _ in range(300)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(5)
    assert set(granted) == {200}
    assert len(flooded) > 50
    assert set(flooded) == {403 if who else 401}
