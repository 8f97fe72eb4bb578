"""The facts: live and replayed they are the same, nothing unsigned is believed, and `touched` misses no cell."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from flows_world import (
    ALICE,
    BOB,
    CHAT,
    DAY,
    DIGITS,
    FINGERPRINT,
    HOUR,
    KEYS,
    MODEL,
    NIGHT,
    NOW,
    OTHER_MODEL,
    ROOTS,
    SIGNED_ROOT,
    SPINE,
    TD,
    TRUST_ROOT,
    about,
    endpoint,
    make_world,
    registration,
    revoked,
    running,
    served,
    serving,
    vouched,
    zone,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.evidence.policystatement import PolicyStatement, sign_policy
from vouchgate.flows import start
from vouchgate.flows.changes import (
    Change,
    EndpointPut,
    EndpointRemoved,
    KeysPublished,
    PolicyActivated,
    RegistrationPut,
    RiskSet,
    SettingPut,
    TrustRootAdopted,
    VouchAdded,
    ZonePut,
)
from vouchgate.flows.facts import Facts, compile_sources, sources_digest
from vouchgate.flows.initialise import first_trust_root, make_root_keys, next_trust_root, sign_with
from vouchgate.flows.sequence import Sequenced
from vouchgate.flows.sign import public_keys
from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.policy.world import MAX_PARENTS
from vouchgate.vocabulary.decisions import Decision, Risk
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, Unavailable, Unverified, VouchgateError
from vouchgate.vocabulary.names import PrincipalId, resource
from vouchgate.vocabulary.trust import SignedTrustRoot
from vouchgate.vocabulary.vouches import UnixMillis


@pytest.fixture(autouse=True, scope="module")
def compiled_once() -> Iterator[None]:
    """The same few policies in hundreds of examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
        yield


def policy(version: int = 1, sources: Sequence[tuple[str, str]] = SPINE, key: str = "policy", **changes: Any) -> PolicyActivated:
    digest = sources_digest(sources)
    statement = PolicyStatement(trust_domain=TD, version=version, policy_digest=digest, author="a", approver="b", signed_at=NOW)
    wanted = {
        "version": version, "sources": tuple(sources), "digest": digest, "envelope": sign_policy(statement, KEYS.ed25519[key]),
        "author": "a", "approver": "b", "applied_at": NOW,
    }  # fmt: skip
    return PolicyActivated(**(wanted | changes))


BUNDLE = write_jwks(make_bundle(TD, x509_authorities=(KEYS.ca_certificate,), jwt_spkis=(), sequence=1))


class Held:
    """Facts beside what a store would hold of them."""

    def __init__(self, *changes: Change) -> None:
        self.facts = Facts(TD, FINGERPRINT)
        self.records: dict[tuple[str, str], tuple[Change, int]] = {}
        self.epoch = self.index = 0
        for change in (TrustRootAdopted(signed=SIGNED_ROOT), KeysPublished(bundle=BUNDLE, sequence=1), policy(), *changes):
            self.put(change)

    def put(self, change: Change, now: int = NOW) -> bool:
        """Whether it was taken."""
        from vouchgate.flows.changes import record_of

        try:
            self.facts.check(change)
        except VouchgateError:
            return False
        self.epoch, self.index = self.epoch + 1, self.index + 1
        self.facts.apply(Sequenced(change=change, epoch=self.epoch, log_index=self.index), UnixMillis(now))
        kept = msgspec.structs.replace(change, log_index=self.index) if isinstance(change, VouchAdded) else change
        self.records[record_of(change)] = (kept, self.index)
        return True

    def replayed(self, now: int = NOW) -> Facts:
        """Another process's facts, from the records as a restart reads them."""

        class Store:
            def scan(_, kind: str, *, after: str = "", limit: int = 1000, **__: Any) -> list[Any]:
                keys = sorted(key for of, key in self.records if of == kind and key > after)
                return [
                    msgspec.defstruct("Record", ["key", "value"])(key, msgspec.json.encode(self.records[kind, key][0]))
                    for key in keys[:limit]
                ]

            def epoch(_) -> int:
                return self.epoch

        facts = Facts(TD, FINGERPRINT)
        start.replay(Store(), facts, UnixMillis(now))  # type: ignore[arg-type]
        return facts


