"""The bounds that every HTTP server of ours shares: a head whole in time, a body whole in time and size, nothing read that was not declared.

Rules
1. A request's head is whole within so many seconds of its first byte, the first one within as many of the connection; else it is cut off.
2. A body is of the one media type that the resource takes, not packed, bounded before it is parsed, and whole within so many seconds.
3. A TLS handshake is over within `HANDSHAKE_SECONDS`; closing a listener ends what is open.
Left to others: who is at the other end, how many connections there may be (each server), what a body means (each resource).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, ClassVar

import h11
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable

HANDSHAKE_SECONDS = 3.0
"""A client that is slower than this holds a socket and gives nothing for it."""


class TimedHead(H11Protocol):
    """uvicorn's HTTP/1.1 with rule 1."""

    head_seconds: ClassVar[float]
    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_due = self.loop.call_later(self.head_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._head_due is None:
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or not self.conn.trailing_data[0]:
            self._head_due.cancel()
        elif self._head_due.cancelled():
            self._head_due = self.loop.call_later(self.head_seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_due is None:
            return
        self._head_due.cancel()
        super().connection_lost(exc)


def served_by(protocol: type[Any], app: ASGIApp, *, head_bytes: int, connections: int, keep_alive: int) -> Config:
    """uvicorn's settings for an app: HTTP/1.1 alone, nothing logged, nothing believed about the way here, nothing said about the server."""
    config = Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=keep_alive,
        limit_concurrency=connections,
        h11_max_incomplete_event_size=head_bytes,
    )
    config.load()
    return config


class Listening:
    """One TLS listener inside the running event loop; `port` is the one that was taken."""

    def __init__(self, protocol: type[H11Protocol], *, backlog: int) -> None:
        self._protocol, self._backlog = protocol, backlog
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def listen(self, host: str, port: int, config: Config, tls: ssl.SSLContext, *, who: str, remedy: str) -> None:
        """Begin. Raises `Unavailable` where the port is taken, said of `who`."""
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: self._protocol(config=config, server_state=self._state, app_state={}),
                host,
                port,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                backlog=self._backlog,
            )
        except OSError as error:
            raise Unavailable(f"{who} cannot listen on {host}:{port}: {error.strerror or error}", remedy=remedy) from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end what is open."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)


async def whole_body(request: Request, media: str, *, most: int, seconds: float, remedy: str = "send a smaller one") -> bytes:
    """Rule 2. Raises `InvalidInput`, `LimitExceeded`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media or "content-encoding" in request.headers:
        raise InvalidInput(f"the body is not declared as plain {media}", remedy=f"send `content-type: {media}`")
    found = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                found += part
                if len(found) > most:
                    raise LimitExceeded(f"the body is over the bound of {most} bytes", remedy=remedy)
    except (TimeoutError, ClientDisconnect):
        raise InvalidInput(f"the body was not whole within {seconds:.0f} s", remedy="send it again") from None
    return bytes(found)
