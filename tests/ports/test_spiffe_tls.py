"""A server that proves itself by an SVID: the id must be the one, its CA one of those given, and nothing of the web's rules helps."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.identity.ca import make_ca
from vouchgate.ports.http import Destination, HttpClient
from vouchgate.ports.spiffe_tls import context
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError

TD = "partner.example"
WANTED = f"spiffe://{TD}/bundle"
NOW = int(time.time() * 1000)
CA_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
CA, OTHER = (make_ca(TD, key, now=NOW, days=10) for key in (CA_KEY, OTHER_KEY))


def leaf(
    uris: list[str], *, dns: Sequence[str] = (), ca: bytes = CA, ca_key: ec.EllipticCurvePrivateKey = CA_KEY, days: int = 1
) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_der_x509_certificate(ca)
    now = datetime.datetime.now(datetime.UTC)
    names = [*(x509.UniformResourceIdentifier(uri) for uri in uris), *(x509.DNSName(name) for name in dns)]
    builder = (
        x509.CertificateBuilder(
            issuer_name=issuer.subject, subject_name=x509.Name([]), public_key=key.public_key(), serial_number=x509.random_serial_number()
        )
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    made = builder.sign(ca_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return made.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@contextlib.asynccontextmanager
async def server(chain: bytes, key: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(Exception):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(chain + key)
        made.load_cert_chain(file.name)
    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=made)
    try:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}", heard
    finally:
        listening.close()


def ask(presented: tuple[bytes, bytes], authorities: list[bytes], wanted: str = WANTED) -> tuple[int | VouchgateError, list[bytes]]:
    async def go() -> tuple[int | VouchgateError, list[bytes]]:
        async with server(*presented) as (url, heard):
            client = HttpClient([Destination(url, context=context(authorities, wanted))])
            try:
                return (await client.get(f"{url}/bundle")).status, heard
            except VouchgateError as error:
                return error, heard

    return asyncio.run(go())


@pytest.mark.parametrize("dns", [[], ["elsewhere.test"]])
def test_the_named_server_is_asked_whatever_its_host_name(dns: list[str]):
    assert ask(leaf([WANTED], dns=dns), [CA])[0] == 200
    assert ask(leaf([WANTED], dns=dns), [OTHER, CA])[0] == 200


@pytest.mark.parametrize(
    ("uris", "more"),
    [
        ([f"spiffe://{TD}/other"], {}),
        ([f"spiffe://{TD}/bundle/x"], {}),
        ([f"spiffe://{TD.upper()}/bundle"], {}),
        ([WANTED, f"spiffe://{TD}/other"], {}),
        ([WANTED, WANTED], {}),
        ([], {"dns": ["127.0.0.1", TD]}),
        ([WANTED], {"ca": OTHER, "ca_key": OTHER_KEY}),
        ([WANTED], {"days": -1}),
    ],
)
def test_another_server_hears_nothing(uris: list[str], more: dict[str, object]):
    said, heard = ask(leaf(uris, **more), [CA])  # type: ignore[arg-type]
    assert isinstance(said, VouchgateError) and heard == []


def test_the_systems_authorities_do_not_count():
    with pytest.raises(InvalidInput):
        context([b"no certificate"], WANTED)
    said, heard = ask(leaf([WANTED]), [OTHER])
    assert isinstance(said, VouchgateError) and heard == []
