"""ASGI middleware: an enforcement point inside a Python model server's own process, without an extra hop.

    source = FramesSource(Path("/var/lib/vouchgate/control/control.sock"), "vg://example.local/endpoint/digits").start()
    app = EnforcementPoint(app, source=source)

Advisory (contracts, "Gateway rules"): it shares its process with the model, so it proves nothing to anyone else. It holds no key, records
`enforced_by = in_process`, and satisfies no policy that requires `gateway`.

A request, in order
1. Scope: HTTP alone; a WebSocket is refused, the lifespan passes through, anything else fails.
2. Lease: without a map whose lease is running, 503. The record of calls must be taking entries, else 503.
3. Caller, route, revocations, grant: `in_process.decide`, remembered for each credential and route until it lapses or the map changes.
   The certificate is that of the server's own TLS (ASGI TLS extension, version 0.2); no header names a caller.
4. The app gets the request without the headers that only the gateway may set, and `scope["vouchgate"]` with who calls.
5. The call is recorded when the app has ended, whatever its end, and a streaming one when it begins too; a denial is a problem document (RFC 9457).
Put it outermost and without a root path: what it matches must be what the app sees.
Left to others: following the control plane (leases.py), deciding (in_process.py), making the map (flows).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

import msgspec

from vouchgate.integrations.in_process import Answer, Asked, Rules, decide, refusal, status_of
from vouchgate.integrations.leases import Held, MapSource, wall_ms
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.leased import InProcessCall
from vouchgate.vocabulary.outcomes import Denied

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_REMEMBERED = 4_096
"""Credential x route pairs whose answer is remembered: about 4 MB, and twice as many as a map has entries."""
PROBLEM_TYPE = "https://vouchgate.dev/problem/"
_GATEWAY_HEADERS = frozenset({b"authorization", b"x-forwarded-client-cert", b"x-request-id"})
_NO_LEASE = refusal("lease-expired", "this server has lost its lease: the control plane has not confirmed its grants")
_NO_RECORD = refusal("record-unavailable", "calls cannot be recorded now, so none is let in")


class Caller(msgspec.Struct, frozen=True):
    """What the app finds as `scope["vouchgate"]`."""

    principal: str
    """Empty where observe let an unknown caller in."""
    credential_id: str
    grant_id: str
    request_id: str
    enforced_by: str = "in_process"


class _Call(msgspec.Struct, frozen=True):
    """One request on its way."""

    scope: Scope
    held: Held | None
    answer: Answer
    seq: int
    request_id: str
    began_ns: int


class EnforcementPoint:
    """The middleware. One for each endpoint, outermost."""

    def __init__(self, app: App, *, source: MapSource) -> None:
        self._app, self._source = app, source
        self._rules: Rules | None = None
        self._remembered: dict[tuple[object, ...], Answer] = {}
        self._instance = secrets.token_hex(8)
        self._seq = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        began = time.monotonic_ns()
        self._seq = seq = self._seq + 1
        held = self._source.current()
        call = _Call(scope, held, self._answer(held, scope, began), seq, f"{self._instance}-{seq:x}", began)
        denied = call.answer.denied
        if denied is not None and not call.answer.observed:
            status = status_of(denied)
            self._record(call, status)
            await _refuse(send, denied, status, call.request_id)
        else:
            await self._pass(call, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "upgrades are not let through"})
        else:
            raise InvalidInput(f"`{str(scope['type'])[:40]}` is not a protocol that is let through", remedy="serve HTTP/1.1 or HTTP/2")

    async def _pass(self, call: _Call, receive: Receive, send: Send) -> None:
        status = 0

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        who, grant = call.answer.who, call.answer.grant
        inner = dict(call.scope)
        inner["headers"] = [pair for pair in call.scope["headers"] if pair[0] not in _GATEWAY_HEADERS and pair[0][:5] != b"x-vg-"]
        inner["vouchgate"] = Caller(
            who.principal.id if who else "", who.credential_id if who else "", grant.id if grant else "", call.request_id
        )
        if call.answer.streams:
            self._record(call, 0, "start")
        try:
            await self._app(inner, receive, sending)
        finally:
            self._record(call, status)

    def _answer(self, held: Held | None, scope: Scope, now_ns: int) -> Answer:
        if held is None or now_ns >= held.until_ns:
            return _NO_LEASE
        if not self._source.can_record():
            return _NO_RECORD
        rules = self._rules
        if rules is None or rules.leased is not held.leased:
            rules = self._rules = Rules(held.leased)
            self._remembered = {}
        header, chain = _presented(scope)
        path = _path(scope)
        key = (header, chain, scope["method"], path)
        answer = self._remembered.get(key)
        if answer is not None and now_ns < answer.until_ns:
            return answer
        answer = decide(rules, Asked(scope["method"], path, header, chain), wall_ms(held, now_ns), now_ns)
        if answer.until_ns > now_ns:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = answer
        return answer

    def _record(self, call: _Call, status: int, phase: Literal["start", "end"] = "end") -> None:
        if call.held is None:
            return
        who, grant, denied = call.answer.who, call.answer.grant, call.answer.denied
        self._source.record(
            InProcessCall(
                at=wall_ms(call.held, call.began_ns),
                seq=call.seq,
                instance=self._instance,
                request_id=call.request_id,
                principal=who.principal.id if who else "",
                authenticated=who.authenticated if who else False,
                credential_id=who.credential_id if who else "",
                action=call.answer.action,
                grant_id=grant.id if grant else "",
                decision_id=grant.decision_id if grant else "",
                allowed=denied is None or call.answer.observed,
                would_deny=call.answer.observed,
                code=denied.code if denied else "",
                status=status,
                phase=phase,
                method=call.scope["method"][:16],
                path=call.scope["path"][:512],
                duration_us=(time.monotonic_ns() - call.began_ns) // 1000,
            )
        )


def _presented(scope: Scope) -> tuple[bytes, tuple[str, ...]]:
    """The Authorization header (several are joined, so that they cannot pass for one) and the certificates' PEM; empty where absent."""
    header = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            header = header + b"," + value if header else value or b","
    extensions = scope.get("extensions")
    tls = extensions.get("tls") if extensions else None
    return header, tuple(tls.get("client_cert_chain") or ()) if tls else ()


def _path(scope: Scope) -> str:
    """The path if the client wrote it exactly as the app sees it; otherwise nothing, which no route matches."""
    path: str = scope["path"]
    raw = scope.get("raw_path")
    if scope.get("root_path") or (raw is not None and raw != path.encode(errors="replace")):
        return ""
    return path


async def _refuse(send: Send, denied: Denied, status: int, request_id: str) -> None:
    body = msgspec.json.encode(
        {
            "type": PROBLEM_TYPE + denied.code,
            "title": denied.code.replace("-", " "),
            "status": status,
            "detail": denied.reason,
            "remedy": denied.remedy,
            "request_id": request_id,
            "decision_id": "",
        }
    )
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
