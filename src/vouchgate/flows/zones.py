"""What zones hold: the map, the proof that nothing gets from one to another, what one lost identity reaches, and how much can be reached at all.

Rules
1. Reads alone (`administer:analyse`), over a copy of the facts, off the event loop, one analysis at a time.
2. An answer says what was looked at, where a bound cut it off, and what it rests on that was not looked at.
3. A proof holds for the facts as they are: who is registered, what is vouched for, what is in force.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from vouchgate.flows.administer import authorise
from vouchgate.flows.context import Context
from vouchgate.flows.zones_facts import Seen, seen_in, zones_of
from vouchgate.flows.zones_graph import MAX_DECISIONS, Built, build, offered
from vouchgate.segmentation.graph import Edge, Node, reached, shortest
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_zones import (
    AttackSurface,
    BlastRadius,
    CrossingSeen,
    ListenerLine,
    Reached,
    Step,
    ZoneContents,
    ZoneMap,
    ZoneProof,
)
from vouchgate.vocabulary.crossing_words import expanded
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.names import principal_parts, resource, resource_parts
from vouchgate.vocabulary.places import Crossing
from vouchgate.vocabulary.settings import Settings

MAX_NAMED = 12
"""Names of one zone on the map; the rest is counted."""
MAX_TREE = 400
"""Lines of a blast radius; the rest is counted."""
T = TypeVar("T")
_one_at_a_time = asyncio.Semaphore(1)


async def _off(context: Context, caller: Caller, work: Callable[[Seen], T]) -> T:
    """Rule 1."""
    await authorise(context, caller, "analyse")
    async with _one_at_a_time:
        return await asyncio.to_thread(work, seen_in(context))


# -- map


async def show_map(context: Context, caller: Caller) -> ZoneMap:
    """Zones, what is in them, what passes between them."""
    counts = {cell: (one.allowed, one.denied, one.would_deny, one.last_at) for cell, one in context.traffic.cells.items()}
    return await _off(context, caller, lambda seen: map_of(seen, counts))


def map_of(seen: Seen, counts: Mapping[tuple[str, str, str], tuple[int, int, int, int]]) -> ZoneMap:
    """The map; `counts`: caller, action and thing -> allowed, denied, would be denied, last."""
    passed: dict[tuple[str, str], list[int]] = {}
    used: set[Crossing] = set()
    for (who, action, name), (allowed, denied, would, last) in counts.items():
        source, targets = _zone_of(who), _targets(seen, name)
        for target in targets:
            row = passed.setdefault((source, target), [0, 0, 0, 0])
            row[:] = [row[0] + allowed, row[1] + denied, row[2] + would, max(row[3], last)]
            used |= {
                one
                for one in seen.crossings
                if allowed and (one.source, one.target) == (source, target) and action in expanded(one.actions)
            }
    pairs = sorted({*passed, *((one.source, one.target) for one in seen.crossings)})
    passes = []
    for source, target in pairs:
        allowed, denied, would, last = passed.get((source, target), [0, 0, 0, 0])
        declared = tuple(one for one in seen.crossings if (one.source, one.target) == (source, target))
        if source != target or allowed or denied:
            passes.append(
                CrossingSeen(
                    source=source, target=target, declared=declared, allowed=allowed, denied=denied, would_deny=would, last_at=last
                )
            )
    return ZoneMap(
        trust_domain=seen.trust_domain,
        holds=bool(seen.crossings),
        zones=_contents(seen),
        passes=tuple(passes),
        unused=tuple(one for one in seen.crossings if one not in used),
        adrift=tuple(sorted(name for name, one in seen.assets.items() if not one.zones)[:MAX_TREE]),
    )


def _contents(seen: Seen) -> tuple[ZoneContents, ...]:
    who: dict[str, list[str]] = {}
    for name in sorted(seen.registrations):
        who.setdefault(_zone_of(name), []).append(name.rpartition("/")[2])
    found = []
    for zone in sorted({*seen.zones, *who}):
        known = seen.zones.get(zone)
        found.append(
            ZoneContents(
                name=zone,
                declared=known is not None,
                mode=("observe" if zone in seen.observing else "enforce") if known else "",
                principals=len(who.get(zone, ())),
                names=tuple(who.get(zone, ())[:MAX_NAMED]),
                endpoints=tuple(sorted(name for name, one in seen.endpoints.items() if one.zone == zone)),
                assets=tuple(sorted(name for name, one in seen.assets.items() if zone in one.zones)[:MAX_TREE]),
            )
        )
    return tuple(found)


def _zone_of(name: str) -> str:
    """A caller's zone; `unknown` for one that proved nothing."""
    return principal_parts(name).zone if name.startswith("spiffe://") else "unknown"


