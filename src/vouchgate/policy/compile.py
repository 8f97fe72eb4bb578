"""A policy set compiled to an index over Python closures, and its evaluation with or without unknown facts.

    compiled = compile_policies(policy_set, version=7)               -> CompiledPolicies
    evaluate(compiled, Request(...), world)                          -> Evaluation: exactly Cedar's answer
    evaluate(compiled, Request(...), world, unknown={"hour"})        -> Evaluation: allow | deny | residual

Rules
1. With all facts known, `cedar_effect`, `determining` and `errors` are Cedar's own (deny if any satisfied forbid, allow if any satisfied
   permit, else deny; an erring policy is skipped). cedarpy is the oracle: tests, and `crosscheck` on live decisions.
2. `effect` is ours and never laxer: it is deny if any policy in scope erred, because Cedar skips an erring forbid.
3. With unknown facts each policy has the set of outcomes that it can still have (`unknowns`). `effect` is allow only if a permit is certainly
   satisfied and no policy in scope can be a satisfied forbid or an error; deny only if no permit can be satisfied, or a forbid is certainly
   satisfied, or a policy certainly errs; else residual. So evaluating again with every fact never contradicts an allow or a deny.
4. Policies are found by principal and its ancestors, action and its groups, resource and its ancestors; the scope never errs.
5. What `terms` cannot compile is answered by cedarpy, policy by policy; with unknown facts it counts as open.
6. Compiled policies are immutable; the scope cache holds no facts but ancestor sets, compared by identity.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import cedarpy
from cedarpy import pst

from vouchgate.policy.answers import Answers
from vouchgate.policy.load import Policy, PolicySet
from vouchgate.policy.operators import CedarError, Facts
from vouchgate.policy.terms import NotCompiled, Term, compile_term, uid_of
from vouchgate.policy.unknowns import ERROR, FALSE, TRUE, compile_partial, context_reads
from vouchgate.policy.values import Uid, to_cedar_json
from vouchgate.policy.world import World

MAX_CACHED_SCOPES = 8_192
"""Cells whose in-scope policies are remembered; about 4 MiB, then forgotten at once. Finding them again takes about 5 us."""
WHOLE_WORLD = 256
"""Entities up to which cedarpy is given all of them: one handle for many questions is then the cheaper way."""

TriEffect = Literal["allow", "deny", "residual"]
Binary = Literal["allow", "deny"]
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """One question. `context` holds Cedar values (`values.to_value`)."""

    principal: Uid
    action: Uid
    resource: Uid
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a policy applies; None means everywhere."""

    principal: Uid | None
    principal_type: str | None
    actions: tuple[Uid, ...] | None
    resource: Uid | None
    resource_type: str | None
    principal_exact: bool = False
    action_exact: bool = False
    resource_exact: bool = False


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """One policy as closures."""

    policy: Policy
    id: str
    forbids: bool
    scope: Scope
    condition: Term | None
    """None: no condition."""
    partial: Callable[[Facts], int]
    reads: frozenset[str] | None
    """Context attributes it reads; None for the whole context."""
    order: int
    tree: Any = None
    """The whole condition; None without one, or where the typed tree cannot express it."""
    by_cedar: bool = False
    """Answered by cedarpy (rule 5)."""


@dataclass(slots=True)
class Evaluation:
    """What the policies say. Ids are in the order of the set."""

    effect: TriEffect
    """Ours (rules 2 and 3)."""
    cedar_effect: TriEffect
    """Cedar's own; residual only with unknown facts."""
    determining: tuple[str, ...]
    """The policies that decide, as Cedar reports them; empty for a deny by default and for a residual."""
    errors: tuple[str, ...]
    """Policies in scope that certainly err."""
    residual: tuple[str, ...]
    """Policies whose outcome is open."""
    unknowns: frozenset[str]
    """Unknown facts that the open policies read."""
    in_scope: tuple[CompiledPolicy, ...]
    masks: tuple[int, ...]
    """Outcomes of each policy of `in_scope` (`unknowns.TRUE`, `FALSE`, `ERROR`)."""


