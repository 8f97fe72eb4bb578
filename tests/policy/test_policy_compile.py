"""The compiled engine against cedarpy, its oracle: with every fact, and with facts unknown."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_world import ATTRIBUTES, policy_texts, raw, requests, worlds

from vouchgate.policy.compile import Request, evaluate
from vouchgate.policy.crosscheck import crosscheck
from vouchgate.policy.unknowns import ERROR, FALSE, TRUE
from vouchgate.policy.values import Uid, to_value
from vouchgate.policy.world import Entity, World

MANY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
ASKED = Request(Uid("User", "u1"), Uid("Action", "read"), Uid("Thing", "t1"))


@MANY
@given(policy_texts(), worlds(), st.lists(requests(), min_size=1, max_size=4))
def test_it_agrees_with_cedar_on_random_policies(text, world, asked):
    policies = raw(text)
    for request in asked:
        assert crosscheck(policies, request, world) is None


@MANY
@given(policy_texts(), worlds(), requests(), st.sets(st.sampled_from(ATTRIBUTES), min_size=1))
def test_deciding_ahead_and_then_the_rest_equals_deciding_once(text, world, request, hidden):
    policies, unknown = raw(text), frozenset(hidden)
    known = {name: value for name, value in request.context.items() if name not in unknown}
    ahead = evaluate(policies, Request(request.principal, request.action, request.resource, known), world, unknown)
    full = evaluate(policies, request, world)
    assert crosscheck(policies, request, world) is None
    assert ahead.in_scope == full.in_scope
    assert all(after & before == after for before, after in zip(ahead.masks, full.masks, strict=True))
    if ahead.cedar_effect != "residual":
        assert ahead.cedar_effect == full.cedar_effect
    if ahead.effect != "residual":
        assert ahead.effect == full.effect
    if ahead.effect == "allow":
        assert full.determining
        assert not full.errors


@MANY
@given(policy_texts(), policy_texts(), worlds(), requests(), st.sets(st.sampled_from(ATTRIBUTES)))
def test_adding_a_forbid_never_allows_more(text, more, world, request, hidden):
    forbids = more.replace("permit (", "forbid (")
    order = {"deny": 0, "residual": 1, "allow": 2}
    before = evaluate(raw(text), request, world, frozenset(hidden)).effect
    after = evaluate(raw(f"{text}\n{forbids}"), request, world, frozenset(hidden)).effect
    assert order[after] <= order[before]


def mask(condition: str, unknown: frozenset[str] = frozenset(), **context: object) -> int:
    facts = {name: to_value(value) for name, value in context.items()}
    request = Request(ASKED.principal, ASKED.action, ASKED.resource, facts)
    return evaluate(raw(f"permit (principal, action, resource) when {{ {condition} }};"), request, World(), unknown).masks[0]


A = frozenset({"a"})


@pytest.mark.parametrize(
    ("condition", "outcomes"),
    [
        ("context.a", TRUE | FALSE | ERROR),
        ("context has a", TRUE | FALSE),
        ("context has a || true", TRUE),
        ("context has a && false", FALSE),
        ("context.a && false", FALSE | ERROR),
        ("context.a || true", TRUE | ERROR),
        ("false && context.a", FALSE),
        ("true || context.a", TRUE),
        ("true || context.a == context.b", TRUE),
        ("context.b && context.a", ERROR),
        ("context has a && context.b", FALSE | ERROR),
        ("if context has a then true else true", TRUE),
        ("if context.a then true else true", TRUE | ERROR),
        ("if context has a then 1 else 1", TRUE | FALSE | ERROR),
        ("!(context has a)", TRUE | FALSE),
        ("(context has a) == true", TRUE | FALSE),
        ("context.a == 1", TRUE | FALSE | ERROR),
        ("context == {}", TRUE | FALSE | ERROR),
        ("context has a.b", TRUE | FALSE | ERROR),
        ("context has b.a", FALSE),
        ("[context.a].contains(1)", TRUE | FALSE | ERROR),
        ('context.a like "*"', TRUE | FALSE | ERROR),
        ("context.a is User", TRUE | FALSE | ERROR),
        ("principal is User in context.a", TRUE | FALSE | ERROR),
        ("principal is Thing in context.a", FALSE),
        ("-context.a == 1", TRUE | FALSE | ERROR),
        ('{"x": context.a} has x', TRUE | FALSE | ERROR),
    ],
)
def test_what_an_unknown_leaves_open(condition, outcomes):
    assert mask(condition, A) == outcomes


@pytest.mark.parametrize(
    "condition",
    [
        "true == 1", "1 == true", "[1].contains(true)", "[true] == [1]", '{"a": 1} == {"a": true}', "false == 0", "[0, false] == [0]",
        '"1" == 1', 'ip("10.0.0.1/24") == ip("10.0.0.0/24")', '[[1]].contains([true])', '"a*b" like "a\\*c"', "principal == resource",
    ],
)  # fmt: skip
def test_values_of_two_types_are_never_equal(condition):
    assert mask(condition) == FALSE


@pytest.mark.parametrize(
    "condition",
    [
        "1", '"x"', "principal", "1 && true", "true && 1", "false || 1", "!1", "if 1 then true else true", "1 < true", '"a" < "b"',
        "9223372036854775807 + 1 == 0", "-9223372036854775808 - 1 == 0", "-(-9223372036854775808) == 0", "4611686018427387904 * 2 == 0",
        "context.a", "principal.a", "resource.a.b", "1 in principal", "principal in 1", 'principal in [User::"u1", 1]', "1 is User",
        "1 has a", '1 like "x"', "principal.contains(1)", "[1].containsAll(1)", '"x".isEmpty()', 'ip("x").isIpv4()', 'ip("::1").isInRange(1)',
        'decimal("1.23456").lessThan(decimal("1.0"))', 'datetime("2024-02-30") == 1', 'duration("").toDays() == 1', "principal.hasTag(1)",
        'principal.getTag("x") == 1', 'ip("127.0.0.1", "x") == 1',
    ],
)  # fmt: skip
def test_an_error_is_an_error_and_not_false(condition):
    text = f"permit (principal, action, resource) when {{ {condition} }};"
    try:
        policies = raw(text)
    except Exception as error:
        pytest.skip(f"cedar does not read it: {error}")
    assert evaluate(policies, ASKED, World()).errors == ("policy0",)
    assert crosscheck(policies, ASKED, World()) is None


def test_an_erring_forbid_does_not_let_a_permit_through():
    policies = raw("permit (principal, action, resource); forbid (principal, action, resource) when { context.a };")
    evaluation = evaluate(policies, ASKED, World())
    assert (evaluation.cedar_effect, evaluation.effect, evaluation.errors) == ("allow", "deny", ("policy1",))


def test_an_unknown_in_a_forbid_stops_an_allow_ahead_of_the_request():
    policies = raw("permit (principal, action, resource); forbid (principal, action, resource) when { context has a && context.a };")
    ahead = evaluate(policies, ASKED, World(), A)
    assert (ahead.effect, ahead.residual, ahead.unknowns) == ("residual", ("policy1",), A)


@pytest.mark.parametrize(
    ("text", "effect", "cedar"),
    [
        ("permit (principal, action, resource); forbid (principal, action, resource) when { context has a };", "residual", "residual"),
        ("permit (principal, action, resource); permit (principal, action, resource) when { context has a };", "allow", "allow"),
        ("permit (principal, action, resource); permit (principal, action, resource) when { context.a };", "residual", "allow"),
        ("permit (principal, action, resource) when { context has a };", "residual", "residual"),
        ("permit (principal, action, resource) when { context has a && false };", "deny", "deny"),
        ("permit (principal, action, resource) when { context.a && false };", "deny", "deny"),
        ("permit (principal, action, resource) when { context has a }; forbid (principal, action, resource);", "deny", "deny"),
        (
            "permit (principal, action, resource) when { context has a }; forbid (principal, action, resource) when { 1 };",
            "deny",
            "residual",
        ),
        ("permit (principal, action, resource); forbid (principal, action, resource) when { context has a && false };", "allow", "allow"),
        ("forbid (principal, action, resource) when { context has a };", "deny", "deny"),
        ("", "deny", "deny"),
    ],
)
def test_allow_deny_or_residual_ahead_of_the_request(text, effect, cedar):
    ahead = evaluate(raw(text), ASKED, World(), A)
    assert (ahead.effect, ahead.cedar_effect) == (effect, cedar)


def test_a_group_of_actions_is_in_scope_by_in_and_not_by_equality():
    schema = "entity User; action all; action read in [all] appliesTo { principal: User, resource: User };"
    asked = Request(Uid("User", "u1"), Uid("Action", "read"), Uid("User", "u1"))
    by_equality = raw('permit (principal, action == Action::"all", resource);', schema)
    by_group = raw('permit (principal, action in Action::"all", resource);', schema)
    assert evaluate(by_equality, asked, World()).effect == "deny"
    assert evaluate(by_group, asked, World()).effect == "allow"


def test_the_scope_cache_follows_a_change_of_groups():
    policies, world = raw('permit (principal in Group::"g1", action, resource);'), World()
    world.put(Entity(ASKED.principal))
    assert evaluate(policies, ASKED, world).effect == "deny"
    world.put(Entity(ASKED.principal, parents=frozenset({Uid("Group", "g2")})))
    world.put(Entity(Uid("Group", "g2"), parents=frozenset({Uid("Group", "g1")})))
    assert evaluate(policies, ASKED, world).effect == "allow"
    world.put(Entity(Uid("Group", "g2")))
    assert evaluate(policies, ASKED, world).effect == "deny"


@pytest.mark.parametrize(
    ("pattern", "text", "outcome"),
    [
        ("x*x", "x", FALSE), ("x*x", "xx", TRUE), ("x*x", "xyx", TRUE), ("*", "", TRUE), ("", "", TRUE), ("", "x", FALSE),
        ("a*b*a", "aba", TRUE), ("a*b*a", "ab", FALSE), ("*ab*ab", "ab", FALSE), ("*ab*ab", "abab", TRUE), ("ab*", "xab", FALSE),
        ("**x", "yx", TRUE), ("a\\*b", "a*b", TRUE), ("a\\*b", "axb", FALSE), ("é*", "éa", TRUE), ("*\n*", "a\nb", TRUE),
    ],
)  # fmt: skip
def test_patterns(pattern, text, outcome):
    pattern = pattern.replace("\n", "\\n")
    assert mask(f'context.a like "{pattern}"', a=text) == outcome
    policies = raw(f'permit (principal, action, resource) when {{ context.a like "{pattern}" }};')
    assert crosscheck(policies, Request(ASKED.principal, ASKED.action, ASKED.resource, {"a": text}), World()) is None


def test_a_pattern_with_many_wildcards_costs_no_backtracking():
    pattern = "*a" * 60
    policies = raw(f'permit (principal, action, resource) when {{ context.a like "{pattern}b" }};')
    request = Request(ASKED.principal, ASKED.action, ASKED.resource, {"a": "a" * 8000})
    assert evaluate(policies, request, World()).effect == "deny"
