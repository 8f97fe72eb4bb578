"""What the control plane tells of callers, endpoints and decisions, and why one was made. Rules as in vocabulary/answers.py."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.answers import NEVER, VouchState
from vouchgate.vocabulary.decisions import Decision, Effect, Missing, Mode
from vouchgate.vocabulary.names import PrincipalId
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.principals import CredentialKind
from vouchgate.vocabulary.vouches import Tier, UnixMillis
from vouchgate.vocabulary.wire import Noun


class EndpointState(Noun, frozen=True, kw_only=True):
    """An endpoint, whether it may answer, and the evidence for that. Digest and tier are in `endpoint`."""

    endpoint: Endpoint
    mode: Mode
    verdict: Literal["served", "refused"]
    """`refused`: no caller may pass, because evidence about the endpoint itself is missing or falls."""
    reason: str = ""
    missing: tuple[Missing, ...] = ()
    vouches: tuple[VouchState, ...] = ()
    callers: int = 0
    """Callers that hold a grant now."""
    allowed: int = 0
    denied: int = 0
    would_deny: int = 0
    last_call_at: UnixMillis = NEVER


class CallerState(Noun, frozen=True, kw_only=True):
    """Someone who is registered or has called."""

    principal: PrincipalId
    groups: tuple[str, ...] = ()
    credential_kind: CredentialKind
    authenticated: bool
    credential_until: UnixMillis = NEVER
    last_seen: UnixMillis = NEVER
    allowed: int = 0
    denied: int = 0
    would_deny: int = 0
    revoked: str = ""
    """Id of the standing revocation that touches it, or nothing."""


class DecisionLine(Noun, frozen=True, kw_only=True):
    """One call as it was answered: an entry of the log made readable."""

    seq: int
    """Log index; rises."""
    at: UnixMillis
    effect: Effect
    would_be: Effect
    mode: Mode
    principal: str
    """Empty for a caller without identity."""
    federated: str = ""
    """The id that a partner's caller presented; `principal` is our name for it."""
    authenticated: bool
    action: str
    resource: str
    method: str = ""
    path: str = ""
    status: int = 0
    """HTTP status that the caller got."""
    reason: str = ""
    remedy: str = ""
    decision_id: str = ""
    waivers: tuple[str, ...] = ()
    """Waivers that the decision behind it rests on."""
    grant_id: str = ""
    request_id: str = ""
    enforced_by: str = ""
    duration_ms: float = 0.0
    peer: str = ""


class DecisionFilter(Noun, frozen=True, kw_only=True):
    """Which decisions; an empty field lets all pass."""

    effect: Literal["", "allow", "deny", "would-deny"] = ""
    principal: str = ""
    resource: str = ""


class DecisionPage(Noun, frozen=True, kw_only=True):
    """Newest first."""

    decisions: tuple[DecisionLine, ...]
    before: int = 0
    """Pass it as `before` for the next page; 0 where there is none."""


# --- why --------------------------------------------------------------------------------------------------------------------------


class PolicyUse(Noun, frozen=True, kw_only=True):
    """A policy that determined a decision."""

    id: str
    effect: Literal["permit", "forbid"]
    summary: str = ""
    """Its `@reason` or `@id` annotation, in plain words."""
    source: str = ""
    """File and line, or the pack's name."""


class PathStep(Noun, frozen=True, kw_only=True):
    """One station on the way of the request."""

    where: str
    what: str
    result: Literal["passed", "stopped", "not-reached", "observed"]


class Fix(Noun, frozen=True, kw_only=True):
    """A change that would turn the deny into an allow; the cheapest first."""

    text: str
    command: str = ""


class Explanation(Noun, frozen=True, kw_only=True):
    """The whole answer to `why`."""

    decision: Decision
    live: bool
    """True where it was decided now, for the question; False where it is a recorded decision."""
    groups: tuple[str, ...] = ()
    credential: str = ""
    """How the principal is known, in plain words."""
    endpoint: str = ""
    model_digest: str = ""
    digest_tier: Tier | Literal[""] = ""
    policies: tuple[PolicyUse, ...] = ()
    vouches: tuple[VouchState, ...] = ()
    """Those used and those missing, missing first."""
    path: tuple[PathStep, ...] = ()
    fixes: tuple[Fix, ...] = ()
    log_index: int = -1
    """Where the decision stands in the log; -1 for one that was only asked."""
    minimal: tuple[str, ...] = ()
    """A smallest set of facts that the answer rests on, in words; empty for a deny, and for a recorded decision, whose facts may have gone."""
    flips: tuple[str, ...] = ()
    """For an allow, single losses that would end it; for a deny, the cheapest changes that would turn it over, all together; the cheapest first."""
