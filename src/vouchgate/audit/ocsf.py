"""Each act as an event of OCSF 1.8.0 (schema.ocsf.io): what a log entry is made of.

Rules
1. An entry is the deterministic JSON of one event (`vocabulary.wire.encode`); it validates against its class and profiles.
2. `metadata.event_code` names our kind of act, `metadata.tenant_uid` the trust domain, and `unmapped.vouchgate` holds the whole noun, so
   that a decision can be replayed from the log alone.
3. Nothing is refused for its size: an event over the bound of a log entry is shortened, says so (`metadata.is_truncated`), and carries
   the digest of what was left out. What arrives from outside may be any text.

Classes: decisions are Authorize Session (3003), logins Authentication (3002), findings and gaps Detection Finding (2004), all else API
Activity (6003). Profile `security_control` carries allowed, denied or observed; `ai_operation` the model that answered.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Literal, get_args

import msgspec

from vouchgate.audit.tiles import MAX_ENTRY_BYTES
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.events import Event, Finding
from vouchgate.vocabulary.vouches import Revocation, UnixMillis, Vouch

OCSF_VERSION = "1.8.0"
PRODUCT = {"name": "vouchgate", "vendor_name": "vouchgate"}
MAX_DURATION_MS = 1e15
"""Milliseconds; a duration beyond 30,000 years is a mistake, and would not fit an integer."""
MAX_PORT = 65_535
MAX_KEPT_TEXT = 256
"""Characters of a text in a shortened event."""
MAX_KEPT_ITEMS = 16
"""Items of a list in a shortened event."""
MAX_KEPT_FIELDS = 64
"""Fields of a mapping in a shortened event; more than any of our nouns has."""

Kind = Literal[
    "decision",
    "vouch",
    "revocation",
    "push",
    "lease-lost",
    "act",
    "request-start",
    "request-end",
    "gap",
    "authentication",
    "finding",
]
ACTS_AS = "acts_as"
"""In the detail of a request: our name for the partner's caller who made it, under which it was decided."""
KINDS: tuple[Kind, ...] = get_args(Kind)

_API_ACTIVITY, _AUTHENTICATION, _AUTHORIZE_SESSION, _DETECTION = 6003, 3002, 3003, 2004
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_INFORMATIONAL, _LOW, _MEDIUM, _HIGH, _CRITICAL = 1, 2, 3, 4, 5
_ALLOWED, _DENIED, _OBSERVED = 1, 2, 3
_BLOCKED, _LOGGED = 2, 17
_SUCCESS, _FAILURE = 1, 2
_SEVERITIES = {"low": _LOW, "medium": _MEDIUM, "high": _HIGH, "critical": _CRITICAL}
_USER_TYPES = {"person": 1, "declared": 0}
_SYSTEM_USER = 3
_LEARNED, _RULE = 4, 1
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
"""Values of `http_request.http_method`; another one stands in `unmapped` alone."""


class Summary(msgspec.Struct, frozen=True):
    """An entry for a person or a list."""

    kind: str
    time: UnixMillis
    who: str
    what: str
    outcome: str
    message: str
    uid: str


def decision(made: Decision, *, asked_by: str = "") -> bytes:
    """A decision: who may (not) do what on which resource, by which policy and evidence; `asked_by` is an enforcement point of somebody
    else, for which it was made."""
    would_differ = made.effect != made.would_be
    action = _OBSERVED if would_differ else _ALLOWED if made.effect == "allow" else _DENIED
    event = _event("decision", _AUTHORIZE_SESSION, _CREATE, made.evaluated_at, made.trust_domain, uid=made.id, detail=_detail(made))
    if asked_by:
        event["unmapped"]["asked_by"] = asked_by
    return _entry(
        event
        | _verdict(action, ok=made.effect == "allow")
        | {
            "user": _user(made.principal),
            "privileges": [made.action],
            "authorizations": [{"decision": made.effect, "policy": _policy(made)}],
            "policy": _policy(made),
            "risk_score": made.risk.value,
            "message": made.reason or f"{made.effect} {made.action} on {made.resource}",
            "status_detail": "; ".join(missing.why + ": " + missing.predicate for missing in made.missing) or made.reason or made.effect,
        }
    )


def vouch(made: Vouch, *, now: UnixMillis) -> bytes:
    """A vouch was taken into the store."""
    return _entry(
        _event("vouch", _API_ACTIVITY, _CREATE, now, made.trust_domain, uid=made.id, detail=_detail(made))
        | _call(f"key:{made.issuer_key}", "vouch", [subject.name for subject in made.subjects])
        | _outcome(ok=made.outcome == "pass", text=made.outcome)
        | {"message": f"{made.issuer_role} vouches {made.predicate_type}: {made.outcome}"}
    )


