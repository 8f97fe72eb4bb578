"""Crossings as Cedar: what passes and what does not, over the compiled policies and over Cedar itself; bad input first."""

from __future__ import annotations

import random

import pytest

from vouchgate.policy.catalog import load, schema_text
from vouchgate.policy.compile import CompiledPolicies, Request, ask_cedar, compile_policies, evaluate
from vouchgate.policy.facts import REQUEST_FACTS, action_uid, put_asset, put_endpoint, put_principal, put_system, resource_uid
from vouchgate.policy.load import Source, read
from vouchgate.policy.values import Uid
from vouchgate.policy.world import Evidence, Held, World
from vouchgate.segmentation.crossings import ELSEWHERE, render
from vouchgate.vocabulary.crossing_words import ALONE, ENTERING, GROUPS, KINDS, LEAVING, expanded, kinds_of
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import principal, resource
from vouchgate.vocabulary.places import Asset, Crossing, Endpoint
from vouchgate.vocabulary.principals import Principal

TD = "t.x"
OPEN = Source("open.cedar", '@id("open") permit (principal, action, resource);')
CONTEXT = {"risk": 0, "authenticated": True, "credential": "x509", "delegated": False}
ZONES = ("ingest", "prepare", "train", "serve")
D1, D2 = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def crossing(source: str, target: str, *actions: str, kinds: tuple[str, ...] = ("endpoint",), vouches: tuple[str, ...] = ()) -> Crossing:
    return Crossing(source=source, target=target, actions=actions, kinds=kinds, vouches=vouches)


def compiled(*crossings: Crossing, zones: tuple[str, ...] = ZONES) -> CompiledPolicies:
    text = render(crossings, zones)
    return compile_policies(load([OPEN, *([Source("crossings.cedar", text)] if text else [])]))


def evidence(*predicates: str) -> Evidence:
    return Evidence(tuple(Held(one, one * 3, "rederived", 2**60) for one in predicates))


def who(zone: str, kind: str = "service") -> str:
    return principal(TD, kind, zone, "it")


def world(*callers: str, zones: tuple[str, ...] = ZONES) -> World:
    made = World()
    for zone in (*zones, "office", "admin"):
        put_principal(made, Principal(id=who(zone)))
    put_principal(made, Principal(id=who("control", "system")))
    for zone in zones:
        endpoint = Endpoint(id=resource(TD, "endpoint", f"e-{zone}"), trust_domain=TD, zone=zone, upstream="tcp:127.0.0.1:1", routes=())
        put_endpoint(made, endpoint, evidence("serves"))
        put_asset(made, Asset(id=resource(TD, "dataset", f"d-{zone}"), zones=(zone,)), evidence())
        put_asset(made, Asset(id=resource(TD, "model", f"m-{zone}"), zones=(zone,), digest=D1), evidence("scan", "structure"))
        put_asset(made, Asset(id=resource(TD, "key", f"k-{zone}"), zones=(zone,)), evidence())
    put_asset(made, Asset(id=resource(TD, "artifact", D1), zones=("train",)), evidence("scan", "structure"))
    put_asset(made, Asset(id=resource(TD, "artifact", D2)), evidence())
    put_asset(made, Asset(id=resource(TD, "dataset", "both"), zones=("ingest", "train")), evidence())
    put_system(made, resource(TD, "system", "secret.s"), evidence(), ("train",))
    put_system(made, resource(TD, "system", "secret.nowhere"), evidence())
    return made


WORLD = world()


def effect(policies: CompiledPolicies, zone: str, action: str, kind: str, name: str, caller: str = "service", **facts: object) -> str:
    request = Request(Uid("Principal", who(zone, caller)), action_uid(action), resource_uid(resource(TD, kind, name)), {**CONTEXT, **facts})
    found = evaluate(policies, request, WORLD)
    said = ask_cedar(policies.cedar_handle, request, WORLD, policies.source.schema)
    assert found.cedar_effect == ("allow" if said.decision.value == "Allow" else "deny"), request
    ahead = evaluate(policies, request, WORLD, REQUEST_FACTS - set(facts))
    assert ahead.effect in (found.effect, "residual")
    return found.effect


# -- bad input


