"""Frames over a unix socket, both ends: what a slow, hostile, restarted or foreign peer does to the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vouchgate.edges.processes import rpc_server
from vouchgate.edges.processes.rpc_server import Handler, Peer, serve
from vouchgate.ports import rpc
from vouchgate.ports.rpc import AsyncRpcClient, RpcClient
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotPermitted, Unavailable, VouchgateError
from vouchgate.vocabulary.frames import MAX_FRAME_BYTES, body_length, frame, read_answer, read_request

ME = {os.getuid()}
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another uid")


@pytest.fixture
def path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vg"))
    folder.chmod(0o755)
    yield folder / "s.sock"
    shutil.rmtree(folder)


async def echo(peer: Peer, params: dict[str, Any]) -> Any:
    return {"uid": peer.uid, **params}


async def refuse(peer: Peer, params: dict[str, Any]) -> Any:
    raise Conflict("it is taken", remedy="take another")


async def crash(peer: Peer, params: dict[str, Any]) -> Any:
    raise RuntimeError("the secret is 1234")


async def slow(peer: Peer, params: dict[str, Any]) -> Any:
    await asyncio.sleep(params["seconds"])
    return params["seconds"]


async def strange(peer: Peer, params: dict[str, Any]) -> Any:
    return object()


async def large(peer: Peer, params: dict[str, Any]) -> Any:
    return b"x" * params["bytes"]


HANDLERS: dict[str, Handler] = {"echo": echo, "refuse": refuse, "crash": crash, "slow": slow, "strange": strange, "large": large}


@contextlib.asynccontextmanager
async def served(path: Path, **options: Any) -> AsyncIterator[AsyncRpcClient]:
    server = await serve(path, HANDLERS, allowed_uids=options.pop("allowed_uids", ME), on_refused=options.pop("on_refused", None))
    client = AsyncRpcClient(path, "server", **options)
    try:
        yield client
    finally:
        await client.close()
        server.close()


def test_an_answer_and_the_kernels_word_on_who_asks(path: Path) -> None:
    async def go() -> None:
        async with served(path) as client:
            assert await client.call("echo", a=1, b=b"\xff") == {"uid": os.getuid(), "a": 1, "b": b"\xff"}

    asyncio.run(go())


def test_a_typed_refusal_arrives_as_the_same_type(path: Path) -> None:
    async def go() -> None:
        async with served(path) as client:
            with pytest.raises(Conflict, match="it is taken") as caught:
                await client.call("refuse")
            assert caught.value.remedy == "take another"
            with pytest.raises(InvalidInput, match="not a method"):
                await client.call("no-such-method")

    asyncio.run(go())


@pytest.mark.parametrize("method", ["crash", "strange"])
def test_a_handlers_fault_tells_nothing_and_ends_nothing(method: str, path: Path) -> None:
    async def go() -> None:
        async with served(path) as client:
            with pytest.raises(VouchgateError) as caught:
                await client.call(method)
            assert "1234" not in str(caught.value) + caught.value.remedy
            assert await client.call("echo", a=1)

    asyncio.run(go())


def test_an_answer_over_the_bound_is_told_so(path: Path) -> None:
    async def go() -> None:
        async with served(path) as client:
            with pytest.raises(InvalidInput, match="over the bound"):
                await client.call("large", bytes=MAX_FRAME_BYTES + 1)
            assert len(await client.call("large", bytes=1 << 20)) == 1 << 20
            with pytest.raises(InvalidInput, match="over the bound"):
                await client.call("echo", a=b"x" * (MAX_FRAME_BYTES + 1))

    asyncio.run(go())


def test_a_thousand_calls_at_once_each_get_their_own_answer(path: Path) -> None:
    async def go() -> None:
        async with served(path) as client:
            answers = await asyncio.gather(*(client.call("echo", n=number, pad=b"x" * (number % 900)) for number in range(1000)))
            assert [one["n"] for one in answers] == list(range(1000))

    asyncio.run(go())


def test_a_slow_call_holds_up_no_other_and_ends_at_its_deadline(path: Path) -> None:
    async def go() -> None:
        async with served(path, timeout=0.3) as client:
            waiting = asyncio.create_task(client.call("slow", seconds=5))
            await asyncio.sleep(0.01)
            began = time.monotonic()
            assert await client.call("echo", a=1)
            assert time.monotonic() - began < 0.25
            with pytest.raises(Unavailable, match="does not answer"):
                await waiting
            assert await client.call("echo", a=2), "a late answer is nobody's"
            assert client._waiting == {}

    asyncio.run(go())


def test_work_at_once_on_one_connection_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server, "MAX_AT_ONCE", 3)
    at_once: list[int] = [0, 0]

    async def count(peer: Peer, params: dict[str, Any]) -> Any:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await asyncio.sleep(0.005)
        at_once[0] -= 1

    async def go() -> None:
        monkeypatch.setitem(HANDLERS, "count", count)
        async with served(path) as client:
            await asyncio.gather(*(client.call("count") for _ in range(20)))
        assert at_once[1] == 3

    asyncio.run(go())


def test_a_server_that_was_restarted_is_found_again(path: Path) -> None:
    async def go() -> None:
        client = AsyncRpcClient(path, "server", timeout=1)
        with pytest.raises(Unavailable, match=r"does not answer on s\.sock"):
            await client.call("echo")
        for _ in range(2):
            async with served(path) as other:
                assert await client.call("echo", a=1)
                assert await other.call("echo", a=1)
                for task in asyncio.all_tasks():
                    if "connection" in repr(task.get_coro()):
                        task.cancel()
                await asyncio.sleep(0.01)
            with pytest.raises(Unavailable):
                await client.call("echo")
        await client.close()

    asyncio.run(go())


# --- peers that do not play by the rules --------------------------------------------------------------------------------------------


class Rogue:
    """A server that answers the first request on each connection with given bytes."""

    def __init__(self, path: Path, answer: Callable[[socket.socket, int], None]) -> None:
        self._answer = answer
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(8)
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            header = peer.recv(4, socket.MSG_WAITALL)
            number = read_request(peer.recv(body_length(header), socket.MSG_WAITALL))[0]
            self._answer(peer, number)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(2)


def drip(peer: socket.socket, number: int) -> None:
    for byte in frame((number, True, "x" * 1000)):
        peer.sendall(bytes([byte]))
        time.sleep(0.05)


ROGUES: dict[str, Callable[[socket.socket, int], None]] = {
    "closes": lambda peer, number: None,
    "garbage": lambda peer, number: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "announces too much": lambda peer, number: peer.sendall(b"\xff\xff\xff\xff" + b"x" * 100),
    "no answer in the frame": lambda peer, number: peer.sendall(frame("hello")),
    "half a frame": lambda peer, number: peer.sendall(frame((number, True, "x" * 100))[:50]),
    "another question's answer": lambda peer, number: (peer.sendall(frame((number + 7, True, "stolen"))), time.sleep(1)),  # type: ignore[func-returns-value]
    "drips": drip,
    "says nothing": lambda peer, number: time.sleep(1),
    "refuses without saying what": lambda peer, number: peer.sendall(frame((number, False, ["no"]))),
}


@pytest.mark.parametrize("rogue", ROGUES)
def test_a_peer_that_answers_nonsense_is_unavailable_within_the_deadline(rogue: str, path: Path) -> None:
    server = Rogue(path, ROGUES[rogue])
    try:
        blocking, began = RpcClient(path, "server", timeout=0.3), time.monotonic()
        with pytest.raises(Unavailable):
            blocking.call("echo")

        async def ask() -> None:
            client = AsyncRpcClient(path, "server", timeout=0.3)
            with pytest.raises(Unavailable):
                await client.call("echo")
            await client.close()

        asyncio.run(ask())
        assert time.monotonic() - began < 0.9
        blocking.close()
    finally:
        server.close()


def test_the_blocking_client_never_takes_the_late_answer_of_an_earlier_call(path: Path) -> None:
    def late(peer: socket.socket, number: int) -> None:
        time.sleep(0.15)
        peer.sendall(frame((number, True, "late")))
        header = peer.recv(4, socket.MSG_WAITALL)
        second = read_request(peer.recv(body_length(header), socket.MSG_WAITALL))[0]
        peer.sendall(frame((second, True, "second")))

    server = Rogue(path, late)
    try:
        client = RpcClient(path, "server", timeout=0.1)
        for _ in range(2):
            with pytest.raises(Unavailable):
                client.call("echo")
            time.sleep(0.1)
        assert server.connections == 2
    finally:
        server.close()


def test_a_peer_that_does_not_read_costs_bounded_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "MAX_UNSENT_BYTES", 1 << 20)
    server = Rogue(path, lambda peer, number: time.sleep(5))

    async def go() -> None:
        client = AsyncRpcClient(path, "server", timeout=0.05)
        for _ in range(12):
            with pytest.raises(Unavailable):
                await client.call("echo", a=b"x" * (1 << 20))
            waiting = client._writer.transport.get_write_buffer_size() if client._writer else 0
            assert waiting <= 3 << 20
        assert server.connections > 1
        await client.close()

    try:
        asyncio.run(go())
    finally:
        server.close()


def test_the_blocking_client_is_shared_between_threads(path: Path) -> None:
    results: list[Any] = []

    async def go() -> None:
        async with served(path):
            client = RpcClient(path, "server")

            def ask(number: int) -> None:
                results.append(client.call("echo", n=number)["n"] == number)

            await asyncio.gather(*(asyncio.to_thread(ask, number) for number in range(100)))
            client.close()

    asyncio.run(go())
    assert results == [True] * 100


async def raw(path: Path, *parts: bytes | float) -> bytes:
    """Send bytes and pauses, then read until the server closes or half a second is over."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(part)
        async with asyncio.timeout(0.6):
            return await reader.read()
    except TimeoutError:
        return b"still open"
    finally:
        writer.close()


