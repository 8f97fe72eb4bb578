"""Hazards: constructs that validate in Cedar and yet break what vouchgate promises. `load` refuses them, `check` lists them.

    hazards(policies) -> list[PolicyFinding]      every one is an error

Refused, and what it buys
1. `context.risk` other than `permit ... context.risk < n` or `forbid ... context.risk >= n`, joined by `&&` and `||` in a `when`; and `context`
   taken as a whole, which would hide it. Buys: raising the risk never allows more.
2. A permit that can begin to hold, or a forbid that can cease to hold, when a fact is forgotten: `has`, `hasTag`, `in` of anything but `principal`,
   `resource` and `action` themselves, and `vouches`, used the wrong way round; `vouches` read other than by `contains`, `containsAll`,
   `containsAny`. Buys: from a World in which every name has an entity, removing any attribute of an entity or of the context, any entity and
   any vouch never turns a deny into an allow. (A fact that is read without `has` and is gone is an error, which denies; a group that is gone
   is dangling, which denies.) It does not cover taking a caller out of a group that is forbidden something: that is a change, not a loss.
3. Arithmetic on facts (`+ - *`, negation, `offset`, `durationSince`, `toDate`): it can overflow, and an error that vanishes together with a fact
   would turn a deny into an allow.
4. An `@oblige` on a permit, or one that means nothing (obligations.py). Buys: what a policy's text promises to lift a forbid is carried out.
5. A policy that Cedar's typed tree cannot express: nothing of the above can be known of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cedarpy import pst

from vouchgate.policy.load import Policy, PolicySet
from vouchgate.policy.obligations import problem_of
from vouchgate.policy.unknowns import children

Severity = Literal["error", "warning"]
_ARITHMETIC = frozenset({"add", "sub", "mul", "neg", "offset", "duration_since", "to_date"})
_MEMBER_OPS = frozenset({"contains", "contains_all", "contains_any"})


@dataclass(frozen=True, slots=True)
class PolicyFinding:
    """One thing about one policy that a person should see."""

    kind: str
    severity: Severity
    policy: str
    source: str
    line: int
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class Move:
    """A condition that can turn over when a fact is forgotten."""

    rises: bool
    """True: from false to true; False: from true to false."""
    cause: str


def finding(policy: Policy, kind: str, text: str, fix: str, severity: Severity = "error") -> PolicyFinding:
    """A finding about a policy."""
    return PolicyFinding(kind, severity, policy.id, policy.source, policy.line, text, fix)


def hazards(policies: PolicySet) -> list[PolicyFinding]:
    """All hazards of a set, in its order."""
    return [found for policy in policies.policies for found in hazards_of(policy)]


def hazards_of(policy: Policy) -> Iterator[PolicyFinding]:
    """The hazards of one policy."""
    misread = problem_of(policy)
    if misread is not None:
        yield finding(policy, "bad-obligation", misread.reason, misread.remedy)
    if policy.tree is None:
        yield finding(policy, "not-understood", "it uses a construct that cannot be analysed", "write it with the documented operators")
        return
    for clause in policy.tree.clauses:
        yield from _risk(policy, clause)
        yield from _vanishing(policy, clause)
        yield from _overflow(policy, clause)


def _is_context(node: Any) -> bool:
    return isinstance(node, pst.Var) and bool(node.name == "context")


def _is_risk(node: Any) -> bool:
    return isinstance(node, pst.GetAttr) and node.attr == "risk" and _is_context(node.base)


def _risk_uses(node: Any) -> Iterator[str]:
    """Every use of the risk, or of the whole context, in an expression."""
    if _is_context(node):
        yield "the context is taken as a whole"
    elif isinstance(node, pst.GetAttr | pst.HasAttr) and _is_context(node.base):
        if _is_risk(node) or (isinstance(node, pst.HasAttr) and node.attrs[0] == "risk"):
            yield "`context.risk` is used in another way than by its own comparison"
    else:
        for child in children(node):
            yield from _risk_uses(child)


def _risk(policy: Policy, clause: Any) -> Iterator[PolicyFinding]:
    op = "less" if policy.effect == "permit" else "greater_eq"
    fix = "write `context.risk < n` in a permit's `when`" if policy.effect == "permit" else "write `context.risk >= n` in a forbid's `when`"
    pending = [clause.expr]
    positive = isinstance(clause, pst.When)
    while pending:
        node = pending.pop()
        match node:
            case pst.BinaryOp(op="and" | "or", left=left, right=right) if positive:
                pending += [right, left]
            case pst.BinaryOp(op=used, left=left, right=pst.LongLit()) if positive and used == op and _is_risk(left):
                continue
            case _:
                yield from (finding(policy, "unsafe-risk", text, fix) for text in dict.fromkeys(_risk_uses(node)))


def _both(moves: Iterator[Move] | list[Move]) -> Iterator[Move]:
    for move in moves:
        yield Move(True, move.cause)
        yield Move(False, move.cause)


def moves(node: Any) -> Iterator[Move]:
    """How a condition can turn over when facts are forgotten (rule 2)."""
    match node:
        case pst.UnaryOp(op="not", arg=arg):
            yield from (Move(not move.rises, move.cause) for move in moves(arg))
        case pst.BinaryOp(op="and" | "or", left=left, right=right):
            yield from moves(left)
            yield from moves(right)
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            yield from _both(moves(cond))
            yield from moves(then)
            yield from moves(other)
        case pst.HasAttr(base=base, attrs=attrs):
            yield Move(False, f"has {'.'.join(attrs)}")
            yield from _both(moves(base))
        case pst.BinaryOp(op="has_tag"):
            yield Move(False, "hasTag")
            yield from _both(_of_children(node))
        case pst.BinaryOp(op="in", left=left, right=right):
            yield from _membership(left, right)
        case pst.Is(base=base, in_expr=in_expr):
            yield from _membership(base, in_expr) if in_expr is not None else _both(moves(base))
        case pst.BinaryOp(op=op, left=pst.GetAttr(base=base, attr="vouches"), right=right) if op in _MEMBER_OPS:
            yield Move(False, f"vouches.{ {'contains': 'contains', 'contains_all': 'containsAll', 'contains_any': 'containsAny'}[op] }")
            yield from _both(moves(base))
            yield from _both(moves(right))
        case pst.GetAttr(base=base, attr="vouches"):
            yield from _both([Move(False, "vouches")])
            yield from _both(moves(base))
        case _:
            yield from _both(_of_children(node))


def _of_children(node: Any) -> Iterator[Move]:
    for child in children(node):
        yield from moves(child)


def _membership(left: Any, right: Any) -> Iterator[Move]:
    if not isinstance(left, pst.Var):
        yield Move(False, "in")
        yield from _both(moves(left))
    yield from _both(moves(right))


def _vanishing(policy: Policy, clause: Any) -> Iterator[PolicyFinding]:
    """Moves that would loosen: a permit that rises, a forbid that falls."""
    inverted = isinstance(clause, pst.Unless)
    loosens = policy.effect == "permit"
    causes = dict.fromkeys(move.cause for move in moves(clause.expr) if (move.rises != inverted) == loosens)
    for cause in causes:
        if policy.effect == "permit":
            text = f"it would begin to permit when a fact is forgotten: `{cause}` is negated or compared"
            fix = "ask for the fact in `when`, or write a forbid that holds `unless` it is there"
        else:
            text = f"it would cease to forbid when a fact is forgotten: `{cause}` is needed for it"
            fix = "forbid `unless` the fact is there, or read a required attribute without `has`"
        yield finding(policy, "loosens-when-facts-vanish", text, fix)


def _overflow(policy: Policy, clause: Any) -> Iterator[PolicyFinding]:
    pending = [clause.expr]
    while pending:
        node = pending.pop()
        if isinstance(node, pst.UnaryOp | pst.BinaryOp) and node.op in _ARITHMETIC and not _constant(node):
            yield finding(
                policy, "may-overflow", "it computes with facts, which can overflow", "compare the fact with a number that is written out"
            )
            return
        pending.extend(children(node))


def _constant(node: Any) -> bool:
    if isinstance(node, pst.Var | pst.EntityLit):
        return False
    return all(_constant(child) for child in children(node))
