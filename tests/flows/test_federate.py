"""Partners: what of a bundle is believed, what it can never say, and how long it counts."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flows_world import NOW, TD, World, caller, lasting, make_world, registration, running, serving

from vouchgate.flows.changes import RegistrationPut, RegistrationRemoved, SourcePut
from vouchgate.flows.federate import FAILED_SECONDS, PREFIX, Federation
from vouchgate.flows.needs import _partners
from vouchgate.flows.sequence import Sequenced
from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.identity.ca import make_ca, spki_of
from vouchgate.identity.foreign_bundle import read_foreign_bundle
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, Unavailable
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.principals import FOREIGN_ID, Selector
from vouchgate.vocabulary.settings_federation import FederationSettings, check_federation
from vouchgate.vocabulary.vouches import UnixMillis

PARTNER, OTHER = "partner.example", "other.example"
WEB = FederationSettings(name="partner", trust_domain=PARTNER, url="https://partner.example/bundle")
SPIFFE = FederationSettings(
    name="other", trust_domain=OTHER, profile="https_spiffe", url="https://other.example/bundle", spiffe_id=f"spiffe://{OTHER}/bundle"
)
ADMIN = lasting("kim", "key-custodian", "auditor")


def authority(domain: str = PARTNER) -> bytes:
    return make_ca(domain, ec.generate_private_key(ec.SECP256R1()), now=NOW, days=300)


def bundle(domain: str = PARTNER, *, sequence: int = 1, authorities: tuple[bytes, ...] = (), hint: int = 60) -> bytes:
    key = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    made = make_bundle(domain, x509_authorities=authorities or (authority(domain),), jwt_spkis=(key,), sequence=sequence)
    return write_jwks(msgspec.structs.replace(made, refresh_seconds=hint))


class Endpoint:
    """Bundle endpoints by partner, and the gateway's view."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.asked: list[tuple[str, list[bytes]]] = []
        self.status = 200
        self.hold = asyncio.Event()
        self.hold.set()
        self.slow = ""
        self.said: Any = None
        self.bundles: dict[str, str] = {}
        self.names: dict[str, str] = {}

    async def call(self, method: str, /, **params: Any) -> Any:
        assert method == "out.bundle"
        self.asked.append((params["to"], params["authorities"]))
        if self.slow in ("", params["to"]):
            await self.hold.wait()
        body = self.bodies.get(params["to"].removeprefix("federation:"))
        if body is None:
            raise Unavailable("the endpoint is away", remedy="wait")
        return {"status": self.status, "headers": {}, "body": body} if self.said is None else self.said

    def set_federated_bundles(self, bundles: Any) -> None:
        self.bundles = dict(bundles)

    def set_federated_names(self, names: Any) -> None:
        self.names = dict(names)


def run(
    story: Callable[[World, Federation, Endpoint], Awaitable[None]], *partners: FederationSettings, files: dict[str, bytes] | None = None
) -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            who = ADMIN.principal.principal
            await world.put(RegistrationPut(registration=registration(who.id, groups=who.groups, uid=1001)))
            world.context.settings = msgspec.structs.replace(world.context.settings, federation=partners or (WEB,))
            endpoint = Endpoint()
            federation = Federation(world.context, endpoint, endpoint, files or {})
            await federation.begin()
            await story(world, federation, endpoint)

    asyncio.run(go())


async def look(federation: Federation, world: World, seconds: int = 0) -> None:
    world.clock.at += seconds * 1000
    for one in world.context.settings.federation:
        await federation.look(one)


def recorded(world: World, name: str = "partner") -> Any:
    return world.context.facts.sources.get(PREFIX + name)


def test_a_bundle_is_recorded_and_given_to_the_gateway_and_asked_for_by_its_hint():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle(sequence=4, hint=60)
        await look(federation, world)
        assert (recorded(world).sequence, recorded(world).issuer) == (4, PARTNER)
        assert set(endpoint.bundles) == {PARTNER} and "BEGIN CERTIFICATE" in endpoint.bundles[PARTNER]
        await look(federation, world, 59)
        assert len(endpoint.asked) == 1
        await look(federation, world, 1)
        assert len(endpoint.asked) == 2

    run(story)


