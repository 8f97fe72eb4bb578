"""The discovery server by itself: what a gateway is told, in which order, and when it is told no more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from grpclib.client import Channel, StreamStreamMethod
from grpclib.exceptions import StreamTerminatedError

from vouchgate.edges.envoy.ads import FULL_EVERY, AdsServer, Resource
from vouchgate.edges.envoy.messages import CLUSTER_TYPE, EXTENSION_TYPE, ROUTE_TYPE


def thing(text: str = "x", version: str = "1", ttl: float | None = None) -> Resource:
    return Resource(any_pb2.Any(type_url="t", value=text.encode()), version, ttl)


class Point:
    """A gateway's side of the stream."""

    def __init__(self, stream) -> None:
        self.stream = stream

    async def ask(self, kind: str, *names: str, node: str = "g1", **more: object) -> None:
        await self.stream.send_message(
            discovery_pb2.DeltaDiscoveryRequest(node={"id": node}, type_url=kind, resource_names_subscribe=names, **more)
        )

    async def hear(self, seconds: float = 1.0):
        return await asyncio.wait_for(self.stream.recv_message(), seconds)

    async def silence(self, seconds: float = 0.15) -> None:
        with pytest.raises(TimeoutError):
            await self.hear(seconds)

    async def ack(self, response, error: str = "") -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error:
            request.error_detail.message = error
            request.error_detail.code = 13
        await self.stream.send_message(request)

    async def accept(self, *names: str) -> None:
        response = await self.hear()
        assert [resource.name for resource in response.resources] == list(names)
        await self.ack(response)


def run(story: Callable[[AdsServer, Point], Awaitable[None]], **options) -> None:
    async def main() -> None:
        folder = Path(tempfile.mkdtemp(prefix="vg"))
        server = AdsServer(allowed_uids={os.getuid()}, **options)
        await server.start(str(folder / "ads.sock"))
        channel = Channel(path=str(folder / "ads.sock"))
        method = StreamStreamMethod(
            channel,
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
            discovery_pb2.DeltaDiscoveryRequest,
            discovery_pb2.DeltaDiscoveryResponse,
        )
        try:
            async with method.open() as stream:
                await story(server, Point(stream))
                with contextlib.suppress(StreamTerminatedError, ConnectionError):
                    await stream.cancel()
        finally:
            channel.close()
            await server.stop()
            shutil.rmtree(folder)

    asyncio.run(main())


def test_revocations_come_first_and_alone_and_leases_wait_for_their_acknowledgement():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(EXTENSION_TYPE, {"map/0": thing(ttl=5), "revocations": thing(ttl=5), "jwt": thing()})
        await point.ask(EXTENSION_TYPE, "jwt", "map/0", "revocations")
        first = await point.hear()
        assert [resource.name for resource in first.resources] == ["revocations"]
        await point.accept("jwt")
        await point.silence()
        await point.ack(first)
        await point.accept("map/0")
        server.set_resources(EXTENSION_TYPE, {"map/0": thing("y", "2", 5)})
        server.set_resources(EXTENSION_TYPE, {"revocations": thing("z", "2", 5)})
        await point.accept("revocations")
        await point.accept("map/0")

    run(story)


def is_map(key: tuple[str, str]) -> bool:
    return key[1].startswith("map/") or key[0] == ROUTE_TYPE


def test_what_a_point_brought_is_neither_replaced_renewed_nor_removed_while_it_is_withheld():
    async def story(server: AdsServer, point: Point) -> None:
        server.withhold(is_map)
        server.set_resources(EXTENSION_TYPE, {"map/0": thing(ttl=5), "map/1": thing(ttl=5), "revocations": thing(ttl=5), "jwt": thing()})
        brought = {"map/0": "9", "map/7": "9", "revocations": "9", "jwt": "9"}
        await point.ask(EXTENSION_TYPE, "jwt", "map/0", "map/1", "map/7", "revocations", initial_resource_versions=brought)
        first = await point.hear()
        await point.accept("jwt")
        await point.ack(first)
        # what it came without is told, withheld or not
        await point.accept("map/1")
        await point.ask(ROUTE_TYPE, initial_resource_versions={"main": "9"})
        await point.silence()
        server.heartbeat(EXTENSION_TYPE, {"map/0": 5})
        server.set_resources(EXTENSION_TYPE, {"map/0": thing("new", "2", 5)})
        await point.silence()
        # revocations are never withheld
        server.set_resources(EXTENSION_TYPE, {"revocations": thing("r", "2", 5)})
        await point.accept("revocations")
        await point.silence()
        server.release()
        response = await point.hear()
        await point.ack(response)
        assert [(one.name, one.version, one.HasField("resource")) for one in response.resources] == [("map/0", "2", True)]
        assert list(response.removed_resources) == ["map/7"]
        assert list((await point.hear()).removed_resources) == ["main"]
        assert server.acked_version("g1", EXTENSION_TYPE, "map/0") == "2"

    run(story)


