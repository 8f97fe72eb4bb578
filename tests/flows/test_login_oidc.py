"""Logging in with a provider over real HTTP: what a good one gives, and what every lie, fault and attack does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from flows_world import NOW, TD, registration, revoked
from joserfc.jwk import RSAKey
from people_world import CLIENT, EC, ED, OTHER_RSA, RSA, Scene, b64, jwk_of, scene, signed, unsigned

from vouchgate.flows.changes import CredentialIssued, RegistrationPut
from vouchgate.flows.login import Codes
from vouchgate.flows.login_oidc import MAX_WAITING_OF_A_CLIENT, MAX_WAITING_OF_ONE, WAITS_MS, CallBack
from vouchgate.vocabulary.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotPermitted,
    Unavailable,
    Unverified,
    VouchgateError,
)
from vouchgate.vocabulary.vouches import UnixMillis

ADA = f"spiffe://{TD}/person/staff/ada"


def run(story: Callable[[Scene], Awaitable[None]], **options: Any) -> None:
    async def go() -> None:
        async with scene(**options) as made:
            await story(made)

    asyncio.run(go())


async def refused(
    made: Scene, kind: type[VouchgateError] = Unverified, *, provider: str = "staff", back: CallBack | None = None, **how: Any
) -> str:
    """Log in; it must fail with exactly this error, be recorded, and give nothing."""
    before, logged = dict(made.world.facts.registrations), len(made.entries("did not authenticate"))
    begun = await made.begun(provider)
    coming = back or getattr(made, provider).authorize(begun.url, **how)
    if back is not None and back.state == "":
        coming = _with_state(back, begun.state)
    with pytest.raises(kind) as told:
        await made.people.finish(begun.binding, "browser", coming, peer="test")
    assert type(told.value) is kind, told.value
    assert told.value.remedy
    assert dict(made.world.facts.registrations) == before
    assert len(made.entries("did not authenticate")) == logged + 1
    return told.value.reason


def _with_state(back: CallBack, state: str) -> CallBack:
    return CallBack(state=state, code=back.code, iss=back.iss, error=back.error)


# --- what holds -------------------------------------------------------------------------------------------------------------------


def test_a_person_is_in_with_the_groups_that_are_mapped() -> None:
    async def story(made: Scene) -> None:
        caller = await made.logged_in(groups=["ml-team", "everyone", "role:registrar"])
        assert (caller.how, caller.principal.principal.id, caller.principal.credential_kind) == ("cookie", ADA, "cookie")
        known = made.world.facts.registrations[ADA]
        assert (known.groups, known.source) == (("callers",), "login")
        assert known.expires_at == made.world.clock.at + 480 * 60_000
        assert len(made.entries('"authentication"', ADA)) == 1
        assert len(made.entries("source-keys", '"came":["one"]')) == 1
        made.people.check(caller)

    run(story)


def test_a_role_is_given_only_by_the_map() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in(groups=["role:registrar"])
        assert made.world.facts.groups_of(ADA) == ()
        await made.logged_in(groups=["ml-admins"])
        assert made.world.facts.groups_of(ADA) == ("role:registrar",)

    run(story)


def test_who_lost_a_group_loses_it_at_the_next_login() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in(groups=["ml-team", "ml-admins"])
        await made.logged_in(groups=["ml-team"])
        assert made.world.facts.groups_of(ADA) == ("callers",)
        await made.logged_in(groups=[])
        assert made.world.facts.groups_of(ADA) == ()

    run(story)


@pytest.mark.parametrize("key", [("e", EC, "ES256"), ("d", ED, "EdDSA"), ("r", RSA, "PS256")])
def test_each_listed_algorithm_is_taken(key: Any) -> None:
    async def story(made: Scene) -> None:
        made.staff.keys = [key]
        assert (await made.logged_in()).principal.principal.id == ADA

    run(story)


def test_the_command_line_gets_a_session_of_its_own_kind() -> None:
    async def story(made: Scene) -> None:
        caller = await made.logged_in(owner="uid:1000")
        assert (caller.how, caller.principal.credential_kind) == ("session", "session")
        assert caller.principal.not_after == made.world.facts.registrations[ADA].expires_at

    run(story)


def test_a_name_that_is_not_plain_is_hashed() -> None:
    subs = ["Ada", "ada@example.com", "00u1abcDEF", "a/b", "..", ".", "a" * 65, "a b", "u-" + "0" * 32, "spiffe://x/person/admin/root"]

    async def story(made: Scene) -> None:
        names = [(await made.logged_in(sub=sub)).principal.principal.id for sub in subs]
        assert len(set(names)) == len(subs)
        for sub, name in zip(subs, names, strict=True):
            assert name.startswith(f"spiffe://{TD}/person/staff/u-")
            assert len(name.rpartition("/")[2]) == 34
            assert not name.endswith(f"/{sub}")

    run(story)


def test_the_registration_ends_by_itself() -> None:
    async def story(made: Scene) -> None:
        caller = await made.logged_in()
        made.world.clock.at += 480 * 60_000 + 1
        with pytest.raises(Unverified):
            made.people.check(caller)

    run(story)


# --- providers that lie -----------------------------------------------------------------------------------------------------------


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


# --- providers that are slow, break off, rotate -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/token", "/jwks"])
@pytest.mark.parametrize("fault", ["drop", "500"])
def test_a_provider_that_breaks_off_lets_nobody_in_and_disturbs_nobody(path: str, fault: str) -> None:
    async def story(made: Scene) -> None:
        made.staff.fault = {path: fault}
        await refused(made, Unverified if (path, fault) == ("/token", "500") else Unavailable)
        await made.logged_in(provider="other")
        made.staff.fault = {}
        made.world.clock.at += 20_000
        await made.logged_in()

    run(story)


def test_a_slow_provider_keeps_nobody_else_waiting() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.staff.gate = asyncio.Event()
        begun = await made.begun()
        slow = asyncio.create_task(made.people.finish(begun.binding, "browser", made.staff.authorize(begun.url), peer="test"))
        await asyncio.wait_for(made.logged_in(provider="other"), 2)
        assert not slow.done()
        made.staff.gate.set()
        assert (await slow)[0].principal.principal.id == ADA

    run(story)


def test_a_token_service_that_is_away_is_told() -> None:
    async def story(made: Scene) -> None:
        made.outbound.away = "gone"
        with pytest.raises(Unavailable):
            await made.begun()

    run(story)


def test_keys_that_rotate_during_a_login_are_fetched_once_more() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.world.clock.at += 60_000
        begun = await made.begun()
        made.staff.keys = [("two", OTHER_RSA, "RS256")]
        await made.people.finish(begun.binding, "browser", made.staff.authorize(begun.url), peer="test")
        assert json.loads(made.world.facts.sources["oidc:staff"].keys)["keys"][0]["kid"] == "two"
        assert len(made.entries('"went":["one"]', '"came":["two"]')) == 1
        made.staff.token = lambda claims: signed(claims, RSA, "one", "RS256")
        assert "does not publish" in await refused(made)

    run(story)


def test_made_up_key_ids_ask_the_provider_at_most_every_ten_seconds() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        asked = made.staff.asked("/jwks")
        made.world.clock.at += 60_000
        for number in range(20):
            made.staff.token = lambda claims, number=number: signed(claims, RSA, f"made-up-{number}", "RS256")
            await refused(made)
        assert made.staff.asked("/jwks") == asked + 1

    run(story)


def test_keys_of_before_count_while_they_cannot_be_looked_at_and_not_for_ever() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.staff.fault = {"/jwks": "500", "/.well-known/openid-configuration": ""}
        made.world.clock.at += 2 * 3_600_000
        await made.logged_in()
        made.world.clock.at += 25 * 3_600_000
        await refused(made, Unavailable)

    run(story)


def test_looks_that_fail_do_not_keep_old_keys_alive() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.staff.fault = {"/jwks": "500"}
        for _ in range(12):
            made.world.clock.at += 2 * 3_600_000 - 1_000
            await made.logged_in()
        made.world.clock.at += 3_600_000
        await refused(made, Unavailable)

    run(story)


def test_pinned_keys_count_alone_and_none_are_fetched() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        assert made.staff.asked("/jwks") == 0
        assert len(made.entries("source-keys", '"came":["one"]')) == 1
        made.staff.keys = [("two", OTHER_RSA, "RS256")]
        assert "does not publish" in await refused(made)
        assert made.staff.asked("/jwks") == 0

    run(story, keys=json.dumps({"keys": [jwk_of(RSA, "one")]}))
    run(lambda made: _discard(refused(made, InvalidInput)), keys='{"keys": []}')


def test_a_restart_goes_on_with_the_recorded_keys() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.people.sources._looks.clear()
        asked = made.staff.asked("/jwks")
        await made.logged_in()
        assert made.staff.asked("/jwks") == asked

    run(story)


# --- attacks ----------------------------------------------------------------------------------------------------------------------


def test_a_state_is_used_once() -> None:
    async def story(made: Scene) -> None:
        begun = await made.begun()
        back = made.staff.authorize(begun.url)
        await made.people.finish(begun.binding, "browser", back, peer="test")
        with pytest.raises(Unverified, match="finished before"):
            await made.people.finish(begun.binding, "browser", back, peer="test")

    run(story)


def test_two_at_once_with_one_state_give_one_login() -> None:
    async def story(made: Scene) -> None:
        begun = await made.begun()
        back = made.staff.authorize(begun.url)
        tries = [made.people.finish(begun.binding, "browser", back, peer="test") for _ in range(5)]
        told = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(isinstance(one, Unverified) for one in told) == [False, True, True, True, True]

    run(story)


def test_a_code_is_used_once() -> None:
    async def story(made: Scene) -> None:
        begun = await made.begun()
        back = made.staff.authorize(begun.url)
        await made.people.finish(begun.binding, "browser", back, peer="test")
        await refused(made, back=CallBack(state="", code=back.code, iss=made.staff.issuer))

    run(story)


def test_somebody_elses_answer_is_not_finished_here() -> None:
    """Login CSRF: an attacker's own answer put into a victim's browser, which holds another binding or none."""

    async def story(made: Scene) -> None:
        attacker, victim = await made.begun(), await made.begun()
        back = made.staff.authorize(attacker.url, sub="mallory")
        for binding in (victim.binding, "", attacker.state):
            with pytest.raises(Unverified):
                await made.people.finish(binding, "browser", back, peer="test")
        with pytest.raises(Unverified):
            await made.people.finish(attacker.binding, "uid:1000", back, peer="test")
        assert not made.world.facts.registrations
        # what a stranger tried used nothing up
        await made.people.finish(attacker.binding, "browser", back, peer="test")

    run(story)


def test_a_code_of_another_login_does_not_fit() -> None:
    """Code injection: PKCE and the nonce hold the code to the login for which it was made."""

    async def story(made: Scene) -> None:
        stolen = made.staff.authorize((await made.begun()).url, sub="victim")
        await refused(made, back=CallBack(state="", code=stolen.code, iss=made.staff.issuer))

    run(story)


def test_an_id_token_of_another_login_does_not_fit() -> None:
    async def story(made: Scene) -> None:
        kept: list[str] = []
        made.staff.token = lambda claims: kept.append(made.staff._token(claims)) or kept[0]  # type: ignore[func-returns-value]
        await made.logged_in(sub="victim")
        assert "this login" in await refused(made)

    run(story)


@pytest.mark.parametrize("iss", ["", "https://evil.example"])
def test_a_mix_up_is_seen_by_the_issuer(iss: str) -> None:
    async def story(made: Scene) -> None:
        other = made.other.authorize((await made.begun("other")).url)
        told = await refused(made, back=CallBack(state="", code=other.code, iss=iss or made.other.issuer))
        assert "another provider" in told
        if not iss:
            assert "another provider" in await refused(made, back=CallBack(state="", code=other.code))
        assert made.staff.asked("/token") == 0

    run(story)


def test_a_mix_up_without_iss_still_gives_nothing() -> None:
    async def story(made: Scene) -> None:
        made.staff.answer_iss = made.other.answer_iss = False
        other = made.other.authorize((await made.begun("other")).url)
        await refused(made, back=CallBack(state="", code=other.code))

    run(story)


def test_a_token_of_one_provider_is_nothing_to_the_other() -> None:
    async def story(made: Scene) -> None:
        made.staff.claims = lambda said: {**said, "iss": made.other.issuer}
        await refused(made)
        made.staff.claims = lambda said: said
        one, two = await made.logged_in(sub="ada"), await made.logged_in(sub="ada", provider="other")
        assert one.principal.principal.id != two.principal.principal.id

    run(story)


def test_an_error_of_the_provider_ends_the_login_and_is_told_plainly() -> None:
    async def story(made: Scene) -> None:
        reason = await refused(made, back=CallBack(state="", error='access_denied"><script>', iss=made.staff.issuer))
        assert "access_denied" in reason
        assert "<" not in reason

    run(story)


@pytest.mark.parametrize("back", [CallBack(state="x" * 5000), CallBack(state="", code="x" * 5000), CallBack(state="", error="x" * 5000)])
def test_an_answer_without_bounds_is_refused(back: CallBack) -> None:
    run(lambda made: _discard(refused(made, InvalidInput, back=back)))


async def _discard(work: Awaitable[Any]) -> None:
    await work


def test_a_login_ends_after_ten_minutes() -> None:
    async def story(made: Scene) -> None:
        begun = await made.begun()
        back = made.staff.authorize(begun.url)
        made.world.clock.at += WAITS_MS + 1
        with pytest.raises(Unverified, match="too long"):
            await made.people.finish(begun.binding, "browser", back, peer="test")

    run(story)


def test_many_logins_of_one_do_not_push_out_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.flows.login_oidc.MAX_WAITING_OF_A_KIND", 200)

    async def story(made: Scene) -> None:
        mine, browsers = await made.begun(owner="uid:1"), await made.begun()
        for _ in range(MAX_WAITING_OF_ONE + 5):
            await made.begun(owner="uid:2")
        for number in range(250):
            await made.begun(owner=f"authorize:{number}")
        for _ in range(MAX_WAITING_OF_ONE):
            await made.begun(owner="authorize:249")
        assert len(made.people.logins._waiting) == MAX_WAITING_OF_ONE + 2 + 200
        await made.people.finish(mine.binding, "uid:1", made.staff.authorize(mine.url), peer="test")
        await made.people.finish(browsers.binding, "browser", made.staff.authorize(browsers.url), peer="test")
        assert sum(one.owner == "authorize:249" for one in made.people.logins._waiting.values()) == MAX_WAITING_OF_A_CLIENT
        made.world.clock.at += WAITS_MS + 1
        await made.begun()
        assert len(made.people.logins._waiting) == 1

    run(story)


def test_a_flood_of_refusals_is_told_and_fills_no_log() -> None:
    async def story(made: Scene) -> None:
        for _ in range(400):
            with pytest.raises(Unverified):
                await made.people.finish("x", "authorize:1", CallBack(state="made-up"), peer="test")
        assert len(made.entries("did not authenticate")) < 200
        assert made.people.logins._untold["authorize"] > 200
        with pytest.raises(Unverified):
            await made.people.finish("x", "browser", CallBack(state="made-up"), peer="a browser")
        assert len(made.entries("a browser")) == 1

    run(story)


def test_a_console_code_ends_with_whom_it_stands_for() -> None:
    async def story(made: Scene) -> None:
        codes = Codes()
        made.people.ends_too(codes.forget)
        caller = await made.logged_in()
        other = await made.logged_in(sub="bob")
        mine, bobs = (codes.make(one.principal.principal, made.world.clock.now()) for one in (caller, other))
        await made.told(made.staff.event("https://schemas.openid.net/secevent/caep/event-type/session-revoked"))
        await made.logged_in()
        with pytest.raises(Unverified):
            codes.use(mine, made.world.clock.now())
        assert codes.use(bobs, made.world.clock.now()).id == other.principal.principal.id

    run(story)


def test_an_unknown_provider_is_told() -> None:
    async def story(made: Scene) -> None:
        with pytest.raises(NotFound):
            await made.begun("nobody")

    run(story)


def test_nobody_elses_registration_is_taken_over() -> None:
    async def story(made: Scene) -> None:
        await made.world.put(RegistrationPut(registration=registration(ADA, groups=("role:key-custodian",), uid=7)))
        await refused(made, Conflict)
        assert made.world.facts.registrations[ADA].groups == ("role:key-custodian",)

    run(story)


def test_nothing_is_given_while_the_clock_is_in_trouble() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in(sub="before")
        made.world.clock.trouble = "the clock jumped"
        await refused(made, Unavailable)

    run(story)


def test_a_revoked_person_is_refused_until_it_is_undone() -> None:
    async def story(made: Scene) -> None:
        caller = await made.logged_in()
        await made.world.put(revoked("principal", ADA))
        with pytest.raises(Unverified, match="revoked"):
            made.people.check(caller)
        assert "revoked" in await refused(made)
        await made.world.put(revoked("principal", ADA, withdrawn="w"))
        with pytest.raises(Unverified, match="ended"):
            made.people.check(caller)
        made.people.check(await made.logged_in())

    run(story)


def test_a_revocation_while_the_code_is_exchanged_wins() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        begun = await made.begun()
        made.staff.gate = asyncio.Event()
        coming = asyncio.create_task(made.people.finish(begun.binding, "browser", made.staff.authorize(begun.url), peer="test"))
        await asyncio.sleep(0.05)
        await made.world.put(revoked("principal", ADA))
        made.staff.gate.set()
        with pytest.raises(Unverified, match="revoked"):
            await coming

    run(story)


def test_nothing_secret_is_recorded() -> None:
    async def story(made: Scene) -> None:
        begun = await made.begun()
        back = made.staff.authorize(begun.url)
        await made.people.finish(begun.binding, "browser", back, peer="test")
        await refused(made, back=CallBack(state="", code="very-secret-code", iss=made.staff.issuer))
        log = b"".join(made.world.entries())
        waiting = repr(made.people.logins.providers())
        for secret in (begun.binding, begun.state, back.code, "very-secret-code", "access"):
            assert secret.encode() not in log.replace(b"access_control", b"")
            assert secret not in waiting

    run(story)


# --- how the client proves itself --------------------------------------------------------------------------------------------------


def test_a_client_proves_itself_by_secret_or_key(tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr&t+x\n")
    secret.chmod(0o600)

    async def basic(made: Scene) -> None:
        await made.logged_in()
        import base64

        given = next(headers["authorization"] for _, path, headers, _ in made.staff.heard if path == "/token")
        assert base64.b64decode(given.removeprefix("Basic ")) == b"vouchgate:s3cr%26t%2Bx"

    async def post(made: Scene) -> None:
        await made.logged_in()
        assert any("client_secret=s3cr%26t%2Bx" in body for _, path, _, body in made.staff.heard if path == "/token")
        assert not any("s3cr" in body for _, path, _, body in made.staff.heard if path != "/token")

    run(basic, client_auth="basic", secret_file=str(secret))
    run(post, client_auth="post", secret_file=str(secret))
    key = tmp_path / "key.pem"
    key.write_bytes(EC.as_pem(private=True))
    key.chmod(0o600)

    async def assertion(made: Scene) -> None:
        await made.logged_in()
        body = next(body for _, path, _, body in made.staff.heard if path == "/token")
        assert "client_assertion=ey" in body
        assert "jwt-bearer" in body

    run(assertion, client_auth="private_key_jwt", secret_file=str(key))


@pytest.mark.parametrize("spoil", ["wide", "link", "gone", "empty", "hard-link"])
def test_a_secret_that_others_could_read_is_not_used(tmp_path: Any, spoil: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("" if spoil == "empty" else "hush")
    secret.chmod(0o640 if spoil == "wide" else 0o600)
    if spoil == "link":
        secret = secret.rename(tmp_path / "real").parent / "secret"
        secret.symlink_to(tmp_path / "real")
    if spoil == "hard-link":
        (tmp_path / "second").hardlink_to(secret)
    if spoil == "gone":
        secret.unlink()

    async def story(made: Scene) -> None:
        await refused(made, NotPermitted if spoil in {"wide", "hard-link"} else Unavailable)
        assert made.staff.asked("/token") == 0

    run(story, client_auth="basic", secret_file=str(secret))


def test_the_way_out_knows_the_settings_alone() -> None:
    async def story(made: Scene) -> None:
        for to, url, kind in (
            ("oidc:staff", f"{made.other.issuer}/jwks", NotPermitted),
            ("oidc:staff", "http://169.254.169.254/latest/meta-data", InvalidInput),
            ("oidc:staff", "https://example.com/", NotPermitted),
            ("oidc:nobody", f"{made.staff.issuer}/jwks", NotFound),
            ("", f"{made.staff.issuer}/jwks", NotFound),
        ):
            with pytest.raises(kind):
                await made.outbound.call("out.get", to=to, url=url, accept="*/*", max_bytes=100, bearer="")
        with pytest.raises(NotFound):
            await made.outbound.call("out.token", to="ssf:staff", url=made.staff.issuer + "/token", form={})
        with pytest.raises(NotFound):
            await made.outbound.call("out.push", to="oidc:staff", body=b"x")

    run(story)


def test_a_login_after_an_event_strikes_what_was_issued_before() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        at = made.world.clock.at
        issued = [
            CredentialIssued(id="live-token", principal=ADA, kind="jwt", not_after=UnixMillis(at + 200_000)),
            CredentialIssued(id="ended-token", principal=ADA, kind="jwt", not_after=UnixMillis(at - 1)),
            CredentialIssued(
                id="others-token", principal=f"spiffe://{TD}/person/staff/bob", kind="jwt", not_after=UnixMillis(at + 200_000)
            ),
        ]
        await made.world.put(*issued)
        await made.told(made.staff.event("https://schemas.openid.net/secevent/caep/event-type/session-revoked"))
        assert made.world.facts.revocation_of(ADA) is not None
        made.people.check(await made.logged_in())
        assert made.world.facts.revocation_of(ADA) is None
        assert made.world.facts.revocation_of("", "live-token") is not None
        assert made.world.facts.revocation_of("", "ended-token") is None
        assert made.world.facts.revocation_of("", "others-token") is None

    run(story)


def test_two_logins_at_once_after_an_event_are_both_in() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        await made.told(made.staff.event("https://schemas.openid.net/secevent/caep/event-type/session-revoked"))
        made.world.clock.at += 1_000
        begun = [await made.begun() for _ in range(3)]
        made.staff.gate = asyncio.Event()
        coming = [
            asyncio.create_task(made.people.finish(one.binding, "browser", made.staff.authorize(one.url), peer="test")) for one in begun
        ]
        await asyncio.sleep(0.05)
        made.staff.gate.set()
        for caller, _ in await asyncio.gather(*coming):
            made.people.check(caller)
        assert made.world.facts.revocation_of(ADA) is None

    run(story)


def test_a_login_that_began_before_the_event_does_not_lift_it() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        begun = await made.begun()
        await made.told(made.staff.event("https://schemas.openid.net/secevent/caep/event-type/session-revoked"))
        made.world.clock.at += 1_000
        with pytest.raises(Unverified, match="revoked"):
            await made.people.finish(begun.binding, "browser", made.staff.authorize(begun.url), peer="test")
        await made.logged_in()

    run(story)


def test_an_administrators_revocation_is_never_lifted_by_a_login() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        await made.told(made.staff.event("https://schemas.openid.net/secevent/caep/event-type/session-revoked"))
        await made.world.put(revoked("principal", ADA))
        made.world.clock.at += 1_000
        assert "lost" in await refused(made)
        assert len(made.world.facts.standing_revocations()) == 2

    run(story)
