"""The SPIFFE bundle: written, read back, and refused where it breaks SPIFFE Trust Domain and Bundle, section 4."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity_world import BUNDLE, CA_DER, JWT_SPKI, KID, LEAF_SPKI, NOW, OTHER_KEY, TD

from vouchgate.identity.bundle import MAX_BUNDLE_BYTES, TrustBundle, make_bundle, parse_jwks, write_jwks
from vouchgate.identity.ca import make_ca
from vouchgate.vocabulary.errors import InvalidInput


def document() -> dict:
    return json.loads(write_jwks(BUNDLE))


def test_what_is_written_is_read_back():
    assert parse_jwks(write_jwks(BUNDLE), TD) == BUNDLE


@given(st.integers(0, 2**53 - 1), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_every_bundle_is_read_back(sequence, refresh, with_ca, with_jwt):
    bundle = TrustBundle(
        trust_domain=TD, x509_authorities=(CA_DER,) if with_ca else (), jwt_authorities={KID: JWT_SPKI} if with_jwt else {},
        sequence=sequence, refresh_seconds=refresh,
    )  # fmt: skip
    assert parse_jwks(write_jwks(bundle), TD) == bundle


def test_the_form_is_that_of_the_standard():
    x509_key, jwt_key = document()["keys"]
    assert x509_key["use"] == "x509-svid"
    assert "kid" not in x509_key
    assert [base64.b64decode(x509_key["x5c"][0])] == [CA_DER]
    assert jwt_key["use"] == "jwt-svid"
    assert jwt_key["kid"] == KID
    assert "x5c" not in jwt_key
    assert set(document()) == {"keys", "spiffe_sequence", "spiffe_refresh_hint"}


def test_a_plain_jwt_verifier_gets_the_jwt_keys_alone():
    assert [key["use"] for key in json.loads(write_jwks(BUNDLE, uses=("jwt-svid",)))["keys"]] == ["jwt-svid"]


def test_a_key_of_an_unknown_use_is_left_out():
    changed = document()
    changed["keys"].append({"use": "sig", "kty": "oct", "k": "AAAA"})
    assert parse_jwks(json.dumps(changed).encode(), TD) == BUNDLE


def test_other_trust_domains_cas_are_refused():
    with pytest.raises(InvalidInput):
        parse_jwks(write_jwks(BUNDLE), "other.local")
    with pytest.raises(InvalidInput):
        make_bundle("other.local", x509_authorities=(CA_DER,), jwt_spkis=())


def change(keys=None, **members):
    changed = document()
    for index, key_changes in (keys or {}).items():
        key = changed["keys"][index]
        for name, value in key_changes.items():
            if value is None:
                key.pop(name, None)
            else:
                key[name] = value
    return json.dumps(changed | members)


X, Y = ("A" * 43 for _ in range(2))


@pytest.mark.parametrize(
    "text",
    [
        "[]", "", "null", "{}", '{"keys":{}}', '{"keys":[1]}', '{"keys":[{}]}', '{"keys":[],"keys":[]}', change(extra=1),
        change(spiffe_sequence=-1), change(spiffe_sequence=1.5), change(spiffe_sequence="1"), change(spiffe_sequence=True), change(spiffe_sequence=2**60),
        change(spiffe_refresh_hint=-1), change(spiffe_refresh_hint=None), change({0: {"kid": "x"}}), change({0: {"x5c": None}}), change({0: {"x5c": []}}),
        change({0: {"x5c": ["AA", "AA"]}}), change({0: {"x5c": ["A"]}}), change({0: {"x5c": [base64.b64encode(CA_DER + b"x").decode()]}}), change({0: {"x5c": "AA"}}),
        change({0: {"x": X, "y": Y}}), change({0: {"kty": "RSA"}}), change({0: {"d": "AAAA"}}), change({1: {"kid": None}}), change({1: {"kid": ""}}), change({1: {"kid": 5}}),
        change({1: {"x5c": ["AA"]}}), change({1: {"x": X}}), change({1: {"x": "A"}}), change({1: {"x": 5}}), change({1: {"crv": "P-384"}}), change({1: {"d": "AA"}}),
        change({1: {"use": 5}}), change(keys=None) + "x",
    ],
)  # fmt: skip
def test_what_breaks_the_standard_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_jwks(text.encode(), TD)


def test_two_keys_of_one_id_are_refused():
    changed = document()
    changed["keys"].append(dict(changed["keys"][1]))
    with pytest.raises(InvalidInput):
        parse_jwks(json.dumps(changed).encode(), TD)


def test_a_certificate_beside_another_key_is_refused():
    other = make_bundle(TD, x509_authorities=(make_ca(TD, OTHER_KEY, now=NOW, days=1),), jwt_spkis=())
    changed = document()
    changed["keys"][0]["x5c"] = json.loads(write_jwks(other))["keys"][0]["x5c"]
    with pytest.raises(InvalidInput):
        parse_jwks(json.dumps(changed).encode(), TD)


def test_too_much_is_refused():
    with pytest.raises(InvalidInput):
        parse_jwks(b" " * (MAX_BUNDLE_BYTES + 1), TD)
    with pytest.raises(InvalidInput):
        parse_jwks(json.dumps({"keys": [{"use": "sig"}] * 65}).encode(), TD)
    with pytest.raises(InvalidInput):
        parse_jwks(b"[" * 100_000, TD)


@given(st.binary(max_size=300))
def test_any_bytes_get_a_typed_error(data):
    with pytest.raises(InvalidInput):
        parse_jwks(data, TD)


def test_keys_are_known_by_their_hash():
    bundle = make_bundle(TD, x509_authorities=(), jwt_spkis=(JWT_SPKI, LEAF_SPKI))
    assert len(bundle.jwt_authorities) == 2
    assert bundle.jwt_authorities[KID] == JWT_SPKI
