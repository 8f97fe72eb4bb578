"""Drift is told once, recorded, and shown as a need; what to adopt next is ranked by numbers; ready lines let exactly their callers pass."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from flows_world import (
    ALICE,
    BOB,
    DAY,
    DIGITS,
    HOUR,
    NOW,
    TD,
    caller,
    endpoint,
    evidence_for,
    make_world,
    registration,
    revoked,
    running,
    serving,
    zone,
)

from vouchgate.flows import adopt, adopt_lines, adopt_rank
from vouchgate.flows import drift as drift_flow
from vouchgate.flows.changes import AssetPut, EndpointPut, RegistrationPut, ZonePut
from vouchgate.flows.drift import DriftWatch
from vouchgate.flows.needs import _drifts
from vouchgate.vocabulary.answers import AdoptRequest
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.answers_zones import Drift
from vouchgate.vocabulary.decisions import Obligation
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.names import principal, resource
from vouchgate.vocabulary.places import Asset
from vouchgate.vocabulary.vouches import UnixMillis

EXTRA = Drift(point="gateway", kind="extra", what="listener x")
STALE = Drift(point="gateway", kind="stale", what="filter map/0")
CAROL = principal(TD, "service", "serve", "carol")
ANN = ("ann", "auditor", "policy-author", "policy-approver", "responder")


class Point:
    """An enforcement point that says one thing after the other, then the last again."""

    def __init__(self, *said: object) -> None:
        self.said = list(said)

    async def __call__(self) -> tuple[list[Drift], int]:
        now = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(now, Exception):
            raise now
        return list(now), 7  # type: ignore[call-overload]


def watch(world, point: Point) -> DriftWatch:
    return DriftWatch(world.context, {"gateway": point}, lambda: [one for some in world.points.grants.values() for one in some])


def told(world) -> list[str]:
    return [entry.decode() for entry in world.entries() if b"system:drift" in entry]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(drift_flow, "AGAIN_SECONDS", 0)


def test_a_drift_is_recorded_once_when_it_begins_and_once_when_it_ends():
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            watching = watch(world, Point([EXTRA], [EXTRA], [EXTRA], [EXTRA], []))
            assert not watching.report().ok, "not read yet is not well"
            assert not (await watching.look()).ok
            await watching.look()
            assert len(told(world)) == 1 and "listener x" in told(world)[0]
            (need,) = _drifts(world.context)
            assert (need.kind, need.severity, need.command) == ("drift", "act", "vouchgate zones drift")
            assert (await watching.look()).ok and len(told(world)) == 2 and "drift-ended" in told(world)[1]
            assert list(_drifts(world.context)) == []

    asyncio.run(go())


def test_what_differs_only_once_is_a_push_under_way():
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            older, old = (
                Drift(point="gateway", kind="stale", what="filter lease", detail=f"version {one}, meant is {one + 1}") for one in (1, 2)
            )
            for said in ([[STALE], []], [[STALE], [EXTRA], []], [[older], [old], []]):
                assert (await watch(world, Point(*said)).look()).ok
            assert told(world) == []
            newer = Drift(point="gateway", kind="stale", what="filter lease", detail="version 1, meant is 9")
            assert not (await watch(world, Point([older], [newer])).look()).ok, "it is stuck, whatever is meant by now"

    asyncio.run(go())


def test_a_point_that_cannot_be_read_is_drift():
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            report = await watch(world, Point(Unavailable("away", remedy="start it"))).look()
            assert [(one.kind, one.detail) for one in report.points[0].drifts] == [("unreadable", "away")] and not report.ok

    asyncio.run(go())


def test_a_map_that_outlived_its_reasons_is_found():
    """The publisher is stopped, so that what the gateway holds stays as it is while the facts go on."""

    async def go() -> None:
        async with running(make_world(), publishing=True) as world:
            await serving(world, registration(), registration(BOB))
            assert world.granted() == {ALICE, BOB}
            watching = watch(world, Point([]))
            assert (await watching.look()).ok
            world.context.publisher._soil = lambda cells: None  # type: ignore[method-assign]
            world.points.set_grants = lambda *_: None  # type: ignore[method-assign]
            await world.put(revoked("principal", BOB))
            (one,) = (await watching.look()).points[0].drifts
            assert one.kind == "loosened" and BOB in one.detail and one.what == f"map of {DIGITS}"

    asyncio.run(go())


@pytest.mark.parametrize("lacks", ["vouch", "obligation", "condition"])
def test_what_stands_in_no_map_has_not_outlived_anything(lacks):
    """A grant that owes something, or depends on the request, is asked each time: without what it asks for it is a no, and that is meant."""

    async def go() -> None:
        async with running(make_world(), publishing=True) as world:
            await serving(world, registration())
            (grant,) = [one for some in world.points.grants.values() for one in some if one.principal == ALICE][:1]
            asked = {
                "vouch": {},
                "obligation": {"obligations": (Obligation(kind="approval", value="board"),)},
                "condition": {"condition": "per_request"},
            }[lacks]
            watching = DriftWatch(world.context, {"gateway": Point([])}, lambda: [msgspec.structs.replace(grant, principal=BOB, **asked)])
            assert (await watching.look()).ok == (lacks != "vouch")

    asyncio.run(go())


# --- what to adopt next -----------------------------------------------------------------------------------------------------------


def line(
    who: str, *, name: str = DIGITS, action: str = "infer", effect: str = "allow", would: str = "deny", known: bool = True
) -> DecisionLine:
    return DecisionLine(
        seq=0, at=NOW, effect=effect, would_be=would, mode="observe", principal=who, authenticated=known, action=action, resource=name, reason="no"
    )  # fmt: skip


OBSERVED = zone(mode="observe", observe_until=UnixMillis(NOW + 5 * DAY))


def test_the_zone_of_most_value_and_least_breakage_comes_first():
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            for name in ("lab", "gold", "done"):
                mode = "enforce" if name == "done" else "observe"
                await world.put(ZonePut(zone=zone(name, mode=mode, observe_until=UnixMillis(NOW + DAY))))
                await world.put(EndpointPut(endpoint=endpoint(f"{name}-1", zone=name)))
            secret = Asset(id=resource(TD, "dataset", "patients"), zones=("gold",), labels=("personal",))
            await world.put(AssetPut(asset=secret), RegistrationPut(registration=registration()))
            for _ in range(4):
                world.context.traffic.add(line(ALICE, name=resource(TD, "endpoint", "lab-1")))
            ranking = adopt_rank.ranked(world.context).zones
            assert [one.zone for one in ranking] == ["gold", "lab", "done"]
            gold, lab, done = ranking
            assert (gold.value, gold.exposure, gold.breaks, gold.score) == (4, 1, 0, 4.0)
            assert (lab.value, lab.exposure, lab.breaks, lab.calls, lab.score) == (1, 1, 4, 4, 0.2)
            assert gold.command == "vouchgate adopt gold --plan" and done.command == "" and "1 labelled" in gold.why

    asyncio.run(go())


def test_ready_lines_let_exactly_their_callers_pass():
    async def go() -> None:
        async with running(make_world(solo=True), publishing=False) as world:
            await world.put(ZonePut(zone=OBSERVED), EndpointPut(endpoint=endpoint()), *evidence_for())
            for who in (ALICE, BOB, CAROL):
                await world.put(RegistrationPut(registration=registration(who, groups=())))
            for who in (ALICE, BOB):
                world.context.traffic.add(line(who))
            await world.put(RegistrationPut(registration=registration(principal(TD, "person", "admin", "ann"), groups=ANN_GROUPS)))
            plan = await adopt.adopt(world.context, caller(*ANN), AdoptRequest(zone="serve", to="plan"))
            assert {(one.principal, one.proved) for one in plan.lines} == {(ALICE, True), (BOB, True)}
            policies = adopt_lines.compiled_with(world.facts, "\n".join(one.cedar for one in plan.lines))
            now = world.clock.now()

            def passes(who: str, action: str = "infer", with_lines: bool = True) -> bool:
                used = policies if with_lines else world.facts.policies
                made = adopt_lines.decided(world.facts, used, who, action, DIGITS, now)
                return made is not None and made.would_be == "allow"

            assert [passes(who) for who in (ALICE, BOB, CAROL)] == [True, True, False]
            assert [passes(who, with_lines=False) for who in (ALICE, BOB, CAROL)] == [False, False, False]
            assert not passes(ALICE, "describe")

    asyncio.run(go())


ANN_GROUPS = tuple(f"role:{role}" for role in ANN[1:])


def test_who_proved_nothing_is_given_an_identity_first():
    async def go() -> None:
        async with running(make_world(solo=True), publishing=False) as world:
            await world.put(ZonePut(zone=OBSERVED), EndpointPut(endpoint=endpoint()), *evidence_for())
            declared = principal(TD, "declared", "serve", "addr-10.0.0.7")
            world.context.traffic.add(line(declared, known=False))
            (one,) = adopt_lines.ready_lines(world.context, adopt_rank.would_refuse(world.context, "serve")[0], "serve")
            assert not one.proved and "declared/" not in one.cedar and "identity register service serve addr-10.0.0.7" in one.commands[0]
            who = principal(TD, "service", "serve", "addr-10.0.0.7")
            assert who in one.cedar
            await world.put(RegistrationPut(registration=registration(who, groups=())))
            made = adopt_lines.decided(
                world.facts, adopt_lines.compiled_with(world.facts, one.cedar), who, "infer", DIGITS, world.clock.now()
            )
            assert made is not None and made.would_be == "allow"

    asyncio.run(go())


def test_a_revoked_caller_is_proved_by_no_line():
    async def go() -> None:
        async with running(make_world(solo=True), publishing=False) as world:
            await world.put(ZonePut(zone=OBSERVED), EndpointPut(endpoint=endpoint()), *evidence_for())
            await world.put(RegistrationPut(registration=registration(BOB, groups=())), revoked("principal", BOB))
            world.context.traffic.add(line(BOB))
            (one,) = adopt_lines.ready_lines(world.context, adopt_rank.would_refuse(world.context, "serve")[0], "serve")
            assert not one.proved

    asyncio.run(go())


def test_what_was_predicted_is_kept_and_compared_with_what_happened():
    async def go() -> None:
        async with running(make_world(solo=True), publishing=True) as world:
            await world.put(ZonePut(zone=OBSERVED), EndpointPut(endpoint=endpoint()), *evidence_for())
            await world.put(RegistrationPut(registration=registration(principal(TD, "person", "admin", "ann"), groups=ANN_GROUPS)))
            for number in range(10):
                world.context.traffic.add(line(BOB, would="deny" if number < 2 else "allow"))
            assert adopt_rank.after(world.context, "serve") == ""
            made = await adopt.adopt(world.context, caller(*ANN), AdoptRequest(zone="serve", to="enforce"))
            assert "predicted 2 of 10 calls refused (20.0%)" in made.after and "0 of 0" in made.after
            for number in range(5):
                world.context.traffic.add(line(BOB, effect="deny" if number < 1 else "allow", would="deny" if number < 1 else "allow"))
            world.clock.at += HOUR
            assert "since then 1 of 5 (20.0%)" in adopt_rank.after(world.context, "serve")
            assert "since then 1 of 5" in adopt_rank.ranked(world.context).zones[0].after
            world.context.started_at = UnixMillis(world.clock.at)
            assert "since the last start" in adopt_rank.after(world.context, "serve")
            assert json.loads(world.facts.settings["adopted/serve"])["breaks"] == 2

    asyncio.run(go())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "x"}'])
def test_a_prediction_that_cannot_be_read_is_none(text):
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            world.facts.settings["adopted/serve"] = text
            assert adopt_rank.after(world.context, "serve") == ""

    asyncio.run(go())
