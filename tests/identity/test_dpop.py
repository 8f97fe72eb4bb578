"""Proofs of possession: addresses in one spelling, nonces, and any bytes at all. What a request makes of them: tests/flows/test_admit_request_delegation.py."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity_world import NOW, OTHER_KEY, b64, es256

from vouchgate.identity.dpop import MAX_PROOF_BYTES, Proof, normal_url, read_proof, thumbprint
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

URL = "https://sts.example/token"
BEGAN = UnixMillis(0)


def jwk() -> dict[str, str]:
    numbers = OTHER_KEY.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}


def sealed(claims: bytes, header: bytes | None = None) -> str:
    """Any bytes as claims, signed by the key that the header names."""
    head = json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk()}).encode() if header is None else header
    text = f"{b64(head)}.{b64(claims)}"
    return f"{text}.{b64(es256(text.encode(), OTHER_KEY))}"


def claims(**changes: object) -> bytes:
    return json.dumps({"jti": "proof-123", "htm": "POST", "htu": URL, "iat": NOW // 1000} | changes).encode()


def read(text: str, nonce: str = "") -> Proof | Denied:
    return read_proof(text, method="POST", urls={URL}, now=NOW, began=BEGAN, nonce=nonce)


def test_the_hand_made_proof_of_these_tests_is_good() -> None:
    said = read(sealed(claims()))
    assert isinstance(said, Proof), said
    assert said.jkt == thumbprint(jwk())


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    # RFC 9449, section 4.2 and 6.1: the key of the example and its thumbprint
    key = {
        "kty": "EC",
        "crv": "P-256",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    }
    assert thumbprint(key) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "é",
        "x" * (MAX_PROOF_BYTES + 1),
        sealed(claims()) + ".",
        sealed(claims())[:-2],
        sealed(claims()) + "," + sealed(claims()),
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    assert isinstance(read(text), Denied)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"jti":"proof-123","jti":"proof-123"}', b"\xff", claims() + b" x", b"[" * 500]
)
def test_claims_that_are_none_are_refused(body: bytes) -> None:
    assert isinstance(read(sealed(body)), Denied)


def test_a_nonce_must_be_the_one_that_was_asked_for() -> None:
    assert isinstance(read(sealed(claims(nonce="n-1")), "n-1"), Proof)
    for body, nonce in (
        (claims(nonce="n-2"), "n-1"),
        (claims(), "n-1"),
        (claims(nonce="n-1"), ""),
        (claims(nonce=1), "n-1"),
        (claims(nonce=None), "n-1"),
    ):
        assert isinstance(read(sealed(body), nonce), Denied)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://a.example", "https://a.example/"), ("HTTPS://A.EXAMPLE/P", "https://a.example/P"), ("https://a.example:443/p", "https://a.example/p"),
        ("http://a.example:80/p", "http://a.example/p"), ("http://a.example:443/p", "http://a.example:443/p"), ("https://[::1]:8443/p", "https://[::1]:8443/p"),
        ("https://a.example/p?q", ""), ("https://a.example/p#f", ""), ("https://u@a.example/p", ""), ("https://u:p@a.example/p", ""), ("https://a.example:/p", ""),
        ("https://a.example:0443/p", ""), ("https://a.example:99999/p", ""), ("https://a.example:-1/p", ""), ("//a.example/p", ""), ("a.example/p", ""),
        ("ftp://a.example/p", ""), ("https:///p", ""), ("https://a b/p", ""), ("https://a.example/p q", ""), ("https://a.example\\p", ""), ("", ""),
        ("https://a.example/\u0430", ""), ("https://\u0430.example/p", ""), ("https://a.example/p\n", ""), ("https://a.example" + "/x" * 2_000, ""),
    ],
)  # fmt: skip
def test_an_address_has_one_spelling_or_none(text: str, wanted: str) -> None:
    assert normal_url(text) == wanted
    assert normal_url(wanted) == wanted


@given(st.text(max_size=80))
def test_any_text_for_an_address_gives_one_that_stays(text: str) -> None:
    once = normal_url(text)
    assert normal_url(once) == once


@given(st.binary(max_size=120), st.binary(max_size=120))
def test_any_bytes_give_an_answer(head: bytes, body: bytes) -> None:
    assert isinstance(read(sealed(body)), Denied)
    assert isinstance(read(sealed(claims(), head)), Denied)


@given(st.integers(0, 600), st.integers(33, 126))
def test_no_changed_character_leaves_a_proof_good(place: int, character: int) -> None:
    good = sealed(claims())
    changed = good[: place % len(good)] + chr(character) + good[place % len(good) + 1 :]
    if changed != good:
        assert isinstance(read(changed), Denied)
