"""After a start: what gateways keep, and when they are told anew."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from flows_world import ALICE, BOB, DIGITS, MODEL, make_world, registration, revoked, running, serving, zone

from vouchgate.flows import publish
from vouchgate.flows.changes import Change, EndpointRemoved, RegistrationPut, RegistrationRemoved
from vouchgate.flows.first_push import FirstPush


class Points:
    def __init__(self) -> None:
        self.said: list[str] = []

    def withhold(self) -> None:
        self.said.append("withhold")

    def release(self) -> None:
        self.said.append("release")


class Hand:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


ZONES = tuple(msgspec.structs.replace(zone(), name=name, lease_seconds=seconds) for name, seconds in (("serve", 9), ("slow", 30)))


@pytest.mark.parametrize(
    ("after", "answered", "decided", "due"),
    [
        (0.0, False, True, True),
        (0.0, True, False, False),
        (2.9, True, False, False),
        (3.0, True, False, True),
        (3.0, False, False, False),
        (29.9, False, False, False),
        (30.0, False, False, True),
    ],
)
def test_it_is_due_when_decided_or_late(after: float, answered: bool, decided: bool, due: bool) -> None:
    hand, points = Hand(), Points()
    first = FirstPush(points, clock=hand)
    hand.at += 1000
    first.begin()
    first.answered = answered
    hand.at += after
    assert first.due(lambda: decided, ZONES) is due


def test_it_is_released_once() -> None:
    points = Points()
    first = FirstPush(points)
    first.release()
    first.release()
    assert points.said == ["withhold", "release"]
    assert not first.due(lambda: True, ZONES)


def test_nothing_decided_is_asked_for_once_it_is_released() -> None:
    first = FirstPush(Points())
    first.release()
    assert not first.due(lambda: pytest.fail("it was looked for"), ())


def restart(world: Any) -> None:
    """As a control plane that was killed comes back: the facts are there, and nothing is decided."""
    old = world.context.publisher
    world.points.told.clear()
    world.points.grants.clear()
    world.context.publisher = publish.Publisher(
        world.facts, world.points, old._decider, clock=old._clock, record=old._record, publish_keys=lambda: None, sent=lambda *_: None
    )
    world.context.publisher.start()


def released(world: Any) -> bool:
    return ("release", None) in world.points.told


def test_grants_are_there_before_anything_is_released_and_revocations_come_before_both() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            restart(world)
            told = [name for name, _ in world.points.told]
            assert told.index("withhold") < told.index("revocations")
            assert not released(world)
            going = asyncio.create_task(world.context.publisher.run())
            while not released(world):
                await asyncio.sleep(0.001)
            going.cancel()
            before = world.points.told[: world.points.told.index(("release", None))]
            pushed = [what for name, what in before if name == "grants"]
            assert [(endpoint, {one.principal for one in grants}) for endpoint, grants in pushed] == [(DIGITS, {ALICE})]

    asyncio.run(go())


@pytest.mark.parametrize("late", ["before", "after"])
def test_evidence_that_was_revoked_lately_or_is_revoked_now_releases_at_once(late: str) -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            change = revoked("digest", MODEL.text)
            if late == "before":
                await world.put(change)
            restart(world)
            if late == "after":
                assert not released(world)
                sequenced = await world.put(change)
                world.context.publisher.tell(sequenced)
            assert released(world)
            assert world.points.grants.get(DIGITS, []) == []

    asyncio.run(go())


def test_evidence_that_was_revoked_longer_ago_than_any_lease_releases_nothing() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            await world.put(revoked("digest", MODEL.text))
            world.clock.at += 1000 * 3600
            restart(world)
            assert not released(world)

    asyncio.run(go())


def test_a_caller_that_was_revoked_lately_is_struck_by_the_gateways_own_list_and_releases_nothing() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            await world.put(RegistrationPut(registration=registration(BOB)))
            await world.settled()
            await world.put(revoked("principal", BOB))
            restart(world)
            assert world.points.revocations[0].target == BOB
            assert not released(world)

    asyncio.run(go())


@pytest.mark.parametrize("change", [RegistrationRemoved(principal=ALICE), EndpointRemoved(id=DIGITS)])
def test_what_is_taken_away_now_releases_at_once(change: Change) -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            restart(world)
            world.context.publisher.tell(await world.put(change))
            assert released(world)

    asyncio.run(go())
