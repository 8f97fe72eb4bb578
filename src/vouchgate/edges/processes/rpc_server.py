"""The serving side of vouchgate's own processes: frames over a unix socket, the peer known by SO_PEERCRED.

Rules
1. The peer's uid is read from the kernel before the first byte; a uid that is not listed is told so once, counted, and cut off.
2. A handler gets `(peer, params)` and returns plain values; a typed error goes back as `{code, reason, remedy}`, any other as `error`
   without its text (an exception's text may hold a secret), and its class to the log.
3. Connections, frames and requests at once are bounded; a peer that sends no whole frame within `IDLE_FRAME_SECONDS` of starting one is cut
   off, and one that does not read its answers is read no further.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, VouchgateError
from vouchgate.vocabulary.frames import HEADER_BYTES, body_length, frame, read_request

IDLE_FRAME_SECONDS = 10.0
"""A frame that has begun must end within this, so that a slow peer holds no buffer."""
MAX_CONNECTIONS = 256
"""Connections at once; our own processes need about ten."""

MAX_AT_ONCE = 1_024
"""Requests of one connection that are worked on at once; further ones wait in the socket."""

log = logging.getLogger("vouchgate.rpc")


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end, as the kernel says."""

    pid: int
    uid: int
    gid: int


Handler = Callable[[Peer, dict[str, Any]], Awaitable[Any]]


def peer_of(sock: socket.socket) -> Peer:
    """The peer of a connected unix socket (unix(7), SO_PEERCRED)."""
    return Peer(*struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


async def serve(
    path: Path,
    handlers: Mapping[str, Handler],
    *,
    allowed_uids: Collection[int] | Callable[[int], bool],
    on_refused: Callable[[Peer], None] | None = None,
) -> asyncio.Server:
    """Listen on `path` (mode 0666: the kernel's word on the peer is the check, not the file mode)."""
    allows = allowed_uids if callable(allowed_uids) else allowed_uids.__contains__
    open_now: set[asyncio.StreamWriter] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        if not allows(peer.uid) or len(open_now) >= MAX_CONNECTIONS:
            log.warning("refused uid %d pid %d on %s", peer.uid, peer.pid, path.name)
            if on_refused:
                on_refused(peer)
            refusal = NotPermitted(f"uid {peer.uid} may not use {path.name}", remedy="use the `vouchgate` command line")
            writer.write(frame((0, False, {"code": refusal.code, "reason": refusal.reason, "remedy": refusal.remedy})))
            writer.close()
            return
        open_now.add(writer)
        try:
            await _conversation(reader, writer, peer, handlers)
        except asyncio.CancelledError:
            # the process ends; a stream's callback would log this as an error
            return
        finally:
            open_now.discard(writer)
            writer.close()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(connection, str(path))
    path.chmod(0o666)
    return server


async def _conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer, handlers: Mapping[str, Handler]) -> None:
    tasks: set[asyncio.Task[None]] = set()
    room = asyncio.Semaphore(MAX_AT_ONCE)

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        room.release()

    try:
        while True:
            header = await reader.readexactly(1)
            async with asyncio.timeout(IDLE_FRAME_SECONDS):
                header += await reader.readexactly(HEADER_BYTES - 1)
                body = await reader.readexactly(body_length(header))
            await room.acquire()
            task = asyncio.create_task(_answer(writer, peer, handlers, body))
            tasks.add(task)
            task.add_done_callback(ended)
    except (asyncio.IncompleteReadError, OSError, TimeoutError):
        return
    except InvalidInput as error:
        log.warning("uid %d sent a bad frame: %s", peer.uid, error.reason)
    finally:
        for task in tasks:
            task.cancel()


async def _answer(writer: asyncio.StreamWriter, peer: Peer, handlers: Mapping[str, Handler], body: bytes) -> None:
    number = 0
    try:
        number, method, params = read_request(body)
        handler = handlers.get(method)
        if handler is None:
            raise InvalidInput(f"`{method}` is not a method here", remedy="both ends must run the same version of vouchgate")
        reply = frame((number, True, await handler(peer, params)))
    except VouchgateError as error:
        reply = frame((number, False, {"code": error.code, "reason": error.reason, "remedy": error.remedy}))
    except Exception as error:
        log.error("a handler failed: %s at %s", type(error).__name__, _where(error))
        reply = frame((number, False, {"code": "error", "reason": "the request failed inside", "remedy": "see the process's log"}))
    if not writer.is_closing():
        writer.write(reply)
        with contextlib.suppress(OSError):
            await writer.drain()


def _where(error: BaseException) -> str:
    """File and line of the innermost frame: enough to find the fault, without values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
