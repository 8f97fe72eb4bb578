"""The AuthZEN edge's HTTP/1.1: a unix socket whose peers the kernel names, and HTTPS whose peers show an X.509-SVID.

Rules
1. Who is at the other end is known before the first byte is read, and asked of the facts anew for each request.
2. A head is bounded, a body too; both are whole within `REQUEST_SECONDS` of their first byte, and a connection is idle for at most
   `IDLE_SECONDS`; else it is cut off. Connections are bounded, all together and of one peer.
3. Requests may follow each other without waiting (RFC 9112, section 9.3.2), `MAX_PIPELINED` at once; answers leave in their order.
4. A request's `X-Request-ID` comes back with its answer (section 10.1.3), if it is one line of printable text.
5. A body is `application/json`, else 400 (section 10.1.2); transfer codings beyond chunked, upgrades and CONNECT are none.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httptools

from vouchgate.edges.authzen.bodies import MAX_BODY_BYTES
from vouchgate.edges.authzen.desk import Desk
from vouchgate.edges.processes.rpc_server import peer_of
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import VerifiedPrincipal

MAX_HEAD_BYTES = 16 * 1024
"""Bytes of a request's line and headers."""
MAX_HEADERS = 64
MAX_REQUEST_ID = 256
"""Characters of X-Request-ID that come back; a longer one is 400."""
REQUEST_SECONDS = 5.0
"""A request is whole within this of its first byte."""
IDLE_SECONDS = 60.0
"""Between two requests of a connection."""
HANDSHAKE_SECONDS = 3.0
MAX_CONNECTIONS = 512
MAX_OF_PEER = 128
"""Connections of one uid or address."""
MAX_PIPELINED = 16
LOOK_SECONDS = 1.0
"""Between two looks at the clocks of all connections."""

log = logging.getLogger("vouchgate.authzen")
_REASONS = {200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
            500: b"Internal Server Error", 503: b"Service Unavailable"}  # fmt: skip

Caller = Callable[[], VerifiedPrincipal | Denied]


