"""Where Envoy asks: a lean HTTP/1.1 server on a unix socket that turns a check into a `Request` value and hands it to `decide`.

Rules
1. The peer's uid is read from the kernel when the connection is made; another uid's connection is cut before its first byte is read.
2. The facts come from the `x-vg-` headers that Envoy sets itself (it removes a client's own first); a required one that is missing, or
   any that is there twice, makes the check 403. `-` is absent. So does an MCP message that the tokenizer did not read.
3. At most `MAX_AT_ONCE` checks are decided at once; a check that is not decided within `DECIDE_SECONDS`, or whose decision fails, is 503.
   Nothing here ever turns a failure into an allow. To Envoy any 5xx is no answer (503 `pdp-unavailable`): a refusal that is to be read by
   the caller is a 4xx.

The verdict, its words and its log entry are `decide`'s.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import httptools

from vouchgate.edges.envoy.log_fields import read_asked
from vouchgate.edges.envoy.settings import FEDERATED
from vouchgate.edges.processes.rpc_server import Peer, peer_of
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.mcp import MCP
from vouchgate.vocabulary.outcomes import PROBLEM_MEDIA, PROBLEM_TYPE
from vouchgate.vocabulary.places import MAX_APPROVAL_BODY
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis

DECIDE_SECONDS = 0.8
"""Below Envoy's own timeout, so that the caller hears our words."""
MAX_AT_ONCE = 128
MAX_CONNECTIONS = 512
MAX_HEAD_BYTES = 64 * 1024
"""Bytes of one check's head; Envoy itself bounds a request's headers to 32 KiB. A body, which only endpoints with `approvals` send, has a
bound of its own."""
_REQUIRED = ("endpoint", "action", "zone", "peer", "request-id", "key")
_OPTIONAL = ("model", "san", "serial", "fingerprint", "sub", "aud", "jti", "cnf", "act", "since", "iat")
"""Envoy leaves out a header whose value is absent."""
_SECONDS = re.compile(r"[0-9]{1,11}", re.ASCII)
KEY_FIELDS, PLAIN = 10, "|-|-|-|-"
"""Fields of the allow-map's key (maps.py, rule 1), and how it ends for a caller without a token, or with a plain one."""

log = logging.getLogger("vouchgate.ext_authz")


Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers, body. 200 lets the request through; its headers that start with `x-vg-` go to the access log."""
Decide = Callable[[Request], Awaitable[Answer]]


async def serve(path: str, decide: Decide, *, allowed_uids: Collection[int]) -> asyncio.Server:
    """Listen on a unix socket."""
    Path(path).unlink(missing_ok=True)
    desk = _Desk(decide, frozenset(allowed_uids))
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(desk), path)
    Path(path).chmod(0o666)
    return server


class _Desk:
    """What all connections share."""

    def __init__(self, decide: Decide, uids: frozenset[int]) -> None:
        self._decide, self._uids = decide, uids
        self.open_now = 0
        self._at_once = 0

    def admits(self, peer: Peer) -> bool:
        if peer.uid in self._uids and self.open_now < MAX_CONNECTIONS:
            return True
        log.warning("refused uid %d pid %d on the ext_authz socket", peer.uid, peer.pid)
        return False

    async def answer(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        request = read_check(method, target, headers, body)
        if request is None:
            return _problem(403, "malformed-check", "the gateway's question is not complete", "", "")
        if self._at_once >= MAX_AT_ONCE:
            return _problem(503, "pdp-busy", "too many questions at once", "try again shortly", request.request_id)
        self._at_once += 1
        try:
            async with asyncio.timeout(DECIDE_SECONDS):
                return await self._decide(request)
        except TimeoutError:
            return _problem(503, "pdp-late", "the decision took too long", "try again shortly", request.request_id)
        except Exception as error:
            # a text could hold a secret: the class alone is logged
            log.error("a decision failed: %s", type(error).__name__)
            return _problem(503, "pdp-failed", "the decision failed inside", "see the pdp's log", request.request_id)
        finally:
            self._at_once -= 1


def read_check(method: str, target: str, headers: list[tuple[str, str]], body: bytes = b"") -> Request | None:
    """The check's facts, or None where one is missing or there twice."""
    facts: dict[str, str] = {}
    for name, value in headers:
        if name in facts and name.startswith("x-vg-"):
            return None
        facts[name] = value
    if any(f"x-vg-{name}" not in facts for name in _REQUIRED):
        return None
    given = {name: facts.get(f"x-vg-{name}", "") for name in _REQUIRED + _OPTIONAL}
    known = {name: "" if value == "-" else value for name, value in given.items()}
    if known["action"] == MCP and not known["model"]:
        return None
    foreign = known["san"].startswith(FEDERATED)
    action, model, tool = read_asked(known["action"], known["model"])
    return Request(
        request_id=known["request-id"],
        method=method,
        path=target,
        host=facts.get("host", ""),
        endpoint=known["endpoint"],
        action=action,
        zone=known["zone"],
        model=model,
        tool=tool,
        san="" if foreign else known["san"],
        federated=known["san"].removeprefix(FEDERATED) if foreign else "",
        serial=known["serial"],
        fingerprint=known["fingerprint"],
        subject=known["sub"],
        audience=known["aud"],
        token_id=known["jti"],
        confirmation=known["cnf"],
        actor=known["act"],
        beyond=not _plain(known["key"]),
        authorization=facts.get("authorization", ""),
        dpop=facts.get("dpop", ""),
        certificate_since=_since(known["since"]),
        token_since=_since(known["iat"]),
        content_type=facts.get("content-type", ""),
        content_encoding=facts.get("content-encoding", ""),
        body=body,
        user_agent=facts.get("user-agent", ""),
        peer=known["peer"],
    )


