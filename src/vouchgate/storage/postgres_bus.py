"""The bus over PostgreSQL's LISTEN and NOTIFY (extra `postgres`).

Rules
1. A topic is a channel whose name is a hash of trust domain and topic, so that no two tenants meet and no name is cut at 63 bytes.
2. One connection listens and one sends. When the listening one breaks, every subscriber is told that it may have missed messages, and the
   connection is opened again, at first after `RETRY_SECONDS`, then at most every `MAX_RETRY_SECONDS`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
from typing import Any

from vouchgate.storage.bus import MAX_SUBSCRIPTIONS, Waiting, check_message, check_topic
from vouchgate.storage.postgres import connect, typed
from vouchgate.vocabulary.errors import LimitExceeded, Unavailable, VouchgateError

RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 5.0


class PostgresBus:
    """Between processes and machines (`contract.Bus`). Made by `open_bus`."""

    def __init__(self, dsn: str, trust_domain: str) -> None:
        self._dsn, self._trust_domain = dsn, trust_domain
        self._listening: Any = None
        self._sending: Any = None
        self._waiting: dict[str, list[Waiting]] = {}
        self._sends = asyncio.Lock()
        self._listens = asyncio.Lock()
        self._closed = False
        self._reopening: asyncio.Task[None] | None = None

    async def publish(self, topic: str, message: bytes) -> None:
        check_message(topic, message)
        async with self._sends:
            self._require_open()
            if self._sending is None or self._sending.is_closed():
                self._sending = await typed(connect(self._dsn))
            await typed(self._sending.execute("SELECT pg_notify($1, $2)", self._channel(topic), base64.b64encode(message).decode()))

    async def subscribe(self, topic: str) -> Waiting:
        check_topic(topic)
        self._require_open()
        if sum(map(len, self._waiting.values())) >= MAX_SUBSCRIPTIONS:
            raise LimitExceeded(
                f"{MAX_SUBSCRIPTIONS} subscriptions are open", remedy="close some; a client may be reconnecting without end"
            )
        channel = self._channel(topic)
        async with self._listens:
            if self._listening is None or self._listening.is_closed():
                await self._open()
            if channel not in self._waiting:
                await typed(self._listening.add_listener(channel, self._arrived))
                self._waiting[channel] = []
        members = self._waiting[channel]
        waiting = Waiting(members.remove)
        members.append(waiting)
        return waiting

    async def close(self) -> None:
        self._closed = True
        if self._reopening is not None:
            self._reopening.cancel()
        for members in list(self._waiting.values()):
            for waiting in list(members):
                waiting.end()
        for connection in (self._listening, self._sending):
            if connection is not None and not connection.is_closed():
                with contextlib.suppress(VouchgateError):
                    await typed(connection.close(timeout=1.0))

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("the bus is closed", remedy="start vouchgate again")

    def _channel(self, topic: str) -> str:
        return "vg_" + hashlib.sha256(f"{self._trust_domain}\n{topic}".encode()).hexdigest()[:40]

    def _arrived(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        try:
            message = base64.b64decode(str(payload), validate=True)
        except (binascii.Error, ValueError):
            message = None
        for waiting in self._waiting.get(channel, ()):
            if message is None:
                waiting.miss()  # a stranger wrote to our channel: what it meant is in the store or nowhere
            else:
                waiting.put(message)

    async def _open(self) -> None:
        opened = await typed(connect(self._dsn))
        try:
            for channel in self._waiting:
                await typed(opened.add_listener(channel, self._arrived))
        except BaseException:
            opened.terminate()
            raise
        opened.add_termination_listener(self._broken)
        self._listening = opened
        for members in self._waiting.values():
            for waiting in members:
                waiting.miss()

    def _broken(self, _connection: object) -> None:
        if not self._closed and (self._reopening is None or self._reopening.done()):
            self._reopening = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        for members in self._waiting.values():
            for waiting in members:
                waiting.miss()
        pause = RETRY_SECONDS
        while not self._closed:
            try:
                async with self._listens:
                    if self._listening is None or self._listening.is_closed():
                        await self._open()
            except VouchgateError:
                await asyncio.sleep(pause)
                pause = min(MAX_RETRY_SECONDS, pause * 2)
            else:
                return


async def open_bus(dsn: str, trust_domain: str) -> PostgresBus:
    """A bus on a reachable server. Raises `Unavailable`."""
    bus = PostgresBus(dsn, trust_domain)
    await (await bus.subscribe("hello")).close()
    return bus
