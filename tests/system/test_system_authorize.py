"""A client that a person runs, through the real tree: authorised by a login with a provider, its code redeemed once, its token good at the gateway."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from installation import INFER_PATH, TRUST_DOMAIN, Installation
from test_system_people import WallClock, provider  # noqa: F401 - a fixture

from vouchgate.edges.cli.keys import dpop_proof

VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "http://127.0.0.1:4000/cb"
ADA = f"spiffe://{TRUST_DOMAIN}/person/staff/ada"
POLICY = """@id("consent") permit (principal in Group::"callers", action == Action::"exchange", resource is Endpoint in Zone::"serve");
"""
assert WallClock


@pytest.fixture(scope="module")
def house(provider) -> Iterator[Installation]:  # noqa: F811
    with tempfile.TemporaryDirectory(prefix="vg", dir="/tmp") as folder:
        policy = Path(folder) / "consent.cedar"
        policy.write_text(POLICY)
        more = f"""
[[policies]]
path = "{policy}"

[sts]
listen = "127.0.0.1:0"

[[sts.clients]]
id = "mcp-client"
redirects = ["http://127.0.0.1/cb"]

[[oidc]]
name = "staff"
issuer = "{provider.issuer}"
client_id = "vouchgate"
groups = {{ "ml-team" = "callers" }}
"""
        with Installation(more=more, folder=Path(folder)) as running:
            running.caller("alice")
            yield running


def ask(house: Installation, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
    port = json.loads((house.data / "vouchgate.json").read_text())["sts"].rpartition(":")[2]
    context = ssl.create_default_context(cafile=str(house._bundle))
    link = http.client.HTTPSConnection("localhost", int(port), context=context, timeout=10)
    link.request(method, path, body or None, headers)
    answer = link.getresponse()
    answer.text = answer.read().decode()  # type: ignore[attr-defined]
    link.close()
    return answer


def wish(**changes: str) -> str:
    asked = {
        "response_type": "code", "client_id": "mcp-client", "redirect_uri": REDIRECT, "scope": "infer:digits", "state": "state-1234",
        "code_challenge": CHALLENGE, "code_challenge_method": "S256", "resource": f"vg://{TRUST_DOMAIN}/endpoint/digits",
    }  # fmt: skip
    return f"/authorize?{urlencode(asked | changes)}"


def code_of(house: Installation, provider) -> str:  # noqa: F811
    begun = ask(house, "GET", wish())
    assert begun.status == 303, begun.text
    sent = ask(house, "GET", begun.headers["location"])
    assert sent.status == 303, sent.text
    assert sent.headers["location"].startswith(provider.issuer)
    cookie = sent.headers["set-cookie"].partition(";")[0]
    back = provider.authorize(sent.headers["location"])
    path = f"/login/callback?{urlencode({'state': back.state, 'code': back.code, 'iss': back.iss})}"
    assert ask(house, "GET", path).status == 400, "another browser has no cookie"
    home = ask(house, "GET", path, cookie=cookie)
    assert home.status == 303, home.text
    assert home.headers["location"].startswith(REDIRECT)
    said = parse_qs(urlsplit(home.headers["location"]).query)
    assert said["state"] == ["state-1234"]
    return said["code"][0]


def redeem(house: Installation, code: str, **headers: str) -> tuple[int, dict[str, str]]:
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "client_id": "mcp-client", "code_verifier": VERIFIER,
    }  # fmt: skip
    made = ask(house, "POST", "/token", urlencode(form), **({"content-type": "application/x-www-form-urlencoded"} | headers))
    return made.status, json.loads(made.text)  # type: ignore[attr-defined]


def test_a_person_lets_a_client_call_and_takes_it_back(house: Installation, provider) -> None:  # noqa: F811
    code = code_of(house, provider)
    status, said = redeem(house, code)
    assert status == 200, said
    assert (said["token_type"], said["scope"]) == ("Bearer", "infer:digits")
    token = said["access_token"]
    house.until(lambda: house.bearer(token).status == 200, 10, "the client was not let in")
    assert house.call(None, "/v2/models/digits", method="GET", body=b"", headers={"authorization": f"Bearer {token}"}).status == 403
    assert redeem(house, code)[0] == 400
    house.until(lambda: house.bearer(token).status in {401, 403}, 2, "a code that was used twice did not strike its token")


def test_a_clients_token_may_be_bound_to_its_key(house: Installation, provider) -> None:  # noqa: F811
    key = next(house.folder.glob("alice-*.key")).read_bytes()
    port = json.loads((house.data / "vouchgate.json").read_text())["sts"].rpartition(":")[2]

    def proof(url: str, token: str = "") -> str:
        ath = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode() if token else ""
        return dpop_proof(key, "POST", url, time.time_ns() // 1_000_000, ath=ath)

    code, said = code_of(house, provider), {}

    def given() -> bool:
        nonlocal said
        status, said = redeem(house, code, dpop=proof(f"https://localhost:{port}/token"))
        return status == 200

    # for some seconds after its start the service cannot tell a proof from one that was used before; the code is not spent on it
    house.until(given, 15, "nothing was given", pause=0.2)
    assert said["token_type"] == "DPoP"
    token = said["access_token"]
    url = f"https://localhost:{house.gateway[1]}{INFER_PATH}"
    assert house.infer(None, headers={"authorization": f"DPoP {token}", "dpop": proof(url, token)}).status == 200
    assert house.bearer(token).status == 401
    house.revoke(ADA)
    assert house.infer(None, headers={"authorization": f"DPoP {token}", "dpop": proof(url, token)}).status == 403


@pytest.mark.parametrize(
    "changes", [{"redirect_uri": "https://evil.example/cb"}, {"client_id": "nobody"}, {"code_challenge_method": "plain"}, {"resource": "x"}]
)
def test_a_wish_that_is_not_allowed_is_told_here_and_redirects_nowhere(changes: dict[str, str], house: Installation) -> None:
    made = ask(house, "GET", wish(**changes))
    assert made.status == 400
    assert "location" not in made.headers
