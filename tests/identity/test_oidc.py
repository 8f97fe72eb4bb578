"""The relying party's rules on values alone: keys, signatures, descriptions, requests, names; and that no changed byte of a token holds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from vouchgate.identity.foreign import MAX_TOKEN_BYTES, ForeignKey, Verified, named_key, read_keys, verify_token, write_keys
from vouchgate.identity.oidc import (
    Expected,
    Told,
    authorization_url,
    challenge_of,
    client_assertion,
    description_url,
    half_hash,
    mapped_groups,
    person_name,
    quoted,
    read_id_token,
    read_provider,
    read_tokens,
    shown_name,
)
from vouchgate.vocabulary.base64url import b64, unb64
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

NOW = UnixMillis(1_790_000_000_000)
SECONDS = NOW // 1000
ISSUER, CLIENT = "https://idp.example", "vouchgate"
RSA, EC, EC384 = RSAKey.generate_key(2048), ECKey.generate_key("P-256"), ECKey.generate_key("P-384")
KEYS = read_keys(
    json.dumps({"keys": [{**RSA.as_dict(private=False), "kid": "r", "use": "sig"}, {**EC.as_dict(private=False), "kid": "e"}]}).encode()
)
CLAIMS: dict[str, Any] = {"iss": ISSUER, "sub": "ada", "aud": CLIENT, "exp": SECONDS + 300, "iat": SECONDS, "nonce": "n" * 43}
EXPECTED = Expected(ISSUER, CLIENT, "n" * 43)


def token(claims: dict[str, Any] = CLAIMS, key: Any = EC, alg: str = "ES256", **header: Any) -> str:
    whole = {"alg": alg, "kid": "e", "typ": "JWT", **header}
    return jws.serialize_compact(
        whole, json.dumps(claims).encode(), key, registry=jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    )


def read(text: str, keys: dict[str, ForeignKey] = KEYS, **more: Any) -> Told | Denied:
    return read_id_token(text, keys, EXPECTED, NOW, algorithms=["ES256", "RS256"], **more)


def jwk(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**EC.as_dict(private=False), "kid": "e", **changes}.items() if value is not None}


def test_a_good_token_names_the_person() -> None:
    told = read(token())
    assert isinstance(told, Told)
    assert (told.issuer, told.sub, told.kid) == (ISSUER, "ada", "e")


@given(place=st.integers(min_value=0, max_value=2_000), change=st.characters(codec="ascii"))
@settings(max_examples=300, deadline=None)
def test_no_changed_character_of_a_token_holds(place: int, change: str) -> None:
    text = GOOD
    place %= len(text)
    changed = text[:place] + change + text[place + 1 :]
    assert changed == text or isinstance(read(changed), Denied)


GOOD = token()


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_typed_answer(data: bytes) -> None:
    text = data.decode("latin-1")
    assert isinstance(read(text), Denied)
    assert isinstance(read(f"{b64(data or b'x')}.{b64(data or b'x')}.{b64(data or b'x')}"), Denied)
    assert isinstance(read_tokens(data), Denied)
    named_key(text)
    for reader in (read_keys, lambda raw: read_provider(raw, ISSUER)):
        with pytest.raises(InvalidInput):
            reader(data)


@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"], "exp": 1}, {"jwk": {}}, {"jku": "https://x"}, {"x5u": "https://x"}, {"x5c": []}, {"b64": False}, {"zip": "DEF"}, {"cty": "JWT"}, {"enc": "A"}],
)  # fmt: skip
def test_a_header_that_carries_anything_is_refused_even_where_the_signature_holds(header: dict[str, Any]) -> None:
    head = b64(json.dumps({"alg": "ES256", "kid": "e", "typ": "JWT", **header}).encode())
    signed = f"{head}.{b64(json.dumps(CLAIMS).encode())}"
    text = f"{signed}.{_signature(signed)}"
    denied = read(text)
    assert isinstance(denied, Denied)
    assert denied.code == "oidc-header"
    plain = f"{b64(json.dumps({'alg': 'ES256', 'kid': 'e'}).encode())}.{signed.split('.')[1]}"
    assert isinstance(read(f"{plain}.{_signature(plain)}"), Told)


def _signature(signed: str) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(EC.private_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def test_a_header_with_a_member_twice_is_refused() -> None:
    head = b'{"alg":"ES256","alg":"ES256","kid":"e"}'
    signed = f"{b64(head)}.{b64(json.dumps(CLAIMS).encode())}"
    assert isinstance(read(f"{signed}.{_signature(signed)}"), Denied)


def test_the_public_key_is_no_secret_and_none_is_no_algorithm() -> None:
    body = b64(json.dumps(CLAIMS).encode())
    for alg in ("HS256", "HS384", "HS512"):
        for secret in (RSA.as_pem(private=False), RSA.as_der(private=False), json.dumps(RSA.as_dict(private=False)).encode(), b""):
            signed = f"{b64(json.dumps({'alg': alg, 'kid': 'r'}).encode())}.{body}"
            mac = hmac.new(secret, signed.encode(), hashlib.new("sha" + alg[2:]).name).digest()
            assert isinstance(read(f"{signed}.{b64(mac)}"), Denied)
    for alg in ("none", "None", "NONE", "nOnE", ""):
        signed = f"{b64(json.dumps({'alg': alg, 'kid': 'e'}).encode())}.{body}"
        assert isinstance(read(signed + "."), Denied)
        assert isinstance(read(f"{signed}.{_signature(signed)}"), Denied)


def test_an_algorithm_has_to_be_listed_and_to_fit_its_key() -> None:
    assert isinstance(read_id_token(token(), KEYS, EXPECTED, NOW, algorithms=["RS256"]), Denied)
    assert isinstance(read(token(key=RSA, alg="RS256")), Denied)
    assert isinstance(read(token(key=RSA, alg="RS256", kid="r")), Told)
    assert isinstance(read(token(key=RSA, alg="PS256", kid="r")), Denied)
    bound = read_keys(json.dumps({"keys": [{**RSA.as_dict(private=False), "kid": "r", "alg": "PS256"}]}).encode())
    assert isinstance(read(token(key=RSA, alg="RS256", kid="r"), bound), Denied)
    other = read_keys(json.dumps({"keys": [{**EC384.as_dict(private=False), "kid": "e"}]}).encode())
    assert isinstance(read(token(), other), Denied)


def test_at_hash_is_held_where_it_is_given() -> None:
    good = {**CLAIMS, "at_hash": half_hash("access", "ES256")}
    assert isinstance(read(token(good), access_token="access"), Told)
    assert isinstance(read(token(good), access_token="another"), Denied)
    assert isinstance(read(token(good)), Denied)
    expected = base64.urlsafe_b64encode(hashlib.sha256(b"access").digest()[:16]).rstrip(b"=").decode()
    assert half_hash("access", "RS256") == expected
    assert len(half_hash("access", "EdDSA")) == 43


def test_an_empty_nonce_never_answers_a_login() -> None:
    blank = Expected(ISSUER, CLIENT, "")
    assert isinstance(read_id_token(token({**CLAIMS, "nonce": ""}), KEYS, blank, NOW, algorithms=["ES256"]), Denied)


def test_a_token_over_the_bound_is_refused_unread() -> None:
    assert isinstance(
        verify_token("x" * (MAX_TOKEN_BYTES + 1), KEYS, algorithms=["ES256"], types=["jwt"], require_type=False, what="token"), Denied
    )
    assert isinstance(verify_token(GOOD, KEYS, algorithms=["ES256"], types=["jwt"], require_type=False, what="token"), Verified)


@pytest.mark.parametrize(
    "key",
    [
        jwk(use="enc"), jwk(kty="EC", crv="P-256K"), jwk(kid=None), jwk(kid=""), jwk(kid=7), jwk(kid="x" * 300), jwk(kty="other"), jwk(key_ops=["sign"]),
        jwk(key_ops="verify"), jwk(alg="HS256"), jwk(alg=7), jwk(crv="secp256k1"),
    ],
)  # fmt: skip
def test_keys_that_are_of_no_use_are_passed_over(key: dict[str, Any]) -> None:
    found = read_keys(json.dumps({"keys": [jwk(kid="good"), key]}).encode())
    assert list(found) == ["good"]
    with pytest.raises(InvalidInput):
        read_keys(json.dumps({"keys": [key]}).encode())


@pytest.mark.parametrize(
    "keys",
    [
        [jwk(), jwk()], [jwk(), jwk(use="enc")], [jwk(), {"kty": "oct", "k": "AA"}], [jwk(d="AA")], [jwk(k="AA")], [jwk(x="AA==")], [jwk(x=7)],
        [jwk(kid=str(number)) for number in range(65)], ["key"], [None],
    ],
)  # fmt: skip
def test_a_set_of_somebody_who_is_confused_counts_for_nothing(keys: list[Any]) -> None:
    with pytest.raises(InvalidInput):
        read_keys(json.dumps({"keys": keys}).encode())


def test_keys_that_are_written_read_the_same() -> None:
    assert read_keys(write_keys(KEYS)) == KEYS
    assert write_keys(dict(reversed(KEYS.items()))) == write_keys(KEYS)


def test_a_point_that_is_not_on_the_curve_verifies_nothing() -> None:
    keys = read_keys(json.dumps({"keys": [jwk(x=b64(b"\x01" * 32), y=b64(b"\x02" * 32))]}).encode())
    assert isinstance(read(token(), keys), Denied)


@given(st.binary(min_size=1, max_size=64))
@settings(max_examples=100, deadline=None)
def test_base64url_has_one_spelling(raw: bytes) -> None:
    text = b64(raw)
    assert unb64(text) == raw
    for other in (text + "=", text + "\n", " " + text, text.replace("-", "+").replace("_", "/") if {"-", "_"} & set(text) else text + "+"):
        assert unb64(other) is None


def test_a_request_carries_what_it_must() -> None:
    provider = read_provider(
        json.dumps(
            {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/a?tenant=1", "token_endpoint": f"{ISSUER}/t", "jwks_uri": f"{ISSUER}/k"}
        ).encode(),
        ISSUER,
    )  # fmt: skip
    verifier = "v" * 43
    url = authorization_url(
        provider, client_id="a&b=c", redirect_uri="http://127.0.0.1:1/login/callback", scopes=("profile", "openid"), state="s", nonce="n", verifier=verifier
    )  # fmt: skip
    asked = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert asked["client_id"] == ["a&b=c"]
    assert asked["scope"] == ["openid profile"]
    assert asked["tenant"] == ["1"]
    assert asked["code_challenge"] == [b64(hashlib.sha256(verifier.encode()).digest())]
    assert asked["code_challenge_method"] == ["S256"]
    assert verifier not in url
    with pytest.raises(InvalidInput):
        challenge_of("short")


def test_where_a_provider_describes_itself() -> None:
    assert description_url("https://a/b/") == description_url("https://a/b") == "https://a/b/.well-known/openid-configuration"


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
@settings(max_examples=300, deadline=None)
def test_two_persons_never_share_a_name(one: str, two: str) -> None:
    names = {person_name("td", "staff", ISSUER, sub) for sub in {one, two}}
    assert len(names) == len({one, two})


def test_a_hashed_name_cannot_be_claimed_and_depends_on_the_issuer() -> None:
    hashed = person_name("td", "staff", ISSUER, "Ada@x").rpartition("/")[2]
    assert person_name("td", "staff", ISSUER, hashed).rpartition("/")[2] != hashed
    assert person_name("td", "staff", "https://other", "Ada@x").rpartition("/")[2] != hashed
    assert person_name("td", "staff", ISSUER, "ada") == "spiffe://td/person/staff/ada"


def test_groups_are_those_of_the_map() -> None:
    groups = {"a": "callers", "b": "callers", "c": "role:auditor"}
    assert mapped_groups({"groups": ["a", "b", "x", "role:auditor", "callers"]}, "groups", groups) == ("callers",)
    assert mapped_groups({"groups": "c"}, "groups", groups) == ("role:auditor",)
    assert mapped_groups({}, "groups", groups) == ()
    for wrong in (7, {"a": 1}, [["a"]], None, ["a"] * 3_000):
        assert isinstance(mapped_groups({"groups": wrong}, "groups", groups), Denied)


def test_a_shown_name_is_bounded_and_printable() -> None:
    assert shown_name({"name": "A\u202eda\n" + "x" * 500}, "name") == "Ada" + "x" * 125
    assert shown_name({"name": ["x"]}, "name") == ""


def test_quoting_is_what_the_standard_library_does() -> None:
    from urllib.parse import quote

    text = "aZ09-._~ /?#[]@!$&'()*+,;=%\u00e4\U0001f600"
    assert quoted(text) == quote(text, safe="")


def test_a_client_proves_itself_with_its_key() -> None:
    pem = EC.private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    text = client_assertion(pem, CLIENT, f"{ISSUER}/t", jti="j", now=NOW)
    said = jws.deserialize_compact(text, EC, algorithms=["ES256"])
    claims = json.loads(said.payload)
    assert claims == {"iss": CLIENT, "sub": CLIENT, "aud": f"{ISSUER}/t", "jti": "j", "iat": SECONDS, "exp": SECONDS + 60}
    for wrong in (b"nonsense-secret", RSA.as_pem(private=True), b""):
        with pytest.raises(InvalidInput) as told:
            client_assertion(wrong, CLIENT, ISSUER, jti="j", now=NOW)
        assert "nonsense" not in told.value.reason
