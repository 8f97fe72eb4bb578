"""Whom a process talks to: its neighbours of the tree, servers outside, and the certificates both show."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vouchgate.ports import tls
from vouchgate.ports.rpc import AsyncRpcClient, RpcClient
from vouchgate.vocabulary.errors import InvalidInput

if TYPE_CHECKING:
    from vouchgate.ports.http import HttpClient
    from vouchgate.protection.rotators import SqlAnswer, SqlAsk

server_tls = tls.server_context

peer_chain = tls.peer_chain


def rpc(path: Path, who: str, *, timeout: float = 5.0) -> RpcClient:
    """A blocking client of one of our processes."""
    return RpcClient(path, who, timeout=timeout)


def async_rpc(path: Path, who: str, *, timeout: float = 5.0) -> AsyncRpcClient:
    """An event-loop client of one of our processes."""
    return AsyncRpcClient(path, who, timeout=timeout)


def http_client(destinations: Iterable[tuple[str, str, bool]], *, spiffe: tuple[list[bytes], str] | None = None) -> HttpClient:
    """A bounded way out to exactly these (origin, file of its authorities, whether it may be private). With `spiffe`, (authorities, SPIFFE
    id), a server proves itself by its SVID instead of its name."""
    from vouchgate.ports import http, spiffe_tls

    context = spiffe_tls.context(*spiffe) if spiffe is not None else None
    return http.HttpClient(http.Destination(http.origin_of(url), ca_file, private, context) for url, ca_file, private in destinations)


def sign_with_openbao(url: str, *, mount: str, namespace: str, token: str, csr_pem: str, hours: int, server_ca: str) -> str:
    """PEM chain of a CA that OpenBao's PKI engine signed, from a command's own process. Raises what `ports.openbao` raises."""
    from vouchgate.ports.openbao import sign_intermediate

    async def ask() -> str:
        client = http_client([(url, server_ca, True)])
        return await sign_intermediate(client, url, mount=mount, token=token, csr_pem=csr_pem, hours=hours, namespace=namespace)

    return asyncio.run(ask())


async def ask_sql(one: SqlAsk) -> SqlAnswer:
    """One statement at somebody else's database."""
    from vouchgate.ports import sql

    return await sql.ask(one)


def pem_chain(chain: Iterable[bytes]) -> str:
    """Certificates as PEM, in their order."""
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in chain)


def pem_certificates(text: bytes) -> list[bytes]:
    """The bytes of each certificate of a PEM file as they are, unparsed (RFC 7468, section 5). Raises `InvalidInput`."""
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,200000})-----END CERTIFICATE-----", text)
    try:
        return [base64.b64decode(b"".join(block.split()), validate=True) for block in blocks]
    except ValueError:
        raise InvalidInput("the PEM file is not base64", remedy="name a file with `BEGIN CERTIFICATE`") from None
