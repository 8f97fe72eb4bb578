"""Logging in with a provider, over the console's origin and over the unix socket.

Rules
1. A browser's login is bound to it by a cookie that scripts cannot read and that no other site's page can send (SameSite=Strict: the provider's
   redirect opens a page that only then, from our own origin, hands in what it carried). The command line's is bound by a secret that it keeps.
2. The address to come back to is ours: the console's own under the very Host the browser used (which the guard allowed), or a port of
   127.0.0.1 on which the command line listens (RFC 8252, section 7.3). Nobody names another, and nothing else is ever redirected to.
3. A login always opens a new session; the one of before is closed, so that nobody can have chosen it (session fixation).
4. Logins have a rate: for browsers all together, for the command line each uid by itself.
Left to others: the login (flows/login_oidc.py), who may do what (`decide`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vouchgate.edges.api import bodies
from vouchgate.edges.api.guard import PEER, SESSION
from vouchgate.edges.api.rates import Rates
from vouchgate.edges.api.sessions import BROWSER, COOKIE, Session, Sessions
from vouchgate.edges.api.surface import Surface
from vouchgate.flows.login_oidc import CallBack
from vouchgate.flows.people import BROWSER as BROWSER_OWNER
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_identities import LoggedIn
from vouchgate.vocabulary.errors import InvalidInput, NotLoggedIn
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import encode

LOGIN_COOKIE = "vg_login"
LOGIN_PATH = "/api/v1/login"
CALLBACK = "/login/callback"
BEGUN_PER_SECOND, BEGUN_BURST = 0.5, 20.0
"""Logins that browsers begin, all together: a team's morning, not a flood."""
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|\[::1\]):([1-9][0-9]{0,4})/callback\Z")


class PeopleRoutes:
    """The resources under /api/v1/login, and who one is."""

    def __init__(
        self,
        surface: Surface,
        sessions: Sessions,
        monotonic: Callable[[], float],
        *,
        body: Callable[[type, Request], Awaitable[Any]],
        query: Callable[[type, Request], Any],
    ) -> None:
        self._surface, self._sessions, self._body, self._query = surface, sessions, body, query
        self._begun = Rates(BEGUN_PER_SECOND, monotonic, burst=BEGUN_BURST)
        self._finished = Rates(BEGUN_PER_SECOND, monotonic, burst=BEGUN_BURST)

    def routes(self) -> list[BaseRoute]:
        """Everything of this file."""
        return [
            Route(LOGIN_PATH, self._providers, methods=["GET"]),
            Route(f"{LOGIN_PATH}/begin", self._begin, methods=["POST"]),
            Route(f"{LOGIN_PATH}/finish", self._finish, methods=["POST"]),
            Route("/api/v1/whoami", self._whoami, methods=["GET"]),
        ]

    async def _providers(self, request: Request) -> Response:
        self._query(bodies.NoQuery, request)
        return _json(self._surface.login_providers())

    async def _begin(self, request: Request) -> Response:
        body, owner = await self._body(bodies.BeginBody, request), _owner(request)
        self._begun.take(owner)
        browser = owner == BROWSER_OWNER
        address = f"http://{request.headers['host'].lower()}{CALLBACK}" if browser else _loopback(body.redirect_uri)
        if browser and body.redirect_uri:
            raise InvalidInput("a browser comes back to the console", remedy="leave out `redirect_uri`")
        begun = await self._surface.begin_login(body.provider, redirect_uri=address, owner=owner)
        if not browser:
            return _json(begun)
        answer = _json({"url": begun.url})
        # the one path under which it is used, and no longer than the login waits
        answer.set_cookie(LOGIN_COOKIE, begun.binding, max_age=600, httponly=True, samesite="strict", path=LOGIN_PATH)
        return answer

    async def _finish(self, request: Request) -> Response:
        body, owner = await self._body(bodies.FinishBody, request), _owner(request)
        self._finished.take(owner)
        browser = owner == BROWSER_OWNER
        binding = request.cookies.get(LOGIN_COOKIE, "") if browser else body.binding
        back = CallBack(state=body.state, code=body.code, iss=body.iss, error=body.error)
        peer = f"{request.client.host}" if browser and request.client else owner
        caller, shown = await self._surface.finish_login(binding, owner, back, peer=peer)
        self._sessions.close(request.cookies.get(COOKIE, "") if browser else "")
        unix = request.scope.get(PEER)
        token, session = self._sessions.open(caller, uid=BROWSER if unix is None else unix.uid, shown=shown)
        if not browser:
            return _json(told(session, token))
        answer = _json(told(session))
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        answer.delete_cookie(LOGIN_COOKIE, path=LOGIN_PATH, httponly=True, samesite="strict")
        return answer

    async def _whoami(self, request: Request) -> Response:
        session: Session | None = request.scope.get(SESSION)
        caller = await caller_of(self._surface, request)
        if session is not None:
            return _json(told(session))
        who = caller.principal.principal
        return _json(LoggedIn(principal=who.id, groups=who.groups, how=caller.how))


async def caller_of(surface: Surface, request: Request) -> Caller:
    """Who asks: the session shown, which must still stand, or the unix socket's peer. Raises `NotLoggedIn`, `Unverified`."""
    peer, session = request.scope.get(PEER), request.scope.get(SESSION)
    if session is None and peer is not None:
        return await surface.identify_peer(peer.uid, peer.pid)
    found = session_of(request)
    surface.check(found.caller)
    return found.caller


def session_of(request: Request) -> Session:
    """The session that the guard found. Raises `NotLoggedIn`."""
    session: Session | None = request.scope.get(SESSION)
    if session is None:
        raise NotLoggedIn("this needs a console session", remedy="run `vouchgate admin login` and open the printed address")
    return session


def told(session: Session, token: str = "") -> LoggedIn:
    """Who a session stands for; `token` only where it was made just now."""
    who = session.caller.principal.principal
    return LoggedIn(
        principal=who.id,
        groups=who.groups,
        how=session.caller.how,
        shown=session.shown,
        csrf=session.csrf if session.uid == BROWSER else "",
        token=token,
        ends_at=UnixMillis(session.ends_at),
    )


def _owner(request: Request) -> str:
    peer = request.scope.get(PEER)
    return BROWSER_OWNER if peer is None else f"uid:{peer.uid}"


def _loopback(text: str) -> str:
    """Rule 2 for the command line."""
    match = _LOOPBACK.match(text)
    if match is None or int(match[1]) > 65_535:
        raise InvalidInput(f"`{text[:80]}` is not where a command line listens", remedy="give http://127.0.0.1:<port>/callback")
    return text


def _json(answer: Any) -> Response:
    return Response(encode(answer), media_type="application/json")
