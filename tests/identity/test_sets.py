"""Security event tokens on values alone; the chain with HTTP and revocations is tests/flows/test_deprovision.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from vouchgate.identity.foreign import read_keys, write_token
from vouchgate.identity.sets import CAEP, EFFECTS, OUR_EVENTS, RISC, SSF, ReadSet, our_claims, read_set, sign_set
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

NOW = UnixMillis(1_790_000_000_000)
KEY = ec.generate_private_key(ec.SECP256R1())
KEYS = read_keys(json.dumps({"keys": [{**ECKey.import_key(KEY).as_dict(private=False), "kid": "k"}]}).encode())  # type: ignore[arg-type]
WHOLE: dict[str, Any] = {
    "iss": "https://idp", "aud": "https://us", "jti": "j", "iat": NOW // 1000, "events": {CAEP + "session-revoked": {}},
    "sub_id": {"format": "iss_sub", "iss": "https://idp", "sub": "ada"},
}  # fmt: skip
OURS: dict[str, Any] = {
    "issuer": "https://us", "audience": "https://soc", "jti": "j", "principal": "spiffe://td/person/staff/ada", "sub": "", "sub_issuer": "",
    "credential": "", "reason": "gone", "at": NOW, "state": "", "now": NOW,
}  # fmt: skip


def read(token: str, **more: Any) -> ReadSet | Denied:
    wanted = {"issuer": "https://idp", "audience": "https://us", "now": NOW, "algorithms": ["ES256"], **more}
    return read_set(token, KEYS, **wanted)


def made(header: dict[str, Any] | None = None, **changes: Any) -> str:
    return write_token({"alg": "ES256", "kid": "k", "typ": "secevent+jwt", **(header or {})}, {**WHOLE, **changes}, KEY)


def test_an_event_is_read() -> None:
    found = read(made())
    assert isinstance(found, ReadSet)
    assert (found.events[0].effect, found.events[0].issuer, found.events[0].sub) == ("until-login", "https://idp", "ada")


@pytest.mark.parametrize("kind", ["secevent+jwt", "application/secevent+jwt", "SECEVENT+JWT"])
def test_the_type_may_be_spelt_as_media_types_are(kind: str) -> None:
    assert isinstance(read(made({"typ": kind})), ReadSet)


@pytest.mark.parametrize("kind", ["JWT", "jwt", "", "at+jwt", "secevent", None, 7])
def test_no_other_type_is_an_event(kind: Any) -> None:
    assert isinstance(read(made({"typ": kind})), Denied)


@given(place=st.integers(min_value=0, max_value=2_000), change=st.characters(codec="ascii"))
@settings(max_examples=200, deadline=None)
def test_no_changed_character_holds(place: int, change: str) -> None:
    place %= len(GOOD)
    changed = GOOD[:place] + change + GOOD[place + 1 :]
    assert changed == GOOD or isinstance(read(changed), Denied)


GOOD = made()


def test_an_audience_may_be_one_of_a_list() -> None:
    assert isinstance(read(made(aud=["https://x", "https://us"])), ReadSet)
    assert isinstance(read(made(aud=["https://x"])), Denied)
    assert isinstance(read(made(aud=["https://us"] * 20)), Denied)


@pytest.mark.parametrize("jti", ["", "x" * 300, "a b", "\u00e4", 7, None])
def test_an_id_is_bounded(jti: Any) -> None:
    assert isinstance(read(made(jti=jti)), Denied)


def test_what_ends_something_and_what_only_tells() -> None:
    assert EFFECTS[RISC + "account-disabled"] == "until-undone"
    assert EFFECTS[CAEP + "session-revoked"] == "until-login"
    found = read(made(events={"https://example.com/new": {"x": 1}, SSF + "verification": {"state": "s"}}))
    assert isinstance(found, ReadSet)
    assert {one.effect for one in found.events} == {"unknown", "notice"}


@pytest.mark.parametrize("reason", [{"en": "left"}, "left", {"en": 7, "de": "left"}])
def test_a_reason_is_kept_short_and_printable(reason: Any) -> None:
    found = read(made(events={CAEP + "session-revoked": {"reason_admin": reason}}))
    assert isinstance(found, ReadSet)
    assert found.events[0].reason == "left"
    long = read(made(events={CAEP + "session-revoked": {"reason_admin": "x\n\u202e" * 1_000}}))
    assert isinstance(long, ReadSet)
    assert set(long.events[0].reason) == {"x"}
    assert len(long.events[0].reason) <= 200


def test_ours_are_read_as_they_were_meant() -> None:
    for event in OUR_EVENTS:
        claims = our_claims(event, **{**OURS, "state": "s" if event == "verification" else ""})
        found = read(sign_set(claims, KEY, "k"), issuer="https://us", audience="https://soc")
        assert isinstance(found, ReadSet)
        assert found.events[0].event == OUR_EVENTS[event]


@pytest.mark.parametrize(
    "changes", [{"issuer": "spiffe://td"}, {"issuer": ""}, {"issuer": "http://evil.example"}, {"audience": ""}, {"jti": ""}, {"jti": "a b"}]
)
def test_nothing_else_is_made_into_an_event(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        our_claims("session-revoked", **{**OURS, **changes})
    with pytest.raises(InvalidInput):
        our_claims("account-disabled", **OURS)