def _targets(seen: Seen, name: str) -> tuple[str, ...]:
    try:
        return zones_of(seen, name)
    except InvalidInput:
        return ()


# -- prove


async def prove(context: Context, caller: Caller, source: str, target: str) -> ZoneProof:
    """Whether anything gets from one zone to another. Raises `NotFound`, `InvalidInput`."""
    return await _off(context, caller, lambda seen: prove_in(seen, source, target))


def prove_in(seen: Seen, source: str, target: str, *, max_decisions: int = MAX_DECISIONS) -> ZoneProof:
    """The proof, or a shortest way."""
    known = {*seen.zones, *map(_zone_of, seen.registrations)}
    for zone in (source, target):
        if zone not in known:
            raise NotFound(f"there is no zone `{zone[:64]}`", remedy=f"use one of {', '.join(sorted(known)) or 'none yet'}")
    if source == target:
        raise InvalidInput(f"`{source}` is one zone", remedy="name two")
    made = build(seen, max_decisions=max_decisions)
    starts = [node for node in made.graph.nodes_in(source) if node.kind != "touched"]
    way = shortest(made.graph, starts, lambda node: target in made.graph.about[node].zones)
    path: tuple[Step, ...] = ()
    if way is not None:
        path = tuple(map(_step, way)) or (_both(starts, made, target),)
    return ZoneProof(
        source=source,
        target=target,
        proved=way is None and not made.cut,
        path=path,
        principals=sum(len(one.members) for one in made.callers),
        things=sum(len(one.members) for one in made.things),
        decisions=made.decisions,
        cut=made.cut,
        assumes=_assumes(seen),
    )


def _step(edge: Edge) -> Step:
    return Step(source=edge.source.told(), target=edge.target.told(), how=edge.how, by=edge.by, flow=edge.flow, certain=edge.certain)


def _both(starts: Iterable[Node], made: Built, target: str) -> Step:
    """Something that lies in both zones is a way of no step."""
    node = next(one for one in starts if target in made.graph.about[one].zones)
    return Step(source=node.told(), target=node.told(), how="lies in both zones", by="where it was placed", flow="data")


def _assumes(seen: Seen) -> tuple[str, ...]:
    """Rule 2: what was not looked at."""
    told = ["vouchgate's own processes, and whoever administers this machine or the root key, do what they should"]
    if not seen.solo:
        told.append("no two persons act together against the rule that one proposes and another agrees (policy, waivers, observe)")
    open_to = sorted(name.rpartition("/")[2] for name, one in seen.endpoints.items() if one.upstream.startswith("tcp:"))
    if open_to:
        told.append(f"nobody reaches {', '.join(open_to[:MAX_NAMED])} past the gateway: they listen on TCP (`vouchgate zones export`)")
    if seen.observing:
        told.append(f"callers that prove nothing pass in {', '.join(sorted(seen.observing))}, which observes; they are in no zone")
    told.append("a server is not taken over by the requests that it is meant to answer")
    told.append("evidence, registrations and crossings stay as they are; something new bears no label")
    return tuple(told)


# -- blast


async def blast(context: Context, caller: Caller, origin: str) -> BlastRadius:
    """What is reached if it is in the wrong hands. Raises `NotFound`, `InvalidInput`."""
    calls = {cell: one.allowed for cell, one in context.traffic.cells.items() if one.allowed}
    return await _off(context, caller, lambda seen: blast_in(seen, origin, calls))


