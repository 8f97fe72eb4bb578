"""Lineage: what falls, what stays, that an undo is exact, and that a fail is not forgotten."""

from __future__ import annotations

import pytest
from evidence_world import CLAIMS, CONTENT, DAY, NOW, TD, artifact, endpoint, verified
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.evidence.lineage import Lineage
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.errors import Conflict, NotFound
from vouchgate.vocabulary.vouches import Revocation

DATA, OTHER = file_digest(b"a dataset"), file_digest(b"something else")


def revocation(kind: str, target: str, name: str = "r1", **more) -> Revocation:
    said = {"id": name, "trust_domain": TD, "target_kind": kind, "target": target, "reason": "x", "requested_by": "a", "made_at": NOW}
    return Revocation(**(said | more))


def pipeline() -> Lineage:
    """dataset scanned -> model trained from it -> model scanned -> endpoint serves the model; and a bystander."""
    lineage = Lineage()
    train = {"run": f"vg://{TD}/run/r1", "inputs": [DATA.text]}
    for index, one in enumerate(
        [
            verified("scan", id="scan-data", subjects=(artifact(DATA),)),
            verified("train", id="train", rests_on=("scan-data",), claims=train),
            verified("scan", id="scan-model"),
            verified("serves", id="serves", subjects=(endpoint("digits"),), rests_on=("scan-model",)),
            verified("approval", id="approval", subjects=(endpoint("digits"),), rests_on=("serves",)),
            verified("scan", id="bystander", subjects=(artifact(OTHER),)),
        ]
    ):
        lineage.add(one, index)
    return lineage


def names(lineage: Lineage, subject: str, now: int = NOW) -> set[str]:
    return {one.vouch_id for one in lineage.holding(subject, now)}


EVERYTHING = {"scan-data", "train", "scan-model", "serves", "approval"}


@pytest.mark.parametrize(
    ("kind", "target", "more", "falls"),
    [
        ("digest", DATA.text, {}, EVERYTHING), ("digest", DATA.text, {"cascade": "self"}, {"scan-data", "train"}), ("digest", CONTENT.text, {}, EVERYTHING - {"scan-data"}),
        ("digest", CONTENT.text, {"cascade": "self"}, EVERYTHING - {"scan-data"} - {"approval"} | {"approval"}), ("vouch", "scan-model", {}, {"scan-model", "serves", "approval"}),
        ("vouch", "scan-model", {"cascade": "self"}, {"scan-model"}), ("vouch", "train", {}, EVERYTHING - {"scan-data"}), ("vouch", "approval", {}, {"approval"}),
        ("run", f"vg://{TD}/run/r1", {}, EVERYTHING - {"scan-data"}), ("run", f"vg://{TD}/run/r1", {"cascade": "self"}, {"train"}), ("vouch", "nothing", {}, set()),
        ("digest", OTHER.text, {}, {"bystander"}), ("credential", DATA.text, {}, set()), ("policy", DATA.text, {}, set()), ("principal", f"vg://{TD}/endpoint/digits", {}, {"serves", "approval"}),
        ("principal", "spiffe://test.local/person/admin/ann", {}, set()),
    ],
)  # fmt: skip
def test_what_falls(kind, target, more, falls):
    lineage = pipeline()
    one = revocation(kind, target, **more)
    assert lineage.affected(one).vouches == falls
    assert not lineage.fallen()
    assert lineage.revoke(one).vouches == falls
    assert set(lineage.fallen()) == falls


def test_a_poisoned_dataset_reaches_the_endpoint():
    lineage = pipeline()
    affected = lineage.revoke(revocation("digest", DATA.text))
    assert f"vg://{TD}/endpoint/digits" in affected.subjects
    assert affected.digests == {DATA.text, CONTENT.text}
    assert lineage.tainted(CONTENT.text) == "r1"
    assert not names(lineage, f"vg://{TD}/endpoint/digits")
    assert not names(lineage, CONTENT.text)
    assert names(lineage, OTHER.text) == {"bystander"}


def test_a_key_falls_from_its_index_on():
    lineage = pipeline()
    key = lineage.vouches["scan-data"].issuer_key
    assert lineage.affected(revocation("key", key, as_of_index=2)).vouches == {"scan-model", "bystander", "serves", "approval"}
    assert lineage.affected(revocation("key", key, as_of_index=6)).vouches == set()
    lineage.revoke(revocation("key", key, as_of_index=6))
    lineage.add(verified("scan", id="late", subjects=(artifact(OTHER),)), 6)
    assert set(lineage.fallen()) == {"late"}