@pytest.mark.parametrize("name", ['a" || true || "', "A", "", "a b", "a/b", "ä", "x" * 65, "a\n", "a;", "a\\"])
def test_a_name_that_is_no_zone_never_becomes_policy_text(name: str) -> None:
    with pytest.raises(InvalidInput):
        render([crossing("train", name, "use")], ZONES)
    with pytest.raises(InvalidInput):
        render([crossing(name, "train", "use")], ZONES)


def test_a_zone_more_than_policies_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bound"):
        render([crossing("zone-0", "zone-1", "use")], [f"zone-{number}" for number in range(2_000)])


def test_names_that_look_like_generated_ones_stay_apart() -> None:
    zones = ("elsewhere", "enter", "move-promote", "endpoint.a", "a", "from-a", "x" * 64, "x" * 63 + "y", "key1.a")
    made = [crossing(one, two, "use", "read", kinds=("endpoint", "dataset")) for one in zones for two in zones if one != two]
    policies = load([Source("crossings.cedar", render(made, zones))])
    assert len({one.id for one in policies.policies}) == len(policies.policies)


def test_the_words_are_the_schemas() -> None:
    schema = read([], schema_text())
    members = {
        name: {one.id for one, above in schema.actions.items() if Uid("Action", name) in above and one.id != name} for name in GROUPS
    }
    assert members == {name: set(actions) for name, actions in GROUPS.items()}
    grouped = {one for actions in GROUPS.values() for one in actions}
    others = {one.id for one in schema.actions} - grouped - set(GROUPS) - set(ALONE)
    assert all(one.startswith("administer") or one in {"approve", "waive"} for one in others), others
    assert set(ENTERING) | set(LEAVING) <= set(GROUPS["move"])
    assert all(kinds_of(action) <= set(KINDS) and kinds_of(action) for action in (*grouped, *ALONE))


# -- what passes


def test_without_crossings_zones_hold_nobody() -> None:
    assert render([], ZONES) == ""
    assert effect(compiled(), "prepare", "infer", "endpoint", "e-serve") == "allow"


def test_only_what_a_crossing_covers_passes() -> None:
    policies = compiled(crossing("prepare", "serve", "infer"), crossing("prepare", "ingest", "read", kinds=("dataset",)))
    assert effect(policies, "prepare", "infer", "endpoint", "e-serve") == "allow"
    assert effect(policies, "prepare", "read", "dataset", "d-ingest") == "allow"
    for zone, action, kind, name in (
        ("prepare", "chat", "endpoint", "e-serve"),
        ("prepare", "infer", "endpoint", "e-train"),
        ("serve", "infer", "endpoint", "e-ingest"),
        ("ingest", "read", "dataset", "d-prepare"),
        ("prepare", "read", "model", "m-ingest"),
        ("prepare", "train", "dataset", "d-ingest"),
        ("prepare", "exchange", "endpoint", "e-serve"),
        ("prepare", "release-key", "key", "k-serve"),
        ("prepare", "sign", "key", "k-ingest"),
    ):
        assert effect(policies, zone, action, kind, name) == "deny", (zone, action, name)


@pytest.mark.parametrize("zone", ZONES)
def test_within_a_zone_no_crossing_is_needed(zone: str) -> None:
    policies = compiled(crossing("prepare", "serve", "infer"))
    for action, kind, name in (("infer", "endpoint", f"e-{zone}"), ("read", "dataset", f"d-{zone}"), ("release-key", "key", f"k-{zone}")):
        assert effect(policies, zone, action, kind, name) == "allow"


def test_a_zone_that_is_not_declared_reaches_nothing() -> None:
    policies = compiled(crossing("prepare", "serve", "infer"))
    assert effect(policies, "office", "infer", "endpoint", "e-serve") == "deny"
    assert effect(policies, "office", "sign", "system", "secret.s") == "deny"
    assert effect(policies, "office", "administer:status", "system", "secret.s") == "allow"
    assert effect(policies, "control", "infer", "endpoint", "e-serve", caller="system") == "allow"
    assert ELSEWHERE in {one.id for one in policies.policies}


