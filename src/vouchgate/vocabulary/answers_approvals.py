"""What is asked and answered about agreements of persons: approvals, waivers, and evidence that comes from outside.

The rules of answers.py hold here too.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from vouchgate.vocabulary.answers import NEVER, PointOutcome
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun


class WaiveRequest(Noun, frozen=True, kw_only=True):
    """Ask to go without one piece of evidence about one subject for a time."""

    control: Annotated[str, Meta(min_length=1, max_length=128)]
    """`scan`, `serves@rederived`: exactly as policies ask for it."""
    subject: Annotated[str, Meta(min_length=1, max_length=512)]
    """A digest, a whole name, or a short one where it is unique."""
    until: UnixMillis
    why: Annotated[str, Meta(min_length=1, max_length=500)]


class Waiver(Noun, frozen=True, kw_only=True):
    """A waiver, or a request for one that waits for the second person."""

    id: str
    """Of the request while it waits, of the vouch from then on."""
    state: Literal["waits", "in-force", "not-needed", "held-back", "ended", "revoked"]
    """`not-needed`: the evidence is there; `held-back`: something failed or was revoked, and a waiver never stands over that."""
    control: str
    subject: str
    until: UnixMillis
    why: str
    requester: str
    approver: str = ""
    agreed_at: UnixMillis = NEVER
    waits_until: UnixMillis = NEVER
    """When a request that nobody agreed to lapses."""
    renewals: int = 0
    """Waivers of the same control for the same subject before this one."""
    solo: bool = False
    """One person asked and agreed."""
    points: tuple[PointOutcome, ...] = ()
    """Where it is enforced, right after it was agreed to."""


class VouchTaken(Noun, frozen=True, kw_only=True):
    """Whether a vouch from outside was taken in, and why not."""

    taken: bool
    id: str = ""
    predicate: str = ""
    subjects: tuple[str, ...] = ()
    expires_at: UnixMillis = NEVER
    why: str = ""
    """`unverified`, `expired`, `revoked`, `absent`, `failed` or `tier`, where it was refused; `known` where it was there before."""
    reason: str = ""
    remedy: str = ""
    points: tuple[PointOutcome, ...] = ()


class ApprovalState(Noun, frozen=True, kw_only=True):
    """A request that waits for people, or whose people answered lately."""

    id: str
    state: Literal["pending", "approved", "refused", "used", "expired"]
    principal: str
    actors: tuple[str, ...] = ()
    action: str
    resource: str
    method: str
    path: str = ""
    tool: str = ""
    body: str = ""
    """The whole body; what a reader would not see stands there as an escape."""
    shown: bool = False
    """Whether `path` and `body` are shown: only to whoever may approve it."""
    digest: str
    """Of everything that is agreed to."""
    groups: tuple[str, ...]
    """One person of each has to agree."""
    approvers: tuple[str, ...] = ()
    reason: str = ""
    asked_at: UnixMillis
    expires_at: UnixMillis
    ended_by: str = ""
    ended_at: UnixMillis = NEVER
    mine: bool = False
    """Whether whoever asked could agree to it now."""