def test_what_is_added_later_falls_at_once():
    lineage = pipeline()
    lineage.revoke(revocation("digest", DATA.text))
    lineage.add(verified("validate", id="validated"), 10)
    lineage.add(verified("approval", id="again", subjects=(endpoint("other", OTHER),), rests_on=("validated",)), 11)
    made = file_digest(b"distilled")
    lineage.add(verified("scan", id="early", subjects=(artifact(made),)), 12)
    assert names(lineage, made.text) == {"early"}
    lineage.add(verified("train", id="distill", subjects=(artifact(made),), claims={"run": "x", "inputs": [CONTENT.text]}), 13)
    assert {"validated", "again", "early", "distill"} <= set(lineage.fallen())
    lineage.withdraw("r1")
    assert not lineage.fallen()
    assert not lineage.tainted(made.text)


def test_undo_of_one_leaves_the_other():
    lineage = pipeline()
    lineage.revoke(revocation("digest", DATA.text, "r1"))
    lineage.revoke(revocation("vouch", "scan-model", "r2"))
    lineage.withdraw("r1")
    assert set(lineage.fallen()) == {"scan-model", "serves", "approval"}
    lineage.withdraw("r2")
    assert not lineage.fallen()


def test_a_revocation_is_made_and_withdrawn_once():
    lineage = pipeline()
    lineage.revoke(revocation("vouch", "train"))
    with pytest.raises(Conflict):
        lineage.revoke(revocation("vouch", "serves"))
    lineage.withdraw("r1")
    with pytest.raises(Conflict):
        lineage.revoke(revocation("vouch", "train"))
    for name in ("r1", "never"):
        with pytest.raises(NotFound):
            lineage.withdraw(name)


def test_a_vouch_rests_on_what_is_there():
    with pytest.raises(NotFound):
        Lineage().add(verified(id="a", rests_on=("b",)), 0)


def test_adding_twice_changes_nothing():
    lineage = pipeline()
    before = lineage.holding(CONTENT.text, NOW)
    lineage.add(verified("scan", id="scan-model", outcome="fail"), 99)
    assert lineage.holding(CONTENT.text, NOW) == before


def test_a_copy_is_apart():
    lineage = pipeline()
    copy = lineage.copy()
    copy.revoke(revocation("digest", DATA.text))
    assert not lineage.fallen()
    assert copy.fallen()


def held(*vouches, now: int = NOW) -> set[str]:
    lineage = Lineage()
    for index, one in enumerate(vouches):
        lineage.add(one, index)
    return names(lineage, CONTENT.text, now)


def scan(name: str, outcome: str, at: int, **more):
    return verified("scan", id=name, outcome=outcome, issued_at=NOW + at, **more)


def test_passes_stand_until_they_expire():
    assert held(scan("p", "pass", 0)) == {"p"}
    assert held(scan("p", "pass", 0), now=NOW + DAY - 1) == {"p"}
    assert held(scan("p", "pass", 0), now=NOW + DAY) == set()
    assert held(scan("p", "pass", 0), now=NOW - 1) == set()


def test_a_fail_beats_what_is_not_newer():
    assert held(scan("p", "pass", 0), scan("f", "fail", 1)) == {"f"}
    assert held(scan("f", "fail", 1), scan("p", "pass", 0)) == {"f"}
    assert held(scan("p", "pass", 1), scan("f", "fail", 1)) == {"f"}
    assert held(scan("f", "fail", 0), scan("p", "pass", 1)) == {"p"}
    assert held(scan("p", "pass", 0), scan("f", "fail", 1), scan("q", "pass", 2)) == {"q"}


def test_a_fail_that_expired_still_beats():
    assert held(scan("p", "pass", 0, expires_at=NOW + 9 * DAY), scan("f", "fail", 1), now=NOW + 2 * DAY) == set()


def test_a_weaker_pass_clears_no_stronger_fail():
    assert held(scan("f", "fail", 0), scan("p", "pass", 1, tier="declared")) == {"f"}
    assert held(scan("f", "fail", 0, tier="declared"), scan("p", "pass", 1, tier="verified")) == {"p"}
    assert held(scan("f", "fail", 0), scan("p", "pass", 1, tier="declared"), scan("q", "pass", 2)) == {"p", "q"}


def test_an_inconclusive_one_neither_holds_nor_beats():
    assert held(scan("p", "pass", 0), scan("i", "inconclusive", 1)) == {"p"}
    assert held(scan("i", "inconclusive", 1)) == set()


def test_a_fail_of_another_predicate_beats_nothing():
    assert held(scan("p", "pass", 0), verified("structure", id="f", outcome="fail")) == {"p", "f"}


def test_a_revoked_fail_beats_nothing():
    lineage = Lineage()
    lineage.add(scan("p", "pass", 0), 0)
    lineage.add(scan("f", "fail", 1), 1)
    lineage.revoke(revocation("vouch", "f"))
    assert names(lineage, CONTENT.text) == {"p"}


# --- undo is exact ----------------------------------------------------------------------------------------------------------------

DIGESTS = [file_digest(bytes([n])) for n in range(5)]
KEYS = ["a" * 64, "b" * 64]


