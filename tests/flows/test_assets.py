"""Crossings and places in a whole control plane: settings bring them in, the PDP's replica holds them too, moves are decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.flows.flows_world import (
    ALICE,
    DIGITS,
    MODEL,
    NOW,
    OTHER_MODEL,
    SPINE,
    TD,
    World,
    about,
    caller,
    endpoint,
    evidence_for,
    make_world,
    registration,
    running,
    vouched,
    zone,
)

from vouchgate.flows import assets, change_policy, serve_models, start
from vouchgate.flows.changes import AssetPut, AssetRemoved, CrossingsPut, EndpointPut, RegistrationPut, SecretPut, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.system_zones import ZonesSystem
from vouchgate.identity.verify import registered
from vouchgate.vocabulary.answers_zones import AssetMove, AssetRequest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, InvalidSettings, NotFound, NotPermitted, VouchgateError
from vouchgate.vocabulary.names import principal, resource
from vouchgate.vocabulary.places import Asset, Crossing
from vouchgate.vocabulary.secrets import Secret
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_file import parse_settings
from vouchgate.vocabulary.settings_zones import AssetSettings, CrossingSettings

ANN = principal(TD, "person", "admin", "ann")
ARTIFACT = resource(TD, "artifact", MODEL.text)
MOVERS = '@id("movers") permit (principal, action in [Action::"promote", Action::"export", Action::"release-key"], resource);'
RULES = (*SPINE, ("movers.cedar", MOVERS))


def crossing(source: str, target: str, *actions: str, kinds: tuple[str, ...] = ("endpoint",), vouches: tuple[str, ...] = ()) -> Crossing:
    return Crossing(source=source, target=target, actions=actions, kinds=kinds, vouches=vouches)


PROMOTE = crossing("train", "serve", "promote", kinds=("artifact", "model"), vouches=("scan",))
REACH = crossing("admin", "train", "promote", kinds=("artifact", "model", "dataset"))


def looped(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The test in a loop of its own."""

    def run() -> None:
        asyncio.run(test())

    return run


async def placed(world: World, *crossings: Crossing, zones: tuple[str, ...] = ("serve", "train", "agents")) -> None:
    await world.put(*(ZonePut(zone=zone(name)) for name in zones))
    await world.put(RegistrationPut(registration=registration(ANN, ("role:registrar", "role:policy-author", "role:auditor"))))
    if crossings:
        await world.put(CrossingsPut(crossings=crossings))


# -- bad settings and bad changes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[crossings]]\nfrom = "a"\nto = "b"\nactions = ["infer"]', "no zone `a`"),
        ('[[crossings]]\nfrom = "train"\nto = "b"\nactions = ["infer"]', "no zone `b`"),
        ('[[crossings]]\nfrom = "train"\nto = "admin"\nactions = ["infer"]', "no zone `admin`"),
        ('[[crossings]]\nfrom = "train"\nto = "train"\nactions = ["infer"]', "cross into itself"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = []', "length"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["steal"]', "not one of the actions"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["administer:status"]', "not one of the actions"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["infer"]\nkinds = ["house"]', "not one of the kinds"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["infer"]\nkinds = ["dataset"]', "not done on dataset"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["read"]\nkinds = ["dataset", "key"]', "kind `key`"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["infer", "infer"]', "stands twice"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["infer"]\nvouches = ["scan@best"]', "matching"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["infer"]\nvouches = ["scan", "scan@verified"]', "stands twice"),
        ('[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["infer"]\n' * 2, "declared twice"),
        (
            '[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["use"]\nvouches = ["scan"]\n'
            '[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["infer"]',
            "with other vouches",
        ),
        ('[[crossings]]\nsource = "train"\nto = "serve"\nactions = ["infer"]', "unknown key"),
        ('[zones.control]\n[[crossings]]\nfrom = "train"\nto = "serve"\nactions = ["infer"]', "vouchgate's own"),
        ('[[assets]]\nname = "d"\nkind = "dataset"\nzones = ["moon"]', "no zone `moon`"),
        ('[[assets]]\nname = "d"\nkind = "dataset"\nzones = []', "length"),
        ('[[assets]]\nname = "D E"\nkind = "dataset"\nzones = ["serve"]', "not a resource"),
        ('[[assets]]\nname = "d"\nkind = "artifact"\nzones = ["serve"]', "not a resource"),
        ('[[assets]]\nname = "d"\nkind = "house"\nzones = ["serve"]', "house"),
        ('[[assets]]\nname = "d"\nkind = "dataset"\nzones = ["serve"]\nbase = "sha256:' + "a" * 64 + '"', "no base"),
        ('[[assets]]\nname = "d"\nkind = "dataset"\nzones = ["serve"]\n' * 2, "used twice"),
        ('[[assets]]\nname = "d"\nkind = "dataset"\nzones = ["serve", "serve"]', "stands twice"),
    ],
)  # fmt: skip
def test_settings_that_contradict_themselves_are_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidSettings, match=told):
        parse_settings(f'trust_domain = "{TD}"\n[zones.train]\n[zones.serve]\n{text}\n', Path("/x/vouchgate.toml"))


