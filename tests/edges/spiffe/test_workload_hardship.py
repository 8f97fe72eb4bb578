"""Callers that are malformed, rude, many, gone or somebody else by now: a typed refusal, recorded, nothing issued, others unaffected."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from agent_world import NAME, House, agent_world
from raw_client import Raw, framed

from vouchgate.edges.spiffe import messages, serving
from vouchgate.edges.spiffe.serving import Bounds
from vouchgate.vocabulary.principals import Selector

X509, JWT = "/SpiffeWorkloadAPI/FetchX509SVID", "/SpiffeWorkloadAPI/FetchJWTSVID"
INVALID, DENIED, EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 3, 7, 8, 12, 14


def run(story, seconds: float = 30) -> None:
    asyncio.run(asyncio.wait_for(story(), seconds))


async def raw(house: House) -> Raw:
    return await Raw().open(str(house.folder / "workload.sock"))


async def gets_one(house: House) -> bool:
    """Whether an honest caller is served."""
    client = await raw(house)
    try:
        response = messages.X509SVIDResponse.FromString(await client.message(client.ask(X509)))
        return bool(response.svids[0].spiffe_id == NAME)
    finally:
        client.close()


@pytest.mark.parametrize(
    "headers",
    [(), (("workload.spiffe.io", "false"),), (("workload.spiffe.io", "True"),), (("workload.spiffe.io", ""),),
     (("workload.spiffe.io", "true"), ("workload.spiffe.io", "true")), (("x-workload.spiffe.io", "true"),)],
)  # fmt: skip
def test_without_the_exact_header_nothing_is_done(headers):
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            client = await raw(house)
            assert await client.status(client.ask(X509, headers=headers)) == INVALID
            assert "workload.issue" not in {name for name, _ in house.to_control.calls}
            await house.until(lambda: any("malformed" in reason for reason in house.refusals()))
            client.close()

    run(story)


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        (X509, framed(b"\xff\xff\xff\xff"), INVALID),
        (X509, framed(b"", compressed=True), UNIMPLEMENTED),
        (X509, framed(b"", length=2**32 - 1), EXHAUSTED),
        (X509, framed(b"a" * 10, length=20), INVALID),
        (X509, b"\x00\x00", INVALID),
        (X509, b"", INVALID),
        (JWT, framed(b"\x0a\x05ab"), INVALID),
        (JWT, framed(b""), INVALID),
        (JWT, framed(messages.JWTSVIDRequest(audience=[""]).SerializeToString()), INVALID),
        (JWT, framed(messages.JWTSVIDRequest(audience=["a" * 5000]).SerializeToString()), INVALID),
        (JWT, framed(messages.JWTSVIDRequest(audience=["a\nb"]).SerializeToString()), INVALID),
        (JWT, framed(messages.JWTSVIDRequest(audience=["a", "vg://test.local/endpoint/digits"]).SerializeToString()), INVALID),
        (JWT, framed(messages.JWTSVIDRequest(audience=["a", "b\n"]).SerializeToString()), INVALID),
        (JWT, framed(messages.JWTSVIDRequest(audience=[str(n) for n in range(9)]).SerializeToString()), INVALID),
        (JWT, framed(messages.JWTSVIDRequest(audience=["a"], spiffe_id="spiffe://x/..").SerializeToString()), DENIED),
        ("/SpiffeWorkloadAPI/ValidateJWTSVID", framed(b""), INVALID),
        ("/SpiffeWorkloadAPI/Nothing", framed(b""), UNIMPLEMENTED),
        ("/spiffe.broker.API/FetchX509SVID", framed(b""), UNIMPLEMENTED),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", framed(b""), UNIMPLEMENTED),
        ("/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", framed(b""), UNIMPLEMENTED),
    ],
)
def test_what_cannot_be_read_or_is_not_offered_has_its_status(method, body, status):
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            client = await raw(house)
            assert await client.status(client.ask(method, body)) == status
            assert not house.issued()
            assert await gets_one(house)
            client.close()

    run(story)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64, os.urandom(4096)]
)
def test_bytes_that_are_not_http2_end_their_connection_alone(data, monkeypatch):
    monkeypatch.setattr(serving, "FIRST_REQUEST_SECONDS", 0.3)

    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            reader, writer = await asyncio.open_unix_connection(str(house.folder / "workload.sock"))
            writer.write(data)
            while await asyncio.wait_for(reader.read(4096), 5):
                pass
            assert await gets_one(house)
            writer.close()

    run(story)


def test_a_caller_that_ends_ends_its_stream_and_gets_nothing_more():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            code = (
                "import socket,time,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print('in', flush=True); time.sleep(60)"
            )
            child = subprocess.Popen([sys.executable, "-c", code, str(house.folder / "workload.sock")], stdout=subprocess.PIPE)
            await house.until(lambda: len(house.agent.server.callers) == 1)
            (caller,) = house.agent.server.callers.values()
            assert caller.pid == child.pid and house.agent.server.still_there(caller)
            child.send_signal(signal.SIGKILL)
            await house.until(lambda: not house.agent.server.callers)
            assert not house.agent.server.still_there(caller)
            child.wait()
            child.stdout.close()

    run(story)


def test_a_connection_that_outlives_its_process_in_another_ones_hands_is_cut():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            # the child connects, hands the open socket to a grandchild, and ends: the grandchild is not who connected
            code = (
                "import os,socket,sys,time\n"
                "s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
                "if os.fork(): time.sleep(0.3); os._exit(0)\n"
                "s.settimeout(20)\n"
                "while s.recv(100): pass\n"
                "print('cut', flush=True)\n"
            )
            child = subprocess.Popen([sys.executable, "-c", code, str(house.folder / "workload.sock")], stdout=subprocess.PIPE)
            assert await house.thread(child.stdout.readline) == b"cut\n"
            assert not house.agent.server.callers
            child.wait()
            child.stdout.close()

    run(story)


def test_a_process_that_ended_while_it_was_looked_at_gets_nothing():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            house.kernel.alive_says = False
            client = await raw(house)
            assert await client.status(client.ask(X509)) != 0
            assert X509 not in client.data
            house.facts[os.getpid()] = None
            house.kernel.alive_says = None
            fresh = await raw(house)
            assert await fresh.status(fresh.ask(X509)) == UNAVAILABLE
            assert not fresh.data
            client.close()
            fresh.close()

    run(story)


def test_a_process_that_became_another_program_is_looked_at_again_at_rotation():
    async def story() -> None:
        async with agent_world() as house:
            uid = Selector(type="unix:uid", value=str(os.getuid()))
            await house.register(selectors=(uid, Selector(type="unix:path", value="/usr/bin/trainer")))
            house.facts[os.getpid()] = {"unix-process": {"uid": os.getuid(), "gid": 0, "exe_path": "/usr/bin/trainer"}}
            client = await raw(house)
            stream = client.ask(X509)
            await client.message(stream)
            house.facts[os.getpid()] = {"unix-process": {"uid": os.getuid(), "gid": 0, "exe_path": "/tmp/other"}}
            house.push.rotate()
            assert await client.status(stream) == DENIED
            assert len(house.issued()) == 1
            client.close()

    run(story)


def test_half_open_streams_cost_their_uid_its_own_and_end_by_time(monkeypatch):
    monkeypatch.setattr(serving, "MESSAGE_SECONDS", 0.5)

    async def story() -> None:
        async with agent_world(bounds=Bounds(streams_per_uid=300, requests_per_second=100_000)) as house:
            await house.register()
            clients = [await raw(house) for _ in range(10)]
            asked = [(client, client.ask(X509, None)) for client in clients for _ in range(50)]
            reset = 0
            for client, number in asked:
                reset += await client.status(number) == -1
            assert reset >= 200
            await house.until(lambda: not house.agent.server.streams)
            assert await gets_one(house)
            for client in clients:
                client.close()

    run(story)


def test_one_uids_connections_are_bounded_and_its_refusal_is_recorded():
    async def story() -> None:
        async with agent_world(bounds=Bounds(connections_per_uid=8)) as house:
            await house.register()
            clients = [await raw(house) for _ in range(20)]
            await house.until(lambda: any("connections" in reason for reason in house.refusals()))
            assert len(house.agent.server.callers) == 8
            for client in clients:
                client.close()
            await house.until(lambda: not house.agent.server.callers)
            assert await gets_one(house)

    run(story)


def test_a_connection_that_asks_nothing_is_cut(monkeypatch):
    monkeypatch.setattr(serving, "FIRST_REQUEST_SECONDS", 0.1)

    async def story() -> None:
        async with agent_world() as house:
            reader, writer = await asyncio.open_unix_connection(str(house.folder / "workload.sock"))
            while await asyncio.wait_for(reader.read(4096), 5):
                pass
            writer.close()
            await house.until(lambda: any("half-open" in reason for reason in house.refusals()))

    run(story)


def test_a_caller_that_does_not_read_is_cut_and_delays_nobody(monkeypatch):
    monkeypatch.setattr(serving, "SEND_SECONDS", 0.3)

    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            slow = Raw()
            slow.h2.local_settings.initial_window_size = 0
            slow.h2.local_settings.acknowledge()
            await slow.open(str(house.folder / "workload.sock"))
            slow.ask(X509)
            await asyncio.sleep(0.05)
            assert await gets_one(house)
            while await slow.read():
                pass
            assert slow.closed and not any(slow.data.values())
            slow.close()

    run(story)


def test_a_uid_that_asks_too_often_is_reset_and_comes_back():
    async def story() -> None:
        async with agent_world(bounds=Bounds(requests_per_second=5)) as house:
            await house.register()
            client = await raw(house)
            numbers = [client.ask(X509) for _ in range(30)]
            await asyncio.sleep(0.2)
            assert len(house.issued()) <= 12
            assert sum([await client.status(number) == -1 for number in numbers[15:]]) >= 10
            client.close()

    run(story)


def test_repeated_refusals_are_one_entry_with_a_count():
    async def story() -> None:
        async with agent_world() as house:
            client = await raw(house)
            for _ in range(50):
                assert await client.status(client.ask(X509)) == DENIED
            await asyncio.sleep(0.1)
            assert sum("not-registered" in reason for reason in house.refusals()) == 1
            client.close()

    run(story)


def test_bytes_without_end_do_not_delay_others():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            began = time.monotonic()
            reader, writer = await asyncio.open_unix_connection(str(house.folder / "workload.sock"))
            writer.write(b"\x00" * 10_000)
            assert await gets_one(house)
            assert time.monotonic() - began < 5
            writer.close()
            del reader

    run(story)


def test_set_user_id_programs_and_malformed_facts_are_refused():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            for facts in (
                {"unix-process": {"uid": os.getuid(), "gid": 0, "real_uid": os.getuid() + 1}},
                {"unix-process": {"uid": os.getuid()}},
                {"unix-process": {"uid": os.getuid(), "gid": 0, "made-up": "x"}},
                {"unix-process": {"unread": "it is a thread"}},
                {"container": {"cgroups": ["0::/system.slice/docker-" + "a" * 64 + ".scope"]}},
                {},
            ):
                house.facts[os.getpid()] = facts
                client = await raw(house)
                assert await client.status(client.ask(X509)) == DENIED, facts
                client.close()
            assert not house.issued()

    run(story)


def test_ten_thousand_half_open_streams_leave_others_as_they_are():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            clients = [await raw(house) for _ in range(100)]
            opened = 0
            for client in clients:
                for _ in range(100):
                    client.ask(X509, None)
                    opened += 1
                await asyncio.sleep(0)
            assert opened == 10_000
            await house.until(lambda: len(house.agent.server.streams) == 1, 20)
            # an honest caller of another uid: the bounds of the first are the first's own
            house.agent.server.streams[os.getuid()] -= (held := house.agent.server.streams[os.getuid()])
            house.agent.server._allowance.clear()
            assert held <= house.agent.server.bounds.streams_per_uid
            began = time.monotonic()
            assert await gets_one(house)
            assert time.monotonic() - began < 5
            house.agent.server.streams[os.getuid()] += held
            for client in clients:
                client.close()
            await house.until(lambda: not house.agent.server.streams, 20)

    run(story, 60)


def test_any_frames_end_at_most_their_own_connection():
    async def story() -> None:
        async with agent_world(bounds=Bounds(requests_per_second=100_000)) as house:
            await house.register()
            chance = random.Random(7)
            path = str(house.folder / "workload.sock")
            for _ in range(150):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(PREFACE + b"".join(_frame(chance) for _ in range(chance.randrange(1, 12))))
                if chance.random() < 0.5:
                    await asyncio.sleep(0)
                writer.close()
                del reader
            await house.until(lambda: not house.agent.server.callers)
            await house.until(lambda: not house.agent.server.streams and not len(house.agent.streams))
            assert not house.agent.server._per_uid
            assert await gets_one(house)

    run(story)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def _frame(chance: random.Random) -> bytes:
    """A frame of any type with any flags, often a call that begins well."""
    if chance.random() < 0.4:
        raw = Raw()
        raw.h2.initiate_connection()
        raw.h2.clear_outbound_data_buffer()
        number = raw.h2.get_next_available_stream_id() + 2 * chance.randrange(4)
        raw.h2.send_headers(number, [(":method", "POST"), (":scheme", "http"), (":path", X509), (":authority", "a"), ("te", "trailers"),
                                     ("content-type", "application/grpc"), ("workload.spiffe.io", "true")])  # fmt: skip
        raw.h2.send_data(number, chance.randbytes(chance.randrange(9)), end_stream=chance.random() < 0.5)
        return raw.h2.data_to_send()
    body = chance.randbytes(chance.choice((0, 1, 4, 5, 8, 30)))
    return (
        len(body).to_bytes(3, "big") + bytes((chance.randrange(12), chance.randrange(256))) + chance.randrange(9).to_bytes(4, "big") + body
    )
