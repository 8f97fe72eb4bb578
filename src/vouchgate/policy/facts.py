"""The vocabulary's nouns as entities and facts of the World: the only place that knows both.

    put_group(world, name, within=())                       a nested group (flat ones are made by `put_principal`)
    put_principal(world, principal) -> Uid                  groups and zone become parents
    put_endpoint(world, endpoint, evidence) -> Uid          zone becomes a parent, the digest it serves its `model`
    put_tool(world, name, endpoint, evidence) -> Uid        its endpoint and zone become parents
    put_asset(world, asset, evidence) -> Uid                a dataset, model, adapter, key or artifact; its zones become parents
    put_artifact(world, resource_id, evidence, zones=()) -> Uid       the same by name; likewise `put_system`, `put_run`
    put_zone(world, name) -> Uid
    evidence_of(vouches, lacking={}) -> Evidence            from verified, fresh, unrevoked, passed vouches (the caller says so)
    held_from(vouch) -> Held
    request_context(principal, risk, facts) -> dict         what policies see as `context`, typed and checked

Names: `principal_uid`, `action_uid`, `resource_uid`, `group_uid`, `zone_uid`.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from vouchgate.policy.extensions import ExtensionError, Ip, parse_ip
from vouchgate.policy.values import Uid, values
from vouchgate.policy.world import Entity, Evidence, Held, World
from vouchgate.vocabulary.decisions import Risk
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import ResourceId, principal_parts, resource, resource_parts
from vouchgate.vocabulary.places import Asset, Endpoint
from vouchgate.vocabulary.principals import Principal, VerifiedPrincipal
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.vouches import Vouch

REQUEST_FACTS: frozenset[str] = frozenset(
    {"hour", "weekday", "usual_hour", "usual_network", "source_ip", "method", "path", "purpose", "target", "run", "stage", "declared"}
)
"""Facts of the single request: unknown when a grant is decided ahead of it. A certificate's run is among them, because the gateway matches
certificates by name; what a token delegates is not, because such a token is always asked about."""
MAX_NAMES = 16_384
"""Names that are remembered as checked, of each kind; about 200 bytes each. A name that is none is checked each time."""
MAX_FACT_CHARACTERS = 8192
"""Characters of one textual fact; the gateway's own bound on a path."""
_ACTION = re.compile(r"[a-z][a-z0-9:._-]{0,63}")
_TYPES: Mapping[str, type] = {
    "hour": int, "weekday": int, "usual_hour": bool, "usual_network": bool, "source_ip": Ip, "method": str, "path": str, "purpose": str,
    "target": str, "run": str, "stage": str, "declared": bool, "depth": int, "actor": str, "on_behalf_of": str,
}  # fmt: skip
_RESOURCES = {
    "endpoint": "Endpoint", "tool": "Tool", "artifact": "Artifact", "dataset": "Dataset", "model": "Model", "adapter": "Adapter",
    "key": "Key", "run": "Run", "system": "System", "zone": "Zone",
}  # fmt: skip


@functools.lru_cache(maxsize=MAX_NAMES)
def principal_uid(name: str) -> Uid:
    """`spiffe://...` as policies name it. Raises `InvalidName`."""
    principal_parts(name)
    return Uid("Principal", name)


@functools.lru_cache(maxsize=MAX_NAMES)
def action_uid(name: str) -> Uid:
    """An action as policies name it. Raises `InvalidInput`."""
    if not _ACTION.fullmatch(name):
        raise InvalidInput(f"`{name[:64]!a}` is not an action", remedy="use lower-case letters, digits, `:` and `-`, for example `infer`")
    return Uid("Action", name)


def group_uid(name: str) -> Uid:
    """A group as policies name it, for example `callers` or `role:responder`."""
    return Uid("Group", name)


def zone_uid(name: str) -> Uid:
    """A zone as policies name it."""
    return Uid("Zone", name)


@functools.lru_cache(maxsize=MAX_NAMES)
def resource_uid(name: str) -> Uid:
    """`vg://...` as policies name it; a zone is named by its last segment. Raises `InvalidInput`."""
    parts = resource_parts(name)
    kind = _RESOURCES.get(parts.kind)
    if kind is None:
        raise InvalidInput(f"no policy can speak of a `{parts.kind}`", remedy=f"use one of {', '.join(sorted(_RESOURCES))}")
    return Uid("Zone", parts.name) if kind == "Zone" else Uid(kind, name)


def held_from(vouch: Vouch) -> Held:
    """A vouch that holds, as the World keeps it."""
    return Held(vouch.predicate_type, vouch.id, vouch.tier, vouch.expires_at)


def evidence_of(vouches: Iterable[Vouch], lacking: Mapping[str, str] | None = None) -> Evidence:
    """Evidence from vouches that hold. A vouch whose outcome is not `pass` never counts as held."""
    why = dict(lacking or {})
    held = []
    for vouch in vouches:
        if vouch.outcome == "pass":
            held.append(held_from(vouch))
        else:
            why.setdefault(vouch.predicate_type, "failed")
    return Evidence(tuple(held), why)


def _ensure(world: World, uid: Uid, evidence: Evidence | None = None) -> Uid:
    if uid not in world:
        world.put(Entity(uid, evidence=evidence))
    return uid


def put_group(world: World, name: str, within: Iterable[str] = ()) -> Uid:
    """A group, inside other groups."""
    parents = frozenset(_ensure(world, group_uid(parent)) for parent in within)
    world.put(Entity(group_uid(name), parents=parents))
    return group_uid(name)


def put_zone(world: World, name: str) -> Uid:
    """A zone."""
    return _ensure(world, zone_uid(name))


