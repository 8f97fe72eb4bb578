"""What changes reaches live streams at once: revocation, registrations, bundles, evidence; and parts that go away and come back."""

from __future__ import annotations

import asyncio
import os
import secrets
import time

from agent_world import NAME, TD, House, agent_world
from cryptography import x509
from flows_world import DIGITS, about, evidence_for, registration, revoked, served, vouched, zone
from flows_world import endpoint as an_endpoint
from raw_client import Raw

from vouchgate.edges.spiffe import live as lives
from vouchgate.edges.spiffe import messages
from vouchgate.flows.changes import EndpointPut, RegistrationPut, RegistrationRemoved, Revoked, SourcePut, ZonePut
from vouchgate.flows.workload_binding import bound_of
from vouchgate.identity.binding import binding_of
from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.identity.foreign_bundle import read_foreign_bundle
from vouchgate.identity.x509svid import serial_text
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.principals import Selector
from vouchgate.vocabulary.sources import TrustSource

X509, BUNDLES, JWT_BUNDLES = (f"/SpiffeWorkloadAPI/{name}" for name in ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"))
DENIED, UNAVAILABLE = 7, 14
SERVER = principal(TD, "server", "serve", "digits")


def run(story, seconds: float = 30) -> None:
    asyncio.run(asyncio.wait_for(story(), seconds))


class Stream:
    """One live stream and what came over it."""

    def __init__(self, client: Raw, number: int, kind) -> None:
        self.client, self.number, self.kind, self.taken = client, number, kind, 0

    @classmethod
    async def open(cls, house: House, method: str = X509, kind=messages.X509SVIDResponse) -> Stream:
        client = await Raw().open(str(house.folder / "workload.sock"))
        return cls(client, client.ask(method), kind)

    async def next(self):
        while True:
            data = self.client.data.get(self.number, b"")[self.taken :]
            size = int.from_bytes(data[1:5], "big") if len(data) >= 5 else 0
            if len(data) >= 5 + size > 5:
                self.taken += 5 + size
                return self.kind.FromString(data[5 : 5 + size])
            assert await self.client.read(), f"closed: {self.client.trailers.get(self.number)}"
            assert "grpc-status" not in self.client.trailers.get(self.number, {}), self.client.trailers[self.number]

    async def nothing(self, seconds: float = 0.3) -> bool:
        try:
            await asyncio.wait_for(self.next(), seconds)
        except TimeoutError:
            return True
        return False

    async def ends(self) -> int:
        return await self.client.status(self.number)


def leaf(response) -> x509.Certificate:
    return x509.load_der_x509_certificate(_first(response))


def _first(response) -> bytes:
    data = response.svids[0].x509_svid
    size = data[1] & 0x7F
    return data[: 2 + size + int.from_bytes(data[2 : 2 + size], "big")]


def serial(response) -> str:
    return serial_text(leaf(response).serial_number)


def test_a_revocation_ends_every_stream_and_nothing_is_issued_until_it_is_lifted():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            kinds = ((X509, messages.X509SVIDResponse), (BUNDLES, messages.X509BundlesResponse), (JWT_BUNDLES, messages.JWTBundlesResponse))
            streams = [await Stream.open(house, *one) for one in kinds]
            for one in streams:
                await one.next()
            began = time.monotonic()
            await house.world.put(revoked("principal", NAME))
            assert [await one.ends() for one in streams] == [DENIED] * 3
            assert time.monotonic() - began < 5
            again = await Stream.open(house)
            assert await again.ends() == DENIED
            assert len(house.issued()) == 1
            await house.world.put(revoked("principal", NAME, withdrawn="w"))
            await (await Stream.open(house)).next()
            assert len(house.issued()) == 2

    run(story)


def test_a_registration_that_goes_or_ends_by_itself_ends_its_streams():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            stream = await Stream.open(house)
            await stream.next()
            await house.world.put(RegistrationRemoved(principal=NAME))
            assert await stream.ends() == DENIED
            await house.register(expires_at=house.world.clock.at + 60_000)
            stream = await Stream.open(house)
            made = leaf(await stream.next())
            assert made.not_valid_after_utc.timestamp() * 1000 <= house.world.clock.at + 60_000
            house.world.clock.at += 61_000
            assert await stream.ends() == DENIED

    run(story)


def test_a_narrower_registration_gives_a_live_stream_its_new_name():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            stream = await Stream.open(house)
            assert (await stream.next()).svids[0].spiffe_id == NAME
            bob = principal(TD, "service", "serve", "bob")
            selectors = (Selector(type="unix:uid", value=str(os.getuid())), Selector(type="unix:gid", value="0"))
            await house.world.put(RegistrationPut(registration=registration(bob, selectors=selectors)))
            assert (await stream.next()).svids[0].spiffe_id == bob
            other = registration(principal(TD, "service", "serve", "else"), selectors=(Selector(type="unix:uid", value="77"),))
            await house.world.put(RegistrationPut(registration=other))
            await house.world.put(RegistrationPut(registration=registration(bob, groups=("more",), selectors=selectors)))
            assert await stream.nothing()

    run(story)


def test_a_revoked_certificate_is_replaced_and_stands_in_the_list():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            stream = await Stream.open(house)
            bundles = await Stream.open(house, BUNDLES, messages.X509BundlesResponse)
            first, _ = await stream.next(), await bundles.next()
            await house.world.put(revoked("credential", serial(first)))
            told = await bundles.next()
            assert any(_lists(crl, serial(first)) for crl in told.crl)
            after = await stream.next()
            while serial(after) == serial(first):
                after = await stream.next()
            assert any(_lists(crl, serial(first)) for crl in after.crl)
            assert not any(_lists(crl, serial(after)) for crl in after.crl)

    run(story)


def _lists(crl: bytes, number: str) -> bool:
    return any(serial_text(one.serial_number) == number for one in x509.load_der_x509_crl(crl))


def test_foreign_bundles_reach_who_federates_and_nobody_else():
    async def story() -> None:
        async with agent_world() as house:
            await house.register(federates_with=("other.test",))
            stream = await Stream.open(house)
            jwt = await Stream.open(house, JWT_BUNDLES, messages.JWTBundlesResponse)
            assert not (await stream.next()).federated_bundles
            assert set((await jwt.next()).bundles) == {f"spiffe://{TD}"}
            foreign = _foreign("other.test")
            told_of = (("federation:a", "other.test"), ("federation:b", "third.test"), ("tokens", "other.test"), ("c", "https://x"))
            for name, issuer in told_of:
                kind = "oidc" if name == "c" else "spiffe"
                keys = foreign if name == "federation:a" else _foreign(issuer) if kind == "spiffe" else b"{}"
                source = TrustSource(name=name, kind=kind, issuer=issuer, keys=keys, sequence=1, fetched_at=house.world.clock.now())
                await house.world.put(SourcePut(source=source))
            told = await stream.next()
            while not told.federated_bundles:
                told = await stream.next()
            assert set(told.federated_bundles) == {"spiffe://other.test"}
            der = b"".join(read_foreign_bundle(foreign, "other.test", ours=TD).authorities)
            assert told.federated_bundles["spiffe://other.test"] == der, "a source of tokens is not what vouches for peers"
            assert set((await jwt.next()).bundles) == {f"spiffe://{TD}", "spiffe://other.test"}

    run(story)


def _foreign(td: str) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from flows_world import NOW

    from vouchgate.identity.ca import make_ca, spki_of

    key = ec.generate_private_key(ec.SECP256R1())
    made = make_bundle(td, x509_authorities=(make_ca(td, key, now=NOW, days=3000),), jwt_spkis=(spki_of(key.public_key()),))
    return write_jwks(made)


def test_it_rotates_by_itself_before_half_of_its_life(monkeypatch):
    monkeypatch.setattr(lives, "RENEW_AT", 0.0001)
    monkeypatch.setattr(lives, "RENEW_EARLIER", 0.00005)

    async def story() -> None:
        async with agent_world() as house:
            await house.register(svid_ttl_seconds=600)
            stream = await Stream.open(house)
            seen = {serial(await stream.next()) for _ in range(4)}
            assert len(seen) == 4
            assert len(house.looks) >= 4

    run(story)


async def _serving(house: House) -> None:
    await house.world.put(ZonePut(zone=zone()), EndpointPut(endpoint=an_endpoint()), *_evidence(house))
    await house.register(SERVER, endpoint=DIGITS)


def _evidence(house: House, **changes):
    now = house.world.clock.now()
    return evidence_for(issued_at=now, not_before=now, expires_at=now + 3_600_000, **changes)


def test_a_model_server_is_bound_to_its_model_and_loses_that_with_the_evidence():
    async def story() -> None:
        async with agent_world() as house:
            await _serving(house)
            stream = await Stream.open(house)
            first = await stream.next()
            bound = bound_of(house.world.facts, DIGITS, house.world.clock.now())
            assert bound is not None and binding_of(leaf(first)) == bound.binding
            serves = next(one for one in house.world.facts.lineage.vouches.values() if one.predicate_type == "serves")
            await house.world.put(revoked("vouch", serves.id))
            after = await stream.next()
            while binding_of(leaf(after)) is not None:
                after = await stream.next()
            assert (await _until_struck(house, serial(first))).target == bound.id
            assert house.world.facts.revocation_of(SERVER, serial(after)) is None
            now = house.world.clock.now() + 1
            again = vouched("serves", [served()], issued_at=now, not_before=now, expires_at=now + 3_600_000)
            house.world.clock.at += 2
            await house.world.put(again)
            back = await stream.next()
            while binding_of(leaf(back)) is None:
                back = await stream.next()
            assert house.world.facts.revocation_of(SERVER, serial(back)) is None

    run(story)


async def _until_struck(house: House, number: str):
    await house.until(lambda: house.world.facts.revocation_of("", number) is not None)
    return house.world.facts.revocation_of("", number)


def test_evidence_that_lapses_by_time_takes_the_binding_with_it():
    async def story() -> None:
        async with agent_world() as house:
            await _serving(house)
            stream = await Stream.open(house)
            first = await stream.next()
            assert binding_of(leaf(first)) is not None
            house.world.clock.at += 3_600_001
            after = await stream.next()
            while binding_of(leaf(after)) is not None:
                after = await stream.next()

    run(story)


def test_renewed_evidence_for_the_same_model_changes_nothing():
    async def story() -> None:
        async with agent_world() as house:
            await _serving(house)
            stream = await Stream.open(house)
            await stream.next()
            house.world.clock.at += 1000
            now = house.world.clock.now()
            await house.world.put(vouched("serves", [served()], issued_at=now, not_before=now, expires_at=now + 3_600_000))
            await house.world.put(vouched("scan", [about()], issued_at=now, not_before=now, expires_at=now + 3_600_000))
            assert await stream.nothing()
            assert not [one for one in house.world.facts.standing_revocations() if one.target_kind == "credential"]

    run(story)


def test_a_control_plane_that_is_away_leaves_streams_as_they_are_and_others_wait(monkeypatch):
    monkeypatch.setattr(lives, "RETRY_FIRST_SECONDS", 0.02)

    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            stream = await Stream.open(house)
            first = await stream.next()
            house.to_control.away = "it was killed"
            house.push.rotate()
            assert await stream.nothing()
            fresh = await Stream.open(house)
            assert await fresh.ends() == UNAVAILABLE
            house.to_control.away = ""
            assert serial(await stream.next()) != serial(first)

    run(story)


def test_an_agent_that_is_away_is_told_when_it_is_back():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            stream = await Stream.open(house)
            await stream.next()
            house.to_agent.away = "it was killed"
            await house.world.put(revoked("principal", NAME))
            await house.until(lambda: bool(house.push.trouble))
            house.to_agent.away = ""
            assert await stream.ends() == DENIED

    run(story)


def test_after_a_restart_of_the_control_plane_streams_are_checked_and_get_nothing_new():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            stream = await Stream.open(house)
            await stream.next()
            house.workloads.attached.clear()
            house.push._due.check_all = True
            house.push._wake.set()
            await house.until(lambda: bool(house.workloads.attached))
            assert await stream.nothing()
            assert len(house.issued()) == 1

    run(story)


def test_a_signer_that_is_away_or_a_clock_in_trouble_issues_nothing():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            house.world.context.signer.away = "it was killed"
            assert await (await Stream.open(house)).ends() == UNAVAILABLE
            house.world.context.signer.away = ""
            house.world.clock.trouble = "it jumped"
            assert await (await Stream.open(house)).ends() == UNAVAILABLE
            house.world.clock.trouble = ""
            await (await Stream.open(house)).next()
            assert len(house.issued()) == 1

    run(story)


def test_a_revocation_that_comes_while_it_is_signed_still_counts():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            signer = house.world.context.signer
            signs = signer.methods["x509_svids"]

            async def slow(**params):
                made = await signs(**params)
                await house.world.put(Revoked(revocation=revoked("principal", NAME, identity=secrets.token_hex(8)).revocation))
                return made

            signer.methods["x509_svids"] = slow
            stream = await Stream.open(house)
            assert await stream.ends() == DENIED
            assert not stream.client.data

    run(story)


def test_persons_and_system_processes_are_never_earned_by_a_uid():
    async def story() -> None:
        async with agent_world() as house:
            for kind in ("person", "system", "declared"):
                await house.register(principal(TD, kind, "admin", "ann"))
            assert await (await Stream.open(house)).ends() == DENIED
            assert not house.issued()

    run(story)


def test_two_registrations_that_fit_equally_give_nothing():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            await house.register(principal(TD, "service", "serve", "bob"))
            assert await (await Stream.open(house)).ends() == DENIED
            await house.until(lambda: any("ambiguous" in reason for reason in house.refusals()))

    run(story)


def test_revocation_lists_are_renewed_before_they_are_due_and_after_a_new_issuer(monkeypatch):
    from vouchgate.flows import workload_push

    monkeypatch.setattr(workload_push, "LOOK_SECONDS", 0.05)

    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            bundles = await Stream.open(house, BUNDLES, messages.X509BundlesResponse)
            first = await bundles.next()
            house.world.clock.at += 1_000_000
            house.state._made_at -= 100_000
            after = await bundles.next()
            while list(after.crl) == list(first.crl):
                after = await bundles.next()
            await (await Stream.open(house)).next()
            made = house.state._made_at
            house.workloads._issuer = b"another"
            await (await Stream.open(house)).next()
            await house.until(lambda: house.state._made_at > made)

    run(story)
