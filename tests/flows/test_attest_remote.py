"""Identities for workloads elsewhere: by evidence that counts once, for a key that is held, and by nothing else."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from delegation_world import DPOP_KEY, JKT, OTHER_KEY, START, proof
from flows_world import DIGITS, NOW, SPINE, TD, World, make_world, registration, revoked, running, serving
from test_exchange_token import OWN, asked, mtls

from vouchgate.flows.attest_remote import (
    MAX_NONCES,
    NONCE_MS,
    AttestRequest,
    Nonces,
    attest_remote,
    bring_source_keys,
    certificates,
    forget_used,
)
from vouchgate.flows.changes import RegistrationPut, SourcePut
from vouchgate.flows.exchange_token import Exchanged, exchange
from vouchgate.flows.facts import compile_sources
from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.identity.ca import spki_of
from vouchgate.identity.dpop import Seen
from vouchgate.identity.jwtsvid import JwtFacts, issue_jwt, read_jwt
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Selector
from vouchgate.vocabulary.settings import Settings, StsSettings, StsSourceSettings
from vouchgate.vocabulary.sources import TrustSource
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import UnixMillis

URL = "https://sts.example/attest"
PARTNER = "partner.example"
PARTNER_KEY = ec.generate_private_key(ec.SECP256R1())
THEIRS = f"spiffe://{PARTNER}/service/prod/builder"
BUILDER = principal(TD, "job", "serve", "builder")
SPKI = base64.b64encode(spki_of(DPOP_KEY.public_key())).decode()
SOURCE = StsSourceSettings(name="partner", attestor="spiffe-jwt", issuer=PARTNER)


@pytest.fixture(autouse=True, scope="module")
def compiled_once() -> Iterator[None]:
    """The same few policies in every case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
        yield


@asynccontextmanager
async def house(*sources: StsSourceSettings, store: Any = None) -> AsyncIterator[tuple[World, Nonces, Seen]]:
    settings = Settings(
        trust_domain=TD,
        data_dir="/nowhere",
        root_dir="/nowhere-root",
        sts=StsSettings(url="https://sts.example", sources=sources or (SOURCE,)),
    )
    async with running(make_world(settings=settings), policies=(*SPINE, *OWN)) as world:
        await serving(world, registration(), registration(f"spiffe://{TD}/agent/agents/planner", ("callers", "agents")))
        earned = msgspec.structs.replace(registration(BUILDER), selectors=(Selector(type="spiffe.partner:id", value=THEIRS),))
        await world.put(RegistrationPut(registration=earned))
        bundle = write_jwks(make_bundle(PARTNER, x509_authorities=(), jwt_spkis=(spki_of(PARTNER_KEY.public_key()),)))
        await bring_source_keys(world.context, {"partner": bundle})
        yield world, Nonces(), Seen(START)


def evidence(
    subject: str = THEIRS,
    *,
    key: ec.EllipticCurvePrivateKey = PARTNER_KEY,
    audience: str = "https://sts.example",
    jti: str = "their-token-1",
) -> str:
    domain = subject.split("/")[2]
    return issue_jwt(
        subject, audience, key=key, kid=key_id(spki_of(key.public_key())), trust_domain=domain, now=NOW, ttl_seconds=300, jti=jti
    ).token


async def attest(
    world: World, nonces: Nonces, seen: Seen, *, header: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any] | Denied:
    nonce = changes.pop("nonce", None) or nonces.make(NOW)
    said = changes.pop("proof", None)
    given = proof(**({"htu": URL, "nonce": nonce} | (header or {}))) if said is None else said
    wanted = {"attestor": "spiffe-jwt", "evidence": {"token": evidence()}, "nonce": nonce, "spki": SPKI} | changes
    return await attest_remote(
        world.context, AttestRequest(**wanted), proof=given, urls=(URL,), nonces=nonces, seen=seen, peer="10.0.0.7"
    )  # fmt: skip


def test_evidence_and_a_held_key_earn_a_certificate_once() -> None:
    async def story() -> None:
        async with house() as (world, nonces, seen):
            made = await attest(world, nonces, seen)
            assert isinstance(made, dict), made
            assert made["principal"] == BUILDER
            again = await attest(world, nonces, seen)
            assert isinstance(again, Denied)
            assert again.code == "invalid-grant", "the evidence was used"
            assert isinstance(await attest(world, Nonces(), Seen(START), evidence={"token": evidence()}), Denied), (
                "a restart forgets nothing"
            )
            assert isinstance(await attest(world, nonces, seen, evidence={"token": evidence(jti="their-token-2")}), dict)

    asyncio.run(story())


def test_two_at_once_with_the_same_evidence_get_one() -> None:
    async def story() -> None:
        async with house() as (world, nonces, seen):
            made = await asyncio.gather(*(attest(world, nonces, seen) for _ in range(8)))
            assert sum(isinstance(one, dict) for one in made) == 1

    asyncio.run(story())