class Listeners:
    """Both listeners, and what their connections share."""

    def __init__(self, desk: Desk, *, by_uid: Callable[[int], VerifiedPrincipal | Denied], by_chain: Callable[[Any], Caller]) -> None:
        self.desk, self._by_uid, self._by_chain = desk, by_uid, by_chain
        self.open: set[Connection] = set()
        self._of_peer: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self._context: ssl.SSLContext | None = None
        self._looking: asyncio.TimerHandle | None = None
        self.port = 0

    async def listen_unix(self, path: Path) -> None:
        """The socket; whoever connects is known by SO_PEERCRED (unix(7))."""
        path.unlink(missing_ok=True)
        self._servers.append(await asyncio.get_running_loop().create_unix_server(lambda: Connection(self), str(path), backlog=256))
        path.chmod(0o666)
        self._look()

    def identity(self, context: ssl.SSLContext) -> None:
        """A renewed certificate or bundle holds from the next handshake on."""
        self._context = context

    async def listen_tls(self, host: str, port: int) -> None:
        """HTTPS; `identity` was told before. Raises `Unavailable`."""
        assert self._context is not None
        first = self._context

        def newest(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
            connection.context = self._context

        first.sni_callback = newest
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: Connection(self), host, port, ssl=first, ssl_handshake_timeout=HANDSHAKE_SECONDS, backlog=256
            )
        except OSError as error:
            raise Unavailable(
                f"{host}:{port} cannot be listened on: {error.strerror}", remedy="set `[authzen] listen` to a free address"
            ) from None
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]

    def enter(self, transport: Any) -> tuple[str, Caller] | None:
        """Rules 1 and 2: who a new connection is of, or None where there is no room."""
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            who, caller = f"address:{(transport.get_extra_info('peername') or ('',))[0]}", self._by_chain(tls)
        else:
            uid = peer_of(transport.get_extra_info("socket")).uid
            who, caller = f"uid:{uid}", lambda: self._by_uid(uid)
        if len(self.open) >= MAX_CONNECTIONS or self._of_peer.get(who, 0) >= MAX_OF_PEER:
            return None
        self._of_peer[who] = self._of_peer.get(who, 0) + 1
        return who, caller

    def leave(self, who: str) -> None:
        """A connection that was let in has ended."""
        left = self._of_peer.get(who, 0) - 1
        if left > 0:
            self._of_peer[who] = left
        else:
            self._of_peer.pop(who, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for one in list(self.open):
            one.look(now)
        self._looking = loop.call_later(LOOK_SECONDS, self._look)

    async def close(self) -> None:
        """Stop listening and end what is open."""
        if self._looking is not None:
            self._looking.cancel()
        for server in self._servers:
            server.close()
        for one in list(self.open):
            one.abort()


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners, self._desk = listeners, listeners.desk
        self._transport: Any = None
        self._who = ""
        self._answers: deque[list[bytes | None]] = deque()
        """One slot of each request, in order; None until it is answered."""
        self._closing = False
        self._time = asyncio.get_running_loop().time
        self._since = self._time()
        self._begun = False
        self._parser = httptools.HttpRequestParser(self)
        self._fresh()

    def _fresh(self) -> None:
        self._url = b""
        self._size = 0
        self._count = 0
        self._body: list[bytes] = []
        self._length = 0
        self._json = self._packed = False
        self._request_id = b""
        self._refuse = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        found = self._listeners.enter(transport)
        if found is None:
            log.warning("refused a connection: there are too many")
            transport.abort()
            return
        self._who, self._caller = found
        self._listeners.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._who:
            self._listeners.open.discard(self)
            self._listeners.leave(self._who)
        self._transport = None

    def look(self, now: float) -> None:
        """Rule 2."""
        if self._answers:
            return
        if now - self._since > (REQUEST_SECONDS if self._begun else IDLE_SECONDS):
            self.abort()

    def abort(self) -> None:
        """Cut it off."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._who or self._closing:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(b"the request is not HTTP/1.1")

    def _fail(self, why: bytes) -> None:
        """What follows cannot be told apart: answer, and close."""
        self._closing = True
        slot: list[bytes | None] = [None]
        self._answers.append(slot)
        self._fill(slot, 400, why, b"", last=True)

    # -- httptools calls these

    def on_message_begin(self) -> None:
        self._fresh()
        self._begun, self._since = True, self._time()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value))
        self._count += 1
        if self._count > MAX_HEADERS:
            self._refuse = b"there are too many headers"
        name = name.lower()
        if name == b"content-type":
            if self._json:
                self._refuse = b"content-type is there twice"
            self._json = value.partition(b";")[0].strip().lower() == b"application/json"
        elif name == b"content-encoding":
            self._packed = True
        elif name == b"expect" and value.lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif name == b"x-request-id":
            if self._request_id or len(value) > MAX_REQUEST_ID or not value.isascii() or not value.decode("ascii").isprintable():
                self._refuse = b"x-request-id is not one short line of text"
            else:
                self._request_id = value

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_HEAD_BYTES:
            # nobody reads on to the end of such a head
            self.abort()
            self._closing = True

    def on_body(self, body: bytes) -> None:
        self._length += len(body)
        if self._length > MAX_BODY_BYTES:
            if not self._closing:
                self._fail(b"the body is over the bound of 262144 bytes")
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._closing:
            return
        self._begun, self._since = False, self._time()
        if len(self._answers) >= MAX_PIPELINED:
            self.abort()
            self._closing = True
            return
        slot: list[bytes | None] = [None]
        self._answers.append(slot)
        last = not self._parser.should_keep_alive()
        self._closing = last
        request_id = self._request_id
        method = self._parser.get_method().decode("latin-1")
        if self._refuse or (method == "POST" and (not self._json or self._packed)):
            self._fill(slot, 400, self._refuse or b"the body is not declared as application/json", b"", last=last)
            return

        def reply(status: int, body: bytes) -> None:
            self._fill(slot, status, body, request_id, last=last)

        self._desk.ask(method, self._url.decode("latin-1"), b"".join(self._body), self._caller, reply)

    # -- answers

    def _fill(self, slot: list[bytes | None], status: int, body: bytes, request_id: bytes, *, last: bool) -> None:
        """Rules 3 and 4."""
        media = b"application/json" if status == 200 else b"text/plain; charset=utf-8"
        head = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\ncache-control: no-store\r\n" % (
            status, _REASONS.get(status, b"-"), media, len(body),
        )  # fmt: skip
        if request_id:
            head += b"x-request-id: %s\r\n" % request_id
        if status == 401:
            head += b'www-authenticate: Mutual realm="vouchgate"\r\n'
        if status == 503:
            head += b"retry-after: 1\r\n"
        slot[0] = head + (b"connection: close\r\n\r\n" if last else b"\r\n") + body
        if self._transport is None:
            return
        ready: list[bytes] = []
        while self._answers and self._answers[0][0] is not None:
            ready.append(self._answers.popleft()[0] or b"")
        if ready:
            self._since = self._time()
            self._transport.write(b"".join(ready))
        if self._closing and not self._answers:
            self._transport.close()

    def pause_writing(self) -> None:
        """A peer that does not read its answers asks no more."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()
