"""Decision and Grant: what `decide` answers, and the lease that carries it to an enforcement point."""

from __future__ import annotations

from typing import Any, Literal

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

Effect = Literal["allow", "deny"]
Mode = Literal["observe", "enforce"]
ObligationKind = Literal["budget", "rounded-answer", "redaction", "step-up", "approval"]


NEVER_OBSERVED: frozenset[str] = frozenset({"release-key", "approve", "waive", "sign", "promote"})
"""Actions that observe never lets through (contracts, "Observe"); `administer` and `administer:*` beside them."""


def never_observed(action: str) -> bool:
    """Whether an action is decided in a zone that observes as it is in one that enforces, wherever it is enforced."""
    return action in NEVER_OBSERVED or action == "administer" or action.startswith("administer:")


class Obligation(Noun, frozen=True, kw_only=True):
    """A tightening that an allow carries."""

    kind: ObligationKind
    value: str


class Risk(Noun, frozen=True, kw_only=True):
    """0 (nothing known against it) to 100; it can only tighten."""

    value: int = 0
    reasons: tuple[str, ...] = ()


class Missing(Noun, frozen=True, kw_only=True):
    """Evidence that is not there, or does not hold."""

    predicate: str
    subject: str
    why: str
    """`absent`, `expired`, `failed`, `revoked`, `unverified`, or `tier` (known, but not well enough)."""
    remedy: str


class Decision(Noun, frozen=True, kw_only=True):
    """One answer of `decide`, complete enough to be explained, replayed and proved."""

    id: str
    trust_domain: str
    effect: Effect
    residual: bool = False
    """True where the answer depends on facts of the single request, so that it is asked again on each."""
    mode: Mode = "enforce"
    would_be: Effect
    """What enforcing says; differs from `effect` only in observe."""
    principal: str
    actors: tuple[str, ...] = ()
    """Who acts on the principal's behalf, the one that acts now first."""
    action: str
    resource: str
    facts_digest: str = ""
    facts: dict[str, Any] | None = None
    """Facts of the request that the access log does not hold (`usual_hour`, `purpose`, `run` ...), so that it can be decided again under another
    policy; None where it was decided ahead of any request."""
    policy_digest: str
    policy_version: int
    evidence_epoch: int
    risk: Risk = Risk()
    determining: tuple[str, ...] = ()
    """Ids of the policies that decided."""
    vouches_used: tuple[str, ...] = ()
    waivers: tuple[str, ...] = ()
    """Those of `vouches_used` that are waivers: evidence that is not there, and that two persons agreed to go without for a time."""
    missing: tuple[Missing, ...] = ()
    errors: tuple[str, ...] = ()
    """Policies in scope that erred; any makes the decision a deny."""
    obligations: tuple[Obligation, ...] = ()
    reason: str = ""
    """In plain words, lower-case, one sentence."""
    remedy: str = ""
    """The cheapest change that would turn a deny into an allow; empty for an allow."""
    not_after: UnixMillis
    """When the earliest fact it rests on lapses."""
    evaluated_at: UnixMillis


class Grant(Noun, frozen=True, kw_only=True):
    """A lease: one allowed cell of caller x action x resource at one enforcement point until `not_after`."""

    id: str
    decision_id: str
    principal: str
    credential_kind: Literal["x509", "jwt", "both", "declared"]
    thumbprint: str = ""
    """SHA-256 of the certificate where the grant is bound to one credential; empty for any credential of the principal."""
    action: str
    resource: str
    model_digest: str = ""
    pep: str
    epoch: int
    not_after: UnixMillis
    condition: Literal["none", "per_request"] = "none"
    obligations: tuple[Obligation, ...] = ()
