"""Effect: one response as data, complete before anything is done.

Rules
1. `do` and `undo` are steps that a flow can carry out; each is the request that an administrator could have made.
2. The idempotency key is a digest of what is answered and how, so that a response that was interrupted is carried on, not done twice.
3. The blast radius is computed before the act, and decides how many persons must agree.
Left to others: carrying steps out through `decide` like any administrative act (flows), gathering the situation, asking persons.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from vouchgate.vocabulary.answers import RevokeOutcome, RevokeRequest
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun, encode


class Revoke(Noun, frozen=True, kw_only=True, tag="revoke"):
    """Withdraw a target."""

    request: RevokeRequest


class Unrevoke(Noun, frozen=True, kw_only=True, tag="unrevoke"):
    """Withdraw the revocation that the effect of this idempotency key made; by another person than who made it."""

    of: str
    reason: str


Step = Revoke | Unrevoke


class BlastRadius(Noun, frozen=True, kw_only=True):
    """What stops working."""

    principals: tuple[str, ...] = ()
    """Callers that lose a grant."""
    endpoints: tuple[str, ...] = ()
    """Endpoints that nobody may call afterwards."""
    vouches: int = 0
    grants: int = 0


class Effect(Noun, frozen=True, kw_only=True):
    """A response, planned."""

    action: str
    action_version: int
    trust_domain: TrustDomain
    subject: str
    because: str
    """Id of the finding."""
    idempotency_key: str
    do: tuple[Step, ...]
    undo: tuple[Step, ...]
    """Empty only where it cannot be undone."""
    blast_radius: BlastRadius
    approvals: Literal[0, 1, 2]
    """Persons who must agree before it is done."""
    approval_reason: str
    not_after: UnixMillis
    """A plan that was not carried out by then is void."""


class Declined(Noun, frozen=True, kw_only=True):
    """An action that is not to be taken on this finding."""

    code: str
    """Stable machine name, `[a-z-]+`."""
    reason: str
    remedy: str


class Situation(Noun, frozen=True, kw_only=True):
    """What an action needs to know beside the finding."""

    trust_domain: TrustDomain
    now: UnixMillis
    foreseen: RevokeOutcome
    """What withdrawing the subject would touch: the answer to `RevokeRequest(plan=True)`."""
    administrators: tuple[str, ...] = ()
    """Principals that hold an administrative role."""


def idempotency_key(action: str, version: int, trust_domain: str, subject: str, because: str) -> str:
    """Rule 2: equal for equal arguments, and for no others."""
    return hashlib.sha256(b"vouchgate/effect/v1\0" + encode([action, version, trust_domain, subject, because])).hexdigest()
