"""Envoy's secret discovery on the same socket: any Envoy of this machine gets its certificate from the identity that its process earns.

1. Names: `default` or the caller's own SPIFFE id is its certificate and key; `ROOTCA` or a trust domain's SPIFFE id is a validation context.
   Any other name is InvalidArgument.
2. One stream, whole state: a response goes out when something of it is another, and again only after that (xDS transport protocol,
   "Resource updates"). A rejected version is not sent again until there is a new one.
3. Only Secret resources are served; delta is not offered (Unimplemented).
No security header is asked for: Envoy sends none, and nothing that a web page could make a browser send is a gRPC call on a unix socket.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from vouchgate.edges.spiffe.der import split_der
from vouchgate.edges.spiffe.serving import Caller, caller_of, next_message, receive, send
from vouchgate.edges.spiffe.workload_api import Desk, Held

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
SECRET_TYPE = "type.googleapis.com/" + secret_pb2.Secret.DESCRIPTOR.full_name
CERTIFICATE, ROOTS = "default", "ROOTCA"
MAX_NAMES = 16
"""Secrets of one stream; Envoy asks for one or two."""


class SecretDiscovery:
    """See the module's text."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __mapping__(self) -> dict[str, Handler]:
        request, response = discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse
        return {
            f"/{SERVICE}/StreamSecrets": Handler(self._stream, Cardinality.STREAM_STREAM, request, response),
            f"/{SERVICE}/FetchSecrets": Handler(self._fetch, Cardinality.UNARY_UNARY, request, response),
        }

    async def _fetch(self, stream: Any) -> None:
        caller = caller_of(stream)
        request = await receive(stream, discovery_pb2.DiscoveryRequest)
        names = _names(request)
        held = await self._desk.x509(caller, None, rotate=True)
        await send(stream, await self._response(names, held, "1"))

    async def _stream(self, stream: Any) -> None:
        caller = caller_of(stream)
        names = _names(await receive(stream, discovery_pb2.DiscoveryRequest))
        with self._desk.streams.open(caller) as live:
            asked: asyncio.Queue[tuple[str, ...]] = asyncio.Queue(1)
            reading = asyncio.create_task(_read(stream, live, asked))
            try:
                await self._converse(stream, caller, live, names, asked, reading)
            finally:
                reading.cancel()

    async def _converse(self, stream: Any, caller: Caller, live: Any, names: tuple[str, ...], asked: Any, reading: Any) -> None:
        held = await self._desk.x509(caller, None, rotate=True)
        version, sent = 0, b""
        while True:
            response = await self._response(names, held, "")
            content = response.SerializeToString(deterministic=True)
            if content != sent:
                sent, version = content, version + 1
                response.version_info = response.nonce = str(version)
                await send(stream, response)
            reasons = await live.next(held.next_at)
            if reading.done():
                reading.result()
                return
            if not asked.empty():
                names, sent = asked.get_nowait(), b""
            held = await self._desk.again(live, held, reasons)

    async def _response(self, names: tuple[str, ...], held: Held, version: str) -> Any:
        known = await self._desk.known.get()
        response = discovery_pb2.DiscoveryResponse(type_url=SECRET_TYPE, version_info=version, nonce=version)
        for name in names:
            secret = _secret(name, held, known)
            response.resources.append(any_pb2.Any(type_url=SECRET_TYPE, value=secret.SerializeToString(deterministic=True)))
        return response


async def _read(stream: Any, live: Any, asked: asyncio.Queue[tuple[str, ...]]) -> None:
    """Envoy's answers: an acknowledgement or a rejection changes nothing, other names do."""
    before: tuple[str, ...] = ()
    try:
        while (request := await next_message(stream, discovery_pb2.DiscoveryRequest)) is not None:
            names = _names(request)
            if before and names != before:
                if asked.full():
                    asked.get_nowait()
                asked.put_nowait(names)
                live.wake("state")
            before = names
    finally:
        live.wake("state")


def _names(request: Any) -> tuple[str, ...]:
    if request is None or request.type_url not in {"", SECRET_TYPE} or not 1 <= len(request.resource_names) <= MAX_NAMES:
        raise GRPCError(Status.INVALID_ARGUMENT, f"ask for 1 to {MAX_NAMES} secrets by name")
    return tuple(request.resource_names)


def _secret(name: str, held: Held, known: dict[str, Any]) -> Any:
    if name in {CERTIFICATE, held.principal}:
        return secret_pb2.Secret(
            name=name,
            tls_certificate=common_pb2.TlsCertificate(
                certificate_chain=base_pb2.DataSource(inline_string="".join(ssl.DER_cert_to_PEM_cert(der) for der in held.chain)),
                private_key=base_pb2.DataSource(inline_bytes=_pem_key(held.key)),
            ),
        )
    trust_domain = name.removeprefix("spiffe://")
    if name == ROOTS or trust_domain == known["trust_domain"]:
        return _roots(name, known["ours"]["x509"])
    if name.startswith("spiffe://") and trust_domain in held.federates and trust_domain in known["federated"]:
        return _roots(name, known["federated"][trust_domain]["x509"])
    raise GRPCError(Status.INVALID_ARGUMENT, f"`{name[:160]}` is no secret of this caller; ask for `{CERTIFICATE}` or `{ROOTS}`")


def _roots(name: str, certificates: bytes) -> Any:
    pem = "".join(ssl.DER_cert_to_PEM_cert(der) for der in split_der(certificates))
    context = common_pb2.CertificateValidationContext(trusted_ca=base_pb2.DataSource(inline_string=pem))
    return secret_pb2.Secret(name=name, validation_context=context)


def _pem_key(der: bytes) -> bytes:
    text = ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "PRIVATE KEY")
    return text.encode()
