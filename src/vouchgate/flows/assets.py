"""Datasets, models, adapters, keys and artifacts: where they were placed, and how they come to lie elsewhere.

1. vouchgate.toml places what it names once; afterwards the recorded place stands. Crossings are the settings' own, whole.
2. `put` places what lies nowhere yet, or says more of what is known (`administer:place`). It moves nothing: content that lies somewhere is
   not given a second name in another zone, and what was taken away comes back where it lay. It takes no label away and adds no purpose.
3. `move` is a decision about the thing, `promote`, `export` or `deploy` with `target`: policy must permit it, and where crossings are declared
   one from where it lies to the target must cover it. Promoting and deploying need vouches of two distinct roles (contracts, "Roots of trust").
4. An import places what it admitted in the zone for which it was decided.
5. A model is served in a zone only if its content lies there.
"""

from __future__ import annotations

import msgspec

from vouchgate.audit import ocsf
from vouchgate.evidence.catalog import predicates
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.changes import AssetPut, AssetRemoved, Change, CrossingsPut
from vouchgate.flows.context import Context
from vouchgate.flows.facts import Facts
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_zones import AssetMove, AssetRequest, AssetState, MoveOutcome
from vouchgate.vocabulary.crossing_words import LEAVING
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, InvalidSettings, NotFound
from vouchgate.vocabulary.names import resource, resource_parts
from vouchgate.vocabulary.places import Asset, Crossing
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.vouches import UnixMillis

TWO_ROLES = frozenset({"promote", "deploy"})
"""Moves that need vouches of two distinct roles."""
MAX_ASSETS = 100_000
"""Things that are placed; about 50 MB of facts."""


# -- settings


def wanted_zones(settings: Settings, facts: Facts) -> list[Change]:
    """Rule 1, as changes. Raises `InvalidSettings` for a predicate that nobody can vouch for."""
    found: list[Change] = []
    crossings = crossings_of(settings)
    if crossings != facts.crossings:
        found.append(CrossingsPut(crossings=crossings))
    for one in settings.assets:
        made = Asset(
            id=resource(settings.trust_domain, one.kind, one.name),
            zones=one.zones,
            digest=one.digest,
            base=one.base,
            labels=one.labels,
            purposes=one.purposes,
        )
        known = facts.assets.get(made.id)
        made = made if known is None else msgspec.structs.replace(made, zones=known.zones)
        if made != known:
            found.append(AssetPut(asset=made))
    return found


def crossings_of(settings: Settings) -> tuple[Crossing, ...]:
    """[[crossings]] as they are recorded. Raises `InvalidSettings`."""
    for number, one in enumerate(settings.crossings):
        unknown = [text for text in one.vouches if text.partition("@")[0] not in predicates()]
        if unknown:
            raise InvalidSettings(
                f"`crossings[{number}].vouches`: nobody vouches for `{unknown[0]}`", remedy=f"use one of {', '.join(sorted(predicates()))}"
            )
    return tuple(
        Crossing(source=one.source, target=one.target, actions=one.actions, kinds=one.kinds, vouches=one.vouches, why=one.why)
        for one in settings.crossings
    )


# -- reading


def listed(context: Context) -> tuple[AssetState, ...]:
    """Everything that was placed, by name, with what is vouched for of it."""
    facts, now = context.facts, context.clock.now()
    return tuple(_state(facts, facts.assets[name], now) for name in sorted(facts.assets))


def _state(facts: Facts, asset: Asset, now: UnixMillis) -> AssetState:
    held, lacking = _evidence(facts, asset, now)
    return AssetState(asset=asset, vouches=tuple(sorted(held)), lacking=lacking)


def _evidence(facts: Facts, asset: Asset, now: UnixMillis) -> tuple[dict[str, str], dict[str, str]]:
    """Predicates that hold of the name or its content, each with the role that vouched; and those that do not, with why."""
    names = [str(asset.id)] + ([resource(facts.trust_domain, "artifact", asset.digest)] if asset.digest else [])
    held: dict[str, str] = {}
    lacking: dict[str, str] = {}
    for name in names:
        evidence = facts.evidence(name, now)
        held |= {one.predicate: facts.lineage.vouches[one.vouch_id].issuer_role for one in evidence.held}
        lacking |= evidence.lacking
    return held, {name: why for name, why in lacking.items() if name not in held}


def zones_of_content(facts: Facts, digest: str) -> set[str]:
    """Where content lies, under its digest or under a name that stands for it."""
    artifact = resource(facts.trust_domain, "artifact", digest)
    return {zone for name in (artifact, *facts.standing_for(artifact)) if name in facts.assets for zone in facts.assets[name].zones}