def revocation(made: Revocation, *, now: UnixMillis) -> bytes:
    """Something was revoked, or a revocation withdrawn."""
    verb = "revoke" if not made.withdrawn_by else "withdraw-revocation"
    return _entry(
        _event("revocation", _API_ACTIVITY, _DELETE, now, made.trust_domain, uid=made.id, severity=_MEDIUM, detail=_detail(made))
        | _call(made.requested_by, verb, [made.target])
        | _outcome(ok=True, text=verb)
        | {"message": f"{verb} {made.target_kind} {made.target}: {made.reason}"}
    )


def push(trust_domain: str, *, pep: str, epoch: int, resource: str, outcome: str, detail: Mapping[str, Any], now: UnixMillis) -> bytes:
    """Maps or revocations were sent to an enforcement point; `outcome` is `sent`, `acknowledged` or `rejected`."""
    plain = {"pep": pep, "epoch": epoch, "resource": resource, "outcome": outcome, **detail}
    return _entry(
        _event("push", _API_ACTIVITY, _UPDATE, now, trust_domain, uid=f"{pep}/{resource}/{epoch}/{outcome}", detail=plain)
        | _call("system:control", "push", [resource, pep])
        | _outcome(ok=outcome != "rejected", text=outcome)
        | {
            "message": f"{resource} of epoch {epoch} {outcome} by {pep}"
            if outcome != "sent"
            else f"{resource} of epoch {epoch} sent to {pep}"
        }
    )


def lease_lost(trust_domain: str, *, pep: str, epoch: int, since: UnixMillis, reason: str, now: UnixMillis) -> bytes:
    """An enforcement point's lease ran out: it denies until it hears from the control plane again."""
    plain = {"pep": pep, "epoch": epoch, "since": since, "reason": reason}
    return _entry(
        _event("lease-lost", _API_ACTIVITY, _OTHER, now, trust_domain, uid=f"{pep}/{since}", severity=_HIGH, detail=plain)
        | _call("system:control", "lease", [pep])
        | _outcome(ok=False, text=reason)
        | {"activity_name": "Lease Lost", "start_time": since, "message": f"{pep} lost its lease: {reason}"}
    )


def act(
    trust_domain: str,
    *,
    uid: str,
    who: str,
    verb: str,
    resource: str,
    outcome: str,
    detail: Mapping[str, Any],
    now: UnixMillis,
) -> bytes:
    """An administrative act, done, denied or failed (`outcome`)."""
    action = _ALLOWED if outcome == "done" else _DENIED
    plain = {"who": who, "verb": verb, "resource": resource, "outcome": outcome, **detail}
    return _entry(
        _event("act", _API_ACTIVITY, _OTHER, now, trust_domain, uid=uid, severity=_LOW, detail=plain)
        | _call(who, f"administer:{verb}", [resource])
        | _verdict(action, ok=outcome == "done")
        | {"activity_name": "Administer", "status_detail": outcome, "message": f"{who} {verb} {resource}: {outcome}"}
    )


def request(trust_domain: str, seen: Event) -> bytes:
    """A call at an enforcement point, at its start (streams) or end."""
    kind: Kind = "request-start" if seen.phase == "start" else "request-end"
    allowed = seen.outcome == "allowed"
    uid = f"{seen.source}/{seen.source_epoch}/{seen.source_seq}"
    event = _event(kind, _API_ACTIVITY, _OTHER, seen.occurred_at, trust_domain, uid=uid, detail=_detail(seen))
    event["metadata"] |= {"correlation_uid": seen.request_id or uid, "logged_time": seen.observed_at}
    event |= _call(seen.principal, seen.action, [seen.resource], request_uid=seen.request_id or uid, peer=seen.peer, detail=seen.detail)
    event |= _verdict(_ALLOWED if allowed else _DENIED, ok=allowed)
    event |= {
        "activity_name": "Invoke",
        "duration": round(min(max(0.0, seen.duration_ms), MAX_DURATION_MS)) if math.isfinite(seen.duration_ms) else 0,
        "status_detail": seen.outcome or "unknown",
        "message": f"{seen.principal or 'somebody'} {seen.action} {seen.resource}: {seen.outcome or 'unknown'}",
    }
    digest = seen.detail.get("model_digest")
    if isinstance(digest, str) and digest:
        event["metadata"]["profiles"] = ["ai_operation", "security_control"]
        event["ai_model"] = {"name": seen.resource, "uid": digest, "ai_provider": "self-hosted"}
    return _entry(event)


