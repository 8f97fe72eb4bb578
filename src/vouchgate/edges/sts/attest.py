"""POST /attest and GET /nonce: an identity for a workload elsewhere, by evidence and a key that it holds."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from vouchgate.edges.sts.answers import document, one_header, peer, query, said
from vouchgate.edges.sts.desk import Desk
from vouchgate.flows.attest_remote import AttestRequest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import to_plain

KINDS = ("", "text", "digits")


async def nonce(desk: Desk, request: Request) -> Response:
    """A number for one attempt; `kind=digits` for services that take no other."""
    kind = query(request, ("kind",)).get("kind", "")
    if kind not in KINDS:
        raise InvalidInput(f"`{kind[:32]}` is not a kind of nonce", remedy="ask for `text` or `digits`")
    return said(await desk.control.call("sts.nonce", digits=kind == "digits"))


async def attest(desk: Desk, request: Request) -> Response:
    """Evidence in, certificate or token out."""
    query(request, ())
    asked = await document(AttestRequest, request)
    proof = one_header(request, "dpop")
    return said(await desk.control.call("sts.attest", request=to_plain(asked), proof=proof, peer=peer(request)))
