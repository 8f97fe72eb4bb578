"""Logging in with a provider over real HTTP: what a good one gives, through faults, rotated keys and events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from flows_world import TD, revoked
from people_world import ADA, EC, ED, OTHER_RSA, RSA, Scene, discard, jwk_of, refused, run, signed

from vouchgate.flows.changes import CredentialIssued
from vouchgate.vocabulary.errors import (
    InvalidInput,
    NotFound,
    NotPermitted,
    Unavailable,
    Unverified,
)
from vouchgate.vocabulary.vouches import UnixMillis

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
    run(lambda made: discard(refused(made, InvalidInput)), keys='{"keys": []}')


def test_a_restart_goes_on_with_the_recorded_keys() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.people.sources._looks.clear()
        asked = made.staff.asked("/jwks")
        await made.logged_in()
        assert made.staff.asked("/jwks") == asked

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