def decisions(facts: Facts, now: int = NOW) -> dict[tuple[Any, ...], Decision]:
    """Every cell's decisions without what a change of epoch or time alone alters."""
    facts.advance(UnixMillis(now))
    return {
        (cell, one.action, one.resource): msgspec.structs.replace(one, id="", evidence_epoch=0, facts_digest="")
        for cell in facts.all_cells()
        for one in facts.standing(cell, UnixMillis(now))
    }


SCAN_FAIL = vouched("scan", [about()], outcome="fail", issued_at=NOW + 5, expires_at=NOW + HOUR)
SCAN, STRUCTURE, SERVES = vouched("scan", [about()]), vouched("structure", [about()]), vouched("serves", [served()])
OTHER = [
    vouched("scan", [about(OTHER_MODEL)]),
    vouched("structure", [about(OTHER_MODEL)]),
    vouched("serves", [served("chat-model", OTHER_MODEL)]),
]
IMPORT = vouched("import", [about()], rests_on=(SCAN.id, STRUCTURE.id))
MOVED = vouched("serves", [served("digits", OTHER_MODEL)], issued_at=NOW + 9)
ARTIFACT = resource(TD, "artifact", MODEL.text)
CHAT_MODEL = resource(TD, "endpoint", "chat-model")
WORLD: list[Change] = [
    ZonePut(zone=zone()), ZonePut(zone=zone("lab", mode="observe", observe_until=NOW + HOUR)),
    EndpointPut(endpoint=endpoint()), EndpointPut(endpoint=endpoint("chat-model", routes=())),
    EndpointPut(endpoint=endpoint("chat", model_in_body=True, models={"m": CHAT_MODEL, "d": DIGITS})),
    RegistrationPut(registration=registration()), RegistrationPut(registration=registration(BOB)),
    RegistrationPut(registration=registration(NIGHT, groups=("batch-callers",))),
    SCAN, STRUCTURE, SERVES, *OTHER, IMPORT,
]  # fmt: skip
STEPS: dict[str, Change] = {
    "scan": SCAN, "structure": STRUCTURE, "serves": SERVES, "import": IMPORT, "scan fails": SCAN_FAIL, "another model": MOVED,
    **{f"other {number}": one for number, one in enumerate(OTHER)},
    "unsigned": VouchAdded(id="x" * 64, envelope=b"{}"),
    "zone": ZonePut(zone=zone()), "zone in observe": ZonePut(zone=zone(mode="observe", observe_until=NOW + HOUR)),
    "lab": ZonePut(zone=zone("lab", mode="observe", observe_until=NOW + HOUR)),
    "endpoint": EndpointPut(endpoint=endpoint()), "endpoint in lab": EndpointPut(endpoint=endpoint(zone="lab")),
    "chat model": EndpointPut(endpoint=endpoint("chat-model", routes=())), "endpoint gone": EndpointRemoved(id=DIGITS),
    "chat": EndpointPut(endpoint=endpoint("chat", model_in_body=True, models={"m": CHAT_MODEL, "d": DIGITS})),
    "chat without": EndpointPut(endpoint=endpoint("chat", model_in_body=True, models={"m": CHAT_MODEL})),
    "alice": RegistrationPut(registration=registration()), "alice loses": RegistrationPut(registration=registration(groups=())),
    "bob": RegistrationPut(registration=registration(BOB)), "night": RegistrationPut(registration=registration(NIGHT, groups=("batch-callers",))),
    "alice at risk": RiskSet(subject=ALICE, risk=Risk(value=70, reasons=("r",))), "alice calm": RiskSet(subject=ALICE, risk=Risk()),
    "digits at risk": RiskSet(subject=DIGITS, risk=Risk(value=99)), "model at risk": RiskSet(subject=CHAT_MODEL, risk=Risk(value=61)),
    "policy 2": policy(2), "policy 3": policy(3, [("none.cedar", "")]),
    **{
        f"{verb} {kind}{cascade[0]}": revoked(kind, target, identity=f"{kind}{cascade}", withdrawn="w" if verb == "undo" else "", cascade=cascade)
        for kind, target in [
            ("principal", ALICE), ("registration", BOB), ("digest", MODEL.text), ("vouch", SCAN.id), ("vouch ", SERVES.id),
            ("key", ""), ("run", "r"), ("credential", "c1"), ("policy", "p"),
        ]
        for kind in [kind.strip()]
        for target in [target or __import__("flows_world").TRUST_ROOT.delegations[0].key_id]
        for verb in ("revoke", "undo")
        for cascade in ("downstream", "self")
    },
}  # fmt: skip
SEQUENCES = st.lists(st.sampled_from(sorted(STEPS)), max_size=25)


