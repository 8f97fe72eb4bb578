"""The first thing a request meets: where it came from, whether it may ask at all, and what every answer carries.

Rules, in this order
1. A connection's peer is the kernel's word (`scope[PEER]`, set by edges/api/server.py for unix sockets, absent on TCP). A token that it shows is
   the session of a login, for this very uid; one that does not hold is refused, never passed over for the uid's own identity.
2. On TCP the Host header must be one of the console's own names: a page that rebinds a name to 127.0.0.1 is refused.
3. On TCP a request that may change something must come from the console's own origin (Origin, Sec-Fetch-Site), carry the session's CSRF
   token, and be of a type that no form can send.
4. On TCP without a session only `OPEN` paths answer.
5. Each caller has a rate. Whoever is over it, or over any other bound, waits for the answer that says so: a caller that does not slow down
   is slowed down, and a flood costs no more of our time than its connections (server.py bounds them) ask in `HOLD_SECONDS`.
6. Of one caller at most `AT_ONCE` requests are worked on at once, the others of that caller wait: nobody's revocation waits behind a thousand
   registrations of somebody else. An answer that goes on for long (a live stream) gives up its place when it begins; a file that comes in
   has bounds of its own.
7. Every answer says that it may not be framed, sniffed, cached or given anything from elsewhere.
Left to others: what a caller may do (`decide`, behind the surface).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from http.cookies import CookieError, SimpleCookie

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vouchgate.edges.api.problems import problem, unexpected
from vouchgate.edges.api.rates import Rates
from vouchgate.edges.api.sessions import COOKIE, CSRF_HEADER, Session, Sessions, csrf_holds
from vouchgate.vocabulary.errors import InvalidInput, NotLoggedIn, NotPermitted, VouchgateError

PEER = "vouchgate.peer"
SESSION = "vouchgate.session"
HEALTH = "/healthz"
"""Has no rate: a busy browser must not make a supervisor restart the process."""
OPEN = ("/login", "/login/callback", HEALTH, "/api/v1/session", "/api/v1/login", "/api/v1/login/begin", "/api/v1/login/finish")
OPEN_PREFIX = "/assets/"
NOW_HEADER = "vouchgate-now"
"""The control plane's clock in milliseconds: ages and countdowns are told by it, not by the reader's clock."""
SAFE_METHODS = ("GET", "HEAD")
"""RFC 9110, section 9.2.1; nothing else is routed without a token."""
ANONYMOUS_PER_SECOND = 20.0
"""All browsers without a session together: a login page needs five requests."""
HOLD_SECONDS = 0.25
"""How long a 429 is held back (RFC 6585, section 4): 64 connections of one caller then bring at most 256 refusals a second."""
TOO_MANY = 429
AT_ONCE = 4
"""About 4 ms of our time each: what a request waits for another caller's at most."""
MAX_COOKIE_BYTES = 4096
"""Other servers on this host share our cookie jar (cookies know no port); more than this is not parsed."""

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class UnixPeer(msgspec.Struct, frozen=True):
    """The process at the other end of a unix socket (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class Guard:
    """ASGI middleware; `console_hosts` gives the values that Host may have on TCP, as `name:port`."""

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        console_hosts: Callable[[], Collection[str]],
        per_second: float,
        now: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._app, self._sessions, self._hosts, self._now = app, sessions, console_hosts, now
        self._rates = Rates(per_second, monotonic)
        self._anonymous = Rates(ANONYMOUS_PER_SECOND, monotonic)
        self._lanes: dict[int, asyncio.Semaphore] = {}
        self._in_lane: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        scope["app"] = self
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if message["status"] == TOO_MANY:
                    await asyncio.sleep(HOLD_SECONDS)
                _harden(message, scope["path"], self._now())
            await send(message)

        try:
            answer = self._refused(scope)
            async with self._place(scope, guarded) as answers:
                await (answer or self._app)(scope, receive, answers)
        except VouchgateError as error:
            if started:
                raise
            await problem(error, scope["path"][:200])(scope, receive, guarded)
        except Exception as error:
            told = unexpected(error)
            if started:
                raise told from None
            await problem(told, scope["path"][:200])(scope, receive, guarded)

    @contextlib.asynccontextmanager
    async def _place(self, scope: Scope, send: Send) -> AsyncIterator[Send]:
        """Rule 6: wait for a place, and give it up when the answer begins."""
        peer = scope.get(PEER)
        if scope["method"] == "PUT" or scope["path"] == HEALTH or peer is None:
            yield send
            return
        lane = self._lanes.setdefault(peer.uid, asyncio.Semaphore(AT_ONCE))
        self._in_lane[peer.uid] += 1
        held = False

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                lane.release()

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                leave()
            await send(message)

        try:
            await lane.acquire()
            held = True
            yield telling
        finally:
            leave()
            self._in_lane[peer.uid] -= 1
            if not self._in_lane[peer.uid]:
                del self._in_lane[peer.uid], self._lanes[peer.uid]

    def _refused(self, scope: Scope) -> Response | None:
        peer: UnixPeer | None = scope.get(PEER)
        headers = Headers(scope=scope)
        if peer is not None:
            self._rates.take(f"uid:{peer.uid}")
            scope[SESSION] = self._shown(headers, peer)
            return None
        self._check_host(headers)
        session = self._session(headers)
        scope[SESSION] = session
        if scope["path"] == HEALTH:
            return None
        if session is None:
            self._anonymous.take("anonymous")
        else:
            self._rates.take(session.caller.principal.principal.id)
        if scope["method"] not in SAFE_METHODS:
            self._check_origin(headers)
            if session is not None and not csrf_holds(session, headers.get(CSRF_HEADER, "")):
                raise NotPermitted("the CSRF token is missing or wrong", remedy="reload the console page")
        path = scope["path"]
        if session is None and path not in OPEN and not path.startswith(OPEN_PREFIX):
            if path == "/":
                return RedirectResponse("/login", 303)
            raise NotLoggedIn("this needs a console session", remedy="run `vouchgate admin login` and open the printed address")
        return None

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts():
            named = hosts[0][:100] if hosts else ""
            raise InvalidInput(f"`{named}` is not a name of this console", remedy="open the address that `vouchgate status` prints")

    def _check_origin(self, headers: Headers) -> None:
        """Rule 3. A browser always sends Origin on an unsafe request (Fetch, section 3.2); so a request without it is not a console's."""
        origin = headers.get("origin", "")
        site = headers.get("sec-fetch-site", "same-origin")
        if origin.lower() not in {f"http://{host}" for host in self._hosts()} or site != "same-origin":
            raise NotPermitted(f"a request from `{origin[:100]}` may change nothing here", remedy="use the console page itself")

    def _shown(self, headers: Headers, peer: UnixPeer) -> Session | None:
        """Rule 1 (RFC 6750, section 2.1)."""
        given = headers.getlist("authorization")
        if not given:
            return None
        scheme, _, token = given[0].partition(" ")
        session = self._sessions.find(token, uid=peer.uid) if len(given) == 1 and scheme.lower() == "bearer" and token else None
        if session is None:
            raise NotLoggedIn(
                "the login has ended, or is not this user's", remedy="run `vouchgate login`, or `vouchgate logout` to act as the unix user"
            )
        return session

    def _session(self, headers: Headers) -> Session | None:
        """More than one cookie of our name means that somebody else set one: none counts."""
        text = headers.get("cookie", "")
        if not text or len(text) > MAX_COOKIE_BYTES or text.count(f"{COOKIE}=") != 1 or len(headers.getlist("cookie")) != 1:
            return None
        try:
            morsel = SimpleCookie(text).get(COOKIE)
        except CookieError:
            return None
        return self._sessions.find(morsel.value) if morsel else None


def _harden(message: Message, path: str, now: int) -> None:
    headers = MutableHeaders(scope=message)
    headers[NOW_HEADER] = str(now)
    for name, value in SECURITY_HEADERS.items():
        headers[name] = value
    if "cache-control" not in headers:
        headers["cache-control"] = "no-cache" if path.startswith(OPEN_PREFIX) else "no-store"
