"""gRPC on a unix socket that every process of this machine may connect to (SPIFFE Workload Endpoint, sections 3 and 4).

Rules
1. The caller is read from the kernel when it connects, and held by a pidfd: when it exits, its connection is cut, and no other process that
   gets its number is taken for it.
2. What one uid can hold is bounded (connections, streams, requests a second), and what all can hold is, so that nobody is shut out by
   another: ten thousand half-open streams of one uid cost that uid its own.
3. A connection without a first request, a stream without its message, and a reader that does not read are cut off by time.
4. A message has a bound that is checked before it is read; a compressed one is refused (the client was told of no encoding).
5. What HTTP/2 itself takes (pings, settings, windows, tiny or empty pieces) is bounded too: unread data by a window and a number of pieces, the
   rest by a rate for each uid, since reading it is what all others wait for (CVE-2019-9512, CVE-2019-9515, CVE-2019-9518).
6. A request without the header `workload.spiffe.io: true` is refused before anything is done (Workload Endpoint, section 6.1).
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from google.protobuf.message import DecodeError
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Handler, Server, Stream
from h2.errors import ErrorCodes
from h2.events import DataReceived

HEADER = "workload.spiffe.io"
MAX_REQUEST_BYTES = 64 * 1024
"""Bytes of one request: a token of the largest size fits four times over."""
WINDOW_BYTES = MAX_REQUEST_BYTES + 1024
"""Bytes that a connection may have sent and nobody has read."""
MAX_UNREAD = 128
"""Pieces of one stream that wait to be read: a request of the largest size in pieces of 512 bytes."""
NOISE_BYTES = 16
"""Bytes of HTTP/2's own that count as one piece of noise; a ping has 17."""
NOISE_OF_REQUEST = 40
"""Pieces of noise for each request that a uid may make: 640 bytes, where a client with a connection for each request needs 400."""
FIRST_REQUEST_SECONDS = 10.0
"""A connection that has asked nothing by then is cut off."""
MESSAGE_SECONDS = 10.0
"""A stream whose message is not there by then is ended."""
SEND_SECONDS = 15.0
"""A caller that has not taken an answer by then is cut off."""
_PREFIX = struct.Struct("!?I")
"""A message's compression flag and length (gRPC over HTTP/2, "Requests")."""

log = logging.getLogger("vouchgate.agent")
M = TypeVar("M")


@dataclass(frozen=True)
class Bounds:
    """What callers may hold."""

    connections: int = 4_096
    """All connections; two descriptors each."""
    connections_per_uid: int = 1_024
    streams_per_uid: int = 2_048
    """Streams at once over all connections of a uid; about 20 KB each while they are half-open."""
    requests_per_second: int = 500
    """Requests of one uid, on average; twice as many at once."""


class KernelPeer(Protocol):
    """Who connected (ports/attest.py)."""

    pid: int
    uid: int
    pidfd: int


class Kernel(Protocol):
    """What the kernel says of peers (ports/attest.py)."""

    def peer(self, sock: Any) -> KernelPeer:
        """The process at the other end. Raises `VouchgateError`, `OSError`."""

    def alive(self, pidfd: int) -> bool:
        """Whether the process still runs."""


@dataclass(slots=True)
class Caller:
    """One connection and the process behind it."""

    name: str
    """Ours, a new one for each connection."""
    pid: int
    uid: int
    pidfd: int
    transport: Any


Refuse = Callable[[int, int, str, str], None]
"""Told of each refusal: uid, pid, code, reason."""


