"""Logging in with a provider that lies: whatever it says, signs or publishes falsely lets nobody in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flows_world import NOW
from joserfc.jwk import RSAKey
from people_world import ADA, CLIENT, OTHER_RSA, RSA, Scene, b64, jwk_of, refused, run, signed, unsigned

from vouchgate.vocabulary.errors import (
    InvalidInput,
    NotPermitted,
    VouchgateError,
)


def _changed(**claims: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda said: {name: value for name, value in {**said, **claims}.items() if value is not None}


SECONDS = NOW // 1000


LIES: list[tuple[dict[str, Any], str]] = [
    ({"iss": "https://evil.example"}, "another issuer"),
    ({"iss": None}, "another issuer"),
    ({"aud": "somebody-else"}, "not for this client"),
    ({"aud": [CLIENT, "somebody-else"]}, "not for it alone"),
    ({"aud": []}, "not for this client"),
    ({"aud": None}, "not for this client"),
    ({"aud": {"x": CLIENT}}, "not for this client"),
    ({"azp": "somebody-else"}, "another client"),
    ({"nonce": "x" * 43}, "this login"),
    ({"nonce": None}, "this login"),
    ({"nonce": True}, "this login"),
    ({"exp": SECONDS - 61}, "expired"),
    ({"exp": None}, "whole number"),
    ({"exp": "9999999999"}, "whole number"),
    ({"exp": 1e12}, "whole number"),
    ({"exp": True}, "whole number"),
    ({"exp": SECONDS + 400 * 86_400}, "too long"),
    ({"iat": SECONDS + 120, "exp": SECONDS + 300}, "future"),
    ({"iat": SECONDS - 700}, "too old"),
    ({"nbf": SECONDS + 120}, "future"),
    ({"sub": ""}, "subject"),
    ({"sub": None}, "subject"),
    ({"sub": 7}, "subject"),
    ({"sub": "a" * 256}, "subject"),
    ({"sub": "ad\u0430"}, "subject"),
    ({"sub": "a\nb"}, "subject"),
    ({"at_hash": b64(b"0" * 16)}, "access token"),
    ({"groups": {"ml-team": True}}, "list of groups"),
    ({"groups": ["ml-team", 7]}, "list of groups"),
]


def test_an_id_token_that_says_something_else_is_refused() -> None:
    async def story(made: Scene) -> None:
        for claims, word in LIES:
            made.staff.claims = _changed(**claims)
            assert word in await refused(made), claims
        made.staff.claims = lambda said: said
        await made.logged_in()

    run(story)


def test_clocks_may_differ_by_a_minute_and_no_more() -> None:
    async def story(made: Scene) -> None:
        made.staff.claims = lambda said: {**said, "iat": said["iat"] + 59, "nbf": said["iat"] + 59}
        await made.logged_in()
        made.staff.claims = lambda said: {**said, "iat": said["iat"] - 200, "exp": said["iat"] - 50}
        await made.logged_in()
        made.staff.claims = lambda said: {**said, "iat": said["iat"] + 61}
        assert "future" in await refused(made)

    run(story)


def _pem() -> bytes:
    return RSA.as_pem(private=False)


FORGERIES: list[Callable[[dict[str, Any]], str]] = [
    lambda claims: unsigned(claims, {"alg": "none", "kid": "one", "typ": "JWT"}),
    lambda claims: unsigned(claims, {"alg": "none", "kid": "one"}) + "e30",
    lambda claims: unsigned(claims, {"alg": "HS256", "kid": "one", "typ": "JWT"}, _pem()),
    lambda claims: signed(claims, OTHER_RSA, "one", "RS256"),
    lambda claims: signed(claims, RSA, "two", "RS256"),
    lambda claims: signed(claims, RSA, "one", "RS512"),
    lambda claims: signed(claims, RSA, "one", "PS256"),
    lambda claims: signed(claims, RSA, "one", "RS256", jwk=jwk_of(OTHER_RSA, "one")),
    lambda claims: signed(claims, RSA, "one", "RS256", jku="https://evil.example/jwks"),
    lambda claims: unsigned(claims, {"alg": "RS256", "kid": "one", "typ": "JWT", "crit": ["exp"]}, b"x"),
    lambda claims: signed(claims, RSA, "one", "RS256", typ="secevent+jwt"),
    lambda claims: signed(claims, RSA, "one", "RS256", typ="at+jwt"),
    lambda claims: signed(claims, RSA, "one", "RS256")[:-4] + "AAAA",
    lambda claims: signed(claims, RSA, "one", "RS256") + "=",
    lambda claims: signed(claims, RSA, "one", "RS256") + ".x",
    lambda claims: signed({**claims, "x": "y" * 40_000}, RSA, "one", "RS256"),
    lambda claims: "not a token",
    lambda claims: "",
]


def test_a_token_that_is_not_signed_as_it_must_be_is_refused() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in(sub="before")
        for forge in FORGERIES:
            made.staff.token = forge
            await refused(made)
        made.world.clock.at += 20_000
        made.staff.token = made.staff._token
        await made.logged_in()

    run(story)


NO_KEYS = [
    json.dumps({"keys": [jwk_of(RSA, "one"), jwk_of(OTHER_RSA, "one")]}),
    json.dumps({"keys": [jwk_of(RSA, "one"), {"kty": "oct", "kid": "two", "k": "AAAA"}]}),
    json.dumps({"keys": [{**RSA.as_dict(private=True), "kid": "one"}]}),
    json.dumps({"keys": [jwk_of(RSAKey.generate_key(1024), "one")]}),
    json.dumps({"keys": []}),
    json.dumps({"keys": [{"kty": "RSA", "kid": "one", "n": "!!", "e": "AQAB"}]}),
    json.dumps({"keys": {}}),
    '{"keys": [], "keys": []}',
    "[" * 100_000,
    "not json",
    "",
]


def test_keys_that_are_no_set_of_keys_let_nobody_in() -> None:
    async def story(made: Scene) -> None:
        for published in NO_KEYS:
            made.staff.published = published.encode()
            made.world.clock.at += 10_000
            await refused(made, InvalidInput)
            assert "oidc:staff" not in made.world.facts.sources
        await made.logged_in(provider="other")

    run(story)


WRONG_DESCRIPTIONS: list[tuple[dict[str, Any], type[VouchgateError]]] = [
    ({"issuer": "https://evil.example"}, InvalidInput),
    ({"issuer": None}, InvalidInput),
    ({"authorization_endpoint": "https://evil.example/authorize"}, NotPermitted),
    ({"token_endpoint": "https://evil.example/token"}, NotPermitted),
    ({"jwks_uri": "http://169.254.169.254/latest"}, NotPermitted),
    ({"userinfo_endpoint": "https://evil.example/me"}, NotPermitted),
    ({"authorization_endpoint": "javascript:alert(1)"}, InvalidInput),
    ({"jwks_uri": "file:///etc/passwd"}, InvalidInput),
    ({"token_endpoint": ""}, InvalidInput),
    ({"response_types_supported": ["token"]}, InvalidInput),
    ({"code_challenge_methods_supported": ["plain"]}, InvalidInput),
]


def test_a_description_that_leads_elsewhere_begins_nothing() -> None:
    async def story(made: Scene) -> None:
        wrong = [*WRONG_DESCRIPTIONS, ({"token_endpoint": f"{made.staff.issuer}@evil.example/"}, InvalidInput)]
        for description, kind in wrong:
            made.staff.description = description
            made.world.clock.at += 10_000
            with pytest.raises(kind):
                await made.begun()
        made.staff.description = {}
        made.world.clock.at += 10_000
        await made.begun()

    run(story)


def test_a_token_answer_that_is_malformed_is_refused() -> None:
    async def story(made: Scene) -> None:
        for answer in ({"id_token": 7}, {"id_token": None}, {"token_type": "mac"}, {"access_token": ["x"]}, {"access_token": "a\nb"}):
            made.staff.token_answer = answer
            await refused(made)

    run(story)


def test_userinfo_counts_only_about_the_same_person() -> None:
    async def story(made: Scene) -> None:
        made.staff.claims = _changed(groups=None)
        made.staff.userinfo = {"sub": "eve", "groups": ["ml-admins"]}
        assert "another person" in await refused(made)
        made.staff.userinfo = {"groups": ["ml-admins"]}
        assert "another person" in await refused(made)
        made.staff.userinfo = {"sub": "ada", "groups": ["ml-admins"], "iss": "x"}
        await made.logged_in()
        assert made.world.facts.groups_of(ADA) == ("role:registrar",)
        assert made.staff.heard[-1][2]["authorization"] == "Bearer access"

    run(story, userinfo=True)


def test_an_age_that_was_asked_for_must_be_told() -> None:
    async def story(made: Scene) -> None:
        assert "recently" in await refused(made)
        made.staff.claims = lambda said: {**said, "auth_time": said["iat"] - 400}
        assert "recently" in await refused(made)
        made.staff.claims = lambda said: {**said, "auth_time": said["iat"] - 200}
        await made.logged_in()
        assert "max_age=300" in (await made.begun()).url

    run(story, max_age_seconds=300)
