"""One failure a vector: the checker names the clause, and the readers refuse (vectors/make_vectors.py makes them again)."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import make_vectors

from vouchgate.identity.bundle import TrustBundle, parse_jwks
from vouchgate.identity.conformance import Checked
from vouchgate.identity.conformance_jose import check_bundle, check_token
from vouchgate.identity.conformance_x509 import check_certificate, check_chain
from vouchgate.identity.jwtsvid import read_jwt
from vouchgate.identity.x509svid import read_x509
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied

HERE = Path(__file__).parent / "vectors"
X509, JWT, BUNDLE = (json.loads((HERE / f"{name}.json").read_text()) for name in ("x509", "jwt", "bundle"))
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def each(document):
    return pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in document["vectors"]])


def ders(texts) -> list[bytes]:
    return [base64.b64decode(text) for text in texts]


def named(checked: Checked, clause: str) -> None:
    """The clause is named; where there is none, nothing is violated."""
    broken = {finding.clause for finding in checked.findings if finding.level == "violation"}
    assert (clause in broken) if clause else not broken, checked


@each(X509)
def test_the_checker_names_the_clause_of_a_chain(vector):
    named(check_chain(ders(vector["chain"]), X509["now"]), vector["clause"])


@each(X509)
def test_the_reader_answers_a_chain_as_it_must(vector):
    bundle = TrustBundle(trust_domain=X509["trust_domain"], x509_authorities=tuple(ders(X509["bundles"][vector["bundle"]])))
    answer = read_x509(ders(vector["chain"]), bundle, X509["now"])
    assert (answer.code if isinstance(answer, Denied) else "") == vector["code"], answer


@each(JWT)
def test_the_checker_names_the_clause_of_a_token(vector):
    named(check_token(vector["token"], JWT["now"], JWT["bundle"].encode()), vector["clause"])


@each(JWT)
def test_the_reader_answers_a_token_as_it_must(vector):
    answer = read_jwt(vector["token"], parse_jwks(JWT["bundle"].encode(), JWT["trust_domain"]), JWT["audience"], JWT["now"])
    assert (answer.code if isinstance(answer, Denied) else "") == vector["code"], answer


@each(BUNDLE)
def test_the_checker_names_the_clause_of_a_bundle(vector):
    named(check_bundle(vector["bundle"].encode()), vector["clause"])


@each(BUNDLE)
def test_the_reader_answers_a_bundle_as_it_must(vector):
    try:
        parse_jwks(vector["bundle"].encode(), BUNDLE["trust_domain"])
        accepted = True
    except InvalidInput:
        accepted = False
    assert accepted == vector["accepted"]


def test_nothing_is_accepted_in_which_a_must_is_broken():
    """Rule 3 of conformance.py, over every vector."""
    for document, accepted in (
        (X509, lambda one: not one["code"]),
        (JWT, lambda one: not one["code"]),
        (BUNDLE, lambda one: one["accepted"]),
    ):
        assert all(not one["clause"] for one in document["vectors"] if accepted(one))
        assert sum(1 for one in document["vectors"] if one["clause"]) > 15


def test_anybody_can_make_the_vectors_again(tmp_path):
    make_vectors.main(tmp_path)
    for name in ("x509", "jwt", "bundle"):
        assert (tmp_path / f"{name}.json").read_bytes() == (HERE / f"{name}.json").read_bytes()


def test_a_token_without_a_bundle_is_said_to_be_unchecked():
    good = JWT["vectors"][0]["token"]
    assert [one.level for one in check_token(good, JWT["now"]).findings] == ["note"]


@pytest.mark.parametrize(
    "junk", [b"", b"\x30", b"\x30\x00", b"\x30\x80\x00\x00", b"\xff" * 64, b"\x30\x03\x02\x01\x01", b"\x30" + b"\x82\xff\xff"]
)
def test_junk_is_no_certificate_and_gets_a_typed_answer(junk):
    assert check_certificate(junk).kind == "unknown"
    assert not check_chain([junk], 0).conforms


LEAF, ISSUER = ders(next(one for one in X509["vectors"] if one["name"] == "a leaf and its issuer")["chain"])


@given(st.binary(max_size=400))
def test_any_bytes_get_a_typed_answer(data):
    assert check_certificate(data).kind == "unknown"
    assert check_bundle(data).kind == "bundle"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LEAF) - 1), st.integers(1, 255), st.sampled_from(["leaf", "issuer"]))
def test_a_flipped_byte_gets_a_typed_answer_and_never_makes_a_chain_conform_that_the_reader_takes(position, change, where):
    changed = bytearray(LEAF if where == "leaf" else ISSUER)
    changed[position % len(changed)] ^= change
    chain = [bytes(changed), ISSUER] if where == "leaf" else [LEAF, bytes(changed)]
    checked = check_chain(chain, X509["now"])
    bundle = TrustBundle(trust_domain=X509["trust_domain"], x509_authorities=tuple(ders(X509["bundles"]["root"])))
    answer = read_x509(chain, bundle, X509["now"])
    assert checked.kind == "chain"
    assert isinstance(answer, Denied)


@given(st.text(max_size=200) | st.builds("{}.{}.{}".format, *[st.from_regex(r"[A-Za-z0-9_-]{0,40}", fullmatch=True)] * 3))
def test_any_text_gets_a_typed_answer(text):
    assert not check_token(text, JWT["now"], JWT["bundle"].encode()).conforms


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["x509-svid", "EC", "RSA", "P-256"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["keys", "use", "kty", "crv", "x", "y", "n", "e", "x5c", "kid"]), inner)
    ),
    max_leaves=20,
)


@given(plain)
def test_any_json_is_a_bundle_or_not_and_gets_a_typed_answer(value):
    check_bundle(json.dumps(value).encode())
    check_bundle(json.dumps({"keys": [value]}).encode())
    head, body = (base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (value, {"sub": value, "exp": value}))
    check_token(f"{head}.{body}.", JWT["now"], json.dumps({"keys": [value]}).encode())
