"""A small HTTP/1.1 server for one process: what the two example servers share.

Rules
1. It listens on a descriptor that was handed down, on a unix socket, or on a loopback port; nowhere else.
2. With `--allow-uid`, the kernel's word on the peer (SO_PEERCRED) is checked before the first byte is read; that needs a unix socket.
3. Requests on one connection are answered in order; head, body, and the time a peer may take are bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import signal
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httptools
import uvloop

MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_WAITING = 64
"""Pipelined requests of one connection; reading stops beyond it."""
IDLE_SECONDS = 120.0
"""A connection on which nothing happens for this long is closed; Envoy keeps its own for an hour and opens a new one."""
BEGIN_SECONDS = 15.0
"""A request that has begun must be complete within this."""


@dataclass(slots=True)
class Request:
    """One request, whole."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True


@dataclass(slots=True)
class Response:
    """One answer: a body, or chunks as they come."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()
    chunks: AsyncIterator[bytes] | None = None


Handler = Callable[[Request], Response | Awaitable[Response]]
_REASONS = {status.value: status.phrase for status in HTTPStatus}


def json_response(status: int, value: Any, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """A JSON document."""
    return Response(status=status, body=json.dumps(value, separators=(",", ":")).encode(), headers=headers)


def head_of(response: Response, *, keep_alive: bool) -> bytes:
    """Status line and header fields (RFC 9112, sections 4 and 5)."""
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}", f"content-type: {response.content_type}"]
    lines.append("transfer-encoding: chunked" if response.chunks is not None else f"content-length: {len(response.body)}")
    lines += [f"{name}: {value}" for name, value in response.headers]
    if not keep_alive:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, handler: Handler, allow_uids: frozenset[int], open_now: set[Connection]) -> None:
        self._handler, self._allow_uids, self._open_now = handler, allow_uids, open_now
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._request = Request()
        self._body: list[bytes] = []
        self._body_bytes = self._head_bytes = 0
        self._busy: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        if self._allow_uids and _peer_uid(transport) not in self._allow_uids:
            self._refuse(403, "this peer may not call this server")
            return
        self._open_now.add(self)
        self._expect(IDLE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._open_now.discard(self)
        self._writable.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._busy is not None:
            self._busy.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "upgrades are not supported")
        except _TooLarge as error:
            self._refuse(413 if error.body else 431, "the request is too large")
        except httptools.HttpParserError as error:
            inner = error.__context__
            if isinstance(inner, _TooLarge):
                self._refuse(413 if inner.body else 431, "the request is too large")
            else:
                self._refuse(400, "the request is not HTTP/1.1")

    # httptools
    def on_message_begin(self) -> None:
        self._request, self._body, self._body_bytes, self._head_bytes = Request(), [], 0, 0
        self._expect(BEGIN_SECONDS)

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            raise _TooLarge(body=True)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # the parser stops here by raising HttpParserUpgrade, and that is answered with a refusal
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        request.body = b"".join(self._body)
        self._waiting.append(request)
        self._expect(0)
        if len(self._waiting) >= MAX_WAITING:
            self._transport.pause_reading()
        if self._busy is None:
            self._next()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _TooLarge(body=False)

    def _next(self) -> None:
        """Answer what waits; at once where the handler does, else in a task."""
        while self._waiting and not self._closing:
            request = self._waiting.popleft()
            answer = self._handler(request)
            if isinstance(answer, Response) and answer.chunks is None:
                self._send(request, answer)
                continue
            self._busy = asyncio.get_running_loop().create_task(self._later(request, answer))
            return
        if not self._closing:
            self._transport.resume_reading()
            self._expect(IDLE_SECONDS)

    async def _later(self, request: Request, answer: Response | Awaitable[Response]) -> None:
        try:
            response = answer if isinstance(answer, Response) else await answer
            if response.chunks is None:
                self._send(request, response)
            else:
                await self._stream(request, response)
        except (ConnectionError, asyncio.CancelledError):
            self.close()
            return
        finally:
            self._busy = None
        self._next()

    def _send(self, request: Request, response: Response) -> None:
        body = b"" if request.method == "HEAD" else response.body
        self._transport.write(head_of(response, keep_alive=request.keep_alive) + body)
        if not request.keep_alive:
            self.close()

    async def _stream(self, request: Request, response: Response) -> None:
        """Chunked transfer coding (RFC 9112, section 7.1); waits while the client does not read."""
        assert response.chunks is not None
        self._transport.write(head_of(response, keep_alive=request.keep_alive))
        async with contextlib.aclosing(response.chunks) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                await self._writable.wait()
                if self._closing:
                    return
                self._transport.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self._transport.write(b"0\r\n\r\n")
        if not request.keep_alive:
            self.close()

    def _refuse(self, status: int, why: str) -> None:
        self._transport.write(head_of(answer := json_response(status, {"error": why}), keep_alive=False) + answer.body)
        self.close()

    def _expect(self, seconds: float) -> None:
        """Close unless something happens within `seconds`; 0 waits for ever (an answer is being made)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.close)

    def close(self) -> None:
        """Close after what was written."""
        self._closing = True
        self._transport.close()

    def finish(self) -> None:
        """End of the server: close now if nothing is being answered, else after it."""
        if self._busy is None:
            self.close()


class _TooLarge(Exception):
    def __init__(self, *, body: bool) -> None:
        super().__init__()
        self.body = body


def _peer_uid(transport: asyncio.Transport) -> int:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return -1
    uid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    return uid


def add_listen_options(parser: argparse.ArgumentParser) -> None:
    """`--fd | --unix | --tcp` and `--allow-uid`."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="a listening socket that was handed down")
    where.add_argument("--unix", type=Path, help="path of a unix socket to make")
    where.add_argument("--tcp", help="loopback address to listen on, for example 127.0.0.1:9000")
    parser.add_argument("--allow-uid", type=int, action="append", default=[], help="only this uid may call (unix sockets; may be repeated)")


def listening_socket(options: argparse.Namespace) -> socket.socket:
    """The socket that the options name. Ends the program with a clear line where it cannot be had."""
    if options.fd is not None:
        sock = socket.socket(fileno=options.fd)
    elif options.unix is not None:
        options.unix.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(options.unix))
    else:
        host, _, port = options.tcp.rpartition(":")
        if not ipaddress.ip_address(host.strip("[]")).is_loopback:
            raise SystemExit(f"`{host}` is not a loopback address; put a gateway in front and listen on 127.0.0.1")
        sock = socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    if options.allow_uid and sock.family != socket.AF_UNIX:
        raise SystemExit("--allow-uid needs a unix socket: the kernel names the peer of no other")
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def run(handler: Handler, options: argparse.Namespace, *, name: str) -> None:
    """Serve until SIGTERM or SIGINT; then answer what has begun, and end."""
    sock = listening_socket(options)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        open_now: set[Connection] = set()
        allow = frozenset(options.allow_uid)

        def connection() -> Connection:
            return Connection(handler, allow, open_now)

        if sock.family == socket.AF_UNIX:
            server = await loop.create_unix_server(connection, sock=sock)
        else:
            server = await loop.create_server(connection, sock=sock)
        print(f"{name} ready on {sock.getsockname()}", flush=True)
        await ended.wait()
        server.close()
        for each in list(open_now):
            each.finish()
        for _ in range(40):
            if not open_now:
                break
            await asyncio.sleep(0.05)

    uvloop.run(serve())
