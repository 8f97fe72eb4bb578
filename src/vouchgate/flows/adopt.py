"""Put a server behind the gateway, and move its zone between observe and enforce.

Observe decides and records and lets pass; enforce refuses. Rules
1. Into observe: two persons (solo: one), ends by itself after `OBSERVE_DAYS`. Into enforce: one person, at once.
2. Back to observe takes effect as fast as any push; an incident is no reason to wait.
3. A plan names each caller that enforcing refuses, how often it was seen, the cheapest remedy, and the ready line (adopt_lines.py).
4. A wrapped server's zone starts in observe; any method and path goes through; callers that prove nothing appear as weak declared ones.
"""

from __future__ import annotations

import posixpath
import time

import msgspec

from vouchgate.flows import adopt_lines, adopt_rank, waive
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.changes import Change, EndpointPut, SettingPut, ZonePut
from vouchgate.flows.context import Context
from vouchgate.flows.revoke import enforced
from vouchgate.flows.would_refuse import would_refuse
from vouchgate.vocabulary.answers import AdoptOutcome, AdoptRequest, Caller, WrapOutcome, WrapRequest, ZoneState
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound
from vouchgate.vocabulary.names import TrustDomain, resource
from vouchgate.vocabulary.places import Endpoint, Route, Zone
from vouchgate.vocabulary.vouches import UnixMillis

OBSERVE_DAYS = 30
"""Days after which observe becomes enforce by itself."""
APPROVAL_HOURS = 24
"""Hours within which the second person must agree."""
LEGACY_ACTION = "call"
"""Action of every request to a wrapped server."""


async def adopt(context: Context, caller: Caller, request: AdoptRequest) -> AdoptOutcome:
    """Move a zone, or say what that would do. Raises `NotFound`, `NotPermitted`."""
    started = time.monotonic()
    await authorise(context, caller, "explain" if request.to == "plan" else "adopt")
    zone = context.facts.zones.get(request.zone)
    if zone is None:
        raise NotFound(
            f"there is no zone `{request.zone[:64]}`", remedy=f"use one of {', '.join(sorted(context.facts.zones)) or 'none yet'}"
        )
    now = context.clock.now()
    was = context.facts.mode_of(zone.name, now)
    refused, calls = would_refuse(context, zone.name)
    outcome = AdoptOutcome(
        zone=zone.name, was=was, now=was, planned=True, observe_until=zone.observe_until, would_refuse=refused, calls_seen=calls,
        waivers=len(waive.standing(context)),
    )  # fmt: skip
    outcome = msgspec.structs.replace(
        outcome, lines=adopt_lines.ready_lines(context, refused, zone.name), after=adopt_rank.after(context, zone.name)
    )
    if request.to in ("plan", was):
        return msgspec.structs.replace(outcome, planned=request.to == "plan")
    if request.to == "observe" and not context.settings.solo:
        waits = await _second_person(context, caller, zone)
        if waits:
            return msgspec.structs.replace(outcome, planned=False, waits_for=waits)
    until = UnixMillis(now + OBSERVE_DAYS * 86_400_000) if request.to == "observe" else UnixMillis(0)
    made = msgspec.structs.replace(zone, mode=request.to, observe_until=until)
    entry = act_entry(
        context,
        caller,
        "adopt",
        resource(context.trust_domain, "zone", zone.name),
        "done",
        {"to": request.to, "was": was, "reason": request.reason[:500]},
    )
    changes: list[Change] = [ZonePut(zone=made)]
    if request.to == "enforce":
        changes.append(SettingPut(key=f"{adopt_rank.PREFIX}{zone.name}", value=adopt_rank.prediction(context, zone.name)))
    await context.sequencer.submit(caller.principal.principal.id, changes, [entry])
    return msgspec.structs.replace(
        outcome,
        now=made.mode,
        planned=False,
        observe_until=until,
        points=await enforced(context, started),
        after=adopt_rank.after(context, zone.name),
    )


async def _second_person(context: Context, caller: Caller, zone: Zone) -> str:
    """Empty once a second person agrees; else whom it waits for."""
    who, key = caller.principal.principal.id, f"observe/{zone.name}"
    waiting = context.facts.settings.get(key, "")
    first, _, until = waiting.partition(" ")
    now = context.clock.now()
    if first and first != who and until.isdigit() and now < int(until):
        await _set(context, caller, key, "")
        return ""
    if first != who or not until.isdigit() or now >= int(until):
        await _set(context, caller, key, f"{who} {now + APPROVAL_HOURS * 3_600_000}")
    return f"another policy approver, within {APPROVAL_HOURS} hours: `vouchgate adopt {zone.name} --observe`"


async def _set(context: Context, caller: Caller, key: str, value: str) -> None:
    entry = act_entry(context, caller, "adopt-request", "", "done", {"key": key, "value": value})
    await context.sequencer.submit(caller.principal.principal.id, [SettingPut(key=key, value=value)], [entry])


