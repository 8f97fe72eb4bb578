"""Who we are, for those who verify our tokens: RFC 8414 metadata, an OpenID configuration for verifiers that know only that, and the keys."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from vouchgate.edges.sts.answers import JSON, query
from vouchgate.edges.sts.desk import Desk

KEPT = {"cache-control": "public, max-age=60", "access-control-allow-origin": "*", "x-content-type-options": "nosniff"}
"""Nothing here is secret; a key that is withdrawn is gone from every cache after a minute."""
PATHS = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")
KEYS_PATH = "/jwks"
BUNDLE_PATH = "/bundle"
"""Our bundle endpoint (SPIFFE Federation, section 5): the SVID of `spiffe://<trust domain>/system/sts/sts` serves it (https_spiffe), and where
`[sts] web_certificate` is set, callers that ask by its name get that one (https_web)."""


async def metadata(desk: Desk, request: Request) -> Response:
    """RFC 8414, section 3."""
    query(request, ())
    return Response(await desk.control.call("sts.metadata"), 200, KEPT, media_type=JSON)


async def keys(desk: Desk, request: Request) -> Response:
    """The JWT keys alone (RFC 7517, section 5)."""
    query(request, ())
    return Response(await desk.control.call("sts.jwks"), 200, KEPT, media_type="application/jwk-set+json")


async def bundle(desk: Desk, request: Request) -> Response:
    """The whole bundle (SPIFFE Federation, section 5.1)."""
    query(request, ())
    return Response(await desk.control.call("sts.bundle"), 200, KEPT, media_type=JSON)
