"""What an answer is said to rest on, and to be turned over by: tried out on worlds that are really made so."""

from __future__ import annotations

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from policy_world import ARTIFACT, CALLER, DIGEST, ENDPOINT, STRANGER, compiled, endpoint, good_world, held, spine, verified
from test_policy_hazards import CONTEXTS, MANY, full_worlds, idiomatic, loaded

from vouchgate.policy.compile import Request, evaluate
from vouchgate.policy.facts import REQUEST_FACTS, action_uid, principal_uid, put_endpoint, put_principal, request_context, resource_uid
from vouchgate.policy.leaves import Leaf
from vouchgate.policy.obligations import EVERY, lift
from vouchgate.policy.turning import MAX_TRIED, only, told_gained, told_lost, told_standing, turning, without
from vouchgate.policy.values import Uid
from vouchgate.policy.world import Entity, Evidence, World
from vouchgate.vocabulary.decisions import Risk
from vouchgate.vocabulary.principals import Principal

SPINE = spine()
GROUPED = {"group": "Group", "zone": "Zone"}


def asked(caller: str = CALLER, *, risk: int = 0, **context: object) -> Request:
    return Request(
        principal_uid(caller), action_uid("infer"), resource_uid(ENDPOINT), request_context(verified(caller), Risk(value=risk), context)
    )


def effect(policies, request: Request, world: World, unknown=frozenset()) -> str:
    return lift(evaluate(policies, request, world, unknown), EVERY).evaluation.effect


def really_without(world: World, leaf: Leaf) -> World:
    """The world made anew without the fact: every vouch that provides it, every membership that leads to it."""
    made = World()
    for uid, entity in world.entities.items():
        parents, evidence = entity.parents, entity.evidence
        if uid == leaf.subject and leaf.kind == "vouch" and evidence is not None:
            evidence = Evidence(tuple(one for one in evidence.held if leaf.name not in one.strings))
        if uid == leaf.subject and leaf.kind in GROUPED:
            lost = Uid(GROUPED[leaf.kind], leaf.name)
            parents = frozenset(one for one in parents if lost not in world.up.get(one, (one,)))
        made.put(Entity(uid, entity.attributes, parents, evidence, entity.tags))
    return made


def really_with(world: World, leaf: Leaf) -> None:
    """The fact, put into the world."""
    entity = world.entities[leaf.subject]
    parents, evidence = entity.parents, entity.evidence
    if leaf.kind == "vouch":
        predicate, _, tier = leaf.name.partition("@")
        evidence = Evidence((*(evidence.held if evidence else ()), held(predicate, tier=tier or "verified")))
    else:
        parents |= {Uid(GROUPED[leaf.kind], leaf.name)}
        if Uid(GROUPED[leaf.kind], leaf.name) not in world:
            world.put(Entity(Uid(GROUPED[leaf.kind], leaf.name)))
    world.put(Entity(entity.uid, entity.attributes, parents, evidence))


@MANY
@given(idiomatic(), full_worlds(), CONTEXTS, st.integers(0, 59))
def test_the_minimal_set_is_sufficient_and_each_of_it_necessary(text, world, context, risk):
    policies, request = loaded(text), asked(risk=risk, **context)
    found = turning(policies, request, world, carries=EVERY)
    assume(found.effect == "allow" and found.tried)
    poor = only(found.minimal, request, world)
    assert effect(policies, request, poor) == "allow"
    event(f"{len(found.minimal)} facts")
    for leaf in found.minimal:
        if leaf.kind in ("vouch", "group", "zone"):
            rest = [one for one in found.minimal if one != leaf]
            assert effect(policies, request, only(rest, request, world)) != "allow", leaf
        elif (poorer := without(leaf, request, poor)) is not None:
            assert effect(policies, *poorer) != "allow", leaf


@MANY
@given(idiomatic(), full_worlds(), CONTEXTS, st.integers(0, 59))
def test_a_named_loss_really_ends_an_allow(text, world, context, risk):
    policies, request = loaded(text), asked(risk=risk, **context)
    found = turning(policies, request, world, carries=EVERY)
    assume(found.effect == "allow")
    for leaf in found.flips:
        event(leaf.kind)
        if leaf.kind in ("vouch", "group", "zone"):
            assert effect(policies, request, really_without(world, leaf)) == "deny", leaf
        elif leaf.kind == "risk":
            assert effect(policies, asked(risk=max(risk, int(leaf.name)), **context), world) == "deny", leaf