@settings(max_examples=80, deadline=None)
@given(SEQUENCES, st.sampled_from([0, HOUR, DAY]), st.booleans())
def test_live_and_replayed_facts_decide_the_same(steps: list[str], later: int, whole: bool) -> None:
    held = Held(*(WORLD if whole else ()))
    for step in steps:
        held.put(STEPS[step])
    now = NOW + later
    again = held.replayed(now)
    held.facts.advance(UnixMillis(now))
    assert again.epoch == held.facts.epoch
    assert again.endpoints == held.facts.endpoints
    assert decisions(again, now) == decisions(held.facts, now)
    assert again.lineage.fallen() == held.facts.lineage.fallen()
    assert {one.id for one in again.standing_revocations()} == {one.id for one in held.facts.standing_revocations()}


@settings(max_examples=200, deadline=None)
@given(SEQUENCES, st.sampled_from(sorted(STEPS)), st.booleans())
def test_every_cell_whose_decision_changes_is_touched(steps: list[str], last: str, whole: bool) -> None:
    held = Held(*(WORLD if whole else ()))
    for step in steps:
        held.put(STEPS[step])
    before = decisions(held.facts)
    if not held.put(STEPS[last]):
        return
    after = decisions(held.facts)
    changed = {key[0] for key in after if before.get(key) != after[key]}
    touched = set(held.facts.cells(held.facts.touched(STEPS[last])))
    assert changed <= touched


@settings(max_examples=60, deadline=None)
@given(SEQUENCES, st.sampled_from([one for one in sorted(STEPS) if one.startswith("revoke ")]), SEQUENCES)
def test_a_revocation_and_its_undo_leave_what_would_be_without_either(before: list[str], which: str, between: list[str]) -> None:
    undo = "undo" + which[len("revoke") :]
    kinds = {which, undo}
    with_it, without = Held(*WORLD), Held(*WORLD)
    for step in (*(one for one in before if one not in kinds), which, *(one for one in between if one not in kinds), undo):
        with_it.put(STEPS[step])
        if step not in kinds:
            without.put(STEPS[step])
    assert decisions(with_it.facts) == decisions(without.facts)


# --- what is not believed -----------------------------------------------------------------------------------------------------------


def test_a_vouch_with_any_byte_flipped_is_left_out() -> None:
    held = Held(*WORLD[:8], SCAN, STRUCTURE)
    for at in range(0, len(SERVES.envelope), 7):
        envelope = bytearray(SERVES.envelope)
        envelope[at] ^= 1
        held.put(VouchAdded(id=f"{at}", envelope=bytes(envelope)))
    assert held.facts.refused_vouches > 50
    assert not held.facts.endpoints[DIGITS].model_digest
    assert all(one.would_be == "deny" for one in decisions(held.facts).values())


