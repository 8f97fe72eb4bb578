"""The token service's edge: what it lets through to the control plane, how it says no, and who is at the other end of its TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.edges.sts import answers
from vouchgate.edges.sts.app import ROUTES, build_app
from vouchgate.edges.sts.desk import Desk
from vouchgate.edges.sts.server import TlsServer
from vouchgate.identity.ca import make_ca, spki_of
from vouchgate.identity.x509svid import issue_x509
from vouchgate.vocabulary.errors import LimitExceeded, NotPermitted, Unavailable, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis

TD = "test.local"
FORM = {"content-type": "application/x-www-form-urlencoded"}
CA_KEY, OTHER_CA_KEY, KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))


class Control:
    """The control plane: what it was asked, and what it says."""

    def __init__(self, says: Any = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.says = says if says is not None else {"access_token": "a.b.c"}

    async def call(self, method: str, /, **params: Any) -> Any:
        self.asked.append((method, params))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Steady:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def ask(
    control: Control, method: str, path: str, *, per_second: float = 1_000.0, times: int = 1, steady: Any = None, **more: Any
) -> httpx.Response:
    async def go() -> httpx.Response:
        app = build_app(Desk(control), requests_per_second=per_second, monotonic=steady or Steady())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://sts.example") as client:
            for _ in range(times - 1):
                await client.request(method, path, **more)
            return await client.request(method, path, **more)

    return asyncio.run(go())


def test_a_form_is_carried_and_the_answer_is_not_kept() -> None:
    control = Control()
    made = ask(control, "POST", "/token", data={"grant_type": "g", "scope": "a b"}, headers={"dpop": "proof"})
    assert made.json() == {"access_token": "a.b.c"}
    assert made.headers["cache-control"] == "no-store"
    ((method, params),) = control.asked
    assert method == "sts.token"
    assert params["form"] == {"grant_type": "g", "scope": "a b"}
    assert (params["proof"], params["chain"]) == ("proof", [])


BAD: list[tuple[str, str, str, dict[str, Any], int, str]] = [
    ("no body", "POST", "/token", {}, 400, "invalid_request"),
    ("json for a form", "POST", "/token", {"json": {"grant_type": "g"}}, 400, "invalid_request"),
    ("a parameter twice", "POST", "/token", {"content": b"grant_type=a&grant_type=b", "headers": FORM}, 400, "invalid_request"),
    ("an unknown parameter", "POST", "/token", {"content": b"x=1", "headers": FORM}, 400, "invalid_request"),
    ("a parameter in the query", "POST", "/token?grant_type=a", {"content": b"scope=b", "headers": FORM}, 400, "invalid_request"),
    ("no pairs", "POST", "/token", {"content": b"abc", "headers": FORM}, 400, "invalid_request"),
    ("bad bytes", "POST", "/token", {"content": b"scope=\xff", "headers": FORM}, 400, "invalid_request"),
    ("bad escapes", "POST", "/token", {"content": b"scope=%ff%fe", "headers": FORM}, 400, "invalid_request"),
    ("too many", "POST", "/token", {"content": b"&".join(b"a%d=1" % n for n in range(50)), "headers": FORM}, 400, "invalid_request"),
    ("too long", "POST", "/token", {"content": b"scope=" + b"a" * 70_000, "headers": FORM}, 429, "slow_down"),
    ("compressed", "POST", "/token", {"content": b"scope=a", "headers": FORM | {"content-encoding": "gzip"}}, 400, "invalid_request"),
    (
        "two proofs",
        "POST",
        "/token",
        {"content": b"scope=a", "headers": [*FORM.items(), ("dpop", "a"), ("dpop", "b")]},
        400,
        "invalid_request",
    ),
    ("not json", "POST", "/attest", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_request"),
    ("json of another shape", "POST", "/attest", {"json": {"attestor": "x"}}, 400, "invalid_request"),
    (
        "an unknown member",
        "POST",
        "/attest",
        {"json": {"attestor": "x", "evidence": {}, "nonce": "n", "spki": "s", "more": 1}},
        400,
        "invalid_request",
    ),
    ("deep json", "POST", "/attest", {"content": b"[" * 20_000, "headers": {"content-type": "application/json"}}, 400, "invalid_request"),
    ("another kind of nonce", "GET", "/nonce?kind=x", {}, 400, "invalid_request"),
    ("a nonce asked twice", "GET", "/nonce?kind=text&kind=text", {}, 400, "invalid_request"),
    ("no such place", "GET", "/nowhere", {}, 404, "invalid_request"),
    ("another method", "GET", "/token", {}, 404, "invalid_request"),
    ("a slash more", "POST", "/token/", {"content": b"scope=a", "headers": FORM}, 404, "invalid_request"),
    ("an unknown wish", "GET", "/authorize?x=1", {}, 400, "invalid_request"),
    ("a callback of no browser", "GET", "/login/callback?state=s&code=c", {}, 400, "invalid_request"),
    (
        "a callback with a made-up cookie",
        "GET",
        "/login/callback?state=s",
        {"headers": {"cookie": "__Host-vouchgate-login=a.b"}},
        400,
        "invalid_request",
    ),
]


@pytest.mark.parametrize(("method", "path", "more", "status", "error"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_what_is_malformed_never_reaches_the_control_plane(method: str, path: str, more: dict[str, Any], status: int, error: str) -> None:
    control = Control()
    made = ask(control, method, path, **more)
    assert (made.status_code, made.json()["error"]) == (status, error), made.text
    assert made.json()["error_description"]
    assert made.json()["remedy"]
    assert made.headers["cache-control"] == "no-store"
    assert not control.asked


@pytest.mark.parametrize(
    ("says", "status", "error"),
    [
        ({"denied": {"code": "invalid-grant", "reason": "r", "remedy": "m"}}, 400, "invalid_grant"),
        ({"denied": {"code": "invalid-client", "reason": "r", "remedy": "m"}}, 401, "invalid_client"),
        ({"denied": {"code": "access-denied", "reason": "r", "remedy": "m"}}, 403, "access_denied"),
        ({"denied": {"code": "invalid-dpop-proof", "reason": "r", "remedy": "m"}}, 400, "invalid_dpop_proof"),
        (Unavailable("away", remedy="wait"), 503, "temporarily_unavailable"), (LimitExceeded("much", remedy="wait"), 429, "slow_down"),
        (NotPermitted("no", remedy="ask"), 403, "access_denied"), (VouchgateError("x", remedy="y"), 500, "server_error"),
        (RuntimeError("a secret in a text"), 500, "server_error"),
    ],
)  # fmt: skip
def test_every_no_has_one_form_and_tells_no_secret(says: Any, status: int, error: str) -> None:
    made = ask(Control(says), "POST", "/token", data={"scope": "a"})
    assert (made.status_code, made.json()["error"]) == (status, error)
    assert set(made.json()) == {"error", "error_description", "remedy"}
    assert "secret" not in made.text
    assert ("www-authenticate" in made.headers) is (status == 401)
    assert ("retry-after" in made.headers) is (status in (429, 503))


def test_a_client_has_a_rate() -> None:
    control = Control()
    made = ask(control, "POST", "/token", per_second=2, times=5, data={"scope": "a"})
    assert made.status_code == 429
    assert len(control.asked) == 4


def test_a_body_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "BODY_SECONDS", 0.05)

    async def dripping() -> AsyncIterator[bytes]:
        yield b"scope="
        await asyncio.sleep(60)

    made = ask(Control(), "POST", "/token", content=dripping(), headers=FORM)
    assert made.status_code == 400


def test_a_login_keeps_its_secret_in_this_browser_alone() -> None:
    made = ask(Control({"url": "https://idp.example/authorize?x=1", "binding": "b" * 43}), "GET", f"/login?return={'r' * 32}")
    assert (made.status_code, made.headers["location"]) == (303, "https://idp.example/authorize?x=1")
    cookie = made.headers["set-cookie"].lower()
    assert cookie.startswith("__host-vouchgate-login=")
    assert all(flag in cookie for flag in ("httponly", "secure", "samesite=lax", "path=/"))
    assert "domain" not in cookie


def test_the_page_of_providers_holds_nothing_of_the_query() -> None:
    evil = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"
    made = ask(Control({"providers": [{"name": "corp", "title": "<b>Corp</b>"}]}), "GET", f"/login?return={evil}")
    assert "<script" not in made.text
    assert "<b>" not in made.text
    assert "default-src 'none'" in made.headers["content-security-policy"]
    assert made.headers["x-frame-options"] == "DENY"


def test_every_route_is_listed_once() -> None:
    assert len({(method, path) for method, path, _ in ROUTES}) == len(ROUTES)


# -- TLS

NOW = UnixMillis(int(datetime.datetime.now(datetime.UTC).timestamp() * 1000))


def certificate(name: str, ca_key: ec.EllipticCurvePrivateKey = CA_KEY, dns: tuple[str, ...] = ()) -> tuple[str, bytes, str]:
    """(certificate, key, CA) as PEM."""
    der = make_ca(TD, ca_key, now=NOW, days=1)
    ca = x509.load_der_x509_certificate(der)
    made = issue_x509(
        spki_of(KEY.public_key()), f"spiffe://{TD}/{name}", ca=ca, ca_key=ca_key, trust_domain=TD, now=NOW, ttl_seconds=600, dns=dns
    )  # fmt: skip
    pem = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ssl.DER_cert_to_PEM_cert(made.chain[0]), pem, ca.public_bytes(serialization.Encoding.PEM).decode()


@contextlib.asynccontextmanager
async def served(control: Control) -> AsyncIterator[TlsServer]:
    server = TlsServer(build_app(Desk(control), requests_per_second=1_000, monotonic=Steady()))
    server.identity(*certificate("system/sts/sts", dns=("localhost",)))
    await server.listen("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.close()


def context(chain: str = "", key: bytes = b"", *, trust: str = "") -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=trust or certificate("service/x/y")[2])
    if chain:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "c.pem"
            path.write_bytes(chain.encode() + key)
            made.load_cert_chain(path)
    return made


async def posted(server: TlsServer, tls: ssl.SSLContext) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls, server_hostname="localhost")
    body = b"scope=a"
    head = f"POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM['content-type']}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    said = (await asyncio.wait_for(reader.read(), 5)).decode()
    writer.close()
    return said


def test_the_peers_certificate_reaches_the_control_plane_and_no_header_does() -> None:
    async def story() -> None:
        control = Control()
        async with served(control) as server:
            assert "200" in await posted(server, context())
            chain, key, _ = certificate("agent/agents/planner")
            assert "200" in await posted(server, context(chain, key))
            assert control.asked[0][1]["chain"] == []
            assert control.asked[1][1]["chain"][0] == ssl.PEM_cert_to_DER_cert(chain)

    asyncio.run(story())


def test_a_certificate_of_another_authority_and_old_tls_are_refused() -> None:
    async def story() -> None:
        control = Control()
        async with served(control) as server:
            chain, key, _ = certificate("agent/agents/planner", OTHER_CA_KEY)
            for tls in (context(chain, key),):
                with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError, AssertionError)):
                    assert "200" in await posted(server, tls)
            old = context()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await posted(server, old)
            assert not control.asked

    asyncio.run(story())


def test_a_renewed_certificate_and_bundle_hold_from_the_next_handshake() -> None:
    async def story() -> None:
        control = Control()
        async with served(control) as server:
            first, mine = context(), certificate("agent/agents/planner")
            assert "200" in await posted(server, first)
            renewed = certificate("system/sts/sts", OTHER_CA_KEY, dns=("localhost",))
            server.identity(*renewed)
            with pytest.raises(ssl.SSLCertVerificationError):
                await posted(server, first)
            assert "200" in await posted(server, context(trust=renewed[2]))
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                assert "200" in await posted(server, context(*mine[:2], trust=renewed[2])), "its authority is gone"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "::ffff:192.0.2.7"), ("", ""), ("unix", "unix"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"), ("2001:db8:1:2::1", "2001:db8:1:2::"), ("2001:db8:1:3::1", "2001:db8:1:3::"),
    ],
)  # fmt: skip
def test_the_addresses_that_one_host_may_choose_count_as_one(address: str, network: str) -> None:
    assert answers.network_of(address) == network


def test_one_address_does_not_take_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.edges.sts.server.MAX_PER_ADDRESS", 2)

    async def story() -> None:
        async with served(Control()) as server:
            held = [await asyncio.open_connection("127.0.0.1", server.port, ssl=context(), server_hostname="localhost") for _ in range(2)]
            for _, writer in held:
                writer.write(b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n")
            for reader, _ in held:
                await reader.readline()
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                assert "200" in await posted(server, context())
            for _, writer in held:
                writer.close()
            for _ in range(200):
                if not server._open:
                    break
                await asyncio.sleep(0.01)
            assert "200" in await posted(server, context())

    asyncio.run(story())


def test_plain_bytes_and_silence_hurt_nobody_else() -> None:
    async def story() -> None:
        async with served(Control()) as server:
            silent = socket.create_connection(("127.0.0.1", server.port))
            junk = socket.create_connection(("127.0.0.1", server.port))
            junk.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert "200" in await posted(server, context())
            silent.close()
            junk.close()

    asyncio.run(story())
