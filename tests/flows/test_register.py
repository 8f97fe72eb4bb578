"""Which facts earn which identity: who may say so, what cannot be said, and join tokens that are used once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from flows_world import ALICE, DIGITS, NOW, TD, World, caller, make_world, registration, running, serving

from vouchgate.flows import login, register
from vouchgate.flows.attest_remote import trust_of
from vouchgate.flows.changes import RegistrationPut, RegistrationRemoved
from vouchgate.flows.context import Buckets
from vouchgate.flows.explain import why
from vouchgate.flows.report import caller_states, registrations
from vouchgate.flows.revoke import meant
from vouchgate.flows.traffic import Count
from vouchgate.identity.catalog import attest
from vouchgate.vocabulary.answers_identities import JoinTokenRequest, RegistrationRequest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, InvalidName, LimitExceeded, NotFound, NotPermitted
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import FOREIGN_ID, Selector
from vouchgate.vocabulary.vouches import UnixMillis

REG, NOBODY = caller("reg", "registrar"), caller("nobody")
PRICING = principal(TD, "service", "serve", "pricing")
UID = Selector(type="unix:uid", value="4001")


def asked(**fields: Any) -> RegistrationRequest:
    return RegistrationRequest(
        **{"kind": "service", "zone": "serve", "name": "pricing", "selectors": (UID,), "groups": ("callers",), **fields}
    )


@contextlib.asynccontextmanager
async def office() -> AsyncIterator[World]:
    async with running(make_world()) as world:
        await serving(world)
        for uid, one in enumerate((REG, NOBODY), 1001):
            who = one.principal.principal
            await world.put(RegistrationPut(registration=registration(who.id, groups=who.groups, uid=uid)))
        yield world


def run(story: Any) -> Any:
    async def go() -> Any:
        async with office() as world:
            return await story(world)

    return asyncio.run(go())


def test_a_registration_is_made_and_recorded():
    async def story(world: World) -> None:
        made = await register.register(world.context, REG, asked(kind="agent", dns=("pricing.local",), endpoint="digits"))
        name = principal(TD, "agent", "serve", "pricing")
        assert world.context.facts.registrations[name] == msgspec.structs.replace(made)
        assert (made.svid_ttl_seconds, made.jwt_ttl_seconds, made.endpoint, made.source) == (300, 300, DIGITS, "api")
        entries = world.context.store.entries(world.context.store.size() - 1, 1)
        assert b'"register"' in entries[0] or b"register" in entries[0]

    run(story)


def test_nobody_else_answers_for_a_server_that_vouchgate_started():
    async def story(world: World) -> None:
        server = msgspec.structs.replace(registration(f"spiffe://{TD}/server/serve/digits"), endpoint=DIGITS, source="settings")
        await world.put(RegistrationPut(registration=server))
        for named in ("digits", DIGITS):
            with pytest.raises(Conflict, match="answers for"):
                await register.register(world.context, REG, asked(endpoint=named))
        assert (await register.register(world.context, REG, asked())).endpoint == ""

    run(story)


def test_it_replaces_what_was_there_and_keeps_its_age():
    async def story(world: World) -> None:
        first = await register.register(world.context, REG, asked())
        world.clock.at += 1000
        second = await register.register(world.context, REG, asked(groups=("monitors",), svid_seconds=120))
        assert (second.created_at, second.groups, second.svid_ttl_seconds) == (first.created_at, ("monitors",), 120)

    run(story)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"kind": "system"}, InvalidInput),
        ({"kind": "declared"}, InvalidInput),
        ({"kind": "king"}, InvalidInput),
        ({"name": "../pricing"}, InvalidInput),
        ({"selectors": (UID, UID)}, InvalidInput),
        ({"selectors": tuple(Selector(type="unix:uid", value=str(n)) for n in range(register.MAX_SELECTORS + 1))}, InvalidInput),
        ({"selectors": (Selector(type="uid", value="1"),)}, InvalidInput),
        ({"selectors": (Selector(type="unix:uid", value=""),)}, InvalidInput),
        ({"selectors": (Selector(type="unix:uid", value="1\n2"),)}, InvalidInput),
        ({"selectors": (Selector(type="unix:path", value="x" * 1025),)}, InvalidInput),
        ({"selectors": (Selector(type="join:token", value="00" * 32),)}, InvalidInput),
        ({"selectors": (Selector(type="unix:path", value="/usr/bin/python3"), Selector(type="unix:sha256", value="ab"))}, InvalidInput),
        ({"selectors": (Selector(type="container:uid", value="1000"),)}, InvalidInput),
        ({"selectors": (Selector(type="k8s..eu:ns", value="train"),)}, InvalidInput),
        ({"svid_seconds": 5}, InvalidInput),
        ({"svid_seconds": 86_401}, InvalidInput),
        ({"jwt_seconds": 301}, InvalidInput),
        ({"endpoint": "nowhere"}, NotFound),
        ({"federates_with": ("Partner.Example",)}, InvalidInput),
        ({"expires_at": NOW}, InvalidInput),
        ({"dns": ("pricing.local", "LocalHost")}, Conflict),
        ({"dns": ("*.example.com",)}, InvalidInput),
        ({"dns": ("localhost.",)}, InvalidInput),
        ({"dns": tuple(f"h{number}.local" for number in range(9))}, InvalidInput),
        ({"groups": ("role:responder",)}, NotPermitted),
        ({"groups": tuple(f"g{number}" for number in range(register.MAX_GROUPS + 1))}, InvalidInput),
        ({"groups": ("callers", "callers")}, InvalidInput),
        ({"groups": ("",)}, InvalidInput),
        ({"groups": ("a\nb",)}, InvalidInput),
        ({"groups": ('a"b',)}, InvalidInput),
        ({"groups": ("x" * 129,)}, InvalidInput),
        ({"federates_with": tuple(f"p{number}.example" for number in range(register.MAX_FEDERATED + 1))}, InvalidInput),
    ],
)
def test_what_cannot_be_registered(fields: dict[str, Any], error: type[Exception]):
    async def story(world: World) -> None:
        before = dict(world.context.facts.registrations)
        with pytest.raises(error):
            await register.register(world.context, REG, asked(**fields))
        assert world.context.facts.registrations == before

    run(story)


def test_only_a_registrar_registers():
    async def story(world: World) -> None:
        for act in (
            register.register(world.context, NOBODY, asked()),
            register.unregister(world.context, NOBODY, ALICE, "away"),
            register.join_token(world.context, NOBODY, JoinTokenRequest(principal=ALICE)),
        ):
            with pytest.raises(NotPermitted):
                await act

    run(story)


def test_who_lacks_a_role_cannot_put_it_within_reach_of_his_own_process():
    async def story(world: World) -> None:
        boss = registration(principal(TD, "person", "admin", "boss"), groups=("role:responder",), uid=1)
        await world.put(RegistrationPut(registration=boss))
        with pytest.raises(NotPermitted):
            await register.register(world.context, REG, asked(kind="person", zone="admin", name="boss", groups=()))
        with pytest.raises(NotPermitted):
            await register.unregister(world.context, REG, boss.principal, "away")

    run(story)


def test_what_the_settings_name_is_changed_there_alone():
    async def story(world: World) -> None:
        fixed = msgspec.structs.replace(registration(PRICING, groups=("callers",)), source="settings")
        await world.put(RegistrationPut(registration=fixed))
        for act in (
            register.register(world.context, REG, asked()),
            register.unregister(world.context, REG, PRICING, "away"),
            register.join_token(world.context, REG, JoinTokenRequest(principal=PRICING)),
        ):
            with pytest.raises(Conflict):
                await act

    run(story)


def test_a_registrar_is_bounded():
    async def story(world: World) -> None:
        world.context.registering = Buckets(2)
        for number in range(2):
            await register.register(world.context, REG, asked(name=f"one-{number}", selectors=()))
        with pytest.raises(LimitExceeded):
            await register.register(world.context, REG, asked(name="one-too-many", selectors=()))

    run(story)


def test_unregistered_is_gone():
    async def story(world: World) -> None:
        await register.register(world.context, REG, asked())
        await register.unregister(world.context, REG, PRICING, "moved away")
        assert PRICING not in world.context.facts.registrations
        with pytest.raises(NotFound):
            await register.unregister(world.context, REG, PRICING, "again")

    run(story)


def test_the_selectors_of_a_source_that_is_not_the_usual_one_can_be_registered():
    async def story(world: World) -> None:
        wanted = (Selector(type="k8s.prod-eu:ns", value="train"), Selector(type="k8s.prod-eu:sa", value="trainer"))
        made = await register.register(world.context, REG, asked(selectors=wanted))
        assert made.selectors == wanted

    run(story)


def test_a_join_token_is_kept_as_a_hash_and_a_newer_one_ends_it():
    async def story(world: World) -> None:
        await register.register(world.context, REG, asked(selectors=()))
        made = [await register.join_token(world.context, REG, JoinTokenRequest(principal=PRICING, ttl_seconds=60)) for _ in range(2)]
        hashes = [hashlib.sha256(one.token.encode()).hexdigest() for one in made]
        settings = world.context.facts.settings
        assert [settings[register.JOIN + one] for one in hashes] == ["", str(NOW + 60_000)]
        assert world.context.facts.registrations[PRICING].selectors == (Selector(type="join:token", value=hashes[1]),)
        trust = trust_of(world.context, "join-token", "")
        established = [attest("join-token", {"token": one.token}, trust, NOW) for one in made]
        assert isinstance(established[0], Denied) and established[1].selectors == world.context.facts.registrations[PRICING].selectors
        stored = b"".join(world.context.store.entries(0, world.context.store.size()))
        assert not any(one.token.encode() in stored for one in made)

    run(story)


def test_a_join_token_earns_nothing_that_other_facts_earn():
    async def story(world: World) -> None:
        await register.register(world.context, REG, asked())
        with pytest.raises(Conflict):
            await register.join_token(world.context, REG, JoinTokenRequest(principal=PRICING))
        with pytest.raises(NotFound):
            await register.join_token(world.context, REG, JoinTokenRequest(principal="spiffe://test.local/service/serve/nobody"))

    run(story)


def test_a_registration_may_end_by_itself():
    async def story(world: World) -> None:
        made = await register.register(world.context, REG, asked(expires_at=UnixMillis(NOW + 1)))
        assert made.expires_at == NOW + 1

    run(story)


def test_an_ended_registration_gets_no_join_token_and_is_shown_as_nobody_s():
    async def story(world: World) -> None:
        await register.register(world.context, REG, asked(selectors=(), groups=("callers",), expires_at=UnixMillis(NOW + 1)))
        assert [one.authenticated for one in caller_states(world.context) if one.principal == PRICING] == [True]
        world.clock.at = NOW + 1
        with pytest.raises(NotFound):
            await register.join_token(world.context, REG, JoinTokenRequest(principal=PRICING))
        with pytest.raises(NotFound):
            why(world.context, PRICING, "infer", DIGITS)
        assert [(one.authenticated, one.groups) for one in caller_states(world.context) if one.principal == PRICING] == [(False, ())]
        # until it is swept, it can be taken away all the same
        assert (await register.unregister(world.context, REG, PRICING, "over")).principal == PRICING

    run(story)


def test_what_would_come_between_another_and_its_identity_is_refused():
    async def story(world: World) -> None:
        boss = registration(principal(TD, "person", "admin", "boss"), groups=("role:responder",), uid=7)
        await world.put(RegistrationPut(registration=boss))
        person = asked(kind="person", zone="admin", name="other", groups=(), selectors=(Selector(type="unix:uid", value="7"),))
        with pytest.raises(Conflict):
            await register.register(world.context, REG, person)
        await register.register(world.context, REG, asked(selectors=(Selector(type="unix:uid", value="7"),)))
        assert login.caller_of_uid(world.context, 7, 1).principal.principal.id == boss.principal
        with pytest.raises(Conflict):
            await register.register(world.context, REG, asked(name="twin", selectors=(Selector(type="unix:uid", value="7"),)))
        narrower = (Selector(type="unix:uid", value="7"), Selector(type="unix:path", value="/usr/bin/serve"))
        await register.register(world.context, REG, asked(name="narrower", selectors=narrower))
        assert login.caller_of_uid(world.context, 7, 1).principal.principal.id == boss.principal

    run(story)


def test_a_workloads_user_is_a_caller_where_no_person_is():
    async def story(world: World) -> None:
        await register.register(world.context, REG, asked(selectors=(Selector(type="unix:uid", value="8"),)))
        assert login.caller_of_uid(world.context, 8, 1).principal.principal.id == PRICING
        await register.unregister(world.context, REG, PRICING, "gone")
        assert "unknown" in login.caller_of_uid(world.context, 8, 1).principal.principal.id

    run(story)


FOREIGN = Selector(type=FOREIGN_ID, value="spiffe://partner.example/ns/prod/sa/Shop")


def alias(**fields: Any) -> RegistrationRequest:
    return asked(**{"zone": "federated-partner", "name": "shop", "selectors": (FOREIGN,), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"zone": "serve"},
        {"zone": "partner-federated-"},
        {"selectors": (FOREIGN, UID)},
        {"selectors": (FOREIGN, Selector(type=FOREIGN_ID, value="spiffe://partner.example/other"))},
        *(
            {"selectors": (Selector(type=FOREIGN_ID, value=value),)}
            for value in (f"spiffe://{TD}/service/serve/alice", "spiffe://partner.example", "spiffe://partner.example/", "https://partner.example/x", "x")
        ),
        {"selectors": (Selector(type=FOREIGN_ID, value="spiffe://PARTNER.example/x"),)},
    ],
)  # fmt: skip
def test_a_partners_caller_is_registered_under_a_name_that_says_so_and_by_its_id_alone(fields: dict[str, Any]):
    async def story(world: World) -> None:
        with pytest.raises((InvalidInput, InvalidName)):
            await register.register(world.context, REG, alias(**fields))
        assert not world.facts.aliases()

    run(story)


def test_a_partners_caller_has_one_name_here():
    async def story(world: World) -> None:
        made = await register.register(world.context, REG, alias())
        assert world.facts.aliases() == {FOREIGN.value: made.principal}
        await register.register(world.context, REG, alias(groups=("monitors",)))
        with pytest.raises(Conflict):
            await register.register(world.context, REG, alias(name="again"))
        world.clock.at += 1000
        await register.register(world.context, REG, alias(expires_at=UnixMillis(world.clock.at + 5_000)))
        assert world.facts.alias_of(FOREIGN.value, UnixMillis(world.clock.at + 4_999)) is not None
        assert world.facts.alias_of(FOREIGN.value, UnixMillis(world.clock.at + 5_000)) is None
        for kind in ("", "principal", "registration"):
            assert meant(world.context, kind, FOREIGN.value)[1] == made.principal, "revoking its own name strikes ours for it"
        await register.unregister(world.context, REG, made.principal, "gone")
        assert not world.facts.aliases()
        for stranger in (FOREIGN.value, "spiffe://partner.example/service/serve/x"):
            with pytest.raises(NotFound):
                meant(world.context, "", stranger)

    run(story)


def test_long_lists_are_read_page_by_page():
    async def story(world: World) -> None:
        names = [f"spiffe://{TD}/service/serve/p{number:03d}" for number in range(7)]
        await world.put(*(RegistrationPut(registration=registration(one)) for one in names))
        everyone = [one.principal for one in caller_states(world.context)]
        assert everyone == sorted(everyone) and set(names) < set(everyone)
        assert [one.principal for one in registrations(world.context, names[1], 3)] == names[2:5]
        assert [one.principal for one in caller_states(world.context, names[4], 10)][:2] == names[5:]
        assert caller_states(world.context, "spiffe://z", 10) == ()
        await world.put(RegistrationRemoved(principal=names[3]), RegistrationPut(registration=registration(names[2])))
        world.context.traffic.callers[names[0] + "-stranger"] = Count()
        listed = [one.principal for one in caller_states(world.context, names[0], 3)]
        assert listed == [names[0] + "-stranger", names[1], names[2]]
        assert [one.principal for one in registrations(world.context, names[2], 2)] == names[4:6]

    run(story)