def check_served(facts: Facts, zone: str, digest: str) -> None:
    """Rule 5, where crossings are declared. Raises `Conflict`."""
    lies = zones_of_content(facts, digest)
    if facts.crossings and zone not in lies:
        where = f"it lies in {', '.join(sorted(lies))}" if lies else "it lies nowhere"
        name = resource(facts.trust_domain, "artifact", digest)
        raise Conflict(
            f"a model of zone `{zone}` is to be served, and `{digest[:23]}` is not in it: {where}",
            remedy=f"move it: `vouchgate assets move {name} --to {zone}`",
        )


# -- acting


async def put(context: Context, caller: Caller, request: AssetRequest) -> AssetState:
    """Rule 2. Raises `NotPermitted`, `Conflict`, `InvalidInput`, `NotFound`."""
    await authorise(context, caller, "place")
    facts, now = context.facts, context.clock.now()
    made = _asked(context, request)
    known = facts.assets.get(made.id)
    before = known or facts.departed.get(made.id)
    if before is not None:
        _check_more(made, before, request.zones)
    if before is None and not request.zones:
        raise InvalidInput(f"`{made.id}` is to lie nowhere", remedy="name a zone: `--zone ZONE`")
    if known is None and len(facts.assets) >= MAX_ASSETS:
        raise Conflict(f"{MAX_ASSETS} things are placed", remedy="remove what is no longer used")
    made = msgspec.structs.replace(made, zones=before.zones if before else request.zones)
    digest = made.digest or (resource_parts(made.id).name if "/artifact/" in made.id else "")
    lies = (zones_of_content(facts, digest) or _lay(facts, digest)) - set(made.zones) if digest else set()
    if lies and (known is None or known.digest != made.digest):
        raise Conflict(f"that content lies in zone `{min(lies)}`", remedy="name it there, and move it: `vouchgate assets move`")
    entry = act_entry(context, caller, "place", made.id, "done", {"zones": list(made.zones), "digest": made.digest})
    await context.sequencer.submit(caller.principal.principal.id, [AssetPut(asset=made)], [entry])
    return _state(facts, made, now)


def _check_more(made: Asset, before: Asset, zones: tuple[str, ...]) -> None:
    """Rule 2 for what is known, or was. Raises `Conflict`."""
    if zones and set(zones) != set(before.zones):
        raise Conflict(f"`{made.id}` lies in {', '.join(before.zones) or 'no zone'}", remedy="move it: `vouchgate assets move`")
    lost = sorted(set(before.labels) - set(made.labels))
    if lost:
        raise Conflict(f"`{made.id}` holds `{lost[0]}`", remedy="name its labels again; they are taken away in vouchgate.toml alone")
    if before.purposes and not (made.purposes and set(made.purposes) <= set(before.purposes)):
        named = ", ".join(before.purposes)
        raise Conflict(f"`{made.id}` is there for {named} alone", remedy="name these or fewer; others are added in vouchgate.toml alone")


def _lay(facts: Facts, digest: str) -> set[str]:
    """Where content lay that was taken away."""
    artifact = resource(facts.trust_domain, "artifact", digest)
    gone = (one for one in facts.departed.values() if one.id == artifact or (one.digest and one.digest == digest))
    return {zone for one in gone for zone in one.zones}


def _asked(context: Context, request: AssetRequest) -> Asset:
    name = resource(context.trust_domain, request.kind, request.name)
    for text in (request.digest, request.base):
        if text:
            parse_digest(text)
    if request.digest and request.kind == "artifact":
        raise InvalidInput("an artifact's name is its digest", remedy="leave the digest out")
    if request.base and request.kind != "adapter":
        raise InvalidInput(f"a {request.kind} has no base model", remedy="leave it out, or make it an adapter")
    return Asset(id=name, zones=request.zones, digest=request.digest, base=request.base, labels=request.labels, purposes=request.purposes)


async def remove(context: Context, caller: Caller, name: str, reason: str) -> AssetState:
    """It lies nowhere from here on. Raises `NotPermitted`, `NotFound`."""
    await authorise(context, caller, "place")
    asset = full_asset(context.facts, name)
    state = _state(context.facts, asset, context.clock.now())
    entry = act_entry(context, caller, "remove-asset", asset.id, "done", {"zones": list(asset.zones), "reason": reason[:500]})
    await context.sequencer.submit(caller.principal.principal.id, [AssetRemoved(id=asset.id, was=asset)], [entry])
    return state


