"""Which callers, and which things, no policy of a set can tell apart: what decides one of a class decides all of it.

    classes = Classes(world, policies, ...)           over one World that does not change, and one or more compiled sets
    classes.of_principal(name) / of_resource(name)     -> int; equal numbers are one class
    classes.reads(principal, action, resource)         -> the facts of a request on which the answers of all sets still depend

Rules
1. A policy reads of a caller: its type, what contains it (so far as a policy names that), the attributes that some condition reads by name. Two
   callers that agree in these are one class. Where a condition uses a caller in any other way (`resource.owner == principal`, tags), each caller
   is a class of its own. Likewise things.
2. A name that is not in the World, or under a group or zone that is not, is a class of its own kind: no policy is asked about it (`decide`, step 2).
3. The class is exact, never a guess: the answers of `evaluate` over two members are equal. `tests/policy/test_policy_replay.py` holds it to that
   over random policies.
"""

from __future__ import annotations

from typing import Any

from cedarpy import pst

from vouchgate.policy.compile import CompiledPolicies, CompiledPolicy
from vouchgate.policy.unknowns import children
from vouchgate.policy.values import Record, Uid, key
from vouchgate.policy.world import World

MAX_REMEMBERED = 2_000_000
"""Names whose class is remembered, then all are forgotten at once; about 300 MB."""
PRESENT = ""
"""At the end of a path: only whether the attribute is there; no attribute has this name in a policy that asks so."""
UNKNOWN = 0
"""The class of whatever no policy is asked about."""


Path = tuple[str, ...]


def side_reads(node: Any, variable: str) -> frozenset[Path] | None:
    """Attributes of `principal` or `resource` that an expression reads, as paths (`model`, `vouches`); None where it uses the entity in a way
    that tells each apart. Membership in, and equality with, an entity that is written out is not counted: `Classes` looks at those."""
    path = _path(node, variable)
    if path is not None:
        return frozenset((path,)) if path else None
    match node:
        case pst.BinaryOp(op="in" | "eq", left=left, right=right) if _written_out(right) and _is(left, variable):
            return frozenset()
        case pst.BinaryOp(op="eq", left=left, right=right) if _written_out(left) and _is(right, variable):
            return frozenset()
        case pst.BinaryOp(op="contains", left=left, right=right) if _written_out(left) and _is(right, variable):
            return frozenset()
        case pst.Is(base=base, in_expr=in_expr) if _is(base, variable) and (in_expr is None or _written_out(in_expr)):
            return frozenset()
    found: frozenset[Path] = frozenset()
    for child in children(node):
        reads = side_reads(child, variable)
        if reads is None:
            return None
        found |= reads
    return found


def _path(node: Any, variable: str) -> Path | None:
    """`principal.a.b` and `principal.a has b` as a path; None for another expression, empty for the variable itself."""
    match node:
        case pst.Var(name=name) if name == variable:
            return ()
        case pst.GetAttr(base=base, attr=attr):
            inner = _path(base, variable)
            return None if inner is None else (*inner, attr)
        case pst.HasAttr(base=base, attrs=attrs):
            inner = _path(base, variable)
            return None if inner is None else (*inner, *attrs, PRESENT)
    return None


def _is(node: Any, variable: str) -> bool:
    return isinstance(node, pst.Var) and bool(node.name == variable)


def _written_out(node: Any) -> bool:
    if isinstance(node, pst.Set):
        return all(isinstance(one, pst.EntityLit) for one in node.elements)
    return isinstance(node, pst.EntityLit)


def _reads_of(policy: CompiledPolicy, variable: str) -> frozenset[Path] | None:
    if policy.by_cedar:
        return None
    return frozenset() if policy.tree is None else side_reads(policy.tree, variable)


class _Side:
    """Callers, or things."""

    def __init__(self, world: World, policies: tuple[CompiledPolicies, ...], variable: str) -> None:
        self._world = world
        self._named = frozenset[Uid]().union(*(one.named for one in policies))
        reads = [_reads_of(policy, variable) for one in policies for policy in one.policies]
        self._apart = any(one is None for one in reads)
        self._paths = tuple(sorted(frozenset[Path]().union(*(one for one in reads if one is not None))))
        self._numbers: dict[Any, int] = {}
        self._known: dict[Uid, int] = {}

    def of(self, uid: Uid) -> int:
        found = self._known.get(uid)
        if found is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            found = self._known[uid] = self._make(uid)
        return found

    def _make(self, uid: Uid) -> int:
        world = self._world
        if uid not in world.entities or world.dangling(uid):
            return UNKNOWN
        mark: Any = uid
        if not self._apart:
            mark = (uid.type, world.up[uid] & self._named, tuple([self._value(uid, path) for path in self._paths]))
        return self._numbers.setdefault(mark, len(self._numbers) + 1)

    def _value(self, uid: Uid, path: Path) -> Any:
        """What stands at a path, or how far it leads."""
        value: Any = uid
        for depth, name in enumerate(path):
            if name == PRESENT and depth == len(path) - 1:
                return True
            fields = self._world.attributes.get(value) if type(value) is Uid else value.fields if type(value) is Record else None
            if fields is None or name not in fields:
                return (depth, fields is None and type(value) is not Uid)
            value = fields[name]
        return (len(path), type(value), key(value))


class Classes:
    """See the module's text."""

    def __init__(self, world: World, *policies: CompiledPolicies) -> None:
        self._world, self._policies = world, policies
        self._principals, self._resources = _Side(world, policies, "principal"), _Side(world, policies, "resource")

    def of_principal(self, uid: Uid) -> int:
        """The class of a caller; `UNKNOWN` where no policy is asked."""
        return self._principals.of(uid)

    def of_resource(self, uid: Uid) -> int:
        """The class of a thing; likewise."""
        return self._resources.of(uid)

    def reads(self, principal: Uid, action: Uid, resource: Uid) -> frozenset[str] | None:
        """Facts that the policies in scope of this cell read, over all sets; None for the whole context."""
        found: frozenset[str] = frozenset()
        for policies in self._policies:
            for policy in policies.in_scope(principal, action, resource, self._world):
                if policy.reads is None:
                    return None
                found |= policy.reads
        return found
