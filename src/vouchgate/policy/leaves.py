"""Which single facts hold a condition up, and which would have to change to turn it over.

    supports(node, want, facts) -> tuple[Leaf, ...]          facts that make the condition `want` now; while they stay, it stays
    flip(node, want, facts) -> tuple[Leaf, ...] | None       the cheapest change of facts that makes it `want`; None: no fact can

Rules
1. `supports` takes both sides of a true `&&` and of a false `||`, and one side of the others: a small sufficient set, the first in reading order.
2. `flip` adds up the costs of COST: a vouch that a person can produce is cheaper than a membership that a registrar must grant, which is
   cheaper than moving a thing to another zone.
3. A leaf names what it reads in the words of the product; what is in none of these kinds is `other`, with the policy's own text left to say it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cedarpy import pst

from vouchgate.policy.compile import Scope
from vouchgate.policy.operators import CedarError, Facts
from vouchgate.policy.terms import compile_term, uid_of
from vouchgate.policy.unknowns import FALSE, TRUE, children, compile_partial, context_reads, mask_of
from vouchgate.policy.values import Uid

LeafKind = Literal["vouch", "model", "group", "zone", "risk", "fact", "caller", "attribute", "other"]
COST: dict[LeafKind, int] = {"vouch": 1, "model": 1, "fact": 2, "group": 3, "risk": 4, "zone": 6, "attribute": 8, "caller": 12, "other": 10}
"""Effort of one change, in arbitrary units (rule 2)."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One fact."""

    kind: LeafKind
    name: str
    """Vouch string, group, zone, bound of the risk, name of the request's fact, attribute."""
    subject: Uid | None = None
    """Whose fact; None where the entity itself is not known."""
    want: bool = True


def cost(leaves: tuple[Leaf, ...]) -> int:
    """Effort of all changes."""
    return sum(COST[leaf.kind] for leaf in leaves)


def _outcome(node: Any, facts: Facts) -> int:
    partial = facts.memo.get(id(node))
    if partial is None:
        partial = facts.memo[id(node)] = compile_partial(node)
    return int(partial(facts))


def _bit(want: bool) -> int:
    return TRUE if want else FALSE


def _joined(op: str, want: bool) -> bool:
    """Whether both sides are needed for `want`."""
    return (op == "and") == want


def supports(node: Any, want: bool, facts: Facts) -> tuple[Leaf, ...]:
    """Facts that make `node` come out as `want`, which it does."""
    match node:
        case pst.UnaryOp(op="not", arg=arg):
            return supports(arg, not want, facts)
        case pst.BinaryOp(op="and" | "or" as op, left=left, right=right):
            if _joined(op, want):
                return _unique(supports(left, want, facts) + supports(right, want, facts))
            if _outcome(left, facts) == _bit(want):
                return supports(left, want, facts)
            return _unique(supports(left, not want, facts) + supports(right, want, facts))
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            chosen = _outcome(cond, facts) == TRUE
            return _unique(supports(cond, chosen, facts) + supports(then if chosen else other, want, facts))
        case pst.BoolLit():
            return ()
    return leaves_of(node, want, facts, all_of=True)


