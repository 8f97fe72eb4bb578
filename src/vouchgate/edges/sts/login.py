"""GET /login and /login/callback: a person says who they are on behalf of a client that waits for it (authorize.py).

1. The browser is sent to a provider of [[oidc]]; where there are several, the person chooses one.
2. What only this browser keeps is a `__Host-` cookie, HttpOnly, Secure and SameSite=Lax (the provider's redirect is a navigation from outside).
   Without it a callback names nobody, so no page can put somebody else's login here.
3. Nothing on these pages comes from a query: names are those of the settings, and a page has no script.
"""

from __future__ import annotations

import html
import re
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vouchgate.edges.sts.answers import NOT_KEPT, peer, query, said
from vouchgate.edges.sts.desk import Desk
from vouchgate.vocabulary.errors import InvalidInput

COOKIE = "__Host-vouchgate-login"
COOKIE_SECONDS = 600
_BINDING = re.compile(r"[A-Za-z0-9_-]{20,64}\.[A-Za-z0-9_-]{20,64}\Z")
_PAGE = NOT_KEPT | {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-frame-options": "DENY",
}


async def login(desk: Desk, request: Request) -> Response:
    """Rule 1."""
    asked = query(request, ("return", "provider"))
    made = await desk.control.call("sts.login", wish=asked.get("return", ""), provider=asked.get("provider", ""))
    if "denied" in made:
        return said(made)
    if "providers" in made:
        links = "".join(
            f'<li><a href="/login?{html.escape(urlencode({"return": asked["return"], "provider": one["name"]}))}">{html.escape(one["title"])}</a></li>'
            for one in made["providers"]
        )
        return Response(f"<!doctype html><title>log in</title><ul>{links}</ul>", 200, _PAGE, media_type="text/html")
    answer = RedirectResponse(made["url"], 303, NOT_KEPT)
    answer.set_cookie(
        COOKIE, f"{asked['return']}.{made['binding']}", max_age=COOKIE_SECONDS, path="/", secure=True, httponly=True, samesite="lax"
    )
    return answer


async def callback(desk: Desk, request: Request) -> Response:
    """Rule 2: to the client, with a code or a refusal."""
    asked = query(request, ("state", "code", "iss", "error", "error_description", "error_uri", "session_state", "scope"))
    kept = request.cookies.get(COOKIE, "")
    if not _BINDING.match(kept):
        raise InvalidInput("this browser began no login here", remedy="begin again in the application")
    wish, _, binding = kept.partition(".")
    back = {name: asked.get(name, "") for name in ("state", "code", "iss", "error")}
    made = await desk.control.call("sts.login_back", wish=wish, binding=binding, back=back, peer=peer(request))
    answer = said(made) if "denied" in made else RedirectResponse(made["url"], 303, NOT_KEPT)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer
