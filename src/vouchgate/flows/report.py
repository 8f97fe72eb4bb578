"""What is the state of everything: status, endpoints, callers, decisions, metrics, readiness. Reads alone; each answer starts with what
waits for a person."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

import vouchgate
from vouchgate.audit import ocsf
from vouchgate.flows.adopt import zone_states
from vouchgate.flows.checkpoint import Checkpoints
from vouchgate.flows.context import Context
from vouchgate.flows.facts import Facts
from vouchgate.flows.needs import OWN_MACHINE, needs
from vouchgate.flows.seats import unnamed
from vouchgate.flows.shape import shape
from vouchgate.flows.vouch_states import lacking_states, newest_states
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers import (
    ClockState,
    Metric,
    PointState,
    ProcessState,
    Readiness,
    ReadyPart,
    Sample,
    Status,
    VouchState,
    WitnessState,
)
from vouchgate.vocabulary.answers_decisions import CallerState, DecisionFilter, DecisionLine, DecisionPage, EndpointState
from vouchgate.vocabulary.answers_identities import PartnerState
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError
from vouchgate.vocabulary.events import Event
from vouchgate.vocabulary.names import TrustDomain, resource
from vouchgate.vocabulary.places import DEFAULT_LEASE_SECONDS, Endpoint
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.vouches import UnixMillis

MAX_CALLERS = 500
"""Callers of one answer: about 2 ms to make, and 100 KB."""
SCAN_BACK = 5_000
"""Log entries looked at for older decisions on one page."""


async def status(context: Context, checkpoints: Checkpoints, partners: Sequence[PartnerState] = ()) -> Status:
    """The state of everything on one page."""
    now = context.clock.now()
    said = context.points.status()
    lease = max((zone.lease_seconds for zone in context.facts.zones.values()), default=DEFAULT_LEASE_SECONDS)
    points = (*(_point(point, now, lease) for point in said.points), _worker(context, now))
    size, root = await asyncio.to_thread(context.store.root)
    processes = await _processes(context)
    policy = context.facts.policy
    total = context.traffic.total
    return Status(
        zones_hold=bool(context.facts.crossings),
        trust_domain=TrustDomain(context.trust_domain),
        version=vouchgate.__version__,
        now=now,
        started_at=context.started_at,
        epoch=context.facts.epoch,
        policy_version=policy.version if policy else 0,
        policy_digest=policy.digest if policy else "",
        solo=context.settings.solo,
        isolated=context.place.isolated,
        keys=context.settings.keys.place,
        gateway=f"https://{context.place.gateway}",
        plain=f"http://{context.place.plain}" if context.place.plain else "",
        console=f"http://{context.place.console}" if context.place.console else "",
        clock=ClockState(state="frozen" if context.clock.trouble else "sound", detail=context.clock.trouble),
        witness=WitnessState(
            kind="own" if checkpoints.cosigned_size else "none",
            name="witness",
            size=checkpoints.cosigned_size,
            cosigned_at=UnixMillis(checkpoints.cosigned_at),
            statement=OWN_MACHINE,
        ),
        log_size=size,
        log_root=root.hex(),
        allowed=total.allowed,
        denied=total.denied,
        would_deny=total.would_deny,
        needs=needs(context, points, processes, endpoint_states(context), checkpoints, partners),
        points=points,
        processes=processes,
        zones=zone_states(context),
    )


def _point(point: Any, now: UnixMillis, lease: int) -> PointState:
    acknowledged = UnixMillis(now - int(point.last_ack_seconds * 1000)) if point.last_ack_seconds >= 0 else UnixMillis(0)
    state = "rejected" if point.rejected else "current" if point.current and not point.maps_behind else "behind"
    return PointState(
        id=point.node_id,
        kind="gateway",
        state=state,  # type: ignore[arg-type]
        epoch=max(point.epoch, 0),
        acknowledged_at=acknowledged,
        lease_until=UnixMillis(now + lease * 1000),
        detail="; ".join(f"{name}: {words}" for name, words in point.rejected.items()),
    )


def _worker(context: Context, now: UnixMillis) -> PointState:
    """The PDP worker, which answers single requests."""
    link = context.pdp
    state: Literal["unreachable", "current", "behind"] = "current" if link.epoch >= context.facts.epoch else "behind"
    return PointState(
        id="pdp",
        kind="ext_authz",
        state="unreachable" if link.trouble else state,
        epoch=link.epoch,
        acknowledged_at=link.heard_at,
        lease_until=link.lease_until,
        detail=link.trouble,
    )


async def _processes(context: Context) -> tuple[ProcessState, ...]:
    try:
        said = await context.supervisor.call("processes")
    except VouchgateError:
        return ()
    return tuple(wire.from_plain(ProcessState, one, what="process") for one in said)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


# --- endpoints and callers --------------------------------------------------------------------------------------------------------


def vouches_behind(facts: Facts, endpoint: Endpoint, now: UnixMillis) -> tuple[VouchState, ...]:
    """The endpoint's own vouches and its model's."""
    own = newest_states(facts, endpoint.id, now)
    digest = endpoint.model_digest
    model = newest_states(facts, resource(facts.trust_domain, "artifact", digest), now) if digest else ()
    return own + model


def endpoint_states(context: Context) -> tuple[EndpointState, ...]:
    """Every endpoint, whether it may answer, and the evidence for that."""
    facts, now = context.facts, context.clock.now()
    found = []
    for endpoint in sorted(facts.endpoints.values(), key=lambda one: one.id):
        if not endpoint.routes:
            continue
        named = set(endpoint.models.values()) if endpoint.model_in_body else {endpoint.asset or endpoint.id}
        alike = [([one for one in said if one.resource in named], count) for said, count in context.publisher.alike(endpoint.id)]
        callers = sum(count for said, count in alike if any(one.would_be == "allow" for one in said))
        made = [one for said, _ in alike for one in said]
        evidence, withdrawn = evidence_refusals(facts, endpoint, made, now), facts.has_refused_evidence(endpoint.id, now)
        mode = facts.mode_of(endpoint.zone, now)
        counted = [context.traffic.endpoints[name] for name in {*named, endpoint.id} if name in context.traffic.endpoints]
        behind = vouches_behind(facts, endpoint, now)
        for name in sorted(named - {endpoint.id}):
            behind += vouches_behind(facts, facts.endpoints[name], now) if name in facts.endpoints else ()
        found.append(
            EndpointState(
                endpoint=endpoint,
                mode=mode,
                verdict="refused" if evidence is not None and (mode == "enforce" or withdrawn) else "served",
                reason=unnamed(evidence.reason) if evidence else "",
                missing=evidence.missing if evidence else (),
                vouches=behind or lacking_states(endpoint.id, {"serves": "absent"}),
                callers=callers,
                allowed=sum(one.allowed for one in counted),
                denied=sum(one.denied for one in counted),
                would_deny=sum(one.would_deny for one in counted),
                last_call_at=UnixMillis(max((one.last_at for one in counted), default=0)),
            )
        )
    return tuple(found)


def evidence_refusals(facts: Facts, endpoint: Endpoint, made: list[Decision], now: UnixMillis) -> Decision | None:
    """A decision that shows that nobody may call, for want of evidence; None where somebody may, or where only callers are missing.

    Where evidence was withdrawn or failed, what needs none (describing the endpoint) does not count as being served.
    """
    if not facts.has_refused_evidence(endpoint.id, now) and any(one.would_be == "allow" or one.residual for one in made):
        return None
    return next((one for one in made if one.missing), None)


def registrations(context: Context, after: str, limit: int) -> tuple[Registration, ...]:
    """By name, those behind `after`."""
    known = context.facts.registrations
    return tuple(known[name] for name in context.facts.names_after(after, limit))


def caller_states(context: Context, after: str = "", limit: int = MAX_CALLERS) -> tuple[CallerState, ...]:
    """Everyone who is registered or has called, by name, behind `after`."""
    found, now = [], context.clock.now()
    strangers = (
        one for one in context.traffic.callers if one > after and one.startswith("spiffe://") and one not in context.facts.registrations
    )
    names = sorted([*context.facts.names_after(after, limit), *heapq.nsmallest(limit, strangers)])
    for name in names[:limit]:
        known = context.facts.registration_of(name, now)
        count = context.traffic.callers.get(name)
        revoked = context.facts.revocation_of(name)
        found.append(
            CallerState(
                principal=name,  # type: ignore[arg-type]
                groups=known.groups if known else (),
                credential_kind="registered" if known else "declared",
                authenticated=known is not None,
                last_seen=count.last_at if count else UnixMillis(0),
                allowed=count.allowed if count else 0,
                denied=count.denied if count else 0,
                would_deny=count.would_deny if count else 0,
                revoked=revoked.id if revoked else "",
            )
        )
    return tuple(found)


# --- decisions --------------------------------------------------------------------------------------------------------------------


def decisions(context: Context, limit: int, before: int, where: DecisionFilter) -> DecisionPage:
    """Newest first, from memory, then from the log."""
    found = [line for line in reversed(context.traffic.recent) if (not before or line.seq < before) and _fits(line, where)][:limit]
    if len(found) < limit:
        oldest = min((line.seq for line in context.traffic.recent), default=context.store.size())
        found += _from_log(context, min(oldest, before or oldest), limit - len(found), where)
    return DecisionPage(decisions=tuple(found), before=found[-1].seq if len(found) == limit else 0)


def _from_log(context: Context, before: int, limit: int, where: DecisionFilter) -> list[DecisionLine]:
    start = max(0, before - SCAN_BACK)
    found = []
    for number, entry in enumerate(context.store.entries(start, before - start)):
        line = line_of(entry, start + number)
        if line is not None and _fits(line, where):
            found.append(line)
    return list(reversed(found))[:limit]


def line_of(entry: bytes, index: int) -> DecisionLine | None:
    """A logged request's end as a line; None for any other entry."""
    event = ocsf.plain_of(entry)
    if event.get("metadata", {}).get("event_code") != "request-end":
        return None
    try:
        seen = wire.from_plain(Event, event["unmapped"]["vouchgate"], what="event")
    except (InvalidInput, KeyError):
        return None
    return msgspec.structs.replace(shape(seen, "x").line, seq=index)


