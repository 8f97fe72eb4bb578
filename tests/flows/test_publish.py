"""What a change makes of the grants that enforcement points hold."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from flows_world import (
    ALICE,
    BOB,
    CHAT,
    DAY,
    DIGITS,
    MODEL,
    NOW,
    SPINE,
    endpoint,
    evidence_for,
    make_world,
    registration,
    revoked,
    running,
    serving,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.flows import start
from vouchgate.flows.changes import EndpointPut, EndpointRemoved, RegistrationPut, Revoked


def newest(world: Any) -> list[Any]:
    """The newest decision of every cell."""
    kept = world.context.publisher._kept
    return [one for cell in kept for one in kept.decisions_of(cell)]


def test_a_caller_with_all_evidence_is_granted_once_for_each_kind_of_credential() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            assert [grant.credential_kind for grant in world.points.grants[DIGITS]] == ["x509"]
            await world.put(EndpointPut(endpoint=endpoint(bearer=True)))
            await world.settled()
            grants = world.points.grants[DIGITS]
            assert sorted(grant.credential_kind for grant in grants) == ["both", "jwt", "x509"]
            assert len({grant.id for grant in grants}) == 3
            assert {(grant.principal, grant.model_digest) for grant in grants} == {(ALICE, MODEL.text)}

    asyncio.run(go())


def test_nothing_is_granted_while_a_vouch_is_missing() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            await world.put(EndpointPut(endpoint=endpoint("bare")))
            await world.put(*evidence_for("bare")[2:])
            await world.settled()
            assert world.granted("vg://test.local/endpoint/bare") == {ALICE}
            await world.put(RegistrationPut(registration=registration(BOB, groups=("strangers",))))
            await world.settled()
            assert world.granted() == {ALICE}

    asyncio.run(go())


def test_a_revocation_is_told_before_anything_is_decided() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            world.points.told.clear()
            asked: list[Any] = []
            ask = world.pdp.methods["cells"]
            world.pdp.methods["cells"] = lambda cells: asked.append(list(world.points.told)) or ask(cells)
            await world.put(revoked("digest", MODEL.text))
            assert [name for name, _ in world.points.told[:3]] == ["revocations", "refused", "grants"]
            assert world.points.refused == {DIGITS}
            assert world.points.grants[DIGITS] == []
            await world.settled()
            assert asked
            assert asked[0][0][0] == "revocations"
            assert world.granted() == set()

    asyncio.run(go())


class Late:
    """A PDP worker whose answers the test holds back: it decides when asked, and answers when it is let go."""

    def __init__(self, world: Any) -> None:
        self.ask = world.context.pdp.decide_cells
        self.held: list[asyncio.Event] = []
        self.questions: list[list[Any]] = []
        world.context.publisher._decider = self

    async def decide_cells(self, cells: Any) -> Any:
        self.questions.append(list(cells))
        said = await self.ask(cells)
        event = asyncio.Event()
        self.held.append(event)
        await event.wait()
        return said

    async def asked(self, times: int) -> None:
        while len(self.held) < times:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("target", [("principal", ALICE), ("digest", MODEL.text)])
def test_an_answer_from_before_a_revocation_never_overtakes_it(target: tuple[str, str]) -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            late = Late(world)
            setting_up = asyncio.create_task(serving(world))
            await late.asked(1)
            while DIGITS not in world.facts.endpoints or ALICE not in world.facts.registrations:
                late.held[-1].set()
                await asyncio.sleep(0.001)
            while not setting_up.done() or not world.granted():
                late.held[-1].set()
                await asyncio.sleep(0.001)
            asked = len(late.held)
            world.context.publisher.redecide([(DIGITS, ALICE)])
            await late.asked(asked + 1)
            await world.put(revoked(*target))
            world.points.told.clear()
            late.held[-1].set()
            await late.asked(asked + 2)
            assert not any(grants for name, (_, grants) in world.points.told if name == "grants")
            late.held[-1].set()
            await world.settled()
            assert world.points.grants[DIGITS] == []

    asyncio.run(go())


def test_cells_that_are_not_decided_again_yet_bring_no_grant_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint has more callers than one question holds; the first answer must not push the others' old grants."""
    monkeypatch.setattr("vouchgate.flows.publish.CELLS_AT_ONCE", 3)

    async def go() -> None:
        async with running(make_world()) as world:
            callers = [registration(f"spiffe://test.local/service/serve/c{number}") for number in range(8)]
            await serving(world, *callers)
            assert len(world.granted()) == 8
            scan = next(one for one in world.facts.lineage.vouches.values() if one.predicate_type == "scan")
            world.points.told.clear()
            await world.put(revoked("vouch", scan.id))
            await world.settled()
            pushed = [grants for name, value in world.points.told if name == "grants" for grants in [value[1]]]
            assert pushed
            assert not any(pushed)

    asyncio.run(go())


