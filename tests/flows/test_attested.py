"""`attested`: made where a policy asks for it, as often as it ages, and never where a device's manager has the word."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flows_world import ALICE, DIGITS, HOUR, make_world, running, serving
from test_workload import Desk, facts, wanted

from vouchgate.policy.catalog import pack

PLAIN = ((pack("ai_lifecycle").name, pack("ai_lifecycle").text),)
POLICY = (
    (
        "attested.cedar",
        '@id("looked-at") permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint)\n'
        'when { principal.vouches.contains("attested@verified") };',
    ),
)


def story(tell: Any, policies: Any = POLICY) -> None:
    async def go() -> None:
        async with running(make_world(), policies=policies) as world:
            desk = Desk(world)
            await desk.register()
            await serving(world)
            await desk.register()
            await tell(desk)

    asyncio.run(asyncio.wait_for(go(), 30))


def made(desk: Desk) -> list[Any]:
    return [one for one in desk.world.facts.about(ALICE) if one.predicate_type == "attested"]


async def issued(desk: Desk, **changes: Any) -> None:
    (answer,) = await desk.workloads.issue([wanted(**changes)])
    assert answer["ok"]
    await desk.world.settled()


def test_a_look_is_evidence_while_it_is_fresh() -> None:
    async def tell(desk: Desk) -> None:
        assert desk.world.granted() == set()
        await issued(desk)
        (vouch,) = made(desk)
        assert vouch.claims == {"checked": ["unix:gid", "unix:uid"], "selectors": ["unix:gid=1000", "unix:uid=1000"]}
        assert desk.world.granted() == {ALICE}
        desk.world.clock.at += 2 * HOUR
        desk.world.context.publisher.redecide([(DIGITS, ALICE)])
        await desk.world.settled()
        assert desk.world.granted() == set()

    story(tell)


def test_it_is_made_again_at_half_of_its_life_and_not_before() -> None:
    async def tell(desk: Desk) -> None:
        for minutes, count in ((0, 1), (10, 1), (40, 1), (10, 2), (30, 2), (30, 3)):
            desk.world.clock.at += minutes * 60_000
            await issued(desk, connection=f"c{minutes}{count}")
            assert len(made(desk)) == count
        await asyncio.gather(*(issued(desk, connection=f"x{number}") for number in range(20)))
        assert len(made(desk)) == 3

    story(tell)


def test_where_no_policy_asks_nobody_pays() -> None:
    async def tell(desk: Desk) -> None:
        desk.world.context.signer.calls.clear()
        await issued(desk)
        assert made(desk) == []
        assert "vouch" not in desk.world.context.signer.calls

    story(tell, PLAIN)


def test_who_is_refused_is_not_vouched_for() -> None:
    async def tell(desk: Desk) -> None:
        desk.processes[30] = facts(1001)
        (answer,) = await desk.workloads.issue([wanted("c9", pid=30, uid=1001)])
        assert not answer["ok"]
        await desk.world.settled()
        assert made(desk) == []

    story(tell)


@pytest.mark.parametrize("away", ["the signer is away", ""])
def test_a_signer_that_is_away_for_vouches_is_asked_again(away: str) -> None:
    async def tell(desk: Desk) -> None:
        signer = desk.world.context.signer
        kept = signer.methods["vouch"]

        def refuse(**_: Any) -> Any:
            from vouchgate.vocabulary.errors import Unavailable

            raise Unavailable(away, remedy="start it")

        if away:
            signer.methods["vouch"] = refuse
        await issued(desk)
        assert len(made(desk)) == (0 if away else 1)
        signer.methods["vouch"] = kept
        await issued(desk, connection="c2")
        assert len(made(desk)) == 1

    story(tell)
