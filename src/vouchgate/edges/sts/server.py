"""Serves the token service's app over TLS, inside a running event loop.

Rules
1. The peer's certificates are read from the finished handshake and put into the ASGI scope, where no client can.
2. A renewed certificate or bundle holds from the next handshake on; what is open goes on, for at most `KEEP_ALIVE_SECONDS` idle.
3. A request's head is bounded in size and time, a handshake too, and connections in number: all together, and for each address.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from cryptography import x509
from starlette.types import ASGIApp, Receive, Scope, Send

from vouchgate import wiring
from vouchgate.edges.bounded_http import Listening, TimedHead, served_by
from vouchgate.edges.sts.answers import CHAIN, network_of
from vouchgate.vocabulary.errors import InvalidInput

MAX_HEAD_BYTES = 24 * 1024
"""Bytes of a request's line and headers: a DPoP proof has about 700."""
MAX_CONNECTIONS = 512
MAX_PER_ADDRESS = 64
"""Connections of one address: a machine full of agents, not the whole service."""
HEAD_SECONDS = 5.0
"""A request's head must be whole within this of its first byte, and the first one within this of the handshake."""
KEEP_ALIVE_SECONDS = 10
BACKLOG = 256


class _Protocol(TimedHead):
    """HTTP/1.1 with the peer's certificates in the scope, for as many connections of an address as it may have."""

    head_seconds = HEAD_SECONDS
    _address: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._server: TlsServer = self.config.loaded_app.server
        self._address = network_of(str((transport.get_extra_info("peername") or ("",))[0]))
        if not self._server.enter(self._address):
            self._address = None
            transport.abort()
            return
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self.app = _with_chain(self.app, wiring.peer_chain(tls) if tls is not None else ())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._address is not None:
            self._server.leave(self._address)
        super().connection_lost(exc)


def _with_chain(app: Any, chain: tuple[bytes, ...]) -> Any:
    async def with_chain(scope: Scope, receive: Receive, send: Send) -> None:
        scope[CHAIN] = chain
        await app(scope, receive, send)

    return with_chain


class TlsServer:
    """One TLS listener; it is the app that uvicorn calls, and hands on to the real one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.server = app, self
        self._context: ssl.SSLContext | None = None
        self._web: ssl.SSLContext | None = None
        self._web_names: frozenset[str] = frozenset()
        self._listening = Listening(_Protocol, backlog=BACKLOG)
        self._open: dict[str, int] = {}

    @property
    def port(self) -> int:
        """The port that was taken; 0 before."""
        return self._listening.port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def enter(self, address: str) -> bool:
        """Rule 3; whether there is room for one more connection."""
        if self._open.get(address, 0) >= MAX_PER_ADDRESS or sum(self._open.values()) >= MAX_CONNECTIONS:
            return False
        self._open[address] = self._open.get(address, 0) + 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was let in has ended."""
        left = self._open.get(address, 0) - 1
        if left > 0:
            self._open[address] = left
        else:
            self._open.pop(address, None)

    def identity(self, chain_pem: str, key_pem: bytes, bundle_pem: str, web: tuple[str, bytes] | None = None) -> None:
        """Rule 2. `web` is a certificate of the web's authorities, chain and key: who asks by one of its names (RFC 6066, section 3) gets it."""
        self._context = wiring.server_tls(chain_pem, key_pem, bundle_pem)
        self._web = wiring.server_tls(*web, bundle_pem) if web else None
        self._web_names = host_names(web[0]) if web else frozenset()

    async def listen(self, host: str, port: int) -> None:
        """Begin; `identity` was told before. Raises `Unavailable` where the port is taken."""
        assert self._context is not None
        first = self._context

        def newest(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
            connection.context = self._web if self._web is not None and (name or "").lower() in self._web_names else self._context

        first.sni_callback = newest
        config = served_by(_Protocol, self, head_bytes=MAX_HEAD_BYTES, connections=MAX_CONNECTIONS, keep_alive=KEEP_ALIVE_SECONDS)
        config.loaded_app = self
        await self._listening.listen(host, port, config, first, who="the token service", remedy="set [sts] listen to a free port")

    async def close(self) -> None:
        """Stop listening and end what is open."""
        await self._listening.close()


def host_names(chain_pem: str) -> frozenset[str]:
    """DNS names of the first certificate, in lower case; a wildcard stands for none. Raises `InvalidInput`."""
    try:
        leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except (ValueError, IndexError, x509.ExtensionNotFound, x509.InvalidVersion):
        raise InvalidInput("[sts] web_certificate holds no certificate with a host name", remedy="give a PEM chain, leaf first") from None
    return frozenset(name.lower() for name in names if not name.startswith("*"))
