"""What zones hold: proofs against a search by brute force over every caller, act and thing; blast radius, surface, map; bounds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.flows.flows_world import NOW, TD, endpoint, registration, zone

from vouchgate.flows.changes import AssetPut, Change, CrossingsPut, EndpointPut, RegistrationPut, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.sequence import Sequenced
from vouchgate.flows.zones import blast_in, map_of, prove_in, surface_in
from vouchgate.flows.zones_facts import Seen, seen_of
from vouchgate.flows.zones_graph import READS, WRITES, build
from vouchgate.policy.compile import Request, evaluate
from vouchgate.policy.facts import REQUEST_FACTS, resource_uid
from vouchgate.policy.values import Uid
from vouchgate.segmentation.graph import About, Graph, Node, reached, shortest
from vouchgate.vocabulary.crossing_words import ENTERING, GROUPS, kinds_of
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable
from vouchgate.vocabulary.names import principal, principal_parts, resource
from vouchgate.vocabulary.places import Asset, Crossing

ZONES = ("ingest", "prepare", "train", "serve")
OPEN = """
@id("all") permit (principal, action in [Action::"use", Action::"move"], resource);
"""
CONTEXT = {"risk": 0, "authenticated": True, "credential": "x509", "delegated": False}


def crossing(source: str, target: str, *actions: str, kinds: tuple[str, ...] = ("endpoint",), vouches: tuple[str, ...] = ()) -> Crossing:
    return Crossing(source=source, target=target, actions=actions, kinds=kinds, vouches=vouches)


def asset(kind: str, name: str, *zones: str, **changes: Any) -> AssetPut:
    return AssetPut(asset=Asset(id=resource(TD, kind, name), zones=zones, **changes))


def who(name: str, zone_name: str, kind: str = "service") -> str:
    return principal(TD, kind, zone_name, name)


def facts_of(text: str, *changes: Change) -> Facts:
    facts = Facts(TD, "00")
    for change in changes:
        facts.check(change)
        facts.apply(Sequenced(change=change, epoch=0, log_index=0), NOW)
    facts.policies = facts.compiled([("p.cedar", text)])
    return facts


def lifecycle(*crossings: Crossing, text: str = OPEN, more: tuple[Change, ...] = (), solo: bool = False) -> Seen:
    """One caller, endpoint and dataset a zone."""
    changes: list[Change] = [ZonePut(zone=zone(name)) for name in ZONES]
    changes += [CrossingsPut(crossings=crossings)] if crossings else []
    for name in ZONES:
        changes.append(EndpointPut(endpoint=endpoint(f"e-{name}", zone=name, upstream="unix:/s")))
        changes.append(asset("dataset", f"d-{name}", name))
        changes.append(RegistrationPut(registration=registration(who(f"p-{name}", name), ())))
    return seen_of(facts_of(text, *changes, *more), NOW, solo=solo)


# -- bad questions


def test_a_question_about_no_zone_or_one_zone_is_refused() -> None:
    seen = lifecycle(crossing("prepare", "serve", "infer"))
    with pytest.raises(NotFound, match="there is no zone"):
        prove_in(seen, "prepare", "moon")
    with pytest.raises(InvalidInput, match="one zone"):
        prove_in(seen, "serve", "serve")
    with pytest.raises(NotFound):
        blast_in(seen, "nobody")
    with pytest.raises(Unavailable):
        seen_of(Facts(TD, "00"), NOW, solo=False)


def test_a_proof_that_was_cut_off_proves_nothing() -> None:
    seen = lifecycle(crossing("prepare", "serve", "infer"))
    assert prove_in(seen, "serve", "ingest").proved
    cut = prove_in(seen, "serve", "ingest", max_decisions=10)
    assert not cut.proved and "more to decide" in cut.cut


def test_without_crossings_nothing_is_proved_where_policy_is_open() -> None:
    found = prove_in(lifecycle(), "ingest", "serve")
    assert not found.proved and len(found.path) == 1 and found.path[0].by == "all"


# -- proofs


def test_a_crossing_is_a_path_one_way_and_data_flows_back_along_it() -> None:
    seen = lifecycle(crossing("prepare", "serve", "infer"))
    there, back = prove_in(seen, "prepare", "serve"), prove_in(seen, "serve", "prepare")
    assert [step.flow for step in there.path] == ["both"]
    assert [(step.how, step.flow) for step in back.path] == [("is taken in by `infer`", "data")], "who calls takes in the answer"
    assert prove_in(seen, "ingest", "serve").proved


def test_what_one_zone_writes_and_another_reads_is_a_path_over_three_zones() -> None:
    seen = lifecycle(
        crossing("prepare", "ingest", "read", kinds=("dataset",)),
        crossing("train", "prepare", "read", kinds=("dataset",)),
    )
    found = prove_in(seen, "ingest", "train")
    assert not found.proved
    assert {step.flow for step in found.path} <= {"data", "control"} and len(found.path) >= 2
    assert prove_in(seen, "ingest", "serve").proved and prove_in(seen, "serve", "train").proved


def test_what_may_be_brought_into_a_zone_is_a_path_to_whoever_reads_there() -> None:
    seen = lifecycle(crossing("prepare", "train", "import", kinds=("artifact",)))
    found = prove_in(seen, "prepare", "train")
    assert not found.proved and "bring in something new" in found.path[0].how
    assert prove_in(seen, "prepare", "serve").proved


def test_what_may_be_moved_into_a_zone_is_a_path() -> None:
    seen = lifecycle(crossing("train", "serve", "promote", kinds=("model",)), more=(asset("model", "m", "train"),))
    found = prove_in(seen, "train", "serve")
    assert not found.proved and any("promote" in step.how for step in found.path)
    assert prove_in(seen, "prepare", "serve").proved


def test_a_registrar_becomes_anybody_who_holds_no_role_of_which_he_is_short() -> None:
    registrar = registration(who("ann", "admin", "person"), ("role:registrar",))
    seen = lifecycle(crossing("prepare", "serve", "infer"), more=(RegistrationPut(registration=registrar),))
    found = prove_in(seen, "admin", "train")
    assert not found.proved and "may become it" in found.path[0].how
    assert prove_in(seen, "train", "admin").proved


def test_who_writes_the_policy_alone_may_do_everything() -> None:
    author = registration(who("pat", "admin", "person"), ("role:policy-author",))
    text = OPEN
    assert prove_in(
        lifecycle(crossing("prepare", "serve", "infer"), text=text, more=(RegistrationPut(registration=author),)), "admin", "train"
    ).proved
    alone = lifecycle(crossing("prepare", "serve", "infer"), text=text, more=(RegistrationPut(registration=author),), solo=True)
    assert not prove_in(alone, "admin", "train").proved


def test_a_zone_that_observes_holds_nobody_out() -> None:
    more = (ZonePut(zone=zone("serve", mode="observe", observe_until=NOW + 10**9)),)
    found = prove_in(lifecycle(crossing("prepare", "train", "infer"), more=more), "ingest", "serve")
    assert not found.proved and "observes" in found.path[0].by


def test_what_depends_on_the_request_is_possible() -> None:
    text = '@id("night") permit (principal, action == Action::"infer", resource) when { context has hour && context.hour < 6 };'
    found = prove_in(lifecycle(text=text), "ingest", "serve")
    assert not found.proved and not found.path[0].certain


def test_a_policy_that_reads_the_credential_is_tried_with_each() -> None:
    text = '@id("token") permit (principal, action == Action::"infer", resource) when { context.credential == "jwt" };'
    assert not prove_in(lifecycle(text=text), "ingest", "serve").proved
    text = '@id("chain") permit (principal, action == Action::"infer", resource) when { context.delegated };'
    assert not prove_in(lifecycle(text=text), "ingest", "serve").proved


def test_a_thing_that_lies_in_both_zones_is_a_path_of_itself() -> None:
    found = prove_in(lifecycle(crossing("prepare", "serve", "infer"), more=(asset("dataset", "x", "ingest", "train"),)), "ingest", "train")
    assert not found.proved and found.path


def test_cycles_end() -> None:
    ring = [crossing(one, two, "read", kinds=("dataset",)) for one, two in zip(ZONES, (*ZONES[1:], ZONES[0]), strict=True)]
    seen = lifecycle(*ring)
    assert all(not prove_in(seen, one, two).proved for one in ZONES for two in ZONES if one != two)


def test_a_graph_finds_the_shortest_way_and_prefers_what_is_certain() -> None:
    graph, nodes = Graph(), [Node("principal", name) for name in "abcd"]
    for node in nodes:
        graph.add(node, About((node.name,), "service"))
    a, b, c, d = nodes
    graph.step(a, b, "x", "p", "data", certain=False)
    graph.step(a, b, "y", "q", "data")
    graph.step(b, c, "x", "p", "data")
    graph.step(c, d, "x", "p", "data")
    graph.step(a, d, "x", "p", "data", certain=False)
    graph.step(a, Node("held", "gone"), "x", "p", "data")
    way = shortest(graph, [a], lambda node: node == d)
    assert way is not None and [edge.target for edge in way] == [d]
    assert graph.out(a)[0].by == "q" and len(graph.out(a)) == 2
    assert shortest(graph, [d], lambda node: node == a) is None
    assert {node.name: far for node, (far, _) in reached(graph, [b]).items()} == {"b": 0, "c": 1, "d": 2}


# -- against brute force


def random_seen(rng: random.Random) -> Seen:
    crossings = {}
    for _ in range(rng.randrange(1, 5)):
        source, target = rng.sample(ZONES, 2)
        kinds = tuple(rng.sample(("endpoint", "dataset", "model"), rng.randrange(1, 3)))
        actions = tuple(rng.sample(("infer", "read", "train", "ingest", "promote", "transform"), rng.randrange(1, 3)))
        if all(any(kind in kinds_of(action) for kind in kinds) for action in actions):
            crossings[source, target] = crossing(source, target, *actions, kinds=kinds)
    more: list[Change] = [asset("model", f"m-{n}", rng.choice(ZONES)) for n in range(2)]
    for n in range(rng.randrange(1, 6)):
        groups = tuple(rng.sample(("g", "h"), rng.randrange(0, 3)))
        more.append(RegistrationPut(registration=registration(who(f"q-{n}", rng.choice(ZONES), rng.choice(("service", "agent"))), groups)))
    text = rng.choice(
        (
            OPEN,
            '@id("g") permit (principal in Group::"g", action in [Action::"use", Action::"move"], resource);@id("h") permit (principal in Group::"h", action in Action::"use", resource);',
            OPEN + '@id("no") forbid (principal in Group::"g", action == Action::"read", resource);',
            OPEN + f'@id("one") forbid (principal == Principal::"{who("q-0", "train")}", action, resource);',
            '@id("m") permit (principal, action in Action::"move", resource) when { principal.kind == "service" };',
        )
    )
    return lifecycle(*crossings.values(), text=text, more=tuple(more))


def brute(seen: Seen, source: str, target: str) -> bool:
    """Whether anything gets there: every caller, act and thing by itself, no classes, no graph."""
    callers = list(seen.registrations)
    things = {name: {one.zone} for name, one in seen.endpoints.items()} | {name: set(one.zones) for name, one in seen.assets.items()}
    kinds = {name: name.split("/")[3] for name in things}
    for place in ZONES:
        for kind in ("dataset", "model", "adapter", "artifact"):
            name = resource(TD, kind, f"sha256:{ZONES.index(place):064x}" if kind == "artifact" else f"b.{place}")
            things[name], kinds[name] = {place}, kind
            uid = resource_uid(name)
            seen.world.attributes[uid] = {**seen.world.attributes[resource_uid(next(iter(seen.assets)))]}
            seen.world.up[uid] = frozenset({uid, Uid("Zone", place)})
    fresh = resource(TD, "artifact", "sha256:" + "e" * 64)
    seen.world.attributes[resource_uid(fresh)] = {**seen.world.attributes[resource_uid(next(iter(seen.assets)))]}
    seen.world.up[resource_uid(fresh)] = frozenset({resource_uid(fresh)})
    new = {name for name in things if name not in seen.endpoints and name not in seen.assets}

    def may(caller: str, action: str, name: str, into: str | None = None) -> bool:
        context = {**CONTEXT, "target": into} if into else CONTEXT
        request = Request(Uid("Principal", caller), Uid("Action", action), resource_uid(name), context)
        return evaluate(seen.policies, request, seen.world, REQUEST_FACTS - ({"target"} if into else set())).effect != "deny"

    def acts(name: str) -> list[str]:
        if kinds[name] == "endpoint":
            return ["infer", "exchange"]
        return [action for action in (*GROUPS["move"], "release-key", "sign") if kinds[name] in kinds_of(action)]

    holds = {("p", one) for one in callers if principal_parts(one).zone == source} | {("w", one) for one in things if source in things[one]}
    while True:
        more: set[tuple[str, str]] = set()
        for caller in callers:
            for name in things:
                done = [action for action in acts(name) if may(caller, action, name)]
                if ("p", caller) in holds and name not in new:
                    more |= {("t", name)} if done else set()
                    more |= {("w", name)} if set(done) & WRITES else set()
                if ("w", name) in holds and set(done) & (READS if name not in new else READS & set(GROUPS["move"])):
                    more.add(("p", caller))
                for action in set(done) & {"promote", "export", "deploy"} if name not in new else ():
                    for other in new:
                        place = next(iter(things[other]))
                        if kinds[other] == kinds[name] and place not in things[name] and may(caller, action, name, place):
                            more |= {("w", other)} if {("p", caller), ("w", name)} & holds else set()
            for other in new if ("p", caller) in holds else ():
                place = next(iter(things[other]))
                into = (fresh, place) if kinds[other] == "artifact" else (other, None)
                more |= {("w", other)} if any(may(caller, action, *into) for action in ENTERING) else set()
        if more <= holds:
            break
        holds |= more
    return any((principal_parts(name).zone == target) if kind == "p" else target in things[name] for kind, name in holds)


@pytest.mark.parametrize("seed", range(6))
def test_no_path_agrees_with_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    seen = random_seen(rng)
    for source, target in rng.sample([(one, two) for one in ZONES for two in ZONES if one != two], 4):
        found = prove_in(seen, source, target)
        assert found.proved != brute(seen, source, target), (source, target, found.path)


def test_classes_of_callers_are_told_apart_where_a_policy_tells_them_apart() -> None:
    more = tuple(RegistrationPut(registration=registration(who(f"n{n:02}", "prepare"), ("g",))) for n in range(20))
    assert len(build(lifecycle(more=more)).callers) == 5
    named = OPEN + f'@id("one") forbid (principal == Principal::"{who("n03", "prepare")}", action, resource);'
    assert len(build(lifecycle(text=named, more=more)).callers) == 6
    read = OPEN + '@id("own") forbid (principal, action, resource) when { principal.name == "n07" };'
    assert len(build(lifecycle(text=read, more=more)).callers) == 24


# -- blast, surface, map


def test_a_blast_radius_grows_with_crossings_and_names_what_breaks() -> None:
    narrow = blast_in(
        lifecycle(crossing("prepare", "serve", "infer")), "p-prepare", {(who("p-prepare", "prepare"), "infer", "vg://x/endpoint/e"): 3}
    )
    wide = blast_in(lifecycle(), "p-prepare")
    assert narrow.zones == ("prepare", "serve") and set(wide.zones) == set(ZONES)
    assert narrow.endpoints == 2 and wide.endpoints == 4 and wide.principals == 3
    assert any("3 calls" in line for line in narrow.breaks)
    assert all(row.distance >= 1 for row in wide.tree)


def test_content_in_the_wrong_hands_reaches_the_endpoint_and_its_callers() -> None:
    digest = "sha256:" + "a" * 64
    facts = facts_of(
        OPEN,
        *(ZonePut(zone=zone(name)) for name in ZONES),
        CrossingsPut(crossings=(crossing("prepare", "serve", "infer"),)),
        EndpointPut(endpoint=endpoint("e", zone="serve", model_digest=digest)),
        asset("artifact", digest, "serve"),
        RegistrationPut(registration=registration(who("p", "prepare"), ())),
        RegistrationPut(registration=registration(who("q", "train"), ())),
    )
    facts.endpoints[resource(TD, "endpoint", "e")] = endpoint("e", zone="serve", model_digest=digest)
    found = blast_in(seen_of(facts, NOW, solo=False), digest)
    names = {row.name for row in found.tree}
    assert {resource(TD, "endpoint", "e"), who("p", "prepare")} <= names and who("q", "train") not in names
    assert any("endpoint e serves it" in line for line in found.breaks)


def test_the_surface_shrinks_by_what_crossings_hold() -> None:
    closed, wide = surface_in(lifecycle(crossing("prepare", "serve", "infer"))), surface_in(lifecycle())
    assert closed.without == wide.without and closed.allowed + closed.depends < wide.allowed + wide.depends
    assert closed.factor > wide.factor and closed.across == 1
    assert {row[:2] for row in closed.zones if row[0] != row[1]} == {("prepare", "serve")}
    assert len(closed.listeners_without) == 4


def test_the_map_counts_what_passes_and_names_what_nobody_declared() -> None:
    seen = lifecycle(crossing("prepare", "serve", "infer"), crossing("train", "serve", "infer"), more=(asset("dataset", "lost"),))
    e = resource(TD, "endpoint", "e-serve")
    counts = {
        (who("p-prepare", "prepare"), "infer", e): (7, 1, 0, 5),
        (who("p-ingest", "ingest"), "infer", e): (0, 2, 0, 6),
        ("-", "infer", e): (1, 0, 1, 7),
    }
    found = map_of(seen, counts)
    rows = {(one.source, one.target): one for one in found.passes}
    assert rows["prepare", "serve"].allowed == 7 and rows["prepare", "serve"].declared
    assert rows["ingest", "serve"].denied == 2 and not rows["ingest", "serve"].declared
    assert rows["unknown", "serve"].would_deny == 1
    assert [one.source for one in found.unused] == ["train"] and found.adrift == (resource(TD, "dataset", "lost"),)
    assert found.holds and not map_of(lifecycle(), {}).holds