@MANY
@given(idiomatic(), full_worlds(), CONTEXTS, st.integers(0, 100))
def test_the_named_changes_really_turn_a_deny_over(text, world, context, risk):
    policies, request = loaded(text), asked(risk=risk, **context)
    found = turning(policies, request, world, carries=EVERY)
    assume(found.effect == "deny" and found.flips and found.tried)
    for leaf in found.flips:
        if leaf.kind == "risk":
            risk = min(risk, int(leaf.name) - 1)
        else:
            really_with(world, leaf)
    event(f"{len(found.flips)} changes")
    assert effect(policies, asked(risk=risk, **context), world) == "allow"


def test_the_pack_s_caller_rests_on_what_his_permit_asks_for():
    found = turning(SPINE, asked(), good_world(), REQUEST_FACTS, EVERY)
    names = {(leaf.kind, leaf.name) for leaf in found.minimal}
    assert names >= {("group", "callers"), ("vouch", "scan"), ("vouch", "structure"), ("vouch", "serves@rederived"), ("risk", "60")}
    assert {(leaf.kind, leaf.name) for leaf in found.flips} >= {("vouch", "scan"), ("group", "callers"), ("risk", "60")}
    assert "the `scan` vouch of `sha256:abababababab` lapses or is revoked" in [told_lost(leaf) for leaf in found.flips]
    assert [leaf.kind for leaf in found.flips][-1] in ("zone", "caller"), "the cheapest first"


def test_two_permits_and_no_single_loss():
    both = compiled(
        '@id("a") permit (principal in Group::"a", action == Action::"infer", resource is Endpoint);',
        '@id("b") permit (principal in Group::"b", action == Action::"infer", resource is Endpoint);',
    )
    world = good_world()
    put_principal(world, Principal(id=CALLER, groups=("a", "b")))
    found = turning(both, asked(), world, carries=EVERY)
    assert [leaf.name for leaf in found.minimal if leaf.kind == "group"] == ["a"]
    assert not [leaf for leaf in found.flips if leaf.kind == "group"]


def test_a_fact_that_is_not_needed_is_not_named():
    text = '@id("a") permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint in Zone::"serve") when { true || resource.vouches.contains("serves") };'
    found = turning(compiled(text), asked(), good_world(), carries=EVERY)
    assert "serves" not in {leaf.name for leaf in found.minimal}


@pytest.mark.parametrize(
    ("caller", "lacking", "wanted"),
    [
        (CALLER, "scan", "`sha256:abababababab` gets a fresh `scan` vouch"),
        (CALLER, "serves", "`digits` gets a fresh `serves@rederived` vouch"),
        (STRANGER, "", "the caller joins group `callers`"),
    ],
)
def test_a_deny_names_the_cheapest_change(caller, lacking, wanted):
    world = good_world(**({lacking: "absent"} if lacking else {}))
    found = turning(SPINE, asked(caller), world, REQUEST_FACTS, EVERY)
    assert [told_gained(leaf) for leaf in found.flips] == [wanted]
    assert (found.minimal, found.tried) == ((), True)


def test_a_deny_that_nothing_turns_over_names_nothing():
    never = compiled('@id("never") forbid (principal, action == Action::"infer", resource);')
    assert turning(never, asked(), good_world(), carries=EVERY).flips == ()


def test_an_answer_on_many_facts_is_told_without_trying():
    many = ", ".join(f'"v{number}"' for number in range(MAX_TRIED))
    text = f'@id("a") permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint) when {{ resource.vouches.containsAll([{many}]) }};'
    world = good_world()
    put_endpoint(world, endpoint(model=DIGEST), Evidence(tuple(held(f"v{number}") for number in range(MAX_TRIED))))
    found = turning(compiled(text), asked(), world, carries=EVERY)
    assert (found.effect, found.tried, found.flips) == ("allow", False, ())
    assert len(found.minimal) > MAX_TRIED


def test_every_kind_of_fact_has_words():
    for kind in ("vouch", "model", "group", "zone", "risk", "fact", "caller", "attribute", "other"):
        for want in (True, False):
            leaf = Leaf(kind, "7", Uid("Artifact", ARTIFACT), want)
            assert all("None" not in told(leaf) and told(leaf)[0] in "`tihc" for told in (told_standing, told_lost, told_gained))
