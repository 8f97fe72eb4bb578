"""Forbids that can be met: what an annotation may say, what many of them add up to, and that nothing ever loosens by them."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_world import (
    ACTIONS,
    ARTIFACT,
    CALLER,
    ENDPOINT,
    LATE,
    NOW,
    PEOPLE,
    THINGS,
    compiled,
    good_world,
    policy_texts,
    raw,
    requests,
    verified,
    worlds,
)

from vouchgate.policy.catalog import load
from vouchgate.policy.check import cells, check
from vouchgate.policy.compile import Request, evaluate
from vouchgate.policy.crosscheck import crosscheck
from vouchgate.policy.decide import decide
from vouchgate.policy.explain import explain
from vouchgate.policy.facts import action_uid, principal_uid, resource_uid
from vouchgate.policy.load import InvalidPolicy, Source
from vouchgate.policy.obligations import EVERY, InvalidObligation, lift, read_obligations, strictest
from vouchgate.policy.world import World
from vouchgate.vocabulary.decisions import Obligation, Risk

PERMIT = '@id("callers") permit (principal in Group::"callers", action == Action::"infer", resource);'
RISKY = '@id("risky") @oblige("step-up=300; rounded-answer=2") forbid (principal, action, resource) when { context.risk >= 40 };'
WORSE = '@id("worse") @oblige("rounded-answer=1; budget=5/minute") forbid (principal, action, resource) when { context.risk >= 60 };'
BANNED = '@id("banned") forbid (principal, action, resource) when { context.risk >= 90 };'
NIGHT = '@id("night") @oblige("approval=safety-board") forbid (principal, action, resource) when { context has hour && context.hour < 6 };'
POLICIES = compiled(PERMIT, RISKY, WORSE, BANNED)
MANY = settings(max_examples=150, deadline=None)


def ask(policies=POLICIES, *, risk=0, carries=EVERY, context=None, **options):
    options.setdefault("now", NOW)
    return decide(
        verified(), "infer", ENDPOINT, good_world(), context or {},
        policies=policies, evidence_epoch=1, risk=Risk(value=risk), carries=carries, **options,
    )  # fmt: skip


def owed(decision) -> list[str]:
    return [f"{one.kind}={one.value}" for one in decision.obligations]


@pytest.mark.parametrize(
    ("risk", "effect", "obligations", "determining"),
    [
        (39, "allow", [], ("callers",)),
        (40, "allow", ["rounded-answer=2", "step-up=300"], ("callers", "risky")),
        (60, "allow", ["budget=5/minute", "rounded-answer=1", "step-up=300"], ("callers", "risky", "worse")),
        (90, "deny", [], ("risky", "worse", "banned")),
    ],
)
def test_higher_risk_owes_more_until_nothing_meets_it(risk, effect, obligations, determining):
    answer = ask(risk=risk)
    assert (answer.effect, owed(answer), answer.determining) == (effect, obligations, determining)


def test_an_allow_that_owes_says_so_in_words():
    assert ask(risk=40).reason == (
        f"caller `{CALLER}` may infer on `digits`: permitted by `callers`; allowed, but `risky` asks for `rounded-answer=2`, `step-up=300`"
    )
    story = explain(verified(), "infer", ENDPOINT, good_world(), {}, policies=POLICIES, now=NOW, evidence_epoch=1, risk=Risk(value=40))
    assert story.decision.obligations == ask(risk=40).obligations
    assert [one.id for one in story.policies] == ["callers", "risky"]


@pytest.mark.parametrize("carries", [frozenset(), frozenset({"step-up"}), frozenset({"rounded-answer", "budget"})])
def test_a_point_that_cannot_carry_one_out_denies(carries):
    answer = ask(risk=40, carries=carries)
    assert (answer.effect, answer.would_be, answer.obligations) == ("deny", "deny", ())
    assert "only with `rounded-answer=2`, `step-up=300`" in answer.reason
    assert ask(risk=0, carries=carries).effect == "allow"


def test_by_default_nothing_is_carried_out():
    answer = decide(verified(), "infer", ENDPOINT, good_world(), {}, policies=POLICIES, now=NOW, evidence_epoch=1, risk=Risk(value=40))
    assert answer.effect == "deny"


def test_what_is_carried_out_is_part_of_the_question_that_is_remembered():
    world = good_world()
    effects = []
    for carries in (EVERY, frozenset(), EVERY):
        made = decide(
            verified(), "infer", ENDPOINT, world, {}, policies=POLICIES, now=NOW, evidence_epoch=1, risk=Risk(value=40), carries=carries
        )
        effects.append(made.effect)
    assert effects == ["allow", "deny", "allow"]


def test_no_permit_means_no_lifting():
    answer = ask(compiled(RISKY), risk=50)
    assert (answer.effect, answer.obligations) == ("deny", ())


def test_an_error_in_scope_is_not_lifted():
    policies = raw(
        '@id("p") permit (principal, action, resource); @id("o") @oblige("step-up=60") forbid (principal, action, resource);'
        ' @id("e") forbid (principal, action, resource) when { context.gone };'
    )
    request = Request(PEOPLE[0], ACTIONS[0], THINGS[0], {})
    assert lift(evaluate(policies, request, World()), EVERY).evaluation.effect == "deny"


@pytest.mark.parametrize("hour", [3, 12])
def test_a_forbid_that_may_hold_leaves_the_answer_open(hour):
    policies = raw(PERMIT.replace(' in Group::"callers"', "") + NIGHT)
    asked = Request(principal_uid(CALLER), action_uid("infer"), resource_uid(ENDPOINT), {})
    ahead = lift(evaluate(policies, asked, good_world(), frozenset({"hour"})), EVERY)
    assert (ahead.evaluation.effect, ahead.obligations) == ("residual", ())
    known = Request(asked.principal, asked.action, asked.resource, {"hour": hour})
    then = lift(evaluate(policies, known, good_world()), EVERY)
    assert then.evaluation.effect == "allow"
    assert [one.value for one in then.obligations] == (["safety-board"] if hour < 6 else [])


def test_a_certain_one_and_an_open_one_stay_open():
    policies = compiled(
        PERMIT,
        '@id("always") @oblige("step-up=60") forbid (principal, action, resource);',
        '@id("early") forbid (principal, action, resource) unless { context has hour && context.hour >= 6 };',
    )
    ahead = ask(policies, unknown=frozenset({"hour"}))
    assert (ahead.effect, ahead.residual, ahead.obligations) == ("deny", True, ())
    assert owed(ask(policies, context={"hour": 8})) == ["step-up=60"]
    assert ask(policies, context={"hour": 5}).effect == "deny"


def test_observe_records_what_is_owed_and_still_owes_what_it_never_lets_through():
    observed = ask(risk=40, mode="observe")
    assert (observed.effect, observed.mode, owed(observed)) == ("allow", "observe", ["rounded-answer=2", "step-up=300"])
    policies = compiled(
        '@id("may") permit (principal in Group::"callers", action == Action::"promote", resource);',
        '@id("two") @oblige("approval=safety-board") forbid (principal, action == Action::"promote", resource);',
    )
    made = decide(
        verified(), "promote", ARTIFACT, good_world(), {}, policies=policies, now=NOW, evidence_epoch=1, mode="observe", carries=EVERY
    )
    assert (made.effect, made.mode, owed(made)) == ("allow", "enforce", ["approval=safety-board"])


def test_a_lapsed_credential_owes_nothing_and_gets_nothing():
    made = decide(verified(not_after=NOW), "infer", ENDPOINT, good_world(), {}, policies=POLICIES, now=NOW, evidence_epoch=1, carries=EVERY)
    assert (made.effect, made.obligations) == ("deny", ())
    assert LATE > NOW


@pytest.mark.parametrize(
    "text",
    [
        "", ";", "budget", "budget=", "budget=0/minute", "budget=-1/hour", "budget=5", "budget=5/week", "budget=05/day", "budget=1e3/day",
        "budget=99999999999/day", "rounded-answer=", "rounded-answer=16", "rounded-answer=-1", "rounded-answer=2.5", "rounded-answer=x",
        "redaction=", "redaction=a..b", "redaction=a b", "redaction=" + ".".join("a" * 17), "redaction=" + ",".join(f"m{n}" for n in range(65)),
        "redaction=é", "redaction=a.", 'redaction="a"', "step-up=0", "step-up=59", "step-up=1h", "step-up=9999999", "approval=", "approval=a b",
        "approval=-x", "delay=5", "Budget=5/day", "step-up=60;", "step-up=60; step-up=90", "rounded-answer=1; rounded-answer=1",
        "budget=5/day; budget=6/day", "redaction=a; redaction=b", "approval=a; approval=a", "step-up=60\n=", "step-up=６０",
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_with_file_line_and_fix(text):
    with pytest.raises(InvalidObligation):
        read_obligations(text)
    quoted = text.replace('"', '\\"').replace("\n", "\\n")
    policy = f'// a comment\n\n@id("odd") @oblige("{quoted}")\nforbid (principal, action, resource);'
    with pytest.raises(InvalidPolicy, match=r"`odd` \(mine.cedar, line 3\)") as refused:
        load([Source("mine.cedar", policy)])
    assert refused.value.remedy
    found = [one for one in check([Source("mine.cedar", policy)]) if one.severity == "error"]
    assert [(one.kind, one.line) for one in found] == [("bad-obligation", 3)]


def test_a_permit_carries_none():
    policy = '@id("odd") @oblige("step-up=60") permit (principal, action, resource);'
    with pytest.raises(InvalidPolicy, match="lifts nothing"):
        load([Source("mine.cedar", policy)])


def test_one_without_a_value_is_refused():
    with pytest.raises(InvalidPolicy):
        load([Source("mine.cedar", '@id("odd") @oblige forbid (principal, action, resource);')])


def test_two_windows_and_two_groups_are_two_things():
    made = read_obligations("budget=5/minute; budget=100/day; approval=a; approval=b; redaction= b.*.c , a")
    assert [f"{one.kind}={one.value}" for one in made] == [
        "budget=5/minute", "budget=100/day", "approval=a", "approval=b", "redaction=a,b.*.c",
    ]  # fmt: skip


def test_in_a_set_that_was_not_validated_a_bad_one_is_a_forbid_that_nothing_meets():
    policies = raw('@id("p") permit (principal, action, resource); @id("f") @oblige("what=ever") forbid (principal, action, resource);')
    made = lift(evaluate(policies, Request(PEOPLE[0], ACTIONS[0], THINGS[0], {}), World()), EVERY)
    assert (made.evaluation.effect, made.obligations) == ("deny", ())


OBLIGATIONS = st.one_of(
    st.builds(lambda n, w: f"budget={n}/{w}", st.integers(1, 9), st.sampled_from(("minute", "hour", "day"))),
    st.builds(lambda n: f"rounded-answer={n}", st.integers(0, 15)),
    st.builds(lambda p: f"redaction={','.join(sorted(p))}", st.sets(st.sampled_from(("a", "b.c", "d.*.e")), min_size=1)),
    st.builds(lambda n: f"step-up={n}", st.integers(60, 900)),
    st.builds(lambda g: f"approval={g}", st.sampled_from(("a", "b"))),
)


def as_values(texts) -> list[Obligation]:
    return [one for text in texts for one in read_obligations(text)]


def meets(strict, loose) -> bool:
    """Whether whoever carries out `strict` also carries out every one of `loose`."""
    return strictest([*strict, *loose]) == strictest(strict)


@MANY
@given(st.lists(OBLIGATIONS, max_size=6), st.lists(OBLIGATIONS, max_size=3))
def test_a_union_meets_each_of_its_parts_whatever_their_order(texts, more):
    one, other = as_values(texts), as_values(more)
    both = strictest([*one, *other])
    assert meets(both, one)
    assert meets(both, other)
    assert all(strictest(order) == strictest(one) for order in itertools.islice(itertools.permutations(one), 6))
    assert strictest(both) == both
    kinds = [
        (kept.kind, kept.value.partition("/")[2] if kept.kind == "budget" else kept.value if kept.kind == "approval" else "")
        for kept in both
    ]
    assert len(kinds) == len(set(kinds))


def with_obligations(text: str, obligations: list[str]) -> str:
    """Every other forbid of a random set can be met."""
    parts, turn = re.split(r"(?m)^(?=forbid )", text), itertools.cycle(obligations)
    return "".join(
        f'@oblige("{next(turn)}") {part}' if part.startswith("forbid ") and number % 2 else part for number, part in enumerate(parts)
    )


ORDER = {"deny": 0, "residual": 1, "allow": 2}


@MANY
@given(
    policy_texts(),
    policy_texts(),
    st.lists(OBLIGATIONS, min_size=1, max_size=4),
    st.booleans(),
    worlds(),
    requests(),
    st.sets(st.sampled_from(("a", "b", "risk"))),
)
def test_one_more_forbid_never_allows_more_nor_owes_less(text, more, obligations, plain, world, request, hidden):
    before_text = with_obligations(text, obligations)
    added = more.replace("permit (", "forbid (")
    after_text = f"{before_text}\n{added if plain else with_obligations(added, obligations)}"
    before = lift(evaluate(raw(before_text), request, world, frozenset(hidden)), EVERY)
    after = lift(evaluate(raw(after_text), request, world, frozenset(hidden)), EVERY)
    assert ORDER[after.evaluation.effect] <= ORDER[before.evaluation.effect]
    if after.evaluation.effect == "allow":
        assert meets(after.obligations, before.obligations)


@MANY
@given(
    policy_texts(),
    st.lists(OBLIGATIONS, min_size=1, max_size=4),
    worlds(),
    requests(),
    st.sets(st.sampled_from(("a", "b", "risk")), min_size=1),
)
def test_deciding_ahead_never_says_more_than_deciding_once(text, obligations, world, request, hidden):
    policies, unknown = raw(with_obligations(text, obligations)), frozenset(hidden)
    known = type(request)(
        request.principal, request.action, request.resource, {n: v for n, v in request.context.items() if n not in unknown}
    )
    ahead = lift(evaluate(policies, known, world, unknown), EVERY)
    full = lift(evaluate(policies, request, world), EVERY)
    assert crosscheck(policies, request, world) is None
    if ahead.evaluation.effect != "residual":
        assert ahead.evaluation.effect == full.evaluation.effect
        assert ahead.obligations == full.obligations or full.evaluation.effect == "deny"


@MANY
@given(policy_texts(), st.lists(OBLIGATIONS, min_size=1, max_size=4), worlds(), requests(), st.sets(st.sampled_from(sorted(EVERY))))
def test_carrying_out_less_never_allows_more(text, obligations, world, request, carries):
    policies = raw(with_obligations(text, obligations))
    evaluation = evaluate(policies, request, world)
    less, every = lift(evaluation, carries), lift(evaluation, EVERY)
    assert ORDER[evaluation.effect] <= ORDER[less.evaluation.effect] <= ORDER[every.evaluation.effect]
    if less.evaluation.effect == "allow" and less.obligations:
        assert all(one.kind in carries for one in less.obligations)


@MANY
@given(st.integers(0, 100), st.integers(0, 100), st.lists(st.tuples(st.integers(0, 100), st.one_of(st.none(), OBLIGATIONS)), max_size=5))
def test_more_risk_never_allows_more_nor_owes_less(low, high, forbids):
    low, high = sorted((low, high))
    texts = [PERMIT]
    for number, (bound, oblige) in enumerate(forbids):
        note = f'@oblige("{oblige}")' if oblige else ""
        texts.append(f'@id("f{number}") {note} forbid (principal, action, resource) when {{ context.risk >= {bound} }};')
    policies = compiled(*texts)
    calm, tense = ask(policies, risk=low), ask(policies, risk=high)
    assert ORDER[tense.effect] <= ORDER[calm.effect]
    if tense.effect == "allow":
        assert meets(tense.obligations, calm.obligations)


VOUCHED = '@id("vouched{n}") {note} forbid (principal, action, resource is Endpoint) unless {{ resource.vouches.contains("{what}") }};'


@MANY
@given(
    st.lists(st.tuples(st.sampled_from(("scan", "serves", "structure")), st.one_of(st.none(), OBLIGATIONS)), max_size=4),
    st.sampled_from(("serves", "scan")),
)
def test_fewer_vouches_never_allow_more_nor_owe_less(forbids, lost):
    notes = [(what, f'@oblige("{oblige}")' if oblige else "") for what, oblige in forbids]
    policies = compiled(PERMIT, *(VOUCHED.format(n=n, note=note, what=what) for n, (what, note) in enumerate(notes)))
    options = {"policies": policies, "now": NOW, "evidence_epoch": 1, "carries": EVERY}
    whole = decide(verified(), "infer", ENDPOINT, good_world(), {}, **options)
    less = decide(verified(), "infer", ENDPOINT, good_world(**{lost: "absent"}), {}, **options)
    assert ORDER[less.effect] <= ORDER[whole.effect]
    if less.effect == "allow":
        assert meets(less.obligations, whole.obligations)


def test_a_cell_that_owes_something_is_one_that_lets_in():
    policies = compiled(PERMIT, '@id("all") @oblige("step-up=60") forbid (principal, action, resource);')
    (infer, _) = cells(policies, good_world())
    assert (infer.allowed, infer.residual) == (1, 0)


def test_a_deny_beside_an_obligation_asks_only_for_what_would_lift_it():
    policies = compiled(PERMIT.replace("resource);", "resource) when { resource is Endpoint };"), RISKY, BANNED)
    answer = ask(policies, risk=95)
    assert answer.effect == "deny"
    assert answer.remedy == "clear the findings that hold the risk at 90 or above"
