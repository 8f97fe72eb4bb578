"""Rotate the X.509 authority: a person's step, decided and recorded, and then the bundle that every enforcement point follows.

1. The act is decided (`administer:rotate-key`). 2. It is recorded before it is done, so that nobody rotates unseen. 3. The signer takes the
step. 4. The signer's public side is published if it changed: one `KeysPublished`, whose sequence rises, tells gateways, the PDP workers and
the Workload API's streams. A step that the signer took and nobody published (we ended in between) is published at the next start.
Left to others: which step may follow which (flows/x509_authority.py), the gateway's own certificate (edges/processes/control.py).
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.context import Context
from vouchgate.flows.start import publish_keys
from vouchgate.identity.upstream import read_pem_chain
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.ca import CaInstallRequest, CaRequested, CaStatus, CaStepRequest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import from_plain

MAX_REASON = 500
"""Characters of a reason that are kept."""


async def show(context: Context, caller: Caller) -> CaStatus:
    """The authority as it stands."""
    await authorise(context, caller, "read")
    return _status(context, await context.signer.call("ca"))


async def step(context: Context, caller: Caller, request: CaStepRequest) -> CaStatus:
    """Steps 1 to 4. Raises `NotPermitted`, and `Conflict` for a step that does not follow."""
    await _decided(context, caller, "ca-step", {"step": request.step, "force": request.force, "reason": request.reason[:MAX_REASON]})
    said = await context.signer.call("ca_step", step=request.step, force=request.force)
    await publish_keys(context)
    return _status(context, said)


async def ask(context: Context, caller: Caller) -> CaRequested:
    """A request for a CA above ours; nothing is published."""
    await _decided(context, caller, "ca-request", {})
    said = await context.signer.call("ca_request")
    return CaRequested(pem=x509.load_der_x509_csr(said["csr"]).public_bytes(Encoding.PEM).decode())


async def install(context: Context, caller: Caller, request: CaInstallRequest) -> CaStatus:
    """Take in what the CA above ours returned: it is in the bundle then, and signs once it is activated."""
    await authorise(context, caller, "rotate-key")
    chain = read_pem_chain(request.pem.encode())
    detail = {"root_fingerprint": request.root_fingerprint[:100], "certificates": len(chain), "reason": request.reason[:MAX_REASON]}
    await _begun(context, caller, "ca-install", detail)
    said = await context.signer.call("ca_install", chain=list(chain), root_fingerprint=request.root_fingerprint)
    await publish_keys(context)
    return _status(context, said)


async def _decided(context: Context, caller: Caller, verb: str, detail: dict[str, Any]) -> None:
    await authorise(context, caller, "rotate-key")
    await _begun(context, caller, verb, detail)


async def _begun(context: Context, caller: Caller, verb: str, detail: dict[str, Any]) -> None:
    if "reason" in detail and not detail["reason"].strip():
        raise InvalidInput("no reason is given", remedy="say why, for the log")
    await context.sequencer.submit(caller.principal.principal.id, (), [act_entry(context, caller, verb, "", "begun", detail)])


def _status(context: Context, said: dict[str, Any]) -> CaStatus:
    sequence = context.facts.bundle.sequence if context.facts.bundle else 0
    return from_plain(CaStatus, {**said, "sequence": sequence}, what="signer's answer")