def test_what_a_revocation_touches_but_does_not_take_away_comes_back_under_the_same_ids() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            (before,), recorded = world.points.grants[DIGITS], len(world.recorded)
            scan = next(one for one in world.facts.lineage.vouches.values() if one.predicate_type == "scan")
            await world.put(evidence_for(issued_at=NOW + 1, not_before=NOW)[0])
            made = await world.put(revoked("vouch", scan.id))
            assert world.points.grants[DIGITS] == []
            await world.settled()
            (after,) = world.points.grants[DIGITS]
            assert after.epoch == made[0].epoch > before.epoch
            assert len(world.recorded) == recorded + (after.id != before.id)

    asyncio.run(go())


def test_a_decision_that_stays_the_same_keeps_its_id_and_gets_a_later_end() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            (before,) = world.points.grants[DIGITS]
            recorded, sent = len(world.recorded), len(world.sent)
            world.clock.at += 600_000
            world.context.publisher.redecide([(DIGITS, ALICE)])
            await world.settled()
            (after,) = world.points.grants[DIGITS]
            assert (after.id, after.decision_id) == (before.id, before.decision_id)
            assert after.not_after == before.not_after + 600_000
            assert (len(world.recorded), len(world.sent)) == (recorded, sent)

    asyncio.run(go())


def test_a_revocation_and_its_undo_leave_the_decisions_that_were_there() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world, registration(), registration(BOB))
            before = {one.principal: msgspec.structs.replace(one, id="", evidence_epoch=0, evaluated_at=0) for one in newest(world)}
            for number, (kind, target) in enumerate([("principal", ALICE), ("digest", MODEL.text), ("key", key_of(world, "scan"))]):
                await world.put(revoked(kind, target, identity=f"r{number}"))
                await world.settled()
                assert world.granted() == ({BOB} if kind == "principal" else set())
                await world.put(revoked(kind, target, identity=f"r{number}", withdrawn="w"))
                await world.settled()
                after = {one.principal: msgspec.structs.replace(one, id="", evidence_epoch=0, evaluated_at=0) for one in newest(world)}
                assert after == before
                assert world.granted() == {ALICE, BOB}

    asyncio.run(go())


def key_of(world: Any, predicate: str) -> str:
    return next(one.issuer_key for one in world.facts.lineage.vouches.values() if one.predicate_type == predicate)


def test_a_cell_is_decided_again_when_its_earliest_vouch_lapses() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world, registration(svid_ttl_seconds=86_400 * 2))
            (grant,) = world.points.grants[DIGITS]
            assert grant.not_after == NOW + DAY
            world.clock.at = NOW + DAY
            await asyncio.wait_for(until(lambda: not world.granted()), 3)
            assert any(one.effect == "deny" and one.missing for one in newest(world))

    asyncio.run(go())


async def until(check: Any) -> None:
    while not check():
        await asyncio.sleep(0.005)


