"""Approval: that a person of a group agreed to one request with exactly its parameters, once."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

ApprovalStage = Literal["pending", "approved", "refused", "used"]


class Parameters(Noun, frozen=True, kw_only=True):
    """What exactly a request asks for, as an approver reads it and as it is bound."""

    digest: str
    """SHA-256 over method, path and query, content type and body."""
    method: str
    path: str
    tool: str = ""
    body: str = ""
    """The whole body, with everything that is not plainly printable written as an escape."""


class Agreement(Noun, frozen=True, kw_only=True):
    """One person's yes, for one of the groups that are asked."""

    group: str
    approver: str
    credential_id: str
    """With which the approver acted: where it is revoked, the yes falls."""
    at: UnixMillis


class Approval(Noun, frozen=True, kw_only=True):
    """One request that waits for people, or whose people answered."""

    id: str
    """Random, so that an approval of yesterday is not one of today."""
    principal: str
    actors: tuple[str, ...] = ()
    """Who acts for the principal; none of them, nor the principal, approves."""
    action: str
    resource: str
    endpoint: str
    parameters: Parameters
    groups: tuple[str, ...]
    """Of each of which one person has to agree, each another person."""
    reason: str
    asked_at: UnixMillis
    expires_at: UnixMillis
    """From then on it counts for nothing, whoever agreed."""
    decision_id: str
    """The refusal that opened it."""
    stage: ApprovalStage = "pending"
    given: tuple[Agreement, ...] = ()
    ended_by: str = ""
    """Who refused it; once it is used, the decision that it let through."""
    ended_at: UnixMillis = UnixMillis(0)


class Owed(Noun, frozen=True, kw_only=True):
    """What the control plane carries out of an allow, in the transaction that records it: budgets and approvals."""

    endpoint: str
    budgets: tuple[str, ...] = ()
    """`5/minute`: allowed requests of everybody in the chain at this endpoint."""
    groups: tuple[str, ...] = ()
    parameters: Parameters | None = None
    """Where groups are asked."""


class Settled(Noun, frozen=True, kw_only=True):
    """Whether what was owed was carried out; where not, the decision was recorded as a deny."""

    code: str = ""
    """Empty: it was. Else `budget-spent`, `approval-needed`, `approvals-full`, `policy-changed`."""
    reason: str = ""
    remedy: str = ""
    retry_after: int = 0
    """Seconds."""
    approval: str = ""
    """Id of the approval that waits."""
    approval_until: UnixMillis = UnixMillis(0)
