"""Verifying a vouch: the seven steps, one failure a case."""

from __future__ import annotations

import pytest
from evidence_world import (
    CONTENT,
    DAY,
    KEYS,
    NOW,
    ROLES,
    STRANGER,
    TD,
    TRUST_ROOT,
    artifact,
    delegation,
    endpoint,
    public,
    signed,
    trust_root,
    vouch,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.evidence.catalog import check_fits, predicates
from vouchgate.evidence.dsse import PAYLOAD_TYPE, Envelope, Signature, parse_envelope, sign, write_envelope
from vouchgate.evidence.lineage import Lineage
from vouchgate.evidence.policystatement import PolicyStatement, sign_policy, verify_policy
from vouchgate.evidence.statement import sign_vouch
from vouchgate.evidence.verify import nothing_revoked, verify
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.outcomes import Refused
from vouchgate.vocabulary.vouches import TIERS, Revocation, Subject, VerifiedVouch


def answer(envelope: bytes, *, root=TRUST_ROOT, now=NOW, known=None, revoked=nothing_revoked, zone=""):
    return verify(envelope, root, now, known=known or {}, revoked=revoked, zone=zone)


def refused(envelope: bytes, *, why: str, **more) -> Refused:
    got = answer(envelope, **more)
    assert isinstance(got, Refused), got
    assert got.why == why, got
    assert got.reason
    assert got.remedy
    return got


@pytest.mark.parametrize("predicate", sorted(predicates()))
def test_a_sound_vouch_of_every_predicate_is_evidence(predicate):
    got = answer(signed(predicate).envelope)
    assert isinstance(got, VerifiedVouch)
    assert got.vouch == signed(predicate).vouch
    assert got.trust_root_version == TRUST_ROOT.version


def test_step_1_another_trust_domain():
    foreign = Subject(name="vg://other.local/endpoint/x", digest=CONTENT)
    refused(signed(trust_domain="other.local", subjects=(foreign,)).envelope, why="unverified")


@pytest.mark.parametrize("envelope", [b"", b"{}", b"\xff", b"[]", b'{"payload":"","payloadType":"x","signatures":[]}', b"[" * 10_000])
def test_step_1_junk(envelope):
    refused(envelope, why="unverified")


def test_step_2_the_signature():
    good = parse_envelope(signed().envelope)
    stranger = sign(PAYLOAD_TYPE, good.payload, STRANGER)
    mine = good.signatures[0]
    for signatures in (
        (stranger,),
        (Signature(mine.key_id, stranger.signature),),
        (Signature(mine.key_id, mine.signature[:-1]),),
        (Signature(mine.key_id, b""),),
        (Signature(stranger.key_id, mine.signature),),
        (mine, stranger),
        (stranger, mine),
    ):
        refused(write_envelope(Envelope(PAYLOAD_TYPE, good.payload, signatures)), why="unverified")


def test_step_2_a_key_that_the_root_does_not_know():
    stranger = public(STRANGER, "scanner")
    refused(sign_vouch(vouch(issuer_key=stranger.key_id), STRANGER).envelope, why="unverified")


def test_step_2_a_statement_over_another_payload():
    one, other = parse_envelope(signed().envelope), parse_envelope(signed(outcome="fail").envelope)
    refused(write_envelope(Envelope(PAYLOAD_TYPE, one.payload, other.signatures)), why="unverified")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("predicate", sorted(predicates()))
def test_step_3_and_4_no_role_signs_what_is_anothers(role, predicate):
    """Also where the statement claims the right role and is signed by another role's key."""
    if role in predicates()[predicate].roles:
        return
    key = public(KEYS[role], role).key_id
    refused(sign_vouch(vouch(predicate, issuer_key=key, issuer_role=role), KEYS[role]).envelope, why="unverified")
    refused(sign_vouch(vouch(predicate, issuer_key=key), KEYS[role]).envelope, why="unverified")


def test_step_3_no_delegation():
    refused(signed().envelope, why="unverified", root=trust_root(delegations=[]))
    refused(signed().envelope, why="unverified", root=trust_root(delegations=[delegation("scanner", predicates=("structure",))]))


def test_step_3_zones():
    root = trust_root(delegations=[delegation("scanner", zones=("prod",))])
    assert isinstance(answer(signed().envelope, root=root, zone="prod"), VerifiedVouch)
    refused(signed().envelope, why="unverified", root=root, zone="train")
    refused(signed().envelope, why="unverified", root=root)


def test_step_3_an_expired_delegation():
    root = trust_root(delegations=[delegation("scanner", expires_at=NOW + 5)])
    assert isinstance(answer(signed().envelope, root=root, now=NOW + 4), VerifiedVouch)
    refused(signed().envelope, why="expired", root=root, now=NOW + 5)


@pytest.mark.parametrize("highest", TIERS)
@pytest.mark.parametrize("tier", TIERS)
def test_step_3_tiers(highest, tier):
    root = trust_root(delegations=[delegation("scanner", highest_tier=highest)])
    got = answer(signed(tier=tier).envelope, root=root)
    if TIERS.index(tier) < TIERS.index(highest):
        assert isinstance(got, Refused)
        assert got.why == "tier"
    else:
        assert isinstance(got, VerifiedVouch)


def test_step_3_an_expired_delegation_lends_no_tier():
    root = trust_root(delegations=[delegation("scanner", expires_at=NOW + 1), delegation("scanner", highest_tier="declared")])
    refused(signed().envelope, why="tier", root=root, now=NOW + 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"predicate_type": "nonsense"}, {"predicate_version": 2}, {"claims": {}}, {"claims": {"format": 5}}, {"claims": {"format": "onnx", "unknown": 1}},
        {"claims": {"format": "onnx", "findings": "x"}}, {"claims": {"format": "onnx", "findings": [1]}}, {"claims": {"format": "onnx", "scanned_bytes": True}},
        {"claims": {"format": "onnx", "scanned_bytes": 1.5}}, {"claims": {"format": "onnx", "severities": {"a": "b"}}}, {"claims": {"format": None}},
        {"subjects": (Subject(name=f"vg://{TD}/endpoint/x"),)},
    ],
)  # fmt: skip
def test_step_4_what_does_not_fit_the_predicate(changes):
    refused(signed(**changes).envelope, why="unverified")


