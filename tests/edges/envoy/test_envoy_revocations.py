"""Revocations in two resources: nothing that was enforced is let go of, in whatever order points connect, acknowledge, reject and return."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from gateway_harness import TD, Harness, revocation, spiffe
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vouchgate.edges.envoy import revocations
from vouchgate.edges.envoy.ads import AdsServer, Node
from vouchgate.edges.envoy.maps import MAX_REVOCATIONS, OLDER, REVOCATIONS
from vouchgate.edges.envoy.messages import EXTENSION_TYPE
from vouchgate.edges.envoy.publisher import GatewayView
from vouchgate.edges.envoy.revocations import MAX_NEWER, OUTLIVED_MS
from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.vocabulary.errors import LimitExceeded
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

INFER = "/v2/models/digits/infer"
REVOKED = "https://vouchgate.dev/problem/revoked"
LEASE_EXPIRED = "https://vouchgate.dev/problem/lease-expired"


def many(count: int) -> list[Revocation]:
    return [revocation("principal", spiffe(f"gone-{number}"), id=f"old{number}") for number in range(count)]


class Point:
    """What one gateway holds, by what it was sent; it outlives its connections."""

    def __init__(self) -> None:
        self.maps: dict[str, set[str]] = {}
        self.node: Node | None = None
        self.unanswered: list[SimpleNamespace] = []

    @property
    def enforced(self) -> set[str] | None:
        """Ids; None where a filter still denies everything."""
        return self.maps[REVOCATIONS] | self.maps[OLDER] if len(self.maps) == 2 else None


class World:
    """The real view and server, without sockets: responses are taken from the server as its stream would take them."""

    def __init__(self) -> None:
        self.server = AdsServer(allowed_uids={0})
        plain = GatewaySettings(node_id="g", trust_domain=TD, admin_socket="a", ads_socket="b", ext_authz_socket="c", access_log="d")
        self.now = int(time.time() * 1000)
        self.view = GatewayView(plain, self.server, clock=lambda: UnixMillis(self.now))
        self.points = [Point(), Point()]
        self.standing: dict[str, Revocation] = {}
        self.ever = 0
        self.epoch = 0

    def tell(self) -> None:
        self.epoch += 1
        self.view.set_revocations(self.standing.values(), epoch=self.epoch)

    def connect(self, point: Point) -> None:
        self.disconnect(point)
        node = Node(id=f"g{self.points.index(point)}", peer=SimpleNamespace(uid=0, pid=1), connected_at=0.0)  # type: ignore[arg-type]
        self.server._nodes[node.id] = point.node = node
        names = [REVOCATIONS, OLDER]
        request = SimpleNamespace(
            response_nonce="",
            type_url=EXTENSION_TYPE,
            resource_names_subscribe=names,
            resource_names_unsubscribe=[],
            initial_resource_versions={},
        )
        self.server._take(node, request)

    def disconnect(self, point: Point) -> None:
        if point.node is not None:
            del self.server._nodes[point.node.id]
        point.node, point.unanswered = None, []

    def deliver(self, point: Point) -> bool:
        """One response arrives; Envoy takes it at once and answers later."""
        batch = self.server._batch(point.node) if point.node else []
        if not batch:
            return False
        response = self.server._response(point.node, batch)
        for one in response.resources:
            if one.name in {REVOCATIONS, OLDER} and one.HasField("resource"):
                found = set(re.findall(rb"revoked:(\w+)", one.resource.SerializeToString()))
                point.maps[one.name] = {text.decode() for text in found}
        point.unanswered.append(SimpleNamespace(response_nonce=response.nonce, HasField=lambda _: False))
        return True

    def answer(self, point: Point) -> None:
        if point.node and point.unanswered:
            self.server._answered(point.node, point.unanswered.pop(0))

    def sync(self, point: Point) -> None:
        while point.unanswered or self.deliver(point):
            self.answer(point)

    def check(self) -> None:
        for point in self.points:
            if point.node and self.server.gate_acked(point.node):
                assert point.enforced is not None
                assert set(self.standing) <= point.enforced


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("revoke"), st.integers(1, 3)),
        st.tuples(st.just("pardon"), st.integers(0, 30)),
        st.tuples(st.sampled_from(["connect", "disconnect", "deliver", "deliver", "answer", "sync", "sync"]), st.integers(0, 1)),
        st.tuples(st.just("renew"), st.just(0)),
    ),
    min_size=10,
    max_size=50,
)


@settings(max_examples=500, deadline=None)
@given(STEPS)
@example([("connect", 0), ("sync", 0), ("revoke", 1), ("sync", 0), ("disconnect", 0), ("revoke", 3), ("connect", 0), ("deliver", 0)])
@example(
    [
        ("connect", 0),
        ("sync", 0),
        ("connect", 1),
        ("sync", 1),
        ("revoke", 1),
        ("sync", 0),
        ("revoke", 3),
        ("sync", 1),
        ("renew", 0),
        ("deliver", 0),
    ]
)
@example(
    [
        ("connect", 0),
        ("sync", 0),
        ("revoke", 3),
        ("sync", 0),
        ("renew", 0),
        ("revoke", 1),
        ("sync", 0),
        ("revoke", 1),
        ("pardon", 0),
        ("deliver", 0),
    ]
)
def test_what_was_enforced_stays_enforced_in_every_order(steps: list[tuple[str, int]]) -> None:
    bound, revocations.MAX_NEWER = revocations.MAX_NEWER, 1
    try:
        world = World()
        world.tell()
        for what, number in steps:
            held = [point.enforced for point in world.points]
            _step(world, what, number)
            for point, before in zip(world.points, held, strict=True):
                if before is not None:
                    assert point.enforced is not None
                    assert before & set(world.standing) <= point.enforced, (what, number)
            world.check()
        for point in world.points:
            world.connect(point)
        for _ in range(20):
            world.view.renew()
            for point in world.points:
                while world.deliver(point):
                    world.answer(point)
        assert all(point.enforced == set(world.standing) and world.server.gate_acked(point.node) for point in world.points)
    finally:
        revocations.MAX_NEWER = bound


def _step(world: World, what: str, number: int) -> None:
    match what:
        case "revoke":
            for _ in range(number):
                world.ever += 1
                world.standing[f"r{world.ever}"] = revocation("principal", spiffe(f"p{world.ever}"), id=f"r{world.ever}")
            world.tell()
        case "pardon":
            if world.standing:
                world.standing.pop(list(world.standing)[number % len(world.standing)])
                world.tell()
        case "renew":
            world.view.renew()
        case _:
            getattr(world, what)(world.points[number])


def test_a_point_is_told_the_newer_ones_after_the_older_ones_they_rely_on() -> None:
    world = World()
    world.standing = {one.id: one for one in many(MAX_NEWER + 1)}
    world.tell()
    point = world.points[0]
    world.connect(point)
    assert world.deliver(point)
    assert set(point.maps) == {OLDER}
    assert not world.deliver(point), "the newer ones leave out what this point has not acknowledged"
    world.answer(point)
    assert world.deliver(point)
    assert point.maps[REVOCATIONS] == set()
    assert not world.server.gate_acked(point.node)
    world.answer(point)
    assert world.server.gate_acked(point.node)


def test_what_outlived_every_credential_is_left_out_and_counts_no_more() -> None:
    world = World()
    world.standing = {one.id: one for one in many(MAX_REVOCATIONS)}
    world.tell()
    world.now += OUTLIVED_MS + 1000
    world.standing |= {"new": revocation("principal", spiffe("new"), id="new", made_at=world.now)}
    world.tell()
    point = world.points[0]
    world.connect(point)
    while world.deliver(point):
        world.answer(point)
    assert "new" in point.enforced


def test_a_revocation_of_today_is_never_left_out() -> None:
    one = revocation("principal", spiffe("x"), made_at=1_000_000)
    assert not revocations.outlived(one, UnixMillis(1_000_000 + 24 * 3600 * 1000))
    assert revocations.outlived(one, UnixMillis(1_000_000 + 25 * 3600 * 1000 + 1))


@pytest.mark.gateway
def test_more_than_the_small_map_holds_on_a_live_connection(gw: Harness) -> None:
    """Before, while and after the large map is rendered again."""
    standing = many(MAX_NEWER - 1)
    alice, carol = gw.connect("alice"), gw.connect("alice")

    def tell(revoked: list[Revocation]) -> None:
        async def work() -> None:
            gw.epoch += 1
            gw.view.set_revocations(revoked, epoch=gw.epoch)
            assert (await gw.view.wait_enforced(timeout=3)) == {"gateway-1": True}

        gw.do(work())

    struck = revocation("principal", spiffe("alice"), id="r1")
    for more in (0, 1, 2, 3, 400, 401):
        crowd = standing + [revocation("principal", spiffe(f"more-{i}"), id=f"more{i}") for i in range(more)]
        tell(crowd)
        assert gw.call("POST", INFER, on=alice).status == 200
        tell([*crowd, struck])
        assert gw.call("POST", INFER, on=alice).json["type"] == REVOKED
        assert gw.call("POST", INFER, on=carol).json["type"] == REVOKED
    tell([*crowd, struck, *[revocation("principal", spiffe(f"again-{i}"), id=f"again{i}") for i in range(MAX_NEWER + 1)]])
    assert gw.call("POST", INFER, on=alice).json["type"] == REVOKED
    gw.do(gw.view.renew)
    gw.settled()
    assert gw.call("POST", INFER, on=alice).json["type"] == REVOKED
    assert "revoked:r1" in gw.call("POST", INFER, on=alice).json["detail"]
    tell(crowd)
    assert gw.call("POST", INFER, on=alice).status == 200, "who was pardoned is let in again, though it was in the large map"


@pytest.mark.gateway
def test_a_gateway_that_starts_again_enforces_both(own: Callable[..., Harness]) -> None:
    gw = own()
    standing = [*many(MAX_NEWER), revocation("principal", spiffe("alice"), id="r1")]
    gw.do(lambda: gw.view.set_revocations(standing, epoch=50))
    gw.do(gw.view.renew)
    gw.do(lambda: gw.view.set_revocations([*standing, revocation("principal", spiffe("bob"), id="r2")], epoch=51))
    gw.stop_envoy()
    gw.start_envoy()
    until = time.monotonic() + 8
    seen = set()
    while REVOKED not in seen and time.monotonic() < until:
        try:
            answer = gw.call("POST", INFER, who="alice")
        except OSError:
            time.sleep(0.02)
            continue
        assert answer.status != 200
        seen.add(answer.json["type"])
    assert REVOKED in seen
    assert gw.call("POST", INFER, token=gw.ca.token(spiffe("bob"))).json["type"] == REVOKED


@pytest.mark.gateway
def test_over_the_bound_nothing_is_served_until_fewer_stand(own: Callable[..., Harness]) -> None:
    gw = own(lease_seconds=1)
    over = many(MAX_REVOCATIONS + 1)

    async def too_many() -> None:
        gw.epoch += 1
        with pytest.raises(LimitExceeded, match="over the bound"):
            gw.view.set_revocations(over, epoch=gw.epoch)
        assert (await gw.view.wait_enforced(timeout=0.5)) == {"gateway-1": False}

    connection = gw.connect("alice")
    assert gw.call("POST", INFER, on=connection).status == 200
    gw.do(too_many())
    status = gw.do(gw.view.status)
    assert not status.points[0].current
    assert "over the bound" in status.paused
    until = time.monotonic() + 3
    while (answer := gw.call("POST", INFER, on=connection)).status == 200:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert (answer.status, answer.json["type"]) == (503, LEASE_EXPIRED)
    gw.epoch += 1
    gw.do(lambda: gw.view.set_revocations([], epoch=gw.epoch))
    gw.ready(3)
