"""Requests whose token says more than the plain claims: each way to a no, and what a yes rests on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from delegation_world import AGENT, BUNDLE, DPOP_KEY, JKT, ORIGINS, OTHER_KEY, PERSON, START, TOOLER, b64, proof, token
from flows_world import ALICE, BOB, CHAT, DIGITS, MODEL, NOW, TD, endpoint, registration, revoked, zone
from test_admit_request import LEASE, THUMB, X509, code, request
from test_facts import WORLD, Held

from vouchgate.flows.admit_request import Admission, admit
from vouchgate.flows.changes import CredentialIssued, EndpointPut, KeysPublished, RegistrationPut, RunPut, ZonePut
from vouchgate.flows.delegation import Proofs
from vouchgate.identity.dpop import MAX_SEEN, Seen
from vouchgate.vocabulary.names import TrustDomain, resource
from vouchgate.vocabulary.principals import Binding, Selector
from vouchgate.vocabulary.runs import Run, inputs_digest
from vouchgate.vocabulary.vouches import UnixMillis

OPEN = "vg://test.local/endpoint/open"
MINE = {"san": AGENT, "serial": "a6e27", "fingerprint": THUMB}
RUN = Run(
    id="run-0123456789abcdef", trust_domain=TrustDomain(TD), principal=ALICE, zone="serve", stage="train", inputs=(MODEL.text,),
    started_at=UnixMillis(NOW - 1000), not_after=UnixMillis(NOW + 600_000),
)  # fmt: skip
BOUND = Binding(run=RUN.id, zone="serve", stage="train", inputs=inputs_digest(RUN.inputs))


@pytest.fixture
def world() -> Held:
    return Held(
        KeysPublished(bundle=BUNDLE, sequence=2),
        *WORLD,
        EndpointPut(endpoint=endpoint(bearer=True)),
        RegistrationPut(registration=registration(PERSON)),
        RegistrationPut(registration=registration(AGENT, groups=("callers", "agents"))),
        RegistrationPut(registration=registration(TOOLER, groups=("agents",))),
        RunPut(run=RUN),
    )


@pytest.fixture
def proofs() -> Proofs:
    return Proofs(Seen(START), ORIGINS)


def ask(held: Held, text: str, proofs: Proofs | None = None, *, subject: str = ALICE, jti: str = "token-id-1", **changes: Any) -> Admission:
    """The gateway asks about a token: its own reading of it, and the header."""
    scheme = "DPoP" if "dpop" in changes else "Bearer"
    now = UnixMillis(changes.pop("now", NOW))
    said = {"subject": subject, "token_id": jti, "beyond": True, "authorization": f"{scheme} {text}", "host": "localhost"}
    return admit(request(**(said | changes)), held.facts, now, lease_until=LEASE, proofs=proofs)


def test_an_agent_acts_for_somebody_by_a_token_that_is_bound_to_its_certificate(world: Held) -> None:
    made = ask(world, token(ALICE, AGENT, x5t=THUMB), **MINE)
    assert made.allowed, made
    assert made.decision.principal == ALICE
    assert made.decision.actors == (AGENT,)
    assert len(made.decision.determining) >= 1


def test_an_agent_acts_for_somebody_by_a_token_that_is_bound_to_a_key(world: Held, proofs: Proofs) -> None:
    text = token(ALICE, AGENT, jkt=JKT)
    assert ask(world, text, proofs, dpop=proof(text)).allowed
    assert ask(world, text, proofs, dpop=proof(text)).allowed, "each request has a proof of its own"


@pytest.mark.parametrize(
    ("text", "changes", "wanted"),
    [
        (token(ALICE, AGENT, x5t=THUMB), {}, "jwt-unbound"),
        (token(ALICE, AGENT, x5t="cd" * 32), MINE, "jwt-bound-elsewhere"),
        (token(ALICE, AGENT), MINE | {"san": BOB}, "two-identities"),
        (token(ALICE, AGENT), MINE | {"san": ALICE}, "two-identities"),
        (token(ALICE, AGENT, jkt=JKT), {}, "dpop-unbound"),
        (token(ALICE, AGENT, jkt=JKT), MINE, "dpop-unbound"),
        (token(ALICE, AGENT, audience=CHAT, x5t=THUMB), MINE, "jwt-audience"),
        (token(ALICE, AGENT, audience=OPEN, x5t=THUMB), MINE, "jwt-audience"),
        (token(ALICE, AGENT, x5t=THUMB, now=NOW - 301_000), MINE, "jwt-expired"),
        (token(ALICE, AGENT, x5t=THUMB, now=NOW + 2_000), MINE, "jwt-not-yet"),
        (token(ALICE, AGENT, x5t=THUMB), MINE | {"subject": BOB}, "token-differs"),
        (token(ALICE, AGENT, x5t=THUMB), MINE | {"token_id": "other-token"}, "token-differs"),
        (token(ALICE, AGENT, x5t=THUMB), MINE | {"authorization": ""}, "token-unread"),
        (token(ALICE, AGENT, x5t=THUMB), MINE | {"authorization": "Basic eA=="}, "token-unread"),
        (token(ALICE, AGENT, x5t=THUMB) + "A", MINE, "jwt-signature"),
        (token(ALICE, AGENT, x5t=THUMB, scopes=("describe:digits",)), MINE, "insufficient-scope"),
        (token(ALICE, AGENT, x5t=THUMB, scopes=("infer:chat",)), MINE, "insufficient-scope"),
        (token(ALICE, TOOLER, x5t=THUMB), MINE | {"san": TOOLER}, "denied"),
        (token(ALICE, AGENT, TOOLER, x5t=THUMB), MINE, "denied"),
        (token(f"spiffe://{TD}/person/people/nobody", AGENT, x5t=THUMB), MINE | {"subject": f"spiffe://{TD}/person/people/nobody"}, "denied"),
        (token(ALICE, f"spiffe://{TD}/agent/agents/unknown", x5t=THUMB), MINE | {"san": AGENT}, "denied"),
        (token(ALICE, scopes=None, binding=Binding(run="run-ffffffffffffffff")), {}, "run-ended"),
        (token(ALICE, scopes=None, binding=Binding(run=RUN.id)), {}, "run-differs"),
        (token(PERSON, scopes=None, binding=BOUND), {"subject": PERSON}, "run-differs"),
    ],
    ids=range(24),
)  # fmt: skip
def test_each_way_to_a_no(text: str, changes: dict[str, Any], wanted: str, world: Held, proofs: Proofs) -> None:
    assert code(ask(world, text, proofs, **changes)) == wanted


def test_a_marked_request_without_a_marked_token_is_still_read_whole(world: Held) -> None:
    plain = token(ALICE, scopes=None)
    assert ask(world, plain).allowed
    assert code(ask(world, plain, dpop=proof(plain))) == "dpop-unavailable"
    assert code(ask(world, plain, Proofs(Seen(START), ORIGINS), dpop=proof(plain))) == "dpop-unbound"
    unmarked = admit(request(subject=ALICE, token_id="token-id-1", actor=AGENT), world.facts, NOW, lease_until=LEASE)
    assert code(unmarked) == "token-unread", "the gateway saw an actor: whatever it marked, the token is read"


def _bad_proofs() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(changes of the proof, changes of the request)"""
    url = "https://localhost:8443"
    htu = [
        "https://localhost/predict", f"{url}/Predict", f"{url}/predict?a=1", f"{url}/predict#a", f"{url}/predict/", "http://localhost:8443/predict",
        "https://localhost:8444/predict", "https://localhost:08443/predict", "https://evil@localhost:8443/predict", f"{url}/%70redict", f"{url}//predict",
        "https://localhost:8443", "", "https://127.0.0.1:8443/predict", f"{url}/predict ", "https://localhost.:8443/predict", f"{url}\\predict",
    ]  # fmt: skip
    return [
        *(({"htu": one}, {}) for one in htu),
        ({"htm": "GET"}, {}), ({"htm": "post"}, {}), ({}, {"method": "GET"}), ({}, {"host": "other"}), ({}, {"path": "/other"}),
        ({"iat": NOW // 1000 - 62}, {}), ({"iat": NOW // 1000 + 7}, {}), ({"iat": str(NOW // 1000)}, {}), ({"iat": NOW / 1000}, {}), ({"iat": True}, {}),
        ({"iat": -1}, {}), ({"jti": "short"}, {}), ({"jti": "x" * 129}, {}), ({"jti": "with space"}, {}), ({"jti": 12345678}, {}),
        ({"ath": b64(bytes(32))}, {}), ({"ath": ""}, {}), ({"drop": ("ath",)}, {}), ({"drop": ("jti",)}, {}), ({"drop": ("htu",)}, {}), ({"drop": ("iat",)}, {}),
        ({"more": 1}, {}), ({"nonce": "n"}, {}),
        ({"header": {"typ": "JWT"}}, {}), ({"header": {"alg": "none"}}, {}), ({"header": {"alg": "HS256"}}, {}), ({"header": {"alg": "ES384"}}, {}),
        ({"header": {"kid": "k"}}, {}), ({"header": {"jku": "https://evil"}}, {}), ({"header": {"crit": ["x"]}}, {}), ({"header": {"x5c": []}}, {}),
        ({"header": {"jwk": {"kty": "oct", "k": "AA"}}}, {}), ({"header": {"jwk": None}}, {}), ({"header": {"jwk": {}}}, {}),
    ]  # fmt: skip


@pytest.mark.parametrize(("changes", "asked"), _bad_proofs(), ids=range(len(_bad_proofs())))
def test_a_proof_that_is_not_exactly_this_requests_is_refused(
    changes: dict[str, Any], asked: dict[str, Any], world: Held, proofs: Proofs
) -> None:
    text = token(ALICE, AGENT, jkt=JKT)
    made = ask(world, text, proofs, dpop=proof(text, **changes), **asked)
    assert code(made) == "dpop-invalid"
    assert made.challenge == 'DPoP algs="ES256", error="invalid_dpop_proof"'
    assert ask(world, text, proofs, dpop=proof(text)).allowed


@pytest.mark.parametrize("htu", ["HTTPS://LOCALHOST:8443/predict", "https://localhost:8443/predict"])
def test_scheme_and_host_have_no_case(htu: str, world: Held, proofs: Proofs) -> None:
    text = token(ALICE, AGENT, jkt=JKT)
    assert ask(world, text, proofs, dpop=proof(text, htu=htu), path="/predict?n=1").allowed


def test_another_keys_proof_and_a_private_key_in_the_proof_are_refused(world: Held, proofs: Proofs) -> None:
    text = token(ALICE, AGENT, jkt=JKT)
    assert code(ask(world, text, proofs, dpop=proof(text, key=OTHER_KEY))) == "dpop-unbound"
    from delegation_world import jwk

    private = jwk() | {"d": b64(DPOP_KEY.private_numbers().private_value.to_bytes(32, "big"))}
    assert code(ask(world, text, proofs, dpop=proof(text, header={"jwk": private}))) == "dpop-invalid"
    forged = proof(text, key=OTHER_KEY, header={"jwk": jwk()})
    assert code(ask(world, text, proofs, dpop=forged)) == "dpop-invalid"
    good = proof(text)
    assert code(ask(world, text, proofs, dpop=f"{good},{good}")) == "dpop-invalid"
    assert code(ask(world, text, proofs, dpop="")) == "dpop-invalid"


def test_a_proof_is_used_once_however_its_signature_is_spelt(world: Held, proofs: Proofs) -> None:
    text = token(ALICE, AGENT, jkt=JKT)
    one = proof(text, jti="the-same-jti")
    assert ask(world, text, proofs, dpop=one).allowed
    assert code(ask(world, text, proofs, dpop=one)) == "dpop-replayed"
    assert code(ask(world, text, proofs, dpop=proof(text, jti="the-same-jti"))) == "dpop-replayed", "another signature, the same proof"
    assert code(ask(world, text, proofs, dpop=one, now=NOW + 59_000)) == "dpop-replayed"
    assert code(ask(world, text, proofs, dpop=one, now=NOW + 62_000)) == "dpop-invalid"


def test_what_may_have_been_used_before_the_start_is_refused(world: Held) -> None:
    text = token(ALICE, AGENT, jkt=JKT)
    assert code(ask(world, text, Proofs(Seen(UnixMillis(NOW - 4_000)), ORIGINS), dpop=proof(text))) == "dpop-invalid"
    ahead = proof(text, now=NOW + 5_000)
    assert code(ask(world, text, Proofs(Seen(UnixMillis(NOW)), ORIGINS), dpop=ahead, now=NOW + 1_000)) == "dpop-invalid"
    assert ask(world, text, Proofs(Seen(UnixMillis(NOW - 6_000)), ORIGINS), dpop=proof(text)).allowed


def test_a_memory_that_is_full_refuses_and_does_not_forget(world: Held, proofs: Proofs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_SEEN >= 50_000
    monkeypatch.setattr("vouchgate.identity.dpop.MAX_SEEN", 3)
    text = token(ALICE, AGENT, jkt=JKT)
    used = [proof(text) for _ in range(3)]
    assert all(ask(world, text, proofs, dpop=one).allowed for one in used)
    made = ask(world, text, proofs, dpop=proof(text))
    assert (code(made), made.problem and made.problem.status) == ("dpop-full", 429)
    assert code(ask(world, text, proofs, dpop=used[0])) == "dpop-replayed"
    later = NOW + 62_000
    assert ask(world, text, proofs, dpop=proof(text, now=later), now=later).allowed


def test_one_busy_key_does_not_fill_the_memory_for_all(world: Held, proofs: Proofs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.identity.dpop.MAX_SEEN_OF_KEY", 2)
    from delegation_world import jwk

    from vouchgate.identity.dpop import thumbprint

    text = token(ALICE, AGENT, jkt=JKT)
    assert [ask(world, text, proofs, dpop=proof(text)).allowed for _ in range(3)] == [True, True, False]
    other = token(ALICE, AGENT, jkt=thumbprint(jwk(OTHER_KEY)))
    assert ask(world, other, proofs, dpop=proof(other, key=OTHER_KEY)).allowed


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("principal", ALICE), ("registration", ALICE), ("principal", AGENT), ("registration", AGENT), ("credential", "token-id-1"),
        ("credential", "parent-of-it"), ("credential", "grand-parent"), ("credential", "a6e27"), ("run", RUN.id),
    ],
)  # fmt: skip
@pytest.mark.parametrize("observing", [False, True])
def test_revoking_anything_that_the_token_rests_on_strikes_it(kind: str, target: str, observing: bool, world: Held) -> None:
    if observing:
        world.put(ZonePut(zone=zone(mode="observe", observe_until=NOW + 3_600_000)))
    world.put(
        CredentialIssued(id="parent-of-it", principal=ALICE, kind="jwt", not_after=UnixMillis(NOW + 300_000), parents=("grand-parent",))
    )
    text = token(ALICE, AGENT, x5t=THUMB, parents=("parent-of-it",), binding=BOUND)
    assert ask(world, text, **MINE).allowed
    world.put(revoked(kind, target))
    assert code(ask(world, text, **MINE)) == "revoked"
    world.put(revoked(kind, target, withdrawn="w"))
    assert ask(world, text, **MINE).allowed


def test_a_run_that_ended_takes_its_token_along(world: Held) -> None:
    text = token(ALICE, scopes=None, binding=BOUND)
    assert ask(world, text).allowed
    assert code(ask(world, text, now=RUN.not_after)) in {"run-ended", "jwt-expired"}
    world.put(RunPut(run=msgspec.structs.replace(RUN, ended_at=UnixMillis(NOW), ended_by=ALICE)))
    assert code(ask(world, text)) == "run-ended"


def test_a_token_that_was_issued_under_one_run_and_names_another_is_refused(world: Held) -> None:
    other = msgspec.structs.replace(RUN, id="run-fedcba9876543210")
    world.put(RunPut(run=other))
    world.put(CredentialIssued(id="token-id-1", principal=ALICE, kind="jwt", not_after=UnixMillis(NOW + 300_000), run=other.id))
    assert code(ask(world, token(ALICE, scopes=None, binding=BOUND))) == "run-differs"


def test_a_run_that_the_certificate_is_bound_to_counts_beside_a_plain_token(world: Held) -> None:
    world.put(CredentialIssued(id="0c0ffee0", principal=ALICE, kind="x509", not_after=UnixMillis(NOW + 300_000), run=RUN.id))
    made = admit(request(**X509), world.facts, NOW, lease_until=LEASE)
    assert made.allowed
    world.put(revoked("run", RUN.id))
    assert code(admit(request(**X509), world.facts, NOW, lease_until=LEASE)) == "revoked"


def test_the_scope_counts_for_the_model_behind_too(world: Held) -> None:
    world.put(EndpointPut(endpoint=endpoint("chat", model_in_body=True, bearer=True, models={"d": DIGITS})))
    for scopes, allowed in ((("infer:chat",), True), (("infer:digits",), True), (("infer",), True), (("infer:other",), False)):
        text = token(ALICE, AGENT, audience=CHAT, x5t=THUMB, scopes=scopes)
        assert ask(world, text, endpoint=CHAT, model="d", **MINE).allowed is allowed, scopes


def test_observe_lets_no_scope_be_exceeded(world: Held) -> None:
    world.put(ZonePut(zone=zone(mode="observe", observe_until=NOW + 3_600_000)))
    assert ask(world, token(ALICE, TOOLER, x5t=THUMB), **(MINE | {"san": TOOLER})).allowed, "observed"
    assert code(ask(world, token(ALICE, AGENT, x5t=THUMB, scopes=("describe",)), **MINE)) == "insufficient-scope"


def test_an_unbound_token_needs_an_endpoint_that_lists_bearer(world: Held) -> None:
    world.put(EndpointPut(endpoint=endpoint()))
    assert code(ask(world, token(ALICE))) == "bearer-not-listed"
    assert code(ask(world, token(ALICE, AGENT, jkt=JKT), Proofs(Seen(START), ORIGINS), dpop=proof(token(ALICE, AGENT, jkt=JKT)))) != ""


def test_resource_names_of_tools_are_covered_by_their_endpoints_scope() -> None:
    from vouchgate.flows.delegation import in_scope
    from vouchgate.identity.verify import registered

    tool = resource(TD, "tool", "digits.draw.line")
    for scopes, wanted in (
        (("call-tool:digits/draw.line",), True), (("call-tool:digits",), True), (("call-tool",), True),
        (("call-tool:digits/draw",), False), (("call-tool:chat/draw.line",), False), (("infer:digits",), False), ((), False),
    ):  # fmt: skip
        caller = msgspec.structs.replace(registered(registration(), NOW), scopes=scopes)
        assert in_scope(caller, "call-tool", DIGITS, tool) is wanted, scopes


def test_forgetting_a_full_memory_looks_at_each_proof_once() -> None:
    from collections import OrderedDict

    from vouchgate.identity.dpop import Proof

    looked = 0

    class Counted(OrderedDict[bytes, tuple[int, str]]):
        def __getitem__(self, name: bytes) -> tuple[int, str]:
            nonlocal looked
            looked += 1
            return super().__getitem__(name)

    seen = Seen(START)
    assert isinstance(seen._until, OrderedDict), "a plain dict forgets its front in quadratic time"
    seen._until = Counted()
    for number in range(500):
        assert seen.take(Proof("key", f"proof-{number:06d}", NOW // 1000), NOW) is None
    before = looked
    assert seen.take(Proof("key", "proof-later", NOW // 1000 + 70), UnixMillis(NOW + 70_000)) is None
    assert looked - before <= 502
    assert len(seen._until) == 1
    assert list(seen._of_key.elements()) == ["key"]


DECLARED = (
    '@id("jobs") permit (principal in Group::"callers", action == Action::"infer", resource);\n'
    '@id("declared") forbid (principal, action == Action::"infer", resource) unless { context has declared && context.declared };\n'
)


def test_a_runs_inputs_are_for_that_run_alone() -> None:
    from test_facts import policy

    other = msgspec.structs.replace(RUN, id="run-aaaaaaaaaaaaaaaa", inputs=())
    held = Held(
        KeysPublished(bundle=BUNDLE, sequence=2), *WORLD, policy(2, [("declared.cedar", DECLARED)]), EndpointPut(endpoint=endpoint(bearer=True)),
        RunPut(run=RUN), RunPut(run=other),
    )  # fmt: skip
    mine = token(scopes=None, binding=BOUND)
    theirs = token(scopes=None, binding=Binding(run=other.id, zone="serve", stage="train"))
    assert ask(held, mine).allowed
    assert code(ask(held, theirs)) == "denied"
    assert code(ask(held, token(scopes=None))) == "denied", "without a run nothing is declared"
    borrowed = token(scopes=None, binding=Binding(run=other.id, zone="serve", stage="train", inputs=BOUND.inputs))
    assert code(ask(held, borrowed)) == "run-differs"
    (standing,) = held.facts.standing((DIGITS, ALICE), NOW)
    assert standing.residual, "the gateway asks, because only the request shows the run"
    held.put(CredentialIssued(id="0c0ffee0", principal=ALICE, kind="x509", not_after=UnixMillis(NOW + 300_000), run=RUN.id))
    assert admit(request(**X509), held.facts, NOW, lease_until=LEASE).allowed
    assert code(admit(request(**(X509 | {"serial": "beef"})), held.facts, NOW, lease_until=LEASE)) == "denied"


def test_a_partners_workload_is_whoever_stands_for_it_here() -> None:
    theirs = "spiffe://partner.example/ns/prod/sa/builder"
    alias = f"spiffe://{TD}/service/federated-partner/builder"
    held = Held(*WORLD)
    asked = {"federated": theirs, "serial": "fade", "fingerprint": THUMB}
    assert code(admit(request(**asked), held.facts, NOW, lease_until=LEASE)) == "not-registered"
    one = msgspec.structs.replace(registration(alias), selectors=(Selector(type="federated:spiffe_id", value=theirs),))
    held.put(RegistrationPut(registration=one))
    made = admit(request(**asked), held.facts, NOW, lease_until=LEASE)
    assert made.allowed
    assert made.decision.principal == alias
    held.put(revoked("credential", "fade"))
    assert code(admit(request(**asked), held.facts, NOW, lease_until=LEASE)) == "revoked"
    second = msgspec.structs.replace(one, principal=f"spiffe://{TD}/service/federated-partner/other")
    held.put(RegistrationPut(registration=second))
    assert code(admit(request(**asked), held.facts, NOW, lease_until=LEASE)) == "not-registered", "two stand for it"
    ours = msgspec.structs.replace(registration(f"spiffe://{TD}/service/serve/x"), selectors=one.selectors)
    held.put(RegistrationPut(registration=ours))
    assert not admit(request(**(asked | {"federated": ALICE})), held.facts, NOW, lease_until=LEASE).allowed


def test_a_tool_that_is_not_offered_is_refused_by_name(world: Held) -> None:
    assert code(ask(world, token(scopes=("call-tool",)), tool="draw", action="call-tool")) == "unknown-tool"