def test_step_4_a_waiver_of_more_than_ninety_days():
    assert isinstance(answer(signed("waiver", expires_at=NOW + 90 * DAY).envelope), VerifiedVouch)
    refused(signed("waiver", expires_at=NOW + 90 * DAY + 1).envelope, why="unverified")


@pytest.mark.parametrize("predicate", ["posture", "attested"])
def test_step_4_what_ages_within_a_day(predicate):
    assert isinstance(answer(signed(predicate, expires_at=NOW + DAY).envelope), VerifiedVouch)
    refused(signed(predicate, expires_at=NOW + DAY + 1).envelope, why="unverified")


@pytest.mark.parametrize("control", ["", "*", "scan,structure", "Scan", "scan@", "scan@best", "waiver", "approval", "waiver@declared"])
def test_step_4_a_waiver_of_no_control(control):
    refused(signed("waiver", claims={"control": control, "reason": "r", "requester": "a", "approver": "b"}).envelope, why="unverified")


def test_step_4_a_waiver_of_two_subjects_or_that_fails():
    other = file_digest(b"another model")
    refused(signed("waiver", subjects=(artifact(), artifact(other))).envelope, why="unverified")
    refused(signed("waiver", outcome="fail").envelope, why="unverified")


def test_step_5_the_window():
    refused(signed().envelope, why="expired", now=NOW + DAY)
    assert isinstance(answer(signed().envelope, now=NOW + DAY - 1), VerifiedVouch)
    refused(signed(not_before=NOW + 5).envelope, why="unverified")
    refused(signed(issued_at=NOW + 3000).envelope, why="unverified")
    refused(signed(issued_at=NOW + 3000, not_before=0).envelope, why="unverified")


def revocation(kind: str, target: str, **more) -> Revocation:
    return Revocation(
        **(
            {"id": "r1", "trust_domain": TD, "target_kind": kind, "target": target, "reason": "x", "requested_by": "a", "made_at": NOW}
            | more
        )
    )


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("vouch", signed().vouch.id), ("key", public(KEYS["scanner"], "scanner").key_id), ("digest", CONTENT.text), ("principal", artifact().name), ("registration", artifact().name),
        ("run", artifact().name),
    ],
)  # fmt: skip
def test_step_6_a_standing_revocation_refuses_what_comes_after_it(kind, target):
    lineage = Lineage()
    lineage.revoke(revocation(kind, target))
    assert "r1" in refused(signed().envelope, why="revoked", revoked=lineage.revoked).reason
    lineage.withdraw("r1")
    assert isinstance(answer(signed().envelope, revoked=lineage.revoked), VerifiedVouch)


