"""The bus's contract, the same in memory and over PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from vouchgate.storage.bus import MemoryBus
from vouchgate.storage.contract import MAX_MESSAGE_BYTES, MAX_WAITING_MESSAGES, Bus
from vouchgate.storage.postgres_bus import open_bus
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable

SECONDS = 10.0
Story = Callable[[Bus], Awaitable[None]]


@pytest.fixture(params=["memory", "postgres"])
def tell(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    dsn = request.getfixturevalue("postgres_server")() if request.param == "postgres" else ""

    def run(story: Story) -> None:
        async def whole() -> None:
            bus: Bus = await open_bus(dsn, "test.local") if dsn else MemoryBus()
            try:
                async with asyncio.timeout(SECONDS):
                    await story(bus)
            finally:
                await bus.close()

        asyncio.run(whole())

    return run


def test_every_subscriber_gets_every_message_in_order(tell: Callable[[Story], None]) -> None:
    async def story(bus: Bus) -> None:
        first, second = await bus.subscribe("epoch"), await bus.subscribe("epoch")
        for number in range(50):
            await bus.publish("epoch", b"%d" % number)
        assert [await first.next() for _ in range(50)] == [b"%d" % number for number in range(50)]
        assert [await second.next() for _ in range(50)] == [b"%d" % number for number in range(50)]

    tell(story)


@pytest.mark.parametrize("message", [b"", b"\x00\xff\n'", bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)])
def test_messages_are_bytes(tell: Callable[[Story], None], message: bytes) -> None:
    async def story(bus: Bus) -> None:
        hears = await bus.subscribe("t")
        await bus.publish("t", message)
        assert await hears.next() == message

    tell(story)


def test_topics_do_not_mix_and_closed_subscribers_hear_nothing(tell: Callable[[Story], None]) -> None:
    async def story(bus: Bus) -> None:
        hears, leaves = await bus.subscribe("a"), await bus.subscribe("a")
        await leaves.close()
        await leaves.close()
        await bus.publish("b", b"other")
        await bus.publish("a", b"mine")
        assert await hears.next() == b"mine"
        with pytest.raises(Unavailable):
            await leaves.next()

    tell(story)


def test_a_slow_subscriber_is_told_that_it_missed_messages(tell: Callable[[Story], None]) -> None:
    async def story(bus: Bus) -> None:
        slow, marker = await bus.subscribe("t"), await bus.subscribe("end")
        for _ in range(MAX_WAITING_MESSAGES + 1):
            await bus.publish("t", b"x")
        await bus.publish("end", b"")
        await marker.next()
        assert await slow.next() is None
        await bus.publish("t", b"after")
        assert await slow.next() == b"after"

    tell(story)


@pytest.mark.parametrize("topic", ["", "x" * 65, "a\n", "\u00e9", "a\x00"])
def test_bad_topics_are_refused(tell: Callable[[Story], None], topic: str) -> None:
    async def story(bus: Bus) -> None:
        with pytest.raises(InvalidInput):
            await bus.publish(topic, b"")
        with pytest.raises(InvalidInput):
            await bus.subscribe(topic)

    tell(story)


def test_oversize_messages_are_refused(tell: Callable[[Story], None]) -> None:
    async def story(bus: Bus) -> None:
        with pytest.raises(LimitExceeded):
            await bus.publish("t", b"x" * (MAX_MESSAGE_BYTES + 1))

    tell(story)


def test_a_closed_bus_refuses_and_wakes_who_waits(tell: Callable[[Story], None]) -> None:
    async def story(bus: Bus) -> None:
        waiting = asyncio.ensure_future((await bus.subscribe("t")).next())
        await asyncio.sleep(0)
        await bus.close()
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await bus.publish("t", b"")
        with pytest.raises(Unavailable):
            await bus.subscribe("t")

    tell(story)


def test_trust_domains_share_no_channel(postgres_server: Callable[[], str]) -> None:
    async def story() -> None:
        dsn = postgres_server()
        one, two = await open_bus(dsn, "one.local"), await open_bus(dsn, "two.local")
        hears, other = await one.subscribe("t"), await two.subscribe("t")
        await two.publish("t", b"two")
        await one.publish("t", b"one")
        async with asyncio.timeout(SECONDS):
            assert (await hears.next(), await other.next()) == (b"one", b"two")
        await one.close()
        await two.close()

    asyncio.run(story())


def test_a_broken_connection_is_told_and_mended(postgres_server: Callable[[], str]) -> None:
    async def story() -> None:
        dsn = postgres_server()
        bus = await open_bus(dsn, "test.local")
        hears = await bus.subscribe("t")
        admin = await asyncpg.connect(dsn)
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vouchgate'")
        async with asyncio.timeout(SECONDS):
            assert await hears.next() is None
            got = None
            while got is None:
                await bus.publish("t", b"again")
                await asyncio.sleep(0.05)
                got = await hears.next()
        assert got == b"again"
        await admin.close()
        await bus.close()

    asyncio.run(story())


def test_an_unreachable_server_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        asyncio.run(open_bus("postgresql://postgres@127.0.0.1:9/none", "test.local"))