def test_what_is_released_waits_for_the_revocations_all_the_same():
    async def story(server: AdsServer, point: Point) -> None:
        server.withhold(is_map)
        server.set_resources(EXTENSION_TYPE, {"map/0": thing(ttl=5), "revocations": thing(ttl=5)})
        await point.ask(EXTENSION_TYPE, "map/0", "revocations", initial_resource_versions={"map/0": "9", "revocations": "9"})
        first = await point.hear()
        server.release()
        await point.silence()
        await point.ack(first)
        await point.accept("map/0")

    run(story)


def test_a_point_that_rejects_revocations_gets_no_lease():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(EXTENSION_TYPE, {"map/0": thing(ttl=5), "revocations": thing(ttl=5)})
        await point.ask(EXTENSION_TYPE, "map/0", "revocations")
        await point.ack(await point.hear(), "no")
        await point.silence()
        server.heartbeat(EXTENSION_TYPE, {"map/0": 5})
        await point.silence()
        assert not server.gate_acked(server.nodes()[0])

    run(story)


def test_a_renewal_has_no_body_until_something_was_wrong():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(EXTENSION_TYPE, {"revocations": thing(ttl=5)})
        await point.ask(EXTENSION_TYPE, "revocations")
        await point.accept("revocations")
        bodies = []
        for _ in range(FULL_EVERY + 1):
            await asyncio.sleep(0.01)
            server.heartbeat(EXTENSION_TYPE, {"revocations": 5})
            response = await point.hear()
            bodies.append(response.resources[0].HasField("resource"))
            assert response.resources[0].ttl.seconds == 5
            await point.ack(response)
        assert bodies == [False] * FULL_EVERY + [True]
        await asyncio.sleep(0.01)
        server.heartbeat(EXTENSION_TYPE, {"revocations": 5})
        await point.ack(await point.hear(), "expired")
        server.heartbeat(EXTENSION_TYPE, {"revocations": 5})
        assert (await point.hear()).resources[0].HasField("resource")
        server.heartbeat(EXTENSION_TYPE, {"revocations": 5})
        assert (await point.hear()).resources[0].HasField("resource"), "the one before was never answered"

    run(story)


def test_a_renewal_after_the_ttl_has_a_body():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(EXTENSION_TYPE, {"revocations": thing(ttl=0.1)})
        await point.ask(EXTENSION_TYPE, "revocations")
        await point.accept("revocations")
        await asyncio.sleep(0.15)
        server.heartbeat(EXTENSION_TYPE, {"revocations": 0.1})
        assert (await point.hear()).resources[0].HasField("resource")

    run(story)


def test_a_rejected_company_is_sent_again_one_by_one():
    heard: list[tuple] = []

    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(CLUSTER_TYPE, {"good": thing(), "bad": thing()})
        await point.ask(CLUSTER_TYPE)
        response = await point.hear()
        assert {resource.name for resource in response.resources} == {"good", "bad"}
        await point.ack(response, "bad is bad")
        for _ in range(2):
            alone = await point.hear()
            (resource,) = alone.resources
            await point.ack(alone, "bad is bad" if resource.name == "bad" else "")
        await point.silence()
        assert server.acked_version("g1", CLUSTER_TYPE, "good") == "1"
        assert server.acked_version("g1", CLUSTER_TYPE, "bad") == ""
        assert server.nodes()[0].rejected == {(CLUSTER_TYPE, "bad"): "bad is bad"}
        assert await server.wait_acked(CLUSTER_TYPE, ["bad"], timeout=0.05) == {"g1": False}
        server.set_resources(CLUSTER_TYPE, {"bad": thing("better", "2")})
        await point.accept("bad")
        assert await server.wait_acked(CLUSTER_TYPE, ["bad"], timeout=1) == {"g1": True}
        assert server.nodes()[0].rejected == {}

    run(story, on_rejected=lambda *what: heard.append(what))
    assert [len(keys) for _, keys, _ in heard] == [2, 1]


def test_what_is_unchanged_is_not_sent_and_what_is_gone_is_said():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(CLUSTER_TYPE, {"a": thing(), "b": thing()})
        await point.ask(CLUSTER_TYPE)
        await point.accept("a", "b")
        server.set_resources(CLUSTER_TYPE, {"a": thing()})
        await point.silence()
        server.remove(CLUSTER_TYPE, ["b"])
        response = await point.hear()
        assert (list(response.removed_resources), list(response.resources)) == (["b"], [])

    run(story)


def test_a_point_that_comes_back_forgets_what_is_gone_and_hears_the_rest_again():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(CLUSTER_TYPE, {"a": thing()})
        await point.ask(CLUSTER_TYPE, "*", initial_resource_versions={"a": "1", "old": "9"})
        response = await point.hear()
        assert [resource.name for resource in response.resources] == ["a"]
        assert list(response.removed_resources) == ["old"]

    run(story)


