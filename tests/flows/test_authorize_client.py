"""A person lets a client act: code, PKCE and resource; every way to get at somebody else's code, and what a thief sets off."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from delegation_world import AGENT, JKT, PERSON, START, proof
from flows_world import DIGITS, NOW, SPINE, TD, World, make_world, registration, revoked, running, serving
from test_exchange_token import OWN, STS, asked, facts_of, mtls

from vouchgate.flows.authorize_client import (
    CODE_MS,
    MAX_PENDING,
    MAX_PENDING_OF_ONE,
    PENDING_MS,
    Pending,
    allowed_redirect,
    begin,
    granted,
    redeem,
)
from vouchgate.flows.changes import RegistrationPut
from vouchgate.flows.exchange_token import Exchanged, Peer, exchange
from vouchgate.flows.facts import compile_sources
from vouchgate.identity.dpop import Seen
from vouchgate.vocabulary.errors import LimitExceeded, NotFound
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.settings import Settings, StsClientSettings, StsSettings
from vouchgate.vocabulary.vouches import UnixMillis

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
CLIENT = StsClientSettings(id="mcp-client", redirects=("https://app.example/cb", "http://127.0.0.1/cb"))
URL = "https://sts.example/token"
PEER = Peer(urls=(URL,), address="10.0.0.7")


@pytest.fixture(autouse=True, scope="module")
def compiled_once() -> Iterator[None]:
    """The same few policies in every case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
        yield


def wish(**changes: str | None) -> dict[str, str]:
    wanted = {
        "response_type": "code", "client_id": "mcp-client", "redirect_uri": "https://app.example/cb", "scope": "infer:digits", "state": "state-1234",
        "code_challenge": CHALLENGE, "code_challenge_method": "S256", "resource": DIGITS,
    } | changes  # fmt: skip
    return {name: value for name, value in wanted.items() if value is not None}


def form(code: str, **changes: str | None) -> dict[str, str]:
    wanted = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": "https://app.example/cb", "client_id": "mcp-client", "code_verifier": VERIFIER,
    } | changes  # fmt: skip
    return {name: value for name, value in wanted.items() if value is not None}


def story_of(tell: Callable[[World, Pending, Seen], Any], policies: Any = (*SPINE, *OWN)) -> None:
    async def go() -> None:
        sts = StsSettings(
            url="https://sts.example", clients=(CLIENT, StsClientSettings(id="other", redirects=("https://other.example/cb",)))
        )
        settings = Settings(trust_domain=TD, data_dir="/nowhere", root_dir="/nowhere-root", sts=sts)
        async with running(make_world(settings=settings), policies=policies) as world:
            await serving(world, registration(), registration(PERSON))
            await tell(world, Pending(), Seen(START))

    asyncio.run(go())


def coded(world: World, pending: Pending, **changes: str | None) -> str:
    name = begin(world.context, pending, wish(**changes))
    assert isinstance(name, str), name
    back = urlsplit(granted(world.context, pending, name, PERSON))
    said = parse_qs(back.query)
    assert said["state"] == ["state-1234"]
    assert said["iss"] == ["https://sts.example"]
    assert f"{back.scheme}://{back.netloc}{back.path}" == wish(**changes)["redirect_uri"]
    return said["code"][0]


def test_a_person_lets_a_client_act_within_a_scope() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        made = await redeem(world.context, pending, form(coded(world, pending)), PEER, seen)
        said = facts_of(made, world)
        assert (said.principal, said.beyond.actors, said.beyond.scopes) == (PERSON, (), ("infer:digits",))
        bound = Peer(proof=proof(htu=URL), urls=(URL,))
        made = await redeem(world.context, pending, form(coded(world, pending), resource=DIGITS), bound, seen)
        assert facts_of(made, world).beyond.cnf_jkt == JKT

    story_of(tell)


