"""The way out: one bounded HTTP client for exactly the destinations that the settings name.

Rules
1. A destination is one origin (RFC 6454, section 4). Nothing else is asked, whatever a document or a redirect says.
2. `https`, verified against the system's authorities or the destination's own file; `http` for a loopback host alone.
3. A name is resolved here, every address is checked, and the connection goes to a checked address, so that a name cannot change its mind
   between the check and the connection. Link-local, multicast, reserved and unspecified addresses are never asked; loopback only where the
   origin itself is a loopback host; private ones only where the destination says so.
4. A GET follows at most `MAX_REDIRECTS` redirects, each within the origin; a POST follows none.
5. Time to connect, to the next byte and to the end are bounded, and so are the bytes, before and after decompression.
6. Nothing is taken from the environment: no proxy, no netrc, no cookies; each request has a connection of its own.
Left to others: who may ask for what (edges/processes/outbound.py), and whether the answer is to be believed (the rooms).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotPermitted, Unavailable, Unsupported, Unverified, VouchgateError

CONNECT_SECONDS = 3.0
"""To resolve, connect and shake hands; a provider that is slower than this is as good as away."""
READ_SECONDS = 5.0
"""Between two pieces of an answer."""
TOTAL_SECONDS = 10.0
"""A whole request with its redirects: a person waits for it."""
MAX_BYTES = 1024 * 1024
"""Bytes of an answer, decompressed; the largest real one is a federation bundle of some 100 KiB."""
MAX_REDIRECTS = 3
"""Within one origin; a well-known document needs one at most."""
MAX_URL = 2_048
"""Characters of a URL that is asked."""
MAX_ADDRESSES = 16
"""Addresses of one name that are looked at."""
MAX_AT_ONCE = 32
"""Requests at once of one client; further ones wait within their own deadline."""
_URL = re.compile(
    r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(/[!$&'()*+,;=:@A-Za-z0-9._~%/-]*)?(\?[!$&'()*+,;=:@A-Za-z0-9._~%/?-]*)?\Z"
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Destination:
    """One origin that may be asked."""

    origin: str
    """`https://name` or `https://name:port`."""
    ca_file: str = ""
    """PEM file of the only authorities that count for it; empty: the system's."""
    private: bool = False
    """Whether it may have an address of a private network."""
    context: ssl.SSLContext | None = field(default=None, compare=False)
    """How its certificate is verified instead, for example against a SPIFFE bundle."""


@dataclass(frozen=True)
class Answer:
    """What came back, whole and within the bounds."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of a repeated header the last."""
    body: bytes