def _since(text: str) -> UnixMillis:
    """Seconds since 1970 as Envoy writes them, in milliseconds; what is none is not known."""
    whole, _, part = text.partition(".")
    return UnixMillis(int(whole) * 1000) if _SECONDS.fullmatch(whole) and (not part or part.isdecimal()) else UnixMillis(0)


def _plain(key: str) -> bool:
    return key.count("|") == KEY_FIELDS - 1 and key.endswith(PLAIN)


class _Connection(asyncio.Protocol):
    """One of Envoy's connections; it asks one thing at a time on each."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._transport: Any = None
        self._admitted = False
        self._task: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body = b""
        self._headed = False
        self._size = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._admitted = self._desk.admits(peer_of(transport.get_extra_info("socket")))
        if self._admitted:
            self._desk.open_now += 1
        else:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._admitted:
            self._desk.open_now -= 1
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._admitted:
            return
        self._size += len(data)
        bound = MAX_HEAD_BYTES + (MAX_APPROVAL_BODY if self._headed else 0)
        if self._size > bound or (self._task is not None and not self._task.done()):
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._headed = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._task is not None and not self._task.done():
            # two checks at once on one connection: their headers would run together
            self._task.cancel()
            self._transport.abort()
            return
        method = self._parser.get_method().decode("latin-1")
        self._task = asyncio.get_running_loop().create_task(self._reply(method, self._target.decode("latin-1"), self._headers, self._body))

    async def _reply(self, method: str, target: str, headers: list[tuple[str, str]], asked: bytes) -> None:
        status, more, body = await self._desk.answer(method, target, headers, asked)
        self._begin()
        lines = [
            f"HTTP/1.1 {status} x",
            f"content-length: {len(body)}",
            *(_line(f"{name}: {value}") for name, value in more.items()),
            "",
            "",
        ]
        self._transport.write("\r\n".join(lines).encode("latin-1", "replace") + body)


def _line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def _problem(status: int, code: str, reason: str, remedy: str, request_id: str) -> Answer:
    document = {
        "type": PROBLEM_TYPE + code,
        "title": code.replace("-", " "),
        "status": status,
        "detail": reason,
        "remedy": remedy,
        "request_id": request_id,
        "decision_id": "",
    }
    return status, {"content-type": PROBLEM_MEDIA}, wire.encode(document)
