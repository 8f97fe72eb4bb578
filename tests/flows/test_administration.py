"""What people do to a control plane: codes and tokens, identities, policies, zones, revocations; each with who may not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flows_world import (
    ALICE,
    BOB,
    CHAT,
    DAY,
    DIGITS,
    HOUR,
    MODEL,
    NOW,
    SPINE,
    TD,
    World,
    caller,
    endpoint,
    make_world,
    registration,
    revoked,
    running,
    serving,
)

from vouchgate.flows import adopt, change_policy, explain, issue_identity, login, revoke
from vouchgate.flows.administer import authorise
from vouchgate.flows.changes import EndpointPut, RegistrationPut, RegistrationRemoved, SettingPut
from vouchgate.flows.context import Buckets
from vouchgate.identity.ca import spki_of
from vouchgate.vocabulary.answers import AdoptRequest, RevokeRequest, WrapRequest
from vouchgate.vocabulary.answers_identities import IdentityRequest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotFound, NotPermitted, Unavailable, Unverified
from vouchgate.vocabulary.names import principal

ROLES = ("auditor", "registrar", "policy-author", "policy-approver", "responder", "key-custodian")
ANN, BEN, REG = caller("ann", *ROLES), caller("ben", *ROLES), caller("reg", "registrar")
SPKI = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
NOBODY = '@id("nobody") forbid (principal, action == Action::"infer", resource);\n'
POLICY = SPINE[0][1] + '\n@id("extra") forbid (principal, action == Action::"chat", resource);\n'


@contextlib.asynccontextmanager
async def office(**options: Any) -> AsyncIterator[World]:
    async with running(make_world(**options)) as world:
        await serving(world)
        for one in (ANN, BEN, REG):
            who = one.principal.principal
            await world.put(
                RegistrationPut(
                    registration=registration(who.id, groups=who.groups, uid={"ann": 1001, "ben": 1002, "reg": 1003}[who.id[-3:]])
                )
            )
        yield world


def scene(story: Any, **options: Any) -> None:
    async def go() -> None:
        async with office(**options) as world:
            await story(world)

    asyncio.run(go())


# --- who is asking --------------------------------------------------------------------------------------------------------------------


def test_a_uid_is_whoever_is_registered_for_it_and_nobody_else() -> None:
    async def story(world: World) -> None:
        assert login.caller_of_uid(world.context, 1001, 1).principal.principal.id == ANN.principal.principal.id
        stranger = login.caller_of_uid(world.context, 4242, 1)
        assert stranger.principal.principal.id == f"spiffe://{TD}/person/unknown/uid-4242"
        with pytest.raises(NotPermitted):
            await authorise(world.context, stranger, "read")

    scene(story)


def test_a_revoked_administrator_is_stopped_by_uid_and_in_a_session_that_is_open() -> None:
    async def story(world: World) -> None:
        session = caller("ann", *ROLES, how="cookie")
        await authorise(world.context, session, "read")
        await world.put(revoked("principal", ANN.principal.principal.id))
        for one in (session, ANN, login.caller_of_uid(world.context, 1001, 1)):
            with pytest.raises(NotPermitted):
                await authorise(world.context, one, "read")

    scene(story)


def test_a_refusal_is_two_entries() -> None:
    async def story(world: World) -> None:
        before = world.store.size()
        with pytest.raises(NotPermitted) as caught:
            await authorise(world.context, REG, "revoke")
        assert caught.value.remedy
        assert world.store.size() == before + 2

    scene(story)


def test_a_code_counts_once_and_for_its_time() -> None:
    codes = login.Codes()
    who = ANN.principal.principal
    code = codes.make(who, NOW)
    assert code not in repr(vars(codes)), "kept as a hash"
    assert codes.use(code, NOW) == who
    for late in (codes.make(who, NOW), code, "", "x" * 10_000, "é"):
        with pytest.raises(Unverified):
            codes.use(late, NOW + login.CODE_SECONDS * 1000)


def test_codes_that_wait_are_bounded() -> None:
    codes = login.Codes()
    made = [codes.make(ANN.principal.principal, NOW) for _ in range(login.MAX_CODES + 5)]
    usable = 0
    for code in made:
        with contextlib.suppress(Unverified):
            codes.use(code, NOW)
            usable += 1
    assert usable == login.MAX_CODES


def test_a_code_becomes_a_session_of_the_same_person() -> None:
    async def story(world: World) -> None:
        codes = login.Codes()
        issued = await login.login_code(world.context, codes, ANN)
        made = login.caller_of_code(world.context, codes, issued.code, "127.0.0.1:9")
        assert made.principal.principal.id == ANN.principal.principal.id
        assert made.how == "cookie"
        with pytest.raises(Unverified):
            login.caller_of_code(world.context, codes, issued.code, "127.0.0.1:9")
        assert not any(issued.code.encode() in entry for entry in world.entries()), "never in the log"

    scene(story)


TOKEN = "the-token"
KEPT = hashlib.sha256(TOKEN.encode()).hexdigest()


@pytest.mark.parametrize(
    ("kept", "token", "how", "error"),
    [
        (f"{KEPT} {NOW + 1}", "wrong", "uid", Unverified),
        (f"{KEPT} {NOW}", TOKEN, "uid", Unverified),
        (f"{KEPT} {NOW + 1}", TOKEN, "cookie", NotPermitted),
        ("", TOKEN, "uid", Unverified),
        (f"{KEPT}", TOKEN, "uid", Unverified),
        (f"{KEPT} later", TOKEN, "uid", Unverified),
        (f" {NOW + 1}", "", "uid", Unverified),
    ],
)
def test_a_bootstrap_token_that_does_not_count(kept: str, token: str, how: str, error: type) -> None:
    async def story(world: World) -> None:
        if kept:
            await world.put(SettingPut(key=login.BOOTSTRAP, value=kept))
        with pytest.raises(error):
            await login.claim(world.context, caller("new", how=how), token)
        assert not any(one.endswith("/owner") for one in world.facts.registrations)

    scene(story)


def test_a_bootstrap_token_counts_once_however_many_ask_at_once() -> None:
    async def story(world: World) -> None:
        await world.put(SettingPut(key=login.BOOTSTRAP, value=f"{KEPT} {NOW + 1000}"))
        claims = [login.claim(world.context, login.caller_of_uid(world.context, 5000 + number, 1), TOKEN) for number in range(8)]
        done = await asyncio.gather(*claims, return_exceptions=True)
        made = [one for one in done if not isinstance(one, BaseException)]
        assert len(made) == 1
        owner = world.facts.registrations[principal(TD, "person", "admin", "owner")]
        assert owner.selectors == made[0].selectors
        with pytest.raises(Unverified):
            await login.claim(world.context, login.caller_of_uid(world.context, 6000, 1), TOKEN)

    scene(story)


# --- identities -----------------------------------------------------------------------------------------------------------------------


def identity(name: str = "carol", **changes: Any) -> IdentityRequest:
    return IdentityRequest(
        **({"kind": "service", "zone": "serve", "name": name, "form": "x509", "spki": SPKI, "groups": ("callers",)} | changes)
    )


def test_a_registered_identity_gets_a_certificate_and_a_token_and_both_are_on_record() -> None:
    async def story(world: World) -> None:
        made = await issue_identity.issue_identity(world.context, REG, identity())
        assert made.certificates.startswith("-----BEGIN CERTIFICATE")
        token = await issue_identity.issue_identity(world.context, REG, identity(form="jwt", audience="digits", groups=None))
        assert token.token.count(".") == 2
        for one in (made, token):
            assert world.store.get("credential", one.credential_id) is not None
        assert not any(token.token.encode() in entry for entry in world.entries()), "never the secret itself"
        await world.settled()
        assert principal(TD, "service", "serve", "carol") in world.granted()

    scene(story)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (identity(kind="system"), InvalidInput), (identity(kind="declared"), InvalidInput), (identity(kind="robot"), InvalidInput),
        (identity(name="../alice"), InvalidInput), (identity(name=""), InvalidInput), (identity("nobody", groups=None), NotFound),
        (identity(spki=b""), InvalidInput), (identity(spki=b"junk"), InvalidInput), (identity(form="jwt", audience="nowhere"), NotFound),
        (identity(form="jwt", audience=""), NotFound), (identity(groups=("role:responder",)), NotPermitted), (identity(ttl_seconds=10**9), InvalidInput),
        (identity(ttl_seconds=-5), InvalidInput),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_not_issued(request_: IdentityRequest, error: type) -> None:
    async def story(world: World) -> None:
        with pytest.raises(error):
            await issue_identity.issue_identity(world.context, REG, request_)
        assert not world.store.scan("credential")

    scene(story)


def test_nothing_is_issued_to_who_is_revoked_until_it_is_undone() -> None:
    async def story(world: World) -> None:
        await issue_identity.issue_identity(world.context, REG, identity())
        for kind in ("principal", "registration"):
            name = principal(TD, "service", "serve", "carol")
            await world.put(revoked(kind, name, identity=kind))
            for form in ("x509", "jwt"):
                with pytest.raises(NotPermitted, match="revoked"):
                    await issue_identity.issue_identity(world.context, REG, identity(form=form, audience="digits"))
            await world.put(revoked(kind, name, identity=kind, withdrawn="w"))
            await issue_identity.issue_identity(world.context, REG, identity())

    scene(story)


def test_nothing_is_issued_while_the_clock_is_in_trouble() -> None:
    async def story(world: World) -> None:
        world.clock.trouble = "it moved"
        with pytest.raises(Unavailable, match="it moved"):
            await issue_identity.issue_identity(world.context, REG, identity())

    scene(story)


@pytest.mark.parametrize("groups", [None, ("callers",), (), tuple(f"role:{role}" for role in ROLES)])
def test_a_registrar_can_neither_impersonate_nor_unmake_who_holds_a_role(groups: Any) -> None:
    async def story(world: World) -> None:
        before = world.facts.registrations[ANN.principal.principal.id]
        with pytest.raises(NotPermitted, match="role:"):
            await issue_identity.issue_identity(world.context, REG, identity("ann", kind="person", zone="admin", groups=groups))
        assert world.facts.registrations[ANN.principal.principal.id] == before

    scene(story)


def test_a_role_that_was_taken_away_is_not_given_on_by_an_open_session() -> None:
    async def story(world: World) -> None:
        who = ANN.principal.principal.id
        await world.put(RegistrationPut(registration=registration(who, groups=("role:registrar",))))
        session = caller("ann", *ROLES, how="cookie")
        with pytest.raises(NotPermitted, match="role:responder"):
            await issue_identity.issue_identity(world.context, session, identity(groups=("role:responder",)))

    scene(story)


def test_registering_is_bounded_for_each_caller() -> None:
    async def story(world: World) -> None:
        world.context.registering = Buckets(3)
        for number in range(3):
            await issue_identity.issue_identity(world.context, REG, identity(f"c{number}"))
        with pytest.raises(LimitExceeded):
            await issue_identity.issue_identity(world.context, REG, identity("c4"))
        await issue_identity.issue_identity(world.context, REG, identity("c1"))
        await issue_identity.issue_identity(world.context, ANN, identity("c4"))

    scene(story)


# --- policies -------------------------------------------------------------------------------------------------------------------------


def test_a_policy_takes_two_persons_with_the_same_text() -> None:
    async def story(world: World) -> None:
        first = await change_policy.apply(world.context, ANN, POLICY, "r")
        assert first.waits_for
        assert (await change_policy.apply(world.context, ANN, POLICY, "r")).waits_for, "the same person twice is one person"
        assert (await change_policy.apply(world.context, BEN, POLICY + "\n", "r")).waits_for, "another text is another proposal"
        assert (await change_policy.apply(world.context, ANN, POLICY, "r")).waits_for
        made = await change_policy.apply(world.context, BEN, POLICY, "r")
        assert not made.waits_for
        assert made.version == 2
        assert {*made.signed_by.split(", ")} == {ANN.principal.principal.id, BEN.principal.principal.id}

    scene(story)


def test_whoever_authors_does_not_approve_and_whoever_approves_does_not_author() -> None:
    async def story(world: World) -> None:
        other, approver = caller("oda", "policy-author"), caller("pia", "policy-approver")
        await world.put(
            *(
                RegistrationPut(registration=registration(one.principal.principal.id, one.principal.principal.groups))
                for one in (other, approver)
            )
        )
        with pytest.raises(NotPermitted):
            await change_policy.apply(world.context, approver, POLICY, "r")
        assert (await change_policy.apply(world.context, ANN, POLICY, "r")).waits_for
        with pytest.raises(NotPermitted):
            await change_policy.apply(world.context, other, POLICY, "r")
        made = await change_policy.apply(world.context, approver, POLICY, "r")
        assert (made.version, made.waits_for) == (2, "")

    scene(story)


@pytest.mark.parametrize("how", ["revoked", "roles lost", "gone"])
def test_a_proposal_falls_with_the_right_of_its_author(how: str) -> None:
    async def story(world: World) -> None:
        await change_policy.apply(world.context, ANN, POLICY, "r")
        who = ANN.principal.principal.id
        change: Any = {
            "revoked": revoked("principal", who),
            "roles lost": RegistrationPut(registration=registration(who, ("role:auditor",))),
            "gone": RegistrationRemoved(principal=who),
        }[how]
        await world.put(change)
        assert (await change_policy.apply(world.context, BEN, POLICY, "r")).waits_for
        assert change_policy.current(world.context).version == 1

    scene(story)


def test_a_policy_is_said_to_be_enforced_once_every_map_was_decided_under_it() -> None:
    async def story(world: World) -> None:
        assert world.granted()
        await change_policy.apply(world.context, ANN, POLICY + NOBODY, "r")
        made = await change_policy.apply(world.context, BEN, POLICY + NOBODY, "r")
        assert [one.outcome for one in made.points] == ["enforced"]
        assert not world.context.publisher.undecided
        assert not world.granted()

    scene(story)


def test_a_policy_whose_maps_are_late_is_not_said_to_be_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoke, "ACKNOWLEDGE_SECONDS", 0.05)

    async def story(world: World) -> None:
        await change_policy.apply(world.context, ANN, POLICY + NOBODY, "r")
        world.pdp.away = "away"
        made = await change_policy.apply(world.context, BEN, POLICY + NOBODY, "r")
        assert [one.outcome for one in made.points] == ["expires-by-lease"]

    scene(story)


def test_a_proposal_is_used_up_and_ends_after_a_day() -> None:
    async def story(world: World) -> None:
        await change_policy.apply(world.context, ANN, POLICY, "r")
        await change_policy.apply(world.context, BEN, POLICY, "r")
        await change_policy.apply(world.context, ANN, SPINE[0][1], "r")
        await change_policy.apply(world.context, BEN, SPINE[0][1], "r")
        assert (await change_policy.apply(world.context, BEN, POLICY, "r")).waits_for, "one person alone cannot go back to an old text"
        world.clock.at += DAY
        ann, ben = (caller(name, *ROLES, at=world.clock.at) for name in ("ann", "ben"))
        assert (await change_policy.apply(world.context, ann, POLICY, "r")).waits_for
        assert not (await change_policy.apply(world.context, ben, POLICY, "r")).waits_for

    scene(story)


def test_a_text_that_is_no_policy_changes_nothing() -> None:
    async def story(world: World) -> None:
        for text in ("permit(", 'permit(principal in Group::"callers", action == Action::"nope", resource);', "\x00"):
            with pytest.raises(InvalidInput):
                await change_policy.apply(world.context, ANN, text, "r")
            assert not change_policy.report(world.context, text).ok
        assert "policy-proposal" not in world.facts.settings
        with pytest.raises(NotPermitted):
            await change_policy.apply(world.context, REG, POLICY, "r")

    scene(story)


def test_alone_one_person_is_enough_where_solo_says_so() -> None:
    async def story(world: World) -> None:
        assert not (await change_policy.apply(world.context, ANN, POLICY, "r")).waits_for
        assert "adds `extra`" in change_policy.report(world.context, POLICY.replace("extra", "extra2")).changes[0].replace(
            "extra2", "extra"
        )

    scene(story, solo=True)


# --- zones ----------------------------------------------------------------------------------------------------------------------------


def test_observe_takes_two_persons_and_ends_enforce_takes_one() -> None:
    async def story(world: World) -> None:
        observe = AdoptRequest(zone="serve", to="observe")
        assert (await adopt.adopt(world.context, ANN, observe)).waits_for
        assert (await adopt.adopt(world.context, ANN, observe)).waits_for
        assert world.facts.mode_of("serve", world.clock.now()) == "enforce"
        made = await adopt.adopt(world.context, BEN, observe)
        assert made.now == "observe"
        assert world.facts.mode_of("serve", world.clock.now()) == "observe"
        assert world.facts.mode_of("serve", NOW + adopt.OBSERVE_DAYS * DAY) == "enforce"
        back = await adopt.adopt(world.context, BEN, AdoptRequest(zone="serve", to="enforce"))
        assert (back.now, world.facts.mode_of("serve", world.clock.now())) == ("enforce", "enforce")
        assert (await adopt.adopt(world.context, BEN, observe)).waits_for, "an agreement counts once"

    scene(story)


def test_an_agreement_to_observe_lapses() -> None:
    async def story(world: World) -> None:
        await adopt.adopt(world.context, ANN, AdoptRequest(zone="serve", to="observe"))
        world.clock.at += adopt.APPROVAL_HOURS * HOUR
        assert (
            await adopt.adopt(world.context, caller("ben", *ROLES, at=world.clock.at), AdoptRequest(zone="serve", to="observe"))
        ).waits_for

    scene(story)


def test_a_plan_changes_nothing_and_an_unknown_zone_is_told() -> None:
    async def story(world: World) -> None:
        before = world.store.epoch()
        assert (await adopt.adopt(world.context, ANN, AdoptRequest(zone="serve", to="plan"))).planned
        assert world.store.epoch() == before
        with pytest.raises(NotFound):
            await adopt.adopt(world.context, ANN, AdoptRequest(zone="nowhere", to="enforce"))
        with pytest.raises(NotPermitted):
            await adopt.adopt(world.context, REG, AdoptRequest(zone="serve", to="enforce"))

    scene(story)


@pytest.mark.parametrize("upstream", ["http://127.0.0.1:9000/path", "https://a:1", "127.0.0.1:9000", "http://host", "ftp://x:1", ""])
def test_a_wrapped_server_needs_an_address(upstream: str) -> None:
    async def story(world: World) -> None:
        await world.put(RegistrationPut(registration=registration(ANN.principal.principal.id, groups=ANN.principal.principal.groups)))
        with pytest.raises((InvalidInput, NotPermitted)):
            await adopt.wrap(world.context, ANN, WrapRequest(name="old", upstream=upstream, zone=""))

    scene(story)


@pytest.mark.parametrize(
    "upstream",
    [
        "unix:{data}/gateway/admin.sock", "unix:{data}/upstreams/digits/server.sock", "unix:/x/../{data}/gateway/admin.sock",
        "unix:/{data}/gateway/admin.sock", "unix:/run/guarded.sock", "tcp:127.0.0.1:9009", "http://localhost:9009", "tcp:[::1]:9009",
        "tcp:127.1.2.3:9009", "tcp:LOCALHOST.:9009",
    ],
)  # fmt: skip
def test_what_policies_guard_cannot_be_wrapped_and_so_opened_to_everybody(upstream: str) -> None:
    """The gateway reaches sockets that a registrar cannot, and answers anybody in a zone that observes."""

    async def story(world: World) -> None:
        data = "/srv/vouchgate"
        world.context.settings = msgspec.structs.replace(world.context.settings, data_dir=data)
        world.context.place = dataclasses.replace(world.context.place, plain="127.0.0.1:8080")
        await world.put(RegistrationPut(registration=registration(REG.principal.principal.id, groups=("role:registrar",))))
        for name, guarded in (("one", "unix:/run/guarded.sock"), ("two", "tcp:127.0.0.1:9009")):
            made = msgspec.structs.replace(endpoint(), id=f"vg://{TD}/endpoint/{name}", upstream=guarded)
            await world.put(EndpointPut(endpoint=made))
        before = world.store.epoch()
        with pytest.raises((Conflict, InvalidInput)):
            await adopt.wrap(world.context, REG, WrapRequest(name="old", upstream=upstream.format(data=data), zone=""))
        assert world.store.epoch() == before

    scene(story)


# --- revoking -------------------------------------------------------------------------------------------------------------------------


def ask(target: str, **changes: Any) -> RevokeRequest:
    return RevokeRequest(target=target, reason="lost", **changes)


def test_a_plan_says_what_falls_and_changes_nothing() -> None:
    async def story(world: World) -> None:
        made = await revoke.revoke(world.context, ANN, ask("digits", plan=True))
        assert (made.planned, made.target_kind, made.target) == (True, "digest", MODEL.text)
        assert made.endpoints == (DIGITS,)
        assert made.callers == (ALICE,)
        assert not world.facts.standing_revocations()
        assert world.granted() == {ALICE}

    scene(story)


def test_whoever_revoked_does_not_undo_it() -> None:
    async def story(world: World) -> None:
        made = await revoke.revoke(world.context, ANN, ask("alice"))
        assert made.target == ALICE
        assert [one.outcome for one in made.points] == ["enforced"]
        with pytest.raises(NotPermitted):
            await revoke.unrevoke(world.context, ANN, made.revocation.id, "sorry")
        with pytest.raises(NotFound):
            await revoke.unrevoke(world.context, BEN, "nothing", "sorry")
        assert (await revoke.unrevoke(world.context, BEN, made.revocation.id, "found")).done
        with pytest.raises(NotFound):
            await revoke.unrevoke(world.context, BEN, made.revocation.id, "again")
        await world.settled()
        assert world.granted() == {ALICE}

    scene(story)


def test_two_who_undo_at_once_undo_it_once() -> None:
    async def story(world: World) -> None:
        made = await revoke.revoke(world.context, ANN, ask("alice"))
        done = await asyncio.gather(
            *(revoke.unrevoke(world.context, BEN, made.revocation.id, "x") for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(one, NotFound) for one in done) == 4

    scene(story)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("digits", "principal"), ("digits", "registration"), ("nobody", ""), ("nobody", "principal"), ("spiffe://x", ""), ("sha256:short", ""),
        ("ab" * 30, "vouch"), ("AB" * 32, "key"), ("", ""), ("spiffe://test.local/service/serve/alice\n", ""), ("ab" * 32, "credential"),
    ],
)  # fmt: skip
def test_a_target_that_names_nothing_is_not_revoked_as_if_it_did(target: str, kind: str) -> None:
    async def story(world: World) -> None:
        with pytest.raises((InvalidInput, NotFound)):
            await revoke.revoke(world.context, ANN, ask(target, kind=kind))
        assert not world.facts.standing_revocations()

    scene(story)


def test_a_point_that_does_not_acknowledge_is_bounded_by_its_lease() -> None:
    async def story(world: World) -> None:
        world.points.acknowledged = {"gateway": False}
        made = await revoke.revoke(world.context, ANN, ask("alice"))
        assert made.points[0].outcome == "expires-by-lease"
        assert made.points[0].at == NOW + 10_000

    scene(story)


# --- why ------------------------------------------------------------------------------------------------------------------------------


def test_why_names_what_decides_now_and_what_decided_then() -> None:
    async def story(world: World) -> None:
        now = explain.why(world.context, "alice", "infer", "digits")
        assert (now.decision.effect, now.live, now.model_digest) == ("allow", True, MODEL.text)
        assert {one.predicate for one in now.vouches} == {"scan", "structure", "serves"}
        assert [one.result for one in now.path] == ["passed"] * 4
        await world.put(revoked("principal", ALICE))
        then = explain.why(world.context, ALICE, "infer", DIGITS)
        assert then.decision.effect == "deny"
        assert then.decision.determining == ("revocation:r1",)
        assert [one.result for one in then.path][:3] == ["passed", "stopped", "not-reached"]
        for who, what in (("nobody", "digits"), ("alice", "nothing"), (BOB, "digits"), ("spiffe://x", "digits"), ("alice", "vg://x")):
            with pytest.raises((NotFound, InvalidInput)):
                explain.why(world.context, who, "infer", what)

    scene(story)


@pytest.mark.parametrize("key", ["", "999999", "-1", "0" * 40, "x" * 500, "1.2.3", CHAT])
def test_a_decision_that_is_not_on_record_is_not_found(key: str) -> None:
    async def story(world: World) -> None:
        with pytest.raises((NotFound, InvalidInput)):
            explain.why_recorded(world.context, key)

    scene(story)


def test_policies_that_are_applied_at_once_each_get_a_version_or_are_told() -> None:
    async def story(world: World) -> None:
        texts = [POLICY.replace("extra", f"extra{number}") for number in range(4)]
        done = await asyncio.gather(*(change_policy.apply(world.context, ANN, text, "r") for text in texts), return_exceptions=True)
        assert all(isinstance(one, Conflict) or not isinstance(one, BaseException) for one in done)
        applied = sum(not isinstance(one, BaseException) for one in done)
        assert applied
        assert world.facts.policy is not None
        assert world.facts.policy.version == 1 + applied

    scene(story, solo=True)
