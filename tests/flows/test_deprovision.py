"""Security events in and out: who is out is out at once, everywhere, once; who lies about it is refused as RFC 8935 says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from flows_world import TD, evidence_for, registration, revoked, zone
from flows_world import endpoint as endpoint_of
from people_world import OTHER_RSA, RSA, Scene, scene, signed, unsigned

from vouchgate.flows.changes import CredentialIssued, EndpointPut, RegistrationPut, RegistrationRemoved, ZonePut
from vouchgate.flows.deprovision import SEEN
from vouchgate.flows.tell_receivers import GIVE_UP_MS, QUEUE, Delivery, Telling
from vouchgate.identity.foreign import Verified, read_keys, verify_token
from vouchgate.identity.jwtsvid import read_jwt
from vouchgate.identity.sets import CAEP, RISC, SSF, read_set
from vouchgate.vocabulary.errors import LimitExceeded, NotFound, Unavailable, Unverified
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import decode

ADA = f"spiffe://{TD}/person/staff/ada"
BOB = f"spiffe://{TD}/person/staff/bob"


def run(story: Callable[[Scene], Awaitable[None]], **options: Any) -> None:
    async def go() -> None:
        async with scene(**options) as made:
            await story(made)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("event", "lasting"),
    [
        (CAEP + "session-revoked", False),
        (CAEP + "credential-change", False),
        (CAEP + "token-claims-change", False),
        (RISC + "account-credential-change-required", False),
        (RISC + "account-disabled", True),
        (RISC + "account-purged", True),
    ],
)
def test_a_person_who_is_out_is_out_at_once(event: str, lasting: bool) -> None:
    async def story(made: Scene) -> None:
        caller, other = await made.logged_in(), await made.logged_in(sub="bob")
        assert (await made.told(made.staff.event(event, jti="event-1"))).status == 202
        standing = made.world.facts.revocation_of(ADA)
        assert standing is not None
        assert "event-1" in standing.reason
        assert standing.requested_by == "system:ssf:staff"
        with pytest.raises(Unverified):
            made.people.check(caller)
        made.people.check(other)
        assert made.entries('"revocation"', "event-1")
        assert made.entries("security-event", event.rpartition("/")[2], ADA)
        if lasting:
            with pytest.raises(Unverified):
                await made.logged_in()
        else:
            made.people.check(await made.logged_in())
        with pytest.raises(Unverified):
            made.people.check(caller)

    run(story)


def test_the_gateway_is_told_and_grants_fall() -> None:
    async def story(made: Scene) -> None:
        await made.world.put(ZonePut(zone=zone()), EndpointPut(endpoint=endpoint_of()), *evidence_for())
        await made.logged_in()
        await made.world.settled()
        assert ADA in made.world.granted()
        await made.told(made.staff.event(CAEP + "session-revoked"))
        await made.world.settled()
        assert ADA not in made.world.granted()
        assert [one.target for one in made.world.points.revocations] == [ADA]

    run(story)


def test_grants_follow_the_groups_of_the_newest_login() -> None:
    async def story(made: Scene) -> None:
        await made.world.put(ZonePut(zone=zone()), EndpointPut(endpoint=endpoint_of()), *evidence_for())
        for groups, granted in ((["ml-team"], True), ([], False), (["ml-team"], True)):
            await made.logged_in(groups=groups)
            await made.world.settled()
            assert (ADA in made.world.granted()) is granted

    run(story)


def test_two_events_of_one_token_are_two_entries_in_their_places() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        events = {CAEP + "session-revoked": {}, RISC + "account-disabled": {}}
        assert (await made.told(made.staff.event("", events=events))).status == 202
        assert len(made.world.facts.standing_revocations()) == 2
        for one in made.world.facts.standing_revocations():
            assert len(made.world.store.find_entries(one.id)) == 1
        with pytest.raises(Unverified):
            await made.logged_in()

    run(story)


def test_who_acts_for_the_person_is_refused_with_them() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        token = CredentialIssued(
            id="delegated",
            principal=ADA,
            kind="jwt",
            not_after=UnixMillis(made.world.clock.at + 200_000),
            actors=(f"spiffe://{TD}/agent/lab/bot",),
        )
        await made.world.put(token)
        await made.told(made.staff.event(RISC + "account-disabled"))
        assert made.world.facts.revocation_of(ADA, "delegated") is not None

    run(story)


def test_a_token_counts_once_also_after_a_new_login() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        token = made.staff.event(CAEP + "session-revoked", jti="only-once")
        assert (await made.told(token)).status == 202
        caller = await made.logged_in()
        assert (await made.told(token)).status == 202
        made.people.check(caller)
        assert len(made.entries("security-event", '"repeated":true')) == 1
        both = await asyncio.gather(*(made.told(made.staff.event(RISC + "account-disabled", jti="at-once")) for _ in range(4)))
        assert {one.status for one in both} == {202}
        assert len([one for one in made.world.facts.standing_revocations() if "at-once" in one.reason]) == 1

    run(story)


def test_an_id_is_remembered_as_long_as_a_token_counts() -> None:
    async def story(made: Scene) -> None:
        await made.told(made.staff.event(SSF + "verification", jti="first"))
        made.world.clock.at += 14 * 86_400_000
        await made.told(made.staff.event(SSF + "verification", jti="second"))
        assert await made.people.events.sweep() == 0
        made.world.clock.at += 2 * 86_400_000
        assert await made.people.events.sweep() == 1
        assert len(made.world.store.scan(SEEN)) == 1

    run(story)


def test_unknown_events_and_people_are_acknowledged_and_change_nothing() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        cases = [
            made.staff.event("https://example.com/event/new-thing"),
            made.staff.event(SSF + "verification", body={"state": "hello"}),
            made.staff.event(CAEP + "session-revoked", sub="never-logged-in"),
            made.staff.event(CAEP + "session-revoked", sub_id={"format": "email", "email": "ada@example.com"}),
            made.staff.event(CAEP + "session-revoked", sub_id={"format": "iss_sub", "iss": made.other.issuer, "sub": "ada"}),
            made.staff.event(CAEP + "session-revoked", sub_id={"format": "iss_sub", "iss": made.staff.issuer}),
            made.staff.event(CAEP + "session-revoked", sub_id=["ada"]),
            made.staff.event(CAEP + "session-revoked", sub_id=None),
            made.staff.event(CAEP + "assurance-level-change"),
        ]
        for token in cases:
            assert (await made.told(token)).status == 202
        assert made.world.facts.revocations == {}
        assert len(made.entries("security-event")) == len(cases)
        assert made.entries("security-event", '"state":"hello"')

    run(story)


def test_a_subject_may_be_complex_or_inside_the_event() -> None:
    async def story(made: Scene) -> None:
        user = {"format": "iss_sub", "iss": made.staff.issuer, "sub": "ada"}
        await made.logged_in()
        await made.told(made.staff.event(CAEP + "session-revoked", sub_id={"format": "complex", "user": user, "session": {"id": "x"}}))
        assert made.world.facts.revocation_of(ADA) is not None
        await made.logged_in()
        assert made.world.facts.revocation_of(ADA) is None
        await made.told(made.staff.event(CAEP + "session-revoked", sub_id=None, body={"subject": user}))
        assert made.world.facts.revocation_of(ADA) is not None

    run(story)


def test_what_is_malformed_or_lies_is_refused_as_the_standard_says() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        event, now = CAEP + "session-revoked", made.world.clock.at // 1000
        whole = {
            "iss": made.staff.issuer, "aud": "https://us.example", "jti": "x", "iat": now, "events": {event: {}},
            "sub_id": {"format": "iss_sub", "iss": made.staff.issuer, "sub": "ada"},
        }  # fmt: skip
        cases = [
            ("", "invalid_request"),
            ("a.b.c", "invalid_request"),
            ("x" * 40_000, "invalid_request"),
            (unsigned(whole, {"alg": "none", "kid": "one", "typ": "secevent+jwt"}), "invalid_request"),
            (unsigned(whole, {"alg": "none", "kid": "one", "typ": "secevent+jwt"}) + "AAAA", "authentication_failed"),
            (unsigned(whole, {"alg": "HS256", "kid": "one", "typ": "secevent+jwt"}, RSA.as_pem(private=False)), "authentication_failed"),
            (signed(whole, OTHER_RSA, "one", "RS256", typ="secevent+jwt"), "authentication_failed"),
            (signed(whole, RSA, "other", "RS256", typ="secevent+jwt"), "invalid_key"),
            (made.staff.event(event, typ="JWT"), "invalid_request"),
            (made.staff.event(event, iss="https://evil.example"), "invalid_issuer"),
            (made.staff.event(event, iss=made.other.issuer), "invalid_issuer"),
            (made.staff.event(event, aud="https://others.example"), "invalid_audience"),
            (made.staff.event(event, aud=None), "invalid_audience"),
            (made.staff.event(event, iat=now + 3_600), "invalid_request"),
            (made.staff.event(event, iat=now - 15 * 86_400), "invalid_request"),
            (made.staff.event(event, iat=None), "invalid_request"),
            (made.staff.event(event, exp=now + 100), "invalid_request"),
            (made.staff.event(event, events={}), "invalid_request"),
            (made.staff.event(event, events={event: "x"}), "invalid_request"),
            (made.staff.event(event, events={f"{event}{number}": {} for number in range(9)}), "invalid_request"),
        ]
        for token, err in cases:
            answer = await made.told(token)
            assert (answer.status, answer.err) == (400, err), token[:80]
            assert answer.description
        assert made.world.facts.revocations == {}
        assert len(made.entries("security-event", '"outcome":"denied"')) == len(cases)

    run(story)


def test_an_id_token_is_no_event_and_an_event_no_login() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.staff.token = lambda claims: signed({**claims, "events": {}}, RSA, "one", "RS256", typ="secevent+jwt")
        with pytest.raises(Unverified, match="another type"):
            await made.logged_in()

    run(story)


def test_a_transmitter_that_floods_is_told_to_wait() -> None:
    async def story(made: Scene) -> None:
        import msgspec

        settings = made.world.context.settings
        slow = msgspec.structs.replace(settings.ssf.transmitters[0], events_per_minute=5)
        made.world.context.settings = msgspec.structs.replace(settings, ssf=msgspec.structs.replace(settings.ssf, transmitters=(slow,)))
        with pytest.raises(LimitExceeded):
            for _ in range(20):
                await made.told(made.staff.event(SSF + "verification"))
        with pytest.raises(NotFound):
            await made.told("x", name="nobody")

    run(story)


def test_a_strangers_flood_delays_nobodys_dismissal_and_fills_no_log() -> None:
    async def story(made: Scene) -> None:
        caller = await made.logged_in()
        made.world.clock.at += 60_000
        flood = [signed({"iss": "x"}, OTHER_RSA, f"made-up-{number}", "RS256", typ="secevent+jwt") for number in range(5)]
        for number in range(700):
            assert (await made.people.events.take("staff", flood[number % 5], peer="test")).status == 400
        assert made.staff.asked("/jwks") == 2
        assert len(made.entries("security-event", '"outcome":"denied"')) < 100
        assert (await made.told(made.staff.event(CAEP + "session-revoked"))).status == 202
        with pytest.raises(Unverified):
            made.people.check(caller)

    run(story)


def test_a_made_up_key_and_a_slow_provider_keep_no_dismissal_waiting() -> None:
    async def story(made: Scene) -> None:
        caller = await made.logged_in()
        made.world.clock.at += 60_000
        made.staff.gate = asyncio.Event()
        strange = signed({"iss": "x"}, OTHER_RSA, "made-up", "RS256", typ="secevent+jwt")
        waiting = asyncio.create_task(made.people.events.take("staff", strange, peer="test"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await asyncio.wait_for(made.told(made.staff.event(CAEP + "session-revoked")), 1)
        with pytest.raises(Unverified):
            made.people.check(caller)
        made.staff.gate.set()
        assert (await waiting).status == 400

    run(story)


def test_keys_that_cannot_be_fetched_make_the_transmitter_try_again() -> None:
    async def story(made: Scene) -> None:
        token = made.staff.event(CAEP + "session-revoked")
        made.staff.fault = {"/jwks": "500"}
        with pytest.raises(Unavailable):
            await made.told(token)
        made.staff.fault = {}
        made.world.clock.at += 30_000
        assert (await made.told(token)).status == 202

    run(story)


def test_a_person_who_is_unregistered_is_out() -> None:
    async def story(made: Scene) -> None:
        caller = await made.logged_in()
        await made.world.put(RegistrationRemoved(principal=ADA))
        with pytest.raises(Unverified):
            made.people.check(caller)
        made.people.check(await made.logged_in())
        with pytest.raises(Unverified):
            made.people.check(caller)

    run(story)


# --- out --------------------------------------------------------------------------------------------------------------------------


async def turned(made: Scene, times: int = 1) -> None:
    """One look of the queue, to its end."""
    for _ in range(times):
        await made.people.telling.turn()
        for _ in range(200):
            if not made.world.context.tasks:
                break
            await asyncio.sleep(0.005)


def heard(made: Scene) -> list[dict[str, Any]]:
    keys = read_keys(json.dumps({"keys": [jwk_of_ours(made)]}).encode())
    found = []
    for token in made.other.received:
        read = verify_token(token, keys, algorithms=("ES256",), types=("secevent+jwt",), require_type=True, what="event")
        assert isinstance(read, Verified)
        found.append(read.claims)
    return found


def jwk_of_ours(made: Scene) -> dict[str, Any]:
    from vouchgate.identity.bundle import write_jwks

    assert made.world.facts.bundle is not None
    one = json.loads(write_jwks(made.world.facts.bundle, uses=("jwt-svid",)))["keys"][0]
    return {**one, "use": "sig"}


def test_our_revocations_of_people_and_credentials_are_told() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        token = CredentialIssued(id="jti-of-ada", principal=ADA, kind="jwt", not_after=UnixMillis(made.world.clock.at + 200_000))
        await made.world.put(token, revoked("principal", ADA), revoked("credential", "jti-of-ada", identity="r2"))
        await made.world.put(revoked("digest", "sha256:" + "0" * 64, identity="r3"))
        await made.world.put(revoked("principal", f"spiffe://{TD}/service/serve/alice", identity="r4"))
        await turned(made)
        claims = sorted(heard(made), key=lambda one: next(iter(one["events"])))
        assert [next(iter(one["events"])) for one in claims] == [CAEP + "credential-change", CAEP + "session-revoked"]
        for one in claims:
            assert (one["iss"], one["aud"]) == ("https://us.example", "https://soc.example")
            assert one["sub_id"] == {"format": "iss_sub", "iss": made.staff.issuer, "sub": "ada"}
        assert claims[0]["events"][CAEP + "credential-change"]["credential_id"] == "jti-of-ada"
        assert made.people.telling.waiting == 0
        assert len(made.entries("tell-receiver", '"outcome":"done"')) == 2
        method, _, headers, _ = made.other.heard[-1]
        assert (method, headers["content-type"]) == ("POST", "application/secevent+jwt")

    run(story, receivers=True)


def test_an_event_of_ours_is_no_token_to_anybody_here() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        await made.world.put(revoked("principal", ADA))
        await turned(made)
        token = made.other.received[0]
        bundle = made.world.facts.bundle
        assert bundle is not None
        assert isinstance(read_jwt(token, bundle, "https://soc.example", made.world.clock.now()), Denied)
        keys = read_keys(json.dumps({"keys": [jwk_of_ours(made)]}).encode())
        now = made.world.clock.now()
        assert not isinstance(
            read_set(token, keys, issuer="https://us.example", audience="https://soc.example", now=now, algorithms=["ES256"]), Denied
        )

    run(story, receivers=True)


def test_what_was_told_is_not_told_back() -> None:
    async def story(made: Scene) -> None:
        made.world.context.settings = _with_receiver_named(made, "staff")
        await made.logged_in()
        await made.told(made.staff.event(CAEP + "session-revoked"))
        await turned(made)
        assert made.other.received == []

    run(story, receivers=True)


def _with_receiver_named(made: Scene, name: str) -> Any:
    import msgspec

    settings = made.world.context.settings
    receiver = msgspec.structs.replace(settings.ssf.receivers[0], name=name)
    return msgspec.structs.replace(settings, ssf=msgspec.structs.replace(settings.ssf, receivers=(receiver,)))


def test_a_receiver_that_is_away_is_told_later_with_the_same_id() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.other.fault = {"/events": "500"}
        await made.world.put(revoked("principal", ADA))
        await turned(made)
        assert made.people.telling.waiting == 1
        await turned(made, 3)
        assert len(made.other.received) == 1
        for pause in (1_000, 2_000, 4_000):
            made.world.clock.at += pause
            await turned(made)
        made.other.fault = {}
        made.world.clock.at += 8_000
        await turned(made)
        assert len({one["jti"] for one in heard(made)}) == 1
        assert len(made.other.received) == 5
        assert made.people.telling.waiting == 0

    run(story, receivers=True)


def test_a_receiver_that_refuses_the_event_is_not_asked_again() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.other.receiver_status = 400
        await made.world.put(revoked("principal", ADA))
        await turned(made)
        made.world.clock.at += 3_600_000
        await turned(made, 2)
        assert len(made.other.received) == 1
        assert made.entries("tell-receiver", '"outcome":"denied"', "invalid_key")

    run(story, receivers=True)


def test_a_receiver_that_stays_away_is_given_up_with_an_entry() -> None:
    async def story(made: Scene) -> None:
        made.other.fault = {"/events": "500"}
        await made.logged_in()
        await made.world.put(revoked("principal", ADA))
        await turned(made)
        made.world.clock.at += GIVE_UP_MS + 1
        await turned(made)
        assert made.people.telling.waiting == 0
        assert made.entries("tell-receiver", '"outcome":"denied"')

    run(story, receivers=True)


def test_the_queue_survives_a_crash_at_any_place() -> None:
    async def story(made: Scene) -> None:
        await made.logged_in()
        made.other.fault = {"/events": "500"}
        await made.world.put(revoked("principal", ADA))
        await turned(made)
        first = decode(Delivery, made.world.store.scan(QUEUE)[0].value)
        # committed, and the process ended before anybody was told: no record of this one
        made.people.telling._fresh.clear()
        await made.world.put(revoked("principal", BOB, identity="r2"))
        again = Telling(made.world.context, made.outbound)
        made.people.telling = again
        await again.start()
        made.other.fault = {}
        made.other.received.clear()
        made.world.clock.at += 5_000
        await turned(made)
        claims = heard(made)
        assert sorted(one["sub_id"]["sub"] for one in claims) == ["ada", "bob"]
        assert first.jti in {one["jti"] for one in claims}
        last = Telling(made.world.context, made.outbound)
        await last.start()
        await last.turn()
        assert last.waiting == 0
        assert len(made.other.received) == 2

    run(story, receivers=True)


def test_a_thousand_revocations_wait_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.flows.tell_receivers.MAX_WAITING", 50)

    async def story(made: Scene) -> None:
        made.other.fault = {"/events": "500"}
        for number in range(60):
            await made.world.put(revoked("principal", f"spiffe://{TD}/person/staff/p{number}", identity=f"r{number}"))
        await turned(made)
        assert made.people.telling.waiting <= 50
        assert len(made.entries("tell-receiver", "deliveries wait")) == 10

    run(story, receivers=True)


def test_a_start_verifies_each_stream() -> None:
    async def story(made: Scene) -> None:
        receiver = made.world.context.settings.ssf.receivers[0]
        await made.people.telling.verify(receiver)
        claims = heard(made)[0]
        assert len(claims["events"][SSF + "verification"]["state"]) == 32
        assert "sub_id" not in claims
        assert len(made.entries("tell-receiver", "verification", '"outcome":"done"')) == 1
        made.other.receiver_status = 400
        await made.people.telling.verify(receiver)
        made.outbound.away = "gone"
        await made.people.telling.verify(receiver)
        assert len(made.entries("tell-receiver", "verification", '"outcome":"denied"')) == 2
        running = asyncio.create_task(made.people.run())
        for _ in range(200):
            if len(made.entries("tell-receiver", "verification")) == 4:
                break
            await asyncio.sleep(0.005)
        assert len(made.entries("tell-receiver", "verification")) == 4
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(story, receivers=True)


def test_local_people_are_named_by_their_principal() -> None:
    async def story(made: Scene) -> None:
        await made.world.put(RegistrationPut(registration=registration(f"spiffe://{TD}/person/admin/ann", uid=7)))
        await made.world.put(revoked("principal", f"spiffe://{TD}/person/admin/ann"))
        await turned(made)
        assert heard(made)[0]["sub_id"] == {"format": "uri", "uri": f"spiffe://{TD}/person/admin/ann"}

    run(story, receivers=True)
