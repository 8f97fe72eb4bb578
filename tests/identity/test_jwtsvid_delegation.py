"""Tokens that say more than the plain claims: what is written is read, and everything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity_world import AUDIENCE, BUNDLE, JWT_KEY, KID, NOW, PRINCIPAL, TD, b64, claims, es256, header

from vouchgate.identity.actors import MAX_ACTORS, MAX_PARENTS, Beyond
from vouchgate.identity.jwtsvid import JwtFacts, issue_jwt, read_jwt
from vouchgate.identity.verify import acting, delegated, presented, verify_jwt, who_is_calling
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Binding

AGENT, OTHER, THIRD = (f"spiffe://{TD}/agent/agents/{name}" for name in ("planner", "tooler", "third"))
JKT = b64(bytes(range(32)))
VG: dict[str, Any] = {"ask": "1"}


def issue(**changes: Any) -> str:
    wanted = {"key": JWT_KEY, "kid": KID, "trust_domain": TD, "now": NOW, "ttl_seconds": 300, "jti": "abcdefgh12345678"} | changes
    return issue_jwt(PRINCIPAL, AUDIENCE, **wanted).token


def by_hand(*, ordered: bool = True, **more: Any) -> str:
    """A token of the right key, with these claims beyond the plain ones, in the one spelling or not."""
    said = {name: value for name, value in (claims() | more).items() if value is not ...}
    body = json.dumps(said, sort_keys=ordered, separators=(",", ":"), ensure_ascii=False).encode()
    return sealed(body)


def sealed(body: bytes) -> str:
    """Any bytes as claims, signed by the right key."""
    text = f"{b64(json.dumps(header()).encode())}.{b64(body)}"
    return f"{text}.{b64(es256(text.encode()))}"


def read(text: str) -> JwtFacts | Denied:
    return read_jwt(text, BUNDLE, AUDIENCE, NOW)


FULL = Beyond(
    actors=(AGENT, OTHER),
    scopes=("call-tool:mcp/draw", "infer:digits"),
    cnf_jkt=JKT,
    binding=Binding(
        run="run-0123456789abcdef", zone="train", stage="fit", inputs="a" * 64, model_digest="sha256:" + "b" * 64, lineage_root="c" * 64
    ),
    parents=("parent-one", "parent-two"),
)


def test_everything_is_read_as_it_was_written() -> None:
    said = read(issue(beyond=FULL))
    assert isinstance(said, JwtFacts)
    assert said.beyond == FULL


def test_a_plain_token_is_what_it_was_byte_for_byte() -> None:
    body = issue().split(".")[1]
    import base64

    assert set(json.loads(base64.urlsafe_b64decode(body + "=="))) == {"aud", "exp", "iat", "iss", "jti", "sub"}


def test_the_hand_made_token_of_these_tests_is_good() -> None:
    said = read(by_hand(act={"sub": AGENT}, scope="infer", vg=VG))
    assert isinstance(said, JwtFacts), said
    assert said.beyond == Beyond(actors=(AGENT,), scopes=("infer",))


def nested(*names: Any) -> Any:
    made: Any = None
    for name in reversed(names):
        made = {"sub": name} | ({"act": made} if made is not None else {})
    return made


BAD: list[dict[str, Any]] = [
    {"act": {"sub": AGENT}, "scope": "infer"},
    {"scope": "infer"},
    {"cnf": {"jkt": JKT}},
    {"act": {"sub": AGENT}, "scope": "infer", "vg": {}},
    {"act": {"sub": AGENT}, "scope": "infer", "vg": {"ask": "0"}},
    {"act": {"sub": AGENT}, "scope": "infer", "vg": {"ask": 1}},
    {"act": {"sub": AGENT}, "scope": "infer", "vg": {"ask": True}},
    {"act": {"sub": AGENT}, "scope": "infer", "vg": "1"},
    {"act": {"sub": AGENT}, "scope": "infer", "vg": ["ask"]},
    {"act": {"sub": AGENT}, "scope": "infer", "vg": None},
    {"act": {"sub": AGENT}, "scope": "infer", "vg": VG | {"more": "1"}},
    {"act": {"sub": AGENT}, "vg": VG},
    {"act": {"sub": PRINCIPAL}, "scope": "infer", "vg": VG},
    {"act": nested(AGENT, AGENT), "scope": "infer", "vg": VG},
    {"act": nested(AGENT, OTHER, AGENT), "scope": "infer", "vg": VG},
    {"act": nested(AGENT, PRINCIPAL), "scope": "infer", "vg": VG},
    {"act": nested(*(f"spiffe://{TD}/agent/x/a{n}" for n in range(MAX_ACTORS + 1))), "scope": "infer", "vg": VG},
    {"act": nested("spiffe://evil.local/agent/x/a"), "scope": "infer", "vg": VG},
    {"act": nested(f"spiffe://{TD}/agent/x/A"), "scope": "infer", "vg": VG},
    {"act": nested(f"spiffe://{TD}/agent/x"), "scope": "infer", "vg": VG},
    {"act": nested(f"spiffe://{TD}/system/control/control"), "scope": "infer", "vg": VG},
    {"act": nested(f"spiffe://{TD}/declared/x/y"), "scope": "infer", "vg": VG},
    {"act": nested(1), "scope": "infer", "vg": VG},
    {"act": {}, "scope": "infer", "vg": VG},
    {"act": None, "scope": "infer", "vg": VG},
    {"act": [], "scope": "infer", "vg": VG},
    {"act": AGENT, "scope": "infer", "vg": VG},
    {"act": {"sub": AGENT, "iss": "x"}, "scope": "infer", "vg": VG},
    {"act": {"sub": AGENT, "act": None}, "scope": "infer", "vg": VG},
    {"act": {"sub": AGENT, "act": {}}, "scope": "infer", "vg": VG},
    {"act": {"sub": AGENT, "cnf": {"jkt": JKT}}, "scope": "infer", "vg": VG},
    {"scope": "", "vg": VG},
    {"scope": "infer describe chat", "vg": VG},
    {"scope": "infer infer", "vg": VG},
    {"scope": "administer", "vg": VG},
    {"scope": ["infer"], "vg": VG},
    {"scope": None, "vg": VG},
    {"cnf": {}, "vg": VG},
    {"cnf": {"jkt": JKT, "x5t#S256": JKT}, "vg": VG},
    {"cnf": {"jkt": JKT[:-1]}, "vg": VG},
    {"cnf": {"jkt": JKT[:-1] + "B"}, "vg": VG},
    {"cnf": {"jkt": JKT + "="}, "vg": VG},
    {"cnf": {"jkt": ""}, "vg": VG},
    {"cnf": {"jkt": 1}, "vg": VG},
    {"cnf": {"jwk": {}}, "vg": VG},
    {"cnf": {"kid": "x"}, "vg": VG},
    {"cnf": JKT, "vg": VG},
    {"vg": VG | {"parents": []}},
    {"vg": VG | {"parents": "parent-one"}},
    {"vg": VG | {"parents": ["short"]}},
    {"vg": VG | {"parents": ["parent-one", "parent-one"]}},
    {"vg": VG | {"parents": ["parent one"]}},
    {"vg": VG | {"parents": [1]}},
    {"vg": VG | {"parents": [f"parent-{n:02d}" for n in range(MAX_PARENTS + 1)]}},
    {"vg": VG | {"run": ""}},
    {"vg": VG | {"run": 1}},
    {"vg": VG | {"run": "Run"}},
    {"vg": VG | {"model": "sha256:zz"}},
    {"vg": VG | {"inputs": "AA"}},
    {"vg": VG, "client_id": "x"},
    {"vg": VG, "may_act": {"sub": AGENT}},
]


@pytest.mark.parametrize("more", BAD, ids=range(len(BAD)))
def test_what_breaks_a_rule_is_refused_though_it_is_signed(more: dict[str, Any]) -> None:
    said = read(by_hand(**more))
    assert isinstance(said, Denied), said
    assert said.code in {"jwt-claims", "jwt-malformed"}


def test_fifty_deep_is_refused_before_it_is_believed() -> None:
    said = read(by_hand(act=nested(*(f"spiffe://{TD}/agent/x/a{n}" for n in range(50))), scope="infer", vg=VG))
    assert isinstance(said, Denied)


@pytest.mark.parametrize(
    "text", ['{"ask":"1","ask":"0"}', '{"ask":"1","parents":["parent-one"],"parents":["parent-two"]}']
)  # fmt: skip
def test_a_member_that_is_there_twice_is_refused(text: str) -> None:
    plain = json.dumps(claims(), sort_keys=True, separators=(",", ":"))
    body = f'{plain[:-1]},"vg":{text}}}'.encode()
    said = read(sealed(body))
    assert isinstance(said, Denied)
    assert said.code == "jwt-malformed"


@pytest.mark.parametrize(
    "spoil", [lambda text: text.replace(",", ", ", 1), lambda text: text.replace("infer", "\\u0069nfer"), lambda text: " " + text]
)
def test_another_spelling_of_the_same_content_is_refused(spoil: Any) -> None:
    text = json.dumps(claims() | {"scope": "infer", "vg": VG}, sort_keys=True, separators=(",", ":"))
    assert isinstance(read(sealed(text.encode())), JwtFacts)
    assert isinstance(read(sealed(spoil(text).encode())), Denied)
    assert isinstance(read(by_hand(ordered=False, scope="infer", vg=VG)), Denied)


@pytest.mark.parametrize(
    "changes",
    [
        {"actors": (AGENT, AGENT), "scopes": ("infer",)}, {"actors": (PRINCIPAL,), "scopes": ("infer",)}, {"actors": (AGENT,)}, {"scopes": ()},
        {"actors": tuple(f"spiffe://{TD}/agent/x/a{n}" for n in range(5)), "scopes": ("infer",)}, {"cnf_jkt": "x"}, {"cnf_jkt": JKT, "cnf_x5t": JKT},
        {"parents": ("x",)}, {"binding": Binding(run="X")}, {"scopes": ("administer",)}, {"scopes": ("infer", "infer")},
    ],
)  # fmt: skip
def test_what_would_be_refused_is_not_issued(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        issue(beyond=Beyond(**changes))


def test_a_token_over_the_bound_is_not_issued(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(issue(beyond=FULL)) < 2_000
    monkeypatch.setattr("vouchgate.identity.jwtsvid.MAX_TOKEN_BYTES", 1_000)
    with pytest.raises(InvalidInput):
        issue(beyond=FULL)


def test_nobody_else_reads_past_what_only_the_decision_point_weighs() -> None:
    for beyond in (
        Beyond(scopes=("infer",)),
        Beyond(cnf_jkt=JKT),
        Beyond(actors=(AGENT,), scopes=("infer",)),
        Beyond(binding=FULL.binding),
    ):
        said = verify_jwt(issue(beyond=beyond), BUNDLE, AUDIENCE, NOW)
        assert isinstance(said, Denied)
        assert said.code == "jwt-ask"
        said = who_is_calling([], issue(beyond=beyond), BUNDLE, NOW, audience=AUDIENCE, bearer=True)
        assert isinstance(said, Denied)
        assert said.code == "jwt-ask"


def facts(**changes: Any) -> JwtFacts:
    said = read(issue(beyond=Beyond(**({"actors": (AGENT,), "scopes": ("infer",)} | changes))))
    assert isinstance(said, JwtFacts)
    return said


def test_each_one_in_the_chain_stands_for_itself() -> None:
    caller = presented(facts(actors=(AGENT, OTHER)), bearer=True, now=NOW, groups_of=lambda who: (who.rpartition("/")[2],))
    assert not isinstance(caller, Denied)
    assert [one.principal.id for one in acting(caller)] == [AGENT, OTHER]
    assert all(one.actors == () and one.credential_id == caller.credential_id for one in acting(caller))


@pytest.mark.parametrize(
    ("changes", "shown", "code"),
    [
        ({}, {"bearer": False}, "bearer-not-listed"), ({"cnf_jkt": JKT}, {}, "dpop-unbound"), ({"cnf_jkt": JKT}, {"jkt": JKT[::-1]}, "dpop-unbound"),
        ({}, {"jkt": JKT}, "dpop-unbound"), ({"cnf_x5t": JKT}, {}, "jwt-unbound"), ({"cnf_x5t": JKT}, {"thumbprint": "ab" * 32}, "jwt-bound-elsewhere"),
        ({}, {"san": PRINCIPAL}, "two-identities"), ({}, {"san": OTHER}, "two-identities"), ({}, {"now": NOW + 300_000}, "expired"),
    ],
)  # fmt: skip
def test_a_token_without_what_it_is_bound_to_is_refused(changes: dict[str, Any], shown: dict[str, Any], code: str) -> None:
    said = presented(facts(**changes), **({"bearer": True, "now": NOW} | shown))
    assert isinstance(said, Denied)
    assert said.code == code


def test_an_exchange_adds_one_hand_and_never_two_of_the_same() -> None:
    person = presented(facts(actors=(), scopes=("infer",)), bearer=True, now=NOW)
    agent = presented(facts(actors=(), scopes=("infer",)), bearer=True, now=NOW)
    chained = presented(facts(), bearer=True, now=NOW)
    assert not isinstance(person, Denied) and not isinstance(agent, Denied) and not isinstance(chained, Denied)
    assert isinstance(delegated(chained, chained, scopes=("infer",), not_after=NOW + 1000), Denied), "who acts does so by itself"
    assert isinstance(delegated(chained, person, scopes=("infer",), not_after=NOW + 1000), Denied), "the subject does not act for itself"
    made = delegated(person, agent, scopes=("infer",), not_after=NOW + 1000)
    assert not isinstance(made, Denied)
    assert made.actors == ()


@given(st.binary(max_size=200))
def test_any_bytes_for_claims_give_an_answer(raw: bytes) -> None:
    assert isinstance(read(sealed(raw)), Denied)