def test_a_higher_sequence_replaces_it_and_nothing_of_the_old_stays():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle(sequence=1)
        await look(federation, world)
        before = endpoint.bundles[PARTNER]
        endpoint.bodies["partner"] = bundle(sequence=2)
        await look(federation, world, 60)
        assert recorded(world).sequence == 2 and endpoint.bundles[PARTNER] != before
        assert before not in endpoint.bundles[PARTNER]

    run(story)


def bad_bundles() -> dict[str, bytes]:
    good = json.loads(bundle(sequence=9))
    x509, jwt = good["keys"]

    def said(*keys: Any, **more: Any) -> bytes:
        return json.dumps({"keys": list(keys), "spiffe_sequence": 9, **more}).encode()

    return {
        "not JSON": b"<html>",
        "no keys": b"{}",
        "an authority of ours": bundle_of(TD),
        "an authority of a third": bundle_of(OTHER),
        "two certificates in a key": said({**x509, "x5c": [x509["x5c"][0]] * 2}),
        "a certificate key with an id": said({**x509, "kid": "k"}),
        "another key than its certificate": said({**x509, "x": jwt["x"], "y": jwt["y"]}),
        "a private key": said({**jwt, "d": jwt["x"]}),
        "a token key without an id": said({name: value for name, value in jwt.items() if name != "kid"}),
        "two token keys with one id": said(jwt, jwt),
        "a sequence that is text": said(x509, spiffe_sequence="9"),
        "a negative hint": said(x509, spiffe_refresh_hint=-1),
        "a short RSA key": said(
            {"use": "jwt-svid", "kid": "r", "kty": "RSA", "n": base64.urlsafe_b64encode(b"\x99" * 64).decode().rstrip("="), "e": "AQAB"}
        ),
        "no authority any more": said(jwt),
        "a lower sequence": bundle(sequence=3),
        "the same sequence with other keys": bundle(sequence=5),
    }


def bundle_of(domain: str) -> bytes:
    document = json.loads(bundle(domain, sequence=9))
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", sorted(bad_bundles()))
def test_a_bad_bundle_changes_nothing_and_is_an_entry(name: str):
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle(sequence=5)
        await look(federation, world)
        before, told, size = recorded(world), dict(endpoint.bundles), world.context.store.size()
        endpoint.bodies["partner"] = bad_bundles()[name]
        await look(federation, world, 60)
        assert (recorded(world), endpoint.bundles) == (before, told)
        assert any(b"federation-bundle" in entry for entry in world.context.store.entries(size, 5))
        assert (await federation.states(ADMIN))[0].problem

    run(story)


def test_a_failure_is_recorded_once_and_tried_again():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        size = world.context.store.size()
        for _ in range(5):
            await look(federation, world, FAILED_SECONDS)
        assert len(endpoint.asked) == 5 and world.context.store.size() == size + 1
        endpoint.bodies["partner"] = bundle()
        await look(federation, world, FAILED_SECONDS)
        assert recorded(world) is not None

    run(story)


def test_a_bundle_that_cannot_be_fetched_again_stops_counting():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle()
        await look(federation, world)
        del endpoint.bodies["partner"]
        await look(federation, world, 24 * 3600)
        assert recorded(world) is not None
        await look(federation, world, FAILED_SECONDS)
        assert recorded(world) is None and endpoint.bundles == {}

    run(story)


def test_an_https_spiffe_endpoint_is_verified_by_the_recorded_bundle_and_first_by_the_file():
    first, second = bundle(OTHER, sequence=1), bundle(OTHER, sequence=2)

    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["other"] = second
        await look(federation, world)
        await look(federation, world, 60)
        wanted = [list(read_foreign_bundle(one, OTHER, ours=TD).authorities) for one in (first, second)]
        assert [authorities for _, authorities in endpoint.asked] == wanted

    run(story, SPIFFE, files={"other": first})


