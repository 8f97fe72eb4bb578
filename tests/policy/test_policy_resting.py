"""What a decision rests on, compiled, against the walk over the tree that explains it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_world import ARTIFACT, CALLER, ENDPOINT, good_world, raw

from vouchgate.policy.catalog import pack, packs, schema_text
from vouchgate.policy.compile import CompiledPolicies, Request, evaluate, facts_of
from vouchgate.policy.facts import REQUEST_FACTS, action_uid, principal_uid, resource_uid
from vouchgate.policy.grounds import Grounds, deciding, grounds
from vouchgate.policy.leaves import supports
from vouchgate.policy.obligations import EVERY, lift
from vouchgate.policy.resting import compile_resting, rests_on
from vouchgate.policy.unknowns import FALSE, TRUE
from vouchgate.policy.world import World

ATOMS = (
    'resource.vouches.contains("serves@rederived")',
    'resource.model.vouches.containsAll(["scan", "structure"])',
    'resource.model.vouches.containsAny(["absent", "scan"])',
    'principal.vouches.contains("posture")',
    'resource.vouches == ["serves"]',
    "resource.vouches.isEmpty()",
    "resource.vouches.contains(context.purpose)",
    "resource has model",
    'principal in Group::"callers"',
    'resource is Endpoint in Zone::"serve"',
    "context.risk < 60",
    "context has hour && context.hour < 6",
    "context.hour < 6",
    "true",
    "false",
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map(lambda two: f"({two[0]} && {two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]} || {two[1]})"),
        inner.map(lambda one: f"!({one})"),
        st.tuples(inner, inner, inner).map(lambda three: f"(if {three[0]} then {three[1]} else {three[2]})"),
    )


CONDITIONS = st.recursive(st.sampled_from(ATOMS), _grow, max_leaves=10)
CLAUSES = st.tuples(st.sampled_from(("permit", "forbid")), st.sampled_from(("when", "unless")), CONDITIONS)
CONTEXTS = st.fixed_dictionaries(
    {"risk": st.integers(0, 99)}, optional={"hour": st.integers(0, 23), "purpose": st.sampled_from(("scan", "serves"))}
)
UNKNOWN = st.sets(st.sampled_from(("hour", "purpose"))).map(frozenset)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def asked(context: dict[str, object], *, action: str = "infer", resource: str = ENDPOINT) -> Request:
    return Request(principal_uid(CALLER), action_uid(action), resource_uid(resource), context)


def both(policies: CompiledPolicies, request: Request, world: World, unknown: frozenset[str]) -> tuple[Grounds, Grounds]:
    evaluation = lift(evaluate(policies, request, world, unknown), EVERY).evaluation
    facts = facts_of(policies, request, world, unknown)
    fresh = facts_of(CompiledPolicies(policies.source, policies.policies, version=0), request, world, unknown)
    return grounds(policies, evaluation, fresh, EVERY), deciding(policies, evaluation, facts, EVERY)


def same(whole: Grounds, part: Grounds) -> None:
    assert part.used == whole.used and part.plan == whole.plan
    assert part.leaves == tuple(leaf for leaf in whole.leaves if leaf.kind == "vouch")
    assert (part.vouch_ids, part.waivers, part.not_after) == (whole.vouch_ids, whole.waivers, whole.not_after)


@MANY
@given(st.lists(CLAUSES, min_size=1, max_size=5), CONTEXTS, UNKNOWN)
def test_a_decision_rests_on_what_the_walk_finds(clauses, context, unknown):
    text = "\n".join(
        f'@id("p{number}") {effect} (principal, action, resource) {word} {{ {condition} }};'
        for number, (effect, word, condition) in enumerate(clauses)
    )
    policies = raw(text)
    known = {name: value for name, value in context.items() if name not in unknown}
    same(*both(policies, asked(known), good_world(), unknown))


@MANY
@given(CONDITIONS, CONTEXTS, UNKNOWN)
def test_a_condition_rests_on_what_the_walk_finds(condition, context, unknown):
    policies = raw(f'@id("p") permit (principal, action, resource) when {{ {condition} }};')
    known = {name: value for name, value in context.items() if name not in unknown}
    request, world = asked(known), good_world()
    mask = evaluate(policies, request, world, unknown).masks[0]
    facts = facts_of(policies, request, world, unknown)
    for want, bit in ((True, TRUE), (False, FALSE)):
        if mask & bit:
            walked = tuple(leaf for leaf in supports(policies.policies[0].tree, want, facts) if leaf.kind == "vouch")
            assert rests_on(policies.policies[0], want, facts) == walked


@pytest.mark.parametrize("name", packs())
@pytest.mark.parametrize("unknown", [frozenset[str](), REQUEST_FACTS])
def test_every_pack(name: str, unknown: frozenset[str]) -> None:
    policies = raw(pack(name).text, schema_text())
    world = good_world()
    for action in sorted(policies.actions):
        for resource in (ENDPOINT, ARTIFACT):
            for risk in (0, 30, 95):
                context = {"risk": risk, "authenticated": True, "credential": "x509", "delegated": False, "declared": False, "depth": 0}
                same(*both(policies, asked(context, action=action.id, resource=resource), world, unknown))


def test_what_reads_no_vouches_rests_on_none_and_costs_no_walk() -> None:
    policies = raw(
        '@id("p") permit (principal, action, resource) when { context.risk < 60 && (principal in Group::"g" || resource has model) };'
    )
    assert compile_resting(policies.policies[0].tree) is None


def test_closures_are_made_once_and_belong_to_their_own_set() -> None:
    policies = raw('@id("p") permit (principal, action, resource) when { resource.vouches.contains("serves") };')
    other = CompiledPolicies(policies.source, policies.policies, version=2)
    facts = facts_of(policies, asked({}), good_world())
    rests_on(policies.policies[0], True, facts)
    made = dict(policies.memo)
    rests_on(policies.policies[0], True, facts)
    assert policies.memo == made and other.memo == {}


def test_the_longest_lasting_permit_is_the_ground() -> None:
    policies = raw(
        '@id("short") permit (principal, action, resource) when { resource.vouches.contains("serves") };'
        '@id("long") permit (principal, action, resource) when { resource has model && resource.model.vouches.contains("scan") };'
    )
    whole, part = both(policies, asked({}), good_world(), frozenset())
    same(whole, part)
    assert [leaf.name for leaf in part.leaves] == ["scan"]
    assert part.not_after == (500_000,)
