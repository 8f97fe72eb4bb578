"""Serves the app on a unix socket and, for the console, on loopback TCP, inside a running event loop.

Rules
1. On the unix socket the peer's uid is read from the kernel before the first byte and put into the ASGI scope, where no client can.
2. A request's head is bounded in size and time, a connection's idle time too, and each listener has its own bound on connections, so a
   browser gone wild does not shut out the command line. Of the unix socket's, one uid has at most half.
3. TCP binds loopback only.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from vouchgate.edges.api.guard import PEER, UnixPeer
from vouchgate.edges.bounded_http import TimedHead, served_by
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.settings import is_loopback

MAX_HEAD_BYTES = 16 * 1024
"""Bytes of a request's line and headers; ours have under 2 KiB."""
MAX_CONNECTIONS = 128
"""Connections of one listener: 64 live streams and as many requests."""
MAX_CONNECTIONS_PER_UID = MAX_CONNECTIONS // 2
HEAD_SECONDS = 10
"""A request's head must be whole within this of its first byte, and the first one within this of the connection."""
KEEP_ALIVE_SECONDS = 30
BACKLOG = 128


class _Protocol(TimedHead):
    """HTTP/1.1 with the peer in the scope."""

    head_seconds = HEAD_SECONDS
    open_by_uid: Counter[int]
    """Shared by the connections of one listener."""
    _uid = -1

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            peer = UnixPeer(*struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))
            self.app, self._uid = _with_peer(self.app, peer), peer.uid
            self.open_by_uid[peer.uid] += 1
            if self.open_by_uid[peer.uid] > MAX_CONNECTIONS_PER_UID:
                transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._uid >= 0:
            self.open_by_uid[self._uid] -= 1
            if not self.open_by_uid[self._uid]:
                del self.open_by_uid[self._uid]
        super().connection_lost(exc)


def _with_peer(app: Any, peer: UnixPeer) -> Any:
    async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = peer
        await app(scope, receive, send)

    return with_peer


class ApiServer:
    """The listeners of one app; `port` is the console's, 0 where there is none."""

    def __init__(self) -> None:
        self.port = 0
        self.host = ""
        self._listeners: list[tuple[asyncio.Server, ServerState]] = []

    async def listen_unix(self, app: ASGIApp, path: Path) -> None:
        """Listen on `path`, mode 0666: the kernel's word on the peer is the check, not the file mode."""
        path.unlink(missing_ok=True)
        loop, factory, state = asyncio.get_running_loop(), *_protocol(app)
        server = await loop.create_unix_server(factory, str(path), backlog=BACKLOG)
        path.chmod(0o666)
        self._listeners.append((server, state))

    async def listen_console(self, app: ASGIApp, host: str, port: int) -> None:
        """Listen on loopback. Raises `InvalidInput` for another address, `Unavailable` where the port is taken."""
        if not is_loopback(host):
            raise InvalidInput(f"the console listens on loopback only, not on `{host}`", remedy="write 127.0.0.1:8470")
        loop, factory, state = asyncio.get_running_loop(), *_protocol(app)
        try:
            server = await loop.create_server(factory, host, port, backlog=BACKLOG)
        except OSError as error:
            raise Unavailable(
                f"the console cannot listen on {host}:{port}: {error.strerror or error}", remedy="set [console] listen to a free port"
            ) from None
        self.host, self.port = host, server.sockets[0].getsockname()[1]
        self._listeners.append((server, state))

    def console_hosts(self) -> frozenset[str]:
        """What the Host header may say."""
        return frozenset(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]")) if self.port else frozenset()

    async def close(self) -> None:
        """Stop listening and end what is open; live streams would never end by themselves."""
        for server, state in self._listeners:
            server.close()
            for connection in list(state.connections):
                connection.shutdown()
            for task in list(state.tasks):
                task.cancel()
            await asyncio.gather(*state.tasks, return_exceptions=True)
        self._listeners.clear()


def _protocol(app: ASGIApp) -> tuple[Any, ServerState]:
    config = served_by(_Protocol, app, head_bytes=MAX_HEAD_BYTES, connections=MAX_CONNECTIONS, keep_alive=KEEP_ALIVE_SECONDS)
    state, open_by_uid = ServerState(), Counter[int]()

    def connection() -> _Protocol:
        made = _Protocol(config=config, server_state=state, app_state={})
        made.open_by_uid = open_by_uid
        return made

    return connection, state
