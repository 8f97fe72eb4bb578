"""A person rotates the authority: decided, recorded, done, and published to everything that enforces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from flows_world import ALICE, NOW, World, caller, make_world, registration, running, serving
from test_x509_authority import corporate

from vouchgate.flows import rotate_ca
from vouchgate.flows.changes import RegistrationPut
from vouchgate.flows.needs import _authority
from vouchgate.identity.ca import spki_of
from vouchgate.identity.x509svid import X509Facts, read_x509
from vouchgate.vocabulary.ca import CaInstallRequest, CaStepRequest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, NotPermitted
from vouchgate.vocabulary.outcomes import Denied

KEEPER, AUDITOR = caller("kim", "key-custodian"), caller("ann", "auditor")
SPKI = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())


@contextlib.asynccontextmanager
async def office() -> AsyncIterator[World]:
    async with running(make_world()) as world:
        await serving(world)
        for uid, one in enumerate((KEEPER, AUDITOR), 1001):
            who = one.principal.principal
            await world.put(RegistrationPut(registration=registration(who.id, groups=who.groups, uid=uid)))
        yield world


def test_each_step_raises_the_bundles_sequence_and_reaches_the_point():
    async def story() -> None:
        async with office() as world:
            context = world.context
            issued = await context.signer.call("x509_svid", spki=SPKI, principal=ALICE, ttl_seconds=600)
            assert context.facts.bundle is not None
            before = context.facts.bundle.sequence
            for number, step in enumerate(("prepare", "activate", "retire"), 1):
                said = await rotate_ca.step(context, KEEPER, CaStepRequest(step=step, force=True, reason="a rehearsal"))
                assert said.sequence == before + number == context.facts.bundle.sequence
                good = isinstance(read_x509(issued["chain"], context.facts.bundle, NOW), X509Facts)
                assert good == (step != "retire")
            assert [root.status for root in said.roots] == ["active"]
            fresh = await context.signer.call("x509_svid", spki=SPKI, principal=ALICE, ttl_seconds=600)
            assert isinstance(read_x509(fresh["chain"], context.facts.bundle, NOW), X509Facts)

    asyncio.run(story())


def test_an_issuer_rotates_without_a_new_bundle():
    async def story() -> None:
        async with office() as world:
            before = (await rotate_ca.show(world.context, AUDITOR)).sequence
            said = await rotate_ca.step(world.context, KEEPER, CaStepRequest(step="issuer", reason="now"))
            assert said.issuer.number > 1
            assert said.sequence == before

    asyncio.run(story())


def test_who_is_no_key_custodian_rotates_nothing_and_is_recorded():
    async def story() -> None:
        async with office() as world:
            size = world.store.size()
            before = world.context.facts.bundle
            for act in (
                rotate_ca.step(world.context, AUDITOR, CaStepRequest(step="prepare", reason="x")),
                rotate_ca.ask(world.context, AUDITOR),
                rotate_ca.install(world.context, AUDITOR, CaInstallRequest(pem=CHAIN, root_fingerprint="ab", reason="x")),
                rotate_ca.install(world.context, AUDITOR, CaInstallRequest(pem="junk", root_fingerprint="ab", reason="x")),
            ):
                with pytest.raises(NotPermitted):
                    await act
            assert world.store.size() > size
            assert world.context.facts.bundle == before

    asyncio.run(story())


def test_a_step_is_recorded_before_it_is_done_and_needs_a_reason():
    async def story() -> None:
        async with office() as world:
            size = world.store.size()
            with pytest.raises(InvalidInput):
                await rotate_ca.step(world.context, KEEPER, CaStepRequest(step="prepare", reason=" "))
            with pytest.raises(Conflict):
                await rotate_ca.step(world.context, KEEPER, CaStepRequest(step="retire", reason="too early"))
            assert world.store.size() > size

    asyncio.run(story())


def test_a_step_that_nobody_published_is_published_by_the_next():
    async def story() -> None:
        async with office() as world:
            await world.context.signer.call("ca_step", step="prepare")
            assert len(world.context.facts.bundle.x509_authorities) == 1
            await rotate_ca.step(world.context, KEEPER, CaStepRequest(step="issuer", reason="any"))
            assert len(world.context.facts.bundle.x509_authorities) == 2

    asyncio.run(story())


def test_a_corporate_ca_is_asked_installed_and_activated():
    async def story() -> None:
        async with office() as world:
            request = await rotate_ca.ask(world.context, KEEPER)
            csr = x509.load_pem_x509_csr(request.pem.encode()).public_bytes(Encoding.DER)
            chain, fingerprint = corporate(csr)
            pem = "".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM).decode() for one in chain)
            with pytest.raises(Exception, match="fingerprint"):
                await rotate_ca.install(world.context, KEEPER, CaInstallRequest(pem=pem, root_fingerprint="ab" * 32, reason="x"))
            said = await rotate_ca.install(world.context, KEEPER, CaInstallRequest(pem=pem, root_fingerprint=fingerprint, reason="joined"))
            assert [(root.status, root.upstream) for root in said.roots] == [("active", False), ("prepared", True)]
            await rotate_ca.step(world.context, KEEPER, CaStepRequest(step="activate", force=True, reason="joined"))
            assert chain[0] in world.context.facts.bundle.x509_authorities
            assert chain[1] not in world.context.facts.bundle.x509_authorities
            issued = await world.context.signer.call("x509_svid", spki=SPKI, principal=ALICE, ttl_seconds=600)
            assert isinstance(read_x509(issued["chain"], world.context.facts.bundle, NOW), X509Facts)

    asyncio.run(story())


def test_nothing_is_installed_that_was_not_asked_for():
    async def story() -> None:
        async with office() as world:
            with pytest.raises((NotFound, InvalidInput)):
                await rotate_ca.install(world.context, KEEPER, CaInstallRequest(pem=CHAIN, root_fingerprint="ab" * 32, reason="x"))
            with pytest.raises(InvalidInput):
                await rotate_ca.install(world.context, KEEPER, CaInstallRequest(pem="junk", root_fingerprint="ab" * 32, reason="x"))

    asyncio.run(story())


def test_a_leaf_of_before_is_refused_by_a_bundle_that_never_held_its_root():
    async def story() -> None:
        async with office() as world:
            stranger = make_world()
            issued = await stranger.context.signer.call("x509_svid", spki=SPKI, principal=ALICE, ttl_seconds=600)
            await rotate_ca.step(world.context, KEEPER, CaStepRequest(step="prepare", reason="x"))
            for step in ("activate", "retire"):
                await rotate_ca.step(world.context, KEEPER, CaStepRequest(step=step, force=True, reason="x"))
            assert isinstance(read_x509(issued["chain"], world.context.facts.bundle, NOW), Denied)

    asyncio.run(story())


def test_a_ca_that_ends_soon_waits_for_a_person():
    async def story() -> None:
        async with office() as world:
            assert list(_authority(world.context)) == []
            world.clock.at = NOW + 280 * 86_400_000
            (need,) = _authority(world.context)
            assert (need.kind, need.severity) == ("key-expiring", "soon")
            assert "ca-rotate" in need.command
            world.clock.at = NOW + 301 * 86_400_000
            (need,) = _authority(world.context)
            assert need.severity == "act"

    asyncio.run(story())


CHAIN = "".join(
    x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM).decode()
    for one in corporate(asyncio.run(make_world().context.signer.call("ca_request"))["csr"])[0]
)