def test_a_worker_that_is_away_or_hangs_holds_leases_back_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.flows.publish.MAX_UNDECIDED_SECONDS", 0.1)
    monkeypatch.setattr("vouchgate.flows.publish.LOOK_SECONDS", 0.02)

    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            world.pdp.away = "it is gone"
            await world.put(EndpointPut(endpoint=endpoint(bearer=True)))
            await asyncio.wait_for(until(lambda: world.points.paused), 2)
            assert "undecided" in world.points.paused
            world.pdp.away = ""
            await asyncio.wait_for(until(lambda: not world.points.paused), 2)
            late = Late(world)
            await world.put(EndpointPut(endpoint=endpoint()))
            await late.asked(1)
            assert world.context.publisher.undecided == 1
            await asyncio.wait_for(until(lambda: world.points.paused), 2)
            late.held[0].set()
            await asyncio.wait_for(until(lambda: not world.points.paused), 2)

    asyncio.run(go())


def test_leases_are_renewed_again_only_when_no_cause_is_left() -> None:
    world = make_world()
    publisher = world.context.publisher
    publisher.hold("a", "one")
    publisher.hold("b", "two")
    publisher.hold("a", "")
    assert world.points.paused == "two"
    publisher.hold("b", "")
    publisher.hold("b", "")
    assert world.points.paused == ""
    assert publisher.holding == ()


def test_another_policy_decides_every_cell_again() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world, registration(), registration(BOB))
            before = len(world.recorded)
            await start.activate(world.context, [("none.cedar", "")], author="a", approver="b")
            await world.settled()
            assert world.granted() == set()
            assert len(world.recorded) == before + 2

    asyncio.run(go())


def test_an_endpoint_that_is_removed_takes_its_cells_along() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            assert world.context.publisher.allowed_cells == 1
            await world.put(EndpointRemoved(id=DIGITS))
            await world.settled()
            assert list(newest(world)) == []
            assert world.context.publisher.allowed_cells == 0
            assert world.points.told[-1] == ("endpoints", [])
            await world.put(EndpointPut(endpoint=endpoint()))
            await world.settled()
            assert world.granted() == {ALICE}, "its vouches were never withdrawn"

    asyncio.run(go())


def test_the_cells_of_an_api_in_front_follow_the_models_behind_it() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            chat = endpoint("chat", model_in_body=True, models={"d": DIGITS}, prefix="/chat")
            await world.put(EndpointPut(endpoint=chat))
            await world.settled()
            (grant,) = world.points.grants[CHAT]
            assert grant.resource == DIGITS
            world.points.told.clear()
            await world.put(revoked("digest", MODEL.text))
            emptied = [value[0] for name, value in world.points.told if name == "grants" and not value[1]]
            assert set(emptied) == {DIGITS, CHAT}, "in the same moment, before anything is decided"
            await world.settled()
            assert world.granted(CHAT) == set()

    asyncio.run(go())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["alice", "bob", "model", "other", "scan", "undo", "policy", "time"]), max_size=12), st.integers(1, 4))
def test_whatever_happens_points_end_with_exactly_what_is_decided_from_the_facts(steps: list[str], at_once: int) -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world, registration(), registration(BOB))
            standing: list[Any] = []
            for number, step in enumerate(steps):
                targets = {"alice": ("principal", ALICE), "bob": ("registration", BOB), "model": ("digest", MODEL.text),
                           "other": ("digest", "sha256:" + "0" * 64), "scan": ("key", key_of(world, "scan"))}  # fmt: skip
                if step in targets:
                    change = revoked(*targets[step], identity=f"r{number}")
                    standing.append(change)
                    await world.put(change)
                elif step == "undo" and standing:
                    await world.put(Revoked(revocation=msgspec.structs.replace(standing.pop().revocation, withdrawn_by="w")))
                elif step == "policy":
                    await start.activate(world.context, [(f"p{number}.cedar", SPINE[0][1])], author="a", approver="b")
                elif step == "time":
                    world.clock.at += 60_000
                if number % at_once == 0:
                    await asyncio.sleep(0.001)
            await world.settled()
            wanted = {
                decision.principal
                for cell in world.facts.all_cells()
                for decision in world.facts.standing(cell, world.clock.now())
                if decision.would_be == "allow"
            }
            assert world.granted() == wanted
            assert world.context.publisher.allowed_cells == len(wanted)

    asyncio.run(go())
