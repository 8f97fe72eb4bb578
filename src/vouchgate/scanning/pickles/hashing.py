"""Whether a value can be a dict's key, and in how much work.

Hashing and comparing a tuple visits everything below it, shared parts again and again, and recurses in C: forty tuples of (previous, previous) take
2^40 steps to load. So the size is counted as it would be visited, and the depth is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable

from vouchgate.scanning.pickles.values import Array, Dict, FrozenSet, List, Made, Set, Span, Tuple, Value
from vouchgate.scanning.pickles.work import visit

UNHASHABLE = "cannot be hashed"
MAX_VISITS = 100_000
"""Values below one key, shared ones counted each time; real keys have a handful."""
MAX_DEPTH = 100
"""Tuples within each other in one key."""


def heavy(values: Iterable[Value]) -> bool:
    """Whether hashing these, or the pairs that they are, takes more work than any real one."""
    return any(
        unhashable(part) not in ("", UNHASHABLE)
        for value in values
        for part in (value.items if isinstance(value, Tuple | List) else (value,))
    )


def unhashable(key: Value) -> str:
    """What is wrong with a key, empty where nothing is."""
    waiting: list[tuple[Value, int]] = [(key, 0)]
    visits = 0
    while waiting:
        value, depth = waiting.pop()
        visits += 1
        if isinstance(value, List | Dict | Set | Array) or (isinstance(value, Span) and value.kind == "bytearray"):
            return UNHASHABLE
        if isinstance(value, Made) and value.how == "reduce" and value.args and value.calls("builtins.bytearray"):
            return UNHASHABLE
        if isinstance(value, Tuple | FrozenSet):
            if depth >= MAX_DEPTH or visits + len(value.items) > MAX_VISITS:
                return "takes more work to hash than any real one"
            visit(len(value.items))
            waiting += [(item, depth + 1) for item in value.items]
            visits += len(value.items)
    return ""
