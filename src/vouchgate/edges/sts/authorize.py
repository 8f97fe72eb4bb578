"""GET /authorize: a client that a person runs asks that person (RFC 6749, section 4.1.1, with PKCE and RFC 8707)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vouchgate.edges.sts.answers import NOT_KEPT, network_of, peer, query, said
from vouchgate.edges.sts.desk import Desk
from vouchgate.flows.authorize_client import PARAMETERS

LOGIN_PATH = "/login"
"""Where the person logs in; it ends at the client."""


async def authorize(desk: Desk, request: Request) -> Response:
    """To the login, or a refusal that is shown here: an address is redirected to only after a login."""
    made = await desk.control.call("sts.authorize", query=query(request, PARAMETERS), peer=network_of(peer(request)))
    if "denied" in made:
        return said(made)
    return RedirectResponse(f"{LOGIN_PATH}?return={made['login']}", 303, NOT_KEPT)
