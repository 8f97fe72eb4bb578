"""What holds between zones, as a part of the facts: crossings beside the signed policy, and where things lie.

Rules
1. Crossings are rendered to Cedar and compiled with the policy in force, in one set: whatever decides, explains or replays reads one language.
2. A change that could not be compiled is refused before it is recorded: a crossing of a zone that is not there, a policy that takes a name that
   generated ones have.
3. Things are placed in zones that are there. A secret lies where the key of its name was placed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from vouchgate.flows.changes import AssetPut, AssetRemoved, Change, CrossingsPut, ZonePut
from vouchgate.policy.catalog import MAX_LOADED, load, schema_text, whole
from vouchgate.policy.compile import CompiledPolicies, compile_policies
from vouchgate.policy.load import InvalidPolicy, Source
from vouchgate.segmentation.crossings import render
from vouchgate.vocabulary.crossing_words import ADMINISTRATORS, POLICIES, SOURCE
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.names import resource, resource_parts
from vouchgate.vocabulary.places import Asset, Crossing, Zone
from vouchgate.vocabulary.principals import ALIAS_ZONE

MAX_ASSET_ZONES = 16
"""Zones in which one thing lies."""


def compile_in_force(
    sources: Sequence[tuple[str, str]], *, version: int, crossings: Sequence[Crossing] = (), zones: Iterable[str] = ()
) -> CompiledPolicies:
    """Policy files with the base pack before them and what crossings become behind them (rule 1). Raises `InvalidPolicy`."""
    if any(name == SOURCE for name, _ in sources):
        raise InvalidPolicy(f"`{SOURCE}` is the name of generated policies", remedy="name the file otherwise")
    ready = _compiled(sources_in_force(sources, crossings=crossings, zones=zones), schema_text())
    return CompiledPolicies(ready.source, ready.policies, version=version)


def sources_in_force(sources: Sequence[tuple[str, str]], *, crossings: Sequence[Crossing], zones: Iterable[str]) -> tuple[Source, ...]:
    """Everything that is compiled, the base pack first."""
    text = render(crossings, zones)
    generated = [Source(SOURCE, text)] if text else []
    return whole([*(Source(name, body) for name, body in sources), *generated])


@functools.lru_cache(maxsize=MAX_LOADED)
def _compiled(sources: tuple[Source, ...], schema: str) -> CompiledPolicies:
    """What was compiled ahead (flows/prevalidate.py) is there when it comes into force; nothing of a request or a world is in it."""
    policies = load(sources, schema)
    for policy in policies.policies:
        if policy.id.startswith(POLICIES) and policy.source != SOURCE:
            raise InvalidPolicy(f"{policy.where}: names that begin with `{POLICIES}` are of generated policies", remedy="name it otherwise")
    return compile_policies(policies)


def check_where(
    change: Change, *, zones: Mapping[str, Zone], crossings: Sequence[Crossing], assets: Mapping[str, Asset], trust_domain: str
) -> None:
    """Rules 2 and 3, for the changes that they are about. Raises a typed error."""
    match change:
        case CrossingsPut(crossings=wanted):
            check_crossings(wanted, zones)
        case ZonePut(zone=zone) if crossings and zone.name not in zones:
            check_crossings(crossings, {**zones, zone.name: zone})
        case AssetPut(asset=asset):
            check_asset(asset, zones, trust_domain)
        case AssetRemoved(id=asset_id) if asset_id not in assets:
            raise NotFound(f"`{asset_id[:160]}` was placed nowhere", remedy="list them: `vouchgate assets list`")
        case _:
            return


def check_crossings(crossings: Sequence[Crossing], zones: Mapping[str, Zone]) -> None:
    """Rule 2. Raises `NotFound`, `InvalidInput`."""
    for one in crossings:
        if one.target not in zones or (one.source not in zones and one.source != ADMINISTRATORS and not one.source.startswith(ALIAS_ZONE)):
            missing = one.source if one.target in zones else one.target
            raise NotFound(f"there is no zone `{missing[:64]}`", remedy="name one of the zones of vouchgate.toml")
        if one.source == one.target:
            raise InvalidInput(f"`{one.source[:64]}` would cross into itself", remedy="within a zone no crossing is needed")
    compile_in_force((), version=0, crossings=crossings, zones=zones)


def check_asset(asset: Asset, zones: Mapping[str, Zone], trust_domain: str) -> None:
    """Rule 3. Raises `NotFound`, `InvalidInput`."""
    if resource_parts(asset.id).trust_domain != trust_domain:
        raise InvalidInput(f"`{asset.id}` is of another trust domain", remedy=f"name it vg://{trust_domain}/...")
    unknown = [zone for zone in asset.zones if zone not in zones]
    if unknown:
        raise NotFound(f"there is no zone `{unknown[0][:64]}`", remedy=f"use one of {', '.join(sorted(zones)) or 'none yet'}")
    if len(set(asset.zones)) != len(asset.zones) or len(asset.zones) > MAX_ASSET_ZONES:
        raise InvalidInput(f"`{asset.id}` is to lie in too many zones, or in one twice", remedy=f"at most {MAX_ASSET_ZONES}, each once")


def secret_zones(assets: Mapping[str, Asset], trust_domain: str, name: str) -> tuple[str, ...]:
    """Where a secret lies (rule 3)."""
    key = assets.get(resource(trust_domain, "key", name))
    return key.zones if key is not None else ()
