"""Explain: one decision laid out for `vouchgate why`: who, what, because of which policies and vouches, along which path, what would flip it.

    explain(principal, action, resource, world, context, *, policies, now, evidence_epoch, risk, unknown, mode) -> Explanation

Rules
1. It decides again over the facts that it is given; it never tells a story about another decision.
2. `minimal` and `flips` are turning.py's, in words: a smallest sufficient set; each single loss that ends an allow, or what a deny lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.policy.compile import CompiledPolicies, Request, evaluate, facts_of
from vouchgate.policy.decide import decide
from vouchgate.policy.facts import action_uid, principal_uid, request_context, resource_uid
from vouchgate.policy.grounds import Grounds, grounds
from vouchgate.policy.obligations import EVERY, lift
from vouchgate.policy.turning import Turning, told_gained, told_lost, told_standing, turning
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.decisions import Decision, Mode, Risk
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun


class BecausePolicy(Noun, frozen=True, kw_only=True):
    """A policy that decided, or that waits for the request."""

    id: str
    effect: str
    source: str
    line: int
    text: str


class BecauseVouch(Noun, frozen=True, kw_only=True):
    """A vouch that the answer rests on."""

    id: str
    predicate: str
    tier: str
    subject: str
    not_after: UnixMillis


class Explanation(Noun, frozen=True, kw_only=True):
    """Everything `why` prints."""

    decision: Decision
    who: str
    groups: tuple[str, ...]
    what: str
    model: str
    """The artifact behind the endpoint; empty where none is known or the resource is not an endpoint."""
    policies: tuple[BecausePolicy, ...]
    vouches: tuple[BecauseVouch, ...]
    minimal: tuple[str, ...]
    """A sufficient set of facts, in words; empty for a deny."""
    path: tuple[str, ...]
    """From caller to evidence."""
    flips: tuple[str, ...]


def explain(
    principal: VerifiedPrincipal,
    action: str,
    resource: str,
    world: World,
    context: Mapping[str, Any],
    *,
    policies: CompiledPolicies,
    now: UnixMillis,
    evidence_epoch: int,
    risk: Risk = Risk(),
    unknown: frozenset[str] = frozenset(),
    mode: Mode = "enforce",
) -> Explanation:
    """Decide and lay it out. Raises as `decide` does."""
    decision = decide(
        principal,
        action,
        resource,
        world,
        context,
        policies=policies,
        now=now,
        evidence_epoch=evidence_epoch,
        risk=risk,
        unknown=unknown,
        mode=mode,
        carries=EVERY,
    )
    request = Request(
        principal_uid(principal.principal.id), action_uid(action), resource_uid(resource), request_context(principal, risk, context)
    )
    facts = facts_of(policies, request, world, unknown)
    found = grounds(policies, lift(evaluate(policies, request, world, unknown), EVERY).evaluation, facts, EVERY)
    turned = turning(policies, request, world, unknown, EVERY)
    model = world.attributes.get(request.resource, {}).get("model")
    denied = decision.would_be == "deny" and not decision.residual
    return Explanation(
        decision=decision,
        who=principal.principal.id,
        groups=tuple(sorted(uid.id for uid in world.up.get(request.principal, ()) if uid.type == "Group")),
        what=resource,
        model=model.id if isinstance(model, Uid) else "",
        policies=_policies(policies, decision),
        vouches=() if denied else _vouches(found, world),
        minimal=tuple(dict.fromkeys(map(told_standing, turned.minimal))),
        path=_path(request, decision, model, found),
        flips=_flips(turned, decision),
    )


def _policies(policies: CompiledPolicies, decision: Decision) -> tuple[BecausePolicy, ...]:
    chosen = (policies.source.policy(name) for name in dict.fromkeys((*decision.determining, *decision.errors)))
    return tuple(BecausePolicy(id=one.id, effect=one.effect, source=one.source, line=one.line, text=one.text) for one in chosen if one)


def _vouches(found: Grounds, world: World) -> tuple[BecauseVouch, ...]:
    subjects = {leaf.subject for leaf in found.leaves if leaf.kind == "vouch" and leaf.subject is not None}
    of: dict[str, str] = {}
    for subject in subjects:
        entity = world.entities.get(subject)
        of.update({held.vouch_id: subject.id for held in (entity.evidence.held if entity and entity.evidence else ())})
    return tuple(
        BecauseVouch(
            id=held.vouch_id, predicate=held.predicate, tier=held.tier, subject=of.get(held.vouch_id, ""), not_after=held.not_after
        )
        for held in dict.fromkeys(found.used)
    )


def _path(request: Request, decision: Decision, model: Any, found: Grounds) -> tuple[str, ...]:
    steps = [request.principal.id]
    steps += [f"group `{leaf.name}`" for leaf in found.leaves if leaf.kind == "group" and leaf.want]
    steps += [f"policy `{name}`" for name in decision.determining]
    steps.append(request.resource.id)
    if isinstance(model, Uid):
        steps.append(model.id)
    return tuple(steps)


def _flips(turned: Turning, decision: Decision) -> tuple[str, ...]:
    if turned.effect != "deny":
        return tuple(dict.fromkeys(map(told_lost, turned.flips)))
    changes = tuple(dict.fromkeys(map(told_gained, turned.flips)))
    return changes or ((decision.remedy,) if decision.remedy else ())
