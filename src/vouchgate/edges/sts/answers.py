"""What every resource of the token service shares: one way to read a request, one form for every "no".

Rules
1. A body is bounded before it is parsed, whole within `BODY_SECONDS`, of the one media type that the resource takes; a parameter that is there
   twice is refused (RFC 6749, section 3.2), so is one that is not known.
2. Every "no" is `{"error", "error_description", "remedy"}` (RFC 6749, section 5.2); `error` is a registered code where there is one.
3. No answer is kept by anybody on the way (RFC 6749, section 5.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from vouchgate.edges.bounded_http import whole_body
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, VouchgateError
from vouchgate.vocabulary.wire import encode

MAX_BODY_BYTES = 64 * 1024
"""Bytes of a body: two tokens of 4 KiB, or a cloud's instance document with its chain."""
BODY_SECONDS = 5.0
"""A body must be whole within this."""
MAX_FIELDS = 24
"""Parameters of one form."""
MAX_TEXT = 1_000
"""Characters of a reason; a longer one carries somebody's input."""
CHAIN = "vouchgate.chain"
"""Where the server puts the peer's certificates (DER, leaf first) into the scope."""
NOT_KEPT = {"cache-control": "no-store", "pragma": "no-cache", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
_ERRORS = {
    "invalid-input": "invalid_request", "invalid-name": "invalid_request", "not-found": "invalid_request", "not-permitted": "access_denied",
    "unverified": "access_denied", "conflict": "invalid_grant", "limit-exceeded": "slow_down", "unavailable": "temporarily_unavailable",
}  # fmt: skip
_STATUS = {"invalid_client": 401, "access_denied": 403, "invalid_token": 401, "use_dpop_nonce": 400}
"""HTTP status by error; 400 for the rest (RFC 6749, section 5.2)."""


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(encode(value), status, NOT_KEPT | (headers or {}), media_type=JSON)


def refusal(code: str, reason: str, remedy: str) -> Response:
    """Rule 2 for an expected no; `code` is the control plane's, with hyphens."""
    error = code.replace("-", "_")
    status = _STATUS.get(error, 400)
    # RFC 9110, section 11.6.1: a 401 names a scheme
    headers = {"www-authenticate": "DPoP"} if status == 401 else {}
    return answer({"error": error, "error_description": reason[:MAX_TEXT], "remedy": remedy[:MAX_TEXT]}, status, headers)


def failure(error: VouchgateError) -> Response:
    """Rule 2 for a broken world."""
    headers = {"retry-after": "1"} if error.status in (429, 503) else {}
    said = {
        "error": _ERRORS.get(error.code, "server_error"),
        "error_description": error.reason[:MAX_TEXT],
        "remedy": error.remedy[:MAX_TEXT],
    }
    return answer(said, error.status, headers)


def said(value: Any) -> Response:
    """What the control plane answered: a value, or a refusal as `{"denied": {code, reason, remedy}}`."""
    if isinstance(value, dict) and "denied" in value:
        denied = value["denied"]
        return refusal(str(denied["code"]), str(denied["reason"]), str(denied["remedy"]))
    return answer(value)


async def form(request: Request, known: Collection[str]) -> dict[str, str]:
    """Rule 1 for a form. Raises `InvalidInput`, `LimitExceeded`."""
    raw = await _body(request, FORM)
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise InvalidInput("the body is not a form", remedy="send application/x-www-form-urlencoded") from None
    return _once(pairs, known)


def query(request: Request, known: Collection[str]) -> dict[str, str]:
    """Rule 1 for a query."""
    raw = request.scope["query_string"]
    if len(raw) > MAX_BODY_BYTES:
        raise LimitExceeded("the query is over the bound", remedy="send a shorter one")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise InvalidInput("the query cannot be read", remedy="percent-encode it (RFC 3986, section 2.1)") from None
    return _once(pairs, known)


def _once(pairs: list[tuple[str, str]], known: Collection[str]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidInput("a parameter is there twice", remedy="send each parameter once")
    strange = sorted(set(found) - set(known))
    if strange:
        raise InvalidInput(f"`{strange[0][:64]}` is not a parameter here", remedy=f"send only {', '.join(sorted(known))}")
    return found


async def document(kind: type[Any], request: Request) -> Any:
    """Rule 1 for a JSON body. Raises `InvalidInput`, `LimitExceeded`."""
    raw = await _body(request, JSON)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"the body cannot be read: {str(error)[:200]}", remedy="send the JSON object that the documentation shows"
        ) from None


async def _body(request: Request, media: str) -> bytes:
    return await whole_body(request, media, most=MAX_BODY_BYTES, seconds=BODY_SECONDS)


def one_header(request: Request, name: str) -> str:
    """A header that may be there once (RFC 9449, section 4.3, check 1). Raises `InvalidInput`."""
    found = request.headers.getlist(name)
    if len(found) > 1:
        raise InvalidInput(f"the header `{name}` is there twice", remedy="send it once")
    return found[0] if found else ""


def presented(request: Request) -> list[bytes]:
    """The peer's certificates."""
    return list(request.scope.get(CHAIN, ()))


def network_of(address: str) -> str:
    """Whose an address is, as rates and bounds see it: an IPv6 network of 64 bits is one host's to choose from (RFC 4291, section 2.5.4)."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address) or known.ipv4_mapped is not None:
        return address
    return str(ipaddress.ip_network((int(known), 64), strict=False).network_address)


def peer(request: Request) -> str:
    """The peer's address, for the log and for its rate; never for a decision."""
    return request.client.host if request.client else ""