def test_a_predicate_that_nobody_can_vouch_for_is_refused() -> None:
    one = CrossingSettings(source="train", target="serve", actions=("infer",), vouches=("blessing",))
    with pytest.raises(InvalidSettings, match="nobody vouches for `blessing`"):
        assets.crossings_of(Settings(trust_domain=TD, crossings=(one,)))


@looped
async def test_changes_that_could_not_be_compiled_are_refused_before_they_are_recorded() -> None:
    async with running(make_world(), publishing=False) as world:
        await placed(world, PROMOTE)
        before = world.facts.policies
        for change in (
            CrossingsPut(crossings=(crossing("train", "moon", "infer"),)),
            CrossingsPut(crossings=(crossing("moon", "train", "infer"),)),
            CrossingsPut(crossings=(crossing("train", "train", "infer"),)),
            AssetPut(asset=Asset(id=resource(TD, "dataset", "d"), zones=("moon",))),
            AssetPut(asset=Asset(id=resource("other.td", "dataset", "d"), zones=("train",))),
            AssetPut(asset=Asset(id=resource(TD, "dataset", "d"), zones=("train", "train"))),
            AssetRemoved(id=resource(TD, "dataset", "gone")),
        ):
            with pytest.raises(VouchgateError):
                await world.put(change)
        assert world.facts.policies is before
        with pytest.raises(InvalidInput, match="generated"):
            await start.activate(world.context, (("p.cedar", MOVERS.replace("movers", "crossing-mine")),), author="a", approver="b")
        with pytest.raises(InvalidInput, match="generated"):
            await start.activate(world.context, (("crossings.cedar", MOVERS),), author="a", approver="b")


# -- what holds


@looped
async def test_settings_bring_crossings_and_assets_in_and_a_decided_move_outlives_them() -> None:
    settings = Settings(
        trust_domain=TD,
        data_dir="/nowhere",
        root_dir="/nowhere-root",
        crossings=(CrossingSettings(source="train", target="serve", actions=("promote",), kinds=("model",)),),
        assets=(AssetSettings(name="m", kind="model", zones=("train",)),),
    )
    async with running(make_world(settings=settings), publishing=False) as world:
        await placed(world)
        await world.put(*assets.wanted_zones(settings, world.facts))
        assert world.facts.crossings and world.facts.assets[resource(TD, "model", "m")].zones == ("train",)
        assert assets.wanted_zones(settings, world.facts) == []
        await world.put(AssetPut(asset=Asset(id=resource(TD, "model", "m"), zones=("serve",))))
        assert assets.wanted_zones(settings, world.facts) == [], "a restart does not move it back"
        none = msgspec.structs.replace(settings, crossings=())
        await world.put(*assets.wanted_zones(none, world.facts))
        assert world.facts.crossings == () and not any(one.id.startswith("crossing-") for one in world.facts.policies.policies)