def test_a_vouch_of_a_key_in_the_wrong_role_is_left_out() -> None:
    from vouchgate.evidence.dsse import spki_of
    from vouchgate.vocabulary.trust import key_id

    forged = vouched("serves", [served()], by="scanner", issuer_role="scanner", issuer_key=key_id(spki_of(KEYS.ed25519["scanner"])))
    held = Held(*WORLD[:8], forged)
    assert held.facts.refused_vouches == 1


def test_a_vouch_that_rests_on_what_is_not_known_is_left_out() -> None:
    held = Held(IMPORT)
    assert (held.facts.refused_vouches, dict(held.facts.lineage.vouches)) == (1, {})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (policy(2, digest="0" * 64), Unverified),
        (policy(2, sources=SPINE, envelope=policy(3).envelope), Unverified),
        (policy(2, key="log"), Unverified),
        (msgspec.structs.replace(policy(2), sources=(("evil.cedar", "permit(principal, action, resource);"),)), Unverified),
        (policy(1), Conflict),
        (policy(2, envelope=b"{}"), Unverified),
    ],
    ids=["digest", "version", "key", "text", "older", "garbage"],
)
def test_a_policy_that_is_not_what_was_signed_is_refused_before_and_when_it_is_applied(change: PolicyActivated, error: type) -> None:
    held = Held()
    with pytest.raises(error):
        held.facts.check(change)
    if error is not Conflict:
        with pytest.raises(error):
            held.facts.apply(Sequenced(change=change, epoch=9, log_index=9), NOW)
    assert held.facts.policy is not None
    assert held.facts.policy.version == 1


def roots() -> dict[str, SignedTrustRoot]:
    stranger = make_root_keys(1)
    foreign = first_trust_root(TD, root_keys=[stranger[0].public], threshold=1, signer_keys=public_keys(KEYS), now=NOW)
    expired = next_trust_root(TRUST_ROOT, keys=public_keys(KEYS), now=UnixMillis(NOW - 400 * DAY))
    same = first_trust_root(TD, root_keys=[ROOTS[0].public], threshold=1, signer_keys=public_keys(KEYS), now=UnixMillis(NOW - 2 * DAY))
    return {
        "foreign": sign_with(foreign, [stranger[0].pem]),
        "expired": sign_with(expired, [ROOTS[0].pem]),
        "same version, other bytes": sign_with(same, [ROOTS[0].pem]),
        "unsigned": SignedTrustRoot(payload=SIGNED_ROOT.payload, signatures={}),
        "tampered": SignedTrustRoot(payload=SIGNED_ROOT.payload.replace(b"scan", b"scam"), signatures=SIGNED_ROOT.signatures),
        "garbage": SignedTrustRoot(payload=b"{", signatures={}),
    }


@pytest.mark.parametrize("which", ["foreign", "expired", "same version, other bytes", "unsigned", "tampered", "garbage"])
def test_a_root_that_does_not_hold_is_refused_before_it_is_durable(which: str) -> None:
    held = Held(*WORLD)
    change = TrustRootAdopted(signed=roots()[which])
    with pytest.raises((Unverified, InvalidInput)):
        held.facts.check(change)
    assert held.facts.signed_root == SIGNED_ROOT


def test_a_root_that_expired_is_replayed_so_that_its_successor_can_follow() -> None:
    held, later = Held(*WORLD), NOW + 400 * DAY
    again = held.replayed(later)
    assert again.trust_root == TRUST_ROOT
    successor = sign_with(next_trust_root(TRUST_ROOT, keys=public_keys(KEYS), now=UnixMillis(later)), [ROOTS[0].pem])
    again.apply(Sequenced(change=TrustRootAdopted(signed=successor), epoch=99, log_index=99), UnixMillis(later))
    assert again.trust_root is not None
    assert again.trust_root.version == 2


