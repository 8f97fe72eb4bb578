"""POST /token: token exchange (RFC 8693) and the authorisation code's second half (RFC 6749, section 4.1.3)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from vouchgate.edges.sts.answers import form, one_header, peer, presented, query, said
from vouchgate.edges.sts.desk import Desk
from vouchgate.flows.authorize_client import TOKEN_PARAMETERS
from vouchgate.flows.exchange_token import PARAMETERS

KNOWN = PARAMETERS | TOKEN_PARAMETERS


async def token(desk: Desk, request: Request) -> Response:
    """The control plane verifies everything again; this process only carries it."""
    query(request, ())
    asked = await form(request, KNOWN)
    proof = one_header(request, "dpop")
    return said(await desk.control.call("sts.token", form=asked, chain=presented(request), proof=proof, peer=peer(request)))
