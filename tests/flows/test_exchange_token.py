"""Token exchange: what narrows, who decides, what is bound, what strikes; and every way to ask for more."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from delegation_world import AGENT, JKT, OTHER_KEY, PERSON, START, TOOLER, proof, token
from flows_world import (
    ALICE,
    BOB,
    CA,
    CHAT,
    DIGITS,
    KEYS,
    NOW,
    SPINE,
    TD,
    World,
    endpoint,
    make_world,
    registration,
    revoked,
    running,
    serving,
)

from vouchgate.flows.changes import EndpointPut, RegistrationPut, RunPut
from vouchgate.flows.context import Buckets
from vouchgate.flows.exchange_token import ACCESS_TYPE, GRANT_TYPE, JWT_TYPE, Exchanged, Peer, exchange, service_id
from vouchgate.flows.facts import compile_sources
from vouchgate.flows.token_service import REFUSALS_PER_MINUTE, TokenService
from vouchgate.identity.ca import spki_of
from vouchgate.identity.dpop import Seen
from vouchgate.identity.jwtsvid import JwtFacts, read_jwt
from vouchgate.identity.x509svid import issue_x509
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Binding
from vouchgate.vocabulary.runs import Run, inputs_digest
from vouchgate.vocabulary.settings import Settings, StsSettings
from vouchgate.vocabulary.vouches import UnixMillis

STS = service_id(TD)
URL = "https://localhost:9443/token"
AGENT_KEY = ec.generate_private_key(ec.SECP256R1())
OWN = (
    ("own.cedar", '@id("x") permit (principal, action == Action::"exchange", resource) when { context has depth && context.depth <= 2 };'),
)


@pytest.fixture(autouse=True, scope="module")
def compiled_once() -> Iterator[None]:
    """The same few policies in every case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
        yield


def certificate(name: str = AGENT, now: int = NOW, ttl: int = 3600) -> tuple[bytes, ...]:
    ca = x509.load_der_x509_certificate(KEYS.ca_certificate)
    return issue_x509(
        spki_of(AGENT_KEY.public_key()), name, ca=ca, ca_key=CA, trust_domain=TD, now=UnixMillis(now), ttl_seconds=ttl
    ).chain  # fmt: skip


@asynccontextmanager
async def house(**sts: Any) -> AsyncIterator[tuple[World, Seen]]:
    settings = Settings(trust_domain=TD, data_dir="/nowhere", root_dir="/nowhere-root", sts=StsSettings(**sts))
    async with running(make_world(settings=settings), policies=(*SPINE, *OWN)) as world:
        callers = [
            registration(), registration(BOB), registration(PERSON), registration(AGENT, ("callers", "agents")), registration(TOOLER, ("agents",)),
        ]  # fmt: skip
        await serving(world, *callers)
        await world.put(EndpointPut(endpoint=endpoint("chat", models={"d": DIGITS}, model_in_body=True)))
        yield world, Seen(START)


def asked(subject: str, **changes: str | None) -> dict[str, str]:
    wanted = {
        "grant_type": GRANT_TYPE, "subject_token": subject, "subject_token_type": JWT_TYPE, "resource": DIGITS, "scope": "infer:digits",
    } | changes  # fmt: skip
    return {name: value for name, value in wanted.items() if value is not None}


def person(**changes: Any) -> str:
    return token(PERSON, **({"scopes": None, "audience": STS, "jti": "person-token"} | changes))


def mtls(name: str = AGENT) -> Peer:
    return Peer(chain=certificate(name), urls=(URL,), address="10.0.0.7")


def by_key(**changes: Any) -> Peer:
    return Peer(proof=proof(**({"htu": URL} | changes)), urls=(URL,), address="10.0.0.7")


def facts_of(made: Exchanged | Denied, world: World, audience: str = DIGITS) -> JwtFacts:
    assert isinstance(made, Exchanged), made
    bundle = world.context.facts.bundle
    assert bundle is not None
    said = read_jwt(made.access_token, bundle, audience, world.clock.now())
    assert isinstance(said, JwtFacts), said
    return said


def run(story: Callable[[World, Seen], Any], **sts: Any) -> None:
    async def go() -> None:
        async with house(**sts) as (world, seen):
            await story(world, seen)

    asyncio.run(go())


