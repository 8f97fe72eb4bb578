"""Turning: the smallest set of facts that an answer rests on, and the cheapest change that turns it over; each claim tried out first.

    turning(policies, request, world, unknown, carries) -> Turning

Rules
1. `minimal` is sufficient: a world that keeps, of memberships and vouches, only what is named in it gives the same answer. And each of its facts
   is necessary: that world without the one fact gives another answer. Facts that no world can be imagined without (`other`) stay in it untried.
2. `flips` of an allow, or of an answer that waits for the request: single facts of `minimal` whose loss turns the whole answer over in the world
   as it is. Where several policies permit, no single loss does, and `flips` is empty.
3. `flips` of a deny are the changes that are needed together, at the least cost (`leaves.COST`); `tried` says whether they were tried out.
   A change of the request's own facts cannot be imagined (which hour?), and is believed.
4. Nothing here decides; it asks `evaluate` and `lift`, as `decide` does.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vouchgate.policy.compile import CompiledPolicies, Request, evaluate, facts_of
from vouchgate.policy.grounds import grounds
from vouchgate.policy.leaves import COST, Leaf
from vouchgate.policy.obligations import lift
from vouchgate.policy.values import Uid, Values
from vouchgate.policy.words import short
from vouchgate.policy.world import World

MAX_TRIED = 256
"""Facts of one answer that are tried one by one; an answer that rests on more is told without trying."""
_GROUPED = {"group": "Group", "zone": "Zone"}
_KEPT = frozenset({"vouch", "group", "zone"})
"""Facts that a poorer world can be without."""


@dataclass(frozen=True, slots=True)
class Turning:
    """See the module's text."""

    effect: str
    minimal: tuple[Leaf, ...] = ()
    """Empty for a deny."""
    flips: tuple[Leaf, ...] = ()
    """The cheapest first; for a deny all of them together."""
    permit: str = ""
    """For a deny: the policy that would permit after the changes."""
    tried: bool = False


def turning(
    policies: CompiledPolicies, request: Request, world: World, unknown: frozenset[str] = frozenset(), carries: Collection[str] = ()
) -> Turning:
    """What holds an answer up, and what would turn it over."""
    carried = frozenset(carries)
    evaluation = lift(evaluate(policies, request, world, unknown), carried).evaluation
    found = grounds(policies, evaluation, facts_of(policies, request, world, unknown), carried)
    if evaluation.effect == "deny":
        plan = found.plan
        if plan is None:
            return Turning("deny")
        tried = all(leaf.kind == "risk" or (leaf.kind in _KEPT and leaf.want and leaf.subject is not None) for leaf in plan.changes)
        return Turning("deny", flips=tuple(sorted(plan.changes, key=_cost)), permit=plan.permit, tried=tried)
    trial = _Trial(policies, request, world, unknown, carried, evaluation.effect)
    minimal, tried = trial.minimal(found.leaves)
    lost = (leaf for leaf in minimal if (poorer := without(leaf, request, world)) is not None and trial.differs(*poorer))
    return Turning(evaluation.effect, minimal, tuple(sorted(lost, key=_cost)) if len(minimal) <= MAX_TRIED else (), tried=tried)


def _cost(leaf: Leaf) -> int:
    return COST[leaf.kind]


@dataclass(frozen=True, slots=True)
class _Trial:
    policies: CompiledPolicies
    request: Request
    world: World
    unknown: frozenset[str]
    carries: frozenset[str]
    effect: str

    def differs(self, request: Request, world: World) -> bool:
        """Whether the answer would be another."""
        return lift(evaluate(self.policies, request, world, self.unknown), self.carries).evaluation.effect != self.effect

    def minimal(self, leaves: tuple[Leaf, ...]) -> tuple[tuple[Leaf, ...], bool]:
        """Rule 1, and whether it was tried out."""
        if len(leaves) > MAX_TRIED or self.differs(self.request, only(leaves, self.request, self.world)):
            return leaves, False
        kept = leaves
        for leaf in leaves:
            fewer = tuple(one for one in kept if one != leaf)
            if leaf.kind in _KEPT:
                if leaf.want and not self.differs(self.request, only(fewer, self.request, self.world)):
                    kept = fewer
                continue
            poorer = without(leaf, self.request, only(kept, self.request, self.world))
            if poorer is not None and not self.differs(*poorer):
                kept = fewer
        # what does not hold in the poorer world (`not in group`) stays out of it by itself: it is no fact that must be kept
        return tuple(one for one in kept if one.want or one.kind not in _KEPT), True


def only(leaves: Iterable[Leaf], request: Request, world: World) -> World:
    """The world in which, of groups, zones and vouches, only these hold of whoever and whatever the request reads."""
    named: dict[Uid, set[Leaf]] = {}
    for leaf in leaves:
        if leaf.subject is not None and leaf.want and leaf.kind in _KEPT:
            named.setdefault(leaf.subject, set()).add(leaf)
    up: dict[Uid, frozenset[Uid]] = {}
    attributes: dict[Uid, Mapping[str, Any]] = {}
    for uid in _read(request, world, named):
        held = named.get(uid, set())
        groups = {Uid(_GROUPED[one.kind], one.name) for one in held if one.kind in _GROUPED}
        up[uid] = frozenset({one for one in world.up.get(uid, (uid,)) if one.type not in ("Group", "Zone")} | groups | {uid})
        if "vouches" in world.attributes.get(uid, {}):
            attributes[uid] = {**world.attributes[uid], "vouches": Values(one.name for one in held if one.kind == "vouch")}
    return _changed(world, up, attributes)