def test_an_https_spiffe_endpoint_without_a_first_bundle_is_not_asked():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["other"] = bundle(OTHER)
        await look(federation, world)
        assert endpoint.asked == [] and recorded(world, "other") is None

    run(story, SPIFFE)


def test_two_partners_are_never_merged():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies |= {"partner": bundle(PARTNER), "other": bundle(OTHER)}
        await look(federation, world)
        assert set(endpoint.bundles) == {PARTNER, OTHER}
        assert not set(endpoint.bundles[PARTNER].splitlines()[1:3]) & set(endpoint.bundles[OTHER].splitlines()[1:3])

    run(story, WEB, SPIFFE, files={"other": bundle(OTHER)})


def test_who_is_no_longer_named_is_let_go():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle()
        await look(federation, world)
        world.context.settings = msgspec.structs.replace(world.context.settings, federation=())
        await federation.begin()
        assert recorded(world) is None and endpoint.bundles == {}

    run(story)


def test_the_same_name_for_another_trust_domain_begins_anew():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle()
        await look(federation, world)
        moved = msgspec.structs.replace(WEB, trust_domain=OTHER)
        world.context.settings = msgspec.structs.replace(world.context.settings, federation=(moved,))
        await federation.begin()
        assert endpoint.bundles == {}

    run(story)


def test_a_recorded_bundle_that_is_not_readable_any_more_refuses_its_callers_and_nobody_elses():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies |= {"partner": bundle(), "other": bundle(OTHER)}
        await look(federation, world)
        unread = msgspec.structs.replace(recorded(world), keys=b'{"keys":"none"}', sequence=2)
        await world.put(SourcePut(source=unread))
        federation.hand_on()
        assert set(endpoint.bundles) == {OTHER}

    run(story, WEB, SPIFFE, files={"other": bundle(OTHER)})


def test_more_partners_than_a_gateway_holds_are_refused_with_the_settings():
    def no(where: Any, what: str, remedy: str) -> Exception:
        return InvalidInput(what, remedy=remedy)

    many = [msgspec.structs.replace(WEB, name=f"p{number}", trust_domain=f"p{number}.example") for number in range(65)]
    check_federation(many[:64], TD, no)
    with pytest.raises(InvalidInput, match="65 partners"):
        check_federation(many, TD, no)


def test_our_own_trust_domain_is_no_partner():
    with pytest.raises(InvalidInput):
        read_foreign_bundle(bundle(TD), TD, ours=TD)


def test_foreign_callers_act_under_the_name_of_their_registration_and_only_with_that_one_selector():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        alias = principal(TD, "service", "federated-partner", "shop")
        foreign = Selector(type=FOREIGN_ID, value=f"spiffe://{PARTNER}/shop")
        one = msgspec.structs.replace(registration(alias, groups=("callers",)), selectors=(foreign,))
        more = (foreign, Selector(type="unix:uid", value="1"))
        both = msgspec.structs.replace(registration(principal(TD, "service", "federated-partner", "both")), selectors=more)
        elsewhere = msgspec.structs.replace(registration(principal(TD, "service", "serve", "partner-shop")), selectors=(foreign,))
        for registered in (one, both, elsewhere):
            change = RegistrationPut(registration=registered)
            await world.put(change)
            federation.tell([Sequenced(change=change, epoch=1, log_index=0)])
        assert endpoint.names == {f"spiffe://{PARTNER}/shop": alias}
        twin = msgspec.structs.replace(one, principal=principal(TD, "service", "federated-partner", "twin"))
        await world.put(RegistrationPut(registration=twin))
        federation.tell([Sequenced(change=RegistrationPut(registration=twin), epoch=2, log_index=0)])
        assert endpoint.names == {}, "two stand for nobody"
        await world.put(RegistrationRemoved(principal=twin.principal))
        federation.tell([Sequenced(change=RegistrationRemoved(principal=twin.principal), epoch=3, log_index=0)])
        assert endpoint.names == {f"spiffe://{PARTNER}/shop": alias}
        gone = RegistrationRemoved(principal=alias)
        await world.put(gone)
        federation.tell([Sequenced(change=gone, epoch=2, log_index=0)])
        assert endpoint.names == {}

    run(story)


