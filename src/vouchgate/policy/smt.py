"""Cedar's typed tree translated to z3: when a policy applies, and when it errs, over a request and a world that are not known.

    Problem(environment, sets)                          one of them: caller and resource of a type, one action, an open context
    problem.applies(policy) -> Applied                  satisfied, erring: z3 Booleans (or `bool` where that is already known)

Rules
1. An expression has a value and the condition under which it does not err; `&&`, `||` and `if` evaluate what Cedar evaluates.
2. An environment (`smt_environments`) fixes the types of caller and resource and the action, up to what policies can tell apart.
3. What cannot be translated exactly leaves its policy open: whether it is satisfied and whether it errs become free Booleans, and the
   construct is noted in `untranslated`. So what is unsatisfiable then is unsatisfiable; what is not has to be replayed.
4. A part without variables is evaluated by `terms`, so that constants are those of the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import z3
from cedarpy import pst

from vouchgate.policy.compile import CompiledPolicies, CompiledPolicy
from vouchgate.policy.extensions import I64_MAX, I64_MIN, DateTime, Decimal, Duration, Ip
from vouchgate.policy.operators import CedarError, Facts
from vouchgate.policy.patterns import matcher
from vouchgate.policy.schema_shape import Attribute, Kind, shape_of
from vouchgate.policy.smt_entities import Entities
from vouchgate.policy.smt_environments import Environment
from vouchgate.policy.smt_terms import (
    ADDRESS,
    BOOL,
    LONG,
    TEXT,
    Bool,
    Members,
    Named,
    Terms,
    Untranslated,
    Value,
    both,
    choose,
    either,
    in_range,
    negate,
    pattern,
)
from vouchgate.policy.terms import NotCompiled, compile_term, uid_of
from vouchgate.policy.unknowns import children
from vouchgate.policy.values import Uid, Values, key
from vouchgate.policy.world import World
from vouchgate.vocabulary.principals import CredentialKind

CREDENTIALS: tuple[str, ...] = get_args(CredentialKind)
RANGES = {"risk": (0, 100), "hour": (0, 23), "weekday": (1, 7), "depth": (0, 3)}
"""Whole numbers of a sensible request; a counterexample outside is looked for only where there is none inside."""

Result = tuple[Value | None, Bool]
"""The value, and whether computing it does not err; without a value it always errs."""
ERRS: Result = (None, False)


@dataclass(frozen=True, slots=True)
class Applied:
    """When a policy counts."""

    satisfied: Bool
    errs: Bool


def _nodes(node: Any) -> Iterable[Any]:
    pending = [node]
    while pending:
        one = pending.pop()
        yield one
        pending.extend(children(one))


def _asks_pattern(sets: Sequence[CompiledPolicies]) -> bool:
    trees = [policy.tree for policies in sets for policy in policies.policies if policy.tree is not None]
    return any(isinstance(node, pst.Like) for tree in trees for node in _nodes(tree))


class Problem:
    """One environment, and everything that was said about it."""

    broken = z3.Z3Exception
    """What z3 raises where it gives up in the middle."""

    def __init__(self, environment: Environment, sets: Sequence[CompiledPolicies]) -> None:
        self.environment = environment
        self.shape = shape_of(sets[0].source.schema_text)
        self.terms = Terms(patterns=_asks_pattern(sets))
        self.entities = Entities(self.shape, self.terms)
        self.principal = self.entities.variable(environment.principal, "principal")
        self.resource = self.entities.variable(environment.resource, "resource")
        self.untranslated: dict[str, str] = {}
        """Policy -> construct (rule 3)."""
        self._actions = sets[0].actions
        self.context = {name: (self._present(name, one), one) for name, one in environment.context}
        self._context: dict[str, Value] = {}
        self._applied: dict[str, Applied] = {}
        self._world = World()

    def _present(self, name: str, attribute: Attribute) -> Bool:
        return True if attribute.required else z3.Bool(f"context has {name}")

    # -- policies

    def applies(self, policy: CompiledPolicy) -> Applied:
        """When it is satisfied, and when it errs. The same policy of two sets is one."""
        place = repr((policy.forbids, policy.policy.json["principal"], policy.policy.json["action"], policy.policy.json["resource"],
                      policy.policy.json["conditions"]))  # fmt: skip
        if place not in self._applied:
            self._applied[place] = self._policy(policy)
        return self._applied[place]

    def _policy(self, policy: CompiledPolicy) -> Applied:
        scope = self._scope(policy)
        if scope is False:
            return Applied(False, False)
        if policy.condition is None:
            return Applied(scope, False)
        try:
            if policy.tree is None or policy.by_cedar:
                raise Untranslated("a policy that is left to cedarpy")
            value, fine = self.evaluate(policy.tree)
        except Untranslated as error:
            self.untranslated[policy.id] = str(error)[:200]
            truth, fine = z3.Bool(self.terms.name("open")), z3.Bool(self.terms.name("fine"))
            return Applied(both(scope, fine, truth), both(scope, negate(fine)))
        if value is None or value.kind != BOOL:
            return Applied(False, scope)
        return Applied(both(scope, fine, value.term), both(scope, negate(fine)))

    def _scope(self, policy: CompiledPolicy) -> Bool:
        scope, action = policy.scope, self.environment.action
        if scope.actions is not None:
            above = frozenset((action,)) if scope.action_exact else self._actions[action]
            if above.isdisjoint(scope.actions):
                return False
        sides = (
            (self.principal, scope.principal, scope.principal_type, scope.principal_exact),
            (self.resource, scope.resource, scope.resource_type, scope.resource_exact),
        )
        return both(*(self._side(*side) for side in sides))

    def _side(self, one: Named, wanted: Uid | None, kind: str | None, exact: bool) -> Bool:
        if kind is not None and one.type != kind:
            return False
        if wanted is None:
            return True
        if one.type != wanted.type and (exact or wanted.type not in self.shape.above(one.type)):
            return False
        group = self.entities.constant(wanted)
        return one.term == group.term if exact else self.entities.within(one, group)

    # -- expressions

    def evaluate(self, node: Any) -> Result:
        """One expression. Raises `Untranslated`."""
        match node:
            case pst.BoolLit() | pst.LongLit() | pst.StringLit():
                return self._literal(node.value), True
            case pst.EntityLit(value=value):
                return self._entity(self.entities.constant(uid_of(value))), True
            case pst.Var(name=name):
                return self._variable(name), True
            case pst.Set(elements=elements):
                return self._set(elements)
        return self._known(node) if self._closed(node) else self._compound(node)

    def _compound(self, node: Any) -> Result:
        match node:
            case pst.GetAttr(base=base, attr=attr):
                return self._get(base, attr)
            case pst.HasAttr(base=base, attrs=attrs):
                return self._has(base, attrs)
            case pst.UnaryOp(op=op, arg=arg):
                return self._unary(op, arg)
            case pst.BinaryOp(op="and" | "or" as op, left=left, right=right):
                return self._lazy(op, left, right)
            case pst.BinaryOp(op=op, left=left, right=right):
                return self._binary(op, left, right)
            case pst.Like(base=base, pattern=parts):
                return self._like(base, parts)
            case pst.Is(base=base, entity_type=kind, in_expr=in_expr):
                return self._is(base, str(kind), in_expr)
            case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
                return self._if(cond, then, other)
        raise Untranslated(type(node).__name__)

    def _closed(self, node: Any) -> bool:
        return all(not isinstance(one, pst.Var | pst.EntityLit) for one in _nodes(node))

    def _known(self, node: Any) -> Result:
        nobody = Uid("", "")
        try:
            value = compile_term(node)(Facts((nobody, nobody, nobody), {}, self._world, actions={}, memo={}))
        except CedarError:
            return ERRS
        except NotCompiled as error:
            raise Untranslated(str(error)) from None
        return self._literal(value), True

    def _literal(self, value: Any) -> Value:
        match value:
            case bool():
                return Value(BOOL, value)
            case int():
                return Value(LONG, value)
            case str():
                self.terms.text(value)
                return Value(TEXT, value)
            case Ip():
                return Value(ADDRESS, self.terms.address(value))
            case Decimal() | DateTime() | Duration():
                return Value(Kind(type(value).constructor), value)
            case Values():
                plain = [True if one is key(True) else False if one is key(False) else one for one in value]
                return self._written(tuple(self._literal(one) for one in plain))
        raise Untranslated(f"a {type(value).__name__}")

    def _entity(self, entity: Named) -> Value:
        return Value(Kind("Entity", entity=entity.type), entity)

    def _variable(self, name: str) -> Value:
        if name == "context":
            raise Untranslated("the context as a whole")
        if name == "action":
            return self._entity(Named("Action", None, self.environment.action))
        return self._entity(self.principal if name == "principal" else self.resource)

    def _get(self, base: Any, name: str) -> Result:
        if isinstance(base, pst.Var) and base.name == "context":
            if name not in self.context:
                return ERRS
            return self._of_context(name), self.context[name][0]
        value, fine = self.evaluate(base)
        if value is None or value.kind.name != "Entity":
            return _wrong(value, "a record")
        there = self.entities.has(value.term, name)
        return ERRS if there is False else (self.entities.read(value.term, name), both(fine, there))

    def evaluate_fact(self, name: str) -> Any:
        """The term of a fact of the request that every request has."""
        return self._of_context(name).term

    def _of_context(self, name: str) -> Value:
        if name not in self._context:
            self._context[name] = self._open(name, self.context[name][1].kind)
        return self._context[name]

    def _open(self, name: str, kind: Kind) -> Value:
        match kind.name:
            case "Bool":
                return Value(kind, z3.Bool(f"context.{name}"))
            case "Long":
                term = z3.Int(f"context.{name}")
                self.terms.facts.append(z3.And(term >= I64_MIN, term <= I64_MAX))
                low, high = RANGES.get(name, (I64_MIN, I64_MAX))
                self.terms.likely.append(z3.And(term >= low, term <= high))
                return Value(kind, term)
            case "String":
                value = self.terms.open_text(z3.Const(f"context.{name}", self.terms.text_sort))
                if name == "credential":
                    self.terms.facts.append(z3.Or([value.term == self.terms.text(one) for one in CREDENTIALS]))
                return value
            case "ipaddr":
                return Value(kind, self.terms.open_address(f"context.{name}"))
        raise Untranslated(f"the fact `{name}`")

    def _has(self, base: Any, names: tuple[str, ...]) -> Result:
        if isinstance(base, pst.Var) and base.name == "context":
            found: Bool = self.context[names[0]][0] if names[0] in self.context else False
            return (Value(BOOL, found), True) if len(names) == 1 else self._has_more(self._of_context(names[0]), found, True, names[1:])
        value, fine = self.evaluate(base)
        if value is None:
            return ERRS
        return self._has_more(value, True, fine, names)

    def _has_more(self, value: Value, found: Bool, fine: Bool, names: Sequence[str]) -> Result:
        for name in names:
            if value.kind.name != "Entity":
                return _wrong(value, "a record")
            there = self.entities.has(value.term, name)
            found = both(found, there)
            if there is False:
                break
            value = self.entities.read(value.term, name)
        return Value(BOOL, found), fine

    def _lazy(self, op: str, left: Any, right: Any) -> Result:
        one, one_fine = self.evaluate(left)
        if one is None or one.kind != BOOL:
            return ERRS
        stops = negate(one.term) if op == "and" else one.term
        if stops is True:
            return one, one_fine
        other, other_fine = self.evaluate(right)
        if other is None or other.kind != BOOL:
            other, other_fine = Value(BOOL, False), False
        truth = both(one.term, other.term) if op == "and" else either(one.term, other.term)
        return Value(BOOL, truth), both(one_fine, either(stops, other_fine))

    def _if(self, cond: Any, then: Any, other: Any) -> Result:
        value, fine = self.evaluate(cond)
        if value is None or value.kind != BOOL:
            return ERRS
        if isinstance(value.term, bool):
            chosen, chosen_fine = self.evaluate(then if value.term else other)
            return chosen, both(fine, chosen_fine)
        first, first_fine = self.evaluate(then)
        second, second_fine = self.evaluate(other)
        fine = both(fine, choose(value.term, first_fine, second_fine))
        if first is None or second is None:
            return (second if first is None else first), fine
        return self._chosen(value.term, first, second), fine

    def _chosen(self, condition: Any, first: Value, second: Value) -> Value:
        if first.kind != second.kind:
            raise Untranslated("an `if` of two types")
        one, other = first.term, second.term
        match first.kind.name:
            case "Bool":
                return Value(BOOL, choose(condition, one, other))
            case "Long":
                return Value(LONG, z3.If(condition, z3.IntVal(one) if isinstance(one, int) else one, other))
            case "String":
                return self.terms.open_text(z3.If(condition, self.terms.text(one), self.terms.text(other)))
            case "Set":
                return Value(first.kind, Members(one.of, lambda value: choose(condition, one.holds(value), other.holds(value))))
        raise Untranslated(f"an `if` of a {first.kind.name}")

    def _unary(self, op: str, argument: Any) -> Result:
        value, fine = self.evaluate(argument)
        if value is None:
            return ERRS
        kind, term = value.kind.name, value.term
        match op, kind:
            case "not", "Bool":
                return Value(BOOL, negate(term)), fine
            case "neg", "Long":
                return self._ranged(-term, fine)
            case "is_empty", "Set":
                return Value(BOOL, self.terms.empty(term)), fine
            case "is_ipv4" | "is_ipv6", "ipaddr":
                return Value(BOOL, term.six if op == "is_ipv6" else z3.Not(term.six)), fine
            case "is_loopback" | "is_multicast", "ipaddr":
                four, six = _RESERVED[op]
                inside = either(in_range(term, self.terms.address(four)), in_range(term, self.terms.address(six)))
                return Value(BOOL, inside), fine
            case "not", _:
                return ERRS
        raise Untranslated(f"`{op}`")

    def _ranged(self, term: Any, fine: Bool) -> Result:
        if isinstance(term, int):
            return (Value(LONG, term), fine) if I64_MIN <= term <= I64_MAX else ERRS
        return Value(LONG, term), both(fine, term >= I64_MIN, term <= I64_MAX)

    def _binary(self, op: str, left: Any, right: Any) -> Result:
        one, one_fine = self.evaluate(left)
        other, other_fine = self.evaluate(right)
        fine = both(one_fine, other_fine)
        if one is None or other is None:
            return ERRS
        kinds = one.kind.name, other.kind.name
        if op in ("eq", "not_eq"):
            equal = self.terms.equal(one, other)
            return Value(BOOL, equal if op == "eq" else negate(equal)), fine
        if op == "in":
            return self._in(one, other, fine)
        if op in _SETS:
            return self._of_sets(op, one, other, fine)
        if op in _COMPARISONS and kinds == ("Long", "Long"):
            return Value(BOOL, _COMPARISONS[op](one.term, other.term)), fine
        if op in ("add", "sub", "mul") and kinds == ("Long", "Long"):
            return self._arithmetic(op, one.term, other.term, fine)
        if op == "is_in_range" and kinds == ("ipaddr", "ipaddr"):
            return Value(BOOL, in_range(one.term, other.term)), fine
        if op in _COMPARISONS and ("Record" not in kinds) and kinds[0] != kinds[1]:
            return ERRS
        raise Untranslated(f"`{op}`")

    def _arithmetic(self, op: str, one: Any, other: Any, fine: Bool) -> Result:
        if op == "mul" and not isinstance(one, int) and not isinstance(other, int):
            raise Untranslated("a product of two facts")
        return self._ranged(one + other if op == "add" else one - other if op == "sub" else one * other, fine)

    def _in(self, one: Value, other: Value, fine: Bool) -> Result:
        if one.kind.name != "Entity":
            return ERRS
        if other.kind.name == "Entity":
            return Value(BOOL, self._member(one.term, other.term)), fine
        if other.kind.name != "Set" or other.term.elements is None:
            raise Untranslated("`in` of a set that is not written out")
        groups = other.term.elements
        if any(group.kind.name != "Entity" for group in groups):
            return ERRS
        return Value(BOOL, either(*(self._member(one.term, group.term) for group in groups))), fine

    def _member(self, one: Named, group: Named) -> Bool:
        if one.type == "Action" and one.uid is not None:
            return group.uid in self._actions.get(one.uid, (one.uid,))
        return self.entities.within(one, group)

    def _of_sets(self, op: str, one: Value, other: Value, fine: Bool) -> Result:
        if one.kind.name != "Set" or (op != "contains" and other.kind.name != "Set"):
            return ERRS
        if op == "contains":
            if one.term.elements is None and one.term.of.name != other.kind.name:
                return Value(BOOL, False), fine
            if other.kind.name in ("String", "Long"):
                self.terms.seen(other)
            return Value(BOOL, one.term.holds(other)), fine
        if one.term.elements is None and other.term.elements is None and one.term.of != other.term.of:
            raise Untranslated("sets of two kinds")
        call = self.terms.meets if op == "contains_any" else lambda large, small: self.terms.within(small, large)
        return Value(BOOL, call(self._only(one.term, other.term), self._only(other.term, one.term))), fine

    def _only(self, one: Members, beside: Members) -> Members:
        """A set that is written out, beside one of a kind that it may not have."""
        if one.elements is not None and beside.elements is None and any(element.kind.name != beside.of.name for element in one.elements):
            raise Untranslated("a set of several kinds")
        return one

    def _like(self, base: Any, parts: tuple[Any, ...]) -> Result:
        value, fine = self.evaluate(base)
        if value is None or value.kind != TEXT:
            return ERRS
        if isinstance(value.term, str):
            return Value(BOOL, matcher(parts)(value.term)), fine
        pieces: list[str | None] = []
        for part in parts:
            if isinstance(part, pst.Wildcard):
                pieces.append(None)
            elif pieces and pieces[-1] is not None:
                pieces[-1] += part.value
            else:
                pieces.append(part.value)
        return Value(BOOL, z3.InRe(value.term, pattern(tuple(pieces)))), fine

    def _is(self, base: Any, kind: str, in_expr: Any) -> Result:
        value, fine = self.evaluate(base)
        if value is None or value.kind.name != "Entity":
            return ERRS
        right = value.term.type == kind
        if in_expr is None or not right:
            return Value(BOOL, right), fine
        group, group_fine = self.evaluate(in_expr)
        return ERRS if group is None else self._in(value, group, both(fine, group_fine))

    def _set(self, elements: Sequence[Any]) -> Result:
        found = [self.evaluate(element) for element in elements]
        if any(value is None for value, _ in found):
            return ERRS
        return self._written(tuple(value for value, _ in found if value is not None)), both(*(fine for _, fine in found))

    def _written(self, elements: tuple[Value, ...]) -> Value:
        of = elements[0].kind if elements else TEXT
        return Value(Kind("Set", of=of), self.terms.written(of, elements))

    # -- everything that was said

    def background(self) -> list[Any]:
        """What holds of every world and request of this environment; asked for once, at the end."""
        laws = self.entities.laws()
        return [*self.terms.facts, *laws, *self.terms.instantiate(), *self.terms.distinct()]


def _wrong(value: Value | None, what: str) -> Result:
    if value is not None and value.kind.name == "Record":
        raise Untranslated(what)
    return ERRS


_RESERVED = {
    "is_loopback": (Ip(4, 127 << 24, 8), Ip(6, 1, 128)),
    "is_multicast": (Ip(4, 224 << 24, 4), Ip(6, 0xFF << 120, 8)),
}
_SETS = frozenset({"contains", "contains_all", "contains_any"})
_COMPARISONS: dict[str, Any] = {
    "less": lambda left, right: left < right,
    "less_eq": lambda left, right: left <= right,
    "greater": lambda left, right: left > right,
    "greater_eq": lambda left, right: left >= right,
}

__all__ = ["Applied", "Problem"]
