"""The peer: a reverse proxy as one writes it in Python, Starlette and httpx, with the same checks and a JSON log line for each call.

The checks are the product's own in-process point, with its remembered answers, which is more than a hand-written proxy has; what the row
shows is the price of the extra hop in Python. TLS with an optional client certificate, uvicorn with uvloop and httptools, one worker.

Usage: python -m benchmarks.load.peer_proxy PORT DIRECTORY MAP LOG PREFIX=UNIX_PATH ...
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.load.uvicorn_tls import run, server
from vouchgate.integrations.asgi import EnforcementPoint
from vouchgate.integrations.leases import FixedSource
from vouchgate.vocabulary.leased import InProcessCall, LeasedMap
from vouchgate.vocabulary.wire import decode, encode

_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
"""RFC 9110, section 7.6.1, and the two that the client library writes itself."""


class LoggingSource(FixedSource):
    """A fixed map; each call becomes one line of JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._log = logging.getLogger("calls")
        self._log.addHandler(logging.FileHandler(path))
        self._log.propagate = False

    def record(self, call: InProcessCall) -> None:
        self._log.warning(encode(call).decode())


def proxy(upstreams: dict[str, str]) -> Starlette:
    """Forward `/PREFIX/rest` to the unix socket of that prefix as `/rest`."""
    limits = httpx.Limits(keepalive_expiry=None)
    clients = {
        prefix: httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path, limits=limits), base_url="http://model")
        for prefix, path in upstreams.items()
    }

    async def forward(request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_HEADERS]
        client = clients[request.path_params["prefix"]]
        answer = await client.request(request.method, "/" + request.path_params["rest"], content=await request.body(), headers=headers)
        return Response(
            answer.content, answer.status_code, {name: value for name, value in answer.headers.items() if name not in _HOP_HEADERS}
        )

    return Starlette(routes=[Route("/{prefix}/{rest:path}", forward, methods=["GET", "POST"])])


def main(arguments: list[str]) -> None:
    """Serve until told to end."""
    port, directory, leased, log, *upstreams = arguments
    source = LoggingSource(Path(log))
    source.put(decode(LeasedMap, Path(leased).read_bytes()))
    app: Any = EnforcementPoint(proxy(dict(item.split("=", 1) for item in upstreams)), source=source)
    run(server(app, int(port), directory))


if __name__ == "__main__":
    main(sys.argv[1:])
