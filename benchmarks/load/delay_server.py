"""A model server that answers after an exact delay, the same process behind every row of a run.

Rules
1. The delay counts from the last byte of the request. The timer is a timerfd with nanosecond deadlines: `epoll_wait` and libuv both
   round to milliseconds, which is a fifth of the delay that the rows compare.
2. `burn` spends the delay on the processor, as a model that computes does; otherwise the server sleeps, as one that waits for an
   accelerator does.
3. A path that ends in `/chat/completions` streams server-sent events every `STREAM_GAP_SECONDS` until the peer goes away.
4. One thread, no framework: what it costs is small and the same in every row.

Usage: python -m benchmarks.load.delay_server LISTEN=DELAY_MS[,burn] ...   (LISTEN: `unix:/path` or `tcp:host:port`)
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import msgspec

STREAM_GAP_SECONDS = 0.05
MAX_REQUEST_BYTES = 1 << 20
BODY = (
    b'{"model_name":"digits","model_version":"1","id":"bench","outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[3]},'
    b'{"name":"probabilities","datatype":"FP32","shape":[1,10],"data":[0.01,0.01,0.01,0.91,0.01,0.01,0.01,0.01,0.01,0.01]}]}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
STREAM_EVENT = b"%x\r\n%s\r\n" % (len(_EVENT), _EVENT)
_libc = ctypes.CDLL(None, use_errno=True)


class Listen(msgspec.Struct, frozen=True):
    """One listening socket and the delay of what it answers."""

    address: str
    delay_ns: int
    burn: bool = False


class _Client:
    __slots__ = ("buffer", "listen", "sock", "streaming")

    def __init__(self, sock: socket.socket, listen: Listen) -> None:
        self.sock, self.listen, self.buffer, self.streaming = sock, listen, b"", False


class _Timer:
    """timerfd_create(2) on CLOCK_MONOTONIC, armed with the earliest deadline."""

    def __init__(self) -> None:
        self.fd = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        self.due: list[tuple[int, int, _Client]] = []
        self._order = itertools.count()

    def at(self, when_ns: int, client: _Client) -> None:
        heapq.heappush(self.due, (when_ns, next(self._order), client))
        if self.due[0][0] == when_ns:
            self._arm(when_ns)

    def _arm(self, when_ns: int) -> None:
        spec = struct.pack("4q", 0, 0, when_ns // 1_000_000_000, when_ns % 1_000_000_000)
        _libc.timerfd_settime(self.fd, 1, spec, None)

    def expired(self) -> list[_Client]:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)
        now, ready = time.monotonic_ns(), []
        while self.due and self.due[0][0] <= now:
            ready.append(heapq.heappop(self.due)[2])
        if self.due:
            self._arm(self.due[0][0])
        return ready


class Server:
    """The event loop: listeners, clients, one timer."""

    def __init__(self, listens: list[Listen]) -> None:
        self._epoll = select.epoll()
        self._timer = _Timer()
        self._clients: dict[int, _Client] = {}
        self._listeners: dict[int, tuple[socket.socket, Listen]] = {}
        self._epoll.register(self._timer.fd, select.EPOLLIN)
        for listen in listens:
            sock = _listening(listen.address)
            self._listeners[sock.fileno()] = (sock, listen)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Serve until the process is told to end."""
        while True:
            for fd, _ in self._epoll.poll():
                if fd in self._listeners:
                    self._accept(*self._listeners[fd])
                elif fd == self._timer.fd:
                    for client in self._timer.expired():
                        self._due(client)
                elif fd in self._clients:
                    self._read(self._clients[fd])

    def _accept(self, sock: socket.socket, listen: Listen) -> None:
        try:
            peer, _ = sock.accept()
        except OSError:
            return
        peer.setblocking(False)
        if peer.family == socket.AF_INET:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[peer.fileno()] = _Client(peer, listen)
        self._epoll.register(peer.fileno(), select.EPOLLIN)

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(client.buffer) > MAX_REQUEST_BYTES:
            self._drop(client)
            return
        client.buffer += data
        head, separator, rest = client.buffer.partition(b"\r\n\r\n")
        if separator and len(rest) >= _content_length(head):
            client.buffer = b""
            self._request(client, head)

    def _request(self, client: _Client, head: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path.endswith(b"/chat/completions"):
            client.streaming = True
            self._send(client, STREAM_HEAD + STREAM_EVENT)
            self._timer.at(time.monotonic_ns() + int(STREAM_GAP_SECONDS * 1e9), client)
        elif client.listen.delay_ns == 0:
            self._send(client, ANSWER)
        elif client.listen.burn:
            until = time.thread_time_ns() + client.listen.delay_ns
            while time.thread_time_ns() < until:
                pass
            self._send(client, ANSWER)
        else:
            self._timer.at(time.monotonic_ns() + client.listen.delay_ns, client)

    def _due(self, client: _Client) -> None:
        if client.sock.fileno() < 0:
            return
        self._send(client, STREAM_EVENT if client.streaming else ANSWER)
        if client.streaming and client.sock.fileno() >= 0:
            self._timer.at(time.monotonic_ns() + int(STREAM_GAP_SECONDS * 1e9), client)

    def _send(self, client: _Client, data: bytes) -> None:
        try:
            client.sock.send(data)
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        client.sock.close()


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])


def _listening(address: str) -> socket.socket:
    kind, _, where = address.partition(":")
    if kind == "unix":
        Path(where).unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(where)
    else:
        host, _, port = where.rpartition(":")
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    sock.listen(512)
    sock.setblocking(False)
    return sock


def parse(argument: str) -> Listen:
    """`unix:/path=5` or `tcp:127.0.0.1:9000=5,burn`."""
    address, _, how = argument.rpartition("=")
    delay, _, burn = how.partition(",")
    return Listen(address, int(float(delay) * 1e6), burn == "burn")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _libc.prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK: wake at the deadline, not up to 50 us after it
    Server([parse(argument) for argument in sys.argv[1:]]).run()