def test_who_may_look_and_who_may_refresh():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle()
        assert (await federation.states(ADMIN))[0].state == "refused"
        assert (await federation.refresh(ADMIN, "partner")).state == "trusted"
        for act in (federation.states(caller("nobody")), federation.refresh(caller("nobody"), "partner")):
            with pytest.raises(NotPermitted):
                await act
        with pytest.raises(InvalidInput):
            await federation.refresh(ADMIN, "stranger")

    run(story)


def test_what_is_given_to_workloads_is_a_bundle_a_domain():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        from vouchgate.flows.workload_state import State

        endpoint.bodies["partner"] = bundle()
        await look(federation, world)
        said = await State(world.context, steady=lambda: 0.0).now()
        assert set(said["federated"]) == {PARTNER}
        keys = json.loads(said["federated"][PARTNER]["jwks"])["keys"]
        assert [key["use"] for key in keys] == ["jwt-svid"] and said["federated"][PARTNER]["x509"]
        assert said["ours"]["x509"] not in said["federated"][PARTNER]["x509"]

    run(story)


def test_times_of_a_bundle_are_bounded():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle(hint=0)
        await look(federation, world)
        state = (await federation.states(ADMIN))[0]
        assert state.next_at == UnixMillis(world.clock.at + 10_000)
        endpoint.bodies["partner"] = bundle(sequence=2, hint=10**9)
        await look(federation, world, 10)
        assert (await federation.states(ADMIN))[0].next_at == world.clock.at + 24 * 3_600_000

    run(story)


def test_a_reload_fetches_anew_and_lets_go_of_who_is_not_named_even_while_it_is_being_fetched():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle(sequence=1)
        await look(federation, world)
        endpoint.bodies["partner"] = bundle(sequence=2)
        await federation.reload({})
        await look(federation, world)
        assert recorded(world).sequence == 2, "asked at once, whatever the hint was"
        endpoint.bodies["partner"] = bundle(sequence=3)
        endpoint.hold.clear()
        fetching = asyncio.create_task(look(federation, world, 60))
        await asyncio.sleep(0)
        world.context.settings = msgspec.structs.replace(world.context.settings, federation=())
        await federation.reload({})
        endpoint.hold.set()
        await fetching
        assert recorded(world) is None and endpoint.bundles == {}
        assert await federation.states(ADMIN) == ()

    run(story)


def test_a_reload_takes_in_another_bundle_file():
    FILE = msgspec.structs.replace(WEB, profile="file", url="", bundle_file="partner.json")

    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        await look(federation, world)
        await federation.reload({"partner": bundle(sequence=2)})
        await look(federation, world)
        assert recorded(world).sequence == 2 and endpoint.asked == []
        await federation.reload({"partner": b"{}"})
        await look(federation, world)
        assert recorded(world).sequence == 2 and (await federation.states(ADMIN))[0].problem
        await federation.reload({"partner": bundle(sequence=1)})
        await look(federation, world)
        assert recorded(world).sequence == 2, "a file from before is a replay too"

    run(story, FILE, files={"partner": bundle(sequence=1)})


def test_the_same_keys_under_a_higher_sequence_leave_no_room_for_a_replay_between():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        keys = json.loads(bundle(sequence=1))
        endpoint.bodies["partner"] = json.dumps(keys).encode()
        await look(federation, world)
        endpoint.bodies["partner"] = json.dumps({**keys, "spiffe_sequence": 7}).encode()
        await look(federation, world, 60)
        assert recorded(world).sequence == 7
        before = recorded(world)
        endpoint.bodies["partner"] = bundle(sequence=6)
        await look(federation, world, 60)
        assert recorded(world) == before

    run(story)


