"""Event and Finding: what happened, and what was thought of it."""

from __future__ import annotations

from typing import Any, Literal

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun


class Event(Noun, frozen=True, kw_only=True):
    """Something that happened at an enforcement point or in the control plane."""

    source: str
    source_epoch: int
    source_seq: int
    """(source, source_epoch, source_seq) is the dedupe key."""
    occurred_at: UnixMillis
    observed_at: UnixMillis
    principal: str = ""
    authenticated: bool = False
    credential_id: str = ""
    action: str
    resource: str = ""
    decision_id: str = ""
    grant_id: str = ""
    enforced_by: Literal["gateway", "ext_authz", "in_process", "control"] = "control"
    phase: Literal["start", "end"] = "end"
    outcome: str = ""
    """`allowed`, `denied`, `failed`, or a verb's own result."""
    request_id: str = ""
    """Ours; whatever the client sent is overwritten."""
    trace_id: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    tokens: int = 0
    duration_ms: float = 0.0
    peer: str = ""
    subject_key: str = ""
    """Key id under which personal data in `detail` is encrypted."""
    detail: dict[str, Any] = {}


class Finding(Noun, frozen=True, kw_only=True):
    """A detector's statement that something is off; it can only tighten."""

    id: str
    kind: str
    subject: str
    detector: str
    detector_version: str
    unit: str
    """What the false-alarm bound counts: `principal-day`, `model`, `dataset`."""
    baseline_id: str = ""
    statistic: float = 0.0
    e_or_p_value: float = 1.0
    budget_id: str = ""
    severity: Literal["low", "medium", "high", "critical"]
    authenticated_basis: bool
    """False where the subject could have been framed by someone unauthenticated."""
    events: tuple[str, ...] = ()
    """At most three event ids."""
    technique: str = ""
    """MITRE ATLAS id."""
    clears_when: str
    status: Literal["open", "closed"] = "open"
    expires_at: UnixMillis
