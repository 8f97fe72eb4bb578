"""Feeding the PDP worker: restarts, gaps, loads that break off, floods; a cell is asked only of a worker that has everything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flows_world import (
    ALICE,
    DIGITS,
    FINGERPRINT,
    MODEL,
    TD,
    World,
    endpoint,
    evidence_for,
    make_world,
    registration,
    revoked,
    running,
    serving,
    worker,
    zone,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.flows import pdp_link
from vouchgate.flows.changes import EndpointPut, RegistrationPut, SettingPut, ZonePut
from vouchgate.flows.replica import Replica
from vouchgate.vocabulary.errors import Conflict, InvalidInput, Unavailable


def restart(world: World) -> None:
    """Another worker process on the same socket."""
    world.replica = Replica(TD, FINGERPRINT, world.clock.now)
    world.pdp.methods |= worker(world.replica).methods


async def until(check: Any) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.002)


async def asked(world: World) -> str:
    _, ((decision,),) = await world.context.pdp.decide_cells([(DIGITS, ALICE)])
    return str(decision.would_be)


def scene(story: Any) -> None:
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            await world.put(
                ZonePut(zone=zone()), EndpointPut(endpoint=endpoint()), *evidence_for(), RegistrationPut(registration=registration())
            )
            await story(world)

    asyncio.run(go())


def test_a_new_worker_gets_the_whole_state_once_then_change_by_change() -> None:
    async def story(world: World) -> None:
        assert await asked(world) == "allow"
        assert world.pdp.calls.count("begin") == 1
        world.pdp.calls.clear()
        await world.put(revoked("digest", MODEL.text))
        assert await asked(world) == "deny"
        assert world.pdp.calls == ["hello", "apply", "cells"]

    scene(story)


def test_a_worker_that_was_restarted_is_loaded_before_it_is_asked() -> None:
    async def story(world: World) -> None:
        await asked(world)
        await world.put(revoked("digest", MODEL.text))
        restart(world)
        assert await asked(world) == "deny"
        assert world.replica.facts.epoch == world.facts.epoch

    scene(story)


def test_a_worker_with_a_gap_is_loaded_again() -> None:
    async def story(world: World) -> None:
        await asked(world)
        world.replica.facts.epoch -= 1
        await world.put(revoked("digest", MODEL.text))
        assert await asked(world) == "deny"
        assert world.pdp.calls.count("begin") == 2

    scene(story)


@pytest.mark.parametrize("broken", ["hello", "begin", "load", "end", "apply", "cells"])
def test_a_worker_that_fails_at_any_point_is_asked_again_and_then_right(broken: str) -> None:
    async def story(world: World) -> None:
        if broken == "apply":
            await asked(world)
            await world.put(revoked("digest", MODEL.text))
        works = world.pdp.methods[broken]

        def fail(**_: Any) -> Any:
            world.pdp.methods[broken] = works
            raise Unavailable("it was killed", remedy="start it")

        world.pdp.methods[broken] = fail
        with pytest.raises(Unavailable):
            await asked(world)
        assert await asked(world) == ("deny" if broken == "apply" else "allow")

    scene(story)


def test_an_answer_that_was_lost_after_it_was_applied_is_noticed() -> None:
    async def story(world: World) -> None:
        await asked(world)
        apply = world.pdp.methods["apply"]

        def lose(**params: Any) -> Any:
            apply(**params)
            world.pdp.methods["apply"] = apply
            raise Unavailable("the answer was lost", remedy="ask again")

        world.pdp.methods["apply"] = lose
        await world.put(revoked("digest", MODEL.text))
        with pytest.raises(Unavailable):
            await asked(world)
        assert await asked(world) == "deny"

    scene(story)


def test_a_worker_that_restarts_while_it_is_loaded_is_loaded_again() -> None:
    async def story(world: World) -> None:
        end = world.pdp.methods["end"]

        def swap(**params: Any) -> Any:
            made = end(**params) | {"instance": "another"}
            restart(world)
            return made

        world.pdp.methods["end"] = swap
        with pytest.raises(Unavailable, match="restarted while"):
            await asked(world)
        assert await asked(world) == "allow"

    scene(story)


def test_changes_for_a_worker_that_is_away_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdp_link, "MAX_WAITING", 50)

    async def story(world: World) -> None:
        await asked(world)
        for number in range(200):
            await world.put(SettingPut(key=f"k{number % 3}", value=str(number)))
        assert len(world.context.pdp._waiting) <= 51
        await world.put(revoked("digest", MODEL.text))
        assert await asked(world) == "deny"
        assert world.replica.facts.settings == world.facts.settings

    scene(story)


def test_a_change_that_comes_while_changes_are_sent_is_sent_too() -> None:
    async def story(world: World) -> None:
        await asked(world)
        apply = world.pdp.methods["apply"]
        more = [True]

        async def slow(**params: Any) -> Any:
            if more:
                more.clear()
                await world.put(revoked("digest", MODEL.text))
            return apply(**params)

        world.pdp.methods["apply"] = slow
        await world.put(SettingPut(key="a", value="b"))
        assert await asked(world) == "deny"

    scene(story)


def test_the_lease_is_renewed_only_while_the_control_plane_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdp_link, "RENEW_SECONDS", 0.005)

    async def story(world: World) -> None:
        well = [True]
        task = asyncio.create_task(world.context.pdp.run(lambda: bool(well)))
        await until(lambda: world.replica.lease_until == world.clock.at + 10_000)
        well.clear()
        renewals = world.pdp.calls.count("lease")
        hellos = world.pdp.calls.count("hello")
        await until(lambda: world.pdp.calls.count("hello") > hellos + 4)
        assert world.pdp.calls.count("lease") <= renewals + 1
        world.clock.at += 60_000
        hellos = world.pdp.calls.count("hello")
        await until(lambda: world.pdp.calls.count("hello") > hellos + 4)
        assert world.replica.lease_until < world.clock.at
        world.pdp.away = "gone"
        await until(lambda: world.context.pdp.trouble == "gone")
        world.pdp.away, _ = "", well.append(True)
        await until(lambda: world.context.pdp.trouble == "" and world.replica.lease_until == world.clock.at + 10_000)
        assert not task.done()
        task.cancel()

    scene(story)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["restart", "gap", "away", "change", "revoke", "undo", "ask"]), max_size=20))
def test_whatever_happens_to_the_worker_its_answers_are_of_the_newest_facts(steps: list[str]) -> None:
    async def story(world: World) -> None:
        standing = 0
        for number, step in enumerate(steps):
            if step == "restart":
                restart(world)
            elif step == "gap":
                world.replica.facts.epoch = max(0, world.replica.facts.epoch - 1)
            elif step == "away":
                world.pdp.away = "" if world.pdp.away else "gone"
            elif step == "change":
                await world.put(SettingPut(key="k", value=str(number)))
            elif step == "revoke" and not standing:
                await world.put(revoked("digest", MODEL.text, identity=f"r{number}"))
                standing = number + 1
            elif step == "undo" and standing:
                await world.put(revoked("digest", MODEL.text, identity=f"r{standing - 1}", withdrawn="w"))
                standing = 0
            elif step == "ask" and not world.pdp.away:
                assert await asked(world) == ("deny" if standing else "allow")
        world.pdp.away = ""
        assert await asked(world) == ("deny" if standing else "allow")

    scene(story)


# --- the replica itself -----------------------------------------------------------------------------------------------------------------


def test_a_replica_refuses_what_is_out_of_turn() -> None:
    replica = Replica(TD, FINGERPRINT, lambda: 0)  # type: ignore[arg-type,return-value]
    for act in (lambda: replica.load([]), lambda: replica.end(1)):
        with pytest.raises(InvalidInput):
            act()
    with pytest.raises(Conflict):
        replica.apply(7, [])
    with pytest.raises(InvalidInput):
        replica.apply(0, [b"junk"])


def test_while_a_replica_is_loaded_the_old_facts_answer() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            world.replica.begin()
            (decision,) = world.replica.facts.standing((DIGITS, ALICE), world.clock.now())
            assert decision.would_be == "allow"

    asyncio.run(go())
