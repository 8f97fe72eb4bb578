"""The way out against real servers on loopback: slow, dripping, huge, compressed, redirecting, with the wrong certificate."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vouchgate.ports.http import Destination, HttpClient, check_address, origin_of
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotPermitted, Unavailable, Unverified, VouchgateError

Talk = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def plain(body: bytes, *, status: str = "200 OK", **headers: str) -> Talk:
    async def talk(_: bytes, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    return talk


def served(talk: Talk, ask: Callable[[HttpClient, str], Awaitable[Any]], *, tls: ssl.SSLContext | None = None, **options: Any) -> Any:
    """Run one server and one question; gives the answer and what the server heard."""
    heard: list[bytes] = []

    async def go() -> Any:
        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(one.split(b":")[1]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:")), 0)
                heard.append(head + await reader.readexactly(length))
                await talk(heard[-1], writer)
                await writer.drain()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        scheme, host = ("https" if tls else "http"), options.pop("host", "127.0.0.1")
        base = f"{scheme}://{host}:{port}"
        destination = Destination(options.pop("origin", base), ca_file=options.pop("ca_file", ""))
        client = HttpClient([destination], **{"total_seconds": 1.0, "read_seconds": 0.3, "connect_seconds": 0.5, **options})
        try:
            return await ask(client, base)
        finally:
            server.close()

    return asyncio.run(go()), heard


def refused(kind: type[VouchgateError], talk: Talk, ask: Callable[[HttpClient, str], Awaitable[Any]] | None = None, **options: Any) -> str:
    async def get(client: HttpClient, base: str) -> Any:
        return await client.get(base + "/keys?secret=hush")

    with pytest.raises(kind) as told:
        served(talk, ask or get, **options)
    assert type(told.value) is kind
    assert "hush" not in told.value.reason
    assert told.value.remedy
    return told.value.reason


async def get(client: HttpClient, base: str) -> Any:
    return await client.get(base + "/keys")


async def post(client: HttpClient, base: str) -> Any:
    return await client.post(base + "/token", b"a=1", content_type="application/x-www-form-urlencoded")


def test_an_answer_comes_back_whole_and_the_question_names_the_host() -> None:
    answer, heard = served(plain(b"{}", etag="one"), get)
    assert (answer.status, answer.body, answer.headers["etag"]) == (200, b"{}", "one")
    assert heard[0].startswith(b"GET /keys HTTP/1.1\r\n")
    assert b"host: 127.0.0.1:" in heard[0].lower()
    assert b"cookie" not in heard[0].lower()


def test_a_post_carries_its_body_once() -> None:
    answer, heard = served(plain(b"ok", status="400 Bad Request"), post)
    assert answer.status == 400
    assert heard[0].endswith(b"\r\n\r\na=1")


def test_a_name_is_resolved_here_and_said_as_host() -> None:
    answer, heard = served(plain(b"ok"), get, host="localhost")
    assert answer.body == b"ok"
    assert b"host: localhost:" in heard[0].lower()


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert served(plain(b"ok"), get)[0].body == b"ok"


def test_another_origin_is_not_asked() -> None:
    reason = refused(NotPermitted, plain(b"ok"), origin="http://127.0.0.1:1")
    assert "not a destination" in reason


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://127.0.0.1/", "file:///etc/passwd", "https://", "https://user@host/", "https://user:pw@host/",
        "https://host:0/", "https://host:65536/", "https://host:443:1/", "https://host/\r\nx: y", "https://host/ a", "https://ho st/",
        "https://host\\@evil/", "//host/", "", "https://[::1", "https://h\u00f6st/", "https://host/#fragment", "https://" + "a" * 3000,
        "http://127.0.0.1.evil.test/", "http://localhost.evil.test/", "http://2130706433.evil/", "HTTP://127.0.0.1/",
    ],
)  # fmt: skip
def test_what_is_not_a_plain_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        origin_of(url)


def test_one_origin_has_one_spelling() -> None:
    assert origin_of("https://IdP.Example") == origin_of("https://idp.example:443/a?b=c") == "https://idp.example:443"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "169.254.169.254", "::1", "fe80::1", "fe80::1%2", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255",
        "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::",
    ],
)  # fmt: skip
def test_a_public_name_never_leads_inside(address: str) -> None:
    with pytest.raises(NotPermitted):
        check_address("idp.example", address, loopback=False, private=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0", "::ffff:127.0.0.1", "2002:a9fe:a9fe::"])
def test_a_private_name_still_never_leads_to_this_machine_or_its_metadata(address: str) -> None:
    with pytest.raises(NotPermitted):
        check_address("idp.corp", address, loopback=False, private=True)


def test_private_and_public_addresses_pass_where_they_may() -> None:
    check_address("idp.corp", "10.1.2.3", loopback=False, private=True)
    check_address("idp.example", "93.184.216.34", loopback=False, private=False)
    check_address("localhost", "127.0.0.1", loopback=True, private=False)


def test_a_loopback_name_that_leads_elsewhere_is_refused() -> None:
    with pytest.raises(NotPermitted):
        check_address("localhost", "93.184.216.34", loopback=True, private=True)


def test_a_name_that_rebinds_is_refused_before_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rebound(self: Any, *_: Any, **__: Any) -> Any:
        return [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("127.0.0.1", 443))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", rebound)

    async def go() -> None:
        await HttpClient([Destination("https://idp.example")]).get("https://idp.example/")

    with pytest.raises(NotPermitted):
        asyncio.run(go())


async def silent(_: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(2)


async def dripping(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    for _ in range(200):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def dripping_head(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(200):
        writer.write(b"x-%d: y\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.02)


async def breaking(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")


async def nothing(_: bytes, writer: asyncio.StreamWriter) -> None:
    return


async def noise(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01\x00garbage\r\n\r\n" * 100)


async def endless_head(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2_000_000 + b"\r\n\r\n")


@pytest.mark.parametrize("talk", [silent, dripping, dripping_head, breaking, nothing, noise, endless_head])
def test_a_server_that_is_slow_or_breaks_off_is_unavailable(talk: Talk) -> None:
    refused(Unavailable, talk, total_seconds=0.4, read_seconds=0.2)


def test_nobody_listens() -> None:
    async def elsewhere(client: HttpClient, base: str) -> Any:
        return await HttpClient([Destination("http://127.0.0.1:1")]).get("http://127.0.0.1:1/")

    refused(Unavailable, plain(b""), elsewhere)


async def chunked_flood(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(400):
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


def test_too_many_bytes_are_cut_off() -> None:
    refused(LimitExceeded, plain(b"x" * 2_000_000))
    refused(LimitExceeded, chunked_flood)


def test_a_declared_length_over_the_bound_is_refused_unread() -> None:
    async def promised(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n")

    refused(LimitExceeded, promised)


def test_gzip_is_unpacked_within_the_bound() -> None:
    assert served(plain(gzip.compress(b"{}" * 100), content_encoding="gzip"), get)[0].body == b"{}" * 100


def test_a_gzip_bomb_is_cut_off() -> None:
    refused(LimitExceeded, plain(gzip.compress(b"\0" * 50_000_000), content_encoding="gzip"))


@pytest.mark.parametrize("body", [gzip.compress(b"x" * 1000, mtime=0)[:-12], b"not gzip at all"])
def test_broken_gzip_is_unavailable(body: bytes) -> None:
    refused(Unavailable, plain(body, content_encoding="gzip"))


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_other_encodings_are_refused(encoding: str) -> None:
    refused(Unavailable, plain(b"x", content_encoding=encoding))


def test_a_redirect_within_the_origin_is_followed() -> None:
    async def talk(head: bytes, writer: asyncio.StreamWriter) -> None:
        moved = head.startswith(b"GET /keys")
        await (plain(b"", status="302 Found", location="/there?x=1") if moved else plain(b"here"))(head, writer)

    answer, heard = served(talk, get)
    assert answer.body == b"here"
    assert heard[1].startswith(b"GET /there?x=1 ")


@pytest.mark.parametrize("to", ["http://127.0.0.1:1/", "https://evil.example/"])
def test_a_redirect_to_another_origin_is_refused(to: str) -> None:
    assert "another origin" in refused(NotPermitted, plain(b"", status="302 Found", location=to))


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://169.254.169.254/latest", "//evil.example/x", "http://user@127.0.0.1/"])
def test_a_redirect_to_no_address_is_refused(to: str) -> None:
    refused(InvalidInput, plain(b"", status="302 Found", location=to))


def test_a_redirect_that_is_no_url_is_refused() -> None:
    refused(Unavailable, plain(b"", status="302 Found", location="javascript:alert(1)"))


def test_a_circle_of_redirects_ends() -> None:
    refused(LimitExceeded, plain(b"", status="301 Moved", location="/keys"))


def test_a_post_is_never_sent_on() -> None:
    answer, heard = served(plain(b"", status="307 Temporary Redirect", location="/elsewhere"), post)
    assert answer.status == 307
    assert len(heard) == 1


def _certificate(folder: Path, name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any, Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    )
    made = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    certificate_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return made, key, certificate_file, key_file


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("pki")
    ca = _certificate(folder, "ca.test")
    good, wrong = (_certificate(folder, name, (ca[0], ca[1])) for name in ("localhost", "other.test"))

    def context(made: tuple[Any, Any, Path, Path]) -> ssl.SSLContext:
        one = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        one.load_cert_chain(made[2], made[3])
        return one

    return {"ca": str(ca[2]), "good": context(good), "wrong": context(wrong), "itself": context(ca)}


def test_tls_is_verified_against_the_named_authorities(pki: Any) -> None:
    answer, _ = served(plain(b"ok"), get, tls=pki["good"], host="localhost", ca_file=pki["ca"])
    assert answer.body == b"ok"


def test_a_certificate_of_another_name_is_refused(pki: Any) -> None:
    refused(Unverified, plain(b"ok"), tls=pki["wrong"], host="localhost", ca_file=pki["ca"])
    refused(Unverified, plain(b"ok"), tls=pki["good"], host="127.0.0.1", ca_file=pki["ca"])


def test_an_unknown_authority_is_refused(pki: Any) -> None:
    refused(Unverified, plain(b"ok"), tls=pki["good"], host="localhost")
    refused(Unverified, plain(b"ok"), tls=pki["itself"], host="localhost")


def test_plain_http_where_tls_is_expected_is_unavailable(pki: Any) -> None:
    async def as_tls(client: HttpClient, base: str) -> Any:
        origin = base.replace("http://", "https://")
        return await HttpClient([Destination(origin, ca_file=pki["ca"])], total_seconds=1, connect_seconds=0.5).get(origin + "/")

    refused(Unavailable, plain(b"ok"), as_tls)


def test_an_unreadable_authority_file_is_told(tmp_path: Path, pki: Any) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    refused(InvalidInput, plain(b"ok"), tls=pki["good"], host="localhost", ca_file=str(tmp_path / "empty.pem"))


def test_a_host_header_of_the_caller_does_not_count() -> None:
    async def lying(client: HttpClient, base: str) -> Any:
        return await client.get(base + "/", headers={"host": "evil.example"})

    _, heard = served(plain(b"ok"), lying)
    assert b"evil" not in heard[0]


def test_a_header_with_a_line_break_is_not_sent() -> None:
    async def split(client: HttpClient, base: str) -> Any:
        return await client.get(base + "/", headers={"authorization": "Bearer a\r\nx-admin: 1"})

    refused(Unavailable, plain(b"ok"), split)


def test_many_at_once_do_not_wait_for_one_that_hangs() -> None:
    async def talk(head: bytes, writer: asyncio.StreamWriter) -> None:
        await (silent if b"GET /slow" in head else plain(b"ok"))(head, writer)

    async def ask(client: HttpClient, base: str) -> Any:
        slow = [asyncio.ensure_future(client.get(base + "/slow")) for _ in range(4)]
        quick = await asyncio.wait_for(asyncio.gather(*(client.get(base + "/") for _ in range(8))), 2)
        told = await asyncio.gather(*slow, return_exceptions=True)
        return quick, told

    (quick, told), _ = served(talk, ask)
    assert {one.body for one in quick} == {b"ok"}
    assert {type(one) for one in told} == {Unavailable}