def acting_as(entry: bytes, alias: str) -> bytes:
    """A request's entry with our name for the partner's caller; the id that was presented stays in our own noun. Raises `InvalidInput`."""
    event = plain_of(entry)
    presented = _at(event, "actor", "user", "uid") or ""
    kept = _at(event, "unmapped", "vouchgate", "detail")
    if isinstance(kept, dict):
        kept[ACTS_AS] = alias
    event["actor"] = {"user": _user(alias) | {"name": presented}}
    event["message"] = f"{alias} ({presented}) {str(event.get('message', '')).removeprefix(presented).strip()}"
    return _entry(event)


def gap(trust_domain: str, *, source: str, missing: int, since: UnixMillis, until: UnixMillis, now: UnixMillis, reason: str = "") -> bytes:
    """Calls that a counter saw and no access log line tells of; `missing` is 0 where nobody could count them, and `reason` says why."""
    plain: dict[str, object] = {"source": source, "missing": missing, "since": since, "until": until}
    if reason:
        plain["reason"] = reason
    uid = f"gap/{source}/{since}/{until}"
    return _entry(
        _event("gap", _DETECTION, _CREATE, now, trust_domain, uid=uid, severity=_HIGH, detail=plain)
        | {
            "finding_info": {"uid": uid, "title": "audit gap", "analytic": {"type_id": _RULE, "name": "counter reconciliation"}},
            "is_alert": True,
            "start_time": since,
            "end_time": until,
            "count": max(1, missing),
            "message": f"{missing} calls at {source} are not in its access log"
            if missing
            else f"calls at {source} may be missing: {reason}",
        }
    )


def authentication(
    trust_domain: str,
    *,
    uid: str,
    principal: str,
    credential_kind: str,
    credential_id: str,
    service: str,
    ok: bool,
    reason: str,
    peer: str,
    now: UnixMillis,
) -> bytes:
    """Somebody proved who they are, or failed to."""
    plain = {"principal": principal, "credential_kind": credential_kind, "credential_id": credential_id, "ok": ok, "reason": reason}
    return _entry(
        _event(
            "authentication", _AUTHENTICATION, _CREATE, now, trust_domain, uid=uid, severity=_INFORMATIONAL if ok else _LOW, detail=plain
        )
        | _verdict(_ALLOWED if ok else _DENIED, ok=ok)
        | {
            "user": _user(principal) | ({"credential_uid": credential_id} if credential_id else {}),
            "service": {"name": service or "vouchgate"},
            "src_endpoint": _endpoint(peer),
            "auth_protocol": credential_kind,
            "auth_protocol_id": _OTHER,
            "status_detail": reason or "verified",
            "message": f"{principal or 'somebody'} {'authenticated' if ok else 'did not authenticate'} by {credential_kind}",
        }
    )


def finding(trust_domain: str, made: Finding, *, now: UnixMillis) -> bytes:
    """A detector found something, or a finding closed."""
    activity = _CREATE if made.status == "open" else _UPDATE
    event = _event(
        "finding", _DETECTION, activity, now, trust_domain, uid=made.id, severity=_SEVERITIES[made.severity], detail=_detail(made)
    ) | {
        "finding_info": {
            "uid": made.id,
            "title": made.kind,
            "analytic": {"type_id": _LEARNED, "name": made.detector, "version": made.detector_version},
        },
        "is_alert": made.severity in {"high", "critical"},
        "message": f"{made.kind} on {made.subject}, clears when {made.clears_when}",
    }
    if made.technique:
        event["finding_info"]["attacks"] = [{"technique": {"uid": made.technique}}]
    return _entry(event)


def plain_of(entry: bytes) -> dict[str, Any]:
    """An entry as plain values. Raises `InvalidInput`."""
    return wire.decode(dict[str, Any], entry, what="log entry")


def detail_of(entry: bytes) -> Any:
    """What was recorded of our own noun (`unmapped.vouchgate`). Raises `InvalidInput`."""
    return _at(plain_of(entry), "unmapped", "vouchgate")


def summary(entry: bytes) -> Summary:
    """An entry in a few words. Raises `InvalidInput`."""
    event = plain_of(entry)
    kind = _at(event, "metadata", "event_code")
    if kind not in KINDS or not isinstance(event.get("time"), int):
        raise InvalidInput("the log entry is not one of ours", remedy="use the version of vouchgate that wrote it")
    who = _at(event, "user", "uid") or _at(event, "actor", "user", "uid") or ""
    what = _at(event, "api", "operation") or ",".join(map(str, event.get("privileges", []))) or _at(event, "finding_info", "title") or ""
    outcome = event.get("action") or event.get("status") or ""
    return Summary(kind, event["time"], who, what, outcome, str(event.get("message", "")), str(_at(event, "metadata", "uid") or ""))


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _event(
    kind: Kind, class_uid: int, activity: int, time: UnixMillis, td: str, *, uid: str, detail: Any, severity: int = _INFORMATIONAL
) -> dict[str, Any]:
    return {
        "metadata": {"version": OCSF_VERSION, "product": PRODUCT, "event_code": kind, "tenant_uid": td, "uid": uid, "log_name": "audit"},
        "category_uid": class_uid // 1000,
        "class_uid": class_uid,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "time": int(time),
        "severity_id": severity,
        "unmapped": {"vouchgate": detail},
    }


