"""Keys of an issuer that rotates them: fetched when a token needs them, not more often, and not believed for ever."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flows_world import TD, World, make_world, registration, running, serving

from vouchgate.flows.attest_remote import trust_of
from vouchgate.flows.sources import AGAIN_MS, EVIDENCE, KEPT_MS, MAX_STALE_MS, Sources
from vouchgate.flows.token_service import TokenService
from vouchgate.identity.foreign import write_token
from vouchgate.vocabulary.errors import InvalidSettings, Unavailable, VouchgateError
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.settings import Settings, StsSettings, StsSourceSettings
from vouchgate.vocabulary.settings_file import parse_settings
from vouchgate.vocabulary.wire import encode

ISSUER = "https://ci.example"
CI = StsSourceSettings(name="ci", attestor="oidc", issuer=ISSUER, keys_url=f"{ISSUER}/jwks")
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("one", "two")}


def b64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()


def jwks(*names: str) -> bytes:
    listed = []
    for name in names:
        numbers = KEYS[name].public_key().public_numbers()
        listed.append({"kid": name, "kty": "EC", "crv": "P-256", "x": b64(numbers.x), "y": b64(numbers.y), "use": "sig", "alg": "ES256"})
    return encode({"keys": listed})


def token(name: str) -> str:
    return write_token({"alg": "ES256", "kid": name, "typ": "JWT"}, {"iss": ISSUER, "sub": "build"}, KEYS[name])


class Issuer:
    def __init__(self) -> None:
        self.body, self.status, self.away, self.asked = jwks("one"), 200, False, 0

    async def call(self, method: str, /, **params: Any) -> Any:
        assert (method, params["to"], params["url"]) == ("out.get", f"{EVIDENCE}ci", CI.keys_url)
        self.asked += 1
        if self.away:
            raise Unavailable("the issuer is away", remedy="wait")
        return {"status": self.status, "headers": {}, "body": self.body}


def run(story: Any) -> None:
    async def go() -> None:
        settings = Settings(
            trust_domain=TD, data_dir="/nowhere", root_dir="/nowhere-root", sts=StsSettings(url="https://sts.example", sources=(CI,))
        )
        async with running(make_world(settings=settings)) as world:
            await serving(world, registration())
            issuer = Issuer()
            service = TokenService(world.context)
            service.keys = Sources(world.context, issuer).evidence_keys
            await story(world, issuer, service)

    asyncio.run(go())


def kids(world: World) -> bytes:
    recorded = world.context.facts.sources.get(f"{EVIDENCE}ci")
    return recorded.keys if recorded else b""


async def see(service: TokenService, name: str) -> None:
    await service._see_to_keys("oidc", token(name))


def test_they_are_fetched_when_first_needed_recorded_and_then_at_hand():
    async def story(world: World, issuer: Issuer, service: TokenService) -> None:
        assert isinstance(trust_of(world.context, "oidc", ""), Denied)
        for _ in range(5):
            await see(service, "one")
        assert issuer.asked == 1 and b'"one"' in kids(world)
        trust = trust_of(world.context, "oidc", "ci")
        assert not isinstance(trust, Denied) and trust.keys == kids(world)

    run(story)


def test_a_rotated_key_is_fetched_at_once_and_a_made_up_one_asks_seldom():
    async def story(world: World, issuer: Issuer, service: TokenService) -> None:
        await see(service, "one")
        issuer.body = jwks("two")
        world.clock.at += AGAIN_MS + 1
        await see(service, "two")
        assert b'"two"' in kids(world) and b'"one"' not in kids(world)
        asked = issuer.asked
        for _ in range(50):
            await see(service, "one")
        assert issuer.asked <= asked + 1

    run(story)


def test_another_attestors_evidence_asks_nothing():
    async def story(world: World, issuer: Issuer, service: TokenService) -> None:
        await service._see_to_keys("github-actions", token("one"))
        assert issuer.asked == 0

    run(story)


@pytest.mark.parametrize("change", [{"away": True}, {"status": 500}, {"body": b"{}"}, {"body": b"<html>"}])
def test_an_issuer_in_trouble_leaves_recorded_keys_for_a_day(change: dict[str, Any]):
    async def story(world: World, issuer: Issuer, service: TokenService) -> None:
        await see(service, "one")
        before = kids(world)
        for name, value in change.items():
            setattr(issuer, name, value)
        world.clock.at += KEPT_MS + 1
        await see(service, "one")
        assert kids(world) == before
        world.clock.at += MAX_STALE_MS
        with pytest.raises(VouchgateError):
            await see(service, "one")

    run(story)


def test_without_any_keys_nothing_is_believed():
    async def story(world: World, issuer: Issuer, service: TokenService) -> None:
        issuer.away = True
        with pytest.raises(Unavailable):
            await see(service, "one")
        assert kids(world) == b""

    run(story)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ('keys_url = "https://a/b"\nkeys_file = "x"', "already"),
        ('keys_url = "http://elsewhere/jwks"', "address"),
        ('keys_url = "ftp://elsewhere/jwks"', "address"),
    ],
)
def test_settings_that_are_refused(lines: str, word: str):
    text = f'trust_domain = "ours.example"\n[[sts.sources]]\nname = "ci"\nattestor = "oidc"\n{lines}\n'
    with pytest.raises(InvalidSettings, match=word):
        parse_settings(text, Path("/etc/vouchgate.toml"))