def blast_in(seen: Seen, origin: str, calls: dict[tuple[str, str, str], int] | None = None) -> BlastRadius:
    """The tree and its counts."""
    name = _origin(seen, origin)
    made = build(seen)
    person = name.startswith("spiffe://")
    start = Node("principal" if person else "held", made.stands_for.get(name, name))
    found = reached(made.graph, [start])
    rows: dict[str, Reached] = {}
    for node, (distance, edge) in found.items():
        about = made.graph.about[node]
        if edge is not None and node.name not in (name, start.name) and node.name not in rows:
            rows[node.name] = Reached(name=node.name, kind=about.what, zone=", ".join(about.zones), distance=distance, via=_step(edge))
    others = {node: made.graph.about[node] for node in found if node != start and node.kind == "principal"}
    sizes = {node.name: made.graph.about[node].count for node in found}
    kinds: Counter[str] = Counter()
    for row in rows.values():
        kinds[row.kind] += sizes[row.name]
    return BlastRadius(
        origin=name,
        kind="principal" if person else resource_parts(name).kind,
        zones=tuple(sorted({zone for node in found for zone in made.graph.about[node].zones})),
        principals=sum(about.count for about in others.values()),
        endpoints=kinds["endpoint"] + kinds["tool"],
        assets=sum(kinds[kind] for kind in ("dataset", "model", "adapter", "artifact", "key")),
        secrets=kinds["system"],
        tree=tuple(list(rows.values())[:MAX_TREE]),
        breaks=_breaks(seen, made, name, calls or {}),
        cut=made.cut or (f"{len(rows) - MAX_TREE} more lines are counted, not listed" if len(rows) > MAX_TREE else ""),
    )


def _origin(seen: Seen, text: str) -> str:
    """A caller or a thing by its whole name, last segment or digest. Raises `NotFound`, `InvalidInput`."""
    things = {*seen.assets, *seen.endpoints}
    whole = resource(seen.trust_domain, "artifact", text) if text.startswith("sha256") and len(text) > 70 else text
    if whole in seen.registrations or whole in things:
        return whole
    found = [name for name in (*sorted(seen.registrations), *sorted(things)) if name.rpartition("/")[2] == text]
    if len(found) > 1:
        raise InvalidInput(f"`{text[:80]}` names {len(found)} of them", remedy="give the whole name")
    if not found:
        raise NotFound(f"there is no caller, endpoint or asset `{text[:160]}`", remedy="`vouchgate identity list`, `vouchgate assets list`")
    return found[0]


def _breaks(seen: Seen, made: Built, name: str, calls: dict[tuple[str, str, str], int]) -> tuple[str, ...]:
    """What revoking it ends."""
    told: list[str] = []
    if name.startswith("spiffe://"):
        cells = [one for one in made.triples if name in one.caller.members]
        told += [f"{sum(len(one.thing.members) for one in cells)} acts that it may do now"] if cells else []
        told += [
            f"{count} calls of it were let through: {action} on {what.rpartition('/')[2]}"
            for (who, action, what), count in calls.items()
            if who == name
        ]
        served = seen.registrations[name].endpoint
        told += [f"endpoint {served.rpartition('/')[2]} has no identity any more"] if served else []
        told += [f"run {one.id} ({one.stage}) goes on as it" for one in seen.runs if one.principal == name]
        return tuple(told[:MAX_TREE])
    asset = seen.assets.get(name)
    digest = asset.digest if asset and asset.digest else resource_parts(name).name
    for served in sorted(one for one, endpoint in seen.endpoints.items() if endpoint.model_digest == digest):
        callers = sum(len(one.caller.members) for one in made.triples if served in one.thing.members)
        told.append(f"endpoint {served.rpartition('/')[2]} serves it: {callers} acts of callers end")
    told += [f"{one} was made from it" for one in sorted(seen.derived.get(digest, ()))]
    told += [f"run {one.id} declared it as an input" for one in seen.runs if digest in one.inputs]
    return tuple(told[:MAX_TREE])


# -- surface


async def show_surface(context: Context, caller: Caller) -> AttackSurface:
    """How much can be reached."""
    settings, place = context.settings, context.place
    listeners = listeners_of(settings, place.gateway, place.plain, place.console)
    return await _off(context, caller, lambda seen: surface_in(seen, listeners))