def _fits(line: DecisionLine, where: DecisionFilter) -> bool:
    if where.effect == "would-deny" and not (line.effect == "allow" and line.would_be == "deny"):
        return False
    if where.effect in {"allow", "deny"} and line.effect != where.effect:
        return False
    return (not where.principal or where.principal in line.principal) and (not where.resource or where.resource in line.resource)


# --- readiness and metrics --------------------------------------------------------------------------------------------------------


async def ready(context: Context, checkpoints: Checkpoints) -> Readiness:
    """Store, log, signer, PDP worker, and each enforcement point's epoch."""
    parts = [
        ReadyPart(name="store", ok=not context.sequencer.failed, detail=context.sequencer.failed),
        ReadyPart(name="log", ok=checkpoints.signed_size > 0, detail=checkpoints.trouble),
        await _asked("signer", context.signer, "health"),
        ReadyPart(name="policy", ok=context.facts.policies is not None),
    ]
    said = context.points.status()
    parts += [
        ReadyPart(name=f"gateway:{one.node_id}", ok=one.current and not one.rejected, detail=f"epoch {one.epoch}") for one in said.points
    ]
    if not said.points:
        parts.append(ReadyPart(name="gateway", ok=False, detail="not connected"))
    parts.append(ReadyPart(name="leases", ok=not context.publisher.holding, detail="; ".join(context.publisher.holding)))
    parts.append(ReadyPart(name="cells", ok=not context.publisher.undecided, detail=f"{context.publisher.undecided} undecided"))
    return Readiness(ready=all(part.ok for part in parts), parts=tuple(parts))