BEGUN: list[tuple[str, dict[str, str | None], str]] = [
    ("unknown client", {"client_id": "nobody"}, "invalid-request"), ("no client", {"client_id": None}, "invalid-request"),
    ("another's address", {"redirect_uri": "https://other.example/cb"}, "invalid-request"),
    ("a longer address", {"redirect_uri": "https://app.example/cb/more"}, "invalid-request"),
    ("a query on it", {"redirect_uri": "https://app.example/cb?x=1"}, "invalid-request"),
    ("a look-alike", {"redirect_uri": "https://app.example.evil/cb"}, "invalid-request"),
    ("a user in it", {"redirect_uri": "https://app.example@evil/cb"}, "invalid-request"),
    ("http", {"redirect_uri": "http://app.example/cb"}, "invalid-request"), ("no address", {"redirect_uri": None}, "invalid-request"),
    ("another path on loopback", {"redirect_uri": "http://127.0.0.1:1234/other"}, "invalid-request"),
    ("another loopback", {"redirect_uri": "http://localhost:1234/cb"}, "invalid-request"),
    ("loopback with a user", {"redirect_uri": "http://127.0.0.1:1@evil/cb"}, "invalid-request"),
    ("token", {"response_type": "token"}, "unsupported-response-type"), ("plain", {"code_challenge_method": "plain"}, "invalid-request"),
    ("no method", {"code_challenge_method": None}, "invalid-request"), ("no challenge", {"code_challenge": None}, "invalid-request"),
    ("a short challenge", {"code_challenge": "abc"}, "invalid-request"), ("no state", {"state": None}, "invalid-request"),
    ("a line in the state", {"state": "abcdefgh\r\n"}, "invalid-request"), ("a long state", {"state": "x" * 600}, "invalid-request"),
    ("no resource", {"resource": None}, "invalid-target"), ("an unknown one", {"resource": "https://elsewhere"}, "invalid-target"),
    ("no scope", {"scope": None}, "invalid-scope"), ("administration", {"scope": "administer"}, "invalid-scope"),
]  # fmt: skip


def test_a_wish_that_is_not_allowed_waits_for_nobody() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        for name, changes, code in BEGUN:
            made = begin(world.context, pending, wish(**changes))
            assert isinstance(made, Denied), (name, made)
            assert made.code == code, name

    story_of(tell)


@pytest.mark.parametrize(
    ("redirect", "wanted"),
    [
        ("http://127.0.0.1:49152/cb", True), ("http://127.0.0.1/cb", True), ("http://127.0.0.1:99999999/cb", False), ("http://127.0.0.1:1/cb#x", False),
        ("http://127.0.0.1:1/cb?a", False), ("https://app.example/cb", True), ("https://app.example/cb#", False), ("", False),
    ],
)  # fmt: skip
def test_on_loopback_any_port_and_nothing_else(redirect: str, wanted: bool) -> None:
    assert allowed_redirect(CLIENT, redirect) is wanted


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"code_verifier": "w" * 43}, "invalid-grant"), ({"code_verifier": None}, "invalid-request"), ({"code_verifier": "short"}, "invalid-request"),
        ({"client_id": "other"}, "invalid-grant"), ({"client_id": None}, "invalid-grant"), ({"redirect_uri": "https://other.example/cb"}, "invalid-grant"),
        ({"redirect_uri": None}, "invalid-grant"), ({"resource": "vg://test.local/endpoint/nowhere"}, "invalid-target"), ({"code": "x" * 43}, "invalid-grant"),
        ({"scope": "infer"}, "invalid-request"),
    ],
)  # fmt: skip
def test_a_code_is_good_for_its_own_client_alone_and_one_try(changes: dict[str, str | None], code: str) -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        text = coded(world, pending)
        sent = {name: value for name, value in (form(text) | changes).items() if value is not None}
        made = await redeem(world.context, pending, sent, PEER, seen)
        assert isinstance(made, Denied), made
        assert made.code == code
        if code == "invalid-grant" and "code" not in changes:
            assert isinstance(await redeem(world.context, pending, form(text), PEER, seen), Denied), "it was spent"

    story_of(tell)


def test_a_code_that_is_used_twice_strikes_what_it_gave() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        text = coded(world, pending)
        said = facts_of(await redeem(world.context, pending, form(text), PEER, seen), world)
        assert world.facts.revocation_of(PERSON, said.jti) is None
        assert isinstance(await redeem(world.context, pending, form(text), PEER, seen), Denied)
        assert world.facts.revocation_of(PERSON, said.jti) is not None
        assert world.facts.revocation_of(PERSON) is None, "the person is not struck"

    story_of(tell)


def test_codes_and_logins_end() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        text = coded(world, pending)
        world.clock.at += CODE_MS
        assert isinstance(await redeem(world.context, pending, form(text), PEER, seen), Denied)
        name = begin(world.context, pending, wish())
        assert isinstance(name, str)
        world.clock.at += PENDING_MS
        with pytest.raises(NotFound):
            granted(world.context, pending, name, PERSON)
        again = begin(world.context, pending, wish())
        assert isinstance(again, str)
        granted(world.context, pending, again, PERSON)
        with pytest.raises(NotFound):
            granted(world.context, pending, again, PERSON)

    story_of(tell)