_Cached = tuple[frozenset[Uid] | None, frozenset[Uid] | None, frozenset[Uid] | None, tuple[CompiledPolicy, ...]]


class CompiledPolicies:
    """An immutable, indexed policy set."""

    def __init__(self, source: PolicySet, policies: tuple[CompiledPolicy, ...], *, version: int) -> None:
        self.source = source
        self.policies = policies
        self.permits = tuple(policy for policy in policies if not policy.forbids)
        self.version = version
        self.digest = source.digest
        self.actions = source.actions
        self._index: dict[Uid | None, dict[Uid | None, dict[Uid | None, list[CompiledPolicy]]]] = {}
        self._cache: dict[tuple[Uid, Uid, Uid], _Cached] = {}
        self._handle: Any = None
        self.memo: dict[int, Any] = {}
        reads = [policy.reads for policy in policies]
        self.answers: Answers[Any] = Answers(None if None in reads else frozenset().union(*(one for one in reads if one is not None)))
        """What `decide` worked out before."""
        for policy in policies:
            by_action = self._index.setdefault(policy.scope.principal, {})
            for action in policy.scope.actions if policy.scope.actions is not None else (None,):
                by_action.setdefault(action, {}).setdefault(policy.scope.resource, []).append(policy)

    @functools.cached_property
    def named(self) -> frozenset[Uid]:
        """Every entity that a policy of the set names."""
        return frozenset().union(*(named_in(policy.policy.json) for policy in self.policies))

    @property
    def cedar_handle(self) -> Any:
        """cedarpy's own parse of the whole set, made at the first use; its policies are named `policy0`, `policy1`, ... in order."""
        if self._handle is None:
            self._handle = cedarpy.PolicySet.from_str(self.source.text)
        return self._handle

    def in_scope(self, principal: Uid, action: Uid, resource: Uid, world: World) -> tuple[CompiledPolicy, ...]:
        """The policies whose scope matches, in the order of the set."""
        up = world.up
        above_principal, above_action, above_resource = up.get(principal), up.get(action), up.get(resource)
        cached = self._cache.get((principal, action, resource))
        if cached and cached[0] is above_principal and cached[1] is above_action and cached[2] is above_resource:
            return cached[3]
        found = self._find(
            (principal, action, resource),
            above_principal or (principal,),
            above_action or self.actions.get(action, (action,)),
            above_resource or (resource,),
        )
        if len(self._cache) >= MAX_CACHED_SCOPES:
            self._cache.clear()
        self._cache[principal, action, resource] = (above_principal, above_action, above_resource, found)
        return found

    def _find(self, cell: tuple[Uid, Uid, Uid], principals: Any, actions: Any, resources: Any) -> tuple[CompiledPolicy, ...]:
        found: dict[int, CompiledPolicy] = {}
        for one in (None, *principals):
            by_action = self._index.get(one)
            for group in (None, *actions) if by_action else ():
                by_resource = by_action.get(group) if by_action else None
                for thing in (None, *resources) if by_resource else ():
                    for policy in by_resource.get(thing, ()) if by_resource else ():
                        if _fits(policy.scope, *cell):
                            found[policy.order] = policy
        return tuple(found[order] for order in sorted(found))


def _fits(scope: Scope, principal: Uid, action: Uid, resource: Uid) -> bool:
    """What the index does not decide: types, and `==` beside `in`."""
    return (
        (scope.principal_type is None or scope.principal_type == principal.type)
        and (scope.resource_type is None or scope.resource_type == resource.type)
        and (not scope.principal_exact or scope.principal == principal)
        and (not scope.action_exact or (action,) == scope.actions)
        and (not scope.resource_exact or scope.resource == resource)
    )


def _scope_side(constraint: Any) -> tuple[Uid | None, str | None, bool]:
    match constraint:
        case pst.ScopeAny():
            return None, None, False
        case pst.ScopeEq(entity=pst.EntityUid() as entity):
            return uid_of(entity), None, True
        case pst.ScopeIn(entity=pst.EntityUid() as entity):
            return uid_of(entity), None, False
        case pst.ScopeIs(entity_type=kind):
            return None, str(kind), False
        case pst.ScopeIsIn(entity_type=kind, entity=pst.EntityUid() as entity):
            return uid_of(entity), str(kind), False
    raise NotCompiled("scope")


