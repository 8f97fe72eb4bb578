"""What is refused so that losing a fact, adding a forbid or raising the risk never allows more; and that it suffices."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from policy_world import ARTIFACT, BATCH, CALLER, DIGEST, ENDPOINT, NOW, ONSITE, STRANGER, endpoint, held, spine, verified

from vouchgate.policy import catalog
from vouchgate.policy.compile import Request, compile_policies, evaluate, facts_of
from vouchgate.policy.decide import decide
from vouchgate.policy.facts import (
    REQUEST_FACTS,
    action_uid,
    principal_uid,
    put_artifact,
    put_endpoint,
    put_group,
    put_principal,
    request_context,
    resource_uid,
)
from vouchgate.policy.grounds import grounds
from vouchgate.policy.hazards import hazards
from vouchgate.policy.load import InvalidPolicy, Source, read
from vouchgate.policy.values import Uid
from vouchgate.policy.world import Entity, Evidence, World
from vouchgate.vocabulary.decisions import Risk
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.vouches import UnixMillis

SPINE = spine()
SCOPE = '(principal, action == Action::"infer", resource is Endpoint)'


def kinds(text: str) -> list[str]:
    policies = read([Source("mine.cedar", f'@id("a") {text};')], catalog.schema_text())
    return [one.kind for one in hazards(policies)]


@pytest.mark.parametrize(
    "text",
    [
        f"permit {SCOPE} when {{ 60 > context.risk }}",
        f"permit {SCOPE} when {{ context.risk <= 60 }}",
        f"permit {SCOPE} when {{ context.risk >= 60 }}",
        f"permit {SCOPE} when {{ context.risk == 0 }}",
        f"permit {SCOPE} when {{ !(context.risk < 60) }}",
        f"permit {SCOPE} when {{ !(context.risk >= 60) }}",
        f"permit {SCOPE} unless {{ context.risk >= 60 }}",
        f"permit {SCOPE} unless {{ context.risk < 60 }}",
        f"permit {SCOPE} when {{ if context.risk < 60 then true else false }}",
        f"permit {SCOPE} when {{ (context.risk < 60) == false }}",
        f"permit {SCOPE} when {{ context.risk < context.risk }}",
        f"permit {SCOPE} when {{ [1, 2].contains(context.risk) }}",
        f"permit {SCOPE} when {{ context has risk }}",
        f"permit {SCOPE} when {{ context[\"risk\"] > 3 }}",
        f"permit {SCOPE} when {{ context == context }}",
        f"permit {SCOPE} when {{ [context].contains(context) }}",
        f"forbid {SCOPE} when {{ context.risk < 60 }}",
        f"forbid {SCOPE} when {{ context.risk > 60 }}",
        f"forbid {SCOPE} unless {{ context.risk < 60 }}",
        f"forbid {SCOPE} unless {{ context.risk >= 60 }}",
    ],
)  # fmt: skip
def test_other_uses_of_the_risk_are_refused(text):
    assert "unsafe-risk" in kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        f"permit {SCOPE} unless {{ context has hour && context.hour < 6 }}",
        f"permit {SCOPE} when {{ !(context has hour) }}",
        f"permit {SCOPE} when {{ (context has hour) == false }}",
        f"permit {SCOPE} when {{ if context has hour then false else true }}",
        f"permit {SCOPE} when {{ !(resource has model) }}",
        f'permit {SCOPE} when {{ !resource.vouches.contains("poisoned") }}',
        f'permit {SCOPE} unless {{ resource.vouches.containsAny(["bad"]) }}',
        f"permit {SCOPE} when {{ resource.vouches.isEmpty() }}",
        f'permit {SCOPE} when {{ resource.vouches == ["scan"] }}',
        f'permit {SCOPE} when {{ ["scan", "x"].containsAll(resource.vouches) }}',
        f'permit {SCOPE} unless {{ resource has model && resource.model in Zone::"x" }}',
        f"forbid {SCOPE} when {{ context has hour && context.hour < 6 }}",
        f"forbid {SCOPE} when {{ resource has model }}",
        f'forbid {SCOPE} when {{ resource.vouches.contains("poisoned") }}',
        f'forbid {SCOPE} when {{ resource has model && resource.model.vouches.contains("poisoned") }}',
        f'forbid {SCOPE} when {{ resource has model && resource.model in Zone::"x" }}',
        f'forbid {SCOPE} when {{ (context has purpose && context.purpose == "x") == true }}',
        f"forbid {SCOPE} unless {{ !(context has hour) }}",
    ],
)
def test_what_would_loosen_when_a_fact_is_forgotten_is_refused(text):
    assert "loosens-when-facts-vanish" in kinds(text)


@pytest.mark.parametrize(
    "condition", ["context has hour && context.hour + 1 < 6", "-context.risk < 3", "context has hour && 2 * context.hour < 6"]
)
def test_arithmetic_on_facts_is_refused(condition):
    assert "may-overflow" in kinds(f"permit {SCOPE} when {{ {condition} }}")


@pytest.mark.parametrize(
    "text",
    [
        f"permit {SCOPE} when {{ context.risk < 60 }}",
        f"permit {SCOPE} when {{ context.risk < 10 || (context.risk < 60 && principal.kind == \"person\") }}",
        f"forbid {SCOPE} when {{ context.risk >= 60 }}",
        f"forbid {SCOPE} when {{ principal in Group::\"banned\" }}",
        f"forbid {SCOPE} unless {{ context has hour && context.hour < 6 }}",
        f"forbid {SCOPE} unless {{ resource.vouches.contains(\"serves\") }}",
        f"forbid {SCOPE} when {{ principal.kind == \"notebook\" }}",
        f"permit {SCOPE} when {{ resource has model && resource.model.vouches.containsAll([\"a\", \"b\"]) }}",
        f"permit {SCOPE} when {{ 1 + 1 == 2 }}",
    ],
)  # fmt: skip
def test_the_safe_idiom_is_accepted(text):
    assert kinds(text) == []


# -- the properties, over whatever loads

PIECES = (
    "context.authenticated", "context.risk < 50", "context.risk < 80", "context.risk >= 40", 'context.credential == "x509"',
    "context has hour && context.hour < 12", "!(context has hour && context.hour < 12)", "context has hour",
    'context has purpose && context.purpose == "test"', 'principal in Group::"callers"', 'principal in Group::"outer"',
    '!(principal in Group::"outer")', 'principal.kind == "service"', 'principal.kind != "service"', "resource has model",
    '!(resource has model)', 'resource.vouches.contains("serves@rederived")', '!resource.vouches.contains("serves")',
    'resource has model && resource.model.vouches.containsAll(["scan", "structure"])', 'resource has model && resource.model.vouches.containsAny(["scan"])',
    'resource has model && resource.model in Zone::"serve"', 'resource in Zone::"serve"', "resource.wrapped", "!resource.wrapped", "true",
)  # fmt: skip


@st.composite
def idiomatic(draw: st.DrawFn) -> str:
    texts = []
    for number in range(draw(st.integers(1, 3))):
        effect = draw(st.sampled_from(("permit", "permit", "forbid")))
        principal = draw(st.sampled_from(("principal", 'principal in Group::"outer"', 'principal in Group::"callers"')))
        resource = draw(st.sampled_from(("resource is Endpoint", 'resource is Endpoint in Zone::"serve"')))
        parts = draw(st.lists(st.sampled_from(PIECES), max_size=3))
        joined = draw(st.sampled_from((" && ", " || "))).join(f"({part})" for part in parts)
        clause = f" {draw(st.sampled_from(('when', 'when', 'unless')))} {{ {joined} }}" if parts else ""
        texts.append(f'@id("p{number}") {effect} ({principal}, action == Action::"infer", {resource}){clause};')
    return "\n".join(texts)


@st.composite
def full_worlds(draw: st.DrawFn) -> World:
    """Worlds in which every name has an entity."""
    world = World()
    put_group(world, "outer")
    put_group(world, "inner", ["outer"])
    put_principal(world, Principal(id=CALLER, groups=tuple(draw(st.sets(st.sampled_from(("callers", "inner", "outer")))))))
    vouches = draw(st.sets(st.sampled_from(("scan", "structure", "serves"))))
    put_endpoint(
        world, endpoint(zone=draw(st.sampled_from(("serve", "train")))), Evidence(tuple(held(one) for one in vouches if one == "serves"))
    )
    put_artifact(world, ARTIFACT, Evidence(tuple(held(one) for one in vouches if one != "serves")), draw(st.sampled_from(([], ["serve"]))))
    return world


CONTEXTS = st.fixed_dictionaries({}, optional={"hour": st.integers(0, 23), "purpose": st.sampled_from(("test", "other"))})


def weaken(world: World, draw: st.DataObject) -> World:
    """The same world with some entities, attributes and vouches forgotten."""
    poorer = World()
    for uid, entity in sorted(world.entities.items()):
        if draw.draw(st.integers(0, 9)) == 0:
            continue
        attributes = {name: value for name, value in entity.attributes.items() if draw.draw(st.integers(0, 7))}
        evidence = entity.evidence
        if evidence is not None:
            evidence = Evidence(tuple(one for one in evidence.held if draw.draw(st.integers(0, 4))))
        poorer.put(Entity(uid, attributes, entity.parents, evidence))
    return poorer


def effect(policies, world, context, risk=0):
    answer = decide(verified(), "infer", ENDPOINT, world, context, policies=policies, now=NOW, evidence_epoch=1, risk=Risk(value=risk))
    return answer.effect


def loaded(text: str):
    try:
        return compile_policies(catalog.load([Source("mine.cedar", text)]))
    except InvalidPolicy:
        assume(False)


MANY = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@MANY
@given(idiomatic(), full_worlds(), CONTEXTS, st.data())
def test_forgetting_any_entity_attribute_vouch_or_fact_never_turns_a_deny_into_an_allow(text, world, context, data):
    policies = loaded(text)
    poorer = weaken(world, data)
    less = {name: value for name, value in context.items() if data.draw(st.booleans())}
    if effect(policies, world, context) == "deny":
        assert effect(policies, poorer, less) == "deny"


@MANY
@given(idiomatic(), full_worlds(), CONTEXTS, st.integers(0, 100), st.integers(0, 100))
def test_raising_the_risk_never_allows_more(text, world, context, one, other):
    policies = loaded(text)
    low, high = sorted((one, other))
    if effect(policies, world, context, low) == "deny":
        assert effect(policies, world, context, high) == "deny"


@MANY
@given(st.data(), st.sampled_from((CALLER, STRANGER, BATCH, ONSITE)), st.sampled_from(("scan", "structure", "serves", "")))
def test_the_packs_hold_it_too(data, caller, absent):
    world = World()
    for name, group in ((CALLER, "callers"), (BATCH, "batch-callers"), (ONSITE, "onsite-callers")):
        put_principal(world, Principal(id=name, groups=(group,)))
    put_principal(world, Principal(id=STRANGER))
    put_endpoint(world, endpoint(), Evidence((held("serves"),) if absent != "serves" else ()))
    put_artifact(world, ARTIFACT, Evidence(tuple(held(one) for one in ("scan", "structure") if one != absent)), ["serve"])
    context = {"hour": data.draw(st.integers(0, 23)), "source_ip": data.draw(st.sampled_from(("10.1.1.1", "8.8.8.8")))}
    less = {name: value for name, value in context.items() if data.draw(st.booleans())}

    def answer(where: World, facts: dict[str, object]) -> str:
        return decide(verified(caller), "infer", ENDPOINT, where, facts, policies=SPINE, now=NOW, evidence_epoch=1).effect

    full = answer(world, context)
    ahead = decide(verified(caller), "infer", ENDPOINT, world, {}, policies=SPINE, now=NOW, evidence_epoch=1, unknown=REQUEST_FACTS)
    assert ahead.residual or ahead.effect == full
    if full == "deny":
        assert answer(weaken(world, data), less) == "deny"


@MANY
@given(idiomatic(), full_worlds(), CONTEXTS, st.data())
def test_an_allow_stands_until_its_not_after(text, world, context, data):
    policies = loaded(text)
    for uid, entity in list(world.entities.items()):
        if entity.evidence is not None:
            held_until = tuple(held(one.predicate, not_after=data.draw(st.integers(1_001, 2_000))) for one in entity.evidence.held)
            world.put(Entity(uid, entity.attributes, entity.parents, Evidence(held_until)))
    answer = decide(verified(), "infer", ENDPOINT, world, context, policies=policies, now=NOW, evidence_epoch=1)
    if answer.effect == "allow":
        later = UnixMillis(data.draw(st.integers(NOW, min(answer.not_after, 5_000) - 1)))
        assert decide(verified(), "infer", ENDPOINT, world, context, policies=policies, now=later, evidence_epoch=1).effect == "allow"


@MANY
@given(idiomatic(), full_worlds(), CONTEXTS, st.integers(0, 100))
def test_the_change_that_a_deny_names_turns_it_over(text, world, context, risk):
    policies = loaded(text)
    request = Request(
        principal_uid(CALLER), action_uid("infer"), resource_uid(ENDPOINT), request_context(verified(), Risk(value=risk), context)
    )
    evaluation = evaluate(policies, request, world)
    plan = grounds(policies, evaluation, facts_of(policies, request, world)).plan
    assume(evaluation.effect == "deny" and plan is not None)
    assume(all((leaf.want and leaf.kind in ("vouch", "group", "zone")) or leaf.kind == "risk" for leaf in plan.changes))
    for leaf in plan.changes:
        if leaf.kind == "risk":
            risk = min(risk, int(leaf.name) - 1)
            continue
        entity = world.entities[leaf.subject]
        parents, evidence = entity.parents, entity.evidence
        if leaf.kind == "vouch":
            predicate, _, tier = leaf.name.partition("@")
            evidence = Evidence((*evidence.held, held(predicate, tier=tier or "verified")))
        else:
            parents |= {Uid("Group" if leaf.kind == "group" else "Zone", leaf.name)}
        world.put(Entity(entity.uid, entity.attributes, parents, evidence))
    for uid in [parent for entity in list(world.entities.values()) for parent in entity.parents if parent not in world]:
        world.put(Entity(uid))
    event(f"{len(plan.changes)} changes")
    assert risk >= 0
    assert effect(policies, world, context, risk) == "allow"


def test_without_the_refusals_the_property_fails():
    """The hazard is real: a forbid on a vouch lets through when the vouch is forgotten."""
    text = f'@id("a") permit {SCOPE}; @id("b") forbid {SCOPE} when {{ resource.vouches.contains("poisoned") }};'
    policies = compile_policies(read([Source("mine.cedar", text)], catalog.schema_text()))
    world = World()
    put_principal(world, Principal(id=CALLER))
    put_endpoint(world, endpoint(model=DIGEST), Evidence((held("poisoned"),)))
    assert effect(policies, world, {}) == "deny"
    put_endpoint(world, endpoint(model=DIGEST), Evidence(()))
    assert effect(policies, world, {}) == "allow"
