"""Where an in-process enforcement point gets its map: `MapSource`, and the one that asks the control plane over its socket.

Rules
1. A lease counts from the moment the question was sent, on monotonic time: a slow answer, a stopped process or a cut connection
   shortens it. No answer in time, and it lapses by itself; nothing has to happen for that.
2. An older epoch than the one held is refused, and so is a map for another endpoint.
3. The record of calls is a bounded queue. When it is full, or the control plane has not taken it for `RECORD_LAG_SECONDS`, the point
   says so and refuses: a call that cannot be recorded is not let in. Refusals beyond the bound are counted, and the count is sent.
4. One daemon thread does all I/O, so that a model which blocks the event loop blocks neither renewal nor revocation.
Left to others: deciding by the map (asgi.py), making it (flows).
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import msgspec

from vouchgate.vocabulary.errors import InvalidInput, VouchgateError
from vouchgate.vocabulary.frames import HEADER_BYTES, body_length, frame, read_answer
from vouchgate.vocabulary.leased import InProcessCall, LeasedMap
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import from_plain, to_plain

MAX_UNSENT_CALLS = 10_000
"""Calls waiting to be recorded: about a second of a fast model server, 5 MB."""
RECORD_LAG_SECONDS = 5.0
"""As for the gateway's tailer (contracts, "Gateway rules")."""
DELIVER_SECONDS = 0.1
"""Between deliveries, as the gateway's log is flushed; what `kill -9` of the server can lose."""
MAX_BATCH = 500
"""Calls in one frame, about 250 kB."""
PULL_WAIT_MS = 1_000
"""How long the control plane may hold a question that has no news; well below the default lease of 10 s."""
ANSWER_SLACK_SECONDS = 1.0
RETRY_SECONDS = 0.2


class Held(msgspec.Struct, frozen=True):
    """A map with its lease on this machine's monotonic clock."""

    leased: LeasedMap
    """The same object for as long as nothing but the lease changes."""
    until_ns: int
    wall_offset_ms: int
    """Control plane's clock minus monotonic milliseconds."""


class MapSource(Protocol):
    """Gives the newest map and takes the record of calls. All methods return at once and never raise."""

    def current(self) -> Held | None:
        """The newest map, or None before the first."""

    def record(self, call: InProcessCall) -> None:
        """Take one call for the audit log."""

    def can_record(self) -> bool:
        """Whether calls still reach the audit log."""


class FixedSource:
    """A map in memory: renewed by whoever calls `put`. For servers that are handed their map another way, and for tests."""

    def __init__(self) -> None:
        self._held: Held | None = None
        self.calls: deque[InProcessCall] = deque(maxlen=MAX_UNSENT_CALLS)
        self.recording = True

    def put(self, leased: LeasedMap, *, asked_ns: int | None = None) -> None:
        """Hold `leased` from now, or from the moment it was asked for."""
        self._held = hold(leased, self._held, asked_ns=time.monotonic_ns() if asked_ns is None else asked_ns)

    def current(self) -> Held | None:
        return self._held

    def record(self, call: InProcessCall) -> None:
        self.calls.append(call)

    def can_record(self) -> bool:
        return self.recording


def hold(leased: LeasedMap, before: Held | None, *, asked_ns: int) -> Held:
    """Put a lease on the map. Raises `InvalidInput` where it is older than, or for another endpoint than, the one held."""
    if before is not None:
        if leased.endpoint != before.leased.endpoint:
            raise InvalidInput("the map is for another endpoint", remedy="each enforcement point follows one endpoint")
        if leased.epoch < before.leased.epoch:
            raise InvalidInput(
                f"the map has epoch {leased.epoch}, the one held has {before.leased.epoch}",
                remedy="a restored control plane must replay what it lost; restart this server to accept it",
            )
    offset = leased.now - time.monotonic_ns() // 1_000_000
    return Held(
        leased=before.leased if before is not None and _same(before.leased, leased) else leased,
        until_ns=asked_ns + max(0, leased.lease_ms) * 1_000_000,
        wall_offset_ms=offset if before is None else max(offset, before.wall_offset_ms),
    )


def _same(before: LeasedMap, after: LeasedMap) -> bool:
    """Whether nothing but the lease is new; then the old object stays, and with it what was remembered under it."""
    return msgspec.structs.replace(after, now=before.now, lease_ms=before.lease_ms) == before