def _verdict(action: int, *, ok: bool) -> dict[str, Any]:
    names = {_ALLOWED: "Allowed", _DENIED: "Denied", _OBSERVED: "Observed"}
    disposition = {_ALLOWED: _ALLOWED, _DENIED: _BLOCKED, _OBSERVED: _LOGGED}[action]
    return {
        "action": names[action],
        "action_id": action,
        "disposition_id": disposition,
        "status": "Success" if ok else "Failure",
        "status_id": _SUCCESS if ok else _FAILURE,
    }


def _outcome(*, ok: bool, text: str) -> dict[str, Any]:
    return {"status": "Success" if ok else "Failure", "status_id": _SUCCESS if ok else _FAILURE, "status_detail": text}


def _policy(made: Decision) -> dict[str, Any]:
    return {"uid": made.policy_digest or "none", "version": str(made.policy_version), "name": ",".join(made.determining) or "default"}


def _detail(noun: wire.Noun) -> dict[str, Any]:
    """The noun without the fields that stand at their default: fewer bytes, and it reads back the same."""
    plain: dict[str, Any] = msgspec.to_builtins(noun)
    for name, default in _defaults(type(noun)):
        if getattr(noun, name) == default:
            del plain[name]
    return plain


@cache
def _defaults(kind: type[wire.Noun]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (field.name, field.default_factory() if field.default is msgspec.NODEFAULT else field.default)
        for field in msgspec.structs.fields(kind)
        if not field.required
    )


def _user(principal: str) -> dict[str, Any]:
    parts = principal.removeprefix("spiffe://").split("/")
    kind = _USER_TYPES.get(parts[1], _SYSTEM_USER) if len(parts) == 4 else 0
    return {"uid": principal or "unknown", "type_id": kind}


def _call(
    who: str, operation: str, resources: Sequence[str], *, request_uid: str = "", peer: str = "", detail: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    api: dict[str, Any] = {"operation": operation or "unknown"}
    if request_uid:
        api["request"] = {"uid": request_uid}
    call: dict[str, Any] = {"actor": {"user": _user(who)}, "api": api, "src_endpoint": _endpoint(peer)}
    named = [{"uid": resource} for resource in resources if resource]
    if named:
        call["resources"] = named
    status, method, path = (detail or {}).get("status"), (detail or {}).get("method"), (detail or {}).get("path")
    if isinstance(status, int) and 100 <= status <= 599:
        api["response"] = {"code": status}
    if method in _METHODS and isinstance(path, str):
        call["http_request"] = {"http_method": method, "url": {"path": path}}
    return call


def _endpoint(peer: str) -> dict[str, Any]:
    """`ip:port`, or any other name of where a call came from."""
    host, _, port = peer.rpartition(":")
    if _is_address(host) and port.isascii() and port.isdigit() and len(port) < 6 and int(port) <= MAX_PORT:
        return {"ip": host, "port": int(port)}
    return {"name": peer or "vouchgate"}


@lru_cache(maxsize=4096)
def _is_address(host: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False


def _entry(event: dict[str, Any]) -> bytes:
    if "action_id" in event and "profiles" not in event["metadata"]:
        event["metadata"]["profiles"] = ["security_control"]
    try:
        data = wire.encode(event)
    except (UnicodeEncodeError, OverflowError):
        event = _clean(event)
        data = wire.encode(event)
    if len(data) <= MAX_ENTRY_BYTES:
        return data
    left_out = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    short: dict[str, Any] = _shorten({**event, "unmapped": {}})
    short["metadata"] |= {"is_truncated": True, "untruncated_size": len(data)}
    kept = _shorten(event["unmapped"]["vouchgate"])
    for detail in (kept, None):
        short["unmapped"] = {"vouchgate": detail, "left_out": left_out}
        data = wire.encode(short)
        if len(data) <= MAX_ENTRY_BYTES:
            break
    return data


def _shorten(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_KEPT_TEXT else value[: MAX_KEPT_TEXT - 1] + "…"
    if isinstance(value, list | tuple):
        return [_shorten(item) for item in value[:MAX_KEPT_ITEMS]]
    if isinstance(value, dict):
        return {_shorten(name): _shorten(item) for name, item in list(value.items())[:MAX_KEPT_FIELDS]}
    return value


def _clean(value: Any) -> Any:
    """Lone surrogates, which JSON cannot carry, become question marks; numbers beyond 64 bits become text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(item) for name, item in value.items()}
    return value
