"""The same login with a server that others wrote: npm's oauth2-mock-server, over real HTTP.

Needs Node.js and `npm install oauth2-mock-server` in the folder that VOUCHGATE_NODE names; skipped where it is missing.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flows_world import NOW, TD
from people_world import Scene, scene

from vouchgate.flows.login_oidc import CallBack
from vouchgate.vocabulary.errors import Unverified

MODULES = os.environ.get("VOUCHGATE_NODE", "")
pytestmark = pytest.mark.skipif(
    not (MODULES and shutil.which("node") and (Path(MODULES) / "node_modules" / "oauth2-mock-server").is_dir()),
    reason="needs node, and VOUCHGATE_NODE naming a folder with oauth2-mock-server",
)


class Server:
    """The process, and what its next tokens say."""

    def __init__(self) -> None:
        script = Path(__file__).parent / "oauth2_mock.mjs"
        self._process = subprocess.Popen(
            ["node", str(script), MODULES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.issuer = self._process.stdout.readline().strip()
        assert self.issuer.startswith("http://127.0.0.1:")

    def say(self, **said: Any) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        # the control plane's clock is the test's
        times = {"iat": NOW // 1000, "nbf": NOW // 1000, "exp": NOW // 1000 + 300}
        said["claims"] = times | said.get("claims", {})
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == "ready"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.stop()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def followed(url: str) -> CallBack:
    """What a browser does at the provider, which lets everybody in."""
    try:
        urllib.request.build_opener(_Stay, urllib.request.ProxyHandler({})).open(url, timeout=5)
    except urllib.error.HTTPError as error:
        came = {name: values[0] for name, values in parse_qs(urlsplit(error.headers["location"]).query).items()}
        return CallBack(state=came["state"], code=came["code"], iss=came.get("iss", ""))
    raise AssertionError("it did not redirect")


async def login(made: Scene) -> Any:
    made.world.clock.at += 1_000
    begun = await made.begun()
    return (await made.people.finish(begun.binding, "browser", await asyncio.to_thread(followed, begun.url), peer="test"))[0]


def run(server: Server, story: Any, **provider: Any) -> None:
    async def go() -> None:
        async with scene(issuer=server.issuer, **provider) as made:
            await story(made)

    asyncio.run(go())


def test_a_person_logs_in(server: Server) -> None:
    async def story(made: Scene) -> None:
        server.say(claims={"sub": "ada", "groups": ["ml-team", "others"], "name": "Ada"})
        caller = await login(made)
        assert caller.principal.principal.id == f"spiffe://{TD}/person/staff/ada"
        assert made.world.facts.groups_of(caller.principal.principal.id) == ("callers",)

    run(server, story)


def test_keys_that_rotate_are_followed(server: Server) -> None:
    async def story(made: Scene) -> None:
        server.say(claims={"sub": "ada"})
        await login(made)
        made.world.clock.at += 20_000
        server.say(claims={"sub": "ada"}, rotate="ES256")
        for _ in range(4):
            await login(made)
        assert len(json.loads(made.world.facts.sources["oidc:staff"].keys)["keys"]) >= 2

    run(server, story)


def test_groups_from_userinfo(server: Server) -> None:
    async def story(made: Scene) -> None:
        server.say(claims={"sub": "ada"}, userinfo={"sub": "ada", "groups": ["ml-admins"]})
        caller = await login(made)
        assert made.world.facts.groups_of(caller.principal.principal.id) == ("role:registrar",)
        server.say(claims={"sub": "ada"}, userinfo={"sub": "eve", "groups": ["ml-admins"]})
        with pytest.raises(Unverified, match="another person"):
            await login(made)

    run(server, story, userinfo=True)


@pytest.mark.parametrize("claims", [{"iss": "https://evil.example"}, {"aud": "other"}, {"nonce": "other"}, {"exp": 1_000}, {"sub": ""}])
def test_its_lies_are_refused(server: Server, claims: dict[str, Any]) -> None:
    async def story(made: Scene) -> None:
        server.say(claims={"sub": "ada", **claims})
        with pytest.raises(Unverified):
            await login(made)
        assert not made.world.facts.registrations

    run(server, story)
