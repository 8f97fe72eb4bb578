"""What an analysis of zones looks at: the facts as they were at one moment, copied on the event loop, read in a thread.

Rules
1. Nothing here changes while it is read: mappings are copied, what is in them is immutable.
2. Callers of whom every policy says the same are one class: equal groups, zone, kind and vouches, unless a policy names one of them or reads
   names. Things likewise: equal zones, vouches, labels, purposes and content.
3. Who is revoked, and whose registration has ended, is nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vouchgate.flows.context import Context
from vouchgate.flows.facts import Facts
from vouchgate.policy.compile import CompiledPolicies
from vouchgate.policy.facts import principal_uid, resource_uid
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.names import principal_parts, resource, resource_parts
from vouchgate.vocabulary.places import Asset, Crossing, Endpoint, Zone
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.vouches import UnixMillis


@dataclass(frozen=True, slots=True)
class Alike:
    """Callers, or things, of which the same is decided."""

    name: str
    """The first of them, by name."""
    members: tuple[str, ...]
    zones: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Seen:
    """Rule 1."""

    trust_domain: str
    now: UnixMillis
    policies: CompiledPolicies
    world: World
    zones: Mapping[str, Zone]
    observing: frozenset[str]
    crossings: tuple[Crossing, ...]
    endpoints: Mapping[str, Endpoint]
    assets: Mapping[str, Asset]
    registrations: Mapping[str, Registration]
    """Those that stand."""
    runs: tuple[Run, ...]
    secrets: tuple[str, ...]
    egress_secrets: Mapping[str, str]
    """Provider -> secret that is put in on the way."""
    solo: bool
    derived: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Digest -> digests that were made from it."""


def seen_of(
    facts: Facts, now: UnixMillis, *, solo: bool, secrets: Iterable[str] = (), derived: Mapping[str, frozenset[str]] | None = None
) -> Seen:
    """The facts now. Raises `Unavailable` before a policy is loaded."""
    if facts.policies is None:
        raise Unavailable("no policy is loaded yet", remedy="wait until the control plane is ready")
    policies = CompiledPolicies(facts.policies.source, facts.policies.policies, version=facts.policies.version)
    world = World()
    world.entities, world.tags = dict(facts.world.entities), dict(facts.world.tags)
    world.attributes = {uid: dict(values) for uid, values in facts.world.attributes.items()}
    world.up = dict(facts.world.up)
    standing = {
        name: one
        for name, one in facts.registrations.items()
        if facts.registration_of(name, now) is not None and facts.revocation_of(name) is None and principal_uid(name) in world.entities
    }
    return Seen(
        trust_domain=facts.trust_domain,
        now=now,
        policies=policies,
        world=world,
        zones=dict(facts.zones),
        observing=frozenset(name for name in facts.zones if facts.mode_of(name, now) == "observe"),
        crossings=facts.crossings,
        endpoints=dict(facts.endpoints),
        assets=dict(facts.assets),
        registrations=standing,
        runs=tuple(one for one in facts.runs.values() if one.alive(now)),
        secrets=tuple(sorted({*secrets, *facts.secrets})),
        egress_secrets={name: one.egress.secret for name, one in facts.endpoints.items() if one.egress is not None and one.egress.secret},
        solo=solo,
        derived=derived or {},
    )


def seen_in(context: Context) -> Seen:
    """The control plane's facts now."""
    derived: dict[str, set[str]] = {}
    for vouch in context.facts.lineage.vouches.values():
        inputs = vouch.claims.get("inputs")
        made = [subject.digest.text for subject in vouch.subjects if subject.digest is not None]
        for one in inputs if isinstance(inputs, list | tuple) else ():
            derived.setdefault(str(one), set()).update(made)
    return seen_of(
        context.facts,
        context.clock.now(),
        solo=context.settings.solo,
        secrets=[one.name for one in context.settings.secrets],
        derived={name: frozenset(made) for name, made in derived.items()},
    )


# -- classes


def callers_alike(seen: Seen) -> list[Alike]:
    """Rule 2, by the first name."""
    alone = names_matter(seen.policies)
    named = seen.policies.named
    groups: dict[Any, list[str]] = {}
    for name in sorted(seen.registrations):
        uid, parts = principal_uid(name), principal_parts(name)
        same: Any = (name,) if alone or uid in named else (seen.world.up[uid] - {uid}, parts.kind, parts.zone, _held(seen.world, uid))
        groups.setdefault(same, []).append(name)
    return [_alike(members) for members in groups.values()]


def _alike(members: list[str]) -> Alike:
    parts = principal_parts(members[0])
    return Alike(members[0], tuple(members), (parts.zone,), parts.kind)


def _held(world: World, uid: Uid) -> Any:
    return world.attributes.get(uid, {}).get("vouches")


def names_matter(policies: CompiledPolicies) -> bool:
    """Whether a policy reads a caller's own name, so that no two are alike."""
    return any(_reads_name(policy.policy.json) for policy in policies.policies)


def _reads_name(document: Any) -> bool:
    return '"attr": "name"' in json.dumps(document, sort_keys=True)


def things_alike(seen: Seen) -> list[Alike]:
    """Rule 2: every endpoint and tool by itself, assets and secrets by what is known of them."""
    named = seen.policies.named
    found = [Alike(name, (name,), (one.zone,), "endpoint") for name, one in sorted(seen.endpoints.items())]
    tools = {tool: one.zone for one in seen.endpoints.values() for tool in one.tools.values()}
    found += [Alike(name, (name,), (zone,), "tool") for name, zone in sorted(tools.items())]
    groups: dict[Any, list[str]] = {}
    for name in sorted({*seen.assets, *_known_secrets(seen)}):
        uid = resource_uid(name)
        if uid not in seen.world.entities:
            continue
        content = seen.world.attributes[uid].get("content")
        facts = {key: value for key, value in seen.world.attributes[uid].items() if key not in ("content", "base")}
        behind = tuple(_held(seen.world, one) for one in (content, seen.world.attributes[uid].get("base")) if isinstance(one, Uid))
        same: Any = (name,) if uid in named or behind else (uid.type, seen.world.up[uid] - {uid}, tuple(sorted(facts.items())))
        groups.setdefault(same, []).append(name)
    return found + [Alike(names[0], tuple(names), zones_of(seen, names[0]), resource_parts(names[0]).kind) for names in groups.values()]


def _known_secrets(seen: Seen) -> list[str]:
    return [resource(seen.trust_domain, "system", f"secret.{name}") for name in seen.secrets]


def zones_of(seen: Seen, name: str) -> tuple[str, ...]:
    """Where a thing lies."""
    return tuple(sorted(uid.id for uid in seen.world.up.get(resource_uid(name), ()) if uid.type == "Zone"))
