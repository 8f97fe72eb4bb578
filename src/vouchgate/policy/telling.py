"""A counterexample made small, and told in plain words.

    smaller(example, replay) -> Example                     the same refutation with fewer facts
    counterexample(example, replayed, fits) -> Counterexample

Rules
1. A fact is left out, or made an everyday one, only if the request still refutes; a world stays one that vouchgate makes: a vouch of a tier is
   never without its weaker ones, and what lies in a zone stays in it.
2. Every name in a sentence stands in backquotes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vouchgate.policy.compile import CompiledPolicies, Request, evaluate
from vouchgate.policy.extensions import Extended
from vouchgate.policy.values import Uid, Values, from_cedar_json, to_cedar_json, uid_from_json, values
from vouchgate.policy.world import Entity, World, world_from_cedar_json
from vouchgate.vocabulary.answers_policy import Counterexample
from vouchgate.vocabulary.decisions import Obligation
from vouchgate.vocabulary.vouches import TIERS

if TYPE_CHECKING:
    from vouchgate.policy.smt_model import Example

MAX_TRIES = 2_000
"""Facts that are left out by way of trial; about 30 us each."""
MAX_TOLD = 12
"""Names of one list in a sentence."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the engines say of a counterexample."""

    permitted_by: tuple[str, ...]
    denied_by: tuple[str, ...]
    obligations: tuple[Obligation, ...]
    sets: tuple[CompiledPolicies, ...]


def smaller(example: Example, replay: Callable[[Request, World], Replayed | None]) -> Example:
    """Rule 1, to the end or to MAX_TRIES."""
    from vouchgate.policy.smt_model import Example

    best, tries, shrunk = example, 0, True
    while shrunk:
        shrunk = False
        for request, world in _fewer(best.request, best.world):
            tries += 1
            if tries > MAX_TRIES:
                return best
            if replay(request, world) is not None:
                best, shrunk = Example(request, world), True
                break
    kept = best.world.slice([best.request.principal, best.request.resource])
    world = World(best.world.entities[uid] for uid in kept)
    return Example(best.request, world) if replay(best.request, world) is not None else best


def _fewer(request: Request, world: World) -> Iterator[tuple[Request, World]]:
    from vouchgate.policy.smt_model import QUIET

    required = {"risk", "authenticated", "credential", "delegated"}
    for name, value in request.context.items():
        others = {other: kept for other, kept in request.context.items() if other != name}
        if name not in required:
            yield Request(request.principal, request.action, request.resource, others), world
        if name in QUIET and value != QUIET[name]:
            yield Request(request.principal, request.action, request.resource, {**request.context, name: QUIET[name]}), world
    for uid, entity in world.entities.items():
        for changed in _less(uid, entity):
            yield request, World([changed, *(one for one in world.entities.values() if one.uid != uid)])


def _less(uid: Uid, entity: Entity) -> Iterator[Entity]:
    for parent in sorted(entity.parents):
        tied = (parent.type == "Zone" and uid.type in ("Principal", "Endpoint", "Run")) or (
            parent.type == "Endpoint" and uid.type == "Tool"
        )
        if not tied:
            yield Entity(uid, entity.attributes, entity.parents - {parent})
    for name, value in entity.attributes.items():
        for fewer in _less_of(name, value):
            yield Entity(uid, {**entity.attributes, name: fewer}, entity.parents)
        if isinstance(value, Uid) and name in ("model", "content", "base"):
            yield Entity(uid, {other: kept for other, kept in entity.attributes.items() if other != name}, entity.parents)


def _less_of(name: str, value: Any) -> Iterator[Any]:
    if value is True:
        yield False
    elif isinstance(value, Values) and name == "vouches":
        for predicate in sorted({text.partition("@")[0] for text in value}):
            yield values(text for text in value if text.partition("@")[0] != predicate)
            tiers = [f"{predicate}@{tier}" for tier in TIERS if f"{predicate}@{tier}" in value]
            if len(tiers) > 1:
                yield values(value - {tiers[0]})
    elif isinstance(value, Values):
        for text in sorted(value, key=str):
            yield values(value - {text})