@looped
async def test_a_call_over_a_zone_is_refused_in_both_processes_until_a_crossing_covers_it() -> None:
    agent = principal(TD, "agent", "agents", "helper")
    async with running(make_world()) as world:
        await placed(world, PROMOTE)
        await world.put(EndpointPut(endpoint=endpoint()), *evidence_for())
        await world.put(RegistrationPut(registration=registration()), RegistrationPut(registration=registration(agent)))
        await world.settled()
        assert world.granted() == {ALICE}
        (said,) = world.replica.facts.standing((DIGITS, agent), NOW)
        assert said.effect == "deny" and said.determining == ("crossing-from-agents",)
        assert "zone `agents` may not `infer` in zone `serve`: no crossing is declared" in said.reason
        assert '[[crossings]] from = "agents", to = "serve", actions = ["infer"], kinds = ["endpoint"]' in said.remedy
        await world.put(CrossingsPut(crossings=(crossing("agents", "serve", "infer", vouches=("scan", "serves@verified")),)))
        await world.settled()
        assert world.granted() == {ALICE, agent}
        await world.put(CrossingsPut(crossings=(crossing("agents", "serve", "infer", vouches=("validate",)),)))
        await world.settled()
        assert world.granted() == {ALICE}
        (said,) = world.replica.facts.standing((DIGITS, agent), NOW)
        assert "the crossing from zone `agents` to `serve` asks for a fresh `validate` vouch" in said.reason
        assert [one.predicate for one in said.missing] == ["validate"] and said.remedy


@looped
async def test_a_new_zone_is_held_too_and_a_replay_holds_the_same() -> None:
    async with running(make_world(), publishing=False) as world:
        await placed(world, PROMOTE)
        await world.put(ZonePut(zone=zone("later")), EndpointPut(endpoint=endpoint("e", zone="later")))
        await world.put(AssetPut(asset=Asset(id=ARTIFACT, zones=("later",))))
        again = Facts(TD, world.facts._fingerprint)
        start.replay(world.store, again, NOW)
        assert again.policies is not None and again.policies.digest == world.facts.policies.digest
        assert again.policies.source.policy("crossing-from-later") and again.assets == world.facts.assets


@looped
async def test_a_policy_check_shows_no_generated_policy_as_removed() -> None:
    async with running(make_world(), publishing=False) as world:
        await placed(world, PROMOTE)
        report = change_policy.report(world.context, MOVERS)
        assert report.ok and not any("crossing-" in one for one in report.changes)


@looped
async def test_a_secret_lies_where_the_key_of_its_name_does() -> None:
    who = registration(principal(TD, "service", "train", "job"), ())
    async with running(make_world(), publishing=False, policies=RULES) as world:
        await placed(world, PROMOTE)
        await world.put(RegistrationPut(registration=who), SecretPut(secret=Secret(name="warehouse", rotator="postgres")))
        name, say = resource(TD, "system", "secret.warehouse"), registered(who, NOW)
        assert world.facts.decide(say, "release-key", name, NOW).effect == "deny", "it lies nowhere"
        await world.put(AssetPut(asset=Asset(id=resource(TD, "key", "warehouse"), zones=("train",))))
        assert world.facts.decide(say, "release-key", name, NOW).effect == "allow"
        await world.put(AssetPut(asset=Asset(id=resource(TD, "key", "warehouse"), zones=("serve",))))
        assert world.facts.decide(say, "release-key", name, NOW).effect == "deny"
        await world.put(AssetRemoved(id=resource(TD, "key", "warehouse")))
        assert "lies in no zone" in world.facts.decide(say, "release-key", name, NOW).reason


# -- placing and moving


