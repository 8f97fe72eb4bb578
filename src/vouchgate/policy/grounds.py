"""Grounds: what an evaluation rests on, and for a "no" the cheapest change that would turn it over.

    grounds(compiled, evaluation, facts, carries) -> Grounds            everything, for whoever explains
    deciding(compiled, evaluation, facts, carries) -> Grounds           the same without the leaves that are no vouch, for whoever decides

Rules
1. An allow rests on one satisfied permit (the one whose vouches last longest) and on every forbid in scope not applying. While these facts
   stay, the allow stays; so its `not_after` is the earliest moment at which one of them lapses.
2. A vouch string that several vouches provide lapses with the last of them.
3. A deny's `plan` turns every satisfied forbid (but those that obligations meet, `carries`) and one permit over at the least cost (`leaves.COST`); a permit whose scope does not match
   competes too, at the cost of the memberships. The plan is tried out on an imagined world before it is named. None where no fact can do it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from vouchgate.policy.compile import CompiledPolicies, CompiledPolicy, Evaluation, Request, evaluate
from vouchgate.policy.leaves import Leaf, cost, flip, scope_flip, scope_supports, supports
from vouchgate.policy.obligations import NONE, lift, meetable
from vouchgate.policy.operators import Facts
from vouchgate.policy.resting import rests_on
from vouchgate.policy.unknowns import FALSE, TRUE
from vouchgate.policy.values import Uid
from vouchgate.policy.world import Held
from vouchgate.vocabulary.vouches import UnixMillis

MAX_PLANS = 64
"""Permits that are tried for a plan; a set in which more apply to one action is explained by its first ones."""
_IMAGINED = {"group": "Group", "zone": "Zone", "vouch": ""}
FOREVER = 2**62
"""Later than any time; what rests on no vouch does not lapse."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes that would turn a deny into an allow."""

    permit: str
    changes: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Grounds:
    """What an answer rests on."""

    leaves: tuple[Leaf, ...] = ()
    used: tuple[Held, ...] = ()
    plan: Plan | None = None

    @property
    def vouch_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(held.vouch_id for held in self.used))

    @property
    def waivers(self) -> tuple[str, ...]:
        """Those of `vouch_ids` that are waivers."""
        return tuple(dict.fromkeys(held.vouch_id for held in self.used if held.waives))

    @property
    def not_after(self) -> tuple[UnixMillis, ...]:
        return tuple(held.not_after for held in self.used)


def grounds(policies: CompiledPolicies, evaluation: Evaluation, facts: Facts, carries: Collection[str] = NONE) -> Grounds:
    """What the evaluation rests on; see the module."""
    return _grounds(policies, evaluation, facts, carries, _standing)


def deciding(policies: CompiledPolicies, evaluation: Evaluation, facts: Facts, carries: Collection[str] = NONE) -> Grounds:
    """`grounds` as far as a decision reads them: `used` and `plan` are the same, of the leaves there are the vouches."""
    return _grounds(policies, evaluation, facts, carries, rests_on)


def _grounds(
    policies: CompiledPolicies,
    evaluation: Evaluation,
    facts: Facts,
    carries: Collection[str],
    standing_of: Callable[[CompiledPolicy, bool, Facts], tuple[Leaf, ...]],
) -> Grounds:
    pairs = list(zip(evaluation.in_scope, evaluation.masks, strict=True))
    if evaluation.effect == "deny":
        satisfied = [policy for policy, mask in pairs if policy.forbids and mask & TRUE and not meetable(policy, carries)]
        return Grounds(plan=_plan(policies, evaluation, satisfied, facts, carries))
    standing = [standing_of(policy, True, facts) for policy, mask in pairs if not policy.forbids and mask & TRUE]
    best = standing[0] if len(standing) == 1 else max(standing, key=lambda leaves: _earliest(leaves, facts), default=())
    against = [leaf for policy, mask in pairs if policy.forbids and mask == FALSE for leaf in standing_of(policy, False, facts)]
    leaves = tuple(dict.fromkeys((*best, *against)))
    return Grounds(leaves, tuple(held for held in (_provider(leaf, facts) for leaf in leaves) if held is not None))


def _standing(policy: CompiledPolicy, want: bool, facts: Facts) -> tuple[Leaf, ...]:
    found = supports(policy.tree, want, facts) if policy.tree is not None else ()
    return (*scope_supports(policy.scope, facts), *found) if want else found


def _provider(leaf: Leaf, facts: Facts) -> Held | None:
    """The vouch that a leaf rests on (rule 2)."""
    if leaf.kind != "vouch" or leaf.subject is None:
        return None
    return max(facts.world.providing(leaf.subject, leaf.name), key=lambda held: held.not_after, default=None)


def _earliest(leaves: tuple[Leaf, ...], facts: Facts) -> int:
    return min((held.not_after for held in (_provider(leaf, facts) for leaf in leaves) if held), default=FOREVER)


def _plan(
    policies: CompiledPolicies, evaluation: Evaluation, forbids: list[CompiledPolicy], facts: Facts, carries: Collection[str]
) -> Plan | None:
    if evaluation.errors:
        return None
    lifted: tuple[Leaf, ...] = ()
    for forbid in forbids:
        changes = _turn(forbid, False, facts)
        if changes is None:
            return None
        lifted += changes
    plans: list[Plan] = []
    for permit in policies.permits:
        memberships = scope_flip(permit.scope, facts)
        changes = _turn(permit, True, facts) if memberships is not None else None
        if memberships is not None and changes is not None:
            plans.append(Plan(permit.id, tuple(dict.fromkeys((*lifted, *memberships, *changes)))))
            if len(plans) >= MAX_PLANS:
                break
    plans.sort(key=lambda plan: cost(plan.changes))
    return next((plan for plan in plans if _helps(plan, policies, facts, carries)), None)


def _helps(plan: Plan, policies: CompiledPolicies, facts: Facts, carries: Collection[str]) -> bool:
    """Whether the changes together would do it: a membership can bring another forbid into scope. What cannot be imagined is believed."""
    if any(leaf.kind not in _IMAGINED or not leaf.want or leaf.subject is None for leaf in plan.changes if leaf.kind != "risk"):
        return True
    memberships = [
        (leaf.subject, Uid(_IMAGINED[leaf.kind], leaf.name)) for leaf in plan.changes if leaf.kind in ("group", "zone") and leaf.subject
    ]
    vouches = [(leaf.subject, leaf.name) for leaf in plan.changes if leaf.kind == "vouch" and leaf.subject]
    bounds = [int(leaf.name) - 1 for leaf in plan.changes if leaf.kind == "risk"]
    context = {**facts.context, "risk": min(bounds)} if bounds else facts.context
    request = Request(facts.principal, facts.action, facts.resource, context)
    imagined = evaluate(policies, request, facts.world.imagine(memberships, vouches), facts.unknown)
    return lift(imagined, carries).evaluation.effect != "deny"


def _turn(policy: CompiledPolicy, want: bool, facts: Facts) -> tuple[Leaf, ...] | None:
    if policy.tree is None:
        return () if want and not policy.by_cedar else None
    return flip(policy.tree, want, facts)