def scope_of(tree: pst.Template) -> Scope:
    """Where a policy applies. Raises `NotCompiled`."""
    principal, principal_type, principal_exact = _scope_side(tree.principal)
    resource, resource_type, resource_exact = _scope_side(tree.resource)
    match tree.action:
        case pst.ActionEq(entity=entity):
            actions: tuple[Uid, ...] | None = (uid_of(entity),)
        case pst.ActionIn(entities=entities):
            actions = tuple(uid_of(entity) for entity in entities)
        case _:
            actions = None
    return Scope(
        principal, principal_type, actions, resource, resource_type, principal_exact, isinstance(tree.action, pst.ActionEq), resource_exact
    )


def condition_of(tree: pst.Template) -> Any | None:
    """The clauses as one expression, as Cedar joins them; None without clauses."""
    joined: Any = None
    for clause in tree.clauses:
        part = clause.expr if isinstance(clause, pst.When) else pst.UnaryOp("not", clause.expr)
        joined = part if joined is None else pst.BinaryOp("and", joined, part)
    return joined


def _certain(facts: Facts) -> int:
    return TRUE


def _open(facts: Facts) -> int:
    return TRUE | FALSE | ERROR


def _compile_one(policy: Policy, order: int, schema: Any) -> CompiledPolicy:
    if policy.tree is None:
        return _left_to_cedar(policy, order, schema, Scope(None, None, None, None, None))
    scope = scope_of(policy.tree)
    condition = condition_of(policy.tree)
    if condition is None:
        return CompiledPolicy(policy, policy.id, policy.effect == "forbid", scope, None, _certain, NOTHING, order)
    try:
        term, partial = compile_term(condition), compile_partial(condition)
    except NotCompiled:
        return _left_to_cedar(policy, order, schema, scope)
    return CompiledPolicy(policy, policy.id, policy.effect == "forbid", scope, term, partial, context_reads(condition), order, condition)


def _left_to_cedar(policy: Policy, order: int, schema: Any, scope: Scope) -> CompiledPolicy:
    named = named_in(policy.json)
    alone = {"staticPolicies": {"alone": dict(policy.json)}, "templates": {}, "templateLinks": []}
    handle = cedarpy.PolicySet.from_json_str(json.dumps(alone))

    def term(facts: Facts) -> bool:
        request = Request(facts.principal, facts.action, facts.resource, facts.context)
        answer = ask_cedar(handle, request, facts.world, schema, named)
        if answer.diagnostics.errors:
            raise CedarError(str(answer.diagnostics.errors[0]))
        return bool(answer.diagnostics.reasons)

    return CompiledPolicy(policy, policy.id, policy.effect == "forbid", scope, term, _open, None, order, by_cedar=True)


def ask_cedar(policies: Any, request: Request, world: World, schema: Any, named: frozenset[Uid] | None = None) -> Any:
    """cedarpy's own answer over the same facts; the schema gives the action groups, and is not enforced on the request.

    With `named`, the entities that the policies themselves name, it is given what they can reach and no more.
    """
    context = {name: to_cedar_json(value) for name, value in request.context.items()}
    question = {
        "principal": request.principal._asdict(),
        "action": request.action._asdict(),
        "resource": request.resource._asdict(),
        "context": context,
    }
    if named is None or len(world) <= WHOLE_WORLD:
        return cedarpy.is_authorized(question, policies, world.cedar_entities(schema))
    start = {request.principal, request.action, request.resource, *named, *named_in(context)}
    return cedarpy.is_authorized(question, policies, world.cedar_slice(start, schema))


def named_in(document: Any) -> frozenset[Uid]:
    """Every entity that stands in a policy's or a value's JSON form."""
    found: set[Uid] = set()
    pending = [document]
    while pending:
        one = pending.pop()
        if isinstance(one, Mapping):
            if isinstance(one.get("type"), str) and isinstance(one.get("id"), str):
                found.add(Uid(one["type"], one["id"]))
            pending += one.values()
        elif isinstance(one, list | tuple):
            pending += one
    return frozenset(found)


