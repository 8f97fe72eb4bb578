"""Loads are decided about content, recorded, and refused with what is missing; a process's word on what it serves never beats what was seen."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from flows_world import (
    DAY,
    DIGITS,
    MODEL,
    NOW,
    OTHER_MODEL,
    TD,
    World,
    about,
    endpoint,
    lasting,
    make_world,
    registration,
    revoked,
    running,
    served,
    serving,
    vouched,
    zone,
)

from vouchgate.flows import loads
from vouchgate.flows.changes import AssetPut, CrossingsPut, EndpointPut, ZonePut
from vouchgate.flows.content_decisions import HOLD_MS
from vouchgate.flows.context import Buckets
from vouchgate.flows.facts import compile_sources
from vouchgate.vocabulary.answers_loads import LoadOutcome, LoadRequest, ServingOutcome, ServingRequest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotFound, NotPermitted
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.places import Asset, Crossing
from vouchgate.vocabulary.vouches import Vouch

SERVER, STRANGER = lasting("server"), lasting("stranger")
WHO, LOADERS = SERVER.principal.principal.id, ("loaders",)
NEEDED = ("scan", "structure", "import")
POLICY = (
    (
        "loading.cedar",
        '@id("loaders") permit (principal in Group::"loaders", action == Action::"read", resource is Artifact)\n'
        'when { resource.vouches.containsAll(["scan", "structure", "import"]) && context.risk < 60 };\n'
        '@id("servers") permit (principal in Group::"loaders", action == Action::"deploy", resource is Endpoint);\n'
        '@id("trials") permit (principal in Group::"triers", action == Action::"read", resource is Artifact)\n'
        'when { resource.vouches.contains("scan") && context.risk < 60 && context has purpose && context.purpose == "trial" };',
    ),
)


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each case has a bucket of its own."""
    monkeypatch.setattr(loads, "_buckets", Buckets(loads.PER_MINUTE))
    monkeypatch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
    yield


def story(tell: Callable[[World], Awaitable[None]]) -> None:
    async def go() -> None:
        async with running(make_world(), policies=POLICY) as world:
            await serving(world, registration(WHO, LOADERS), registration(STRANGER.principal.principal.id, ("triers",)))
            await tell(world)

    asyncio.run(go())


async def ask(world: World, digest: str = MODEL.text, *, who: Any = SERVER, **more: str) -> LoadOutcome:
    return await loads.load(world.context, _with(who), LoadRequest(digest=digest, **more))


def _with(who: Any) -> Any:
    """The caller as the kernel gives it: with the groups of its registration."""
    import msgspec

    groups = LOADERS if who is SERVER else ("triers",)
    principal = msgspec.structs.replace(who.principal.principal, groups=groups)
    return msgspec.structs.replace(who, principal=msgspec.structs.replace(who.principal, principal=principal))


async def admitted(world: World, digest: Any = MODEL) -> None:
    made = [vouched(one, [about(digest)]) for one in NEEDED]
    await world.put(*(one for one in made if one.id not in world.facts.lineage.vouches))


async def serve(world: World, name: str, digest: Any = MODEL, who: Any = SERVER) -> ServingOutcome:
    return await loads.serving(world.context, _with(who), ServingRequest(digest=digest.text, endpoint=name))


async def quiet(world: World) -> None:
    """An endpoint of which nothing was seen."""
    await world.put(EndpointPut(endpoint=endpoint("quiet")))


def serves(world: World, name: str) -> list[Vouch]:
    found = world.facts.about(resource(TD, "endpoint", name))
    return [one for one in found if one.predicate_type == "serves"]


def test_admitted_content_is_loaded_and_the_load_is_recorded() -> None:
    async def tell(world: World) -> None:
        await admitted(world)
        before = len(world.entries())
        made = await ask(world, library="torch")
        assert (made.allowed, made.missing, made.hold_ms) == (True, (), HOLD_MS)
        logged = b"".join(world.entries()[before:])
        assert made.decision_id.encode() in logged
        assert b"torch" in logged
        assert MODEL.text.encode() in logged

    story(tell)


@pytest.mark.parametrize("absent", NEEDED)
def test_a_refusal_names_the_missing_vouch_and_its_remedy(absent: str) -> None:
    async def tell(world: World) -> None:
        await world.put(*(vouched(one, [about(OTHER_MODEL)]) for one in NEEDED if one != absent))
        made = await ask(world, OTHER_MODEL.text)
        assert (made.allowed, made.hold_ms) == (False, 0)
        assert [one.predicate for one in made.missing] == [absent]
        assert made.missing[0].remedy
        assert made.reason

    story(tell)