@st.composite
def histories(draw):
    """Random graph, random revocations, withdrawals at random times, in one order of steps."""
    steps, vouches, revocations, standing = [], 0, 0, []
    for _ in range(draw(st.integers(1, 22))):
        kind = draw(st.sampled_from(["add", "add", "add", "revoke", "withdraw"]))
        if kind == "withdraw" and standing:
            steps.append(("withdraw", standing.pop(draw(st.integers(0, len(standing) - 1)))))
        elif kind == "revoke":
            target_kind = draw(st.sampled_from(["vouch", "digest", "key", "run", "principal"]))
            target = {
                "vouch": f"v{draw(st.integers(0, 21))}", "digest": draw(st.sampled_from(DIGESTS)).text, "key": draw(st.sampled_from(KEYS)),
                "run": f"run{draw(st.integers(0, 2))}", "principal": f"vg://{TD}/endpoint/e{draw(st.integers(0, 2))}",
            }[target_kind]  # fmt: skip
            more = {"cascade": draw(st.sampled_from(["self", "downstream"])), "as_of_index": draw(st.integers(0, 22))}
            steps.append(("revoke", revocation(target_kind, target, f"r{revocations}", **more)))
            standing.append(f"r{revocations}")
            revocations += 1
        else:
            rests_on = draw(st.lists(st.integers(0, vouches - 1), max_size=3, unique=True)) if vouches else []
            content = draw(st.sampled_from(DIGESTS))
            subject = draw(st.sampled_from([artifact(content), endpoint(f"e{draw(st.integers(0, 2))}", content)]))
            inputs = draw(st.lists(st.sampled_from(DIGESTS), max_size=2))
            predicate = draw(st.sampled_from(["scan", "train"]))
            claims = (
                CLAIMS["scan"] if predicate == "scan" else {"run": f"run{draw(st.integers(0, 2))}", "inputs": [one.text for one in inputs]}
            )
            one = verified(predicate, id=f"v{vouches}", rests_on=tuple(f"v{n}" for n in rests_on), subjects=(subject,), claims=claims,
                           issuer_key=draw(st.sampled_from(KEYS)), outcome=draw(st.sampled_from(["pass", "fail"])), issued_at=NOW + draw(st.integers(0, 3)))  # fmt: skip
            steps.append(("add", (one, vouches)))
            vouches += 1
    return steps, draw(st.permutations(standing)) if standing else []


def play(steps, *, without=()) -> Lineage:
    lineage = Lineage()
    for kind, what in steps:
        if kind == "add":
            lineage.add(*what)
        elif kind == "revoke" and what.id not in without:
            lineage.revoke(what)
        elif kind == "withdraw" and what not in without:
            lineage.withdraw(what)
    return lineage


def state(lineage: Lineage):
    subjects = [one.text for one in DIGESTS] + [f"vg://{TD}/endpoint/e{n}" for n in range(3)]
    held_now = {subject: lineage.holding(subject, NOW) for subject in subjects}
    return lineage.fallen(), held_now, {one.text: bool(lineage.tainted(one.text)) for one in DIGESTS}, dict(lineage.revocations)


@settings(max_examples=400, deadline=None)
@given(histories())
def test_undo_gives_what_would_be_had_it_never_been_made(history):
    """However adding, revoking and withdrawing were interleaved: the same as all vouches first, then only what still stands."""
    steps, _ = history
    adds = [step for step in steps if step[0] == "add"]
    withdrawn = {what for kind, what in steps if kind == "withdraw"}
    from_scratch = play(adds + [step for step in steps if step[0] == "revoke" and step[1].id not in withdrawn])
    assert state(play(steps)) == state(from_scratch)
    assert state(play(steps)) == state(play(steps, without=withdrawn))


@settings(max_examples=150, deadline=None)
@given(histories())
def test_withdrawing_all_in_any_order_leaves_nothing(history):
    steps, order = history
    lineage = play(steps)
    for name in order:
        lineage.withdraw(name)
    assert not lineage.fallen()
    assert state(lineage) == state(play([step for step in steps if step[0] == "add"]))


@settings(max_examples=150, deadline=None)
@given(histories())
def test_a_plan_says_what_happens(history):
    steps, _ = history
    lineage = play([step for step in steps if step[0] == "add"])
    for kind, what in steps:
        if kind == "revoke":
            assert lineage.affected(what) == lineage.copy().revoke(what)


@settings(max_examples=150, deadline=None)
@given(histories())
def test_a_fallen_vouch_never_holds_and_its_supporters_fall_with_it(history):
    lineage = play(history[0])
    fallen = lineage.fallen()
    for subject in [one.text for one in DIGESTS]:
        assert not {one.vouch_id for one in lineage.holding(subject, NOW)} & set(fallen)
    for identity, one in lineage.vouches.items():
        for support in one.rests_on:
            downstream = {name for name in fallen.get(support, ()) if lineage.revocations[name].cascade == "downstream"}
            assert downstream <= set(fallen.get(identity, ()))