def test_a_vouch_that_the_crossing_asks_for_must_hold() -> None:
    policies = compiled(
        crossing("prepare", "serve", "infer", vouches=("serves@declared",)),
        crossing("prepare", "train", "infer", vouches=("serves@verified",)),
        crossing("prepare", "ingest", "read", kinds=("model",), vouches=("scan", "structure")),
        crossing("serve", "train", "read", kinds=("model", "dataset"), vouches=("scan", "validate")),
    )
    assert effect(policies, "prepare", "infer", "endpoint", "e-serve") == "allow"
    assert effect(policies, "prepare", "infer", "endpoint", "e-train") == "deny"
    assert effect(policies, "prepare", "read", "model", "m-ingest") == "allow"
    assert effect(policies, "serve", "read", "model", "m-train") == "deny"


def test_what_lies_nowhere_is_reached_by_nobody_and_what_lies_twice_by_both() -> None:
    policies = compiled(crossing("prepare", "serve", "use", "move", "sign", "release-key", kinds=KINDS))
    for zone in ZONES:
        assert effect(policies, zone, "read", "artifact", D2) == "deny"
        assert effect(policies, zone, "release-key", "system", "secret.nowhere") == "deny"
        assert effect(policies, zone, "read", "dataset", "both") == ("allow" if zone in ("ingest", "train") else "deny")
    assert effect(policies, "train", "release-key", "system", "secret.s") == "allow"
    assert effect(policies, "serve", "release-key", "system", "secret.s") == "deny"


def test_what_enters_needs_a_target_in_its_own_zone_or_one_that_a_crossing_covers() -> None:
    policies = compiled(crossing("admin", "train", "import", "admit", kinds=("artifact",), vouches=("scan",)))
    assert effect(policies, "admin", "admit", "artifact", D1, target="train") == "allow"
    assert effect(policies, "admin", "admit", "artifact", D1) == "deny"
    assert effect(policies, "admin", "admit", "artifact", D1, target="serve") == "deny"
    assert effect(policies, "admin", "admit", "artifact", D2, target="train") == "deny", "it has no scan"
    assert effect(policies, "ingest", "admit", "artifact", D2, target="ingest") == "allow"
    assert effect(policies, "ingest", "admit", "artifact", D2, target="train") == "deny"
    assert effect(policies, "ingest", "ingest", "endpoint", "e-ingest") == "allow", "what is written through an endpoint lies where it is"
    assert effect(policies, "ingest", "ingest", "endpoint", "e-train") == "deny"


def test_what_leaves_needs_a_crossing_from_where_it_lies_and_the_movers_own_right() -> None:
    policies = compiled(
        crossing("train", "serve", "promote", kinds=("model",), vouches=("scan",)),
        crossing("admin", "train", "promote", kinds=("model", "dataset")),
    )
    assert effect(policies, "train", "promote", "model", "m-train", target="serve") == "allow"
    assert effect(policies, "admin", "promote", "model", "m-train", target="serve") == "allow"
    for zone, kind, name, facts in (
        ("train", "model", "m-train", {}),
        ("train", "model", "m-train", {"target": "ingest"}),
        ("train", "dataset", "d-train", {"target": "serve"}),
        ("admin", "dataset", "d-train", {"target": "serve"}),
        ("ingest", "model", "m-train", {"target": "serve"}),
        ("ingest", "model", "m-ingest", {"target": "serve"}),
        ("admin", "model", "m-ingest", {"target": "serve"}),
    ):
        assert effect(policies, zone, "promote", kind, name, **facts) == "deny", (zone, name, facts)
    assert effect(policies, "train", "export", "model", "m-train", target="serve") == "deny"


