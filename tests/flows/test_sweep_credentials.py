"""Records of credentials go a day after their end, however many there are; the log keeps every one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flows_world import ALICE, HOUR, NOW, World, make_world, registration, running, serving

from vouchgate.flows.changes import CredentialIssued
from vouchgate.flows.sweep import KEPT_HOURS, PAGE, PAGES, Forgetting
from vouchgate.vocabulary.vouches import UnixMillis


def run(story: Any) -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world, registration())
            await story(world)

    asyncio.run(go())


async def issue(world: World, count: int, ends: int, **more: Any) -> None:
    changes = [CredentialIssued(id=f"{ends}-{n}", principal=ALICE, kind="x509", not_after=UnixMillis(ends), **more) for n in range(count)]
    for start in range(0, count, 200):
        await world.context.sequencer.submit("test", changes[start : start + 200], [])


def left(world: World) -> int:
    return len(world.context.store.scan("credential", limit=100_000))


def test_what_lives_or_ended_lately_stays():
    async def story(world: World) -> None:
        await issue(world, 3, NOW + HOUR)
        await issue(world, 3, NOW - HOUR)
        assert await Forgetting().forget(world.context) == 0 and left(world) == 6

    run(story)


@pytest.mark.parametrize("hours", [KEPT_HOURS + 1, KEPT_HOURS + 500])
def test_what_ended_long_ago_goes_bound_or_not(hours: int):
    async def story(world: World) -> None:
        await issue(world, 3, NOW - hours * HOUR)
        await issue(world, 2, NOW - hours * HOUR + 1, parents=("parent",))
        await issue(world, 1, NOW + HOUR)
        size = world.context.store.size()
        assert await Forgetting().forget(world.context) == 5
        assert left(world) == 1 and world.context.store.size() == size

    run(story)


def test_many_go_in_bounded_steps_and_a_later_hour_in_its_turn():
    async def story(world: World) -> None:
        forgetting = Forgetting()
        await issue(world, PAGE + 7, NOW - (KEPT_HOURS + 2) * HOUR)
        assert await forgetting.forget(world.context) == PAGE + 7 <= PAGE * PAGES
        await issue(world, 4, NOW)
        world.clock.at += (KEPT_HOURS + 1) * HOUR
        assert await forgetting.forget(world.context) == 4 and left(world) == 0
        assert await forgetting.forget(world.context) == 0

    run(story)