def without(leaf: Leaf, request: Request, world: World) -> tuple[Request, World] | None:
    """The request and the world with this one fact lost; None for what cannot be imagined lost."""
    subject = leaf.subject
    match leaf.kind:
        case "vouch" if leaf.want and subject is not None:
            known = world.attributes.get(subject, {})
            left = Values(one for one in known.get("vouches", ()) if one != leaf.name)
            return request, _changed(world, {}, {subject: {**known, "vouches": left}})
        case "group" | "zone" if leaf.want and subject is not None:
            lost = Uid(_GROUPED[leaf.kind], leaf.name)
            return request, _changed(world, {subject: world.up.get(subject, frozenset((subject,))) - {lost}}, {})
        case "risk":
            risk = max(int(leaf.name), int(request.context.get("risk", 0)))
            return _with(request, {**request.context, "risk": risk}), world
        case "fact" if leaf.name in request.context:
            return _with(request, {name: value for name, value in request.context.items() if name != leaf.name}), world
        case "model" if subject is not None and "model" in world.attributes.get(subject, {}):
            known = {name: value for name, value in world.attributes[subject].items() if name != "model"}
            return request, _changed(world, {}, {subject: known})
        case "caller" if leaf.name == "authenticated":
            return _with(request, {**request.context, "authenticated": False}), world
    return None


def _with(request: Request, context: Mapping[str, Any]) -> Request:
    return Request(request.principal, request.action, request.resource, context)


def _read(request: Request, world: World, named: Iterable[Uid]) -> set[Uid]:
    """Caller, thing, what the thing names (its model, content, base), and whatever else a fact is about."""
    behind = {value for value in world.attributes.get(request.resource, {}).values() if isinstance(value, Uid)}
    return {request.principal, request.resource, *behind, *named}


def _changed(world: World, up: dict[Uid, frozenset[Uid]], attributes: dict[Uid, Mapping[str, Any]]) -> World:
    """`world` read through these changes; only to be asked."""
    other = World()
    other.entities, other.tags = world.entities, world.tags
    other.up, other.attributes = ChainMap(up, world.up), ChainMap(attributes, world.attributes)  # type: ignore[arg-type]
    return other


def told_standing(leaf: Leaf) -> str:
    """A fact that an answer rests on."""
    match leaf.kind:
        case "vouch":
            return f"`{short(leaf.subject)}` {'has' if leaf.want else 'has no'} a fresh `{leaf.name}` vouch"
        case "model":
            return f"`{short(leaf.subject)}` is known to serve a model"
        case "group":
            return f"the caller is {'' if leaf.want else 'not '}in group `{leaf.name}`"
        case "zone":
            return f"`{short(leaf.subject)}` is {'' if leaf.want else 'not '}in zone `{leaf.name}`"
        case "risk":
            return f"the caller's risk is below {leaf.name}"
        case "fact":
            return f"the request's {leaf.name.replace('_', ' ')} fits"
        case "caller":
            return "the caller's credential was verified" if leaf.name == "authenticated" else f"the caller's {leaf.name} fits"
    return f"`{leaf.name}` as the policy's text asks"


def told_lost(leaf: Leaf) -> str:
    """A loss that would end an allow."""
    match leaf.kind:
        case "vouch":
            return f"the `{leaf.name}` vouch of `{short(leaf.subject)}` lapses or is revoked"
        case "group":
            return f"the caller leaves group `{leaf.name}`"
        case "zone":
            return f"`{short(leaf.subject)}` leaves zone `{leaf.name}`"
        case "risk":
            return f"the caller's risk rises to {leaf.name}"
        case "model":
            return f"it is no longer known which model `{short(leaf.subject)}` serves"
        case "caller":
            return "the caller's credential is no longer verified"
    return f"the request's {leaf.name.replace('_', ' ')} is not known"


def told_gained(leaf: Leaf) -> str:
    """A change that, with the others, would turn a deny over."""
    match leaf.kind:
        case "vouch":
            return f"`{short(leaf.subject)}` {'gets a fresh' if leaf.want else 'loses its'} `{leaf.name}` vouch"
        case "model":
            return f"it becomes known which model `{short(leaf.subject)}` serves"
        case "group":
            return f"the caller {'joins' if leaf.want else 'leaves'} group `{leaf.name}`"
        case "zone":
            return f"`{short(leaf.subject)}` {'is placed in' if leaf.want else 'leaves'} zone `{leaf.name}`"
        case "risk":
            return f"the caller's risk falls below {leaf.name}"
        case "caller":
            return "the caller shows a verified credential" if leaf.name == "authenticated" else f"the caller's {leaf.name} is another"
        case "fact":
            return f"the request's {leaf.name.replace('_', ' ')} fits the policy"
    return f"`{leaf.name}` comes out as the policy's text asks"
