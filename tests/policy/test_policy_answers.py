"""Kept answers are the answers: whatever changes makes them anew, and what changes nothing does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.policy import answers as module
from vouchgate.policy import catalog
from vouchgate.policy.compile import CompiledPolicies, compile_policies
from vouchgate.policy.decide import decide
from vouchgate.policy.facts import put_artifact, put_endpoint, put_principal
from vouchgate.policy.load import Source, read
from vouchgate.policy.world import Evidence, Held, World
from vouchgate.vocabulary.decisions import Decision, Risk
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, resource_id
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.principals import Principal, VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis

DIGEST = "sha256:" + "ab" * 32
WHO = PrincipalId("spiffe://test.local/service/serve/caller")
TEXT = """
@id("may") permit (principal in Group::"team", action == Action::"infer", resource is Endpoint in Zone::"serve")
when { resource has model && resource.model.vouches.contains("scan") && context.risk < 60 };
@id("night") forbid (principal, action == Action::"infer", resource) unless { context has hour && context.hour >= 6 };
"""
WHOLE = '@id("whole") forbid (principal, action, resource) when { context == {risk: 1} };'


def compiled(text: str = TEXT) -> CompiledPolicies:
    return compile_policies(read([catalog.pack("base"), Source("test.cedar", text)], catalog.schema_text()))


def world(*, groups: tuple[str, ...] = ("team",), until: int = 1_000, scanned: bool = True) -> World:
    made = World()
    put_principal(made, Principal(id=WHO, groups=groups))
    endpoint = Endpoint(
        id=resource_id("vg://test.local/endpoint/digits"), trust_domain=TrustDomain("test.local"), zone="serve", upstream="unix:/x",
        routes=(), model_digest=DIGEST,
    )  # fmt: skip
    put_endpoint(made, endpoint, Evidence())
    held = (Held("scan", "v1", "verified", UnixMillis(until)),) if scanned else ()
    put_artifact(made, f"vg://test.local/artifact/{DIGEST}", Evidence(held))
    return made


def ask(
    policies: CompiledPolicies, here: World, *, now: int = 10, risk: int = 0, not_after: int = 10_000, hour: int | None = 12, **facts: Any
) -> Decision:
    facts |= {} if hour is None else {"hour": hour}
    who = VerifiedPrincipal(
        principal=Principal(id=WHO), credential_kind="x509", credential_id="c", authenticated=True, verified_at=UnixMillis(0),
        not_after=UnixMillis(not_after),
    )  # fmt: skip
    return decide(
        who, "infer", "vg://test.local/endpoint/digits", here, facts, policies=policies, now=UnixMillis(now), evidence_epoch=1,
        risk=Risk(value=risk),
    )  # fmt: skip


def test_an_equal_question_is_answered_once_and_equally() -> None:
    policies, here = compiled(), world()
    first = ask(policies, here)
    assert first.effect == "allow" and len(policies.answers) == 1
    assert ask(policies, here) == first and len(policies.answers) == 1


def test_a_fact_that_no_policy_reads_asks_no_new_question_but_stands_in_the_digest() -> None:
    policies, here = compiled(), world()
    one, other = ask(policies, here, method="GET"), ask(policies, here, method="PUT")
    assert len(policies.answers) == 1
    assert one.facts_digest != other.facts_digest and one.id != other.id


def test_every_fact_counts_where_a_policy_reads_the_whole_context() -> None:
    policies, here = compiled(TEXT + WHOLE), world()
    ask(policies, here, method="GET")
    ask(policies, here, method="PUT")
    assert len(policies.answers) == 2


@pytest.mark.parametrize("change", ["group", "lapse", "credential", "risk", "hour", "removed"])
def test_what_takes_the_ground_away_is_seen_at_once(change: str) -> None:
    policies, here = compiled(), world()
    assert ask(policies, here).effect == "allow"
    facts: dict[str, Any] = {}
    match change:
        case "group":
            put_principal(here, Principal(id=WHO, groups=()))
        case "lapse":
            facts["now"] = 1_000
        case "credential":
            facts["not_after"] = 10
        case "risk":
            facts["risk"] = 60
        case "hour":
            facts["hour"] = 3
        case _:
            put_artifact(here, f"vg://test.local/artifact/{DIGEST}", Evidence((), {"scan": "revoked"}))
    assert ask(policies, here, **facts).effect == "deny"


def test_another_world_is_another_question_at_the_same_revision() -> None:
    policies, one, other = compiled(), world(), world(groups=("none",))
    assert ask(policies, one).effect == "allow"
    assert ask(policies, other).effect == "deny"
    assert ask(policies, one).effect == "allow"


def test_no_more_are_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWERS", 3)
    policies, here = compiled(), world()
    for risk in range(20):
        assert ask(policies, here, risk=risk).risk.value == risk
        assert len(policies.answers) <= 3


ASKED = st.tuples(
    st.integers(0, 100), st.sampled_from([None, 3, 12]), st.sampled_from([("team",), ()]), st.booleans(), st.sampled_from([5, 2_000])
)


@given(st.lists(ASKED, min_size=2, max_size=12))
def test_kept_answers_equal_fresh_ones_whatever_happened_between(steps: list[tuple[int, int | None, tuple[str, ...], bool, int]]) -> None:
    policies, here = compiled(), world()
    for risk, hour, groups, scanned, now in sorted(steps, key=lambda one: one[4]):
        put_principal(here, Principal(id=WHO, groups=groups))
        put_artifact(
            here, f"vg://test.local/artifact/{DIGEST}", Evidence((Held("scan", "v1", "verified", UnixMillis(1_000)),) if scanned else ())
        )
        kept = [ask(policies, here, risk=risk, now=now, hour=hour) for _ in range(2)][1]
        fresh = ask(compiled(), here, risk=risk, now=now, hour=hour)
        assert kept == msgspec.structs.replace(fresh, evaluated_at=kept.evaluated_at)
