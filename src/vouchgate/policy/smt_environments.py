"""The kinds of requests that policies can tell apart: types of caller and resource, and an action that stands for its like.

    environments(sets) -> list[Environment]

Rules
1. Two actions that no policy names, alone or by a group, and that have one context are one kind.
2. Requests to which the schema does not apply the action are kinds too (`fits` is false): the engine decides them all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vouchgate.policy.compile import CompiledPolicies
from vouchgate.policy.schema_shape import Attribute, Shape, shape_of
from vouchgate.policy.values import Uid


@dataclass(frozen=True, slots=True)
class Environment:
    """One kind of request."""

    principal: str
    action: Uid
    """One that stands for every action which these policies cannot tell from it."""
    resource: str
    context: tuple[tuple[str, Attribute], ...]
    fits: bool
    """Whether the schema applies the action to these types."""


def environments(sets: Sequence[CompiledPolicies]) -> list[Environment]:
    """Those that fit the schema first. Raises `Unsupported` for a schema that cannot be read."""
    shape, actions = shape_of(sets[0].source.schema_text), sets[0].actions
    named = frozenset[Uid]().union(*(policies.named for policies in sets))
    groups: dict[Any, list[Uid]] = {}
    contexts = {tuple(action.context.items()) for action in shape.actions.values() if action.principals}
    for action, above in actions.items():
        context = tuple(shape.actions[action.id].context.items()) if shape.actions[action.id].principals else min(contexts, key=len)
        groups.setdefault((above & named, action if action in named else None, context), []).append(action)
    found = []
    for (_, _, context), alike in groups.items():
        for principal in sorted(shape.principals):
            for resource in sorted(shape.resources):
                fitting = [one for one in alike if _fits(shape, one, principal, resource)]
                found.append(Environment(principal, min(fitting or alike), resource, context, bool(fitting)))
    return sorted(found, key=lambda one: (not one.fits, one.action, one.resource))


def _fits(shape: Shape, action: Uid, principal: str, resource: str) -> bool:
    applies = shape.actions[action.id]
    return principal in applies.principals and resource in applies.resources