@pytest.mark.parametrize(
    "parts",
    [(b"\xff\xff\xff\xff",), (frame((1, "echo", {}))[:-1], 0.3), (b"\0", 0.3), (b"\0\0\0\x05abc", 0.3)],
    ids=["too long", "half a frame", "one byte of a header", "half a body"],
)
def test_a_client_that_sends_no_whole_frame_is_cut_off(parts: tuple[Any, ...], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server, "IDLE_FRAME_SECONDS", 0.1)

    async def go() -> None:
        async with served(path) as client:
            assert await raw(path, *parts) == b""
            assert await client.call("echo", a=1)

    asyncio.run(go())


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x93\x01\xa4echo\x90", b"\x94\x01\xa4echo\x80\x80", b"\xff" * 50])
def test_a_frame_that_is_no_request_is_answered_as_such(body: bytes, path: Path) -> None:
    async def go() -> None:
        async with served(path):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(len(body).to_bytes(4, "big") + body)
            said = read_answer(await reader.readexactly(body_length(await reader.readexactly(4))))
            assert said[:2] == (0, False)
            assert said[2]["code"] == "invalid-input"
            writer.close()

    asyncio.run(go())


def test_a_client_that_never_reads_is_read_no_further(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server, "MAX_AT_ONCE", 4)
    answered: list[int] = []

    async def big(peer: Peer, params: dict[str, Any]) -> Any:
        answered.append(1)
        return b"x" * 500_000

    async def go() -> None:
        monkeypatch.setitem(HANDLERS, "big", big)
        async with served(path) as client:
            _, writer = await asyncio.open_unix_connection(str(path), limit=1024)
            for number in range(1, 200):
                writer.write(frame((number, "big", {})))
            await asyncio.sleep(0.2)
            assert len(answered) < 20
            assert await client.call("echo", a=1)
            writer.transport.abort()

    asyncio.run(go())