@pytest.mark.parametrize("how", ["nobody", "a revoked digest", "a failed scan", "a revoked caller", "unknown content"])
def test_what_is_refused(how: str) -> None:
    async def tell(world: World) -> None:
        await admitted(world)
        assert (await ask(world)).allowed
        who, digest = SERVER, MODEL.text
        if how == "nobody":
            who = STRANGER
        elif how == "a revoked digest":
            await world.put(revoked("digest", MODEL.text))
        elif how == "a failed scan":
            await world.put(vouched("scan", [about()], outcome="fail", issued_at=NOW + 1))
        elif how == "a revoked caller":
            await world.put(revoked("principal", WHO))
        else:
            digest = "sha256-tree:" + MODEL.value
        made = await ask(world, digest, who=who)
        assert (made.allowed, made.hold_ms) == (False, 0)
        assert made.reason

    story(tell)


def test_the_purpose_is_told_to_policy() -> None:
    async def tell(world: World) -> None:
        await admitted(world)
        told = [(await ask(world, who=STRANGER, purpose=purpose)).allowed for purpose in ("trial", "export", "")]
        assert told == [True, False, False]

    story(tell)


def test_an_allow_is_held_no_longer_than_its_evidence() -> None:
    async def tell(world: World) -> None:
        await world.put(*(vouched(one, [about(OTHER_MODEL)], expires_at=NOW + 400) for one in NEEDED))
        assert (await ask(world, OTHER_MODEL.text)).hold_ms == 400
        world.clock.at += 401
        assert not (await ask(world, OTHER_MODEL.text)).allowed

    story(tell)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"digest": "sha1:00"}, InvalidInput),
        ({"digest": ""}, InvalidInput),
        ({"digest": MODEL.text, "library": "x" * 65}, InvalidInput),
        ({"digest": MODEL.text, "purpose": "a\nb"}, InvalidInput),
        ({"digest": MODEL.text, "endpoint": "nowhere"}, NotFound),
    ],
)
def test_questions_that_are_none(more: dict[str, str], error: type[Exception]) -> None:
    async def tell(world: World) -> None:
        with pytest.raises(error):
            await loads.load(world.context, _with(SERVER), LoadRequest(**more))

    story(tell)


def test_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(world: World) -> None:
        monkeypatch.setattr(loads, "_buckets", Buckets(3))
        with pytest.raises(LimitExceeded):
            for _ in range(20):
                await ask(world)

    story(tell)


def test_content_that_lies_elsewhere_is_not_loaded_for_an_endpoint() -> None:
    async def tell(world: World) -> None:
        await admitted(world)
        await world.put(ZonePut(zone=zone("train")), AssetPut(asset=Asset(id=about().name, zones=("train",), digest=MODEL.text)))
        assert (await ask(world, endpoint="digits")).allowed
        await world.put(CrossingsPut(crossings=(Crossing(source="train", target="serve", actions=("infer",), vouches=(), why="w"),)))
        made = await ask(world, endpoint="digits")
        assert not made.allowed
        assert "lies in train" in made.reason

    story(tell)


def test_the_word_of_a_process_becomes_a_cooperative_vouch_that_ends() -> None:
    async def tell(world: World) -> None:
        await admitted(world)
        await quiet(world)
        made = await serve(world, "quiet")
        (vouch,) = serves(world, "quiet")
        assert (made.vouch_id, made.tier, vouch.tier, vouch.method.tool) == (vouch.id, "cooperative", "cooperative", "vouchgate-guard")
        assert vouch.subjects[0].digest.text == MODEL.text  # type: ignore[union-attr]
        assert 0 < made.renew_ms < made.expires_at - NOW < DAY
        assert vouch.rests_on == (vouched("import", [about()]).id,)
        assert world.facts.endpoints[resource(TD, "endpoint", "quiet")].model_digest == MODEL.text

    story(tell)


def test_it_stands_beside_nothing_stronger() -> None:
    async def tell(world: World) -> None:
        await admitted(world)
        await admitted(world, OTHER_MODEL)
        seen = serves(world, "digits")
        made = await serve(world, "digits")
        assert (made.tier, made.vouch_id) == ("verified", seen[0].id)
        with pytest.raises(Conflict, match="was seen to serve"):
            await serve(world, "digits", OTHER_MODEL)
        assert serves(world, "digits") == seen
        assert world.facts.endpoints[DIGITS].model_digest == MODEL.text

    story(tell)


@pytest.mark.parametrize("how", ["a stranger", "missing evidence", "revoked content"])
def test_whose_word_is_not_taken(how: str) -> None:
    async def tell(world: World) -> None:
        await quiet(world)
        if how != "missing evidence":
            await admitted(world, OTHER_MODEL)
        if how == "revoked content":
            await world.put(revoked("digest", OTHER_MODEL.text))
        with pytest.raises(NotPermitted):
            await serve(world, "quiet", OTHER_MODEL, STRANGER if how == "a stranger" else SERVER)
        assert serves(world, "quiet") == []

    story(tell)


def test_a_cooperative_word_is_renewed_while_it_is_said() -> None:
    async def tell(world: World) -> None:
        await admitted(world)
        await quiet(world)
        first = await serve(world, "quiet")
        world.clock.at += first.renew_ms
        second = await serve(world, "quiet")
        assert second.expires_at == first.expires_at + first.renew_ms
        assert served("quiet").name in {one.subjects[0].name for one in serves(world, "quiet")}

    story(tell)