def _unique(leaves: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
    return tuple(dict.fromkeys(leaves))


def _cheapest(options: list[tuple[Leaf, ...] | None]) -> tuple[Leaf, ...] | None:
    possible = [option for option in options if option is not None]
    return min(possible, key=cost) if possible else None


def _together(*parts: tuple[Leaf, ...] | None) -> tuple[Leaf, ...] | None:
    found: tuple[Leaf, ...] = ()
    for part in parts:
        if part is None:
            return None
        found += part
    return _unique(found)


def flip(node: Any, want: bool, facts: Facts) -> tuple[Leaf, ...] | None:
    """The cheapest changes after which `node` is `want`."""
    if _outcome(node, facts) == _bit(want):
        return ()
    match node:
        case pst.UnaryOp(op="not", arg=arg):
            return flip(arg, not want, facts)
        case pst.BinaryOp(op="and" | "or" as op, left=left, right=right):
            sides = flip(left, want, facts), flip(right, want, facts)
            return _together(*sides) if _joined(op, want) else _cheapest(list(sides))
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            return _cheapest(
                [
                    _together(flip(cond, True, facts), flip(then, want, facts)),
                    _together(flip(cond, False, facts), flip(other, want, facts)),
                ]
            )
        case pst.BoolLit():
            return None
    return leaves_of(node, want, facts, all_of=False)


def _entity(node: Any, facts: Facts) -> Uid | None:
    try:
        term = facts.memo.get(-id(node))
        if term is None:
            term = facts.memo[-id(node)] = compile_term(node)
        value = term(facts)
    except CedarError:
        return None
    return value if isinstance(value, Uid) else None


def _texts(node: Any) -> tuple[str, ...] | None:
    if isinstance(node, pst.StringLit):
        return (node.value,)
    if isinstance(node, pst.Set) and all(isinstance(element, pst.StringLit) for element in node.elements):
        return tuple(element.value for element in node.elements)
    return None


def leaves_of(node: Any, want: bool, facts: Facts, *, all_of: bool) -> tuple[Leaf, ...]:
    """The leaves of one expression without boolean structure; `all_of` = every fact it rests on, else only those that fail."""
    match node:
        case pst.BinaryOp(op="contains" | "contains_all" | "contains_any" as op, left=pst.GetAttr(base=base, attr="vouches"), right=right):
            texts = _texts(right)
            if texts is not None:
                return _vouches(op, _entity(base, facts), texts, facts, want=want, all_of=all_of)
        case pst.HasAttr(base=pst.Var(name="context"), attrs=attrs):
            return (Leaf("fact", attrs[0], want=want),)
        case pst.HasAttr(base=base, attrs=attrs):
            return (Leaf("model" if attrs == ("model",) else "attribute", attrs[0], _entity(base, facts), want),)
        case pst.BinaryOp(op="in", left=left, right=pst.EntityLit(value=group)):
            return (_member(_entity(left, facts), uid_of(group), want),)
        case pst.Is(base=base, in_expr=pst.EntityLit(value=group)):
            return (_member(_entity(base, facts), uid_of(group), want),)
        case pst.BinaryOp(left=pst.GetAttr(base=pst.Var(name="context"), attr="risk"), right=pst.LongLit(value=bound)):
            return (Leaf("risk", str(bound), facts.principal, want),)
    return _plain(node, want, facts)


def _member(subject: Uid | None, group: Uid, want: bool) -> Leaf:
    if group.type == "Group":
        return Leaf("group", group.id, subject, want)
    return Leaf("zone" if group.type == "Zone" else "other", group.id, subject, want)


def _vouches(op: str, subject: Uid | None, texts: tuple[str, ...], facts: Facts, *, want: bool, all_of: bool) -> tuple[Leaf, ...]:
    held = facts.attributes.get(subject, {}).get("vouches", frozenset()) if subject else frozenset()
    if op == "contains_any" and want:
        standing = [text for text in texts if text in held] or list(texts)
        return tuple(Leaf("vouch", text, subject, want) for text in standing[:1])
    chosen = texts if all_of or not want else tuple(text for text in texts if text not in held)
    return tuple(Leaf("vouch", text, subject, want) for text in chosen)


def _plain(node: Any, want: bool, facts: Facts) -> tuple[Leaf, ...]:
    reads = context_reads(node)
    if reads:
        return tuple(
            Leaf("caller" if name in ("authenticated", "credential") else "fact", name, facts.principal, want) for name in sorted(reads)
        )
    return (*_loose_vouches(node, facts), Leaf("other", type(node).__name__, None, want))


def _loose_vouches(node: Any, facts: Facts) -> tuple[Leaf, ...]:
    """Every vouch of an entity whose `vouches` is read in another way than by `contains*`."""
    found: list[Leaf] = []
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, pst.GetAttr) and one.attr == "vouches":
            subject = _entity(one.base, facts)
            held = facts.attributes.get(subject, {}).get("vouches", frozenset()) if subject else frozenset()
            found.extend(Leaf("vouch", str(text), subject) for text in sorted(held, key=str))
        pending.extend(children(one))
    return tuple(found)


def scope_supports(scope: Scope, facts: Facts) -> tuple[Leaf, ...]:
    """Memberships that put the request into the scope."""
    found = []
    if scope.principal is not None and not scope.principal_exact:
        found.append(_member(facts.principal, scope.principal, True))
    if scope.resource is not None and not scope.resource_exact:
        found.append(_member(facts.resource, scope.resource, True))
    return tuple(found)


def scope_flip(scope: Scope, facts: Facts) -> tuple[Leaf, ...] | None:
    """Memberships that would put the request into the scope; None where no membership can (another action, type or name)."""
    actions = facts.up.get(facts.action) or facts.actions.get(facts.action) or (facts.action,)
    if scope.actions is not None and not any(action in ((facts.action,) if scope.action_exact else actions) for action in scope.actions):
        return None
    if scope.principal_type not in (None, facts.principal.type) or scope.resource_type not in (None, facts.resource.type):
        return None
    sides = (scope.principal, scope.principal_exact, facts.principal), (scope.resource, scope.resource_exact, facts.resource)
    found: list[Leaf] = []
    for wanted, exact, one in sides:
        if wanted is None or (wanted in facts.up.get(one, (one,)) and (not exact or wanted == one)):
            continue
        if exact or wanted.type not in ("Group", "Zone"):
            return None
        found.append(_member(one, wanted, True))
    return tuple(found)


__all__ = ["COST", "Leaf", "cost", "flip", "mask_of", "scope_flip", "scope_supports", "supports"]