@pytest.mark.parametrize(
    ("kind", "target"),
    [("vouch", "0" * 64), ("key", "0" * 64), ("digest", "sha256:" + "0" * 64), ("policy", CONTENT.text), ("credential", CONTENT.text)],
)
def test_step_6_other_revocations_touch_nothing(kind, target):
    lineage = Lineage()
    lineage.revoke(revocation(kind, target))
    assert isinstance(answer(signed().envelope, revoked=lineage.revoked), VerifiedVouch)


def test_step_7_what_it_rests_on():
    support, failed = signed(), signed(outcome="fail")
    known = {one.vouch.id: one.vouch for one in (support, failed)}
    resting = signed("serves", subjects=(endpoint("x"),), rests_on=(support.vouch.id,))
    assert isinstance(answer(resting.envelope, known=known), VerifiedVouch)
    refused(resting.envelope, why="absent")
    refused(resting.envelope, why="revoked", known=known, revoked=lambda one: "r" if one.id == support.vouch.id else "")
    on_fail = {"subjects": (endpoint("x"),), "rests_on": (failed.vouch.id,)}
    refused(signed("serves", **on_fail).envelope, why="failed", known=known)
    assert isinstance(answer(signed("serves", outcome="fail", **on_fail).envelope, known=known), VerifiedVouch)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_flipping_any_byte_is_refused(position, change):
    data = bytearray(GOOD)
    data[position % len(data)] ^= change
    assert isinstance(answer(bytes(data)), Refused)


GOOD = signed().envelope


@given(st.binary(max_size=300))
def test_any_bytes_get_a_typed_answer(data):
    assert isinstance(answer(data), Refused)


def test_the_catalog_is_the_folder():
    assert set(predicates()) >= {"scan", "structure", "import", "serves", "approval"}
    for name in predicates():
        check_fits(vouch(name))


# --- signed policy versions -------------------------------------------------------------------------------------------------------

POLICY_KEY = STRANGER
POLICY_ROOT = trust_root(keys=[*TRUST_ROOT.keys, public(POLICY_KEY, "policy")])


def policy(**changes) -> PolicyStatement:
    said = {"trust_domain": TD, "version": 2, "policy_digest": "sha256:" + "0" * 64, "author": "a", "approver": "b", "signed_at": NOW}
    return PolicyStatement(**(said | changes))


def test_a_policy_version_is_read_back():
    assert verify_policy(sign_policy(policy(), POLICY_KEY), POLICY_ROOT, current_version=2) == policy()


@pytest.mark.parametrize(
    ("statement", "key", "root", "current"),
    [
        (policy(), POLICY_KEY, POLICY_ROOT, 3), (policy(), KEYS["approver"], POLICY_ROOT, 1), (policy(), POLICY_KEY, TRUST_ROOT, 1),
        (policy(trust_domain="other.local"), POLICY_KEY, POLICY_ROOT, 1),
    ],
)  # fmt: skip
def test_a_policy_that_is_older_or_not_ours_is_refused(statement, key, root, current):
    with pytest.raises(Unverified):
        verify_policy(sign_policy(statement, key), root, current_version=current)


def test_a_vouch_is_no_policy_and_a_policy_no_vouch():
    with pytest.raises(Unverified):
        verify_policy(GOOD, POLICY_ROOT, current_version=0)
    refused(sign_policy(policy(), KEYS["scanner"]), why="unverified")


@pytest.mark.parametrize("changes", [{"version": 0}, {"policy_digest": "x"}, {"author": ""}, {"approver": ""}])
def test_an_incomplete_policy_is_not_signed(changes):
    with pytest.raises(InvalidInput):
        sign_policy(policy(**changes), POLICY_KEY)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_flipping_any_byte_of_a_policy_is_refused(position, change):
    data = bytearray(GOOD_POLICY)
    data[position % len(data)] ^= change
    with pytest.raises(Unverified):
        verify_policy(bytes(data), POLICY_ROOT, current_version=0)


GOOD_POLICY = sign_policy(policy(), POLICY_KEY)
