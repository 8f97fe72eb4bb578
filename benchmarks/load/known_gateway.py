"""A gateway that enforces a revocation exactly so many milliseconds after it was asked to: what the prober is checked against in each run.

TLS like the gateway's; the control API's revoke on a unix socket answers at once. select(2) takes microseconds, so the delay is exact.

Usage: python -m benchmarks.load.known_gateway PORT DIRECTORY SOCKET DELAY_MS
"""

from __future__ import annotations

import asyncio
import json
import selectors
import ssl
import sys
from typing import Any

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
NO = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n{}"


class _Http(asyncio.Protocol):
    """Answers each whole request of one connection by `answer(head, body)`."""

    def __init__(self, answer: Any) -> None:
        self._answer, self._buffer = answer, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
        if separator and len(rest) >= length:
            self._buffer = b""
            self._transport.write(self._answer(head, rest))


async def main(port: str, directory: str, socket: str, delay_ms: str) -> None:
    """Serve until told to end."""
    revoked: set[str] = set()
    loop = asyncio.get_running_loop()

    def call(head: bytes, _: bytes) -> bytes:
        who = head.partition(b"x-who: ")[2].split(b"\r\n", 1)[0].decode()
        return NO if who in revoked else OK

    def revoke(_: bytes, body: bytes) -> bytes:
        loop.call_later(float(delay_ms) / 1000, revoked.add, json.loads(body)["target"])
        return OK

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{directory}/server.pem", f"{directory}/server.key")
    await loop.create_server(lambda: _Http(call), "127.0.0.1", int(port), ssl=context)
    server = await loop.create_unix_server(lambda: _Http(revoke), socket)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.SelectorEventLoop(selectors.SelectSelector()).run_until_complete(main(*sys.argv[1:5]))
