"""The control plane over HTTP: `/api/v1/...`, `/healthz`, `/readyz`, `/metrics` and the console's files.

Rules
1. A resource is one line of the tables below: method, path, what may be asked, which method of the surface answers.
2. A body is JSON, bounded before it is parsed, and every field is named; so is every query parameter.
3. An answer is the noun's own JSON. A typed error becomes a problem document in one place (edges/api/guard.py).
4. Files come and go through `spool`, a folder that only the control plane reads; a client never names a path on this side.
Left to others: deciding and doing (the surface), who asks (guard, server), drawing (edges/console).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp

from vouchgate.edges.api import bodies, metrics, stream
from vouchgate.edges.api.guard import PEER, Guard
from vouchgate.edges.api.people import PeopleRoutes, caller_of, session_of, told
from vouchgate.edges.api.problems import problem
from vouchgate.edges.api.rates import Rates
from vouchgate.edges.api.sessions import COOKIE, Sessions
from vouchgate.edges.api.surface import Surface
from vouchgate.edges.bounded_http import whole_body
from vouchgate.edges.console.assets import console_routes
from vouchgate.vocabulary.answers import AdoptRequest, Caller, ImportRequest, RevokeRequest, WrapRequest
from vouchgate.vocabulary.answers_approvals import WaiveRequest
from vouchgate.vocabulary.answers_decisions import DecisionFilter
from vouchgate.vocabulary.answers_gates import GateRequest
from vouchgate.vocabulary.answers_identities import ExchangeRequest, IdentityRequest, JoinTokenRequest, RegistrationRequest, RunRequest
from vouchgate.vocabulary.answers_loads import LoadRequest, ServingRequest
from vouchgate.vocabulary.answers_policy import CheckRequest, ProofRequest
from vouchgate.vocabulary.answers_zones import AssetMove, AssetRequest, ExportRequest
from vouchgate.vocabulary.ca import CaInstallRequest, CaStepRequest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound, NotPermitted, VouchgateError
from vouchgate.vocabulary.wire import decode, encode

MAX_BODY_BYTES = 1024 * 1024
"""Bytes of a JSON body: the largest is a policy text."""
BODY_SECONDS = 10.0
"""A JSON body must be whole within this."""
CHUNK_SECONDS = 30.0
"""An upload that sends nothing for this long is cut off."""
MAX_UPLOADS = 4
"""Files taken in at once; each may be as large as [limits] import_mib."""
WRITE_BYTES = 1024 * 1024
"""An upload is written in pieces of about this size, off the event loop."""
LOGINS_PER_SECOND, LOGIN_BURST = 1 / 6, 10.0
"""Ten tries a minute over all browsers: a code has 128 bits and lives minutes."""

Ask = Callable[[Surface, Caller, Any], Awaitable[Any]]


async def _why(surface: Surface, caller: Caller, q: bodies.WhyQuery) -> Any:
    if q.decision and not (q.principal or q.action or q.resource):
        return await surface.why_decision(caller, q.decision)
    if q.principal and q.resource and not q.decision:
        return await surface.why(caller, q.principal, q.action or "infer", q.resource)
    raise InvalidInput(
        "ask for a decision, or for a principal and a resource", remedy="pass `decision`, or `principal`, `action` and `resource`"
    )


async def _bootstrap(surface: Surface, caller: Caller, body: bodies.TokenBody) -> Any:
    if caller.how != "uid":
        raise NotPermitted(
            "the bootstrap token is used on the unix socket only", remedy="run `vouchgate admin claim TOKEN` on this machine"
        )
    return await surface.claim_bootstrap(caller, body.token)


READS: tuple[tuple[str, type, Ask], ...] = (
    ("/api/v1/rescan", bodies.NoQuery, lambda surface, caller, q: surface.rescan_state(caller)),
    ("/api/v1/status", bodies.NoQuery, lambda surface, caller, q: surface.status(caller)),
    ("/api/v1/endpoints", bodies.NoQuery, lambda surface, caller, q: surface.endpoints(caller)),
    ("/api/v1/callers", bodies.NamesQuery, lambda surface, caller, q: surface.callers(caller, q.after, q.limit)),
    ("/api/v1/zones", bodies.NoQuery, lambda surface, caller, q: surface.zones(caller)),
    ("/api/v1/zones/map", bodies.NoQuery, lambda surface, caller, q: surface.zone_map(caller)),
    ("/api/v1/zones/proof", bodies.ProofOfZonesQuery, lambda surface, caller, q: surface.prove_zones(caller, q.source, q.target)),
    ("/api/v1/zones/blast", bodies.ProofQuery, lambda surface, caller, q: surface.blast(caller, q.of)),
    ("/api/v1/zones/surface", bodies.NoQuery, lambda surface, caller, q: surface.attack_surface(caller)),
    ("/api/v1/zones/drift", bodies.FreshQuery, lambda surface, caller, q: surface.zones_drift(caller, q.fresh)),
    ("/api/v1/forecast", bodies.NoQuery, lambda surface, caller, q: surface.forecast(caller)),
    ("/api/v1/adopt/next", bodies.NoQuery, lambda surface, caller, q: surface.adopt_next(caller)),
    ("/api/v1/registrations", bodies.NamesQuery, lambda surface, caller, q: surface.registrations(caller, q.after, q.limit)),
    ("/api/v1/runs", bodies.NoQuery, lambda surface, caller, q: surface.runs(caller)),
    ("/api/v1/approvals", bodies.NoQuery, lambda surface, caller, q: surface.approvals(caller)),
    ("/api/v1/waivers", bodies.NoQuery, lambda surface, caller, q: surface.waivers(caller)),
    ("/api/v1/vouches", bodies.AboutQuery, lambda surface, caller, q: surface.vouches(caller, q.about)),
    ("/api/v1/assets", bodies.NoQuery, lambda surface, caller, q: surface.assets(caller)),
    ("/api/v1/token", bodies.NoQuery, lambda surface, caller, q: surface.token_service(caller)),
    (
        "/api/v1/decisions",
        bodies.DecisionsQuery,
        lambda surface, caller, q: surface.decisions(
            caller, q.limit, q.before, DecisionFilter(effect=q.effect, principal=q.principal, resource=q.resource)
        ),
    ),
    ("/api/v1/why", bodies.WhyQuery, _why),
    ("/api/v1/audit/entries", bodies.EntriesQuery, lambda surface, caller, q: surface.audit_entries(caller, q.start, q.count)),
    ("/api/v1/audit/checkpoint", bodies.NoQuery, lambda surface, caller, q: surface.audit_checkpoint(caller)),
    ("/api/v1/audit/proof", bodies.ProofQuery, lambda surface, caller, q: surface.audit_proof(caller, q.of)),
    ("/api/v1/ca", bodies.NoQuery, lambda surface, caller, q: surface.ca(caller)),
    ("/api/v1/partners", bodies.NoQuery, lambda surface, caller, q: surface.partners(caller)),
    ("/api/v1/secrets", bodies.NoQuery, lambda surface, caller, q: surface.secret_lines(caller)),
    ("/api/v1/policy", bodies.NoQuery, lambda surface, caller, q: surface.policy_current(caller)),
    ("/api/v1/policy/history", bodies.VersionQuery, lambda surface, caller, q: surface.policy_history(caller, q.version)),
    ("/api/v1/policy/snapshot", bodies.NoQuery, lambda surface, caller, q: surface.policy_snapshot(caller)),
    ("/api/v1/policy/records", bodies.RecordsQuery, lambda surface, caller, q: surface.policy_records(caller, q.start, q.since)),
    ("/api/v1/policy/suggest", bodies.LearnQuery, lambda surface, caller, q: surface.policy_suggest(caller, q.zone, q.days)),
    ("/api/v1/policy/privilege", bodies.LearnQuery, lambda surface, caller, q: surface.policy_privilege(caller, q.principal, q.days)),
)
ACTS: tuple[tuple[str, type, Ask], ...] = (
    ("/api/v1/revoke", RevokeRequest, lambda surface, caller, body: surface.revoke(caller, body)),
    ("/api/v1/unrevoke", bodies.UnrevokeBody, lambda surface, caller, body: surface.unrevoke(caller, body.id, body.reason)),
    ("/api/v1/adopt", AdoptRequest, lambda surface, caller, body: surface.adopt(caller, body)),
    ("/api/v1/zones/export", ExportRequest, lambda surface, caller, body: surface.export_zones(caller, body)),
    ("/api/v1/wrap", WrapRequest, lambda surface, caller, body: surface.wrap(caller, body)),
    ("/api/v1/identities", IdentityRequest, lambda surface, caller, body: surface.issue_identity(caller, body)),
    ("/api/v1/runs", RunRequest, lambda surface, caller, body: surface.begin_run(caller, body)),
    ("/api/v1/runs/end", bodies.UnrevokeBody, lambda surface, caller, body: surface.end_run(caller, body.id, body.reason)),
    ("/api/v1/approvals/give", bodies.IdBody, lambda surface, caller, body: surface.give_approval(caller, body.id)),
    ("/api/v1/approvals/refuse", bodies.UnrevokeBody, lambda surface, caller, body: surface.refuse_approval(caller, body.id, body.reason)),
    ("/api/v1/waivers", WaiveRequest, lambda surface, caller, body: surface.ask_waiver(caller, body)),
    ("/api/v1/waivers/agree", bodies.IdBody, lambda surface, caller, body: surface.agree_waiver(caller, body.id)),
    ("/api/v1/waivers/withdraw", bodies.IdBody, lambda surface, caller, body: surface.withdraw_waiver(caller, body.id)),
    ("/api/v1/vouches", bodies.VouchBody, lambda surface, caller, body: surface.add_vouch(caller, body.envelope)),
    (
        "/api/v1/vouches/signature",
        bodies.SignatureBody,
        lambda surface, caller, body: surface.vouch_signature(caller, body.digest, body.bundle, body.by),
    ),
    (
        "/api/v1/vouches/provenance",
        bodies.SignatureBody,
        lambda surface, caller, body: surface.vouch_provenance(caller, body.digest, body.bundle, body.by),
    ),
    ("/api/v1/loads", LoadRequest, lambda surface, caller, body: surface.load(caller, body)),
    ("/api/v1/gates", GateRequest, lambda surface, caller, body: surface.gate(caller, body)),
    ("/api/v1/serving", ServingRequest, lambda surface, caller, body: surface.serving(caller, body)),
    ("/api/v1/assets", AssetRequest, lambda surface, caller, body: surface.put_asset(caller, body)),
    ("/api/v1/assets/move", AssetMove, lambda surface, caller, body: surface.move_asset(caller, body)),
    ("/api/v1/assets/remove", bodies.AssetBody, lambda surface, caller, body: surface.remove_asset(caller, body.name, body.reason)),
    ("/api/v1/token", ExchangeRequest, lambda surface, caller, body: surface.exchange_token(caller, body)),
    ("/api/v1/registrations", RegistrationRequest, lambda surface, caller, body: surface.register(caller, body)),
    (
        "/api/v1/registrations/remove",
        bodies.UnregisterBody,
        lambda surface, caller, body: surface.unregister(caller, body.principal, body.reason),
    ),
    ("/api/v1/join-tokens", JoinTokenRequest, lambda surface, caller, body: surface.join_token(caller, body)),
    (
        "/api/v1/secrets",
        bodies.SecretPartsBody,
        lambda surface, caller, body: surface.put_secret(caller, body.name, body.parts, body.admin),
    ),
    ("/api/v1/partners/refresh", bodies.NameBody, lambda surface, caller, body: surface.refresh_partner(caller, body.name)),
    ("/api/v1/secrets/rotate", bodies.NameBody, lambda surface, caller, body: surface.rotate_secret(caller, body.name)),
    ("/api/v1/secrets/roll-back", bodies.NameBody, lambda surface, caller, body: surface.roll_back_secret(caller, body.name)),
    ("/api/v1/secrets/release", bodies.NameBody, lambda surface, caller, body: surface.release_secret(caller, body.name)),
    ("/api/v1/login-code", bodies.EmptyBody, lambda surface, caller, body: surface.login_code(caller)),
    ("/api/v1/bootstrap", bodies.TokenBody, _bootstrap),
    ("/api/v1/break-glass", bodies.EnvelopeBody, lambda surface, caller, body: surface.break_glass(caller, body.envelope)),
    ("/api/v1/clock/accept", bodies.ReasonBody, lambda surface, caller, body: surface.accept_clock(caller, body.reason)),
    ("/api/v1/rescan", bodies.EmptyBody, lambda surface, caller, body: surface.rescan(caller)),
    ("/api/v1/ca/step", CaStepRequest, lambda surface, caller, body: surface.ca_step(caller, body)),
    ("/api/v1/ca/request", bodies.EmptyBody, lambda surface, caller, body: surface.ca_request(caller)),
    ("/api/v1/ca/install", CaInstallRequest, lambda surface, caller, body: surface.ca_install(caller, body)),
    ("/api/v1/audit/verify", bodies.VerifyBody, lambda surface, caller, body: surface.audit_verify(caller, body.against)),
    ("/api/v1/policy/replay", bodies.ReplayBody, lambda surface, caller, body: surface.policy_replay(caller, body.text, body.days)),
    ("/api/v1/policy/check", bodies.PolicyBody, lambda surface, caller, body: surface.policy_check(caller, body.text)),
    ("/api/v1/policy/prove", ProofRequest, lambda surface, caller, body: surface.policy_prove(caller, body)),
    ("/api/v1/policy/examine", CheckRequest, lambda surface, caller, body: surface.policy_examine(caller, body)),
    ("/api/v1/policy/apply", bodies.PolicyBody, lambda surface, caller, body: surface.policy_apply(caller, body.text, body.reason)),
)


class Api:
    """The handlers; `now` gives milliseconds since 1970, `monotonic` seconds."""

    def __init__(
        self,
        surface: Surface,
        sessions: Sessions,
        spool: Path,
        max_import_bytes: int,
        disk_reserve_bytes: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._surface, self._sessions, self._spool = surface, sessions, spool
        self._max_import, self._reserve = max_import_bytes, disk_reserve_bytes
        self._uploads = 0
        self._streams = stream.Streams()
        self._logins = Rates(LOGINS_PER_SECOND, monotonic, burst=LOGIN_BURST)
        self._people = PeopleRoutes(surface, sessions, monotonic, body=_body, query=_query)

    def routes(self) -> list[BaseRoute]:
        """Everything that exists."""
        reads = [Route(path, self._read(kind, ask), methods=["GET"]) for path, kind, ask in READS]
        acts = [Route(path, self._act(kind, ask), methods=["POST"]) for path, kind, ask in ACTS]
        return [
            *reads,
            *acts,
            Route("/api/v1/decisions/live", self._live, methods=["GET"]),
            Route("/api/v1/artifacts", self._import, methods=["PUT"]),
            Route("/api/v1/backup", self._backup, methods=["POST"]),
            *self._people.routes(),
            Route("/api/v1/session", self._log_in, methods=["POST"]),
            Route("/api/v1/session", self._who, methods=["GET"]),
            Route("/api/v1/session", self._log_out, methods=["DELETE"]),
            Route("/healthz", self._healthz, methods=["GET"]),
            Route("/readyz", self._readyz, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            *console_routes(),
        ]

    async def _caller(self, request: Request) -> Caller:
        return await caller_of(self._surface, request)

    def _read(self, kind: type, ask: Ask) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            query = _query(kind, request)
            return _json(await ask(self._surface, await self._caller(request), query))

        return handler

    def _act(self, kind: type, ask: Ask) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            _query(bodies.NoQuery, request)
            body = await _body(kind, request)
            return _json(await ask(self._surface, await self._caller(request), body))

        return handler

    async def _live(self, request: Request) -> Response:
        caller = await self._caller(request)
        await self._surface.may(caller, "read")
        who = caller.principal.principal.id
        self._streams.admit(who)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for part in stream.events(self._surface.subscribe_decisions(caller), still=lambda: self._surface.check(caller)):
                    yield part
            finally:
                self._streams.leave(who)

        return StreamingResponse(body(), media_type="text/event-stream")

    async def _import(self, request: Request) -> Response:
        caller = await self._caller(request)
        asked = _query(bodies.ArtifactQuery, request)
        await self._surface.may(caller, "import")
        if self._uploads >= MAX_UPLOADS:
            raise LimitExceeded(f"{MAX_UPLOADS} files are being taken in", remedy="try again when one is done")
        path = self._spool / f"import-{secrets.token_hex(16)}"
        self._uploads += 1
        try:
            _check_room(request, self._spool, self._max_import, self._reserve)
            bundles = await _receive_file(request, path, ahead=asked.signature_bytes + asked.provenance_bytes)
            declared = tuple(part for part in asked.declare.split(",") if part)
            wanted = ImportRequest(
                path=str(path),
                name=Path(asked.name).name,
                zone=asked.zone,
                allow_declared=declared,
                tree=asked.kind == "tree",
                signature=bundles[: asked.signature_bytes],
                provenance=bundles[asked.signature_bytes :],
            )
            return _json(await self._surface.import_artifact(caller, wanted))
        finally:
            self._uploads -= 1
            path.unlink(missing_ok=True)

    async def _backup(self, request: Request) -> Response:
        caller = await self._caller(request)
        if caller.how != "uid":
            raise NotPermitted("a backup is taken on the unix socket only", remedy="run `vouchgate backup FILE`")
        await _body(bodies.EmptyBody, request)
        path = self._spool / f"backup-{secrets.token_hex(16)}"
        try:
            outcome = await self._surface.backup(caller, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        headers = {"vouchgate-outcome": encode(outcome).decode("ascii")}
        return FileResponse(path, headers=headers, background=BackgroundTask(path.unlink, missing_ok=True))

    async def _log_in(self, request: Request) -> Response:
        if request.scope.get(PEER) is not None:
            raise InvalidInput("the unix socket needs no session", remedy="call the API directly")
        self._logins.take("login")
        body = await _body(bodies.CodeBody, request)
        peer = request.client.host if request.client else ""
        token, session = self._sessions.open(await self._surface.identify_code(body.code.strip(), peer))
        answer = _json(told(session))
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        return answer

    async def _who(self, request: Request) -> Response:
        session = session_of(request)
        self._surface.check(session.caller)
        return _json(told(session))

    async def _log_out(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        self._sessions.close(
            token if request.scope.get(PEER) is not None and scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
        )
        answer = _json({})
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    async def _healthz(self, request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def _readyz(self, request: Request) -> Response:
        readiness = await self._surface.ready()
        return _json(readiness, 200 if readiness.ready else 503)

    async def _metrics(self, request: Request) -> Response:
        text = metrics.prometheus_text(await self._surface.metrics(await self._caller(request)))
        return Response(text, media_type=metrics.MEDIA_TYPE)


def build_app(
    surface: Surface,
    *,
    spool: Path,
    now: Callable[[], int],
    monotonic: Callable[[], float],
    console_hosts: Callable[[], frozenset[str]],
    session_minutes: int = 480,
    requests_per_second: float = 50.0,
    max_import_bytes: int = 16 * 1024**3,
    disk_reserve_bytes: int = 256 * 1024**2,
) -> ASGIApp:
    """The whole app, guarded. `spool` exists and is private to this process; `console_hosts` is `ApiServer.console_hosts`."""
    for left in (*spool.glob("import-*"), *spool.glob("backup-*")):
        left.unlink()
    sessions = Sessions(now, session_minutes)
    api = Api(surface, sessions, spool, max_import_bytes, disk_reserve_bytes, monotonic)
    app = ExceptionMiddleware(Router(api.routes(), redirect_slashes=False), {HTTPException: _not_routed, VouchgateError: _typed})
    return Guard(app, sessions, console_hosts, requests_per_second, now, monotonic)


async def _typed(request: Request, error: Exception) -> Response:
    assert isinstance(error, VouchgateError)
    return problem(error, request.scope["path"][:200])


async def _not_routed(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405."""
    assert isinstance(error, HTTPException)
    missing = NotFound(
        f"there is no `{request.method[:16]} {request.scope['path'][:100]}` here", remedy="`vouchgate help all` lists what can be asked"
    )
    answer = problem(missing, request.scope["path"][:200])
    answer.status_code = error.status_code
    return answer