def counterexample(example: Example, found: Replayed, *, fits: bool) -> Counterexample:
    """Rule 2."""
    request, world = example.request, example.world
    context = {name: to_cedar_json(value) for name, value in sorted(request.context.items())}
    names = {"principal": request.principal, "action": request.action, "resource": request.resource}
    return Counterexample(
        sentence=_sentence(request, world, found, fits=fits),
        principal=request.principal.id,
        action=request.action.id,
        resource=request.resource.id,
        fits=fits,
        permitted_by=found.permitted_by,
        denied_by=found.denied_by,
        obligations=tuple(f"{one.kind}={one.value}" for one in found.obligations),
        request={**{name: uid._asdict() for name, uid in names.items()}, "context": context},
        entities=tuple(json.loads(world.to_cedar_json())),
    )


def _sentence(request: Request, world: World, found: Replayed, *, fits: bool) -> str:
    facts = [f"{name} {_shown(value)}" for name, value in sorted(request.context.items()) if name in ("risk",) or not _plain(name, value)]
    told = (
        f"{_described(request.principal, world)} does `{request.action.id}` on {_described(request.resource, world)}, with {_list(facts)}; "
        f"permitted by {_list([f'`{name}`' for name in found.permitted_by])}"
    )
    if found.denied_by:
        told += f", stopped otherwise by {_list([f'`{name}`' for name in found.denied_by])}"
    if found.obligations:
        told += f", bound to {_list([f'`{one.kind}={one.value}`' for one in found.obligations])}"
    return (
        told if fits else f"{told} (the schema does not apply this action to a {request.resource.type}; the engine decides it all the same)"
    )


def _plain(name: str, value: Any) -> bool:
    return (name, value) in (("authenticated", True), ("credential", "x509"), ("delegated", False))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"`{value.text if isinstance(value, Extended) else value}`" if not isinstance(value, int) else str(value)


def _described(uid: Uid, world: World) -> str:
    entity = world.entities.get(uid)
    if entity is None:
        return f"`{uid.id}`"
    parts = []
    for kind, word in (("Group", "in group"), ("Zone", "in zone")):
        above = sorted(parent.id for parent in entity.parents if parent.type == kind)
        if above:
            parts.append(f"{word} {_list([f'`{name}`' for name in above])}")
    parts += _attributes(entity.attributes, world)
    return f"{uid.type.lower()} `{uid.id}` ({'; '.join(parts)})" if parts else f"{uid.type.lower()} `{uid.id}`"


def _attributes(attributes: Mapping[str, Any], world: World) -> Iterator[str]:
    for name, value in sorted(attributes.items()):
        if isinstance(value, Values):
            shown = _strongest(value) if name == "vouches" else sorted(map(str, value))
            if shown:
                yield f"{name} {_list([f'`{text}`' for text in shown])}"
        elif isinstance(value, Uid) and name in ("model", "content", "base"):
            yield f"{name} {_described(value, world)}"
        elif value is True:
            yield name


def _strongest(held: Values) -> list[str]:
    """Each vouch once, with its tier."""
    found = []
    for predicate in sorted({str(text).partition("@")[0] for text in held}):
        tiers = [f"{predicate}@{tier}" for tier in TIERS if f"{predicate}@{tier}" in held]
        found.append(tiers[0] if tiers else predicate)
    return found


def _list(parts: list[str]) -> str:
    shown = parts[:MAX_TOLD] + ([f"{len(parts) - MAX_TOLD} more"] if len(parts) > MAX_TOLD else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "nothing"


def case_of(policies: CompiledPolicies, shown: Counterexample) -> dict[str, Any]:
    """A counterexample as a case of the form that `policy vectors` runs, with what Cedar itself answers."""
    world = world_from_cedar_json(json.dumps(list(shown.entities)))
    who, what, which = (uid_from_json(shown.request[part]) for part in ("principal", "action", "resource"))
    context = {name: from_cedar_json(value) for name, value in shown.request["context"].items()}
    found = evaluate(policies, Request(who, what, which, context), world)
    order = {policy.id: f"policy{number}" for number, policy in enumerate(policies.policies)}
    request = {
        "description": shown.sentence,
        **shown.request,
        "decision": found.cedar_effect,
        "reason": sorted(order[name] for name in found.determining),
        "errors": sorted(order[name] for name in found.errors),
    }
    return {
        "policies": policies.source.text,
        "entities": list(shown.entities),
        "schema": policies.source.schema_text,
        "shouldValidate": True,
        "requests": [request],
    }