def test_only_what_was_asked_for_is_sent():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(ROUTE_TYPE, {"tls": thing(), "plain": thing()})
        await point.ask(ROUTE_TYPE, "tls")
        await point.accept("tls")
        server.set_resources(ROUTE_TYPE, {"plain": thing("y", "2")})
        await point.silence()
        await point.stream.send_message(discovery_pb2.DeltaDiscoveryRequest(type_url=ROUTE_TYPE, resource_names_unsubscribe=["tls"]))
        await asyncio.sleep(0.02)
        server.set_resources(ROUTE_TYPE, {"tls": thing("y", "2")})
        await point.silence()

    run(story)


def test_changes_coalesce_while_the_point_is_busy():
    async def story(server: AdsServer, point: Point) -> None:
        await point.ask(CLUSTER_TYPE)
        await asyncio.sleep(0.02)
        for number in range(1000):
            server.set_resources(CLUSTER_TYPE, {"a": thing(str(number), str(number))})
        response = await point.hear()
        assert (len(response.resources), response.resources[0].version) == (1, "999")
        await point.silence()

    run(story)


def test_a_stream_without_a_node_is_ended():
    async def story(server: AdsServer, point: Point) -> None:
        await point.ask(CLUSTER_TYPE, node="")
        assert await point.hear() is None
        assert server.nodes() == []

    run(story)


def test_an_unknown_nonce_acknowledges_nothing():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(CLUSTER_TYPE, {"a": thing()})
        await point.ask(CLUSTER_TYPE)
        response = await point.hear()
        response.nonce = "77"
        await point.ack(response)
        await asyncio.sleep(0.02)
        assert server.acked_version("g1", CLUSTER_TYPE, "a") == ""

    run(story)


def test_a_longer_ttl_is_sent_at_once_and_whole_if_the_shorter_has_run_out():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(EXTENSION_TYPE, {"revocations": thing(ttl=0.1)})
        await point.ask(EXTENSION_TYPE, "revocations")
        await point.accept("revocations")
        await asyncio.sleep(0.02)
        server.set_resources(EXTENSION_TYPE, {"revocations": thing(ttl=0.2)})
        response = await point.hear()
        assert not response.resources[0].HasField("resource")
        await point.ack(response)
        await asyncio.sleep(0.25)
        server.set_resources(EXTENSION_TYPE, {"revocations": thing(ttl=10.0)})
        assert (await point.hear()).resources[0].HasField("resource")

    run(story)


def test_what_is_set_again_with_the_same_ttl_is_renewed():
    async def story(server: AdsServer, point: Point) -> None:
        server.set_resources(EXTENSION_TYPE, {"revocations": thing(ttl=0.5)})
        await point.ask(EXTENSION_TYPE, "revocations")
        await point.accept("revocations")
        await asyncio.sleep(0.02)
        server.set_resources(EXTENSION_TYPE, {"revocations": thing(ttl=0.5)})
        response = await point.hear()
        assert (response.resources[0].ttl.nanos, response.resources[0].HasField("resource")) == (500_000_000, False)

    run(story)


def test_a_stream_that_cannot_be_told_is_cut_off_so_that_it_begins_again():
    async def story(server: AdsServer, point: Point) -> None:
        await point.ask(CLUSTER_TYPE)
        await asyncio.sleep(0.02)
        server.set_resources(CLUSTER_TYPE, {"a": Resource("not a message", "1")})
        with pytest.raises((StreamTerminatedError, ConnectionError)):
            await point.hear()
        await asyncio.sleep(0.02)
        assert server.nodes() == []

    run(story)


def test_what_was_sent_without_its_end_is_known_until_it_is_sent_with_one_or_taken_back(monkeypatch):
    async def story(server: AdsServer, point: Point) -> None:
        add = AdsServer._add

        def endless(self, node, response, key, held, **more) -> None:
            add(self, node, response, key, held, **more)
            response.resources[-1].ClearField("ttl")

        server.set_resources(EXTENSION_TYPE, {"revocations": thing(), "map/1": thing(ttl=5.0)})
        await point.ask(EXTENSION_TYPE, "revocations")
        await point.accept("revocations")
        monkeypatch.setattr(AdsServer, "_add", endless)
        await point.ask(EXTENSION_TYPE, "map/1")
        await point.ack(await point.hear())
        assert server.unleased == {(EXTENSION_TYPE, "map/1")}
        monkeypatch.setattr(AdsServer, "_add", add)
        server.heartbeat(EXTENSION_TYPE, {"map/1": 5.0})
        await point.ack(await point.hear())
        assert server.unleased == set()
        monkeypatch.setattr(AdsServer, "_add", endless)
        server.set_resources(EXTENSION_TYPE, {"map/1": thing("y", "2", ttl=5.0)})
        await point.ack(await point.hear())
        server.remove(EXTENSION_TYPE, ["map/1"])
        await point.hear()
        assert server.unleased == set()

    run(story)