def test_an_agent_gets_a_narrow_short_bound_token_of_a_person() -> None:
    async def story(world: World, seen: Seen) -> None:
        made = await exchange(world.context, asked(person()), mtls(), seen)
        said = facts_of(made, world)
        assert (said.principal, said.beyond.actors, said.beyond.scopes) == (PERSON, (AGENT,), ("infer:digits",))
        assert said.cnf_x5t
        assert said.beyond.parents[0] == "person-token"
        assert len(said.beyond.parents) == 2
        assert isinstance(made, Exchanged)
        assert (made.token_type, made.issued_token_type, made.scope) == ("Bearer", JWT_TYPE, "infer:digits")
        assert said.not_after <= NOW + 300_000
        assert len(made.access_token) < 2_000

    run(story)


def test_an_actor_token_and_a_proof_bind_to_the_key() -> None:
    async def story(world: World, seen: Seen) -> None:
        actor = token(AGENT, scopes=None, audience=STS, jti="agent-token")
        made = await exchange(world.context, asked(person(), actor_token=actor, actor_token_type=ACCESS_TYPE), by_key(), seen)
        said = facts_of(made, world)
        assert said.beyond.cnf_jkt == JKT
        assert said.beyond.parents == ("person-token", "agent-token")
        assert isinstance(made, Exchanged) and made.token_type == "DPoP"

    run(story)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("wrong grant", {"grant_type": "password"}, "unsupported-grant-type"),
    ("unknown parameter", {"extra": "1"}, "invalid-request"),
    ("no subject", {"subject_token": ""}, "invalid-request"),
    ("no subject type", {"subject_token_type": None}, "invalid-request"),
    ("a type that is none", {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid-request"),
    ("a type of nobody", {"subject_token_type": "https://vouchgate.dev/token-type/nobody"}, "invalid-grant"),
    ("a collected attestor", {"subject_token_type": "https://vouchgate.dev/token-type/unix-process"}, "invalid-grant"),
    ("a source that is not set", {"subject_token_type": "https://vouchgate.dev/token-type/github-actions"}, "invalid-grant"),
    ("half an actor", {"actor_token": "x"}, "invalid-request"),
    ("asks for another type", {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid-request"),
    ("no target", {"resource": None}, "invalid-target"),
    ("two targets", {"audience": CHAT}, "invalid-target"),
    ("unknown target", {"resource": "vg://test.local/endpoint/nowhere"}, "invalid-target"),
    ("the service as target", {"resource": STS}, "invalid-target"),
    ("no scope", {"scope": None}, "invalid-scope"),
    ("empty scope", {"scope": ""}, "invalid-scope"),
    ("administration", {"scope": "administer"}, "invalid-scope"),
    ("administration of something", {"scope": "administer:revoke"}, "invalid-scope"),
    ("exchange", {"scope": "exchange"}, "invalid-scope"),
    ("a line break", {"scope": "infer\ndescribe"}, "invalid-scope"),
    ("a tab", {"scope": "infer\tdescribe"}, "invalid-scope"),
    ("two spaces", {"scope": "infer  describe"}, "invalid-scope"),
    ("twice", {"scope": "infer infer"}, "invalid-scope"),
    ("capitals", {"scope": "INFER"}, "invalid-scope"),
    ("dots", {"scope": "infer:.."}, "invalid-scope"),
    ("a tool of what has none", {"scope": "infer:digits/x"}, "invalid-scope"),
    ("another endpoint", {"scope": "infer:chat"}, "invalid-scope"),
    ("too many", {"scope": " ".join(f"a{n}" for n in range(33))}, "invalid-scope"),
    ("a life that is no number", {"expires_in": "x"}, "invalid-request"),
    ("a life in other digits", {"expires_in": "\u0663\u0660"}, "invalid-request"),
    ("a life with a separator", {"expires_in": "1_00"}, "invalid-request"),
    ("a life of a hundred thousand digits", {"expires_in": "9" * 100_000}, "invalid-request"),
    ("a life that is over", {"expires_in": "1"}, "invalid-request"),
    ("a life below nothing", {"expires_in": "-300"}, "invalid-request"),
]


def test_a_request_that_is_none_is_refused() -> None:
    async def story(world: World, seen: Seen) -> None:
        for name, changes, wanted in REFUSED:
            made = await exchange(world.context, asked(person(), **changes), mtls(), seen)
            assert isinstance(made, Denied), (name, made)
            assert made.code == wanted, (name, made)

    run(story)


def _subjects() -> list[tuple[str, Callable[[], str], str]]:
    return [
        ("expired", lambda: person(now=NOW - 301_000), "invalid-grant"),
        ("nearly over", lambda: person(now=NOW - 295_000), "invalid-grant"),
        ("not yet", lambda: person(now=NOW + 3_000), "invalid-grant"),
        ("for an endpoint", lambda: person(audience=DIGITS), "invalid-grant"),
        ("for another endpoint", lambda: person(audience=CHAT), "invalid-grant"),
        ("of an unknown person", lambda: token(f"spiffe://{TD}/person/x/y", scopes=None, audience=STS), "access-denied"),
        ("bound to another certificate", lambda: person(x5t="ab" * 32), "invalid-grant"),
        ("bound to a key that is not here", lambda: person(jkt=JKT), "invalid-grant"),
        ("the actor is in it already", lambda: token(PERSON, AGENT, scopes=("infer",), audience=STS), "invalid-grant"),
        ("the actor was in it", lambda: token(PERSON, TOOLER, AGENT, scopes=("infer",), audience=STS), "invalid-grant"),
        ("narrower", lambda: person(scopes=("describe",)), "invalid-scope"),
        ("narrower by endpoint", lambda: person(scopes=("infer:chat",)), "invalid-scope"),
        ("a run that nobody began", lambda: person(binding=Binding(run="run-0000000000000000")), "invalid-grant"),
        ("respelled", lambda: person() + "=", "invalid-grant"),
        ("cut", lambda: person()[:-4], "invalid-grant"),
        ("none", lambda: "eyJhbGciOiJub25lIn0.e30.", "invalid-grant"),
        ("of a deep chain", lambda: token(PERSON, TOOLER, BOB, ALICE, scopes=("infer",), audience=STS), "invalid-grant"),
    ]


def test_a_subject_token_that_does_not_hold_is_refused() -> None:
    async def story(world: World, seen: Seen) -> None:
        for name, make, wanted in _subjects():
            made = await exchange(world.context, asked(make()), mtls(), seen)
            assert isinstance(made, Denied), (name, made)
            assert made.code == wanted, (name, made)

    run(story)


def _peers() -> list[tuple[str, Callable[[], Peer], dict[str, str], str]]:
    actor = {"actor_token_type": JWT_TYPE}
    own = token(AGENT, scopes=None, audience=STS, jti="agent-token")
    return [
        ("nobody", lambda: Peer(urls=(URL,)), {}, "invalid-client"),
        ("a proof alone", by_key, {}, "invalid-client"),
        ("an expired certificate", lambda: Peer(chain=certificate(ttl=10), urls=(URL,)), {}, "invalid-client"),
        ("junk for a certificate", lambda: Peer(chain=(b"junk",), urls=(URL,)), {}, "invalid-client"),
        ("an actor token for an endpoint", by_key, actor | {"actor_token": token(AGENT, scopes=None)}, "invalid-client"),
        ("an actor token without a key", lambda: Peer(urls=(URL,)), actor | {"actor_token": own}, "invalid-request"),
        ("an actor that is acted for", by_key, actor | {"actor_token": token(PERSON, AGENT, scopes=("infer",), audience=STS)}, "invalid-grant"),
        ("an actor token of another than the certificate", lambda: mtls(BOB), actor | {"actor_token": own}, "invalid-client"),
        ("a proof for another address", lambda: by_key(htu="https://localhost:9443/attest"), actor | {"actor_token": own}, "invalid-dpop-proof"),
        ("a proof for another method", lambda: by_key(htm="GET"), actor | {"actor_token": own}, "invalid-dpop-proof"),
        ("an old proof", lambda: by_key(now=NOW - 62_000), actor | {"actor_token": own}, "invalid-dpop-proof"),
        ("a bound actor token with another key", lambda: by_key(key=OTHER_KEY),
         actor | {"actor_token": token(AGENT, scopes=None, audience=STS, jkt=JKT)}, "invalid-client"),
        ("subject and actor swapped", lambda: mtls(PERSON), {"subject_token": token(AGENT, TOOLER, scopes=("infer",), audience=STS)}, "access-denied"),
        ("a stranger's certificate", lambda: mtls(f"spiffe://{TD}/agent/x/y"), {}, "access-denied"),
        ("vouchgate's own process", lambda: mtls(f"spiffe://{TD}/system/sts/sts"), {}, "invalid-grant"),
    ]  # fmt: skip


@pytest.mark.parametrize(("peer", "more", "wanted"), [one[1:] for one in _peers()], ids=[one[0] for one in _peers()])
def test_an_actor_that_does_not_prove_itself_is_refused(peer: Callable[[], Peer], more: dict[str, str], wanted: str) -> None:
    async def story(world: World, seen: Seen) -> None:
        if "swapped" in str(more):
            await world.put(RegistrationPut(registration=registration(PERSON, ())))
        shown = peer()
        world.clock.at += 20_000 if wanted == "invalid-client" and shown.chain and not more else 0
        made = await exchange(world.context, asked(person()) | more, shown, seen)
        if wanted == "access-denied" and isinstance(made, Exchanged):
            said = facts_of(made, world)
            assert said.principal == AGENT and said.beyond.actors[0] == PERSON, "a swap is another chain, decided as such"
            return
        assert isinstance(made, Denied), made
        assert made.code == wanted, made

    run(story)


def test_nothing_is_exchanged_that_no_policy_permits_for_both() -> None:
    async def story() -> None:
        async with running(make_world(), policies=SPINE) as world:
            await serving(world, registration(PERSON), registration(AGENT, ("agents",)), registration(BOB, ("visitors",)))
            seen = Seen(START)
            assert isinstance(await exchange(world.context, asked(person()), mtls(), seen), Exchanged)
            for who, peer in ((person(), mtls(BOB)), (token(BOB, scopes=None, audience=STS), mtls())):
                made = await exchange(world.context, asked(who), peer, seen)
                assert isinstance(made, Denied)
                assert made.code == "access-denied"
        async with running(make_world(), policies=(("none.cedar", ""),)) as world:
            await serving(world, registration(PERSON), registration(AGENT, ("agents",)))
            made = await exchange(world.context, asked(person()), mtls(), Seen(START))
            assert isinstance(made, Denied)
            assert made.code == "access-denied", "denied by default"

    asyncio.run(story())


def test_a_second_hand_narrows_further_and_a_third_is_refused_by_policy() -> None:
    async def story(world: World, seen: Seen) -> None:
        first = token(PERSON, AGENT, scopes=("describe", "infer"), audience=STS, jti="first-token", parents=("person-token",))
        second = await exchange(world.context, asked(first, scope="infer:digits"), mtls(TOOLER), seen)
        said = facts_of(second, world)
        assert said.beyond.actors == (TOOLER, AGENT)
        assert said.beyond.parents[:2] == ("person-token", "first-token")
        third = token(PERSON, TOOLER, AGENT, scopes=("infer",), audience=STS, jti="second-token")
        made = await exchange(world.context, asked(third), mtls(BOB), seen)
        assert isinstance(made, Denied)
        assert made.code == "access-denied", "the policy says two hands"

    run(story)


def test_settings_bound_the_depth_and_the_life() -> None:
    async def story(world: World, seen: Seen) -> None:
        said = facts_of(await exchange(world.context, asked(person(), expires_in="9999"), mtls(), seen), world)
        assert said.not_after - NOW <= 60_000
        made = await exchange(world.context, asked(token(PERSON, TOOLER, scopes=("infer",), audience=STS)), mtls(), seen)
        assert isinstance(made, Denied)
        assert made.code == "invalid-grant"

    run(story, max_depth=1, token_seconds=60)


def test_a_token_ends_with_the_first_of_what_it_comes_from() -> None:
    async def story(world: World, seen: Seen) -> None:
        said = facts_of(await exchange(world.context, asked(person(now=NOW - 200_000)), mtls(), seen), world)
        assert said.not_after <= NOW + 100_000
        short = Peer(chain=certificate(ttl=40), urls=(URL,))
        said = facts_of(await exchange(world.context, asked(person()), short, seen), world)
        assert said.not_after <= NOW + 40_000

    run(story)


@pytest.mark.parametrize("who", [PERSON, AGENT])
def test_nothing_is_exchanged_beyond_the_end_of_a_registration(who: str) -> None:
    async def story(world: World, seen: Seen) -> None:
        ends = world.clock.at + 45_000
        known = world.facts.registrations[who]
        await world.put(RegistrationPut(registration=msgspec.structs.replace(known, expires_at=UnixMillis(ends))))
        said = facts_of(await exchange(world.context, asked(person()), mtls(), seen), world)
        assert said.not_after <= ends
        world.clock.at = ends
        made = await exchange(world.context, asked(person()), mtls(), seen)
        assert isinstance(made, Denied)
        assert made.code == "invalid-grant"

    run(story)


@pytest.mark.parametrize(
    ("kind", "target"), [("principal", PERSON), ("registration", PERSON), ("principal", AGENT), ("credential", "person-token")]
)
def test_what_is_revoked_is_not_handed_on(kind: str, target: str) -> None:
    async def story(world: World, seen: Seen) -> None:
        await world.put(revoked(kind, target))
        made = await exchange(world.context, asked(person()), mtls(), seen)
        assert isinstance(made, Denied)
        assert made.code == "invalid-grant"
        assert "revoked" in made.reason

    run(story)


def test_a_revocation_that_comes_while_it_is_signed_still_counts() -> None:
    async def story(world: World, seen: Seen) -> None:
        sign = world.context.signer.methods["jwt_svid"]  # type: ignore[attr-defined]

        async def slow(**params: Any) -> Any:
            made = await sign(**params)
            await world.put(revoked("principal", PERSON))
            return made

        world.context.signer.methods["jwt_svid"] = slow  # type: ignore[attr-defined]
        made = await exchange(world.context, asked(person()), mtls(), seen)
        assert isinstance(made, Denied)
        assert "revoked" in made.reason

    run(story)


def test_a_server_hands_on_what_it_was_called_with_and_nobody_else_does() -> None:
    async def story(world: World, seen: Seen) -> None:
        received = token(PERSON, AGENT, scopes=("chat", "infer"), audience=CHAT, jti="received-token", x5t="ab" * 32)
        made = await exchange(world.context, asked(received), mtls(TOOLER), seen)
        assert isinstance(made, Denied), "it does not answer for that endpoint"
        await world.put(RegistrationPut(registration=registration(TOOLER, ("agents",), endpoint=CHAT)))
        said = facts_of(await exchange(world.context, asked(received), mtls(TOOLER), seen), world)
        assert said.beyond.actors == (TOOLER, AGENT)
        elsewhere = token(PERSON, AGENT, scopes=("infer",), audience=DIGITS, jti="received-token")
        assert isinstance(await exchange(world.context, asked(elsewhere), mtls(TOOLER), seen), Denied)

    run(story)


def test_a_run_bound_token_stays_with_its_run() -> None:
    async def story(world: World, seen: Seen) -> None:
        begun = Run(
            id="run-0123456789abcdef", trust_domain=TrustDomain(TD), principal=PERSON, zone="serve", stage="train", inputs=("sha256:" + "a" * 64,),
            started_at=UnixMillis(NOW - 1000), not_after=UnixMillis(NOW + 30_000),
        )  # fmt: skip
        await world.put(RunPut(run=begun))
        bound = Binding(run=begun.id, zone="serve", stage="train", inputs=inputs_digest(begun.inputs))
        said = facts_of(await exchange(world.context, asked(person(binding=bound)), mtls(), seen), world)
        assert said.beyond.binding == bound
        assert said.not_after <= begun.not_after
        await world.put(revoked("run", begun.id))
        assert isinstance(await exchange(world.context, asked(person(binding=bound)), mtls(), seen), Denied)

    run(story)


def test_a_proof_is_used_once_and_a_refused_request_spends_none() -> None:
    async def story(world: World, seen: Seen) -> None:
        actor = token(AGENT, scopes=None, audience=STS, jti="agent-token")
        peer = by_key()
        wish = asked(person(), actor_token=actor, actor_token_type=JWT_TYPE)
        assert isinstance(await exchange(world.context, wish | {"scope": "administer"}, peer, seen), Denied)
        assert isinstance(await exchange(world.context, wish, peer, seen), Exchanged)
        made = await exchange(world.context, wish, peer, seen)
        assert isinstance(made, Denied)
        assert made.code == "invalid-dpop-proof"

    run(story)


def test_who_narrows_its_own_right_is_no_actor() -> None:
    async def story(world: World, seen: Seen) -> None:
        own = token(AGENT, scopes=None, audience=STS, jti="agent-token")
        said = facts_of(await exchange(world.context, asked(own), mtls(), seen), world)
        assert (said.principal, said.beyond.actors, said.beyond.scopes) == (AGENT, (), ("infer:digits",))

    run(story)


def test_the_credential_is_recorded_with_all_that_it_was_made_from() -> None:
    async def story(world: World, seen: Seen) -> None:
        said = facts_of(await exchange(world.context, asked(person()), mtls(), seen), world)
        kept = world.store.get("credential", said.jti)
        assert kept is not None
        record = json.loads(kept)
        assert record["parents"] == list(said.beyond.parents)
        assert record["actors"] == [AGENT]
        await world.put(revoked("credential", "person-token"))
        facts = world.context.facts
        assert facts.revocation_of(PERSON, said.jti, parents=said.beyond.parents) is not None
        told = {one.target for one in facts.told_revocations()}
        assert said.jti in told, "the gateway strikes it by its own id"

    run(story)


def test_while_the_clock_is_in_trouble_nothing_is_exchanged() -> None:
    from vouchgate.vocabulary.errors import Unavailable

    async def story(world: World, seen: Seen) -> None:
        world.clock.trouble = "it jumped"
        with pytest.raises(Unavailable):
            await exchange(world.context, asked(person()), mtls(), seen)

    run(story)


def test_refusals_are_recorded_within_a_bound_and_a_flood_is_counted() -> None:
    assert REFUSALS_PER_MINUTE >= 10

    async def story(world: World, seen: Seen) -> None:
        service = TokenService(world.context, refusals=Buckets(3))
        before = world.store.size()
        for _ in range(10):
            made = await service.token(asked(person(), scope="administer"), chain=certificate(), peer="10.0.0.7")
            assert isinstance(made, Denied)
        assert world.store.size() == before + 3
        assert service.unrecorded == 7
        assert isinstance(await service.token({"grant_type": "authorization_code"}, peer="10.0.0.8"), Denied)
        assert world.store.size() == before + 4

    run(story)


def test_metadata_names_what_is_answered() -> None:
    async def story(world: World, seen: Seen) -> None:
        said = json.loads(TokenService(world.context).metadata())
        assert said["code_challenge_methods_supported"] == ["S256"]
        assert said["token_endpoint"].startswith(said["issuer"])
        (key,) = json.loads(TokenService(world.context).jwks())["keys"]
        assert (key["use"], key["alg"], set(key) & {"d", "k"}) == ("sig", "ES256", set())

    run(story)


def test_a_resource_may_be_named_as_clients_know_it() -> None:
    async def story(world: World, seen: Seen) -> None:
        for name in (DIGITS, "digits", "https://localhost:1/predict"):
            made = await exchange(world.context, asked(person(), resource=name), mtls(), seen)
            if name.startswith("https://"):
                assert isinstance(made, Denied), "two endpoints answer there: nobody guesses"
            else:
                assert facts_of(made, world).principal == PERSON
        await world.put(EndpointPut(endpoint=endpoint("digits", resource_uri="https://models.example/digits")))
        made = await exchange(world.context, asked(person(), resource="https://models.example/digits"), mtls(), seen)
        assert facts_of(made, world, DIGITS).principal == PERSON
        for name in (
            "https://models.example/digits/",
            "https://MODELS.example/digits",
            "http://models.example/digits",
            "https://models.example/digits?a",
        ):
            assert isinstance(await exchange(world.context, asked(person(), resource=name), mtls(), seen), Denied), name

    run(story)