def test_a_start_with_an_expired_root_and_no_successor_stops() -> None:
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            world.clock.at = NOW + 400 * DAY
            with pytest.raises(Unverified, match="expired"):
                await start.bring_in(world.context, msgspec.json.encode(SIGNED_ROOT), SPINE, "")

    asyncio.run(go())


def test_keys_that_cannot_be_read_are_refused_before_they_are_durable() -> None:
    with pytest.raises(InvalidInput):
        Held().facts.check(KeysPublished(bundle=b"{}", sequence=2))


def test_an_expired_fail_goes_on_beating_an_older_pass_after_a_replay() -> None:
    held = Held(*WORLD, SCAN_FAIL)
    for facts in (held.facts, held.replayed(), held.replayed(NOW + 2 * HOUR)):
        facts.advance(UnixMillis(NOW + 2 * HOUR))
        made = facts.decide(_caller(facts), "infer", DIGITS, UnixMillis(NOW + 2 * HOUR))
        assert made.would_be == "deny"


def _caller(facts: Facts, name: str = ALICE) -> Any:
    from vouchgate.identity.verify import registered

    return registered(facts.registrations[PrincipalId(name)], UnixMillis(NOW + 2 * HOUR))


def test_vouches_are_replayed_in_log_order_not_by_their_ids() -> None:
    """An import rests on two others; whatever their hashes are, a restart must find them first."""
    for number in range(6):
        base = vouched("scan", [about()], issued_at=NOW - number)
        top = vouched("import", [about()], rests_on=(base.id,), issued_at=NOW - number)
        held = Held(base, top)
        assert set(held.replayed().lineage.vouches) == {base.id, top.id}


def test_a_keys_revocation_keeps_what_was_logged_before_it_also_after_a_replay() -> None:
    held = Held(*WORLD[:8], SCAN, STRUCTURE, SERVES)
    at = held.index + 1
    later = vouched("scan", [about(OTHER_MODEL)])
    held.put(later)
    held.put(revoked("key", key_of(SCAN, held), as_of_index=at))
    for facts in (held.facts, held.replayed()):
        assert set(facts.lineage.fallen()) == {later.id}


def key_of(change: VouchAdded, held: Held) -> str:
    return held.facts.lineage.vouches[change.id].issuer_key


# --- single rules ---------------------------------------------------------------------------------------------------------------------


def test_nothing_is_decided_before_a_policy_is_there() -> None:
    facts = Facts(TD, FINGERPRINT)
    facts.apply(Sequenced(change=RegistrationPut(registration=registration()), epoch=1, log_index=0), NOW)
    with pytest.raises(Unavailable):
        facts.decide(_caller(facts), "infer", DIGITS, NOW)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (revoked("principal", ALICE, withdrawn="w"), NotFound),
        (EndpointPut(endpoint=endpoint(zone="nowhere")), NotFound),
    ],
)
def test_what_contradicts_the_facts_is_refused(change: Change, error: type) -> None:
    with pytest.raises(error):
        Held().facts.check(change)


def test_a_revocation_is_made_once_and_withdrawn_once() -> None:
    held = Held(*WORLD)
    assert held.put(revoked("principal", ALICE))
    assert not held.put(revoked("principal", ALICE))
    assert held.put(revoked("principal", ALICE, withdrawn="w"))
    assert not held.put(revoked("principal", ALICE, withdrawn="w"))
    assert not held.put(revoked("principal", ALICE))


def test_a_vouch_is_added_once_so_that_what_rests_on_it_survives_a_restart() -> None:
    held = Held(SCAN, STRUCTURE, IMPORT)
    assert not held.put(SCAN)
    assert set(held.replayed().lineage.vouches) == {SCAN.id, STRUCTURE.id, IMPORT.id}


