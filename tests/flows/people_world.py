"""A small OpenID provider and event receiver over real HTTP on loopback, that lies, is slow, breaks off and rotates its keys when told to; and the
control plane's side of it, put together as edges/processes/control.py does."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flows_world import TD, HandClock, Remote, World, make_world, running
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from vouchgate.edges.processes.outbound import Outbound
from vouchgate.flows.login_oidc import CallBack
from vouchgate.flows.people import People
from vouchgate.vocabulary.errors import Unverified, VouchgateError
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_people import OidcSettings, ReceiverSettings, SsfSettings, TransmitterSettings

ADA = f"spiffe://{TD}/person/staff/ada"
CLIENT = "vouchgate"
BACK = "http://127.0.0.1:8470/login/callback"
RSA = RSAKey.generate_key(2048)
OTHER_RSA = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-256")
ED = OKPKey.generate_key("Ed25519")


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwk_of(key: Key, kid: str, **more: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, "use": "sig", **more}


def signed(claims: dict[str, Any], key: Key, kid: str, alg: str, **header: Any) -> str:
    whole = {"alg": alg, "kid": kid, "typ": "JWT", **header}
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    return jws.serialize_compact(whole, json.dumps(claims).encode(), key, registry=registry)


def unsigned(claims: dict[str, Any], header: dict[str, Any], secret: bytes = b"") -> str:
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{text}.{b64(hmac.new(secret, text.encode(), hashlib.sha256).digest()) if secret else ''}"


class Provider:
    """One provider; every knob is a lie or a fault."""

    def __init__(self, clock: HandClock, port: int = 0) -> None:
        self.clock, self.port = clock, port
        self.keys: list[tuple[str, Key, str]] = [("one", RSA, "RS256")]
        self.sign_with = 0
        self.claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
        self.token: Callable[[dict[str, Any]], str] = self._token
        self.header: dict[str, Any] = {}
        self.description: dict[str, Any] = {}
        self.token_answer: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.published: bytes | None = None
        self.codes: dict[str, dict[str, str]] = {}
        self.heard: list[tuple[str, str, dict[str, str], str]] = []
        self.fault: dict[str, str] = {}
        """Path -> `slow`, `drop`, `500`."""
        self.gate: asyncio.Event | None = None
        self.answer_iss = True
        self.received: list[str] = []
        self.receiver_status = 202
        self._server: asyncio.Server | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Provider:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def asked(self, path: str) -> int:
        return sum(1 for _, where, _, _ in self.heard if where == path)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split("\r\n")[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:] if line)}
            body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
            path = urlsplit(target).path
            self.heard.append((method, path, headers, body))
            if self.gate is not None:
                await self.gate.wait()
            await self._answer(path, headers, body, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, headers: dict[str, str], body: str, writer: asyncio.StreamWriter) -> None:
        fault = self.fault.get(path, "")
        if fault == "slow":
            await asyncio.sleep(1)
            return
        status, said = self._say(path, headers, body)
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        if fault == "500":
            status, data = 500, b"oh no"
        whole = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
        writer.write(whole[: len(whole) // 2 + 30] if fault == "drop" else whole)
        await writer.drain()

    def _say(self, path: str, headers: dict[str, str], body: str) -> tuple[int, Any]:
        match path:
            case "/.well-known/openid-configuration":
                return 200, {
                    "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/jwks", "userinfo_endpoint": f"{self.issuer}/userinfo", "response_types_supported": ["code"],
                    "code_challenge_methods_supported": ["S256"], "authorization_response_iss_parameter_supported": self.answer_iss,
                    **self.description,
                }  # fmt: skip
            case "/jwks":
                if self.published is not None:
                    return 200, self.published
                return 200, {"keys": [jwk_of(key, kid, alg=alg) for kid, key, alg in self.keys]}
            case "/token":
                return self._exchange(headers, body)
            case "/userinfo":
                return 200, self.userinfo
            case "/events":
                self.received.append(body)
                return self.receiver_status, {"err": "invalid_key", "description": "told"} if self.receiver_status == 400 else b""
        return 404, {}

    def authorize(self, url: str, *, sub: str = "ada", groups: list[str] | None = None) -> CallBack:
        """What the person's browser does: go there, log in, come back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
        assert len(asked["state"]) == len(asked["nonce"]) == len(asked["code_challenge"]) == 43
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**asked, "sub": sub, "groups": json.dumps(groups if groups is not None else ["ml-team"])}
        return CallBack(state=asked["state"], code=code, iss=self.issuer if self.answer_iss else "")

    def _exchange(self, headers: dict[str, str], body: str) -> tuple[int, Any]:
        form = {name: values[0] for name, values in parse_qs(body).items()}
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != form["redirect_uri"] or asked["client_id"] != form["client_id"]:
            return 400, {"error": "invalid_grant"}
        if b64(hashlib.sha256(form["code_verifier"].encode()).digest()) != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        now = self.clock.at // 1000
        claims = self.claims(
            {
                "iss": self.issuer, "sub": asked["sub"], "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": asked["nonce"],
                "groups": json.loads(asked["groups"]), "name": "Ada <b>L</b>",
            }
        )  # fmt: skip
        return 200, {
            "id_token": self.token(claims),
            "access_token": "access",
            "token_type": "Bearer",
            "expires_in": 60,
            **self.token_answer,
        }

    def _token(self, claims: dict[str, Any]) -> str:
        kid, key, alg = self.keys[self.sign_with]
        return signed(claims, key, kid, alg, **self.header)

    def event(
        self, kind: str, *, sub: str = "ada", jti: str = "", typ: str = "secevent+jwt", body: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A security event token of this provider."""
        kid, key, alg = self.keys[self.sign_with]
        whole = {
            "iss": self.issuer, "aud": "https://us.example", "jti": jti or secrets.token_hex(8), "iat": self.clock.at // 1000,
            "events": {kind: body or {}}, "sub_id": {"format": "iss_sub", "iss": self.issuer, "sub": sub}, **claims,
        }  # fmt: skip
        return signed({name: value for name, value in whole.items() if value is not None}, key, kid, alg, typ=typ)


class Scene:
    """A control plane with providers `staff` and `other`, `staff` also a transmitter and a receiver."""

    def __init__(self, world: World, people: People, staff: Provider, other: Provider, outbound: Remote) -> None:
        self.world, self.people, self.staff, self.other, self.outbound = world, people, staff, other, outbound

    async def begun(self, provider: str = "staff", owner: str = "browser") -> Any:
        return await self.people.begin(provider, redirect_uri=BACK, owner=owner)

    async def logged_in(self, sub: str = "ada", groups: list[str] | None = None, owner: str = "browser", provider: str = "staff") -> Any:
        self.world.clock.at += 1_000
        begun = await self.begun(provider, owner)
        back = getattr(self, provider).authorize(begun.url, sub=sub, groups=groups)
        return (await self.people.finish(begun.binding, owner, back, peer="test"))[0]

    async def told(self, token: str, name: str = "staff") -> Any:
        self.world.clock.at += 1_000
        return await self.people.events.take(name, token, peer="test")

    def entries(self, *needles: str) -> list[bytes]:
        return [one for one in self.world.entries() if all(needle.encode() in one for needle in needles)]


def _asked(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **params: method(None, params)


@contextlib.asynccontextmanager
async def scene(*, world_settings: dict[str, Any] | None = None, receivers: bool = False, **provider: Any) -> AsyncIterator[Scene]:
    clock = HandClock()
    staff, other = await Provider(clock).start(), await Provider(clock).start()
    groups = {"ml-team": "callers", "ml-admins": "role:registrar"}
    wanted: dict[str, Any] = {"client_id": CLIENT, "groups": groups}
    settings = Settings(
        trust_domain=TD,
        data_dir="/nowhere",
        root_dir="/nowhere-root",
        oidc=(
            OidcSettings(**(wanted | {"name": "staff", "issuer": staff.issuer} | provider)),
            OidcSettings(**(wanted | {"name": "other", "issuer": other.issuer})),
        ),
        ssf=SsfSettings(
            issuer="https://us.example",
            transmitters=(TransmitterSettings(name="staff", provider="staff", issuer=staff.issuer, audience="https://us.example"),),
            receivers=(ReceiverSettings(name="soc", url=f"{other.issuer}/events", audience="https://soc.example"),) if receivers else (),
        ),
        **(world_settings or {}),
    )
    world = make_world(settings=settings)
    staff.clock = other.clock = world.clock
    out = Outbound(lambda: world.context.settings, world.clock.now)
    outbound = Remote({name: _asked(method) for name, method in out.handlers().items()})
    people = People(world.context, outbound)
    before = world.context.sequencer._tell
    world.context.sequencer._tell = lambda batch: (before(batch), people.tell(batch))[0]  # type: ignore[method-assign]
    try:
        async with running(world):
            yield Scene(world, people, staff, other, outbound)
    finally:
        await staff.stop()
        await other.stop()


def run(story: Callable[[Scene], Awaitable[None]], **options: Any) -> None:
    async def go() -> None:
        async with scene(**options) as made:
            await story(made)

    asyncio.run(go())


async def refused(
    made: Scene, kind: type[VouchgateError] = Unverified, *, provider: str = "staff", back: CallBack | None = None, **how: Any
) -> str:
    """Log in; it must fail with exactly this error, be recorded, and give nothing."""
    before, logged = dict(made.world.facts.registrations), len(made.entries("did not authenticate"))
    begun = await made.begun(provider)
    coming = back or getattr(made, provider).authorize(begun.url, **how)
    if back is not None and back.state == "":
        coming = with_state(back, begun.state)
    with pytest.raises(kind) as told:
        await made.people.finish(begun.binding, "browser", coming, peer="test")
    assert type(told.value) is kind, told.value
    assert told.value.remedy
    assert dict(made.world.facts.registrations) == before
    assert len(made.entries("did not authenticate")) == logged + 1
    return told.value.reason


def with_state(back: CallBack, state: str) -> CallBack:
    return CallBack(state=state, code=back.code, iss=back.iss, error=back.error)


async def discard(work: Awaitable[Any]) -> None:
    await work
