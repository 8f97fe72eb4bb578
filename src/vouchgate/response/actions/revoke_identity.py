"""Withdraw the identity that a finding is about, and all its grants and vouches with it.

Rules
1. A finding whose subject could have been framed by somebody unauthenticated never costs an identity: it is declined.
2. vouchgate's own processes, callers that only claim a name, names of another trust domain, and the last administrator are declined;
   a way to lock everybody out would be an attack of its own.
3. Nobody need agree where only the subject loses something and the finding is at least high. One person must where the finding is
   weaker, or the subject is a person or an administrator; two must where others lose an endpoint or a grant.
"""

from __future__ import annotations

from typing import Literal

from vouchgate.response.actions import Action
from vouchgate.response.effects import BlastRadius, Declined, Effect, Revoke, Situation, Unrevoke, idempotency_key
from vouchgate.vocabulary.answers import RevokeRequest
from vouchgate.vocabulary.errors import InvalidName
from vouchgate.vocabulary.events import Finding
from vouchgate.vocabulary.names import PrincipalParts, principal_parts
from vouchgate.vocabulary.vouches import UnixMillis

NAME, VERSION = "revoke-identity", 1
PLAN_MS = 15 * 60 * 1000
"""Milliseconds a plan stays good: what it touches was foreseen for the present."""


def plan(finding: Finding, situation: Situation) -> Effect | Declined:
    """What withdrawing the subject would take, or why it is not to be done."""
    parts = _subject(finding, situation)
    if isinstance(parts, Declined):
        return parts
    foreseen = situation.foreseen
    if foreseen.target_kind != "principal" or foreseen.target != finding.subject or not foreseen.planned:
        return Declined(
            code="not-foreseen", reason="what it would touch was foreseen for something else", remedy="plan it for this subject"
        )
    key = idempotency_key(NAME, VERSION, situation.trust_domain, finding.subject, finding.id)
    approvals, why = _approvals(finding, situation, parts)
    reason = f"{finding.detector} {finding.detector_version}: {finding.kind}, finding {finding.id}"
    return Effect(
        action=NAME,
        action_version=VERSION,
        trust_domain=situation.trust_domain,
        subject=finding.subject,
        because=finding.id,
        idempotency_key=key,
        do=(Revoke(request=RevokeRequest(kind="principal", target=finding.subject, reason=reason, cascade="downstream")),),
        undo=(Unrevoke(of=key, reason=f"undo of {NAME} for finding {finding.id}"),),
        blast_radius=BlastRadius(
            principals=foreseen.callers, endpoints=foreseen.endpoints, vouches=len(foreseen.vouches), grants=foreseen.grants
        ),
        approvals=approvals,
        approval_reason=why,
        not_after=UnixMillis(min(situation.now + PLAN_MS, finding.expires_at)),
    )


def _subject(finding: Finding, situation: Situation) -> PrincipalParts | Declined:
    """Rules 1 and 2."""
    if finding.status != "open" or finding.expires_at <= situation.now:
        return Declined(code="not-open", reason="the finding is closed or has lapsed", remedy="act on an open finding")
    if not finding.authenticated_basis:
        return Declined(
            code="could-be-framed",
            reason="somebody without a verified identity could have brought this about",
            remedy="look at its events; a responder may still revoke: `vouchgate revoke`",
        )
    try:
        parts = principal_parts(finding.subject)
    except InvalidName:
        return Declined(code="no-identity", reason="the subject is not an identity", remedy="choose an action for what it is")
    if parts.trust_domain != situation.trust_domain:
        return Declined(code="foreign", reason="the identity belongs to another trust domain", remedy="tell its administrators")
    if parts.kind in {"system", "declared"}:
        return Declined(
            code="not-withdrawable", reason=f"a `{parts.kind}` identity is not withdrawn by itself", remedy="see `vouchgate status`"
        )
    if set(situation.administrators) == {finding.subject}:
        return Declined(
            code="last-administrator", reason="nobody could administer vouchgate afterwards", remedy="add another administrator first"
        )
    return parts


def _approvals(finding: Finding, situation: Situation, parts: PrincipalParts) -> tuple[Literal[0, 1, 2], str]:
    """Rule 3."""
    others = set(situation.foreseen.callers) - {finding.subject}
    if others or situation.foreseen.endpoints:
        return 2, f"{len(others)} other callers and {len(situation.foreseen.endpoints)} endpoints would stop"
    if parts.kind == "person" or finding.subject in situation.administrators:
        return 1, "the subject is a person or an administrator"
    if finding.severity not in {"high", "critical"}:
        return 1, f"the finding is {finding.severity}"
    return 0, "only the subject loses something, and the finding is " + finding.severity


ACTION = Action(name=NAME, version=VERSION, plan=plan, summary="withdraw the identity a finding is about, with its grants and vouches")
