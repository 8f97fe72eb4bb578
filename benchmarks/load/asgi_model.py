"""A Python model server with and without the in-process enforcement point: one process, one loop, a port for each.

The model holds the loop for exactly its delay, as one that computes or waits for its accelerator does; the map comes over frames from
`map_server`, and every call is delivered there, so that the row pays for renewing and recording too.

Usage: python -m benchmarks.load.asgi_model DIRECTORY CONTROL_SOCKET DELAY_MS BARE JWT BARE_TLS X509
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.load.credentials import ENDPOINT
from benchmarks.load.delay_server import BODY
from benchmarks.load.uvicorn_tls import run, server
from vouchgate.integrations.asgi import EnforcementPoint
from vouchgate.integrations.leases import FramesSource

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))],
}


def model(delay_seconds: float) -> Any:
    """The app: read the body, take the time, answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        if delay_seconds:
            time.sleep(delay_seconds)
        await send(_START)
        await send({"type": "http.response.body", "body": BODY})

    return app


def main(arguments: list[str]) -> None:
    """Serve until told to end."""
    directory, control, delay, bare, jwt, bare_tls, x509 = arguments
    ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK: the model's delay is exact
    app = model(float(delay) / 1000)
    guarded = EnforcementPoint(app, source=FramesSource(Path(control), ENDPOINT).start())
    plain, secured = (
        [server(app, int(bare)), server(guarded, int(jwt))],
        [server(app, int(bare_tls), directory), server(guarded, int(x509), directory)],
    )
    run(*plain, *secured)


if __name__ == "__main__":
    main(sys.argv[1:])
