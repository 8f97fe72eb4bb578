"""What was pushed and what points said to it: each once in the log, also across a store that fails meanwhile."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from flows_world import World, make_world, running

from vouchgate.flows import push_log
from vouchgate.flows.push_log import PushLog
from vouchgate.vocabulary.errors import Unavailable


@dataclass
class Point:
    node_id: str = "gateway"
    epoch: int = 1
    rejected: dict[str, str] = field(default_factory=dict)


def pushes(world: World) -> list[str]:
    found = []
    for entry in world.entries():
        if entry.startswith(b"{"):
            said = json.loads(entry)
            if said["metadata"].get("event_code") in {"push", "lease-lost"}:
                found.append(said["unmapped"]["vouchgate"].get("outcome", "lost"))
    return found


def scene(story: Any) -> None:
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            await story(world, PushLog(world.context))

    asyncio.run(go())


def test_an_acknowledgement_and_a_rejection_are_each_told_once() -> None:
    async def story(world: World, log: PushLog) -> None:
        log.sent("maps/digits", 4, {"grants": 1})
        world.points.points = [Point(epoch=4)]
        for _ in range(3):
            log._look()
            await log._write()
        world.points.points = [Point(epoch=4, rejected={"maps/digits": "no such field"})]
        for _ in range(3):
            log._look()
            await log._write()
        assert pushes(world) == ["sent", "acknowledged", "rejected"]

    scene(story)


def test_entries_wait_for_a_store_that_fails_and_are_written_once() -> None:
    async def story(world: World, log: PushLog) -> None:
        for number in range(600):
            log.sent("maps/digits", number, {})
        submit, turns = world.context.sequencer.submit, [0]

        async def fail_second(*args: Any, **more: Any) -> Any:
            turns[0] += 1
            if turns[0] == 2:
                raise Unavailable("the disk is full", remedy="free some")
            return await submit(*args, **more)

        world.context.sequencer.submit = fail_second  # type: ignore[method-assign]
        await log._write()
        assert len(pushes(world)) == 256
        await log._write()
        assert len(pushes(world)) == 600

    scene(story)


def test_entries_that_wait_are_bounded_and_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_log, "MAX_COLLECTED", 10)

    async def story(world: World, log: PushLog) -> None:
        for number in range(50):
            log.sent("maps/digits", number, {})
        await log._write()
        await log._write()
        assert len(pushes(world)) == 11
        assert any(b"summed_up" in entry for entry in world.entries())

    scene(story)


def test_a_point_that_is_gone_longer_than_a_lease_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [1000.0]
    monkeypatch.setattr(push_log.time, "monotonic", lambda: at[0])

    async def story(world: World, log: PushLog) -> None:
        def look(seconds: float, points: list[Point]) -> None:
            at[0] += seconds
            world.points.points = points  # type: ignore[assignment]
            log._look()

        look(0, [Point()])
        look(1, [])
        look(5, [])
        await log._write()
        assert pushes(world) == ["acknowledged"]
        look(10, [])
        look(10, [])
        await log._write()
        assert pushes(world) == ["acknowledged", "lost"]
        look(1, [Point()])
        look(1, [])
        look(20, [])
        await log._write()
        assert pushes(world) == ["acknowledged", "lost", "lost"]

    scene(story)
