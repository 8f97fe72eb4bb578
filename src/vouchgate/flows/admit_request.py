"""One request that could not be decided ahead of it: asked by the gateway, answered over the whole request.

1. The facts must be fresh: without word from the control plane within the lease, nothing is let in.
2. Who is calling, by the gateway's rules; the gateway verified the credentials, the kernel said that the gateway speaks.
3. A standing revocation of the caller or of the credential ends it.
4. What is asked for: the endpoint, or the endpoint behind the model that the body names.
5. `decide` with the request's own facts. A reader sees the reason, what is missing and the cheapest remedy.
The answer leaves after the decision is in the log (the edge waits for `record`).
"""

from __future__ import annotations

import base64
import datetime
import secrets
from typing import Any

import msgspec

from vouchgate.flows.facts import Facts
from vouchgate.identity.verify import forwarded
from vouchgate.vocabulary.decisions import Decision, Missing
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

PROBLEM_TYPE = "https://vouchgate.dev/problem/"
VERIFIED_NOW_MS = 60_000
"""Milliseconds for which the gateway's word on a credential stands: this one request, generously."""
_STATUS = {"anonymous": 401, "expired": 401, "jwt-unbound": 401, "bearer-not-listed": 401}


class Problem(Noun, frozen=True, kw_only=True):
    """RFC 9457, section 3.1, with our members beside."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    request_id: str
    decision_id: str
    missing: tuple[Missing, ...] = ()


class Admission(Noun, frozen=True, kw_only=True):
    """The answer to one request, and what of it is recorded."""

    allowed: bool
    decision: Decision
    problem: Problem | None = None
    alarm: str = ""
    """Why nothing more may be decided; empty while all is well."""


def admit(request: Request, facts: Facts, now: UnixMillis, *, lease_until: UnixMillis) -> Admission:
    """Steps 1 to 5."""
    endpoint = facts.endpoints.get(request.endpoint)
    if now >= lease_until or facts.policies is None:  # 1
        return _refused(request, facts, now, "lease-expired", "the decision point has not heard from the control plane", "start it", 503)
    if endpoint is None:
        return _refused(request, facts, now, "no-route", "nothing is known of this endpoint", "see `vouchgate status`", 404)
    caller = _caller(request, facts, now, bearer=endpoint.bearer)  # 2
    if isinstance(caller, Denied):
        return _refused(request, facts, now, caller.code, caller.reason, caller.remedy, _STATUS.get(caller.code, 403))
    for name, credential in (
        (caller.principal.id, caller.credential_id),
        (request.san, request.serial),
        (request.subject, request.token_id),
    ):
        revocation = facts.revocation_of(name, credential) if name or credential else None  # 3
        if revocation is not None:
            reason = f"`{revocation.target}` was revoked: {revocation.reason}"
            return _refused(request, facts, now, "revoked", reason, "ask a responder; another person may undo it", 403, revocation.id)
    name = endpoint.models.get(request.model, "") if endpoint.model_in_body else str(endpoint.id)  # 4
    if not name:
        reason = f"the body asks for the model `{request.model[:64]}`, which this endpoint does not offer"
        remedy = f"ask for one of {', '.join(sorted(endpoint.models))}"
        return _refused(request, facts, now, "unknown-model", reason, remedy, 403)
    mode = facts.mode_of(endpoint.zone, now)
    known = _request_facts(request, now)
    decision = facts.decide(caller, request.action, name, now, facts=known, mode=mode)  # 5
    mismatch = facts.recheck(decision, caller, known)
    if mismatch:
        refused = _refused(
            request, facts, now, "engines-disagree", mismatch, "report it; policies are not decided on until it is found", 503
        )
        return msgspec.structs.replace(refused, alarm=mismatch)
    if decision.effect == "allow":
        return Admission(allowed=True, decision=decision)
    return Admission(allowed=False, decision=decision, problem=problem_of(decision, request.request_id))


def problem_of(decision: Decision, request_id: str) -> Problem:
    """A deny as the caller reads it."""
    code = "evidence-missing" if decision.missing else "denied"
    return Problem(
        type=PROBLEM_TYPE + code,
        title=code.replace("-", " "),
        status=403,
        detail=decision.reason,
        remedy=decision.remedy,
        request_id=request_id,
        decision_id=decision.id,
        missing=decision.missing,
    )


def _caller(request: Request, facts: Facts, now: UnixMillis, *, bearer: bool) -> VerifiedPrincipal | Denied:
    soon = UnixMillis(now + VERIFIED_NOW_MS)
    if request.actor:
        return Denied(code="delegated", reason="delegated tokens are not accepted here", remedy="call with an identity of your own")
    if "," in request.san:
        return Denied(code="several-ids", reason="the certificate names several identities", remedy="present an X.509-SVID with one")
    return forwarded(
        san=request.san,
        serial=request.serial,
        thumbprint=request.fingerprint,
        certificate_not_after=soon,
        sub=request.subject,
        jti=request.token_id,
        token_not_after=soon,
        cnf_x5t=_hexadecimal(request.confirmation),
        trust_domain=facts.trust_domain,
        now=now,
        bearer=bearer,
        groups_of=facts.groups_of,
    )


def _hexadecimal(confirmation: str) -> str:
    """`x5t#S256` (RFC 8705, section 3.1) as a thumbprint; what is none matches no certificate."""
    if not confirmation:
        return ""
    try:
        return base64.urlsafe_b64decode(confirmation + "=" * (-len(confirmation) % 4)).hex() or "none"
    except ValueError:
        return "none"


def _request_facts(request: Request, now: UnixMillis) -> dict[str, Any]:
    known: dict[str, Any] = {
        "hour": datetime.datetime.fromtimestamp(now / 1000, datetime.UTC).hour,
        "method": request.method[:16],
        "path": request.path[:8192],
    }
    address = request.peer.rpartition(":")[0].strip("[]") or request.peer
    if address.replace(".", "").isdigit() or ":" in address:
        known["source_ip"] = address
    return known


def _refused(
    request: Request, facts: Facts, now: UnixMillis, code: str, reason: str, remedy: str, status: int, revocation_id: str = ""
) -> Admission:
    """A no from before the policy: recorded as a decision like any other."""
    decision = Decision(
        id=secrets.token_hex(16),
        trust_domain=facts.trust_domain,
        effect="deny",
        would_be="deny",
        principal=request.subject or request.san,
        action=request.action,
        resource=request.endpoint,
        policy_digest=facts.policies.digest if facts.policies else "",
        policy_version=facts.policies.version if facts.policies else 0,
        evidence_epoch=facts.epoch,
        determining=(f"revocation:{revocation_id}",) if revocation_id else (),
        reason=reason,
        remedy=remedy,
        not_after=now,
        evaluated_at=now,
    )
    problem = Problem(
        type=PROBLEM_TYPE + code,
        title=code.replace("-", " "),
        status=status,
        detail=reason,
        remedy=remedy,
        request_id=request.request_id,
        decision_id=decision.id,
    )
    return Admission(allowed=False, decision=decision, problem=problem)