def surface_in(seen: Seen, listeners: tuple[ListenerLine, ...] = ()) -> AttackSurface:
    """Triples with and without."""
    made = build(seen)
    listed = [(action, one) for one in made.things for action in _offered(seen, one.name, one.what)]
    pairs: dict[tuple[str, str], list[int]] = {}
    allowed = depends = across = 0
    universe = {(action, one.name) for action, one in listed}
    for triple in made.triples:
        if (triple.action, triple.thing.name) not in universe:
            continue
        size = len(triple.caller.members) * len(triple.thing.members)
        allowed, depends = allowed + size * triple.certain, depends + size * (not triple.certain)
        across += size * (triple.caller.zones[0] not in triple.thing.zones)
        for zone in triple.thing.zones:
            row = pairs.setdefault((triple.caller.zones[0], zone), [0, 0])
            row[0 if triple.certain else 1] += size
    people = sum(len(one.members) for one in made.callers)
    without = people * sum(len(one.members) for _, one in listed)
    return AttackSurface(
        principals=people,
        actions=len({action for action, _ in listed}),
        things=sum(len(one.members) for one in made.things),
        allowed=allowed,
        depends=depends,
        without=without,
        factor=round(without / (allowed + depends), 2) if allowed + depends else 0.0,
        across=across,
        zones=tuple((source, target, row[0], row[1]) for (source, target), row in sorted(pairs.items())),
        listeners=(*listeners, *_upstreams(seen, guarded=True)),
        listeners_without=_upstreams(seen, guarded=False),
        cut=made.cut,
    )


def _offered(seen: Seen, name: str, what: str) -> tuple[str, ...]:
    """What a network without vouchgate lets everybody do: each route of a server, reading and changing each thing, taking each secret."""
    if what == "endpoint":
        return tuple(sorted(offered(seen, name)))
    return {"tool": ("call-tool",), "key": ("release-key",), "system": ("release-key",)}.get(what, ("read", "promote"))


def listeners_of(settings: Settings, gateway: str, plain: str, console: str) -> tuple[ListenerLine, ...]:
    """What vouchgate itself listens on."""
    layout = Layout(Path(settings.data_dir))
    tcp = [
        ("gateway", gateway, "whoever has an X.509-SVID of this trust domain, or a token where an endpoint lists bearer"),
        ("gateway, plain", plain, "this machine; wrapped servers in observe, tokens"),
        ("gateway, partners", settings.gateway.federated_listen, "workloads of partners that a registration stands for"),
        ("egress", settings.gateway.egress_listen if settings.egress else "", "whoever has an X.509-SVID of this trust domain"),
        ("token service", settings.sts.listen, "whoever proves possession or attests itself"),
        ("console", console, "this machine, with a one-time code"),
    ]
    unix = [
        ("API", layout.api_socket, "unix users; each act is decided"),
        ("Workload API", layout.workload_socket, "unix users that a registration names"),
        ("control plane", layout.control_socket, "vouchgate's own users"),
        ("ext_authz", layout.ext_authz_socket, "the gateway's user"),
        ("signer", layout.signer_socket, "the control plane's user"),
    ]
    found = [ListenerLine(name=name, address=address, kind="tcp", who=who) for name, address, who in tcp if address]
    return (*found, *(ListenerLine(name=name, address=str(path), kind="unix", who=who) for name, path, who in unix))


def _upstreams(seen: Seen, *, guarded: bool) -> tuple[ListenerLine, ...]:
    """Servers: behind the gateway, or as a network without it has them."""
    found = []
    for name, one in sorted(seen.endpoints.items()):
        kind, _, rest = one.upstream.partition(":")
        if kind == "https":
            continue
        held = "the gateway's user" if kind == "unix" else "this machine, unless the network is closed: `vouchgate zones export`"
        found.append(
            ListenerLine(
                name=name.rpartition("/")[2],
                address=rest,
                kind="unix" if kind == "unix" else "tcp",
                who=held if guarded else "everybody on the network",
            )
        )
    return tuple(found)
