"""The action that withdraws an identity: what it plans, what it declines, and how many persons it asks."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.response.actions.revoke_identity import ACTION, PLAN_MS
from vouchgate.response.catalog import action, check_effect, plan
from vouchgate.response.effects import Declined, Effect, Revoke, Situation, Unrevoke, idempotency_key
from vouchgate.vocabulary.answers import RevokeOutcome
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.events import Finding
from vouchgate.vocabulary.wire import decode, encode

SHOP, OTHER = "spiffe://test.local/service/prod/shop", "spiffe://test.local/service/prod/other"
ANNA, BERT = "spiffe://test.local/person/admin/a", "spiffe://test.local/person/admin/b"
NOW = 1_000_000


def finding(**changes) -> Finding:
    base = Finding(
        id="f1", kind="denied-burst", subject=SHOP, detector="denied-burst", detector_version="1", unit="principal-day", severity="high",
        authenticated_basis=True, clears_when="later", expires_at=NOW + 10 * PLAN_MS,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def situation(subject: str = SHOP, *, callers: tuple[str, ...] = (SHOP,), endpoints: tuple[str, ...] = (), **changes) -> Situation:
    foreseen = RevokeOutcome(planned=True, target_kind="principal", target=subject, callers=callers, endpoints=endpoints, grants=3)
    return msgspec.structs.replace(Situation(trust_domain="test.local", now=NOW, foreseen=foreseen, administrators=(ANNA, BERT)), **changes)


def planned(one: Finding, where: Situation) -> Effect:
    effect = plan("revoke-identity", one, where)
    assert isinstance(effect, Effect), effect
    return effect


def test_the_plan_says_what_to_do_how_to_undo_it_and_whom_it_touches():
    effect = planned(finding(), situation())
    (do,), (undo,) = effect.do, effect.undo
    assert isinstance(do, Revoke) and (do.request.kind, do.request.target, do.request.plan) == ("principal", SHOP, False)
    assert isinstance(undo, Unrevoke) and undo.of == effect.idempotency_key
    assert effect.blast_radius.principals == (SHOP,) and effect.blast_radius.grants == 3
    assert effect.approvals == 0 and effect.not_after == NOW + PLAN_MS
    assert decode(Effect, encode(effect)) == effect


def test_planning_twice_gives_the_same_key_and_another_finding_another():
    assert planned(finding(), situation()).idempotency_key == planned(finding(), situation(now=NOW + 5)).idempotency_key
    assert planned(finding(), situation()).idempotency_key != planned(finding(id="f2"), situation()).idempotency_key


@pytest.mark.parametrize(
    ("one", "where", "approvals"),
    [
        (finding(severity="critical"), situation(), 0),
        (finding(severity="medium"), situation(), 1),
        (finding(severity="low"), situation(), 1),
        (finding(subject=ANNA), situation(ANNA, callers=(ANNA,)), 1),
        (finding(), situation(administrators=(SHOP, ANNA)), 1),
        (finding(), situation(callers=(SHOP, OTHER)), 2),
        (finding(), situation(callers=(), endpoints=("vg://test.local/endpoint/x",)), 2),
        (finding(severity="low"), situation(callers=(OTHER,)), 2),
    ],
)
def test_the_wider_the_blast_and_the_weaker_the_finding_the_more_persons_must_agree(one, where, approvals):
    assert planned(one, where).approvals == approvals


@pytest.mark.parametrize(
    ("one", "where", "code"),
    [
        (finding(authenticated_basis=False), situation(), "could-be-framed"),
        (finding(status="closed"), situation(), "not-open"),
        (finding(expires_at=NOW), situation(), "not-open"),
        (finding(subject="peer:10.0.0.7"), situation("peer:10.0.0.7"), "no-identity"),
        (finding(subject="vg://test.local/endpoint/x"), situation("vg://test.local/endpoint/x"), "no-identity"),
        (finding(subject=""), situation(""), "no-identity"),
        (finding(subject="spiffe://other.local/service/prod/shop"), situation("spiffe://other.local/service/prod/shop"), "foreign"),
        (finding(subject="spiffe://test.local/system/vouchgate/control"), situation(), "not-withdrawable"),
        (finding(subject="spiffe://test.local/declared/prod/x"), situation(), "not-withdrawable"),
        (finding(subject=ANNA), situation(ANNA, administrators=(ANNA,)), "last-administrator"),
        (finding(), situation(OTHER), "not-foreseen"),
        (finding(), situation(foreseen=RevokeOutcome(planned=False, target_kind="principal", target=SHOP)), "not-foreseen"),
        (finding(), situation(foreseen=RevokeOutcome(planned=True, target_kind="digest", target=SHOP)), "not-foreseen"),
    ],
)  # fmt: skip
def test_what_is_declined(one, where, code):
    answer = plan("revoke-identity", one, where)
    assert isinstance(answer, Declined) and answer.code == code and answer.reason and answer.remedy


def test_the_plan_never_outlives_the_finding():
    assert planned(finding(expires_at=NOW + 1), situation()).not_after == NOW + 1


@given(st.lists(st.text(max_size=6), min_size=3, max_size=3), st.lists(st.text(max_size=6), min_size=3, max_size=3))
def test_different_arguments_never_share_a_key(first, second):
    assert (idempotency_key("a", 1, *first) == idempotency_key("a", 1, *second)) == (first == second)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": OTHER}, {"because": "f2"}, {"trust_domain": "other.local"}, {"action": "notify"}, {"action_version": 2}, {"do": ()},
        {"idempotency_key": "0" * 64}, {"not_after": NOW}, {"undo": (), "approvals": 0},
    ],
)  # fmt: skip
def test_a_plan_that_is_not_what_was_asked_for_is_refused(change):
    good = planned(finding(), situation())
    with pytest.raises(InvalidInput):
        check_effect(ACTION, msgspec.structs.replace(good, **change), finding(), situation())


def test_the_catalog_refuses_unknown_names():
    with pytest.raises(NotFound) as caught:
        action("revoke")
    assert "revoke-identity" in caught.value.remedy
