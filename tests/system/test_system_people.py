"""A person through the real tree: logged in with a provider, calling with a token of theirs, out when the provider says so, and in again."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import TRUST_DOMAIN, Installation

sys.path.insert(0, str(Path(__file__).parent.parent / "flows"))

from people_world import Provider

from vouchgate.edges.cli.client import Client
from vouchgate.identity.sets import CAEP, MEDIA, RISC
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity, LoggedIn, LoginBegun
from vouchgate.vocabulary.base64url import unb64
from vouchgate.vocabulary.errors import VouchgateError

ADA = f"spiffe://{TRUST_DOMAIN}/person/staff/ada"
WITHIN = 1.0
"""Seconds within which somebody who is out is out everywhere."""


class WallClock:
    @property
    def at(self) -> int:
        return int(time.time() * 1000)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made = Provider(WallClock())  # type: ignore[arg-type]
    asyncio.run_coroutine_threadsafe(made.start(), loop).result(10)
    yield made
    asyncio.run_coroutine_threadsafe(made.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture(scope="module")
def house(provider: Provider) -> Iterator[Installation]:
    more = f"""
[sts]
listen = "127.0.0.1:0"

[[oidc]]
name = "staff"
issuer = "{provider.issuer}"
client_id = "vouchgate"
groups = {{ "ml-team" = "callers" }}

[ssf]
issuer = "https://us.example"

[[ssf.transmitters]]
name = "staff"
provider = "staff"
issuer = "{provider.issuer}"
audience = "https://us.example"

[[ssf.receivers]]
name = "soc"
url = "{provider.issuer}/events"
audience = "https://soc.example"
"""
    with Installation(more=more) as running:
        yield running


def log_in(house: Installation, provider: Provider) -> LoggedIn:
    asked = {"provider": "staff", "redirect_uri": "http://127.0.0.1:4000/callback"}
    begun = house.client.post(LoginBegun, "/api/v1/login/begin", asked)
    back = provider.authorize(begun.url)
    finish = {"state": back.state, "code": back.code, "iss": back.iss, "binding": begun.binding}
    return house.client.post(LoggedIn, "/api/v1/login/finish", finish)


def tell(house: Installation, token: str) -> int:
    """What a transmitter does."""
    port = json.loads((house.data / "vouchgate.json").read_text())["sts"].rpartition(":")[2]
    context = ssl.create_default_context(cafile=str(house._bundle))
    connection = http.client.HTTPSConnection("localhost", int(port), context=context, timeout=5)
    connection.request("POST", "/ssf/events/staff", token, {"content-type": MEDIA})
    status = connection.getresponse().status
    connection.close()
    return status


def told_of(provider: Provider) -> int:
    """How many revocations the receiver was told of."""
    return sum("session-revoked" in (unb64(token.split(".")[1]) or b"").decode() for token in provider.received)


def refused(client: Client) -> bool:
    try:
        client.get(LoggedIn, "/api/v1/whoami")
    except VouchgateError as error:
        return error.code in {"not-logged-in", "unverified", "error"}
    return False


def test_a_person_is_out_within_a_second_and_in_again_by_a_new_login(house: Installation, provider: Provider) -> None:
    house.caller("alice")
    made = log_in(house, provider)
    assert (made.principal, made.groups) == (ADA, ("callers",))
    me = Client(house.layout.api_socket, bearer=made.token)
    assert me.get(LoggedIn, "/api/v1/whoami").principal == ADA
    asked = IdentityRequest(kind="person", zone="staff", name="ada", form="jwt", audience="digits")
    token = house.client.post(IssuedIdentity, "/api/v1/identities", asked).token
    house.until(lambda: house.bearer(token).status == 200, 10, "ada was not let in")

    assert tell(house, provider.event(CAEP + "session-revoked")) == 202
    house.until(lambda: house.bearer(token).status in {401, 403} and refused(me), WITHIN, "ada was not out")
    house.until(lambda: told_of(provider) == 1, 5, "the receiver, who is another, was not told")

    again = log_in(house, provider)
    assert Client(house.layout.api_socket, bearer=again.token).get(LoggedIn, "/api/v1/whoami").principal == ADA
    assert refused(me)
    assert house.bearer(token).status in {401, 403}
    fresh = house.client.post(IssuedIdentity, "/api/v1/identities", asked).token
    house.until(lambda: house.bearer(fresh).status == 200, 10, "ada was not let in again")


def test_the_command_line_says_who_one_is_and_the_log_who_came(house: Installation, provider: Provider) -> None:
    said = house.cli("whoami")
    assert said.returncode == 0
    log = json.dumps([str(one) for one in house.entries()])
    assert "login:staff" in log
    assert "source-keys" in log


def test_what_we_revoke_is_told_to_the_receiver(house: Installation, provider: Provider) -> None:
    before = told_of(provider)
    house.revoke(ADA)
    house.until(lambda: told_of(provider) > before, 5, "the receiver was not told")


def test_a_disabled_person_stays_out(house: Installation, provider: Provider) -> None:
    assert tell(house, provider.event(RISC + "account-disabled", sub="bob")) == 202
    begun = house.client.post(LoginBegun, "/api/v1/login/begin", {"provider": "staff", "redirect_uri": "http://127.0.0.1:4000/callback"})
    back = provider.authorize(begun.url, sub="bob")
    finish: dict[str, Any] = {"state": back.state, "code": back.code, "iss": back.iss, "binding": begun.binding}
    with pytest.raises(VouchgateError, match="revoked"):
        house.client.post(LoggedIn, "/api/v1/login/finish", finish)


def test_a_browser_sees_whom_to_log_in_with(house: Installation) -> None:
    console = house.status().console.removeprefix("http://")
    connection = http.client.HTTPConnection(console, timeout=5)
    connection.request("GET", "/api/v1/login", headers={"host": console})
    assert json.loads(connection.getresponse().read()) == [{"name": "staff", "title": "staff"}]
    connection.close()
