"""The in-memory bus, and the queue that both buses give their subscribers.

A message says that something changed; the store says what. So a message may be lost (a slow subscriber, a broken connection), but the loss
is always told: `next` returns None once, and the subscriber reads the store anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from vouchgate.storage.contract import MAX_MESSAGE_BYTES, MAX_WAITING_MESSAGES
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable

MAX_TOPIC_CHARS = 64
MAX_SUBSCRIPTIONS = 1_000
"""Subscriptions of one bus: console pages, pushers and workers of one control plane."""


class Waiting:
    """One subscriber's bounded queue (`contract.Subscription`). Used by one event loop."""

    def __init__(self, leave: Callable[[Waiting], None]) -> None:
        self._leave = leave
        self._messages: deque[bytes] = deque()
        self._missed = False
        self._closed = False
        self._wake = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Called by the bus. A full queue is dropped whole: what it said is read from the store."""
        if len(self._messages) >= MAX_WAITING_MESSAGES:
            self.miss()
            return
        self._messages.append(message)
        self._wake.set()

    def miss(self) -> None:
        """Called by the bus where messages may have been lost."""
        self._messages.clear()
        self._missed = True
        self._wake.set()

    async def next(self) -> bytes | None:
        while True:
            if self._missed:
                self._missed = False
                return None
            if self._messages:
                return self._messages.popleft()
            if self._closed:
                raise Unavailable("the subscription is closed", remedy="subscribe again")
            self._wake.clear()
            await self._wake.wait()

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        """Stop; whoever waits is told."""
        if not self._closed:
            self._closed = True
            self._leave(self)
            self._wake.set()


def check_message(topic: str, message: bytes) -> None:
    """Raises `InvalidInput` or `LimitExceeded`."""
    check_topic(topic)
    if len(message) > MAX_MESSAGE_BYTES:
        raise LimitExceeded(
            f"a message has {len(message)} bytes, the bound is {MAX_MESSAGE_BYTES}", remedy="put it into the store, send its key"
        )


def check_topic(topic: str) -> None:
    """Raises `InvalidInput`."""
    if not 0 < len(topic) <= MAX_TOPIC_CHARS or not topic.isascii() or not topic.isprintable():
        raise InvalidInput(f"`{topic[:80]!a}` is not a topic", remedy=f"use 1 to {MAX_TOPIC_CHARS} printable ASCII characters")


class MemoryBus:
    """Within one process and event loop (`contract.Bus`)."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Waiting]] = {}
        self._closed = False

    async def publish(self, topic: str, message: bytes) -> None:
        check_message(topic, message)
        if self._closed:
            raise Unavailable("the bus is closed", remedy="start vouchgate again")
        for waiting in self._waiting.get(topic, ()):
            waiting.put(message)

    async def subscribe(self, topic: str) -> Waiting:
        check_topic(topic)
        if self._closed:
            raise Unavailable("the bus is closed", remedy="start vouchgate again")
        if sum(map(len, self._waiting.values())) >= MAX_SUBSCRIPTIONS:
            raise LimitExceeded(
                f"{MAX_SUBSCRIPTIONS} subscriptions are open", remedy="close some; a client may be reconnecting without end"
            )
        members = self._waiting.setdefault(topic, [])
        waiting = Waiting(members.remove)
        members.append(waiting)
        return waiting

    async def close(self) -> None:
        self._closed = True
        for members in list(self._waiting.values()):
            for waiting in list(members):
                waiting.end()