def test_the_bootstrap_token_is_used_once() -> None:
    held = Held()
    assert held.put(SettingPut(key="bootstrap", value="hash 1"))
    assert held.put(SettingPut(key="bootstrap", value=""))
    assert not held.put(SettingPut(key="bootstrap", value=""))
    assert not held.put(SettingPut(key="bootstrap", value="hash 2"))
    assert held.replayed().settings["bootstrap"] == ""


@pytest.mark.parametrize("kind", ["principal", "registration"])
def test_no_policy_lets_a_revoked_caller_through_not_even_in_observe(kind: str) -> None:
    held = Held(*WORLD, STEPS["zone in observe"], revoked(kind, ALICE))
    made = held.facts.decide(_caller(held.facts), "infer", DIGITS, NOW)
    assert (made.effect, made.would_be, made.residual, made.determining) == ("deny", "deny", False, ("revocation:r1",))
    assert held.facts.decide(_caller(held.facts, BOB), "infer", DIGITS, NOW).effect == "allow"


def test_a_revoked_credential_is_refused_and_another_of_the_same_caller_is_not() -> None:
    held = Held(*WORLD, revoked("credential", "lost"))
    caller = _caller(held.facts)
    assert held.facts.decide(msgspec.structs.replace(caller, credential_id="lost"), "infer", DIGITS, NOW).effect == "deny"
    assert held.facts.decide(msgspec.structs.replace(caller, credential_id="new"), "infer", DIGITS, NOW).effect == "allow"


def test_two_revocations_of_one_target_both_must_be_undone() -> None:
    held = Held(*WORLD, revoked("principal", ALICE), revoked("principal", ALICE, identity="r2"))
    held.put(revoked("principal", ALICE, withdrawn="w"))
    assert held.facts.decide(_caller(held.facts), "infer", DIGITS, NOW).determining == ("revocation:r2",)
    held.put(revoked("principal", ALICE, identity="r2", withdrawn="w"))
    assert held.facts.decide(_caller(held.facts), "infer", DIGITS, NOW).effect == "allow"


def test_observe_ends_by_itself() -> None:
    held = Held(*WORLD, STEPS["zone in observe"])
    assert held.facts.mode_of("serve", NOW) == "observe"
    assert held.facts.mode_of("serve", UnixMillis(NOW + HOUR)) == "enforce"
    assert held.facts.mode_of("nowhere", NOW) == "enforce"


def test_the_newest_serving_vouch_says_what_is_served() -> None:
    held = Held(*WORLD)
    assert held.facts.endpoints[DIGITS].model_digest == MODEL.text
    held.put(MOVED)
    assert held.facts.endpoints[DIGITS].model_digest == OTHER_MODEL.text
    held.put(revoked("vouch", MOVED.id))
    assert held.facts.endpoints[DIGITS].model_digest == MODEL.text
    assert held.facts.endpoints[CHAT].model_digest == ""


def test_the_worker_decides_as_the_control_plane_does() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world, registration(), registration(BOB))
            for number, step in enumerate(("scan fails", "alice at risk", "digits at risk", "policy 2", "zone in observe")):
                change = STEPS[step]
                if isinstance(change, PolicyActivated):
                    continue
                await world.put(change)
                await world.settled()
                assert world.replica.facts.epoch == world.facts.epoch, number
                assert decisions(world.replica.facts) == decisions(world.facts)

    asyncio.run(go())


def test_no_registration_is_committed_that_the_policy_world_cannot_hold() -> None:
    """Whoever it comes from: a registrar, a provider's claims, the settings."""
    held = Held()
    most = registration(ALICE, tuple(f"g{number}" for number in range(MAX_PARENTS - 1)))
    held.facts.check(RegistrationPut(registration=most))
    held.facts.apply(Sequenced(change=RegistrationPut(registration=most), epoch=9, log_index=9), NOW)
    with pytest.raises(InvalidInput, match="groups"):
        held.facts.check(RegistrationPut(registration=registration(ALICE, (*most.groups, "one-more"))))
