"""One request that the gateway asks about: each way to a no, and what a yes rests on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from flows_world import ALICE, BOB, CHAT, DAY, DIGITS, HOUR, NIGHT, NOW, endpoint, registration, revoked, zone
from hypothesis import given, settings
from hypothesis import strategies as st
from test_facts import STEPS, WORLD, Held

from vouchgate.flows.admit_request import Admission, admit
from vouchgate.flows.changes import EndpointPut, RegistrationPut, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.policy.facts import MAX_FACT_CHARACTERS
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis

LEASE = UnixMillis(NOW + 10 * DAY)
THUMB = "ab" * 32
X509 = {"san": ALICE, "serial": "0c0ffee0", "fingerprint": THUMB}
TOKEN = {"subject": ALICE, "token_id": "jti-1", "audience": DIGITS}


def request(**changes: Any) -> Request:
    wanted = {
        "request_id": "r1", "method": "POST", "path": "/predict", "host": "h", "endpoint": DIGITS, "action": "infer", "zone": "serve",
        "peer": "10.0.0.7:4711",
    }  # fmt: skip
    return Request(**(wanted | changes))


def ask(held: Held, now: int = NOW, lease: int = LEASE, **changes: Any) -> Admission:
    return admit(request(**changes), held.facts, UnixMillis(now), lease_until=UnixMillis(lease))


def code(made: Admission) -> str:
    assert not made.allowed
    assert made.problem is not None
    assert made.decision.effect == "deny"
    assert made.problem.request_id == "r1"
    assert made.problem.decision_id == made.decision.id
    assert made.problem.remedy
    return made.problem.type.rpartition("/")[2]


@pytest.fixture(scope="module")
def world() -> Held:
    return Held(*WORLD, EndpointPut(endpoint=endpoint("open", bearer=True)))


OPEN = "vg://test.local/endpoint/open"


def test_a_caller_with_a_certificate_is_let_in(world: Held) -> None:
    made = ask(world, **X509)
    assert made.allowed
    assert made.problem is None
    assert made.decision.principal == ALICE
    assert not made.decision.residual


def test_a_path_that_no_policy_could_read_whole_is_refused(world: Held) -> None:
    assert ask(world, **X509, path="/predict?" + "x" * (MAX_FACT_CHARACTERS - 9)).allowed
    made = ask(world, **X509, path="/predict?" + "x" * (MAX_FACT_CHARACTERS - 8))
    assert (code(made), made.problem.status) == ("path-too-long", 414)


@pytest.mark.parametrize(
    ("changes", "wanted", "status"),
    [
        ({}, "anonymous", 401),
        (X509 | {"endpoint": "vg://test.local/endpoint/nowhere"}, "no-route", 404),
        (TOKEN, "bearer-not-listed", 401),
        (TOKEN | {"endpoint": OPEN, "confirmation": "AA"}, "token-unread", 401),
        (X509 | TOKEN | {"subject": BOB}, "two-identities", 403),
        (X509 | TOKEN | {"beyond": True}, "token-unread", 401),
        (X509 | TOKEN | {"confirmation": "!"}, "token-unread", 401),
        (X509 | {"actor": BOB}, "token-unread", 401),
        (X509 | {"san": f"{ALICE},{BOB}"}, "several-ids", 403),
        (X509 | {"san": "spiffe://partner.example/service/serve/alice"}, "not-ours", 403),
        (X509 | {"san": ALICE + "/"}, "not-ours", 403),
        (X509 | {"san": "spiffe://test.local/service/serve/stranger"}, "denied", 403),
        (X509 | {"action": "describe"}, "denied", 200),
        (X509 | {"action": "train"}, "denied", 403),
        (X509 | {"endpoint": CHAT, "model": "unknown"}, "unknown-model", 403),
        (X509 | {"endpoint": CHAT, "model": ""}, "unknown-model", 403),
        (X509 | {"endpoint": CHAT, "model": DIGITS}, "unknown-model", 403),
        (X509 | {"endpoint": OPEN}, "evidence-missing", 403),
        (X509 | TOKEN | {"audience": ""}, "jwt-audience", 401),
        (X509 | TOKEN | {"audience": CHAT}, "jwt-audience", 401),
        (X509 | TOKEN | {"audience": f'["{DIGITS}"]'}, "jwt-audience", 401),
        (TOKEN | {"endpoint": OPEN, "audience": f'["{OPEN}","{CHAT}"]'}, "jwt-audience", 401),
    ],
    ids=range(22),
)
def test_each_way_to_a_no(changes: dict[str, Any], wanted: str, status: int, world: Held) -> None:
    made = ask(world, **changes)
    if status == 200:
        assert made.allowed
        return
    assert code(made) == wanted
    assert made.problem is not None
    assert made.problem.status == status


@pytest.mark.parametrize("lease", [NOW, NOW - 1, 0])
def test_without_word_from_the_control_plane_nothing_is_let_in(lease: int, world: Held) -> None:
    made = ask(world, lease=lease, **X509)
    assert code(made) == "lease-expired"
    assert made.problem is not None
    assert made.problem.status == 503


def test_before_there_is_a_policy_nothing_is_let_in() -> None:
    held = Held(*WORLD)
    held.facts.policies = None
    assert code(ask(held, **X509)) == "lease-expired"
    assert code(admit(request(**X509), Facts("test.local", "x"), NOW, lease_until=LEASE)) == "lease-expired"


@pytest.mark.parametrize(
    ("kind", "target", "changes"),
    [
        ("principal", ALICE, X509), ("registration", ALICE, X509), ("credential", "0c0ffee0", X509), ("credential", "jti-1", X509 | TOKEN),
    ],
    ids=range(4),
)  # fmt: skip
@pytest.mark.parametrize("observing", [False, True])
def test_a_revoked_caller_or_credential_is_refused_in_either_mode(kind: str, target: str, changes: dict[str, Any], observing: bool) -> None:
    held = Held(*WORLD, *([STEPS["zone in observe"]] if observing else []))
    assert ask(held, **changes).allowed
    held.put(revoked(kind, target))
    made = ask(held, **changes)
    assert code(made) == "revoked"
    assert made.decision.determining == ("revocation:r1",)
    held.put(revoked(kind, target, withdrawn="w"))
    assert ask(held, **changes).allowed


@pytest.mark.parametrize(("hour", "allowed"), [(21, False), (22, True), (23, True), (0, True), (5, True), (6, False), (12, False)])
def test_a_rule_on_the_hour_is_decided_on_each_request(hour: int, allowed: bool) -> None:
    held = Held(*WORLD)
    at = NOW - NOW % DAY + hour * HOUR
    assert ask(held, now=at if at >= NOW else at + DAY, san=NIGHT, serial="1", fingerprint=THUMB).allowed is allowed
    standing = held.facts.standing((DIGITS, NIGHT), NOW)
    assert [one.residual for one in standing] == [True]


@pytest.mark.parametrize("peer", ["10.0.0.7:1", "[::1]:99", "", "@unix", "999.1.1.1:2", "1.2.3.4.5:1", "[zz::]:1", "a:b:c"])
def test_whatever_the_peer_is_called_there_is_an_answer(peer: str, world: Held) -> None:
    try:
        made = ask(world, peer=peer, **X509)
    except InvalidInput:
        return
    assert made.allowed


def test_observe_lets_a_denied_caller_pass_and_says_what_enforcing_would_do() -> None:
    held = Held(*WORLD, STEPS["zone in observe"], RegistrationPut(registration=registration(groups=())))
    made = ask(held, **X509)
    assert made.allowed
    assert (made.decision.mode, made.decision.would_be) == ("observe", "deny")
    assert code(ask(held)) == "anonymous", "not for who proves nothing"
    held.put(STEPS["revoke digestd"])
    assert not ask(held, **X509).allowed, "not over refused evidence"


def test_observe_of_the_zone_in_front_counts_not_that_of_the_model_behind() -> None:
    held = Held(
        *WORLD, RegistrationPut(registration=registration(groups=())), ZonePut(zone=zone("lab", mode="observe", observe_until=NOW + HOUR))
    )
    held.put(EndpointPut(endpoint=msgspec.structs.replace(held.facts.endpoints[DIGITS], zone="lab", model_digest="", digest_tier="")))
    assert not ask(held, endpoint=CHAT, model="d", **X509).allowed


def test_the_model_that_the_body_names_is_what_is_decided_on(world: Held) -> None:
    made = ask(world, endpoint=CHAT, model="d", **X509)
    assert made.allowed
    assert made.decision.resource == DIGITS


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(st.sampled_from(["", ALICE, BOB, THUMB, "AA", DIGITS, CHAT, OPEN, "d", "infer", "x,y"]), st.text(max_size=20))
            for name in (
                "san",
                "serial",
                "fingerprint",
                "subject",
                "token_id",
                "confirmation",
                "actor",
                "model",
                "action",
                "endpoint",
                "peer",
                "path",
                "method",
            )
        },
    )
)
def test_only_alice_or_bob_with_an_identity_of_their_own_is_ever_let_in(world: Held, changes: dict[str, Any]) -> None:
    try:
        made = ask(world, **changes)
    except InvalidInput:
        return
    if made.allowed:
        assert made.decision.principal in {changes.get("san"), changes.get("subject")} & {ALICE, BOB}
        assert not changes.get("actor")
        assert made.decision.effect == made.decision.would_be == "allow"
    else:
        assert code(made)
