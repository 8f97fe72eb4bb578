"""JWT-SVID: the list of RFC 8725 and of JWT-SVID sections 2 to 4, one failure a case."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st
from identity_world import (
    AUDIENCE,
    BUNDLE,
    JWT_KEY,
    JWT_SPKI,
    KID,
    NOW,
    OTHER_KEY,
    PRINCIPAL,
    TD,
    as_json,
    b64,
    claims,
    es256,
    header,
    token,
)  # fmt: skip

from vouchgate.identity.actors import Beyond
from vouchgate.identity.bundle import TrustBundle
from vouchgate.identity.jwtsvid import MAX_TOKEN_BYTES, JwtFacts, issue_jwt, read_jwt
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError
from vouchgate.vocabulary.outcomes import Denied

SECONDS = NOW // 1000


def issue(**changes):
    wanted = {"key": JWT_KEY, "kid": KID, "trust_domain": TD, "now": NOW, "ttl_seconds": 300, "jti": "abcdefgh12345678"} | changes
    principal, audience = wanted.pop("principal", PRINCIPAL), wanted.pop("audience", AUDIENCE)
    return issue_jwt(principal, audience, **wanted)


def refused(text: str, *, code: str, now: int = NOW) -> None:
    answer = read_jwt(text, BUNDLE, AUDIENCE, now)
    assert isinstance(answer, Denied), answer
    assert answer.code == code, answer
    assert answer.remedy
    assert not text.strip(". ") or text not in answer.reason + answer.remedy


def test_an_issued_token_is_read_back():
    issued = issue(cnf_x5t="ab" * 32)
    facts = read_jwt(issued.token, BUNDLE, AUDIENCE, NOW)
    assert facts == JwtFacts(PRINCIPAL, "abcdefgh12345678", issued.expires_at, "ab" * 32, Beyond(cnf_x5t=b64(bytes.fromhex("ab" * 32))))
    head = json.loads(base64.urlsafe_b64decode(issued.token.split(".")[0] + "=="))
    assert set(head) == {"alg", "kid", "typ"}


def test_the_hand_made_token_of_these_tests_is_good():
    assert isinstance(read_jwt(token(), BUNDLE, AUDIENCE, NOW), JwtFacts)


@pytest.mark.parametrize(
    "changes",
    [
        {"ttl_seconds": 301}, {"ttl_seconds": 0}, {"ttl_seconds": -5}, {"principal": "spiffe://other.local/service/prod/a"},
        {"principal": "spiffe://test.local/service/prod/A"}, {"audience": ""}, {"audience": "x" * 600}, {"audience": "a\nb"},
        {"jti": "x"}, {"cnf_x5t": "zz"}, {"cnf_x5t": "AB" * 32},
    ],
)  # fmt: skip
def test_what_must_not_be_issued_is_not(changes):
    with pytest.raises(VouchgateError):
        issue(**changes)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "HS256", "HS512", "RS256", "ES384", "EdDSA", "es256", "", None, 256, ["ES256"]])
def test_another_algorithm_is_refused(alg):
    refused(token(header(alg=alg)), code="jwt-header" if alg is None else "jwt-algorithm")


def test_alg_none_without_signature_is_refused():
    bare = f"{b64(as_json(header(alg='none')))}.{b64(as_json(claims()))}."
    refused(bare, code="jwt-malformed")


@pytest.mark.parametrize(
    "secret",
    [
        JWT_SPKI,
        serialization.load_der_public_key(JWT_SPKI).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    ],
)
@pytest.mark.parametrize("alg", ["HS256", "ES256"])
def test_the_public_key_as_hmac_secret_is_refused(secret, alg):
    """RFC 8725, section 2.1: algorithm confusion."""
    signed = f"{b64(as_json(header(alg=alg)))}.{b64(as_json(claims()))}"
    for tag in (hmac.digest(secret, signed.encode(), "sha256"), hmac.digest(secret, signed.encode(), "sha512")):
        refused(f"{signed}.{b64(tag)}", code="jwt-algorithm" if alg == "HS256" else "jwt-signature")


def test_a_real_rsa_signature_under_a_bundle_key_id_is_refused():
    key = rsa.generate_private_key(65537, 2048)
    signed = f"{b64(as_json(header(alg='RS256')))}.{b64(as_json(claims()))}"
    refused(f"{signed}.{b64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}", code="jwt-algorithm")


def test_a_bundle_key_that_is_no_p256_key_verifies_nothing():
    key = ec.generate_private_key(ec.SECP384R1())
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    bundle = TrustBundle(trust_domain=TD, jwt_authorities={"k": spki})
    answer = read_jwt(token(header(kid="k")), bundle, AUDIENCE, NOW)
    assert isinstance(answer, Denied)
    assert answer.code == "jwt-signature"


@pytest.mark.parametrize("kid", ["", "0" * 64, "../../etc/passwd", "' or 1=1", 7, ["x"], {"a": 1}, True])
def test_an_unknown_key_id_is_refused(kid):
    refused(token(header(kid=kid)), code="jwt-unknown-key")


def test_no_key_id_is_refused():
    refused(token(header(kid=None)), code="jwt-header")


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"jwk": {"kty": "EC"}}, {"jku": "http://127.0.0.1/k"}, {"x5u": "http://127.0.0.1/c"},
        {"x5c": ["AAAA"]}, {"x5t": "AA"}, {"x5t#S256": "AA"}, {"cty": "JWT"}, {"zip": "DEF"}, {"enc": "A128GCM"}, {"p2c": 10**9}, {"url": "x"},
        {"nonce": "x"}, {"": 1},
    ],
)  # fmt: skip
def test_any_further_header_member_is_refused(extra):
    """RFC 7515, section 4.1; RFC 8725, sections 3.4, 3.10: nothing in the token chooses a key or is fetched."""
    refused(token(header() | extra), code="jwt-header")


@pytest.mark.parametrize("typ", ["jwt", "JOSE", "at+jwt", "dpop+jwt", "application/jwt", "", 1, None])
def test_another_type_is_refused(typ):
    refused(token(header(typ=typ)), code="jwt-header" if typ is None else "jwt-algorithm")


def test_an_embedded_key_that_signed_the_token_is_refused():
    numbers = OTHER_KEY.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
    refused(token(header(jwk=jwk), key=OTHER_KEY), code="jwt-header")


def test_another_keys_signature_is_refused():
    refused(token(key=OTHER_KEY), code="jwt-signature")


def test_a_nested_token_is_refused():
    """RFC 8725, section 2.8 and 3.1."""
    refused(token(body=token().encode()), code="jwt-malformed")
    refused(token(header(cty="JWT"), token().encode()), code="jwt-malformed")


@pytest.mark.parametrize(
    "head",
    [
        b'{"alg":"ES256","alg":"none","kid":"%s","typ":"JWT"}', b'{"alg":"none","alg":"ES256","kid":"%s","typ":"JWT"}',
        b'{"alg":"ES256","kid":"%s","typ":"JWT","typ":"JWT"}', b'{"alg":"ES256","\\u0061lg":"none","kid":"%s","typ":"JWT"}',
    ],
)  # fmt: skip
def test_duplicate_header_members_are_refused(head):
    refused(token(head % KID.encode()), code="jwt-malformed")


@pytest.mark.parametrize("name", ["sub", "aud", "exp", "iat", "jti", "iss"])
def test_duplicate_claims_are_refused(name):
    body = json.dumps(claims())
    twice = body[:-1] + f', "{name}": {json.dumps(claims()[name])}' + "}"
    refused(token(body=twice.encode()), code="jwt-malformed")


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b"null", b'"x"', b"", b"{", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"exp":NaN}', b'{"exp":Infinity}', b"{}{}",
             b"[" * 500, b'{"a":' * 100 + b"1" + b"}" * 100, b'{"sub":"\\ud800"}'],
)  # fmt: skip
def test_a_body_that_is_no_strict_object_is_refused(body):
    if not body:
        refused(f"{b64(as_json(header()))}..{b64(b'x' * 64)}", code="jwt-malformed")
    else:
        refused(token(body=body), code="jwt-malformed")


@pytest.mark.parametrize("name", ["sub", "aud", "exp", "iat", "jti", "iss"])
def test_a_missing_claim_is_refused(name):
    refused(token(body=claims(**{name: None})), code="jwt-claims")


@pytest.mark.parametrize("name", ["admin", "act", "scope", "groups", "azp", "SUB"])
def test_an_unknown_claim_is_refused(name):
    refused(token(body=claims() | {name: "x"}), code="jwt-claims")


@pytest.mark.parametrize(
    "aud",
    [[AUDIENCE], [AUDIENCE, "vg://test.local/endpoint/other"], [], "", AUDIENCE + "/", AUDIENCE.upper(), "vg://test.local/endpoint/other", 1, {},
     AUDIENCE + "\x00", " " + AUDIENCE],
)  # fmt: skip
def test_another_audience_or_several_are_refused(aud):
    refused(token(body=claims(aud=aud)), code="jwt-audience")


@pytest.mark.parametrize("sub", ["spiffe://test.local", "spiffe://test.local/", "spiffe://test.local/service/prod/../x", "spiffe://TEST.local/service/prod/a",
                                 "https://test.local/service/prod/a", "spiffe://test.local/service/prod/a%20b", "spiffe://test.local/nokind/prod/a", ""])  # fmt: skip
def test_a_subject_that_is_no_principal_is_refused(sub):
    refused(token(body=claims(sub=sub)), code="jwt-subject")


def test_another_trust_domain_is_refused():
    refused(token(body=claims(sub="spiffe://other.local/service/prod/a")), code="jwt-subject")
    refused(token(body=claims(iss="spiffe://other.local")), code="jwt-subject")
    refused(token(body=claims(iss="https://test.local")), code="jwt-subject")


@pytest.mark.parametrize("jti", ["", "x", "a" * 65, "a b c d e f g", "abcdefgh\n", 12345678, None, ["abcdefgh"]])
def test_a_malformed_token_id_is_refused(jti):
    refused(token(body=claims() | {"jti": jti}), code="jwt-claims")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": SECONDS}, "jwt-expired"), ({"exp": SECONDS - 1}, "jwt-expired"), ({"exp": 0, "iat": 0}, "jwt-expired"),
        ({"exp": SECONDS + 301}, "jwt-life"), ({"exp": SECONDS + 10**6}, "jwt-life"), ({"iat": SECONDS - 1}, "jwt-life"),
        ({"iat": SECONDS + 2}, "jwt-not-yet"), ({"nbf": SECONDS + 2}, "jwt-not-yet"), ({"iat": SECONDS + 10**5, "exp": SECONDS + 10**5 + 9}, "jwt-not-yet"),
        ({"exp": SECONDS + 0.5}, "jwt-claims"), ({"exp": str(SECONDS + 9)}, "jwt-claims"), ({"exp": True}, "jwt-claims"), ({"iat": -1}, "jwt-claims"),
        ({"exp": 2**63}, "jwt-claims"), ({"exp": 10**400}, "jwt-claims"), ({"nbf": "x"}, "jwt-claims"), ({"nbf": False}, "jwt-claims"),
        ({"exp": [SECONDS + 9]}, "jwt-claims"),
    ],
)  # fmt: skip
def test_times_out_of_order_are_refused(changes, code):
    refused(token(body=claims(**changes)), code=code)


def test_expiry_is_sharp_to_the_millisecond():
    assert isinstance(read_jwt(token(), BUNDLE, AUDIENCE, NOW + 299_999), JwtFacts)
    refused(token(), code="jwt-expired", now=NOW + 300_000)


@pytest.mark.parametrize("cnf", ["x", {}, {"jkt": "A" * 43}, {"x5t#S256": "A"}, {"x5t#S256": "A" * 42 + "B"}, {"x5t#S256": "A" * 43, "jwk": {}},
                                 {"x5t#S256": 1}, [], True])  # fmt: skip
def test_a_malformed_confirmation_is_refused(cnf):
    refused(token(body=claims(cnf=cnf)), code="jwt-claims")


def test_a_null_confirmation_is_refused():
    body = as_json(claims())[:-1] + b', "cnf": null}'
    answer = read_jwt(token(body=body), BUNDLE, AUDIENCE, NOW)
    assert isinstance(answer, Denied)


def test_other_spellings_of_a_good_token_are_refused():
    """Base64url is canonical: revoking or caching a token by its text cannot be evaded."""
    good = token()
    head, body, signature = good.split(".")
    spellings = [f"{head}=.{body}.{signature}", f"{head}.{body}.{signature}=", f" {good}", f"{good} ", f"{good}\n", f"{head}\n.{body}.{signature}",
                 f"{head}.{body}", f"{good}.", f".{good}", f"{good}.{signature}", f"{head}.{body}.{signature}.a.b", "", "..", ".",
                 good.replace("-", "+").replace("_", "/") if "-" in good or "_" in good else "+" + good, "Bearer " + good, good + "\x00"]  # fmt: skip
    last = signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings.append(f"{head}.{body}.{signature[:-1]}{alphabet[alphabet.index(last) ^ 1]}")
    for spelling in spellings:
        refused(spelling, code="jwt-malformed")


def test_signatures_of_other_forms_are_refused():
    signed = token().rpartition(".")[0]
    der = JWT_KEY.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    raw = es256(signed.encode())
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for signature in (
        der,
        raw[:63],
        raw + b"\x00",
        bytes(64),
        raw[:32] + bytes(32),
        bytes(32) + raw[32:],
        order.to_bytes(32, "big") * 2,
        raw[32:] + raw[:32],
    ):
        refused(f"{signed}.{b64(signature)}", code="jwt-signature")


def test_an_oversized_token_is_refused_unread():
    refused(token() + "A" * MAX_TOKEN_BYTES, code="jwt-malformed")
    refused("A" * 10**6, code="jwt-malformed")
    refused("." * MAX_TOKEN_BYTES, code="jwt-malformed")


def test_an_empty_bundle_verifies_nothing():
    answer = read_jwt(token(), TrustBundle(trust_domain=TD), AUDIENCE, NOW)
    assert isinstance(answer, Denied)


def test_a_token_of_another_domains_bundle_is_refused():
    """A partner's key can sign any subject, but its bundle is its own trust domain's."""
    partner = TrustBundle(trust_domain="partner.local", jwt_authorities=BUNDLE.jwt_authorities)
    answer = read_jwt(token(), partner, AUDIENCE, NOW)
    assert isinstance(answer, Denied)
    assert answer.code == "jwt-subject"


@given(st.integers(min_value=0), st.integers(0, 255))
def test_flipping_any_byte_is_refused(position, value):
    good = token()
    position %= len(good)
    changed = good[:position] + chr(value) + good[position + 1 :]
    if changed != good:
        assert isinstance(read_jwt(changed, BUNDLE, AUDIENCE, NOW), Denied)


@given(st.text(max_size=300))
def test_any_text_gets_a_typed_answer(text):
    assert isinstance(read_jwt(text, BUNDLE, AUDIENCE, NOW), Denied)


@given(
    st.dictionaries(
        st.text(max_size=8), st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists), max_size=6
    )
)
def test_any_claims_get_a_typed_answer(body):
    try:
        text = token(body=claims() | body)
    except UnicodeEncodeError:
        return
    answer = read_jwt(text, BUNDLE, AUDIENCE, NOW)
    assert isinstance(answer, Denied | JwtFacts)
    if isinstance(answer, JwtFacts):
        assert set(body) <= {"sub", "aud", "exp", "iat", "jti", "iss", "nbf", "cnf"}


def test_a_signature_over_a_hash_of_the_token_is_refused():
    signed = token().rpartition(".")[0]
    refused(f"{signed}.{b64(es256(hashlib.sha256(signed.encode()).digest()))}", code="jwt-signature")


def test_issuing_never_raises_anything_untyped():
    with pytest.raises(InvalidInput):
        issue(audience="é")


def test_a_token_for_several_is_read_by_none_of_ours_and_for_each_of_them_elsewhere():
    made = issue(audience="one", more=("two", "three"))
    for audience in ("one", "two", "three"):
        said = read_jwt(made.token, BUNDLE, audience, NOW)
        assert isinstance(said, Denied) and said.code == "jwt-audience"
        assert not isinstance(read_jwt(made.token, BUNDLE, audience, NOW, several=True), Denied)
    assert isinstance(read_jwt(made.token, BUNDLE, "four", NOW, several=True), Denied)


@pytest.mark.parametrize("aud", [["one", AUDIENCE], ["one", 1], ["one"], [["one"], "two"], ["one", *map(str, range(8))]])
def test_a_list_of_audiences_that_is_not_taken_even_for_others(aud):
    assert isinstance(read_jwt(token(body=claims(aud=aud)), BUNDLE, "one", NOW, several=True), Denied)
    assert isinstance(read_jwt(token(body=claims(aud=aud)), BUNDLE, AUDIENCE, NOW, several=True), Denied)


@pytest.mark.parametrize(
    "changes", [{"more": (AUDIENCE,)}, {"audience": AUDIENCE, "more": ("one",)}, {"audience": "one", "more": ("",)},
                {"audience": "one", "more": tuple(map(str, range(8)))}, {"audience": "one", "more": ("two",), "cnf_x5t": "00" * 32}]
)  # fmt: skip
def test_several_audiences_that_are_not_issued(changes):
    with pytest.raises(InvalidInput):
        issue(**changes)