class WorkloadServer(Server):  # type: ignore[misc]
    """See the module's text. Belongs to one event loop."""

    def __init__(self, services: list[Any], kernel: Kernel, refuse: Refuse, *, bounds: Bounds | None = None) -> None:
        window = Configuration(http2_connection_window_size=WINDOW_BYTES, http2_stream_window_size=WINDOW_BYTES)
        super().__init__(services, config=window)
        self.kernel, self.refuse, self.bounds = kernel, refuse, bounds or Bounds()
        self.callers: dict[str, Caller] = {}
        self.streams: Counter[int] = Counter()
        self._per_uid: Counter[int] = Counter()
        self._allowance: dict[int, tuple[float, float]] = {}
        self._noise: dict[int, tuple[float, float]] = {}
        self.on_gone: Callable[[Caller], None] = lambda caller: None

    async def listen(self, path: Path) -> None:
        """Listen; the kernel's word on the peer is the check, not the file's mode."""
        path.unlink(missing_ok=True)
        await self.start(path=str(path), backlog=1_024)
        path.chmod(0o666)

    def admit(self, transport: Any) -> Caller | None:
        """Rules 1 and 2 for a new connection."""
        try:
            peer = self.kernel.peer(transport.get_extra_info("socket"))
        except Exception as error:
            # whoever is gone before it could be looked at asked nothing
            log.info("a caller vanished while it connected: %s", type(error).__name__)
            return None
        if self._per_uid.get(peer.uid, 0) >= self.bounds.connections_per_uid or not self._has_room(peer.uid):
            os.close(peer.pidfd)
            self.refuse(peer.uid, peer.pid, "connections", "too many connections")
            return None
        caller = Caller(secrets.token_hex(8), peer.pid, peer.uid, peer.pidfd, transport)
        self.callers[caller.name] = caller
        self._per_uid[caller.uid] += 1
        asyncio.get_running_loop().add_reader(caller.pidfd, self._exited, caller)
        return caller

    def _has_room(self, uid: int) -> bool:
        """Whether one more connection of a uid is within the bound of all; whoever holds the most gives one up for who holds less."""
        if len(self.callers) < self.bounds.connections:
            return True
        ((most, count),) = self._per_uid.most_common(1)
        if count <= self._per_uid.get(uid, 0) + 1:
            return False
        newest = next(one for one in reversed(self.callers.values()) if one.uid == most)
        self.refuse(newest.uid, newest.pid, "connections", "too many connections, and others have none")
        newest.transport.abort()
        self.forget(newest)
        return True

    def _exited(self, caller: Caller) -> None:
        asyncio.get_running_loop().remove_reader(caller.pidfd)
        caller.transport.abort()

    def forget(self, caller: Caller) -> None:
        """The connection is gone."""
        if self.callers.pop(caller.name, None) is None:
            return
        asyncio.get_running_loop().remove_reader(caller.pidfd)
        os.close(caller.pidfd)
        _less(self._per_uid, caller.uid)
        self.on_gone(caller)

    def enter(self, caller: Caller) -> bool:
        """Whether one more stream is within the bounds of its uid."""
        if self.streams[caller.uid] >= self.bounds.streams_per_uid or not self._take(caller.uid):
            self.refuse(caller.uid, caller.pid, "streams", "too many requests, or too many at once")
            return False
        self.streams[caller.uid] += 1
        return True

    def leave(self, caller: Caller) -> None:
        """A stream is over."""
        _less(self.streams, caller.uid)

    def _take(self, uid: int) -> bool:
        left = self._left(self._allowance, uid, self.bounds.requests_per_second)
        self._allowance[uid] = (left - 1 if left >= 1 else left, time.monotonic())
        return left >= 1

    def endures(self, uid: int, noise: int = 0) -> bool:
        """Rule 5; whether a uid may go on after so much noise. What it made beyond its rate it owes, so that a new connection is not a new start."""
        rate = NOISE_OF_REQUEST * self.bounds.requests_per_second
        left = max(self._left(self._noise, uid, rate) - noise, -2.0 * rate)
        self._noise[uid] = (left, time.monotonic())
        return left > 0

    def _left(self, kept: dict[int, tuple[float, float]], uid: int, rate: float) -> float:
        if len(kept) > 4 * self.bounds.connections:
            for one in [one for one in kept if not self._per_uid.get(one)]:
                del kept[one]
        now, most = time.monotonic(), 2.0 * rate
        left, at = kept.get(uid, (most, now))
        return min(most, left + (now - at) * rate)

    def still_there(self, caller: Caller) -> bool:
        """Whether the process that connected is the one that is there now."""
        return caller.name in self.callers and self.kernel.alive(caller.pidfd)

    def _protocol_factory(self) -> H2Protocol:
        self.__gc_step__()
        handler = _Bounded(self._mapping, self._codec, self._status_details_codec, self.__dispatch__)
        self._handlers.add(handler)
        made = _Attested(handler, self._config, self._h2_config)
        made.owner = handler.owner = self
        return made

    def close(self) -> None:
        """Stop listening and cut every connection."""
        super().close()
        for caller in list(self.callers.values()):
            caller.transport.abort()


def _less(counter: Counter[int], key: int) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


class _TooMuch(Exception):
    """Rule 5 is broken."""