def test_connections_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server, "MAX_CONNECTIONS", 3)

    async def go() -> None:
        async with served(path) as client:
            open_ones = [await asyncio.open_unix_connection(str(path)) for _ in range(3)]
            await asyncio.sleep(0.02)
            with pytest.raises((Unavailable, NotPermitted, LimitExceeded)):
                await client.call("echo", a=1)
            for _, writer in open_ones:
                writer.close()
            await asyncio.sleep(0.02)
            assert await client.call("echo", a=1)

    asyncio.run(go())


def test_a_peer_that_goes_away_ends_its_work(path: Path) -> None:
    ended = asyncio.Event()

    async def endless(peer: Peer, params: dict[str, Any]) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def go() -> None:
        server = await serve(path, {"endless": endless}, allowed_uids=ME)
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.write(frame((1, "endless", {})))
        await asyncio.sleep(0.02)
        writer.close()
        await asyncio.wait_for(ended.wait(), 2)
        server.close()

    asyncio.run(go())


def test_a_uid_that_is_not_listed_is_told_so_by_both_clients(path: Path) -> None:
    refused: list[int] = []

    async def go() -> None:
        async with served(path, allowed_uids={0x7FFFFFFF}, on_refused=lambda peer: refused.append(peer.uid)) as client:
            with pytest.raises(NotPermitted, match=f"uid {os.getuid()} may not use s.sock"):
                await client.call("echo")
            blocking = RpcClient(path, "server")
            for _ in range(2):
                with pytest.raises(NotPermitted):
                    await asyncio.to_thread(blocking.call, "echo")
            blocking.close()

    asyncio.run(go())
    assert refused == [os.getuid()] * 3


@root_only
def test_another_uid_is_refused_by_the_kernels_word(path: Path) -> None:
    program = (
        "import sys, os, socket; os.setgroups([]); os.setgid(58999); os.setuid(58999)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(3); print(s.recv(4096))"
    )

    async def go() -> None:
        async with served(path, allowed_uids={0}):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, error = await child.communicate()
            assert b"uid 58999 may not use" in out, error

    asyncio.run(go())