class FramesSource:
    """Follows one endpoint's map over the control plane's socket.

    Asks `in_process.pull {endpoint, epoch, wait_ms}`, answered by a `LeasedMap` as plain values as soon as the epoch differs, or after
    `wait_ms`; every answer renews the lease. Sends `in_process.record {endpoint, calls, lost}`.
    """

    def __init__(self, path: Path, endpoint: str) -> None:
        self._path, self._endpoint = path, endpoint
        self._held: Held | None = None
        self._unsent: deque[InProcessCall] = deque()
        self._delivered_ns = time.monotonic_ns()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="vouchgate-map", daemon=True),
            threading.Thread(target=self._deliver, name="vouchgate-record", daemon=True),
        ]
        self.lost = 0
        """Refused calls that were not recorded, since the last delivery."""
        self.trouble = ""
        """Why the last question failed; empty while all is well."""

    def start(self) -> FramesSource:
        """Begin to follow."""
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Stop following; the lease is given up."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PULL_WAIT_MS / 1000 + ANSWER_SLACK_SECONDS)
        self._held = None

    def current(self) -> Held | None:
        return self._held

    def record(self, call: InProcessCall) -> None:
        if len(self._unsent) < MAX_UNSENT_CALLS or call.allowed:
            self._unsent.append(call)
        else:
            self.lost += 1

    def can_record(self) -> bool:
        if not self._unsent:
            return True
        return len(self._unsent) < MAX_UNSENT_CALLS and time.monotonic_ns() - self._delivered_ns < RECORD_LAG_SECONDS * 1e9

    def _follow(self) -> None:
        connection: _Connection | None = None
        while not self._stop.is_set():
            asked = time.monotonic_ns()
            try:
                connection = connection or _Connection(self._path)
                epoch = self._held.leased.epoch if self._held else -1
                answer = connection.call("in_process.pull", endpoint=self._endpoint, epoch=epoch, wait_ms=PULL_WAIT_MS)
                leased = from_plain(LeasedMap, answer, what="map")
                if leased.endpoint != self._endpoint:
                    raise InvalidInput("the map is for another endpoint", remedy="both ends must run the same version of vouchgate")
                self._held, self.trouble = hold(leased, self._held, asked_ns=asked), ""
            except (OSError, VouchgateError) as error:
                _close(connection)
                connection = None
                self.trouble = str(error)
                self._stop.wait(RETRY_SECONDS)
        _close(connection)

    def _deliver(self) -> None:
        connection: _Connection | None = None
        while not self._stop.wait(DELIVER_SECONDS):
            while self._unsent and not self._stop.is_set():
                connection = self._delivered(connection)
            if not self._unsent:
                self._delivered_ns = time.monotonic_ns()
        _close(connection)

    def _delivered(self, connection: _Connection | None) -> _Connection | None:
        """Send one batch; the connection to use next."""
        batch = [self._unsent[index] for index in range(min(MAX_BATCH, len(self._unsent)))]
        lost = self.lost
        try:
            connection = connection or _Connection(self._path)
            connection.call("in_process.record", endpoint=self._endpoint, calls=to_plain(batch), lost=lost)
        except (OSError, VouchgateError) as error:
            _close(connection)
            self.trouble = str(error)
            self._stop.wait(RETRY_SECONDS)
            return None
        for _ in batch:
            self._unsent.popleft()
        self.lost -= lost
        self._delivered_ns = time.monotonic_ns()
        return connection


class _Connection:
    """Blocking frames; the integrations' own, because ports belong to wiring."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PULL_WAIT_MS / 1000 + ANSWER_SLACK_SECONDS)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._number = secrets.randbelow(1 << 20)

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._socket.sendall(frame((self._number, method, params)))
        number, ok, value = read_answer(self._read(body_length(self._read(HEADER_BYTES))))
        if not ok or number != self._number:
            raise InvalidInput(f"the control plane refused `{method}`: {_reason(value)}", remedy="run `vouchgate status`")
        return value

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise ConnectionError("the control plane closed the connection")
            parts += part
        return bytes(parts)

    def close(self) -> None:
        self._socket.close()


def _reason(value: Any) -> str:
    return str(value.get("reason", "no reason"))[:200] if isinstance(value, dict) else "no reason"


def _close(connection: _Connection | None) -> None:
    if connection is not None:
        connection.close()


def wall_ms(held: Held, now_ns: int) -> UnixMillis:
    """The control plane's time, carried forward."""
    return UnixMillis(held.wall_offset_ms + now_ns // 1_000_000)