async def _asked(name: str, remote: Any, method: str) -> ReadyPart:
    try:
        said = await remote.call(method)
    except VouchgateError as error:
        return ReadyPart(name=name, ok=False, detail=error.reason)
    return ReadyPart(name=name, ok=bool(said.get("ok", True)), detail=str(said.get("clock_trouble") or said.get("keys_trouble", "")))


def metrics(context: Context, checkpoints: Checkpoints) -> tuple[Metric, ...]:
    """What a monitoring system scrapes."""
    traffic, said = context.traffic, context.points.status()

    def per_endpoint(field: str) -> tuple[Sample, ...]:
        return tuple(Sample(value=getattr(count, field), labels={"endpoint": _last(name)}) for name, count in traffic.endpoints.items())

    def one(value: float) -> tuple[Sample, ...]:
        return (Sample(value=value),)

    return (
        Metric(name="vouchgate_requests_allowed_total", kind="counter", help="requests let through", samples=per_endpoint("allowed")),
        Metric(name="vouchgate_requests_denied_total", kind="counter", help="requests refused", samples=per_endpoint("denied")),
        Metric(
            name="vouchgate_requests_would_deny_total",
            kind="counter",
            help="requests that enforcing would refuse",
            samples=per_endpoint("would_deny"),
        ),
        Metric(name="vouchgate_epoch", kind="gauge", help="newest epoch", samples=one(context.facts.epoch)),
        Metric(
            name="vouchgate_point_epoch",
            kind="gauge",
            help="newest revocation epoch that a point acknowledged",
            samples=tuple(Sample(value=point.epoch, labels={"point": point.node_id}) for point in said.points),
        ),
        Metric(name="vouchgate_log_size", kind="gauge", help="entries of the audit log", samples=one(context.store.size())),
        Metric(name="vouchgate_log_signed", kind="gauge", help="entries under the newest checkpoint", samples=one(checkpoints.signed_size)),
        Metric(
            name="vouchgate_log_cosigned", kind="gauge", help="entries under the newest cosignature", samples=one(checkpoints.cosigned_size)
        ),
        Metric(
            name="vouchgate_cells_allowed",
            kind="gauge",
            help="caller x endpoint cells that hold a grant",
            samples=one(context.publisher.allowed_cells),
        ),
        Metric(
            name="vouchgate_leases_held_back",
            kind="gauge",
            help="causes for which leases are not renewed",
            samples=one(len(context.publisher.holding)),
        ),
        Metric(
            name="vouchgate_revocations_standing",
            kind="gauge",
            help="revocations that stand",
            samples=one(len(context.facts.standing_revocations())),
        ),
        Metric(
            name="vouchgate_vouches_refused_total",
            kind="counter",
            help="stored vouches that did not verify",
            samples=one(context.facts.refused_vouches),
        ),
    )