def zone_states(context: Context) -> tuple[ZoneState, ...]:
    """Every zone beside what enforcing it would change."""
    now = context.clock.now()
    found = []
    for zone in sorted(context.facts.zones.values(), key=lambda one: one.name):
        shown = msgspec.structs.replace(zone, mode=context.facts.mode_of(zone.name, now))
        endpoints = sum(one.zone == zone.name for one in context.facts.endpoints.values())
        found.append(ZoneState(zone=shown, endpoints=endpoints, would_deny=len(would_refuse(context, zone.name)[0])))
    return tuple(found)


async def wrap(context: Context, caller: Caller, request: WrapRequest) -> WrapOutcome:
    """Put an unmodified server behind the gateway. Raises `Conflict` for a zone that enforces, `NotPermitted`."""
    started = time.monotonic()
    await authorise(context, caller, "wrap")
    if not context.place.plain:
        raise Conflict("this gateway has no plain listener", remedy="set `[gateway] plain_listen` in vouchgate.toml and start again")
    zone_name = request.zone or f"legacy-{request.name}"
    now = context.clock.now()
    changes: list[Change] = []
    zone = context.facts.zones.get(zone_name)
    until = UnixMillis(now + OBSERVE_DAYS * 86_400_000)
    if zone is None:
        zone = Zone(name=zone_name, trust_domain=TrustDomain(context.trust_domain), mode="observe", observe_until=until)
        changes.append(ZonePut(zone=zone))
    elif context.facts.mode_of(zone_name, now) != "observe":
        raise Conflict(
            f"the zone `{zone_name}` enforces, and a legacy server's callers prove nothing yet",
            remedy="wrap it into a zone of its own: leave out --zone",
        )
    endpoint = Endpoint(
        id=resource(context.trust_domain, "endpoint", request.name),
        trust_domain=TrustDomain(context.trust_domain),
        zone=zone_name,
        upstream=_not_guarded(context, _upstream(request.upstream)),
        prefix=f"/{request.name}",
        routes=(Route(method="*", path="/*", action=LEGACY_ACTION, streams=True),),
        wrapped=True,
    )
    if endpoint.id in context.facts.endpoints and not context.facts.endpoints[endpoint.id].wrapped:
        raise Conflict(f"there is an endpoint `{request.name}` already", remedy="choose another name")
    if changes:
        entry = act_entry(context, caller, "put-zone", "", "done", {"zone": zone_name, "mode": "observe"})
        await context.sequencer.submit(caller.principal.principal.id, changes, [entry])
    entry = act_entry(context, caller, "wrap", "", "done", {"endpoint": endpoint.id, "upstream": endpoint.upstream, "zone": zone_name})
    await context.sequencer.submit(caller.principal.principal.id, [EndpointPut(endpoint=endpoint)], [entry])
    return WrapOutcome(
        endpoint=endpoint,
        mode="observe",
        address=f"http://{context.place.plain}{endpoint.prefix}",
        observe_until=zone.observe_until,
        points=await enforced(context, started),
    )


def _not_guarded(context: Context, upstream: str) -> str:
    """The gateway may reach what callers may not: vouchgate's own sockets, and servers that policies guard. Who wraps one of those opens it to
    everybody. Raises `Conflict`, `InvalidInput`."""
    place, ours = upstream.removeprefix("unix:"), posixpath.normpath(context.settings.data_dir)
    if upstream.startswith("unix:"):
        if place != posixpath.normpath(place) or place.startswith("//"):
            raise InvalidInput(f"`{place[:160]}` is not written plainly", remedy="write the path without `..`, `.` and `//`")
        if place.startswith(f"{ours}/"):
            raise Conflict("that socket is vouchgate's own", remedy="wrap a server of yours")
    for one in context.facts.endpoints.values():
        if not one.wrapped and _where(one.upstream) == _where(upstream):
            raise Conflict(f"`{one.id}` is at that address, and its policies guard it", remedy="wrap another server, or change its zone")
    return upstream


def _where(upstream: str) -> str:
    """An address as others may spell it: this machine has many names for itself."""
    kind, _, rest = upstream.partition(":")
    host, _, port = rest.rpartition(":")
    host = host.lower().strip("[]").rstrip(".")
    known = "loopback" if host in {"localhost", "::1", "::"} or host.startswith(("127.", "0.")) else host
    return f"{kind}:{known}:{port}" if kind == "tcp" else upstream


def _upstream(text: str) -> str:
    """`http://host:port`, `tcp:host:port` or `unix:/path` as an endpoint has it. Raises `InvalidInput`."""
    if text.startswith("http://"):
        rest = text.removeprefix("http://").rstrip("/")
        if "/" in rest or ":" not in rest:
            raise InvalidInput(f"`{text[:160]}` is not an address", remedy="write http://127.0.0.1:9000, without a path")
        return f"tcp:{rest}"
    if text.startswith(("tcp:", "unix:/")):
        return text
    raise InvalidInput(f"`{text[:160]}` is not an upstream", remedy="write http://127.0.0.1:9000, tcp:127.0.0.1:9000 or unix:/path/to.sock")
