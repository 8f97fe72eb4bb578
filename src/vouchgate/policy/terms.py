"""Cedar's expressions compiled to Python closures that answer exactly as Cedar's evaluator does.

    compile_term(expression) -> Callable[[Facts], value]      raises `CedarError` where Cedar reports an evaluation error

Rules (Cedar language reference, "Operators and functions")
1. `&&`, `||` and `if` evaluate only what Cedar evaluates; an operand of the wrong type is an error, never false.
2. An entity that is not in the world has no attributes.
3. A tree that this module does not know raises `NotCompiled`; the policy is then left to cedarpy (`compile`).
Left to others: what an operator does with values (`operators`), unknown facts (`unknowns`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from cedarpy import pst

from vouchgate.policy.extensions import CONSTRUCTORS
from vouchgate.policy.operators import OPERATORS, UNARY, CedarError, Facts, is_in, is_of_type, like_matcher, truth
from vouchgate.policy.values import Record, Uid, Values, values


class NotCompiled(Exception):
    """A construct that is left to cedarpy."""


Term = Callable[[Facts], Any]


def uid_of(node: pst.EntityUid) -> Uid:
    """The name that a literal in the tree stands for."""
    return Uid(str(node.type), node.id)


def compile_term(node: Any) -> Term:
    """A closure for one expression. Raises `NotCompiled`."""
    build = _BUILDERS.get(type(node))
    if build is None:
        raise NotCompiled(type(node).__name__)
    return build(node)


def _literal(node: Any) -> Term:
    value = node.value
    return lambda facts: value


def _entity_literal(node: pst.EntityLit) -> Term:
    value = uid_of(node.value)
    return lambda facts: value


def _context(facts: Facts) -> Record:
    return Record(facts.context)


def _variable(node: pst.Var) -> Term:
    if node.name == "context":
        return _context
    return operator.attrgetter(node.name)


def attribute(value: Any, name: str, facts: Facts) -> Any:
    """`value.name`. Raises `CedarError`."""
    if type(value) is Uid:
        fields = facts.attributes.get(value)
    elif type(value) is Record:
        fields = value.fields
    else:
        fields = None
    if fields is None or name not in fields:
        raise CedarError(f"no attribute {name}")
    return fields[name]


def has_attribute(value: Any, name: str, facts: Facts) -> bool:
    """`value has name`. Raises `CedarError`."""
    if type(value) is Uid:
        return name in facts.attributes.get(value, ())
    if type(value) is Record:
        return name in value.fields
    raise CedarError("expected an entity or a record")


def _get_attribute(node: pst.GetAttr) -> Term:
    name = node.attr
    if isinstance(node.base, pst.Var):
        return _get_of_variable(node.base.name, name)
    base = compile_term(node.base)
    return lambda facts: attribute(base(facts), name, facts)


def _get_of_variable(variable: str, name: str) -> Term:
    if variable == "context":

        def of_context(facts: Facts) -> Any:
            try:
                return facts.context[name]
            except KeyError:
                raise CedarError(name) from None

        return of_context
    subject = operator.attrgetter(variable)

    def of_entity(facts: Facts) -> Any:
        try:
            return facts.attributes[subject(facts)][name]
        except KeyError:
            raise CedarError(name) from None

    return of_entity


def _has_attribute(node: pst.HasAttr) -> Term:
    names = node.attrs
    if isinstance(node.base, pst.Var) and node.base.name == "context" and len(names) == 1:
        name = names[0]
        return lambda facts: name in facts.context
    base = compile_term(node.base)

    def has(facts: Facts) -> bool:
        value = base(facts)
        for name in names[:-1]:
            if not has_attribute(value, name, facts):
                return False
            value = attribute(value, name, facts)
        return has_attribute(value, names[-1], facts)

    return has


def _conjuncts(node: Any) -> list[Any]:
    if isinstance(node, pst.BinaryOp) and node.op == "and":
        return [*_conjuncts(node.left), *_conjuncts(node.right)]
    return [node]


def _and(node: pst.BinaryOp) -> Term:
    terms = tuple(compile_term(part) for part in _conjuncts(node))

    def all_of(facts: Facts) -> bool:
        for term in terms:
            value = term(facts)
            if value is False:
                return False
            if value is not True:
                raise CedarError("expected a bool")
        return True

    return all_of


def _or(node: pst.BinaryOp) -> Term:
    left, right = compile_term(node.left), compile_term(node.right)

    def either(facts: Facts) -> bool:
        first = left(facts)
        if first is True:
            return True
        if first is not False:
            raise CedarError("expected a bool")
        return truth(right(facts))

    return either


def _if(node: pst.IfThenElse) -> Term:
    cond, then, other = compile_term(node.cond), compile_term(node.then_expr), compile_term(node.else_expr)
    return lambda facts: then(facts) if truth(cond(facts)) else other(facts)


def _unary(node: pst.UnaryOp) -> Term:
    call = UNARY.get(node.op)
    if call is None:
        raise NotCompiled(node.op)
    argument = compile_term(node.arg)
    if node.op in CONSTRUCTORS and isinstance(node.arg, pst.StringLit):
        return _constant_constructor(call, node.arg.value)
    return lambda facts: call(argument(facts))


def _constant_constructor(call: Callable[[Any], Any], text: str) -> Term:
    try:
        value = call(text)
    except CedarError:

        def fails(facts: Facts) -> Any:
            raise CedarError(text)

        return fails
    return lambda facts: value


def _binary(node: pst.BinaryOp) -> Term:
    if node.op == "and":
        return _and(node)
    if node.op == "or":
        return _or(node)
    call = OPERATORS.get(node.op)
    if call is None:
        raise NotCompiled(node.op)
    if node.op == "in" and isinstance(node.left, pst.Var) and node.left.name != "context" and isinstance(node.right, pst.EntityLit):
        return _in_literal(node.left, uid_of(node.right.value))
    if node.op == "contains" and isinstance(node.right, pst.StringLit):
        return _contains_literal(compile_term(node.left), node.right.value)
    if node.op in _COMPARISONS and isinstance(node.right, pst.LongLit):
        return _compare_literal(compile_term(node.left), _COMPARISONS[node.op], node.right.value)
    if node.op == "contains_all" and isinstance(node.right, pst.Set) and all(isinstance(one, pst.StringLit) for one in node.right.elements):
        return _contains_all_literal(compile_term(node.left), Values(one.value for one in node.right.elements))
    left, right = compile_term(node.left), compile_term(node.right)
    return lambda facts: call(left(facts), right(facts), facts)


def _in_literal(variable: pst.Var, group: Uid) -> Term:
    subject = operator.attrgetter(variable.name)

    def member(facts: Facts) -> bool:
        who = subject(facts)
        return group in (facts.up.get(who) or facts.actions.get(who) or (who,))

    return member


def _contains_literal(left: Term, text: str) -> Term:
    def contains(facts: Facts) -> bool:
        held = left(facts)
        if type(held) is not Values:
            raise CedarError("expected a set")
        return text in held

    return contains


def _contains_all_literal(left: Term, texts: Values) -> Term:
    def contains_all(facts: Facts) -> bool:
        held = left(facts)
        if type(held) is not Values:
            raise CedarError("expected a set")
        return held >= texts

    return contains_all


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "less": operator.lt,
    "less_eq": operator.le,
    "greater": operator.gt,
    "greater_eq": operator.ge,
}


def _compare_literal(left: Term, test: Callable[[Any, Any], bool], bound: int) -> Term:
    def compare(facts: Facts) -> bool:
        value = left(facts)
        if type(value) is not int:
            raise CedarError("expected a long")
        return test(value, bound)

    return compare


def _like(node: pst.Like) -> Term:
    base, like = compile_term(node.base), like_matcher(node.pattern)
    return lambda facts: like(base(facts))


def _is(node: pst.Is) -> Term:
    base, name = compile_term(node.base), str(node.entity_type)
    if node.in_expr is None:
        return lambda facts: is_of_type(base(facts), name)
    group = compile_term(node.in_expr)

    def is_type_in(facts: Facts) -> bool:
        value = base(facts)
        return is_of_type(value, name) and is_in(value, group(facts), facts)

    return is_type_in


def _set_of(node: pst.Set) -> Term:
    elements = [compile_term(element) for element in node.elements]
    if all(isinstance(element, pst.BoolLit | pst.LongLit | pst.StringLit | pst.EntityLit) for element in node.elements):
        constant = values(element(None) for element in elements)  # type: ignore[arg-type]
        return lambda facts: constant
    return lambda facts: values([element(facts) for element in elements])


def _record_of(node: pst.Record) -> Term:
    fields = {name: compile_term(value) for name, value in node.fields.items()}
    return lambda facts: Record({name: field(facts) for name, field in fields.items()})


_BUILDERS: dict[type, Callable[[Any], Term]] = {
    pst.BoolLit: _literal,
    pst.LongLit: _literal,
    pst.StringLit: _literal,
    pst.EntityLit: _entity_literal,
    pst.Var: _variable,
    pst.GetAttr: _get_attribute,
    pst.HasAttr: _has_attribute,
    pst.UnaryOp: _unary,
    pst.BinaryOp: _binary,
    pst.Like: _like,
    pst.Is: _is,
    pst.IfThenElse: _if,
    pst.Set: _set_of,
    pst.Record: _record_of,
}