def test_a_token_is_bound_to_the_key() -> None:
    async def story() -> None:
        async with house() as (world, nonces, seen):
            made = await attest(world, nonces, seen, form="jwt", audience=DIGITS)
            assert isinstance(made, dict)
            bundle = world.context.facts.bundle
            assert bundle is not None
            said = read_jwt(made["access_token"], bundle, DIGITS, NOW)
            assert isinstance(said, JwtFacts)
            assert said.beyond.cnf_jkt == JKT

    asyncio.run(story())


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("unknown attestor", {"attestor": "nobody"}, "no-source"),
    ("a collected one", {"attestor": "unix-process", "evidence": {"uid": "0"}}, "no-source"),
    ("one without a source", {"attestor": "github-actions"}, "no-source"),
    ("another source", {"source": "other"}, "no-source"),
    ("junk", {"evidence": {"token": "x"}}, ""),
    ("another field", {"evidence": {"token": "x", "more": "y"}}, ""),
    ("no field", {"evidence": {}}, ""),
    ("signed by somebody else", {"evidence": {"token": evidence(key=OTHER_KEY)}}, ""),
    ("for somebody else", {"evidence": {"token": evidence(audience="https://elsewhere")}}, ""),
    ("of a name of ours", {"evidence": {"token": evidence(f"spiffe://{TD}/service/serve/alice")}}, ""),
    ("of a third domain", {"evidence": {"token": evidence("spiffe://third.example/service/prod/builder")}}, ""),
    ("of nobody registered", {"evidence": {"token": evidence(f"spiffe://{PARTNER}/service/prod/other")}}, "not-registered"),
    ("a nonce of nobody", {"nonce": "A" * 40}, "invalid-nonce"),
    ("an empty key", {"spki": ""}, "invalid-request"),
    ("a key that is none", {"spki": "AAAA"}, "invalid-request"),
    ("another key than the proof's", {"spki": base64.b64encode(spki_of(OTHER_KEY.public_key())).decode()}, "invalid-dpop-proof"),
    ("no proof", {"proof": ""}, "invalid-dpop-proof"),
    ("a proof by another key", {"header": {"key": OTHER_KEY}}, "invalid-dpop-proof"),
    ("a proof with another nonce", {"header": {"nonce": "B" * 40}}, "invalid-dpop-proof"),
    ("a proof without a nonce", {"header": {"drop": ("nonce",)}}, "invalid-dpop-proof"),
    ("a proof for another place", {"header": {"htu": "https://sts.example/token"}}, "invalid-dpop-proof"),
    ("an audience that is none", {"form": "jwt", "audience": "x"}, "invalid-target"),
    ("no audience", {"form": "jwt"}, "invalid-target"),
]


def test_anything_less_is_refused_and_nothing_is_issued() -> None:
    async def story() -> None:
        async with house() as (world, nonces, seen):
            before = len(world.store.scan("credential"))
            for name, changes, code in REFUSED:
                made = await attest(world, nonces, seen, **changes)
                assert isinstance(made, Denied), (name, made)
                assert not code or made.code == code, (name, made)
                assert len(world.store.scan("credential")) == before, name

    asyncio.run(story())


def test_a_person_is_never_earned_by_evidence() -> None:
    async def story() -> None:
        async with house() as (world, nonces, seen):
            ann = msgspec.structs.replace(
                registration(f"spiffe://{TD}/person/people/ann"), selectors=(Selector(type="spiffe.partner:id", value=THEIRS + "2"),)
            )
            await world.put(RegistrationPut(registration=ann))
            made = await attest(world, nonces, seen, evidence={"token": evidence(THEIRS + "2")})
            assert isinstance(made, Denied)

    asyncio.run(story())


def test_a_revoked_principal_earns_nothing_and_keeps_its_evidence() -> None:
    async def story() -> None:
        async with house() as (world, nonces, seen):
            await world.put(revoked("principal", BUILDER))
            made = await attest(world, nonces, seen)
            assert isinstance(made, Denied)
            assert made.code == "access-denied"
            await world.put(revoked("principal", BUILDER, withdrawn="w"))
            assert isinstance(await attest(world, nonces, seen), dict)

    asyncio.run(story())


def test_a_foreign_token_is_exchanged_once() -> None:
    async def story() -> None:
        async with house() as (world, _, seen):
            wish = asked(evidence(), subject_token_type="https://vouchgate.dev/token-type/spiffe-jwt")
            made = await exchange(world.context, wish, mtls(), seen)
            assert isinstance(made, Exchanged), made
            for _ in range(2):
                again = await exchange(world.context, wish, mtls(), Seen(START))
                assert isinstance(again, Denied)
                assert again.code == "invalid-grant"

    asyncio.run(story())


