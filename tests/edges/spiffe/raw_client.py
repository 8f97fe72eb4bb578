"""An HTTP/2 client that can be as rude as a test wants; it speaks on one connection, in the test's own event loop."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import h2.config
import h2.connection
import h2.events

HEADER = ("workload.spiffe.io", "true")


class Raw:
    """One connection."""

    def __init__(self) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.data: dict[int, bytes] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.reset: dict[int, int] = {}
        self.closed = False

    async def open(self, path: str) -> Raw:
        self.reader, self.writer = await asyncio.open_unix_connection(path)
        self.h2.initiate_connection()
        self.flush()
        return self

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def ask(
        self,
        method: str,
        body: bytes | None = b"\x00\x00\x00\x00\x00",
        *,
        headers: tuple[Any, ...] = (HEADER,),
        end: bool = True,
        te: bool = True,
    ) -> int:
        """Begin a call; the stream's number."""
        number = self.h2.get_next_available_stream_id()
        sent = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
        ]
        sent += [("te", "trailers")] if te else []
        self.h2.send_headers(number, [*sent, *headers])
        if body is not None:
            self.h2.send_data(number, body, end_stream=end)
        self.flush()
        return number

    async def read(self, seconds: float = 5.0) -> bool:
        """Take in what comes; False where the connection is closed."""
        try:
            data = await asyncio.wait_for(self.reader.read(65_536), seconds)
        except (ConnectionError, TimeoutError):
            data = b""
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                self.trailers.setdefault(event.stream_id, {}).update(dict(event.headers))
            elif isinstance(event, h2.events.StreamReset):
                self.reset[event.stream_id] = int(event.error_code)
        self.flush()
        return True

    async def status(self, number: int) -> int:
        """The call's gRPC status; -1 where it was reset or the connection closed."""
        while "grpc-status" not in self.trailers.get(number, {}):
            if number in self.reset or not await self.read():
                return -1
        return int(self.trailers[number]["grpc-status"])

    async def message(self, number: int) -> bytes:
        """The first whole message of a call."""
        while True:
            data = self.data.get(number, b"")
            if len(data) >= 5 and len(data) >= 5 + struct.unpack("!I", data[1:5])[0]:
                return data[5 : 5 + struct.unpack("!I", data[1:5])[0]]
            assert await self.read(), f"closed: {self.trailers.get(number)} {self.reset}"

    def close(self) -> None:
        self.writer.close()


def framed(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A message with its prefix."""
    return struct.pack("!?I", compressed, len(message) if length is None else length) + message