def put_principal(world: World, principal: Principal, evidence: Evidence = Evidence()) -> Uid:
    """A registered principal with its groups, its zone, and what is vouched for of it."""
    parts = principal_parts(principal.id)
    groups = {_ensure(world, group_uid(group)) for group in principal.groups}
    # thousands share these three, and a dict of interned texts is what the World keeps of each
    kind, zone, trust_domain = map(sys.intern, (str(parts.kind), str(parts.zone), str(parts.trust_domain)))
    attributes = {"kind": kind, "zone": zone, "name": parts.name, "trust_domain": trust_domain}
    uid = principal_uid(principal.id)
    world.put(Entity(uid, attributes, frozenset(groups | {put_zone(world, parts.zone)}), evidence))
    return uid


def put_endpoint(world: World, endpoint: Endpoint, evidence: Evidence) -> Uid:
    """An endpoint; its model is the artifact whose digest it serves."""
    uid = resource_uid(endpoint.id)
    attributes: dict[str, Any] = {
        "wrapped": endpoint.wrapped,
        "outside": endpoint.egress is not None,
        "labels": values(endpoint.labels),
        "purposes": values(endpoint.purposes),
    }
    if endpoint.model_digest:
        attributes["model"] = _ensure_artifact(world, endpoint.trust_domain, endpoint.model_digest)
    world.put(Entity(uid, attributes, frozenset({put_zone(world, endpoint.zone)}), evidence))
    return uid


def put_tool(world: World, name: str, endpoint: Endpoint, evidence: Evidence) -> Uid:
    """A tool of an endpoint, by its own `vg://` name."""
    uid, behind = resource_uid(name), resource_uid(endpoint.id)
    parents = frozenset({_ensure(world, behind, Evidence()), put_zone(world, endpoint.zone)})
    world.put(Entity(uid, {"endpoint": behind}, parents, evidence))
    return uid


def put_asset(world: World, asset: Asset, evidence: Evidence) -> Uid:
    """A dataset, model, adapter, key or artifact, where it was placed; the evidence holds what is vouched for of its content too."""
    uid = resource_uid(asset.id)
    attributes: dict[str, Any] = {"labels": values(asset.labels), "purposes": values(asset.purposes)}
    for name, digest in (("content", asset.digest), ("base", asset.base)):
        if digest and uid.type != "Artifact":
            attributes[name] = _ensure_artifact(world, resource_parts(asset.id).trust_domain, digest)
    world.put(Entity(uid, attributes, frozenset(put_zone(world, zone) for zone in asset.zones), evidence))
    return uid


def _ensure_artifact(world: World, trust_domain: str, digest: str) -> Uid:
    uid = resource_uid(f"vg://{trust_domain}/artifact/{digest}")
    if uid not in world:
        put_artifact(world, uid.id, Evidence())
    return uid


def put_artifact(world: World, name: str, evidence: Evidence, zones: Iterable[str] = ()) -> Uid:
    """Content, or a dataset's name, of which nothing is known but its vouches and where it lies."""
    return put_asset(world, Asset(id=ResourceId(name), zones=tuple(zones)), evidence)


put_dataset = put_artifact


def put_system(world: World, name: str, evidence: Evidence, zones: Iterable[str] = ()) -> Uid:
    """A part of the control plane, or a secret and where it lies."""
    uid = resource_uid(name)
    world.put(Entity(uid, parents=frozenset(put_zone(world, zone) for zone in zones), evidence=evidence))
    return uid


def put_run(world: World, run: Run, evidence: Evidence = Evidence()) -> Uid:
    """A run that goes on."""
    uid = resource_uid(resource(run.trust_domain, "run", run.id))
    attributes = {"stage": run.stage, "principal": principal_uid(run.principal)}
    world.put(Entity(uid, attributes, frozenset({put_zone(world, run.zone)}), evidence))
    return uid


def request_context(principal: VerifiedPrincipal, risk: Risk, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What policies see as `context`. `source_ip` may be text. Raises `InvalidInput` for a fact of another name or type."""
    context: dict[str, Any] = {
        "risk": risk.value,
        "authenticated": principal.authenticated,
        "credential": principal.credential_kind,
        "delegated": bool(principal.actors) or "on_behalf_of" in facts,
    }
    for name, value in facts.items():
        context[name] = _fact(name, value)
    return context


def _fact(name: str, value: Any) -> Any:
    kind = _TYPES.get(name)
    if kind is None:
        raise InvalidInput(f"`{name[:64]}` is not a fact of a request", remedy=f"give only {', '.join(sorted(_TYPES))}")
    if kind is Ip and isinstance(value, str):
        value = peer_address(value)
    if type(value) is not kind or (isinstance(value, str) and len(value) > MAX_FACT_CHARACTERS):
        raise InvalidInput(f"the fact `{name}` has the wrong type or length", remedy="give it as the schema says")
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidInput(f"the fact `{name}` is no text", remedy="give it as UTF-8")
    return value


def peer_address(text: str) -> Ip:
    """The peer's address; an IPv4 peer on an IPv6 socket (RFC 4291, section 2.5.5.2) is the IPv4 peer that policies mean."""
    mapped = text[len("::ffff:") :] if text.lower().startswith("::ffff:") and "." in text else text
    try:
        address = parse_ip(mapped)
    except ExtensionError:
        raise InvalidInput(f"`{text[:64]!a}` is not an address", remedy="give the peer's IPv4 or IPv6 address") from None
    if address.version == 6 and address.address >> 32 == 0xFFFF and address.prefix == 128:
        return Ip(4, address.address & 0xFFFF_FFFF, 32)
    return address