class _Attested(H2Protocol):  # type: ignore[misc]
    """Rule 1, before the first byte is read."""

    owner: WorkloadServer
    caller: Caller | None = None

    def connection_made(self, transport: Any) -> None:
        self.caller = self.owner.admit(transport)
        if self.caller is None:
            transport.abort()
            return
        super().connection_made(transport)
        self.connection.caller = self.handler.caller = self.caller
        self.connection.feed = self._feed
        self._on_data = self.processor.processors[DataReceived]
        self.processor.processors[DataReceived] = self._piece
        self._late = asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, self._ask_or_go)

    def _feed(self, data: bytes) -> list[Any]:
        assert self.caller is not None
        if not self.owner.endures(self.caller.uid):
            raise _TooMuch
        events: list[Any] = self.connection._connection.receive_data(data)
        own = len(data) - sum(len(event.data) for event in events if isinstance(event, DataReceived))
        if not self.owner.endures(self.caller.uid, max(len(events), own // NOISE_BYTES)):
            raise _TooMuch
        return events

    def _piece(self, event: DataReceived) -> None:
        stream = self.processor.streams.get(event.stream_id)
        if stream is not None and stream.buffer._unacked.qsize() >= MAX_UNREAD:
            raise _TooMuch
        self._on_data(event)

    def _ask_or_go(self) -> None:
        if self.connection.streams_started == 0 and self.caller is not None:
            self.owner.refuse(self.caller.uid, self.caller.pid, "half-open", "a connection without a request")
            self.caller.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.caller is not None:
            try:
                super().data_received(data)
            except _TooMuch:
                self.owner.refuse(self.caller.uid, self.caller.pid, "noise", "more frames than requests need")
                self.caller.transport.abort()
            except Exception as error:
                # bytes that no HTTP/2 peer sends reach the library's own assertions; the connection ends, the process goes on
                log.info("uid %d sent what is not HTTP/2: %s", self.caller.uid, type(error).__name__)
                self.owner.refuse(self.caller.uid, self.caller.pid, "not-http2", "bytes that are not HTTP/2")
                self.caller.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.caller is None:
            self.handler.close()
            return
        self._late.cancel()
        super().connection_lost(exc)
        self.owner.forget(self.caller)


class _Bounded(Handler):  # type: ignore[misc]
    """Rule 2 for streams: one over the bound is reset unread."""

    owner: WorkloadServer
    caller: Caller

    def accept(self, stream: Any, headers: Any, release_stream: Any) -> None:
        if not self.owner.enter(self.caller):
            stream.reset_nowait(ErrorCodes.ENHANCE_YOUR_CALM)
            release_stream()
            return

        super().accept(stream, headers, release_stream)
        # a task that is cancelled before it began runs no `finally`; its end is told all the same
        self._tasks[stream].add_done_callback(lambda _: self.owner.leave(self.caller))

    def cancel(self, stream: Any) -> None:
        # a stream that was reset unread has no task
        if stream in self._tasks:
            super().cancel(stream)


def caller_of(stream: Stream[Any, Any]) -> Caller:
    """Who asks."""
    caller: Caller = stream._stream.connection.caller
    return caller


def require_header(stream: Stream[Any, Any]) -> None:
    """Rule 6."""
    values = list(stream.metadata.getall(HEADER, [])) if stream.metadata else []
    if values != ["true"]:
        raise GRPCError(Status.INVALID_ARGUMENT, f"security header `{HEADER}: true` is missing from the request")


async def receive(stream: Stream[Any, M], kind: type[M]) -> M | None:
    """The next message, or None where the caller sends no more. Rules 3 and 4."""
    try:
        async with asyncio.timeout(MESSAGE_SECONDS):
            return await _message(stream, kind)
    except TimeoutError:
        raise GRPCError(Status.DEADLINE_EXCEEDED, f"no message within {MESSAGE_SECONDS:.0f} s") from None


async def next_message(stream: Stream[Any, M], kind: type[M]) -> M | None:
    """As `receive`, for the second message and later ones, which may take any time."""
    return await _message(stream, kind)


async def _message(stream: Stream[Any, M], kind: type[M]) -> M | None:
    raw = stream._stream
    try:
        head = await raw.recv_data(_PREFIX.size)
        if not head:
            return None
        compressed, length = _PREFIX.unpack(head)
        if compressed:
            raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not taken")
        if length > MAX_REQUEST_BYTES:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a message has {MAX_REQUEST_BYTES} bytes at most")
        data = await raw.recv_data(length) if length else b""
        made: M = kind.FromString(data)  # type: ignore[attr-defined]
    except AssertionError:
        raise GRPCError(Status.INVALID_ARGUMENT, "the message is cut short") from None
    except DecodeError:
        raise GRPCError(Status.INVALID_ARGUMENT, "the message cannot be read") from None
    return made


async def send(stream: Stream[Any, Any], message: Any) -> None:
    """Send one message; a caller that does not take it is cut off."""
    if _send_at_once(stream, message):
        return
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await stream.send_message(message)
    except TimeoutError:
        caller_of(stream).transport.abort()
        raise GRPCError(Status.ABORTED, "the answer was not taken") from None


def _send_at_once(stream: Stream[Any, Any], message: Any) -> bool:
    """Whether the first message went out with its headers, and with what other streams of the connection have to say: a write is what costs
    most, and answers come in batches."""
    raw, data = stream._stream, message.SerializeToString()
    connection = raw._h2_connection
    fits = _PREFIX.size + len(data)
    if (
        stream._send_initial_metadata_done
        or not raw.connection.write_ready.is_set()
        or raw.id not in connection.streams
        or fits > min(connection.local_flow_control_window(raw.id), connection.max_outbound_frame_size)
    ):
        return False
    connection.send_headers(raw.id, [(":status", "200"), ("content-type", stream._content_type)])
    connection.send_data(raw.id, _PREFIX.pack(False, len(data)) + data)
    _flush_soon(raw.connection)
    raw.connection.headers_send_process()
    raw.connection.data_send_process()
    stream._send_initial_metadata_done = stream._send_message_done = True
    return True


def _flush_soon(connection: Any) -> None:
    if not getattr(connection, "flushing", False):
        connection.flushing = True
        asyncio.get_running_loop().call_soon(_flush, connection)


def _flush(connection: Any) -> None:
    connection.flushing = False
    if not connection.is_closing():
        connection.flush()