async def move(context: Context, caller: Caller, request: AssetMove) -> MoveOutcome:
    """Rule 3; a "no" is an answer. Raises `NotFound`, `InvalidInput`, `Conflict`."""
    facts, now = context.facts, context.clock.now()
    if request.action not in LEAVING:
        raise InvalidInput(f"`{request.action[:64]}` moves nothing", remedy=f"use one of {', '.join(LEAVING)}")
    asset = full_asset(facts, request.asset)
    if request.target not in facts.zones:
        raise NotFound(f"there is no zone `{request.target[:64]}`", remedy=f"use one of {', '.join(sorted(facts.zones))}")
    if request.target in asset.zones:
        raise Conflict(f"`{asset.id}` lies in `{request.target}` already", remedy="nothing is left to do")
    leaves = _leaves(asset, request)
    decision = facts.decide(caller.principal, request.action, asset.id, now, facts={"target": request.target})
    zones = tuple(sorted({*(zone for zone in asset.zones if zone != leaves), request.target}))
    moved = msgspec.structs.replace(asset, zones=zones)
    lack = _lack(facts, asset, request.action, now) if decision.effect == "allow" else ""
    done = decision.effect == "allow" and not lack
    detail = {"action": request.action, "from": list(asset.zones), "to": request.target, "reason": request.reason[:500], "lack": lack}
    entries = [
        Append(entry=ocsf.decision(decision), label=decision.id),
        act_entry(context, caller, "move-asset", asset.id, "done" if done else "denied", detail),
    ]
    await context.sequencer.submit(caller.principal.principal.id, [AssetPut(asset=moved)] if done else (), entries)
    return _moved(facts, moved if done else asset, decision, lack, now, done=done)


def _leaves(asset: Asset, request: AssetMove) -> str:
    """Which zone it leaves; empty where it stays in all of them too."""
    if request.source and request.source not in asset.zones:
        raise InvalidInput(f"`{asset.id}` does not lie in `{request.source[:64]}`", remedy=f"it lies in {', '.join(asset.zones) or 'none'}")
    if request.keep:
        return ""
    if len(asset.zones) > 1 and not request.source:
        raise InvalidInput(f"`{asset.id}` lies in {', '.join(asset.zones)}", remedy="say which it leaves, `--from ZONE`, or `--keep`")
    return request.source or (asset.zones[0] if asset.zones else "")


def _lack(facts: Facts, asset: Asset, action: str, now: UnixMillis) -> str:
    """Rule 3's two roles."""
    held, _ = _evidence(facts, asset, now)
    roles = sorted(set(held.values()))
    if action not in TWO_ROLES or len(roles) >= 2:
        return ""
    return f"to {action} it takes vouches of two distinct roles, it has {f'those of {roles[0]} alone' if roles else 'none'}"


def _moved(facts: Facts, asset: Asset, decision: Decision, lack: str, now: UnixMillis, *, done: bool) -> MoveOutcome:
    remedy = "have it scanned, validated or approved by another role: `vouchgate evidence show`" if lack else decision.remedy
    return MoveOutcome(
        moved=done,
        state=_state(facts, asset, now),
        decision_id=decision.id,
        reason=lack or decision.reason,
        remedy="" if done else remedy,
        missing=decision.missing,
    )


async def place_imported(context: Context, caller: Caller, name: str, zone: str) -> None:
    """Rule 4. A zone that is not there places nothing; what lies in it already stays."""
    facts = context.facts
    known = facts.assets.get(name)
    zones = known.zones if known else ()
    if zone not in facts.zones or zone in zones:
        return
    made = msgspec.structs.replace(
        known or Asset(id=resource(context.trust_domain, "artifact", resource_parts(name).name)), zones=(*zones, zone)
    )
    entry = act_entry(context, caller, "place", made.id, "done", {"zones": list(made.zones), "because": "import"})
    await context.sequencer.submit(caller.principal.principal.id, [AssetPut(asset=made)], [entry])


def full_asset(facts: Facts, text: str) -> Asset:
    """An asset by its whole name, its last segment, or the beginning of its digest. Raises `NotFound`, `InvalidInput`."""
    if text in facts.assets:
        return facts.assets[text]
    last = [one for name, one in facts.assets.items() if name.rpartition("/")[2] == text]
    found = last or [one for name, one in facts.assets.items() if text.startswith("sha256:") and f"/artifact/{text}" in name]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(f"`{text[:80]}` names {len(found)} things", remedy="give the whole name: `vouchgate assets list`")
    raise NotFound(f"`{text[:160]}` was placed nowhere", remedy="list them: `vouchgate assets list`")
