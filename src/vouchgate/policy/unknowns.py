"""Cedar's expressions over facts of which some are not known yet: what an answer can still become.

    compile_partial(expression) -> Callable[[Facts], int]     a mask of TRUE, FALSE, ERROR: the outcomes that are still possible

Rules
1. `Facts.unknown` names context attributes whose value, type and presence are open. Everything else is known, absence included.
2. The mask holds every outcome that some completion of the facts gives (soundness); it may hold more (two uses of one unknown are
   taken as independent). A single bit is therefore certain, and a certain answer equals Cedar's over every completion.
3. `&&`, `||` and `if` follow Cedar's order of evaluation: what Cedar would not evaluate cannot add an outcome.
4. A part that reads no context is evaluated exactly, by `terms`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cedarpy import pst

from vouchgate.policy.operators import OPERATORS, UNARY, CedarError, Facts, is_in, is_of_type, like_matcher
from vouchgate.policy.terms import NotCompiled, attribute, compile_term, has_attribute
from vouchgate.policy.values import Record, values

TRUE, FALSE, ERROR = 1, 2, 4


class Unknown:
    """A value that is not known; `mask` says which booleans it can be, and whether computing it can err."""

    __slots__ = ("mask",)

    def __init__(self, mask: int) -> None:
        self.mask = mask


ANYTHING = Unknown(TRUE | FALSE | ERROR)
"""Any value of any type, or an error."""
_BY_MASK = {mask: Unknown(mask) for mask in range(8)}

Partial = Callable[[Facts], Any]


def reads_context(node: Any) -> bool:
    """Whether the expression reads the context at all."""
    if isinstance(node, pst.Var):
        return bool(node.name == "context")
    return any(reads_context(child) for child in children(node))


def children(node: Any) -> tuple[Any, ...]:
    """The expressions directly inside an expression."""
    match node:
        case pst.UnaryOp(arg=arg):
            return (arg,)
        case pst.BinaryOp(left=left, right=right):
            return (left, right)
        case pst.GetAttr(base=base) | pst.HasAttr(base=base) | pst.Like(base=base):
            return (base,)
        case pst.Is(base=base, in_expr=in_expr):
            return (base,) if in_expr is None else (base, in_expr)
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            return (cond, then, other)
        case pst.Set(elements=elements):
            return tuple(elements)
        case pst.Record(fields=fields):
            return tuple(fields.values())
    return ()


def context_reads(node: Any) -> frozenset[str] | None:
    """Names of the context attributes that the expression reads; None where it takes the context as a whole."""
    if isinstance(node, pst.Var):
        return None if node.name == "context" else frozenset()
    if isinstance(node, pst.GetAttr | pst.HasAttr) and isinstance(node.base, pst.Var) and node.base.name == "context":
        return frozenset((node.attr if isinstance(node, pst.GetAttr) else node.attrs[0],))
    found: frozenset[str] = frozenset()
    for child in children(node):
        reads = context_reads(child)
        if reads is None:
            return None
        found |= reads
    return found


def mask_of(value: Any) -> int:
    """What a value is where a Bool is expected."""
    if value is True:
        return TRUE
    if value is False:
        return FALSE
    return value.mask if type(value) is Unknown else ERROR


def _from_mask(mask: int) -> Any:
    if mask == TRUE:
        return True
    if mask == FALSE:
        return False
    if mask == ERROR:
        raise CedarError("every completion errs")
    return _BY_MASK[mask]


def _mask(term: Partial, facts: Facts) -> int:
    try:
        return mask_of(term(facts))
    except CedarError:
        return ERROR


def compile_partial(node: Any) -> Callable[[Facts], int]:
    """The outcomes that a condition can still have. Raises `NotCompiled`."""
    term = _partial(node)
    return lambda facts: _mask(term, facts)


def _partial(node: Any) -> Partial:
    if not reads_context(node):
        return compile_term(node)
    build = _BUILDERS.get(type(node))
    if build is None:
        raise NotCompiled(type(node).__name__)
    return build(node)


def _context(node: pst.Var) -> Partial:
    return lambda facts: ANYTHING if facts.unknown else Record(facts.context)


def _is_context(node: Any) -> bool:
    return isinstance(node, pst.Var) and node.name == "context"


def _get_attribute(node: pst.GetAttr) -> Partial:
    name = node.attr
    base = (lambda facts: Record(facts.context)) if _is_context(node.base) else _partial(node.base)
    of_context = _is_context(node.base)

    def get(facts: Facts) -> Any:
        if of_context and name in facts.unknown:
            return ANYTHING
        value = base(facts)
        return ANYTHING if type(value) is Unknown else attribute(value, name, facts)

    return get


def _has_attribute(node: pst.HasAttr) -> Partial:
    names = node.attrs
    of_context = _is_context(node.base)
    base = (lambda facts: Record(facts.context)) if of_context else _partial(node.base)

    def has(facts: Facts) -> Any:
        if of_context and names[0] in facts.unknown:
            return _BY_MASK[TRUE | FALSE] if len(names) == 1 else ANYTHING
        value = base(facts)
        if type(value) is Unknown:
            return ANYTHING
        for name in names[:-1]:
            if not has_attribute(value, name, facts):
                return False
            value = attribute(value, name, facts)
        return has_attribute(value, names[-1], facts)

    return has


def _lazy(node: pst.BinaryOp) -> Partial:
    """`&&` and `||`: `stop` is the left outcome that ends the evaluation (rule 3)."""
    left, right = _partial(node.left), _partial(node.right)
    stop, go_on = (FALSE, TRUE) if node.op == "and" else (TRUE, FALSE)

    def lazy(facts: Facts) -> Any:
        first = _mask(left, facts)
        outcomes = first & (stop | ERROR)
        if first & go_on:
            outcomes |= _mask(right, facts)
        return _from_mask(outcomes)

    return lazy


def _binary(node: pst.BinaryOp) -> Partial:
    if node.op in ("and", "or"):
        return _lazy(node)
    call = OPERATORS.get(node.op)
    if call is None:
        raise NotCompiled(node.op)
    left, right = _partial(node.left), _partial(node.right)
    total = node.op in ("eq", "not_eq")

    def binary(facts: Facts) -> Any:
        first, second = left(facts), right(facts)
        open_left, open_right = type(first) is Unknown, type(second) is Unknown
        if not (open_left or open_right):
            return call(first, second, facts)
        errs = (mask_of(first) if open_left else 0) | (mask_of(second) if open_right else 0)
        return _BY_MASK[TRUE | FALSE | (errs & ERROR)] if total else ANYTHING

    return binary


def _unary(node: pst.UnaryOp) -> Partial:
    argument = _partial(node.arg)
    if node.op == "not":

        def negate(facts: Facts) -> Any:
            mask = _mask(argument, facts)
            return _from_mask((mask & ERROR) | (TRUE if mask & FALSE else 0) | (FALSE if mask & TRUE else 0))

        return negate
    call = UNARY.get(node.op)
    if call is None:
        raise NotCompiled(node.op)

    def unary(facts: Facts) -> Any:
        value = argument(facts)
        return ANYTHING if type(value) is Unknown else call(value)

    return unary


def _like(node: pst.Like) -> Partial:
    base, like = _partial(node.base), like_matcher(node.pattern)

    def matches(facts: Facts) -> Any:
        value = base(facts)
        return ANYTHING if type(value) is Unknown else like(value)

    return matches


def _is(node: pst.Is) -> Partial:
    base, name = _partial(node.base), str(node.entity_type)
    group = _partial(node.in_expr) if node.in_expr is not None else None

    def is_type(facts: Facts) -> Any:
        value = base(facts)
        if type(value) is Unknown:
            return ANYTHING
        if group is None or not is_of_type(value, name):
            return is_of_type(value, name)
        members = group(facts)
        return ANYTHING if type(members) is Unknown else is_in(value, members, facts)

    return is_type


def _if(node: pst.IfThenElse) -> Partial:
    cond, then, other = _partial(node.cond), _partial(node.then_expr), _partial(node.else_expr)

    def choose(facts: Facts) -> Any:
        mask = _mask(cond, facts)
        if mask == TRUE:
            return then(facts)
        if mask == FALSE:
            return other(facts)
        outcomes = mask & ERROR
        for branch, bit in ((then, TRUE), (other, FALSE)):
            if mask & bit:
                try:
                    value = branch(facts)
                except CedarError:
                    outcomes |= ERROR
                    continue
                if value is not True and value is not False and type(value) is not Unknown:
                    return ANYTHING
                outcomes |= mask_of(value)
        return _from_mask(outcomes)

    return choose


def _set_of(node: pst.Set) -> Partial:
    elements = [_partial(element) for element in node.elements]

    def build(facts: Facts) -> Any:
        found = [element(facts) for element in elements]
        return ANYTHING if any(type(value) is Unknown for value in found) else values(found)

    return build


def _record_of(node: pst.Record) -> Partial:
    fields = {name: _partial(value) for name, value in node.fields.items()}

    def build(facts: Facts) -> Any:
        found = {name: field(facts) for name, field in fields.items()}
        return ANYTHING if any(type(value) is Unknown for value in found.values()) else Record(found)

    return build


_BUILDERS: dict[type, Callable[[Any], Partial]] = {
    pst.Var: _context,
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