@looped
async def test_only_a_registrar_places_and_placing_moves_nothing() -> None:
    async with running(make_world(), publishing=False) as world:
        await placed(world, PROMOTE)
        with pytest.raises(NotPermitted):
            await assets.put(world.context, caller("bob"), AssetRequest(kind="dataset", name="d", zones=("train",)))
        made = await assets.put(world.context, caller(), AssetRequest(kind="dataset", name="d", zones=("train",), digest=MODEL.text))
        assert made.asset.zones == ("train",)
        for wrong, kind in (
            (AssetRequest(kind="dataset", name="d", zones=("serve",)), Conflict),
            (AssetRequest(kind="dataset", name="e"), InvalidInput),
            (AssetRequest(kind="dataset", name="e", zones=("moon",)), NotFound),
            (AssetRequest(kind="model", name="twin", zones=("serve",), digest=MODEL.text), Conflict),
            (AssetRequest(kind="artifact", name=MODEL.text, zones=("serve",)), Conflict),
            (AssetRequest(kind="artifact", name=OTHER_MODEL.text, zones=("serve",), digest=MODEL.text), InvalidInput),
            (AssetRequest(kind="dataset", name="e", zones=("train",), digest="sha256:1"), InvalidInput),
        ):
            with pytest.raises(kind):
                await assets.put(world.context, caller(), wrong)
        again = await assets.put(world.context, caller(), AssetRequest(kind="dataset", name="d", labels=("personal",)))
        assert again.asset.labels == ("personal",) and again.asset.zones == ("train",)
        assert [one.asset.id for one in assets.listed(world.context)] == [resource(TD, "dataset", "d")]
        await assets.remove(world.context, caller(), "d", "gone")
        assert world.facts.assets == {}


@looped
async def test_what_is_taken_away_and_placed_anew_is_still_what_it_was_and_where_it_was() -> None:
    """Else one registrar alone could do by two acts what a move needs two roles and a crossing for."""
    async with running(make_world(), publishing=False) as world:
        await placed(world, PROMOTE)
        first = AssetRequest(kind="dataset", name="d", zones=("train",), digest=MODEL.text, labels=("personal",), purposes=("research",))
        await assets.put(world.context, caller(), first)
        changed = (
            msgspec.structs.replace(first, labels=()),
            msgspec.structs.replace(first, purposes=()),
            msgspec.structs.replace(first, purposes=("research", "billing")),
        )
        for wrong in changed:
            with pytest.raises(Conflict):
                await assets.put(world.context, caller(), wrong)
        await assets.remove(world.context, caller(), "d", "to place it anew")
        for wrong in (
            *changed,
            msgspec.structs.replace(first, zones=("serve",)),
            AssetRequest(kind="model", name="other", zones=("serve",), digest=MODEL.text),
            AssetRequest(kind="artifact", name=MODEL.text, zones=("serve",)),
        ):
            with pytest.raises(Conflict):
                await assets.put(world.context, caller(), wrong)
        replayed = Facts(TD, world.facts._fingerprint)
        start.replay(world.store, replayed, NOW)
        assert replayed.departed == world.facts.departed
        back = await assets.put(world.context, caller(), msgspec.structs.replace(first, zones=()))
        assert back.asset == Asset(id=back.asset.id, zones=("train",), digest=MODEL.text, labels=("personal",), purposes=("research",))


async def move(world: World, target: str = "serve", **changes: Any) -> Any:
    return await assets.move(world.context, caller(), AssetMove(**({"asset": ARTIFACT, "target": target} | changes)))


@looped
async def test_a_move_needs_policy_a_crossing_its_vouches_and_two_roles() -> None:
    async with running(make_world(), publishing=False, policies=RULES) as world:
        await placed(world, REACH)
        await world.put(AssetPut(asset=Asset(id=ARTIFACT, zones=("train",))))
        first = await move(world)
        assert not first.moved and "no crossing is declared" in first.reason and first.state.asset.zones == ("train",)
        await world.put(CrossingsPut(crossings=(PROMOTE, REACH)))
        second = await move(world)
        assert not second.moved and [one.predicate for one in second.missing] == ["scan"]
        await world.put(vouched("scan", [about()]))
        third = await move(world)
        assert not third.moved and "two distinct roles" in third.reason
        await world.put(vouched("import", [about()]))
        fourth = await move(world, reason="it is ready")
        assert fourth.moved and world.facts.assets[ARTIFACT].zones == ("serve",)
        with pytest.raises(Conflict):
            await move(world)
        back = await move(world, "train")
        assert not back.moved, "the way back is another crossing"
        assert not (await move(world, "agents", action="export")).moved
        assert sum(b"move-asset" in entry for entry in world.entries()) == 6


