"""Logging in under attack: nothing is used twice, by another, or in place of another, and no flood or secret is left in the log."""

from __future__ import annotations

import asyncio

import pytest
from flows_world import registration, revoked
from people_world import ADA, Scene, discard, refused, run

from vouchgate.flows.changes import RegistrationPut
from vouchgate.flows.login import Codes
from vouchgate.flows.login_oidc import MAX_WAITING_OF_A_CLIENT, MAX_WAITING_OF_ONE, WAITS_MS, CallBack
from vouchgate.vocabulary.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    Unavailable,
    Unverified,
)


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
    run(lambda made: discard(refused(made, InvalidInput, back=back)))


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
