"""uvicorn with the ASGI TLS extension (version 0.2), so that an app may know the caller's certificate: once a connection, not once a call."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class TlsProtocol(HttpToolsProtocol):
    """Puts the peer's certificate into the scope."""

    _tls: dict[str, Any] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        secured: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if secured is not None:
            der = secured.getpeercert(binary_form=True)
            chain = (ssl.DER_cert_to_PEM_cert(der),) if der else ()
            self._tls = {"tls": {"server_cert": None, "client_cert_chain": chain, "client_cert_error": None}}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._tls is not None:
            self.scope["extensions"] = self._tls


def server(app: Any, port: int, directory: str = "") -> uvicorn.Server:
    """A server on loopback; with TLS and an optional client certificate where a directory of `Credentials` files is named."""
    tls: dict[str, Any] = {}
    if directory:
        names = {"ssl_certfile": "server.pem", "ssl_keyfile": "server.key", "ssl_ca_certs": "ca.pem"}
        tls = {option: f"{directory}/{name}" for option, name in names.items()} | {"ssl_cert_reqs": ssl.CERT_OPTIONAL}
    fixed: dict[str, Any] = {"http": TlsProtocol, "ws": "none", "lifespan": "off", "log_level": "error", "access_log": False}
    # a caller that waits for its turn in the rounds keeps its connection, as at the gateway
    fixed["timeout_keep_alive"] = 600
    return uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, **fixed, **tls))


def run(*servers: uvicorn.Server) -> None:
    """Serve all of them on one loop until the process is told to end."""

    async def serve() -> None:
        await asyncio.gather(*(one.serve() for one in servers))

    uvloop.run(serve())
