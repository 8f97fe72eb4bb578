"""Proofs over every request: never contradicted by requests, refuted only by what both engines answer, and bounded."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import pytest
from prove_world import ATOMS, PATTERNS, SCHEMA, compiled, policy_texts, request, world

from vouchgate.policy import catalog
from vouchgate.policy.compile import CompiledPolicies, Request, ask_cedar, compile_policies, evaluate
from vouchgate.policy.load import InvalidPolicy, Source
from vouchgate.policy.obligations import EVERY, lift, strictest
from vouchgate.policy.prove import MAX_POLICIES, equivalent, grants_nothing_new, never_allows, question_of
from vouchgate.policy.schema_shape import shape_of
from vouchgate.policy.telling import case_of
from vouchgate.policy.values import from_cedar_json, uid_from_json
from vouchgate.policy.vectors import run_vectors
from vouchgate.policy.world import World, world_from_cedar_json
from vouchgate.vocabulary.answers_policy import Counterexample, Proof
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unsupported

PACK = compile_policies(catalog.load([catalog.pack("ai_lifecycle")]))
SCOPE = 'principal in Group::"callers", action == Action::"infer", resource is Endpoint'


def never(question: str, policies: CompiledPolicies = PACK, seconds: float = 30.0) -> Proof:
    return never_allows(policies, question_of(question, SCHEMA), clock=time.monotonic, seconds=seconds)


def mine(*texts: str) -> CompiledPolicies:
    named = "\n".join(f'@id("p{number}") {text}' for number, text in enumerate(texts))
    return compile_policies(catalog.load([Source("mine.cedar", named)]))


def again(shown: Counterexample) -> tuple[Request, World]:
    """The counterexample from its JSON alone."""
    who, what, which = (uid_from_json(shown.request[part]) for part in ("principal", "action", "resource"))
    context = {name: from_cedar_json(value) for name, value in shown.request["context"].items()}
    return Request(who, what, which, context), world_from_cedar_json(json.dumps(list(shown.entities)))


def allows(policies: CompiledPolicies, asked: Request, made: World) -> bool:
    return lift(evaluate(policies, asked, made), EVERY).evaluation.effect == "allow"


@pytest.mark.parametrize("seed", range(20))
def test_proofs_agree_with_requests(seed: int) -> None:
    """10,000 requests over worlds made by `facts.put_*` contradict no proof; what is refuted is refuted from its JSON alone, in both engines."""
    chance = random.Random(seed)
    atoms = ATOMS if seed % 2 else ATOMS + PATTERNS
    one, other = (compiled(policy_texts(chance, atoms=atoms)) for _ in range(2))
    meant, fewer = (ask(one, other, clock=time.monotonic, seconds=60) for ask in (never_allows, grants_nothing_new))
    for proof in (meant, fewer):
        assert proof.verdict in ("proved", "refuted"), proof.why
    if meant.counterexample:
        asked, made = again(meant.counterexample)
        assert allows(one, asked, made)
        assert "Allow" in str(ask_cedar(other.cedar_handle, asked, made, other.source.schema).decision)
    if fewer.counterexample:
        asked, made = again(fewer.counterexample)
        assert allows(other, asked, made)
        now, was = (lift(evaluate(policies, asked, made), EVERY) for policies in (other, one))
        assert was.evaluation.effect != "allow" or strictest((*now.obligations, *was.obligations)) != now.obligations
    for _ in range(8):
        made = world(chance)
        for _ in range(64):
            asked = request(chance, made)
            old, new = (lift(evaluate(policies, asked, made), EVERY) for policies in (one, other))
            hit = old.evaluation.effect == "allow" and evaluate(other, asked, made).cedar_effect == "allow"
            assert not (hit and meant.verdict == "proved")
            loose = old.evaluation.effect != "allow" or strictest((*new.obligations, *old.obligations)) != new.obligations
            assert not (new.evaluation.effect == "allow" and loose and fewer.verdict == "proved")


# -- the packs


@pytest.mark.parametrize(
    "question",
    [
        'permit (principal, action == Action::"administer:author-policy", resource) unless { principal in Group::"role:policy-author" };',
        'permit (principal, action == Action::"infer", resource) unless { resource has model && resource.model.vouches.contains("scan") };',
        'permit (principal, action == Action::"export", resource) when { resource.labels.contains("personal") };',
        'permit (principal in Group::"trainers", action == Action::"promote", resource);',
        'permit (principal, action == Action::"deploy", resource is Artifact) unless { resource.vouches.contains("import") };',
    ],
)  # fmt: skip
def test_the_pack_never_allows(question: str) -> None:
    assert never(question).verdict == "proved"


def test_a_refutation_says_who_what_and_by_which_policy() -> None:
    proof = never('permit (principal, action == Action::"export", resource) unless { resource.vouches.contains("scan") };')
    assert proof.verdict == "refuted" and proof.counterexample is not None
    assert proof.counterexample.permitted_by == ("exporters-may-export",)
    assert proof.counterexample.fits
    assert "`exporters`" in proof.sentence and "`exporters-may-export`" in proof.sentence
    asked, made = again(proof.counterexample)
    assert allows(PACK, asked, made)
    assert len(made) <= 5


def test_the_counterexample_is_a_vector(tmp_path: Path) -> None:
    proof = never('permit (principal, action == Action::"infer", resource);')
    assert proof.counterexample is not None
    (tmp_path / "case.json").write_text(json.dumps(case_of(PACK, proof.counterexample)))
    found = run_vectors(tmp_path)
    assert (found.agreed, found.total) == (1, 1)


# -- what vouchgate makes sure of counts


@pytest.mark.parametrize(
    "condition",
    [
        'resource.vouches.contains("serves@verified") && !resource.vouches.contains("serves")',
        'resource.vouches.contains("serves") && !resource.vouches.contains("serves@inferred")',
        'resource.vouches.contains("scan@strongest")',
        'resource is Endpoint && resource in Zone::"serve" && resource in Zone::"train"',
        'principal.zone == "serve" && !(principal in Zone::"serve")',
        'principal in Zone::"serve" && principal.zone == "train"',
        'principal == Principal::"spiffe://a/service/serve/app" && principal.name != "app"',
        'principal == Principal::"nobody"',
        'resource == Endpoint::"digits"',
        'principal.kind == "human"',
        'principal.zone == "Not A Zone"',
        'context.credential == "password"',
        "context.risk < 10 && context.risk > 20",
        'context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8")) && context.source_ip.isLoopback()',
        'resource.labels == ["a"] && resource.labels.contains("b")',
        'resource.labels.isEmpty() && resource.labels.containsAny(resource.purposes)',
        'resource.labels.containsAll(resource.purposes) && resource.purposes.contains("x") && !resource.labels.contains("x")',
        'context has path && context.path like "/a*" && context.path like "/b*"',
    ],
)  # fmt: skip
def test_what_cannot_be(condition: str) -> None:
    policies = compiled(f"permit (principal, action, resource) when {{ {condition} }};")
    assert never("permit (principal, action, resource);", policies).verdict == "proved"


@pytest.mark.parametrize(
    "condition",
    [
        'resource.vouches.contains("serves@declared") && !resource.vouches.contains("serves@verified")',
        'resource.labels == resource.purposes && resource.labels.contains("x")',
        'context has path && context.path like "/a*b" && context.path != "/ab"',
        'context has source_ip && context.source_ip.isIpv6() && !context.source_ip.isLoopback()',
        'principal.zone == principal.name',
        'context has purpose && resource.purposes.contains(context.purpose) && context.purpose != "care"',
        'principal in Group::"a" && principal in Group::"b" && !(principal in Group::"c")',
        'context.risk > 100',
    ],
)  # fmt: skip
def test_what_can_be(condition: str) -> None:
    policies = compiled(f"permit (principal, action, resource is Endpoint) when {{ {condition} }};")
    proof = never("permit (principal, action, resource);", policies)
    assert proof.verdict == "refuted", proof.why


# -- effects


def test_an_error_denies() -> None:
    """Cedar skips the erring forbid and allows; the engine denies."""
    erring = compiled(f"permit ({SCOPE});\nforbid ({SCOPE}) when {{ context.hour == 3 && false }};")
    proof = never(f"permit ({SCOPE}) unless {{ context has hour }};", erring)
    assert proof.verdict == "proved"


def test_one_more_forbid_grants_nothing_new_and_is_not_equivalent() -> None:
    more = mine(f"permit ({SCOPE}) when {{ context.risk < 60 }};", f"forbid ({SCOPE}) when {{ context.delegated }};")
    less = mine(f"permit ({SCOPE}) when {{ context.risk < 60 }};")
    assert grants_nothing_new(less, more, clock=time.monotonic).verdict == "proved"
    lost = equivalent(less, more, clock=time.monotonic)
    assert lost.verdict == "refuted" and lost.counterexample and lost.counterexample.denied_by == ("p1",)
    assert "was allowed by the old policies" in lost.sentence


def test_the_same_written_otherwise_is_equivalent() -> None:
    one = mine(f"permit ({SCOPE}) when {{ !(context.delegated || !resource.wrapped) }};")
    other = mine(
        f"permit ({SCOPE}) when {{ resource.wrapped && !context.delegated }};",
        f"permit ({SCOPE}) when {{ resource.wrapped }} unless {{ context.delegated }};",
    )
    assert equivalent(one, other, clock=time.monotonic).verdict == "proved"


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("budget=10/minute", "budget=5/minute", "proved"),
        ("budget=5/minute", "budget=10/minute", "refuted"),
        ("budget=5/minute", "budget=5/minute; rounded-answer=2", "proved"),
        ("step-up=60", "rounded-answer=2", "refuted"),
    ],
)
def test_what_a_grant_is_bound_to_counts(old: str, new: str, verdict: str) -> None:
    was, now = (mine(f"permit ({SCOPE});", f'@oblige("{bound}") forbid ({SCOPE});') for bound in (old, new))
    assert grants_nothing_new(was, now, clock=time.monotonic).verdict == verdict


def test_a_forbid_that_can_be_met_does_not_stop() -> None:
    bound = mine(f"permit ({SCOPE});", f'@oblige("step-up=60") forbid ({SCOPE});')
    proof = never(f"permit ({SCOPE});", bound)
    assert proof.counterexample and proof.counterexample.obligations == ("step-up=60",)


def test_an_action_that_does_not_fit_is_told() -> None:
    wide = mine('permit (principal in Group::"a", action == Action::"infer", resource);')
    both = 'permit (principal, action in [Action::"infer", Action::"call-tool"], resource is Tool);'
    assert never(both, wide).verdict == "refuted"
    proof = never('permit (principal, action == Action::"infer", resource) unless { resource is Endpoint };', wide)
    assert proof.counterexample and not proof.counterexample.fits
    assert "the schema does not apply this action" in proof.sentence


# -- bounds, and what is not translated


def test_a_construct_without_translation_is_never_proved_away() -> None:
    """The product of two facts is left open; what does not depend on it is proved all the same."""
    text = f"permit ({SCOPE}) when {{ context has hour && context has depth && context.hour * context.depth == 7 && context.risk < 60 }};"
    policies = compiled(text)
    proof = never(f"permit ({SCOPE});", policies)
    assert proof.verdict == "unknown" and "`a product of two facts` has no exact translation" in proof.why
    assert never('permit (principal, action == Action::"export", resource);', policies).verdict == "proved"
    assert never(f'permit ({SCOPE}) unless {{ principal in Group::"callers" }};', policies).verdict == "proved"


def test_out_of_time_is_unknown_and_says_so() -> None:
    ticks = iter(range(10_000))
    proof = never_allows(
        PACK,
        question_of("permit (principal, action, resource) when { context.risk < 10 && context.risk > 20 };", SCHEMA),
        clock=lambda: next(ticks),
        seconds=3,
    )
    assert proof.verdict == "unknown"
    assert "the bound of 3 seconds was reached after" in proof.why[0]


def test_what_z3_does_not_end_is_unknown() -> None:
    """Pigeons and holes: short to write, long to decide."""
    sets = " && ".join(f'!(resource.labels.contains("p{one}h{hole}") && resource.labels.contains("p{other}h{hole}"))'
                       for hole in range(3) for one in range(5) for other in range(one))  # fmt: skip
    texts = [f"permit (principal, action, resource is Endpoint) when {{ {sets} }};"]
    for one in range(5):
        held = " || ".join(f'resource.labels.contains("p{one}h{hole}")' for hole in range(3))
        texts.append(f"forbid (principal, action, resource) unless {{ {held} }};")
    assert never("permit (principal, action, resource is Endpoint);", compiled("\n".join(texts))).verdict in ("proved", "unknown")


def test_too_many_policies() -> None:
    text = "\n".join(f'permit (principal in Group::"g{number}", action, resource);' for number in range(MAX_POLICIES))
    with pytest.raises(LimitExceeded, match="the bound is"):
        never("permit (principal, action, resource);", compiled(text))


@pytest.mark.parametrize("depth", [65, 5_000, 200_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(InvalidPolicy, match="too large"):
        question_of(f"permit (principal, action, resource) when {{ {'(' * depth}true{')' * depth} }};", SCHEMA)


def test_ten_megabytes_are_refused() -> None:
    with pytest.raises(InvalidPolicy, match="the bound is"):
        question_of("// x\n" * 2_000_000, SCHEMA)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "permits nothing"),
        ("permit (principal", "cannot be read"),
        ("permit (principal, action, resource) when { resource.nothing };", "not valid"),
        ("permit (principal == ?principal, action, resource);", "template"),
    ],
)
def test_a_question_that_is_none(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        question_of(text, SCHEMA)


def test_without_z3_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("vouchgate.policy.smt")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "z3", None)
    with pytest.raises(Unsupported) as caught:
        never("permit (principal, action, resource);")
    assert "vouchgate[analysis]" in caught.value.remedy


def test_the_schema_is_read_as_cedar_reads_it() -> None:
    shape = shape_of(SCHEMA)
    assert {action.id for action in PACK.actions} == set(shape.actions)
    assert shape.above("Tool") == {"Endpoint", "Zone"}
    assert not shape.entities["Endpoint"].attributes["model"].required
    with pytest.raises(Unsupported):
        shape_of("namespace A { entity B; }")