@looped
async def test_moves_that_say_too_little_or_too_much() -> None:
    async with running(make_world(), publishing=False, policies=RULES) as world:
        await placed(world)
        await world.put(
            AssetPut(asset=Asset(id=ARTIFACT, zones=("train", "agents"))), vouched("scan", [about()]), vouched("import", [about()])
        )
        for changes, kind in (
            ({"target": "moon"}, NotFound),
            ({"asset": "gone"}, NotFound),
            ({"action": "read"}, InvalidInput),
            ({}, InvalidInput),
            ({"source": "serve"}, InvalidInput),
            ({"target": "train"}, Conflict),
        ):
            with pytest.raises(kind):
                await move(world, **{"target": "serve"} | changes)
        kept = await move(world, keep=True)
        assert kept.moved and kept.state.asset.zones == ("agents", "serve", "train")
        await world.put(AssetPut(asset=Asset(id=ARTIFACT, zones=("train", "agents"))))
        assert (await move(world, source="agents")).state.asset.zones == ("serve", "train")


@looped
async def test_who_is_not_permitted_moves_nothing_even_without_crossings() -> None:
    async with running(make_world(), publishing=False) as world:
        await placed(world)
        await world.put(AssetPut(asset=Asset(id=ARTIFACT, zones=("train",))), vouched("scan", [about()]), vouched("import", [about()]))
        assert not (await move(world)).moved


@looped
async def test_an_import_places_and_a_model_is_served_only_where_it_lies() -> None:
    async with running(make_world(), publishing=False) as world:
        await placed(world, PROMOTE)
        await world.put(EndpointPut(endpoint=endpoint()), *evidence_for(), vouched("import", [about()]))
        said = {"endpoint": "digits", "digest": MODEL.text, "tier": "verified", "pid": 1, "uid": 1, "observed": "bytes"}
        with pytest.raises(Conflict, match="lies nowhere"):
            await serve_models.vouch_serving(world.context, said)
        assert await serve_models.vouch_serving(world.context, said | {"tier": "declared"}), "a line of the settings lies nowhere"
        await assets.place_imported(world.context, caller(), ARTIFACT, "train")
        with pytest.raises(Conflict, match="it lies in train"):
            await serve_models.vouch_serving(world.context, said)
        await assets.place_imported(world.context, caller(), ARTIFACT, "moon")
        await assets.place_imported(world.context, caller(), ARTIFACT, "serve")
        assert world.facts.assets[ARTIFACT].zones == ("train", "serve")
        assert await serve_models.vouch_serving(world.context, said)
        await world.put(CrossingsPut(crossings=()), AssetRemoved(id=ARTIFACT))
        world.clock.at += 1000
        assert await serve_models.vouch_serving(world.context, said), "zones hold nobody"


@looped
async def test_the_surface_of_zones_decides_first_and_answers() -> None:
    async with running(make_world(), publishing=False) as world:
        await placed(world, crossing("agents", "serve", "infer"))
        await world.put(EndpointPut(endpoint=endpoint()), *evidence_for(), RegistrationPut(registration=registration()))
        system = ZonesSystem()
        system.context = world.context
        for ask in (system.zone_map(caller("bob")), system.prove_zones(caller("bob"), "agents", "serve"), system.assets(caller("bob"))):
            with pytest.raises(NotPermitted):
                await ask
        assert (await system.zone_map(caller())).holds
        assert (await system.prove_zones(caller(), "train", "serve")).proved
        assert (await system.blast(caller(), "alice")).endpoints == 1
        assert (await system.attack_surface(caller())).allowed >= 1
