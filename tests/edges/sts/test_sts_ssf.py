"""Deliveries of security events over HTTP (RFC 8935): what is taken, what is refused with which answer, and what is to be tried again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from flows_world import TD, Remote
from people_world import Scene, scene

from vouchgate.edges.sts import ssf
from vouchgate.edges.sts.app import build_app
from vouchgate.edges.sts.desk import Desk
from vouchgate.identity.sets import CAEP, MEDIA
from vouchgate.vocabulary.errors import LimitExceeded, Unavailable
from vouchgate.vocabulary.wire import to_plain

ADA = f"spiffe://{TD}/person/staff/ada"
Ask = Callable[..., Awaitable[httpx.Response]]


def served(story: Callable[[Scene, Ask], Awaitable[None]], *, token: str = "", control: Any = None) -> None:
    async def go() -> None:
        async with scene() as made:

            async def event(transmitter: str, token: str, peer: str) -> Any:
                return to_plain(await made.people.events.take(transmitter, token, peer=peer))

            desk = Desk(control or Remote({"sts.event": event}))
            routes = ssf.routes(desk, expected_token=lambda name: token, url="https://us.example", issuer="https://us.example")
            app = build_app(desk, requests_per_second=10_000.0, monotonic=lambda: 0.0, more=routes)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://us.example") as client:

                async def ask(body: Any, path: str = "/ssf/events/staff", **headers: str) -> httpx.Response:
                    named = {"content-type": MEDIA} | {name.replace("_", "-"): value for name, value in headers.items()}
                    return await client.post(path, content=body, headers=named)

                await story(made, ask)

    asyncio.run(go())


def test_an_event_is_taken_and_the_person_is_out() -> None:
    async def story(made: Scene, ask: Ask) -> None:
        await made.logged_in()
        answer = await ask(made.staff.event(CAEP + "session-revoked"))
        assert (answer.status_code, answer.content) == (202, b"")
        assert made.world.facts.revocation_of(ADA) is not None

    served(story)


def test_a_refusal_says_err_and_description() -> None:
    async def story(made: Scene, ask: Ask) -> None:
        answer = await ask(made.staff.event(CAEP + "session-revoked", aud="https://others.example"))
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-language"] == "en"
        said = json.loads(answer.content)
        assert said["err"] == "invalid_audience"
        assert said["description"]

    served(story)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x", {"content_type": "application/json"}, 400),
        (b"x", {"content_type": "application/jwt"}, 400),
        (b"x", {"content_encoding": "gzip"}, 400),
        (b"", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"x" * 40_000, {}, 413),
        (b"a.b.c", {}, 400),
    ],
)
def test_a_body_that_is_no_event_is_refused(body: bytes, headers: dict[str, str], status: int) -> None:
    async def story(made: Scene, ask: Ask) -> None:
        assert (await ask(body, **headers)).status_code == status
        assert made.world.facts.revocations == {}

    served(story)


def test_a_bearer_token_is_asked_for_where_the_settings_name_one() -> None:
    async def story(made: Scene, ask: Ask) -> None:
        event = made.staff.event(CAEP + "session-revoked")
        for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic c2VjcmV0"}, {"authorization": "Bearer "}):
            answer = await ask(event, **given)
            assert (answer.status_code, answer.json()["err"]) == (401, "authentication_failed")
        assert (await ask(event, authorization="Bearer s3cret")).status_code == 202

    served(story, token="s3cret")


def test_what_waiting_may_cure_is_to_be_tried_again() -> None:
    async def away(transmitter: str, token: str, peer: str) -> Any:
        raise (LimitExceeded if token == "many" else Unavailable)("not now", remedy="later")

    async def story(made: Scene, ask: Ask) -> None:
        busy, gone = await ask(b"many"), await ask(b"gone")
        assert (busy.status_code, gone.status_code) == (429, 503)
        assert busy.headers["retry-after"] == gone.headers["retry-after"]

    served(story, control=Remote({"sts.event": away}))


def test_an_unknown_transmitter_and_other_methods_are_told() -> None:
    async def story(made: Scene, ask: Ask) -> None:
        assert (await ask(b"x", path="/ssf/events/nobody")).status_code == 404
        assert (await ask(b"x", path="/ssf/events/staff?x=1")).status_code == 400
        assert (await ask(b"x", path="/ssf/events/staff/more")).status_code == 404

    served(story)


def test_our_own_stream_describes_itself() -> None:
    async def go() -> None:
        desk = Desk(Remote({}))
        routes = ssf.routes(desk, expected_token=lambda name: "", url="https://us.example", issuer="https://us.example/events")
        app = build_app(desk, requests_per_second=100.0, monotonic=lambda: 0.0, more=routes)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://us.example") as client:
            said = (await client.get("/.well-known/ssf-configuration")).json()
        assert said["issuer"] == "https://us.example/events"
        assert said["jwks_uri"] == "https://us.example/jwks"
        assert said["delivery_methods_supported"] == ["urn:ietf:rfc:8935"]

    asyncio.run(go())
