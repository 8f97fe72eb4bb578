"""Seats of a map, and what is kept of each cell."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from flows_world import ALICE, DIGITS, NOW, endpoint, make_world, registration, running, serving
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.flows.changes import EndpointPut, RegistrationPut, RegistrationRemoved
from vouchgate.flows.seats import HOLE, Seats, StandingDecisions, grants_of, unnamed
from vouchgate.vocabulary.decisions import Decision, Grant
from vouchgate.vocabulary.vouches import UnixMillis


def grant(who: str, number: int = 0, epoch: int = 1) -> Grant:
    return Grant(
        id=f"{who}{number}{epoch}", decision_id=who, principal=who, credential_kind=("x509", "jwt", "both")[number], action="infer",
        resource=DIGITS, pep="gateway", epoch=epoch, not_after=NOW,
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, 3)), max_size=60))
def test_seats_are_never_over_the_bound_and_whoever_fits_not_is_waiting(steps: list[tuple[int, int, int]]) -> None:
    seats, wanted = Seats(7), dict[str, int]()
    for who, count, epoch in steps:
        cell = (DIGITS, f"c{who}")
        before = {(one.principal, one.credential_kind) for one in seats.grants()}
        outcome = seats.put(cell, [grant(f"c{who}", number, epoch) for number in range(count)])
        after = {(one.principal, one.credential_kind) for one in seats.grants()}
        assert (outcome == "lost") == bool(before - after)
        wanted[f"c{who}"] = count
        assert len(seats.grants()) <= 7
        seated = {one.principal for one in seats.grants()}
        assert seated <= {name for name, count in wanted.items() if count}
        assert seats.waiting == sum(bool(count) for count in wanted.values()) - len(seated)


def test_a_renewed_grant_is_no_loss_and_an_equal_one_no_change() -> None:
    seats, cell = Seats(10), (DIGITS, ALICE)
    assert seats.put(cell, [grant(ALICE)]) == "gained"
    assert seats.put(cell, [grant(ALICE)]) == "same"
    assert seats.put(cell, [grant(ALICE, epoch=2)]) == "gained"
    assert seats.put(cell, [grant(ALICE, epoch=2), grant(ALICE, 1, 2)]) == "gained"
    assert seats.put(cell, [grant(ALICE, 1, 3)]) == "lost"
    assert seats.put(cell, []) == "lost"
    assert seats.put(cell, []) == "same"


def test_a_caller_beyond_the_map_keeps_waiting_and_is_seated_when_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.flows.publish.MAX_SEATS", 2)

    async def go() -> None:
        async with running(make_world()) as world:
            names = [f"spiffe://test.local/service/serve/{letter}" for letter in "zyx"]
            await serving(world, *(registration(name) for name in names[:2]))
            await world.settled()
            assert world.granted() == set(names[:2])
            world.points.told.clear()
            await world.put(RegistrationPut(registration=registration(names[2])))
            await world.settled()
            assert world.granted() == set(names[:2])
            assert not [name for name, _ in world.points.told if name == "grants"]
            assert len({one.principal for one in world.context.publisher.grants(DIGITS)}) == 3
            await world.put(RegistrationRemoved(principal=names[0]))
            assert world.granted() == set(names[1:])

    asyncio.run(go())


def test_a_registration_pushes_its_own_endpoints_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred registrations while pushing is slow: a few pushes, and every caller is in the map in the end."""
    monkeypatch.setattr("vouchgate.flows.publish.PUSH_REST", 1_000.0)

    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            world.points.told.clear()
            names = {f"spiffe://test.local/service/serve/c{number}" for number in range(100)}
            await world.put(*(RegistrationPut(registration=registration(name)) for name in sorted(names)))
            await world.settled()
            assert world.granted() >= names
            assert sum(name == "grants" for name, _ in world.points.told) < 20

    asyncio.run(go())


def test_what_is_lost_is_pushed_at_once_while_pushing_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.flows.publish.PUSH_REST", 10_000_000.0)

    async def go() -> None:
        async with running(make_world()) as world:
            await serving_now(world)
            await world.put(RegistrationPut(registration=registration(groups=("strangers",))))
            while world.context.publisher.undecided:
                await asyncio.sleep(0.002)
            assert world.granted() == set()

    asyncio.run(go())


async def serving_now(world: Any) -> None:
    """Serving, and told: the first push waits for nothing."""
    task = asyncio.create_task(serving(world))
    while not world.granted():
        world.context.publisher._push_at = 0.0
        world.context.publisher._wake.set()
        await asyncio.sleep(0.002)
    task.cancel()


def decided(decision: Decision, number: int) -> Decision:
    """The same for another caller, whom its words name."""
    who = f"spiffe://test.local/service/serve/c{number}"
    return msgspec.structs.replace(decision, id=f"{number:032x}", principal=who, reason=decision.reason.replace(ALICE, who))


def test_ten_thousand_callers_share_what_their_decisions_say() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            now = world.clock.now()
            decision = world.facts.standing((DIGITS, ALICE), now)[0]
            kept = StandingDecisions()
            for number in range(3_000):
                named = decided(decision, number)
                assert kept.put((DIGITS, str(named.principal)), [named])
            assert len(kept._shared) == 1
            assert (len(kept), kept.allowed) == (3_000, 3_000)
            again = kept.decisions_of((DIGITS, "spiffe://test.local/service/serve/c7"))[0]
            wanted = msgspec.structs.replace(decided(decision, 7), facts_digest="", evaluated_at=UnixMillis(0))
            assert again == wanted
            assert ALICE in decision.reason and "/c7`" in again.reason and HOLE not in again.reason
            assert [(len(said), count) for said, count in kept.alike(DIGITS)] == [(1, 3_000)]
            assert "\0" not in (shown := unnamed(next(kept.alike(DIGITS))[0][0].reason)) and shown.startswith("caller may")
            assert grants_of(again, endpoint()) == grants_of(wanted, endpoint())
            later = msgspec.structs.replace(again, id="f" * 32, not_after=UnixMillis(decision.not_after + 9))
            assert kept.put((DIGITS, str(again.principal)), [later]) == ()
            carried: Decision = kept.decisions_of((DIGITS, str(again.principal)))[0]
            assert (carried.id, carried.not_after) == (again.id, later.not_after)
            assert kept.put(
                (DIGITS, "spiffe://test.local/service/serve/c8"), [msgspec.structs.replace(decided(decision, 8), effect="deny")]
            )
            assert sorted(count for _, count in kept.alike(DIGITS)) == [1, 2_999]
            kept.drop((DIGITS, "spiffe://test.local/service/serve/c8"))
            assert [count for _, count in kept.alike(DIGITS)] == [2_999]
            kept.drop_endpoint(DIGITS)
            assert list(kept.alike(DIGITS)) == []
            assert (len(kept), kept.allowed, list(kept)) == (0, 0, [])

    asyncio.run(go())


def test_a_cell_is_renewed_before_it_ends_and_never_leaves_the_map() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            first = {one.not_after for one in world.points.grants[DIGITS]}
            world.points.told.clear()
            world.clock.at = min(first) - 299_000
            await world.put(EndpointPut(endpoint=endpoint("other")))
            await world.settled()
            assert min(one.not_after for one in world.points.grants[DIGITS]) > max(first)
            assert all(value[1] for name, value in world.points.told if name == "grants" and value[0] == DIGITS)

    asyncio.run(go())
