"""A lean closed-loop caller on one keep-alive connection: the same code and cost in every row.

A call is sent as one prebuilt buffer and read until its Content-Length is complete; the latency runs from before the first byte is
written to after the last byte is read. Blocking sockets: no event loop stands between the kernel and the clock.
"""

from __future__ import annotations

import socket
import ssl
import time

import msgspec

TIMEOUT_SECONDS = 10.0
DIGIT = [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0,
         0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0]  # fmt: skip
"""The first picture of scikit-learn's digits: 64 grey values, 0 to 16."""
PAYLOAD = msgspec.json.encode(
    {"id": "bench", "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 64], "data": [float(value) for value in DIGIT]}]}
)
"""A real inference request of the Open Inference Protocol (V2), REST."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a row calls, and as whom."""

    name: str
    address: tuple[str, int]
    request: bytes
    tls: ssl.SSLContext | None = None
    server_name: str = "localhost"


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: bytes) -> bytes:
        """A header's value by its lower-case name; empty where it is absent."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name:
                return value.strip()
        return b""


class BadAnswer(Exception):
    """The other side closed, or spoke something that a row cannot count."""


def request(
    path: str, *, host: str = "localhost", method: str = "POST", body: bytes = PAYLOAD, headers: dict[str, str] | None = None
) -> bytes:
    """One HTTP/1.1 request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect(target: Target, timeout: float = TIMEOUT_SECONDS) -> socket.socket:
    """A connected socket, TLS finished."""
    sock = socket.create_connection(target.address, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock if target.tls is None else target.tls.wrap_socket(sock, server_hostname=target.server_name)


class Connection:
    """One keep-alive connection."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.sock = connect(target)

    def call(self, data: bytes | None = None) -> tuple[int, Answer]:
        """Nanoseconds and the answer. Raises `BadAnswer`, OSError."""
        data = self.target.request if data is None else data
        start = time.monotonic_ns()
        self.sock.sendall(data)
        buffer = self.sock.recv(65536)
        end = buffer.find(b"\r\n\r\n")
        while end < 0:
            buffer += self._more()
            end = buffer.find(b"\r\n\r\n")
        need = end + 4 + length_of(buffer[:end])
        while len(buffer) < need:
            buffer += self._more()
        took = time.monotonic_ns() - start
        return took, Answer(int(buffer[9:12]), buffer[:end], buffer[end + 4 :])

    def _more(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise BadAnswer(f"{self.target.name} closed the connection")
        return data

    def close(self) -> None:
        """Close it."""
        self.sock.close()


def length_of(head: bytes) -> int:
    """Content-Length of a response head. Raises `BadAnswer` where there is none: chunked answers are not measured."""
    at = head.lower().find(b"content-length:")
    if at < 0:
        raise BadAnswer("an answer without content-length")
    return int(head[at + 15 :].split(b"\r\n", 1)[0])


def statuses(target: Target, count: int = 1) -> list[int]:
    """Statuses of a few calls on a fresh connection; 0 where the connection was refused or closed."""
    try:
        connection = Connection(target)
    except OSError:
        return [0] * count
    found = []
    try:
        for _ in range(count):
            found.append(connection.call()[1].status)
    except (OSError, BadAnswer):
        found.append(0)
    finally:
        connection.close()
    return found