def _json(answer: Any, status: int = 200) -> Response:
    return Response(encode(answer), status, media_type="application/json")


def _query(kind: type, request: Request) -> Any:
    """Rule 2; a parameter that is given twice has no meaning."""
    if not request.scope["query_string"].isascii():
        raise InvalidInput("the query is not ASCII", remedy="percent-encode it (RFC 3986, section 2.1)")
    pairs = request.query_params.multi_items()
    if len({name for name, _ in pairs}) != len(pairs):
        raise InvalidInput("a query parameter is given twice", remedy="give it once")
    try:
        return msgspec.convert(dict(pairs), kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the query cannot be read: {error}", remedy="correct the query and send it again") from None


async def _body(kind: type, request: Request) -> Any:
    data = await whole_body(request, "application/json", most=MAX_BODY_BYTES, seconds=BODY_SECONDS)
    return decode(kind, data, what="body")


def _check_room(request: Request, spool: Path, bound: int, reserve: int) -> None:
    """Before the first byte: the length is given (HTTP then holds the body to it), within the bound, and leaves the disk its reserve."""
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise InvalidInput("the length of the file is not given", remedy="send `content-length`")
    if len(length) > 18 or int(length) > bound:
        raise LimitExceeded(f"the file is over the bound of {bound} bytes", remedy="raise [limits] import_mib")
    if shutil.disk_usage(spool).free - int(length) < reserve:
        raise LimitExceeded("the disk has no room for this file beside its reserve", remedy="free space, or lower [audit] disk_reserve_mib")


async def _receive_file(request: Request, path: Path, *, ahead: int = 0) -> bytes:
    """Write the body to `path`, new and 0600, but for `ahead` bytes of its beginning, which it gives. Raises `InvalidInput` where it breaks off."""
    path.touch(0o600, exist_ok=False)
    begun, pending = bytearray(), bytearray()
    with path.open("wb") as file, contextlib.closing(_Chunks(request)) as chunks:
        while (chunk := await chunks.next()) is not None:
            missing = ahead - len(begun)
            begun += chunk[:missing]
            pending += chunk[missing:]
            if len(pending) >= WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(pending))
                pending.clear()
        await asyncio.to_thread(file.write, bytes(pending))
    if len(begun) < ahead:
        raise InvalidInput("the body is shorter than the bundles that it says to hold", remedy="send the bundles and then the file")
    return bytes(begun)


class _Chunks:
    """A request's body piece by piece, each within `CHUNK_SECONDS`."""

    def __init__(self, request: Request) -> None:
        self._stream = request.stream()

    async def next(self) -> bytes | None:
        try:
            async with asyncio.timeout(CHUNK_SECONDS):
                return await anext(self._stream)
        except StopAsyncIteration:
            return None
        except (TimeoutError, ClientDisconnect):
            raise InvalidInput("the file broke off", remedy="send it again") from None

    def close(self) -> None:
        """Nothing is held."""