def test_many_crossings_of_one_zone_are_divided_and_mean_the_same() -> None:
    zones = tuple(f"z-{number}" for number in range(40)) + ZONES
    words = [("scan",), ("structure",), ("import",), ("serves",), ()]
    many = [
        crossing("prepare", zone, "read", "use", kinds=("dataset", "endpoint"), vouches=words[n % 5]) for n, zone in enumerate(zones[:-4])
    ]
    many += [crossing("prepare", zone, "label", kinds=("dataset",), vouches=words[n % 5]) for n, zone in enumerate(zones[:-4])]
    many += [crossing("prepare", zone, "sign", kinds=("dataset", "key"), vouches=words[n % 3]) for n, zone in enumerate(zones[:-4])]
    one = crossing("prepare", "ingest", "read", kinds=("dataset",))
    few, divided = compiled(one, zones=zones), compiled(one, *many, zones=zones)
    assert len([policy for policy in divided.policies if "from-" in policy.id and policy.id.endswith("prepare")]) > 1
    for action, kind in [(action, "dataset") for action in expanded(["move"])] + [
        ("infer", "endpoint"),
        ("release-key", "key"),
        ("sign", "key"),
    ]:
        for zone in ZONES:
            name = f"{kind[0]}-{zone}"
            assert effect(divided, "prepare", action, kind, name) == effect(few, "prepare", action, kind, name), (action, name)


# -- properties


def any_crossings(rng: random.Random) -> list[Crossing]:
    found = {}
    for _ in range(rng.randrange(1, 8)):
        source, target = rng.sample(ZONES, 2)
        kinds = tuple(sorted(rng.sample(KINDS, rng.randrange(1, 4))))
        actions = tuple(
            sorted(rng.sample(("use", "read", "infer", "promote", "sign", "exchange", "release-key", "admit", "move"), rng.randrange(1, 4)))
        )
        vouches = tuple(rng.sample(("scan", "structure", "serves", "validate"), rng.randrange(0, 2)))
        found[source, target, kinds, actions] = crossing(source, target, *actions, kinds=kinds, vouches=vouches)
    return list(found.values())


def kind_of(thing: Uid) -> str:
    return "key" if thing.type == "System" else thing.type.lower()


def cells(rng: random.Random) -> list[Request]:
    things = [uid for uid in WORLD.entities if uid.type not in ("Zone", "Group", "Principal")]
    callers = [uid for uid in WORLD.entities if uid.type == "Principal"]
    actions = sorted(expanded(["use", "move", *ALONE]))
    pairs = [(action, thing) for action in actions for thing in things if kind_of(thing) in kinds_of(action)]
    made = []
    for action, thing in rng.choices(pairs, k=200):
        context = {**CONTEXT, "target": rng.choice(ZONES)} if rng.random() < 0.5 else CONTEXT
        made.append(Request(rng.choice(callers), action_uid(action), thing, context))
    return made


def covers(one: Crossing, request: Request, source: str, target: str) -> bool:
    """Written anew from the rules: what a crossing covers."""
    kind = kind_of(request.resource)
    held = set(WORLD.attributes[request.resource].get("vouches", ()))
    return (
        (one.source, one.target) == (source, target)
        and request.action.id in expanded(one.actions)
        and kind in one.kinds
        and set(one.vouches) <= {str(text) for text in held}
    )


def may(crossings: list[Crossing], request: Request) -> bool:
    """The rules of the module, as a program beside the policies."""
    zone, kind = str(WORLD.attributes[request.principal]["zone"]), str(WORLD.attributes[request.principal]["kind"])
    lies = {uid.id for uid in WORLD.up[request.resource] if uid.type == "Zone"}
    action, target, endpoint = request.action.id, request.context.get("target"), request.resource.type == "Endpoint"
    if kind != "system" and zone not in {*ZONES, *(one.source for one in crossings)}:
        return False

    def passes(source: str, to: object) -> bool:
        return source == to or any(covers(one, request, source, str(to)) for one in crossings)

    if action in ENTERING and request.resource.type == "Artifact":
        return kind == "system" or passes(zone, target)
    reaches = kind == "system" or any(passes(zone, one) for one in lies)
    if action in LEAVING and not endpoint:
        return reaches and any(one != target and passes(one, target) for one in lies)
    return reaches


@pytest.mark.parametrize("seed", range(12))
def test_the_policies_say_what_the_rules_say_and_one_crossing_more_only_adds(seed: int) -> None:
    rng = random.Random(seed)
    crossings = any_crossings(rng)
    fewer, policies = compiled(*crossings[:-1]), compiled(*crossings)
    none_left = len(crossings) == 1
    for request in cells(rng):
        allowed = evaluate(policies, request, WORLD).effect == "allow"
        assert allowed == may(crossings, request), request
        if not none_left and evaluate(fewer, request, WORLD).effect == "allow":
            assert allowed, request
