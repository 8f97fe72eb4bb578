"""A caller that floods with what HTTP/2 allows beside requests (CVE-2019-9512, 9515, 9518): its connection ends, nothing of it is kept, and
others are served meanwhile."""

from __future__ import annotations

import asyncio
import os
import struct

import pytest
from agent_world import agent_world
from raw_client import Raw, framed
from test_workload_hardship import JWT, X509, gets_one, raw, run

from vouchgate.edges.spiffe import messages
from vouchgate.edges.spiffe.serving import MAX_REQUEST_BYTES, MAX_UNREAD, WINDOW_BYTES, Bounds


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, 0]) + struct.pack("!I", stream) + payload


PING, SETTINGS, PRIORITY = frame(6, 0, b"A" * 8), frame(4, 0, struct.pack("!HI", 3, 100)), frame(2, 1, b"\x00\x00\x00\x00\x10")
WINDOW, EMPTY, ONE = frame(8, 0, b"\x00\x00\x00\x01"), frame(0, 1), frame(0, 1, b"x")


async def until_cut(client: Raw, flood: bytes) -> bool:
    """Whether the connection ended, however much was sent by then."""
    try:
        for _ in range(400):
            client.writer.write(flood)
            await asyncio.wait_for(client.writer.drain(), 10)
            if client.reader.at_eof():
                return True
    except (ConnectionError, TimeoutError):
        return True
    return False


@pytest.mark.parametrize(
    "noise", [PING, SETTINGS, PRIORITY, WINDOW, EMPTY, ONE], ids=["ping", "settings", "priority", "window", "empty", "one"]
)
def test_a_flood_of_frames_ends_its_connection_and_is_recorded(noise):
    async def story() -> None:
        async with agent_world(bounds=Bounds(requests_per_second=20)) as house:
            await house.register()
            client = await raw(house)
            await client.message(client.ask(X509, end=False))
            reading = asyncio.create_task(client.reader.read(-1))
            assert await until_cut(client, noise * 400)
            await house.until(lambda: any("noise" in reason for reason in house.refusals()))
            await house.until(lambda: not house.agent.server.callers)
            assert not house.agent.server.streams
            reading.cancel()
            client.close()

    run(story)


def test_what_nobody_reads_is_bounded_however_high_the_rate_is():
    async def story() -> None:
        async with agent_world(bounds=Bounds(requests_per_second=1_000_000)) as house:
            await house.register()
            client = await raw(house)
            number = client.ask(X509, end=False)
            await client.message(number)
            assert client.h2.remote_settings.initial_window_size == WINDOW_BYTES
            assert await until_cut(client, EMPTY * (MAX_UNREAD + 2))
            assert await gets_one(house)

    run(story)


def test_one_users_noise_is_nobody_elses():
    async def story() -> None:
        async with agent_world(bounds=Bounds(requests_per_second=20)) as house:
            await house.register()
            server = house.agent.server
            assert server.endures(4_711, 10)
            assert not server.endures(4_711, 10**6)
            assert not server.endures(4_711), "it owes, on whatever connection"
            assert server._noise[4_711][0] >= -2 * 40 * 20, "and not for ever"
            assert server.endures(4_712, 10)
            assert await gets_one(house)

    run(story)


def test_honest_clients_are_far_from_the_bounds():
    """A connection for each request, at the rate that is allowed; and the largest request in small pieces."""

    async def story() -> None:
        async with agent_world(bounds=Bounds(requests_per_second=40)) as house:
            await house.register()
            for _ in range(80):
                assert await gets_one(house)
            client = await raw(house)
            house.agent.server._allowance.clear()
            body = framed(messages.JWTSVIDRequest(audience=["a" * 60_000]).SerializeToString())
            assert MAX_REQUEST_BYTES > len(body) > 60_000
            number = client.ask(JWT, None)
            for at in range(0, len(body), 700):
                client.h2.send_data(number, body[at : at + 700], end_stream=at + 700 >= len(body))
                client.flush()
                await asyncio.sleep(0)
            assert await client.status(number) == 3, "too long an audience, and no other complaint"
            client.close()

    run(story)


def test_whoever_holds_the_most_makes_room_for_who_holds_none():
    async def story() -> None:
        async with agent_world(bounds=Bounds(connections=8, connections_per_uid=8)) as house:
            await house.register()
            server = house.agent.server
            clients = [await raw(house) for _ in range(8)]
            await house.until(lambda: len(server.callers) == 8)
            first = next(iter(server.callers))
            assert not server._has_room(os.getuid()), "one's own do not make room for one's own"
            assert server._has_room(4_711)
            assert len(server.callers) == 7 and first in server.callers
            await house.until(lambda: any("others have none" in reason for reason in house.refusals()))
            assert await clients[0].message(clients[0].ask(X509))
            for client in clients:
                client.close()

    run(story)
