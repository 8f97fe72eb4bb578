"""From an event of the access log to what is logged and shown of it: an OCSF entry, and a short line for people.

The tailer does this, so it stands apart from everything that needs the facts. The decision behind a line is added by whoever knows it
(observe_traffic.py).
"""

from __future__ import annotations

from vouchgate.audit import ocsf
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.events import Event

SOURCE = "gateway"
"""Name of the access log among the store's offsets."""

_NATIVE = {
    "anonymous": ("the request carries no identity that counts here", "present an SVID; `vouchgate identity issue` makes one"),
    "bad-name": (
        "the certificate does not name exactly one identity of this trust domain",
        "present an X.509-SVID with exactly one URI name",
    ),
    "revoked": ("the identity or the credential was revoked", "ask a responder; another person may undo it"),
    "jwt_authn": ("the token was not accepted", "ask for a new JWT-SVID for exactly this endpoint"),
    "lua": ("the body does not name one model in a way that can be relied on", "send one JSON object with one string member `model`"),
    "rbac": ("the gateway's lease had run out", "start the control plane, or see `vouchgate status`"),
    "direct_response": ("no endpoint lists this host, method and path", "see `vouchgate status` for the listed endpoints"),
    "ext_authz_error": ("the policy decision point did not answer", "see `vouchgate status`"),
}
"""How the gateway's own denials read."""


class Shaped(wire.Noun, frozen=True, kw_only=True):
    """One line of the access log, ready to be logged and shown."""

    entry: bytes
    line: DecisionLine
    observed: bool = False
    """Let through by observe."""
    final: bool = True
    """The request's end; a stream's start is logged, not counted."""
    size: int = 0
    """Bytes of both bodies."""


def shape(event: Event, trust_domain: str) -> Shaped:
    """One event."""
    details, granted = str(event.detail.get("details", "")), event.grant_id
    acts_as = str(event.detail.get(ocsf.ACTS_AS, ""))
    line = DecisionLine(
        seq=0,
        at=event.occurred_at,
        effect="deny" if event.outcome == "denied" else "allow",
        would_be="deny" if event.outcome == "denied" else "allow",
        mode="enforce",
        principal=acts_as or event.principal,
        federated=event.principal if acts_as else "",
        authenticated=event.authenticated,
        action=event.action,
        resource=event.resource,
        method=str(event.detail.get("method", "")),
        path=str(event.detail.get("path", "")),
        status=int(event.detail.get("status") or 0),
        reason=_native(details, "reason") if event.outcome == "denied" else "",
        remedy=_native(details, "remedy") if event.outcome == "denied" else "",
        decision_id=event.decision_id or granted.partition(".")[0],
        grant_id=granted,
        request_id=event.request_id,
        enforced_by=event.enforced_by,
        duration_ms=event.duration_ms,
        peer=event.peer,
    )
    observed = str(event.detail.get("map", "")).startswith("observe:")
    return Shaped(
        entry=ocsf.request(trust_domain, event),
        line=line,
        observed=observed,
        final=event.phase == "end",
        size=event.bytes_in + event.bytes_out,
    )


def _native(details: str, part: str) -> str:
    for mark, words in _NATIVE.items():
        if mark in details:
            return words[0] if part == "reason" else words[1]
    return ""
