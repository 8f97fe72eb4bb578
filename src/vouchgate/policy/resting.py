"""Which vouches hold a condition up, compiled: what a decision needs of `leaves.supports`, without the rest and without the walk.

    rests_on(policy, want, facts) -> tuple[Leaf, ...]      `leaves.supports` of its condition, those of kind `vouch`, in the same order

Rules
1. A part that reads nobody's `vouches` rests on none, whatever comes out: it is left out when the closures are made, so that a policy without
   vouches costs a look into a table.
2. What is left goes the way of `leaves.supports`, rule 1 there; a test compares the two on every pack and on random conditions.
3. Closures are made once for a compiled set and kept in its memo (`Facts.memo`), which lives as long as the policies themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cedarpy import pst

from vouchgate.policy.compile import CompiledPolicy
from vouchgate.policy.leaves import Leaf, leaves_of
from vouchgate.policy.operators import Facts
from vouchgate.policy.unknowns import FALSE, TRUE, children, compile_partial

Resting = Callable[[bool, Facts], tuple[Leaf, ...]]
"""(wanted outcome, which it has; facts) -> vouches."""


def rests_on(policy: CompiledPolicy, want: bool, facts: Facts) -> tuple[Leaf, ...]:
    """See the module."""
    if policy.tree is None:
        return ()
    key = id(policy)
    try:
        found = facts.memo[key]
    except KeyError:
        found = facts.memo[key] = compile_resting(policy.tree)
    return () if found is None else found(want, facts)


def compile_resting(node: Any) -> Resting | None:
    """None where no outcome of the expression rests on a vouch (rule 1)."""
    match node:
        case pst.UnaryOp(op="not", arg=arg):
            inner = compile_resting(arg)
            return None if inner is None else lambda want, facts: inner(not want, facts)
        case pst.BinaryOp(op="and" | "or" as op, left=left, right=right):
            return _joined(op, left, compile_resting(left), compile_resting(right))
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            return _chosen(cond, compile_resting(cond), compile_resting(then), compile_resting(other))
    return _of_leaf(node) if _reads_vouches(node) else None


def _nothing(_want: bool, _facts: Facts) -> tuple[Leaf, ...]:
    return ()


def _unique(leaves: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
    return tuple(dict.fromkeys(leaves))


def _joined(op: str, node: Any, left: Resting | None, right: Resting | None) -> Resting | None:
    if left is None and right is None:
        return None
    first, second, both = left or _nothing, right or _nothing, op == "and"
    outcome = compile_partial(node)

    def found(want: bool, facts: Facts) -> tuple[Leaf, ...]:
        if both == want:
            return _unique(first(want, facts) + second(want, facts))
        if outcome(facts) == (TRUE if want else FALSE):
            return first(want, facts)
        return _unique(first(not want, facts) + second(want, facts))

    return found


def _chosen(node: Any, cond: Resting | None, then: Resting | None, other: Resting | None) -> Resting | None:
    if cond is None and then is None and other is None:
        return None
    asked, yes, no, outcome = cond or _nothing, then or _nothing, other or _nothing, compile_partial(node)

    def found(want: bool, facts: Facts) -> tuple[Leaf, ...]:
        chosen = outcome(facts) == TRUE
        return _unique(asked(chosen, facts) + (yes if chosen else no)(want, facts))

    return found


def _of_leaf(node: Any) -> Resting:
    return lambda want, facts: tuple([leaf for leaf in leaves_of(node, want, facts, all_of=True) if leaf.kind == "vouch"])


def _reads_vouches(node: Any) -> bool:
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, pst.GetAttr) and one.attr == "vouches":
            return True
        pending.extend(children(one))
    return False