def test_how_long_it_was_not_fetched_is_known_after_a_restart():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle(sequence=1)
        for _ in range(30):
            await look(federation, world, 3600)
        size = world.context.store.size()
        await look(federation, world, 60)
        assert world.context.store.size() == size, "not a record at each fetch"
        again = Federation(world.context, endpoint, endpoint, {})
        await again.begin()
        del endpoint.bodies["partner"]
        await look(again, world, FAILED_SECONDS)
        assert recorded(world) is not None, "the bundle is 30 hours old, but was there a minute ago"
        (state,) = await again.states(ADMIN)
        assert state.stale_at > world.clock.at and state.problem
        await look(again, world, 24 * 3600)
        assert recorded(world) is None

    run(story)


def test_a_slow_partner_keeps_nobody_waiting():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies |= {"partner": bundle(), "other": bundle(OTHER)}
        endpoint.hold.clear()
        endpoint.slow = "federation:partner"
        running = asyncio.create_task(federation.run())
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if recorded(world, "other") is not None:
                break
        assert recorded(world, "other") is not None and recorded(world) is None
        endpoint.hold.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(story, WEB, SPIFFE, files={"other": bundle(OTHER)})


def test_a_store_that_does_not_write_ends_no_look():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        world.context.sequencer.failed = "the disk is full"
        await look(federation, world)
        world.context.sequencer.failed = ""
        endpoint.bodies["partner"] = bundle()
        await look(federation, world, FAILED_SECONDS)
        assert recorded(world) is not None

    run(story)


@pytest.mark.parametrize(
    "said",
    [None, 7, {}, {"status": 200}, {"status": "200", "body": b"{}"}, {"status": 200, "body": 10**12}, {"status": 200, "body": "x"},
     {"status": 200, "body": [0] * 9}, {"status": 200, "body": b" " * (256 * 1024 + 1)}, {"status": 500, "body": b""}],
)  # fmt: skip
def test_a_token_service_in_other_hands_says_anything_and_changes_nothing(said: Any):
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        endpoint.bodies["partner"] = bundle()
        endpoint.said = said or "nothing"
        await look(federation, world)
        assert recorded(world) is None and federation.listed()[0].problem
        endpoint.said = None
        await look(federation, world, FAILED_SECONDS)
        assert recorded(world) is not None

    run(story)


def test_what_waits_for_a_person():
    async def story(world: World, federation: Federation, endpoint: Endpoint) -> None:
        now = world.clock.at
        assert list(_partners(federation.listed(), now)) == [], "nobody has looked yet"
        await look(federation, world)
        (need,) = _partners(federation.listed(), now)
        assert (need.kind, need.severity, need.subject) == ("partner", "act", "partner") and "away" in need.detail
        endpoint.bodies["partner"] = bundle()
        await look(federation, world, FAILED_SECONDS)
        assert list(_partners(federation.listed(), world.clock.at)) == []
        del endpoint.bodies["partner"]
        await look(federation, world, 4 * 3600)
        (need,) = _partners(federation.listed(), world.clock.at)
        assert (need.severity, "refused in 20 h" in need.detail) == ("soon", True), need
        assert need.command == "vouchgate federation list --refresh partner"

    run(story)


def damaged() -> list[bytes]:
    """Bundles whose certificate is damaged in each of its bytes, one after the other."""
    good = json.loads(bundle(sequence=9))
    der = base64.b64decode(good["keys"][0]["x5c"][0])
    made = []
    for at in range(len(der)):
        for value in (der[at] ^ 0x01, der[at] ^ 0x80, 0xFF):
            text = base64.b64encode(der[:at] + bytes([value]) + der[at + 1 :]).decode()
            made.append(json.dumps({**good, "keys": [{**good["keys"][0], "x5c": [text]}, good["keys"][1]]}).encode())
    return made


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_no_damage_to_a_bundle_is_more_than_a_refusal():
    refused = 0
    for one in damaged():
        try:
            assert read_foreign_bundle(one, PARTNER, ours=TD).pem
        except InvalidInput:
            refused += 1
    assert refused > 100