class HttpClient:
    """See the module's text. Belongs to one event loop."""

    def __init__(
        self,
        destinations: Iterable[Destination],
        *,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._httpx = _library()
        self._connect, self._read, self._total = connect_seconds, read_seconds, total_seconds
        self._destinations = {origin_of(one.origin): one for one in destinations}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._room = asyncio.Semaphore(MAX_AT_ONCE)

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None, max_bytes: int = MAX_BYTES) -> Answer:
        """Fetch. Raises `NotPermitted`, `InvalidInput`, `Unavailable`, `Unverified`, `LimitExceeded`."""
        return await self._within("GET", url, dict(headers or {}), b"", max_bytes)

    async def post(
        self, url: str, body: bytes, *, content_type: str, headers: Mapping[str, str] | None = None, max_bytes: int = MAX_BYTES
    ) -> Answer:
        """Send. Raises as `get`; a redirect is an answer like any other, and is not followed."""
        return await self._within("POST", url, {**(headers or {}), "content-type": content_type}, body, max_bytes)

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", max_bytes: int = MAX_BYTES) -> Answer:
        """Any method. Raises as `get`; no redirect is followed but for GET."""
        return await self._within(method, url, dict(headers), body, max_bytes)

    async def _within(self, method: str, url: str, headers: dict[str, str], body: bytes, max_bytes: int) -> Answer:
        try:
            async with asyncio.timeout(self._total), self._room:
                return await self._follow(method, url, headers, body, max_bytes)
        except TimeoutError:
            raise _away(url, f"it did not answer within {self._total:g} s") from None

    async def _follow(self, method: str, url: str, headers: dict[str, str], body: bytes, max_bytes: int) -> Answer:
        first = origin_of(url)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._once(method, url, headers, body, max_bytes)
            if method != "GET" or answer.status not in _REDIRECTS:
                return answer
            url = urljoin(url, answer.headers.get("location", ""))
            if origin_of(url) != first:
                raise NotPermitted(f"`{first}` redirects to another origin", remedy="name the origin that answers itself in vouchgate.toml")
        raise LimitExceeded(f"`{first}` redirects more than {MAX_REDIRECTS} times", remedy="name the address that answers itself")

    async def _once(self, method: str, url: str, headers: dict[str, str], body: bytes, max_bytes: int) -> Answer:
        origin = origin_of(url)
        destination = self._destinations.get(origin)
        if destination is None:
            raise NotPermitted(f"`{origin[:200]}` is not a destination that vouchgate may ask", remedy="name its origin in vouchgate.toml")
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        address = await self._address(host, port, destination)
        shown = f"[{address}]" if ":" in address else address
        target = f"{parts.scheme}://{shown}:{port}{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        sent = {"accept-encoding": "gzip, identity;q=0.5", "user-agent": "vouchgate", **headers, "host": parts.netloc}
        return await self._ask(destination, method, target, sent, body, host, url, max_bytes)

    async def _ask(
        self, destination: Destination, method: str, target: str, headers: dict[str, str], body: bytes, host: str, url: str, max_bytes: int
    ) -> Answer:
        httpx = self._httpx
        verify = self._context(destination) if target.startswith("https:") else False
        timeout = httpx.Timeout(self._read, connect=self._connect)
        try:
            async with (
                httpx.AsyncClient(
                    verify=verify,
                    timeout=timeout,
                    trust_env=False,
                    follow_redirects=False,
                    limits=httpx.Limits(max_keepalive_connections=0),
                ) as client,
                client.stream(method, target, headers=headers, content=body or None, extensions={"sni_hostname": host}) as answer,
            ):
                whole = await _bounded(answer, url, max_bytes)
                return Answer(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, whole)
        except httpx.ConnectError as error:
            raise _not_connected(url, error) from None
        except httpx.TimeoutException:
            raise _away(url, "it is too slow") from None
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError) as error:
            raise _away(url, f"it broke off ({type(error).__name__})") from None

    async def _address(self, host: str, port: int, destination: Destination) -> str:
        """Rule 3."""
        loopback = is_loopback_host(host)
        try:
            found = await asyncio.wait_for(
                asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP), self._connect
            )
        except TimeoutError:
            raise _away(f"//{host}", "its name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise _away(f"//{host}", "its name is not known") from None
        addresses = [str(one[4][0]) for one in found[:MAX_ADDRESSES]]
        for text in addresses:
            check_address(host, text, loopback=loopback, private=destination.private)
        if not addresses:
            raise _away(f"//{host}", "its name has no address")
        return addresses[0]

    def _context(self, destination: Destination) -> ssl.SSLContext:
        if destination.context is not None:
            return destination.context
        known = self._contexts.get(destination.ca_file)
        if known is None:
            try:
                known = ssl.create_default_context(cafile=destination.ca_file or None)
            except ssl.SSLError:
                raise InvalidInput(
                    f"`{Path(destination.ca_file).name}` holds no certificates that can be read",
                    remedy="give a PEM file of CA certificates",
                ) from None
            except OSError as error:
                raise InvalidInput(
                    f"`{Path(destination.ca_file).name}` cannot be opened by this process: {error.strerror}",
                    remedy=f"let uid {os.geteuid()} read it, and enter the folders above it",
                ) from None
            known.minimum_version = ssl.TLSVersion.TLSv1_2
            self._contexts[destination.ca_file] = known
        return known


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, in one spelling. Raises `InvalidInput` for anything but http and https, and for a user part."""
    match = _URL.match(url) if len(url) <= MAX_URL else None
    if match is None:
        raise InvalidInput(f"`{url[:100]}` is not an http or https address", remedy="write https://name/path")
    scheme, host, port = match[1], match[2].lower(), match[3]
    number = int(port) if port else (443 if scheme == "https" else 80)
    if not 0 < number < 65_536:
        raise InvalidInput(f"`{url[:100]}` has no port that exists", remedy="use a port from 1 to 65535")
    if scheme == "http" and not is_loopback_host(host.strip("[]")):
        raise InvalidInput(f"`{url[:100]}` is not https", remedy="use https; http is for this machine alone")
    return f"{scheme}://{host}:{number}"


def is_loopback_host(host: str) -> bool:
    """Whether the origin itself names this machine; `localhost` is one by RFC 6761, section 6.3."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str, text: str, *, loopback: bool, private: bool) -> None:
    """Rule 3 for one address. Raises `NotPermitted`."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # every spelling of an IPv4 address inside an IPv6 one is judged as what it reaches (RFC 4291, section 2.5.5; RFC 3056; RFC 6052)
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    refused = NotPermitted(
        f"`{host[:200]}` leads to {text}, which is not asked", remedy="set `private_network = true` for it, if that is where it really is"
    )
    if loopback:
        if not address.is_loopback:
            raise refused
        return
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        raise refused
    if not private and not address.is_global:
        raise refused


async def _bounded(answer: Any, url: str, max_bytes: int) -> bytes:
    """Rule 5: the body, decompressed by at most one gzip, and never more than the bound in memory."""
    length = answer.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:18]) > max_bytes:
        raise _too_much(url, max_bytes)
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise Unavailable(f"{_named(url)} answered with the encoding `{encoding[:40]}`", remedy="let it answer with gzip or plain")
    whole = bytearray()
    pieces = _unzipped(answer.aiter_raw(), url, max_bytes) if encoding == "gzip" else answer.aiter_raw()
    async for piece in pieces:
        whole += piece
        if len(whole) > max_bytes:
            raise _too_much(url, max_bytes)
    return bytes(whole)


async def _unzipped(pieces: AsyncIterator[bytes], url: str, max_bytes: int) -> AsyncIterator[bytes]:
    made, unzip = 0, zlib.decompressobj(wbits=31)
    async for piece in pieces:
        rest = piece
        while rest:
            try:
                out = unzip.decompress(rest, max_bytes - made + 1)
            except zlib.error:
                raise _away(url, "its gzip is broken") from None
            made += len(out)
            yield out
            if made > max_bytes:
                return
            rest = unzip.unconsumed_tail
    if not unzip.eof:
        raise _away(url, "its gzip breaks off")


def _too_much(url: str, max_bytes: int) -> LimitExceeded:
    return LimitExceeded(f"{_named(url)} answered with more than {max_bytes} bytes", remedy="ask its operator what it sends")


def _named(url: str) -> str:
    """A URL without its query, which may hold a secret."""
    parts = urlsplit(url)
    return f"`{(parts.scheme + '://' if parts.scheme else '') + parts.netloc + parts.path}`"[:220]


def _away(url: str, why: str) -> Unavailable:
    return Unavailable(f"{_named(url)} cannot be used: {why}", remedy="see whether it is up and can be reached from this machine")


def _not_connected(url: str, error: BaseException) -> VouchgateError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unverified(
                f"the certificate of {_named(url)} does not hold: {cause.verify_message}", remedy="set its `ca_file`, or correct its name"
            )
        cause = cause.__cause__ or cause.__context__
    return _away(url, "it does not accept connections")


def _library() -> Any:
    try:
        import httpx
    except ImportError:
        raise Unsupported("asking other servers needs httpx", remedy="pip install 'vouchgate[identity]'") from None
    return httpx
