from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable

import pytest
from asgi_servers import ALICE, BOB, ENDPOINT, INFER, NOW, Domain, grant
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.identity.x509svid import serial_of
from vouchgate.integrations.in_process import Asked, Rules, decide, status_of
from vouchgate.vocabulary.decisions import Obligation
from vouchgate.vocabulary.leased import LeasedMap
from vouchgate.vocabulary.places import Route

Make = Callable[..., LeasedMap]


def code(rules: Rules, *, token: str = "", method: str = "POST", path: str = INFER, now: int = NOW, chain: tuple[str, ...] = ()) -> str:
    header = f"Bearer {token}".encode() if token else b""
    answer = decide(rules, Asked(method, path, header, chain), now, 0)
    return "" if answer.denied is None else answer.denied.code


def pem(domain: Domain, who: str) -> str:
    return ssl.DER_cert_to_PEM_cert(domain.certificate(who)[0])


def test_token_with_grant_is_allowed_until_the_token_expires(domain: Domain, leased: Make) -> None:
    answer = decide(Rules(leased()), Asked("POST", INFER, f"Bearer {domain.token(ttl=60)}".encode()), NOW, 5_000)
    assert answer.denied is None and answer.grant and answer.grant.id == "g-alice"
    assert answer.until_ns == 5_000 + 60_000_000_000


def test_answer_lapses_with_the_grant_if_that_is_earlier(domain: Domain, leased: Make) -> None:
    rules = Rules(leased(grants=(grant(not_after=NOW + 500),)))
    answer = decide(rules, Asked("POST", INFER, f"Bearer {domain.token()}".encode()), NOW, 0)
    assert answer.until_ns == 500_000_000


def test_certificate_with_grant_is_allowed(domain: Domain, leased: Make) -> None:
    assert code(Rules(leased()), chain=(pem(domain, ALICE),)) == ""


def test_certificate_of_another_trust_domain_key_is_refused(leased: Make) -> None:
    stranger = Domain()
    assert code(Rules(leased()), chain=(pem(stranger, ALICE),)) == "x509-untrusted"


def test_bad_callers_are_refused(domain: Domain, leased: Make) -> None:
    rules = Rules(leased())
    good = domain.token()
    assert code(rules) == "anonymous"
    assert code(rules, token=domain.token(BOB)) == "not-granted"
    assert code(rules, token=domain.token(audience=ENDPOINT + "2")).startswith("jwt-")
    assert code(rules, token=good, now=NOW + 300_000).startswith("jwt-")
    assert code(rules, token=Domain().token()).startswith("jwt-")
    assert code(rules, token=good[:-4] + "AAAA").startswith("jwt-")
    assert code(rules, token=domain.token(BOB), chain=(pem(domain, ALICE),)) == "two-identities"
    assert code(rules, chain=("not a certificate",)).startswith("x509-")
    assert code(Rules(leased(bearer=False)), token=good) == "bearer-not-listed"
    assert code(Rules(leased(grants=())), token=good) == "not-granted"
    assert code(Rules(leased(bundle=b"")), token=good) == "no-bundle"
    assert code(Rules(leased(bundle=b"{}")), token=good) == "no-bundle"


@pytest.mark.parametrize(
    "header",
    [b"Bearer", b"Bearer ", b"bearer\ttoken", b"Basic YTpi", b"Bearer a,Bearer b", b"Bearer \xff", b"Bearer " + b"a" * 9000, b"x" * 10],
)
def test_malformed_authorization_is_refused(leased: Make, header: bytes) -> None:
    answer = decide(Rules(leased()), Asked("POST", INFER, header), NOW, 0)
    assert answer.denied is not None and status_of(answer.denied) == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"not_after": NOW},
        {"resource": ENDPOINT + "2"},
        {"action": "train"},
        {"credential_kind": "x509"},
        {"credential_kind": "declared"},
        {"thumbprint": "0" * 64},
        {"condition": "per_request"},
        {"obligations": (Obligation(kind="budget", value="1"),)},
    ],
)
def test_grant_that_does_not_fit_is_no_grant(domain: Domain, leased: Make, changes: dict[str, object]) -> None:
    found = code(Rules(leased(grants=(grant(**changes),))), token=domain.token())
    assert found == ("needs-gateway" if {"condition", "obligations"} & set(changes) else "not-granted")


