"""`policy check`: what is wrong, or odd, with a set of policies before it decides anything.

    check(sources, schema=None) -> list[PolicyFinding]               never raises for bad policies; the list says it
    cells(compiled, world, ...) -> tuple[EndpointCells, ...]           how many callers each endpoint would admit

Findings, in this order
1. `unreadable`, `unnamed`, `invalid` (error): bounds, syntax, names, Cedar's strict validator.
2. `unsafe-risk`, `loosens-when-facts-vanish`, `may-overflow`, `not-understood` (error): `hazards`.
3. `never-matches` (warning): a condition that contains `false`, or a fact and its negation; an empty list of actions.
4. `shadowed` (warning): a permit inside an unconditional forbid, or a policy inside another of the same effect whose conditions are a part of
   its own. Only these sure cases: no finding does not mean that every policy counts.
5. `unscoped` (warning): a permit that names neither principal nor resource nor action.

What is odd in a policy's words is `lints`' to say, what needs a proof `examine`'s.

A set that `catalog.load` accepts has no error here, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cedarpy import pst

from vouchgate.policy.catalog import BASE, accepted, pack, schema_text, whole
from vouchgate.policy.compile import CompiledPolicies, Request, Scope, evaluate, scope_of
from vouchgate.policy.facts import REQUEST_FACTS
from vouchgate.policy.hazards import PolicyFinding, finding, hazards
from vouchgate.policy.load import InvalidPolicy, Policy, PolicySet, Source, problems, read, remedy_for, validate_names
from vouchgate.policy.obligations import EVERY, lift
from vouchgate.policy.terms import NotCompiled
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.errors import LimitExceeded

MAX_CELLS = 500_000
"""Cells that `cells` evaluates; a few seconds."""
MAX_COMPARED = 1_000
"""Policies among which shadowing is looked for; comparing is quadratic."""


def check(sources: Sequence[Source], schema: str | None = None) -> list[PolicyFinding]:
    """All findings about these policies beside the base policy."""
    base = pack(BASE)
    try:
        policies = read([base, *(source for source in sources if source != base)], schema if schema is not None else schema_text())
    except InvalidPolicy as error:
        return [PolicyFinding("unreadable", "error", "", sources[0].name if sources else "", 0, error.reason, error.remedy)]
    # a set that a child process found valid holds this one up no second time
    known = schema is None and accepted(whole(sources))
    found = [] if known else [*_names(policies), *_invalid(policies), *hazards(policies)]
    for policy in policies.policies:
        found.extend(_odd(policy))
    found.extend(_shadowed(policies))
    return found


def _names(policies: PolicySet) -> Iterator[PolicyFinding]:
    try:
        validate_names(policies.policies)
    except InvalidPolicy as error:
        yield PolicyFinding("unnamed", "error", "", "", 0, error.reason, error.remedy)


def _invalid(policies: PolicySet) -> Iterator[PolicyFinding]:
    for policy, text in problems(policies):
        if policy is None:
            yield PolicyFinding("invalid", "error", "", "", 0, text, remedy_for(text))
        else:
            yield finding(policy, "invalid", text, remedy_for(text))


def conjuncts(tree: pst.Template) -> list[Any]:
    """What must all hold for the condition to hold: clauses divided at `&&`; an `unless` as a negation."""
    found: list[Any] = []
    pending = [clause.expr if isinstance(clause, pst.When) else pst.UnaryOp("not", clause.expr) for clause in reversed(tree.clauses)]
    while pending:
        node = pending.pop()
        if isinstance(node, pst.BinaryOp) and node.op == "and":
            pending += [node.right, node.left]
        else:
            found.append(node)
    return found


def _negated(node: Any) -> Any:
    return node.arg if isinstance(node, pst.UnaryOp) and node.op == "not" else pst.UnaryOp("not", node)


def _odd(policy: Policy) -> Iterator[PolicyFinding]:
    if policy.tree is None:
        return
    parts = conjuncts(policy.tree)
    false = pst.BoolLit(False) in parts or pst.UnaryOp("not", pst.BoolLit(True)) in parts
    if false or any(_negated(part) in parts for part in parts):
        yield finding(policy, "never-matches", "its condition can never hold", "correct the condition, or remove the policy", "warning")
    if isinstance(policy.tree.action, pst.ActionIn) and not policy.tree.action.entities:
        yield finding(policy, "never-matches", "it names no action", "name the actions, or remove the policy", "warning")
    sides = (policy.tree.principal, policy.tree.action, policy.tree.resource)
    if policy.effect == "permit" and all(isinstance(side, pst.ScopeAny) for side in sides):
        text = "it permits every action on everything to everybody that its condition does not stop"
        yield finding(policy, "unscoped", text, "name a group, an action and a kind of resource in its head", "warning")


@dataclass(frozen=True, slots=True)
class _Comparable:
    policy: Policy
    scope: Scope
    parts: frozenset[Any]


def _shadowed(policies: PolicySet) -> Iterator[PolicyFinding]:
    known = []
    for policy in policies.policies[:MAX_COMPARED]:
        try:
            if policy.tree is not None:
                known.append(_Comparable(policy, scope_of(policy.tree), frozenset(conjuncts(policy.tree))))
        except NotCompiled:
            continue
    for number, inner in enumerate(known):
        if inner.policy.source == f"{BASE}.cedar":
            continue
        for position, outer in enumerate(known):
            if number != position and _inside(inner, outer, policies) and (position < number or not _inside(outer, inner, policies)):
                what = "is never reached: it lies inside" if inner.policy.effect != outer.policy.effect else "adds nothing to"
                yield finding(inner.policy, "shadowed", f"it {what} {outer.policy.where}", "remove it, or narrow the other", "warning")
                break


def _inside(inner: _Comparable, outer: _Comparable, policies: PolicySet) -> bool:
    """Whether `outer` certainly holds wherever `inner` does, with an effect that leaves `inner` without one."""
    if inner.policy.effect == "forbid" and outer.policy.effect == "permit":
        return False
    owed = outer.policy.json.get("annotations", {}).get("oblige")
    if owed is not None and (inner.policy.effect == "permit" or inner.policy.json.get("annotations", {}).get("oblige") != owed):
        return False  # a forbid that can be met leaves room below it
    return outer.parts <= inner.parts and _contains(outer.scope, inner.scope, policies)


def _contains(outer: Scope, inner: Scope, policies: PolicySet) -> bool:
    sides = (
        (outer.principal, outer.principal_type, outer.principal_exact, inner.principal, inner.principal_type, inner.principal_exact),
        (outer.resource, outer.resource_type, outer.resource_exact, inner.resource, inner.resource_type, inner.resource_exact),
    )
    for wide, wide_type, wide_exact, narrow, narrow_type, narrow_exact in sides:
        if wide is not None and (wide != narrow or (wide_exact and not narrow_exact)):
            return False
        if wide_type is not None and wide_type != narrow_type and not (narrow_exact and narrow is not None and narrow.type == wide_type):
            return False
    return _contains_actions(outer, inner, policies)


def _contains_actions(outer: Scope, inner: Scope, policies: PolicySet) -> bool:
    if outer.actions is None:
        return True
    if inner.actions is None:
        return False
    if outer.action_exact:
        return inner.action_exact and inner.actions == outer.actions
    return all(not policies.actions.get(action, frozenset((action,))).isdisjoint(outer.actions) for action in inner.actions)


@dataclass(frozen=True, slots=True)
class EndpointCells:
    """What the policies say of one endpoint, over all known callers, with risk 0."""

    endpoint: str
    action: str
    allowed: int
    residual: int
    """Asked again on each request."""
    denied: int


def cells(
    policies: CompiledPolicies, world: World, *, actions: Sequence[str] = ("infer", "chat"), only: str = ""
) -> tuple[EndpointCells, ...]:
    """Count callers by endpoint and action, of all endpoints or of one. Raises `LimitExceeded` beyond MAX_CELLS."""
    endpoints = sorted(uid for uid in world.entities if uid.type == "Endpoint" and only in ("", uid.id))
    callers = [uid for uid in world.entities if uid.type == "Principal"]
    if len(endpoints) * len(callers) * len(actions) > MAX_CELLS:
        raise LimitExceeded(f"there are more than {MAX_CELLS} cells to count", remedy="count fewer actions at once")
    context = {"risk": 0, "authenticated": True, "credential": "registered", "delegated": False}
    found = []
    for endpoint in endpoints:
        for action in actions:
            effects = [
                lift(
                    evaluate(policies, Request(caller, Uid("Action", action), endpoint, context), world, REQUEST_FACTS), EVERY
                ).evaluation.effect
                for caller in callers
            ]
            found.append(EndpointCells(endpoint.id, action, effects.count("allow"), effects.count("residual"), effects.count("deny")))
    return tuple(found)
