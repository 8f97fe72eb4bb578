"""Where transmitters deliver security events (RFC 8935), and what they need to know of ours (SSF 1.0, section 7.1).

1. POST /ssf/events/<transmitter>: a body of `application/secevent+jwt`, bounded; a bearer token where the settings ask for one.
2. Taken: 202 with an empty body. Refused: 400 with `err` and `description` (RFC 8935, section 2.3). Whatever may get better by waiting is 429
   or 503, so that the transmitter tries again.
3. GET /.well-known/ssf-configuration: issuer, keys and delivery method of the events that we send.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vouchgate.edges.bounded_http import whole_body
from vouchgate.edges.sts.answers import BODY_SECONDS, JSON, NOT_KEPT, answer, one_header, peer, query
from vouchgate.edges.sts.desk import Desk
from vouchgate.identity.sets import MEDIA
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, VouchgateError

MAX_EVENT_BYTES = 32 * 1024
"""Bytes of an event token; one has about 1 KiB."""
PUSH = "urn:ietf:rfc:8935"
EVENTS_PATH, CONFIGURATION_PATH = "/ssf/events/{name}", "/.well-known/ssf-configuration"


def routes(desk: Desk, *, expected_token: Callable[[str], str], url: str, issuer: str) -> tuple[BaseRoute, ...]:
    """The routes; `expected_token` gives the bearer token that a transmitter must send, or nothing."""

    async def deliver(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            query(request, ())
            if not _authorised(one_header(request, "authorization"), expected_token(name)):
                return _refused("authentication_failed", "the bearer token is missing or wrong", 401)
            token = await _token(request)
        except InvalidInput as error:
            return _refused("invalid_request", error.reason)
        except LimitExceeded as error:
            return _refused("invalid_request", error.reason, 413)
        try:
            taken = await desk.control.call("sts.event", transmitter=name, token=token, peer=peer(request))
        except VouchgateError as error:
            again = {"retry-after": "5"} if error.status in {429, 503} else {}
            return _refused("access_denied", error.reason, error.status if error.status in {404, 429, 503} else 503, again)
        if taken["status"] == 202:
            return Response(b"", 202, NOT_KEPT)
        return _refused(taken["err"], taken["description"])

    async def configuration(request: Request) -> Response:
        query(request, ())
        said = {
            "spec_version": "1_0",
            "issuer": issuer,
            "jwks_uri": f"{url}/jwks",
            "delivery_methods_supported": [PUSH],
            "default_subjects": "ALL",
        }
        return answer(said)

    return (Route(EVENTS_PATH, deliver, methods=["POST"]), Route(CONFIGURATION_PATH, configuration, methods=["GET"]))


def _authorised(given: str, expected: str) -> bool:
    if not expected:
        return True
    scheme, _, token = given.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode())


async def _token(request: Request) -> str:
    """Rule 1. Raises `InvalidInput`, `LimitExceeded`."""
    found = await whole_body(request, MEDIA, most=MAX_EVENT_BYTES, seconds=BODY_SECONDS, remedy="send one event a token")
    if not found.isascii():
        raise InvalidInput("the body is not a token", remedy="send a compact JWS")
    return found.decode("ascii").strip()


def _refused(err: str, description: str, status: int = 400, headers: dict[str, str] | None = None) -> Response:
    made = answer({"err": err, "description": description[:300]}, status, headers or {})
    made.headers["content-language"] = "en"
    assert made.media_type == JSON
    return made