def test_a_person_whom_nothing_permits_gives_no_code() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        for who in (PERSON, f"spiffe://{TD}/person/x/unknown"):
            name = begin(world.context, pending, wish())
            assert isinstance(name, str)
            back = granted(world.context, pending, name, who)  # type: ignore[arg-type]
            assert "error=access_denied" in back
            assert "code=" not in back

    story_of(tell, policies=(("none.cedar", ""),))


def test_a_person_who_was_revoked_meanwhile_gives_no_token() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        text = coded(world, pending)
        await world.put(revoked("principal", PERSON))
        made = await redeem(world.context, pending, form(text), PEER, seen)
        assert isinstance(made, Denied)
        name = begin(world.context, pending, wish())
        assert isinstance(name, str)
        assert "error=access_denied" in granted(world.context, pending, name, PERSON)

    story_of(tell)


def test_a_person_whose_registration_ended_gives_no_code_and_no_token_and_one_that_ends_soon_a_short_one() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        ends = world.clock.at + 45_000
        await world.put(RegistrationPut(registration=msgspec.structs.replace(registration(PERSON), expires_at=UnixMillis(ends))))
        said = facts_of(await redeem(world.context, pending, form(coded(world, pending)), PEER, seen), world)
        assert said.not_after <= ends
        text, name = coded(world, pending), begin(world.context, pending, wish())
        assert isinstance(name, str)
        world.clock.at = ends
        made = await redeem(world.context, pending, form(text), PEER, seen)
        assert isinstance(made, Denied)
        assert made.code == "invalid-grant"
        assert "error=access_denied" in granted(world.context, pending, name, PERSON)

    story_of(tell)


def test_a_proof_that_was_used_gives_no_token() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        peer = Peer(proof=proof(htu=URL), urls=(URL,))
        assert isinstance(await redeem(world.context, pending, form(coded(world, pending)), peer, seen), Exchanged)
        made = await redeem(world.context, pending, form(coded(world, pending)), peer, seen)
        assert isinstance(made, Denied)
        assert made.code == "invalid-dpop-proof"

    story_of(tell)


def test_logins_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PENDING >= 100
    monkeypatch.setattr("vouchgate.flows.authorize_client.MAX_PENDING", 2)

    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        for number in range(2):
            begin(world.context, pending, wish(), f"198.51.100.{number}")
        with pytest.raises(LimitExceeded):
            begin(world.context, pending, wish(), "198.51.100.2")
        world.clock.at = NOW + PENDING_MS
        assert isinstance(begin(world.context, pending, wish()), str)

    story_of(tell)


def test_one_address_cannot_take_the_place_of_all_others() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        honest = begin(world.context, pending, wish(), "203.0.113.9")
        for number in range(2 * MAX_PENDING):
            last = begin(world.context, pending, wish(), f"198.51.100.{number % 20}")
        late = begin(world.context, pending, wish(), "203.0.113.10")
        for one in (honest, last, late):
            assert isinstance(one, str)
            assert pending.waits(one, NOW)
        for _ in range(MAX_PENDING_OF_ONE + 5):
            begin(world.context, pending, wish(), "203.0.113.9")
        assert not pending.waits(str(honest), NOW), "it gave up its own"
        assert pending.waits(str(late), NOW)
        assert len(pending._wishes) <= MAX_PENDING

    story_of(tell)


def test_addresses_that_came_and_went_are_forgotten() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        for number in range(3 * MAX_PENDING):
            name = begin(world.context, pending, wish(), f"2001:db8::{number:x}")
            pending.taken(str(name), NOW)
        assert len(pending._from) <= MAX_PENDING

    story_of(tell)


def test_a_persons_consent_becomes_an_agents_token_by_an_exchange() -> None:
    async def tell(world: World, pending: Pending, seen: Seen) -> None:
        await world.put(RegistrationPut(registration=registration(AGENT, ("callers", "agents"))))
        for resource in (STS, "https://sts.example"):
            given = await redeem(world.context, pending, form(coded(world, pending, resource=resource)), PEER, seen)
            said = facts_of(given, world, STS)
            assert said.beyond.scopes == ("infer:digits",)
            assert isinstance(given, Exchanged)
            made = await exchange(world.context, asked(given.access_token), mtls(), seen)
            acted = facts_of(made, world)
            assert (acted.principal, acted.beyond.actors, acted.beyond.parents[0]) == (PERSON, (AGENT,), said.jti)
            wider = await exchange(world.context, asked(given.access_token, scope="describe:digits"), mtls(), seen)
            assert isinstance(wider, Denied)
            assert wider.code == "invalid-scope"
        other = await redeem(world.context, pending, form(coded(world, pending, resource=STS), resource=DIGITS), PEER, seen)
        assert isinstance(other, Denied)
        assert other.code == "invalid-target"

    story_of(tell)
