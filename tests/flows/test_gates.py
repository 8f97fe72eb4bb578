"""What passes a gate is decided for the gate, about content, and recorded; nothing passes on what is missing, revoked or owed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from flows_world import MODEL, NOW, OTHER_MODEL, World, about, lasting, make_world, registration, revoked, running, serving, vouched, zone

from vouchgate.flows import gates
from vouchgate.flows.changes import AssetPut, CrossingsPut, ZonePut
from vouchgate.flows.content_decisions import HOLD_MS
from vouchgate.flows.context import Buckets
from vouchgate.flows.facts import compile_sources
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.places import Asset, Crossing

GATE, OTHER, OWING, CARELESS = (lasting(name) for name in ("gate", "other", "owing", "careless"))
WHO = GATE.principal.principal.id
GROUPS = {WHO: ("gates",), OTHER.principal.principal.id: ("others",), OWING.principal.principal.id: ("gates", "owing")}
GROUPS[CARELESS.principal.principal.id] = ("careless",)
NEEDED = ("scan", "structure", "import")
POLICY = (
    (
        "gates.cedar",
        '@id("promote") permit (principal in Group::"gates", action == Action::"promote", resource is Artifact)\n'
        'when { resource.vouches.containsAll(["scan", "structure", "import"]) && context.risk < 40 };\n'
        '@id("deploy") permit (principal in Group::"gates", action == Action::"deploy", resource is Artifact)\n'
        'when { resource.vouches.contains("scan") && context.risk < 40 && context has target && context.target == "serve" };\n'
        '@id("careless") permit (principal in Group::"careless", action == Action::"promote", resource is Artifact) when { context.risk < 40 };\n'
        '@id("owed") @oblige("step-up=300") forbid (principal in Group::"owing", action == Action::"promote", resource is Artifact);',
    ),
)


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each case has a bucket of its own."""
    monkeypatch.setattr(gates, "_buckets", Buckets(gates.PER_MINUTE))
    monkeypatch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
    yield


def story(tell: Callable[[World], Awaitable[None]]) -> None:
    async def go() -> None:
        async with running(make_world(), policies=POLICY) as world:
            await serving(world, *(registration(name, groups) for name, groups in GROUPS.items()))
            made = [vouched(one, [about(MODEL)]) for one in NEEDED]
            await world.put(*(one for one in made if one.id not in world.facts.lineage.vouches))
            await tell(world)

    asyncio.run(go())


async def ask(world: World, digest: str = MODEL.text, *, who: Any = GATE, **more: Any) -> GateOutcome:
    principal = msgspec.structs.replace(who.principal.principal, groups=GROUPS[who.principal.principal.id])
    caller = msgspec.structs.replace(who, principal=msgspec.structs.replace(who.principal, principal=principal))
    return await gates.ask(world.context, caller, GateRequest(**({"digest": digest, "act": "promote"} | more)))


def test_vouched_content_passes_and_what_it_is_for_is_recorded() -> None:
    async def tell(world: World) -> None:
        before = len(world.entries())
        made = await ask(world, subject="models:/digits/3 alias champion")
        assert (made.allowed, made.missing, made.hold_ms, made.remedy) == (True, (), HOLD_MS, "")
        logged = b"".join(world.entries()[before:])
        assert made.decision_id.encode() in logged
        assert b"models:/digits/3 alias champion" in logged

    story(tell)


@pytest.mark.parametrize("absent", NEEDED)
def test_a_refusal_names_the_missing_vouch_and_its_remedy(absent: str) -> None:
    async def tell(world: World) -> None:
        await world.put(*(vouched(one, [about(OTHER_MODEL)]) for one in NEEDED if one != absent))
        made = await ask(world, OTHER_MODEL.text)
        assert (made.allowed, made.hold_ms) == (False, 0)
        assert [one.predicate for one in made.missing] == [absent]
        assert made.missing[0].remedy

    story(tell)


@pytest.mark.parametrize(
    "how",
    ["another caller", "a revoked digest", "a failed scan", "a revoked gate", "unknown content", "an act it may not", "something owed"],
)
def test_what_does_not_pass(how: str) -> None:
    async def tell(world: World) -> None:
        assert (await ask(world)).allowed
        more: dict[str, Any] = {}
        if how == "another caller":
            more = {"who": OTHER}
        elif how == "a revoked digest":
            await world.put(revoked("digest", MODEL.text))
        elif how == "a failed scan":
            await world.put(vouched("scan", [about()], outcome="fail", issued_at=NOW + 1))
        elif how == "a revoked gate":
            await world.put(revoked("principal", WHO))
        elif how == "unknown content":
            more = {"digest": "sha256-tree:" + MODEL.value}
        elif how == "an act it may not":
            more = {"act": "deploy", "target": "train"}
        else:
            more = {"who": OWING}
        made = await ask(world, **more)
        assert (made.allowed, made.hold_ms) == (False, 0)
        assert made.reason

    story(tell)


def test_what_was_revoked_does_not_pass_under_a_policy_that_asks_for_nothing() -> None:
    async def tell(world: World) -> None:
        assert (await ask(world, who=CARELESS)).allowed
        await world.put(revoked("digest", MODEL.text))
        made = await ask(world, who=CARELESS)
        assert not made.allowed
        assert "was revoked" in made.reason
        assert made.remedy

    story(tell)


def test_where_crossings_are_declared_content_must_lie_in_its_zone() -> None:
    async def tell(world: World) -> None:
        assert (await ask(world, act="deploy", target="serve")).allowed
        await world.put(ZonePut(zone=zone("train")), AssetPut(asset=Asset(id=about().name, zones=("train",), digest=MODEL.text)))
        await world.put(CrossingsPut(crossings=(Crossing(source="train", target="serve", actions=("deploy",), why="models go live"),)))
        made = await ask(world, act="deploy", target="serve")
        assert not made.allowed
        assert "lies in train" in made.reason

    story(tell)


def test_a_dry_run_is_decided_and_not_recorded() -> None:
    async def tell(world: World) -> None:
        before = len(world.entries())
        assert (await ask(world, dry_run=True)).allowed
        assert not (await ask(world, OTHER_MODEL.text, dry_run=True)).allowed
        assert len(world.entries()) == before

    story(tell)


@pytest.mark.parametrize(
    "more",
    [{"digest": "sha1:00"}, {"digest": ""}, {"target": "x" * 65}, {"purpose": "a\nb"}, {"subject": "x" * 513}, {"subject": "\x1b[2J"}],
)
def test_questions_that_are_none(more: dict[str, str]) -> None:
    async def tell(world: World) -> None:
        with pytest.raises(InvalidInput):
            await ask(world, **more)

    story(tell)


def test_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(world: World) -> None:
        monkeypatch.setattr(gates, "_buckets", Buckets(3))
        with pytest.raises(LimitExceeded):
            for _ in range(20):
                await ask(world, dry_run=True)

    story(tell)
