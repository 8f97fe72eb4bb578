"""A caller that floods the API: it is slowed down, and nobody else is."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from typing import Any

import pytest
from surface_memory import MemorySurface
from surface_served import Served

from vouchgate.edges.api import guard, server

ASK = b"GET /api/v1/zones HTTP/1.1\r\nhost: x\r\n\r\n"


def connect(api: Served) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(str(api.socket))
    return sock


def answer(sock: socket.socket) -> bytes:
    """One whole answer, or nothing where the connection is closed."""
    got = b""
    try:
        sock.sendall(ASK)
        while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < int(got.partition(b"content-length: ")[2].partition(b"\r")[0]):
            part = sock.recv(65536)
            if not part:
                return b""
            got += part
    except ConnectionError:
        return b""
    return got


def test_a_refusal_for_too_many_is_held_back_and_an_answer_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []

    async def note(seconds: float) -> None:
        held.append(seconds)

    monkeypatch.setattr(guard.asyncio, "sleep", note)
    with Served(requests_per_second=2.0, hurry=0.0) as api:
        sock = connect(api)
        statuses = [answer(sock)[9:12] for _ in range(7)]
        sock.close()
    assert statuses == [b"200"] * 4 + [b"429"] * 3
    assert [one for one in held if one == guard.HOLD_SECONDS] == [guard.HOLD_SECONDS] * 3


def test_one_uid_has_at_most_half_of_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS_PER_UID", 3)
    with Served() as api:
        held = [connect(api) for _ in range(3)]
        assert [answer(sock)[9:12] for sock in held] == [b"200"] * 3
        assert answer(connect(api)) == b""
        held.pop().close()
        deadline, got = time.monotonic() + 5, b""
        while got[9:12] != b"200" and time.monotonic() < deadline:
            got = answer(connect(api))
        assert got[9:12] == b"200"
        for sock in held:
            sock.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another uid")
def test_another_uid_is_served_while_one_holds_all_that_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS_PER_UID", 2)
    with Served() as api:
        held = [connect(api) for _ in range(2)]
        assert [answer(sock)[9:12] for sock in held] == [b"200"] * 2
        assert answer(connect(api)) == b""
        api.folder.chmod(0o711)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setuid(65_534)
            os.write(write, answer(connect(api))[9:12])
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 3) in {b"200", b"403"}
        os.close(read)
        os.close(write)


def test_of_one_uid_four_requests_are_worked_on_at_once_and_the_rest_wait() -> None:
    surface, at_once, most, going = MemorySurface(), 0, 0, threading.Event()

    async def zones(caller: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        while not going.is_set():
            await asyncio.sleep(0.005)
        at_once -= 1
        return ()

    surface.zones = zones  # type: ignore[method-assign]
    with Served(surface) as api:
        held = [connect(api) for _ in range(9)]
        for sock in held:
            sock.sendall(ASK)
        deadline = time.monotonic() + 5
        while at_once < guard.AT_ONCE and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert (at_once, most) == (guard.AT_ONCE, guard.AT_ONCE)
        held.pop().close()
        going.set()
        assert all(sock.recv(4096).startswith(b"HTTP/1.1 200") for sock in held)
        assert most == guard.AT_ONCE
        assert answer(connect(api))[9:12] == b"200"
