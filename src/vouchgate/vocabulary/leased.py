"""LeasedMap: what an enforcement point inside a model server's own process is given, and until when it may use it.

Rules
1. A map is whole: it replaces the one before, and its epoch never falls.
2. It is good for `lease_ms` from the moment at which the point asked for it, so that time on the way shortens it and never lengthens it.
3. `now` is the control plane's clock; the point carries it forward by its own monotonic time and reads no wall clock.
Left to others: making it (flows), handing it out (edges/processes), holding it (integrations/asgi.py).
"""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.decisions import Grant, Mode
from vouchgate.vocabulary.names import ResourceId, TrustDomain
from vouchgate.vocabulary.places import Route
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun


class LeasedMap(Noun, frozen=True, kw_only=True):
    """Everything that one endpoint's in-process point decides by."""

    trust_domain: TrustDomain
    endpoint: ResourceId
    epoch: int
    now: UnixMillis
    lease_ms: int
    """0 withdraws it at once."""
    mode: Mode = "enforce"
    """In observe a caller without a credential or a grant passes and is recorded as would-be denied; a bad credential never passes."""
    bearer: bool = False
    """Whether a JWT-SVID alone identifies a caller here."""
    routes: tuple[Route, ...] = ()
    grants: tuple[Grant, ...] = ()
    revoked: tuple[str, ...] = ()
    """Principals, token ids and certificates' serial numbers (whole bytes, lower-case hexadecimal)."""
    bundle: bytes = b""
    """The trust domain's SPIFFE bundle (JWKS), from which credentials are verified."""


class InProcessCall(Noun, frozen=True, kw_only=True):
    """One call as an in-process point answered it; the control plane turns it into an Event with `enforced_by = in_process`."""

    at: UnixMillis
    seq: int
    """Counts calls from 1 for the life of the process; with `instance` and `phase` the dedupe key."""
    instance: str
    """Random name of the process."""
    request_id: str
    principal: str = ""
    authenticated: bool = False
    credential_id: str = ""
    action: str = ""
    grant_id: str = ""
    decision_id: str = ""
    allowed: bool
    would_deny: bool = False
    code: str = ""
    """Why it was denied, or would be."""
    status: int = 0
    """HTTP status that the caller got."""
    phase: Literal["start", "end"] = "end"
    """A streaming call has both, with one request id."""
    method: str = ""
    path: str = ""
    duration_us: int = 0
