"""Clients for vouchgate's own processes: frames (vocabulary/frames.py) over a unix socket, one for threads and one for the event loop.

Rules
1. A call has a deadline; a peer that is gone, hangs, drips or answers nonsense is `Unavailable`, and the caller fails closed.
2. A typed refusal of the peer is raised as the same typed error here; one of the connection itself (its id is 0) ends every call on it.
3. The connection is opened on the first call and again after a failure; a call is never sent twice.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from pathlib import Path
from typing import Any

from vouchgate.vocabulary import errors
from vouchgate.vocabulary.frames import HEADER_BYTES, body_length, frame, read_answer

DEFAULT_TIMEOUT_SECONDS = 5.0
"""A process on the same machine that has not answered by then is treated as dead."""

MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""Bytes that may wait for a peer that does not read; with more, the connection is given up."""
_TYPES = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.VouchgateError)}


def _raise(body: Any, who: str) -> None:
    if not isinstance(body, dict) or not {"code", "reason", "remedy"} <= set(body):
        raise errors.Unavailable(f"the {who} answered without saying what", remedy=f"see the {who}'s log")
    kind = _TYPES.get(str(body["code"]), errors.VouchgateError)
    raise kind(str(body["reason"]), remedy=str(body["remedy"]))


def _gone(who: str, path: Path, why: object) -> errors.Unavailable:
    return errors.Unavailable(
        f"the {who} does not answer on {path.name}: {why}", remedy="run `vouchgate status`; start it with `vouchgate up`"
    )


class RpcClient:
    """Blocking client; safe to share between threads, one call at a time."""

    def __init__(self, path: Path, who: str, *, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self._path, self._who, self._timeout = path, who, timeout
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def call(self, method: str, /, **params: Any) -> Any:
        """Send one request and wait for its answer. Raises the peer's typed error, or `Unavailable`."""
        number = next(self._ids)
        data = frame((number, method, params))
        with self._lock:
            end = time.monotonic() + self._timeout
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    self._socket.settimeout(self._timeout)
                    self._socket.connect(str(self._path))
                self._socket.settimeout(self._timeout)
                self._socket.sendall(data)
                answered, ok, value = read_answer(self._read(body_length(self._read(HEADER_BYTES, end)), end))
            except (OSError, errors.InvalidInput) as error:
                self.close()
                raise _gone(self._who, self._path, error) from None
            if answered != number:
                self.close()
                if answered != 0 or ok:
                    raise _gone(self._who, self._path, "it answered another question")
        if not ok:
            _raise(value, self._who)
        return value

    def _read(self, count: int, end: float) -> bytes:
        assert self._socket is not None
        parts = bytearray()
        while len(parts) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._socket.settimeout(left)
            part = self._socket.recv(min(count - len(parts), 65536))
            if not part:
                raise ConnectionError("it closed the connection")
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class AsyncRpcClient:
    """Event-loop client; calls are multiplexed over one connection."""

    def __init__(self, path: Path, who: str, *, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self._path, self._who, self._timeout = path, who, timeout
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.StreamWriter, asyncio.Future[tuple[bool, Any]]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def call(self, method: str, /, **params: Any) -> Any:
        """Send one request and wait for its answer. Raises the peer's typed error, or `Unavailable`."""
        number = next(self._ids)
        data = frame((number, method, params))
        answer: asyncio.Future[tuple[bool, Any]] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._timeout):
                writer = await self._open()
                self._waiting[number] = (writer, answer)
                writer.write(data)
                await writer.drain()
                ok, value = await answer
        except (OSError, TimeoutError) as error:
            if self._writer is not None and self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._writer.transport.abort()
            raise _gone(self._who, self._path, error or f"no answer within {self._timeout} s") from None
        finally:
            self._waiting.pop(number, None)
        if not ok:
            _raise(value, self._who)
        return value

    async def _open(self) -> asyncio.StreamWriter:
        async with self._opening:
            if self._writer is None or self._writer.is_closing():
                reader, self._writer = await asyncio.open_unix_connection(str(self._path))
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        why: Exception = ConnectionError("it closed the connection")
        try:
            while True:
                body = await reader.readexactly(body_length(await reader.readexactly(HEADER_BYTES)))
                number, ok, value = read_answer(body)
                if number == 0:
                    self._end(writer, (ok, value))
                elif number in self._waiting and not self._waiting[number][1].done():
                    self._waiting[number][1].set_result((ok, value))
        except asyncio.IncompleteReadError:
            pass
        except (OSError, errors.InvalidInput) as error:
            why = ConnectionError(str(error))
        finally:
            writer.close()
            self._end(writer, why)

    def _end(self, writer: asyncio.StreamWriter, how: tuple[bool, Any] | Exception) -> None:
        """Answer every call that waits on this connection; one that was opened since goes on."""
        for on, waiting in self._waiting.values():
            if on is not writer or waiting.done():
                continue
            if isinstance(how, Exception):
                waiting.set_exception(how)
            else:
                waiting.set_result(how)

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