def test_a_nonce_counts_once_and_for_a_while() -> None:
    nonces = Nonces()
    one, two = nonces.make(NOW), nonces.make(NOW)
    assert nonces.holds(one, NOW)
    assert nonces.use(one, NOW)
    assert not nonces.use(one, NOW)
    assert not nonces.use(two, UnixMillis(NOW + NONCE_MS))
    assert not Nonces().use(nonces.make(NOW), NOW), "another process's"
    for spoilt in ("", "x", one[:-1], one + "A", "é" * 40, "A" * 40, one.swapcase()):
        assert not nonces.use(spoilt, NOW)
    digits = nonces.make(NOW, digits=True)
    assert digits.isdigit() and len(digits) == 10
    assert nonces.use(digits, NOW)
    assert not nonces.use(digits, NOW)


def test_nonces_of_digits_are_bounded_and_those_of_text_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_NONCES >= 1_000
    monkeypatch.setattr("vouchgate.flows.attest_remote.MAX_NONCES", 3)
    nonces = Nonces()
    first, second, *_ = (nonces.make(NOW, digits=True) for _ in range(3))
    last = nonces.make(NOW, digits=True)
    assert not nonces.holds(first, NOW), "whoever asks for many keeps nobody else from asking"
    assert nonces.use(second, NOW)
    assert nonces.use(last, NOW)
    assert nonces.use(nonces.make(NOW), NOW)
    assert nonces.make(UnixMillis(NOW + NONCE_MS), digits=True)


def test_used_evidence_is_forgotten_after_its_end_and_not_before() -> None:
    async def story() -> None:
        async with house() as (world, nonces, seen):
            await attest(world, nonces, seen)
            assert await forget_used(world.context) == 0
            world.clock.at += 3 * 3_600_000
            assert await forget_used(world.context) == 1
            assert await forget_used(world.context) == 0

    asyncio.run(story())


@pytest.mark.parametrize("keys", [b"\x30", b"\x30\x05\x00", b"\x31\x00", b"\x30\x84\x00\x00\x00\x01\x00", b"-----BEGIN"])
def test_recorded_certificates_that_cannot_be_taken_apart_are_refused(keys: bytes) -> None:
    with pytest.raises(InvalidInput):
        certificates(keys)
    assert certificates(b"\x30\x01\x00\x30\x00") == (b"\x30\x01\x00", b"\x30\x00")


def test_a_join_token_counts_once_for_what_its_maker_chose() -> None:
    from flows_world import caller

    from vouchgate.flows.changes import RegistrationPut
    from vouchgate.flows.register import join_token
    from vouchgate.vocabulary.answers_identities import JoinTokenRequest

    async def story() -> None:
        async with house() as (world, nonces, seen):
            boss, robot = caller("ann", "registrar"), principal(TD, "job", "serve", "robot")
            await world.put(RegistrationPut(registration=registration(boss.principal.principal.id, ("role:registrar",))))
            await world.put(RegistrationPut(registration=registration(robot)))
            made = await join_token(world.context, boss, JoinTokenRequest(principal=robot, ttl_seconds=60))
            for wrong in (made.token[:-1], made.token + "A", "", "x" * 43):
                assert isinstance(await attest(world, nonces, seen, attestor="join-token", evidence={"token": wrong}), Denied)
            joined = await attest(world, nonces, seen, attestor="join-token", evidence={"token": made.token})
            assert isinstance(joined, dict), joined
            assert joined["principal"] == robot
            assert isinstance(await attest(world, nonces, seen, attestor="join-token", evidence={"token": made.token}), Denied), (
                "it was used"
            )
            late = await join_token(world.context, boss, JoinTokenRequest(principal=robot, ttl_seconds=10))
            world.clock.at += 11_000
            again = proof(htu=URL, nonce=(nonce := nonces.make(world.clock.now())), now=world.clock.at)
            assert isinstance(
                await attest(world, nonces, seen, attestor="join-token", evidence={"token": late.token}, nonce=nonce, proof=again), Denied
            )

    asyncio.run(story())


def test_a_partners_recorded_keys_speak_for_its_own_trust_domain_alone() -> None:
    async def story(issuer: str, subject: str) -> Any:
        async with house(msgspec.structs.replace(SOURCE, issuer=issuer)) as (world, nonces, seen):
            bundle = write_jwks(make_bundle(PARTNER, x509_authorities=(), jwt_spkis=(spki_of(PARTNER_KEY.public_key()),)))
            world.facts.sources.clear()
            put = TrustSource(name="federation:partner", kind="spiffe", issuer=PARTNER, keys=bundle, sequence=1, fetched_at=NOW)
            await world.put(SourcePut(source=put))
            foreign = Selector(type="spiffe.partner:id", value=subject)
            await world.put(RegistrationPut(registration=msgspec.structs.replace(registration(BUILDER), selectors=(foreign,))))
            return await attest(world, nonces, seen, evidence={"token": evidence(subject)})

    assert isinstance(asyncio.run(story(PARTNER, THEIRS)), dict)
    for issuer, subject in (("third.example", "spiffe://third.example/service/prod/builder"), ("third.example", THEIRS)):
        refused = asyncio.run(story(issuer, subject))
        assert isinstance(refused, Denied) and refused.code == "no-source"
