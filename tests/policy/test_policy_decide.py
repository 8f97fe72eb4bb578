"""Decisions over the packs: who, what, why not, what would help, until when; observe; bad input."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from policy_world import (
    ARTIFACT,
    BATCH,
    CALLER,
    ENDPOINT,
    LATE,
    NOW,
    ONSITE,
    RESPONDER,
    STRANGER,
    compiled,
    endpoint,
    good_world,
    held,
    spine,
    verified,
)  # fmt: skip

from vouchgate.policy.check import cells
from vouchgate.policy.compile import Request, compile_policies
from vouchgate.policy.crosscheck import DEFAULT_ONE_IN, crosscheck, sampled
from vouchgate.policy.decide import decide, observable
from vouchgate.policy.explain import explain
from vouchgate.policy.facts import (
    REQUEST_FACTS,
    action_uid,
    group_uid,
    principal_uid,
    put_artifact,
    put_endpoint,
    put_group,
    put_principal,
    request_context,
    resource_uid,
)
from vouchgate.policy.load import Policy
from vouchgate.policy.world import Evidence
from vouchgate.vocabulary.decisions import Decision, Risk
from vouchgate.vocabulary.errors import InvalidInput, InvalidName
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.wire import decode, encode

SPINE = spine()


def ask(world=None, principal=None, action="infer", resource=ENDPOINT, context=None, policies=SPINE, **options) -> Decision:
    options.setdefault("now", NOW)
    return decide(
        principal or verified(), action, resource, world or good_world(), context or {}, policies=policies, evidence_epoch=7, **options
    )


def test_an_allow_names_its_policy_its_vouches_and_its_end():
    answer = ask()
    assert (answer.effect, answer.would_be, answer.residual, answer.remedy) == ("allow", "allow", False, "")
    assert answer.determining == ("callers-may-infer",)
    assert set(answer.vouches_used) == {"vouch-scan", "vouch-structure", "vouch-serves"}
    assert answer.not_after == 400_000
    assert (
        answer.reason
        == f"caller `{CALLER}` may infer on `digits`: permitted by `callers-may-infer`, resting on scan, structure, serves@rederived"
    )
    assert decode(Decision, encode(answer)) == answer
    assert (answer.policy_version, answer.policy_digest, answer.evidence_epoch, answer.trust_domain) == (1, SPINE.digest, 7, "test.local")


def test_the_credentials_own_end_bounds_the_decision():
    assert ask(principal=verified(not_after=2_000)).not_after == 2_000


def test_the_longer_of_two_vouches_counts():
    world = good_world()
    put_endpoint(world, endpoint(), Evidence((held("serves", not_after=300), held("serves", not_after=600_000, vouch_id="newer"))))
    answer = ask(world, now=100)
    assert "newer" in answer.vouches_used
    assert answer.not_after == 500_000


def test_of_two_permits_the_one_that_lasts_longer_counts():
    scope = "(principal, action, resource is Endpoint)"
    policies = compiled(
        f'@id("short") permit {scope} when {{ resource.vouches.contains("serves") }};',
        f'@id("long") permit {scope} when {{ resource has model && resource.model.vouches.contains("scan") }};',
    )
    answer = ask(policies=policies)
    assert (answer.determining, answer.vouches_used, answer.not_after) == (("short", "long"), ("vouch-scan",), 500_000)


def test_a_forbid_that_a_vouch_holds_off_bounds_the_decision_too():
    policies = compiled(
        '@id("all") permit (principal, action, resource is Endpoint);',
        '@id("unless") forbid (principal, action, resource is Endpoint) unless { resource.vouches.contains("serves") };',
    )
    assert ask(policies=policies).not_after == 400_000
    answer = ask(good_world(serves="expired"), policies=policies)
    assert (answer.determining, answer.missing[0].predicate, answer.missing[0].why) == (("unless",), "serves", "expired")


@pytest.mark.parametrize("predicate", ["scan", "structure"])
@pytest.mark.parametrize(
    ("why", "words"), [("absent", "lacks a fresh"), ("expired", "expired"), ("revoked", "revoked"), ("failed", "failed")]
)
def test_missing_evidence_is_named_with_its_remedy(predicate, why, words):
    answer = ask(good_world(**{predicate: why}))
    assert answer.effect == "deny"
    (missing,) = answer.missing
    assert (missing.predicate, missing.subject, missing.why) == (predicate, ARTIFACT, why)
    assert answer.reason.startswith(f"the model behind `digits` lacks a fresh `{predicate}` vouch")
    assert words in answer.reason
    assert answer.remedy == missing.remedy != ""


def test_a_tier_that_is_too_low_is_named_as_such():
    world = good_world()
    put_endpoint(world, endpoint(), Evidence((held("serves", tier="declared"),)))
    (missing,) = ask(world).missing
    assert (missing.predicate, missing.why, missing.subject) == ("serves@rederived", "tier", ENDPOINT)


def test_an_endpoint_whose_model_is_not_known_says_so():
    world = good_world()
    put_endpoint(world, endpoint(model=""), Evidence())
    answer = ask(world)
    assert {missing.predicate for missing in answer.missing} >= {"serves"}
    assert answer.effect == "deny"


def test_a_vouch_lapses_by_itself_at_its_time():
    world = good_world()
    assert ask(world, now=399_999).effect == "allow"
    answer = ask(world, now=400_000)
    assert (answer.effect, answer.missing[0].why) == ("deny", "expired")
    assert ask(world, now=1).effect == "deny", "the clock set back brings nothing back"


@pytest.mark.parametrize(
    ("options", "reason", "remedy"),
    [
        ({"principal": verified(STRANGER)}, "is in no group that may infer", "add the caller to group `callers`"),
        ({"risk": Risk(value=60)}, "risk of caller", "clear the findings"),
        ({"risk": Risk(value=80)}, "forbidden by `risk-ceiling`", "findings"),
        ({"principal": verified(authenticated=False)}, "forbidden by `base-authenticated`", "SVID"),
        ({"principal": verified("spiffe://test.local/service/serve/nobody")}, "is not registered", "registrar"),
        ({"principal": verified(not_after=NOW)}, "has lapsed", "fresh credential"),
        ({"action": "fly"}, "no policy knows the action", "schema"),
        ({"action": "describe", "principal": verified(STRANGER)}, "is in no group", "group"),
        ({"resource": "vg://test.local/endpoint/other"}, "nothing is known of", "wrap"),
        (
            {"principal": verified(RESPONDER), "action": "administer:rotate-key", "resource": ENDPOINT},
            "is in no group",
            "role:key-custodian",
        ),
        ({"principal": verified(ONSITE), "context": {"source_ip": "8.8.8.8"}}, "its source_ip", "source ip"),
    ],
)
def test_a_deny_says_why_and_what_helps(options, reason, remedy):
    answer = ask(**options)
    assert (answer.effect, answer.would_be, answer.residual) == ("deny", "deny", False)
    assert reason in answer.reason
    assert remedy in answer.remedy
    assert not answer.reason.endswith(".")
    assert answer.vouches_used == ()


@pytest.mark.parametrize(
    ("address", "effect"),
    [
        ("10.9.8.7", "allow"),
        ("127.0.0.1", "allow"),
        ("::ffff:10.0.0.7", "allow"),
        ("::ffff:a00:7", "allow"),
        ("::FFFF:8.8.8.8", "deny"),
        ("::1", "allow"),
        ("11.0.0.1", "deny"),
        ("2001:db8::1", "deny"),
    ],
)
def test_a_residual_is_asked_again_with_the_request(address, effect):
    ahead = ask(principal=verified(ONSITE), unknown=REQUEST_FACTS)
    assert (ahead.effect, ahead.residual, ahead.determining) == ("deny", True, ("onsite-callers-from-inside",))
    assert "source_ip" in ahead.reason
    assert ask(principal=verified(ONSITE), context={"source_ip": address}).effect == effect


@pytest.mark.parametrize(("hour", "effect"), [(0, "allow"), (5, "allow"), (6, "deny"), (21, "deny"), (22, "allow")])
def test_batch_callers_work_at_night(hour, effect):
    assert ask(principal=verified(BATCH), unknown=REQUEST_FACTS).residual
    assert ask(principal=verified(BATCH), context={"hour": hour}).effect == effect


def test_a_callers_grant_does_not_wait_for_the_request():
    ahead = ask(unknown=REQUEST_FACTS)
    assert (ahead.effect, ahead.residual) == ("allow", False)


def test_a_residual_is_a_deny_where_the_known_facts_already_say_no():
    ahead = ask(good_world(scan="revoked"), principal=verified(ONSITE), unknown=REQUEST_FACTS)
    assert (ahead.effect, ahead.residual, ahead.missing[0].predicate) == ("deny", False, "scan")


def test_groups_of_the_credential_do_not_count():
    forged = verified(STRANGER)
    forged = type(forged)(
        principal=Principal(id=STRANGER, groups=("callers",)),
        credential_kind="x509", credential_id="c", authenticated=True, verified_at=0, not_after=LATE,
    )  # fmt: skip
    assert ask(principal=forged).effect == "deny"


def test_a_group_that_is_gone_denies_instead_of_lifting_a_ban():
    policies = compiled(
        '@id("all") permit (principal, action, resource is Endpoint); @id("ban") forbid (principal in Group::"banned", action, resource);'
    )
    world = good_world()
    put_group(world, "inner", ["banned"])
    put_principal(world, Principal(id=CALLER, groups=("inner",)))
    assert ask(world, policies=policies).determining == ("ban",)
    world.remove(group_uid("inner"))
    answer = ask(world, policies=policies)
    assert (answer.effect, answer.determining) == ("deny", ())
    assert "`inner` is named as a group" in answer.reason
    put_principal(world, Principal(id=CALLER, groups=()))
    assert ask(world, policies=policies).effect == "allow"


# -- observe


def test_observe_lets_through_and_says_what_enforcing_would():
    answer = ask(principal=verified(STRANGER), mode="observe")
    assert (answer.effect, answer.would_be, answer.mode) == ("allow", "deny", "observe")
    assert answer.reason


def test_observe_lets_a_declared_caller_use_but_not_move_or_administer():
    world = good_world()
    weak = verified("spiffe://test.local/declared/serve/ip-10.0.0.1", "declared", authenticated=False)
    assert ask(world, weak, mode="observe").effect == "allow"
    assert ask(world, weak, mode="observe", action="administer:revoke").effect == "deny"


@pytest.mark.parametrize("action", ["release-key", "approve", "sign", "promote", "administer", "administer:revoke", "administer:anything"])
def test_observe_never_applies_to_these(action):
    assert not observable(action)
    assert ask(principal=verified(STRANGER), action=action, resource=ENDPOINT, mode="observe").effect == "deny"


@pytest.mark.parametrize(
    ("why", "effect"), [("revoked", "deny"), ("failed", "deny"), ("unverified", "deny"), ("expired", "allow"), ("absent", "allow")]
)
def test_observe_never_covers_refused_evidence(why, effect):
    assert ask(good_world(scan=why), mode="observe").effect == effect
    assert ask(good_world(serves=why), mode="observe").effect == effect


def test_observe_does_not_turn_a_residual_into_an_allow():
    ahead = ask(principal=verified(ONSITE), unknown=REQUEST_FACTS, mode="observe")
    assert (ahead.effect, ahead.residual) == ("deny", True)


def test_observe_does_not_revive_a_lapsed_credential():
    assert ask(principal=verified(not_after=NOW), mode="observe").effect == "deny"


# -- bad input


@pytest.mark.parametrize(
    "options",
    [
        {"context": {"risk": 0}}, {"context": {"authenticated": True}}, {"context": {"credential": "x509"}}, {"context": {"colour": "red"}},
        {"context": {"hour": "3"}}, {"context": {"hour": True}}, {"context": {"hour": 3.0}}, {"context": {"source_ip": "nowhere"}},
        {"context": {"source_ip": 7}}, {"context": {"path": b"/"}}, {"context": {"path": "x" * 9_000}}, {"context": {"hour": None}}, {"context": {"path": "\ud800"}},
        {"context": {"source_ip": "fe80::1%eth0"}}, {"context": {"source_ip": "\ud800"}}, {"action": ""}, {"action": "infer\n"}, {"action": "\ud800"},
        {"action": "INFER"}, {"action": "a" * 65},
        {"unknown": frozenset({"risk"})}, {"unknown": frozenset({"authenticated"})}, {"unknown": frozenset({"hour"}), "context": {"hour": 3}},
        {"resource": "vg://test.local/thing/x"}, {"resource": "digits"}, {"resource": "vg://test.local/endpoint/../x"},
    ],
)  # fmt: skip
def test_what_is_no_fact_and_no_name_is_refused(options):
    with pytest.raises(InvalidInput):
        ask(**options)


def test_only_a_verified_caller_is_decided_on():
    with pytest.raises(InvalidInput, match="verified"):
        ask(principal=Principal(id=CALLER))
    with pytest.raises(InvalidName):
        ask(principal=verified("app"))


def test_an_error_in_scope_denies_and_is_named():
    world = good_world()
    world.remove(resource_uid(ARTIFACT))
    answer = ask(world)
    assert (answer.effect, answer.errors) == ("deny", ("callers-may-infer",))
    assert "could not be evaluated" in answer.reason


def test_the_decision_id_depends_on_facts_and_time():
    world = good_world()
    ids = {ask(world).id, ask(world, now=NOW + 1).id, ask(good_world(scan="absent")).id, ask(world, principal=verified(BATCH)).id}
    assert len(ids) == 4
    assert ask(good_world()).id == ask(good_world()).id


def test_the_facts_digest_follows_the_facts():
    world = good_world()
    before = ask(world).facts_digest
    put_artifact(world, ARTIFACT, Evidence((held("scan"),)), ["serve"])
    after = ask(world).facts_digest
    put_principal(world, Principal(id=CALLER, groups=("callers", "more")))
    assert len({before, after, ask(world).facts_digest}) == 3


# -- explain, cells, cross-check


def why(world=None, principal=None, **options):
    return explain(
        principal or verified(), "infer", ENDPOINT, world or good_world(), {}, policies=SPINE, now=NOW, evidence_epoch=7, **options
    )


def test_why_an_allow_names_everything_it_rests_on():
    told = why()
    assert told.decision == ask()
    assert told.groups == ("callers",)
    assert told.model == ARTIFACT
    assert [policy.id for policy in told.policies] == ["callers-may-infer"]
    assert told.policies[0].line > 0
    assert {(vouch.predicate, vouch.subject) for vouch in told.vouches} == {
        ("scan", ARTIFACT),
        ("structure", ARTIFACT),
        ("serves", ENDPOINT),
    }
    assert told.path == (CALLER, "group `callers`", "policy `callers-may-infer`", ENDPOINT, ARTIFACT)
    assert any("leaves group `callers`" in flip for flip in told.flips)
    assert any("risk rises to 60" in flip for flip in told.flips)


def test_every_vouch_in_the_minimal_set_is_needed():
    for predicate in ("scan", "structure", "serves"):
        assert ask(good_world(**{predicate: "absent"})).effect == "deny"


def test_why_a_deny_gives_the_change_that_turns_it_over():
    told = why(good_world(scan="absent"))
    assert (told.vouches, told.minimal) == ((), ())
    assert told.flips == ("`sha256:abababababab` gets a fresh `scan` vouch",)
    assert why(principal=verified("spiffe://test.local/service/serve/nobody")).flips == ("ask a registrar to register the caller",)


def test_why_an_observed_deny_tells_the_deny():
    told = why(principal=verified(STRANGER), mode="observe")
    assert told.decision.effect == "allow"
    assert told.flips == ("the caller joins group `callers`",)


def test_the_cells_of_an_endpoint():
    found = {(one.endpoint, one.action): (one.allowed, one.residual, one.denied) for one in cells(SPINE, good_world())}
    assert found[ENDPOINT, "infer"] == (1, 2, 2)
    assert found[ENDPOINT, "chat"] == (1, 1, 3)


def asked_for(caller=CALLER) -> Request:
    return Request(principal_uid(caller), action_uid("infer"), resource_uid(ENDPOINT), request_context(verified(caller), Risk(), {}))


@pytest.mark.parametrize("caller", [CALLER, STRANGER, BATCH, ONSITE, RESPONDER])
def test_both_engines_agree_on_the_packs(caller):
    assert crosscheck(SPINE, asked_for(caller), good_world()) is None
    assert crosscheck(SPINE, asked_for(caller), good_world(scan="revoked")) is None


def test_a_compiled_policy_that_lies_is_caught():
    policies = compile_policies(SPINE.source)
    position = next(number for number, policy in enumerate(policies.policies) if policy.id == "callers-may-infer")
    victim = policies.policies[position]
    object.__setattr__(victim, "condition", lambda facts: True)
    mismatch = crosscheck(policies, asked_for(), good_world(scan="revoked"))
    assert mismatch is not None
    assert (mismatch.compiled[0], mismatch.cedar[0]) == ("allow", "deny")
    assert "cedar answers" in mismatch.reason


def test_sampling_is_even_and_can_be_switched():
    ids = [f"{number:08x}{'0' * 24}" for number in range(5_000)]
    assert sum(sampled(one) for one in ids) == 5_000 // DEFAULT_ONE_IN
    assert all(sampled(one, 1) for one in ids)
    assert not any(sampled(one, 0) for one in ids)


# -- proof as a type


def test_only_the_verifying_modules_of_identity_make_a_verified_principal():
    root = Path(__file__).resolve().parents[2] / "src" / "vouchgate"
    makers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                arguments = [ast.unparse(one) for one in node.args]
                if name == "VerifiedPrincipal" or (
                    name in {"decode", "from_plain", "convert", "Decoder"} and "VerifiedPrincipal" in " ".join(arguments)
                ):
                    makers.add(path.relative_to(root).as_posix())
    assert all(one.startswith("identity/verify") for one in makers), makers


def test_a_policy_is_told_where_it_stands():
    policy = SPINE.source.policy("callers-may-infer")
    assert isinstance(policy, Policy)
    assert policy.where == f"policy `callers-may-infer` (ai_lifecycle.cedar, line {policy.line})"
