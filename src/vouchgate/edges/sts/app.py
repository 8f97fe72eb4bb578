"""The token service's resources, and what every one of them passes first.

Rules
1. A resource is one line of `ROUTES` and one file of this folder; anything else is 404.
2. Each client has a rate: its certificate where it presented one, its address otherwise; and there is one for all together.
3. A typed error becomes the one form of answers.py; any other is told as `server_error` without its text, which may hold a secret.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from vouchgate.edges.api.rates import Rates
from vouchgate.edges.sts import attest, authorize, login, metadata, token
from vouchgate.edges.sts.answers import answer, failure, network_of, peer, presented
from vouchgate.edges.sts.desk import Desk
from vouchgate.vocabulary.errors import VouchgateError

Resource = Callable[[Desk, Request], Awaitable[Response]]
ROUTES: tuple[tuple[str, str, Resource], ...] = (
    *(("GET", path, metadata.metadata) for path in metadata.PATHS),
    ("GET", metadata.KEYS_PATH, metadata.keys),
    ("GET", metadata.BUNDLE_PATH, metadata.bundle),
    ("POST", "/token", token.token),
    ("POST", "/attest", attest.attest),
    ("GET", "/nonce", attest.nonce),
    ("GET", "/authorize", authorize.authorize),
    ("GET", authorize.LOGIN_PATH, login.login),
    ("GET", f"{authorize.LOGIN_PATH}/callback", login.callback),
)

ALL_PER_SECOND = 300.0
"""Requests of all clients: a fifth of the control plane's time, so that a flood from everywhere is this process's trouble and not its."""

log = logging.getLogger("vouchgate.sts")


def build_app(desk: Desk, *, requests_per_second: float, monotonic: Callable[[], float], more: tuple[BaseRoute, ...] = ()) -> ASGIApp:
    """The whole app. `more` are routes of others, for example where people log in."""
    rates, together = Rates(requests_per_second, monotonic), Rates(ALL_PER_SECOND, monotonic)
    router = Router([*(Route(path, _bound(desk, ask), methods=[method]) for method, path, ask in ROUTES), *more], redirect_slashes=False)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            rates.take(_client(request))
            together.take("")
            if not any(route.matches(scope)[0].value == 2 for route in router.routes):
                await answer(_NOWHERE, 404)(scope, receive, send)
                return
            await router(scope, receive, send)
        except VouchgateError as error:
            await failure(error)(scope, receive, send)
        except Exception as error:
            # a text could hold a secret: the class alone is logged
            log.error("a request failed: %s", type(error).__name__)
            await failure(VouchgateError("the request failed inside", remedy="see the token service's log"))(scope, receive, send)

    return app


_NOWHERE: dict[str, Any] = {
    "error": "invalid_request",
    "error_description": "there is no such resource here",
    "remedy": "see /.well-known/oauth-authorization-server",
}


def _bound(desk: Desk, ask: Resource) -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        return await ask(desk, request)

    return handler


def _client(request: Request) -> str:
    chain = presented(request)
    return hashlib.sha256(chain[0]).hexdigest() if chain else network_of(peer(request))