def compile_policies(source: PolicySet, *, version: int = 0) -> CompiledPolicies:
    """Compile a set that `load` accepted (or that `read` read)."""
    compiled = tuple(_compile_one(policy, order, source.schema) for order, policy in enumerate(source.policies))
    return CompiledPolicies(source, compiled, version=version)


def facts_of(policies: CompiledPolicies, request: Request, world: World, unknown: frozenset[str] = NOTHING) -> Facts:
    """What an evaluation of this request reads."""
    who = (request.principal, request.action, request.resource)
    return Facts(who, request.context, world, actions=policies.actions, memo=policies.memo, unknown=unknown)


def evaluate(policies: CompiledPolicies, request: Request, world: World, unknown: frozenset[str] = NOTHING) -> Evaluation:
    """What the policies say of this request; see the module's rules."""
    facts = facts_of(policies, request, world, unknown)
    in_scope = policies.in_scope(request.principal, request.action, request.resource, world)
    if unknown:
        return _join(in_scope, tuple([_outcome(policy, facts, unknown) for policy in in_scope]), unknown)
    return _evaluate_known(in_scope, facts)


def _outcome(policy: CompiledPolicy, facts: Facts, unknown: frozenset[str]) -> int:
    condition = policy.condition
    if condition is None:
        return TRUE
    if unknown and (policy.reads is None or not unknown.isdisjoint(policy.reads)):
        return policy.partial(facts)
    try:
        value = condition(facts)
    except CedarError:
        return ERROR
    return TRUE if value is True else FALSE if value is False else ERROR


def _evaluate_known(in_scope: tuple[CompiledPolicy, ...], facts: Facts) -> Evaluation:
    """One loop without a call for each policy: with nothing scoped it is what a decision costs."""
    masks = []
    permits = forbids = erred = False
    for policy in in_scope:
        condition = policy.condition
        if condition is None:
            mask = TRUE
        else:
            try:
                value = condition(facts)
            except CedarError:
                mask = ERROR
            else:
                mask = TRUE if value is True else FALSE if value is False else ERROR
        masks.append(mask)
        if mask == TRUE:
            if policy.forbids:
                forbids = True
            else:
                permits = True
        elif mask == ERROR:
            erred = True
    cedar: Binary = "allow" if permits and not forbids else "deny"
    determining = (
        tuple([policy.id for policy, mask in zip(in_scope, masks, strict=True) if mask == TRUE and policy.forbids == forbids])
        if permits or forbids
        else ()
    )
    errors = tuple([policy.id for policy, mask in zip(in_scope, masks, strict=True) if mask == ERROR]) if erred else ()
    return Evaluation("deny" if erred else cedar, cedar, determining, errors, (), NOTHING, in_scope, tuple(masks))


def _join(in_scope: tuple[CompiledPolicy, ...], masks: tuple[int, ...], unknown: frozenset[str]) -> Evaluation:
    pairs = list(zip(in_scope, masks, strict=True))
    may_permit = any(mask & TRUE for policy, mask in pairs if not policy.forbids)
    permits = any(mask == TRUE for policy, mask in pairs if not policy.forbids)
    may_forbid = any(mask & TRUE for policy, mask in pairs if policy.forbids)
    forbids = any(mask == TRUE for policy, mask in pairs if policy.forbids)
    may_err = any(mask & ERROR for mask in masks)
    errors = tuple(policy.id for policy, mask in pairs if mask == ERROR)
    cedar: TriEffect = "deny" if forbids or not may_permit else "allow" if permits and not may_forbid else "residual"
    effect: TriEffect = "deny" if errors or cedar == "deny" else "allow" if cedar == "allow" and not may_err else "residual"
    open_ones = [policy for policy, mask in pairs if mask & (mask - 1)]
    reads: frozenset[str] = NOTHING.union(*(unknown if policy.reads is None else policy.reads & unknown for policy in open_ones))
    determining = tuple(policy.id for policy, mask in pairs if mask == TRUE and policy.forbids == forbids) if effect != "residual" else ()
    return Evaluation(effect, cedar, determining, errors, tuple(policy.id for policy in open_ones), reads, in_scope, masks)
