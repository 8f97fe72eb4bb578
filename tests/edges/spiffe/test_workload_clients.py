"""The stock `spiffe` client against the agent: every public method of it, unmodified."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from agent_world import NAME, TD, agent_world
from flows_world import revoked
from spiffe import JwtSource, SpiffeId, TrustDomain, WorkloadApiClient, X509Source
from spiffe.workloadapi.errors import FetchJwtSvidError, FetchX509BundleError, FetchX509SvidError, ValidateJwtSvidError

from vouchgate.edges.processes.agent import Agent

DOMAIN = TrustDomain(TD)


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))


def test_an_x509_svid_with_its_key_bundle_and_hint():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()

            def use() -> None:
                with house.client() as client:
                    svid = client.fetch_x509_svid()
                    assert str(svid.spiffe_id) == NAME
                    assert svid.private_key.public_key() == svid.leaf.public_key()
                    (only,) = client.fetch_x509_svids()
                    assert only.leaf != svid.leaf
                    context = client.fetch_x509_context()
                    assert str(context.default_svid.spiffe_id) == NAME
                    assert context.x509_bundle_set.get_bundle_for_trust_domain(DOMAIN).x509_authorities
                    bundles = client.fetch_x509_bundles()
                    assert bundles.get_bundle_for_trust_domain(DOMAIN).x509_authorities

            await house.thread(use)
            assert len(house.issued()) == 3

    run(story)


def test_a_jwt_svid_is_issued_parsed_and_validated():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()

            def use() -> None:
                with house.client() as client:
                    audience = {"vg://test.local/endpoint/digits"}
                    svid = client.fetch_jwt_svid(audience=audience)
                    assert str(svid.spiffe_id) == NAME
                    (same,) = client.fetch_jwt_svids(audience=audience, subject=SpiffeId(NAME))
                    assert same.audience == audience
                    bundles = client.fetch_jwt_bundles()
                    assert bundles.get_bundle_for_trust_domain(DOMAIN).jwt_authorities
                    checked = client.validate_jwt_svid(svid.token, next(iter(audience)))
                    assert str(checked.spiffe_id) == NAME
                    with pytest.raises(ValidateJwtSvidError, match="INVALID_ARGUMENT"):
                        client.validate_jwt_svid(svid.token, "somebody else")
                    elsewhere = client.fetch_jwt_svid(audience={"one", "two"})
                    assert elsewhere.audience == {"one", "two"}
                    assert str(client.validate_jwt_svid(elsewhere.token, "two").spiffe_id) == NAME
                    with pytest.raises(ValidateJwtSvidError, match="INVALID_ARGUMENT"):
                        client.validate_jwt_svid(elsewhere.token, "three")
                    with pytest.raises(FetchJwtSvidError, match="INVALID_ARGUMENT"):
                        client.fetch_jwt_svid(audience={"one", *audience})
                    with pytest.raises(FetchJwtSvidError, match="PERMISSION_DENIED"):
                        client.fetch_jwt_svid(audience=audience, subject=SpiffeId(f"spiffe://{TD}/service/serve/bob"))

            await house.thread(use)

    run(story)


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda client: client.fetch_x509_svid(), FetchX509SvidError),
        (lambda client: client.fetch_x509_context(), FetchX509SvidError),
        (lambda client: client.fetch_x509_bundles(), FetchX509BundleError),
        (lambda client: client.fetch_jwt_svid(audience={"a"}), FetchJwtSvidError),
        (lambda client: client.fetch_jwt_bundles(), Exception),
        (lambda client: client.validate_jwt_svid("a.b.c", "a"), ValidateJwtSvidError),
    ],
)
def test_who_is_not_registered_gets_permission_denied_from_every_method(ask, error):
    async def story() -> None:
        async with agent_world() as house:
            await house.register(uid=os.getuid() + 1)

            def use() -> None:
                with house.client() as client, pytest.raises(error, match="PERMISSION_DENIED"):
                    ask(client)

            await house.thread(use)
            await house.until(lambda: any("not-registered" in reason for reason in house.refusals()))
            assert not house.issued()

    run(story)


def test_sources_follow_a_rotation_and_a_new_bundle():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            updated = threading.Event()

            def opened():
                source = X509Source(socket_path=house.address, timeout_in_seconds=10)
                jwt = JwtSource(socket_path=house.address, timeout_in_seconds=10)
                source.subscribe_for_updates(updated.set)
                return source, jwt

            source, jwt = await house.thread(opened)
            try:
                first = source.get_x509_context().default_svid.leaf
                assert house.push.rotate() >= 1
                assert await house.thread(lambda: updated.wait(10))
                assert source.get_x509_context().default_svid.leaf != first
                token = await house.thread(lambda: jwt.fetch_svid(audience={"them"}))
                assert str(token.spiffe_id) == NAME
                assert jwt.get_bundle_for_trust_domain(DOMAIN).jwt_authorities
                assert source.get_bundle_for_trust_domain(DOMAIN).x509_authorities
            finally:
                await house.thread(lambda: (source.close(), jwt.close()))

    run(story)


METHODS = {
    "close", "fetch_jwt_bundles", "fetch_jwt_svid", "fetch_jwt_svids", "fetch_x509_bundles", "fetch_x509_context", "fetch_x509_svid",
    "fetch_x509_svids", "get_spiffe_endpoint_socket", "stream_jwt_bundles", "stream_x509_contexts", "validate_jwt_svid",
}  # fmt: skip
"""What the client offers; its source distribution holds no tests of its own, so these tests use all of it."""


def test_the_client_offers_nothing_that_is_not_tried_here():
    assert {name for name in dir(WorkloadApiClient) if not name.startswith("_")} <= METHODS


def test_streams_of_the_client_deliver_at_once_and_after_each_change():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            contexts, bundles, errors = [], [], []
            client = house.client()
            cancels = [
                client.stream_x509_contexts(contexts.append, errors.append),
                client.stream_jwt_bundles(bundles.append, errors.append),
            ]
            await house.until(lambda: bool(contexts and bundles))
            assert str(contexts[0].default_svid.spiffe_id) == NAME
            assert bundles[0].get_bundle_for_trust_domain(DOMAIN).jwt_authorities
            house.push.rotate()
            await house.until(lambda: contexts[-1].default_svid.leaf != contexts[0].default_svid.leaf)
            for cancel in cancels:
                await house.thread(cancel.cancel)
            await house.thread(client.close)
            assert not errors

    run(story)


def test_a_source_outlives_an_agent_that_is_started_again():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            source = await house.thread(lambda: X509Source(socket_path=house.address, timeout_in_seconds=10))
            try:
                first = source.get_x509_context().default_svid.leaf
                house.agent.server.close()
                await house.until(lambda: not house.agent.server.callers)
                assert source.get_x509_context().default_svid.leaf == first
                fresh = Agent(house.to_control, house.kernel)
                await fresh.server.listen(house.folder / "workload.sock")
                house.agent = fresh
                await house.until(lambda: source.get_x509_context().default_svid.leaf != first, 15)
            finally:
                await house.thread(source.close)

    run(story)


def test_a_source_whose_workload_is_revoked_keeps_what_it_has_and_comes_back():
    async def story() -> None:
        async with agent_world() as house:
            await house.register()
            source = await house.thread(lambda: X509Source(socket_path=house.address, timeout_in_seconds=10))
            try:
                first = source.get_x509_context().default_svid.leaf
                await house.world.put(revoked("principal", NAME))
                await house.until(lambda: any("revoked" in reason for reason in house.refusals()))
                assert source.get_x509_context().default_svid.leaf == first and len(house.issued()) == 1
                await house.world.put(revoked("principal", NAME, withdrawn="w"))
                await house.until(lambda: source.get_x509_context().default_svid.leaf != first, 15)
            finally:
                await house.thread(source.close)

    run(story)