@pytest.mark.parametrize("revoked", [ALICE, "token-0001"])
def test_revoked_is_denied_in_observe_too(domain: Domain, leased: Make, revoked: str) -> None:
    answer = decide(Rules(leased(revoked=(revoked,), mode="observe")), Asked("POST", INFER, f"Bearer {domain.token()}".encode()), NOW, 0)
    assert answer.denied is not None and answer.denied.code == "revoked" and not answer.observed


def test_revoked_certificate_denies_a_token_bound_to_it(domain: Domain, leased: Make) -> None:
    der, _ = domain.certificate(ALICE)
    thumbprint = hashlib.sha256(der).hexdigest()
    chain = (ssl.DER_cert_to_PEM_cert(der),)
    token = domain.token(cnf_x5t=thumbprint)
    assert code(Rules(leased()), token=token, chain=chain) == ""
    assert code(Rules(leased(revoked=(serial_of(der),))), token=token, chain=chain) == "revoked"
    assert code(Rules(leased(revoked=(serial_of(der),))), chain=chain) == "revoked"
    assert code(Rules(leased()), token=token) == "jwt-unbound"


@pytest.mark.parametrize("action", ["promote", "sign", "release-key"])
def test_observe_never_lets_through_what_it_never_may(domain: Domain, leased: Make, action: str) -> None:
    routes = (Route(method="POST", path=INFER, action=action),)
    for header in (b"", f"Bearer {domain.token(BOB)}".encode()):
        answer = decide(Rules(leased(mode="observe", routes=routes)), Asked("POST", INFER, header), NOW, 0)
        assert answer.denied is not None and not answer.observed


def test_observe_lets_unknown_callers_in_but_no_bad_credential(domain: Domain, leased: Make) -> None:
    rules = Rules(leased(mode="observe"))
    anonymous = decide(rules, Asked("POST", INFER), NOW, 0)
    stranger = decide(rules, Asked("POST", INFER, f"Bearer {domain.token(BOB)}".encode()), NOW, 0)
    expired = decide(rules, Asked("POST", INFER, f"Bearer {domain.token()}".encode()), NOW + 600_000, 0)
    assert anonymous.observed and stranger.observed and not expired.observed
    assert anonymous.denied and stranger.denied and expired.denied


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", INFER), ("post", INFER), ("POST", INFER + "/"), ("POST", INFER + "?"), ("POST", "/" + INFER), ("POST", INFER.upper()),
        ("POST", "/v2/models/digits/../digits/infer"), ("POST", ""), ("GET", "/v2/models/../ready"), ("GET", "/v2/models/./ready"),
        ("GET", "/v2/models/a/b/ready"), ("GET", "/v2/models//ready"), ("GET", "/v2/models/a%2fb/ready"), ("GET", "/v2/models/x/ready\n"),
        ("GET", "/v2/models/" + "x" * 65 + "/ready"), ("GET", "/v2/models/é/ready"),
    ],
)  # fmt: skip
def test_path_that_is_not_listed_does_not_exist(domain: Domain, leased: Make, method: str, path: str) -> None:
    assert code(Rules(leased()), token=domain.token(), method=method, path=path) == "no-route"


def test_template_matches_one_segment(domain: Domain, leased: Make) -> None:
    assert code(Rules(leased()), token=domain.token(), method="GET", path="/v2/models/digits-1.0/ready") == ""


_DOMAIN = Domain()
_RULES = Rules(
    LeasedMap(
        trust_domain="test.local",
        endpoint=ENDPOINT,
        epoch=1,
        now=NOW,
        lease_ms=1,
        bearer=True,
        routes=(Route(method="POST", path=INFER, action="infer"),),
        grants=(grant(),),
        bundle=_DOMAIN.bundle,
    )
)


@given(st.sampled_from(["POST", "GET"]), st.one_of(st.just(INFER), st.text(max_size=80)), st.binary(max_size=120))
def test_nothing_without_a_signed_token_is_ever_allowed(method: str, path: str, header: bytes) -> None:
    for way in (Asked(method, path, header), Asked("POST", INFER, b"Bearer " + header)):
        answer = decide(_RULES, way, NOW, 0)
        assert answer.denied is not None and not answer.observed and answer.grant is None


@given(st.integers(0, 600), st.integers(1, 255))
def test_any_byte_of_the_token_changed_is_refused(at: int, change: int) -> None:
    token = bytearray(_DOMAIN.token().encode())
    token[at % len(token)] ^= change
    answer = decide(_RULES, Asked("POST", INFER, b"Bearer " + bytes(token)), NOW, 0)
    assert answer.denied is not None and answer.grant is None
