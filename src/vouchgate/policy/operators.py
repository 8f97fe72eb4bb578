"""What each of Cedar's operators does with values, and what one evaluation reads.

Rules (Cedar language reference, "Operators and functions")
1. An operand of the wrong type is an error, never false; but `==` of two types is false, and a Bool is not a Long (`values`).
2. Arithmetic is on 64-bit integers; leaving the range is an error.
3. An entity that is not in the world has no ancestors but itself.
Left to others: in which order operands are evaluated, and whether they are (`terms`, `unknowns`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from vouchgate.policy.extensions import CONSTRUCTORS, I64_MAX, I64_MIN, DateTime, Decimal, Duration, ExtensionError, Ip, parse_extension
from vouchgate.policy.patterns import matcher
from vouchgate.policy.values import Uid, Values, key
from vouchgate.policy.world import World


class CedarError(Exception):
    """Cedar reports an evaluation error here."""


class Facts:
    """What one evaluation reads."""

    __slots__ = ("action", "actions", "attributes", "context", "memo", "principal", "resource", "tags", "unknown", "up", "world")

    def __init__(
        self,
        who: tuple[Uid, Uid, Uid],
        context: Mapping[str, Any],
        world: World,
        *,
        actions: Mapping[Uid, frozenset[Uid]],
        memo: dict[int, Any],
        unknown: frozenset[str] = frozenset(),
    ) -> None:
        self.principal, self.action, self.resource = who
        self.context = context
        self.attributes = world.attributes
        self.tags = world.tags
        self.up = world.up
        self.world = world
        self.actions = actions
        self.memo = memo
        """Closures already made for parts of a policy, by identity of the part; the compiled set keeps both."""
        self.unknown = unknown


Operator = Callable[[Any, Any, Facts], Any]


def truth(value: Any) -> bool:
    """The value if it is a Bool. Raises `CedarError`."""
    if value is True or value is False:
        return bool(value)
    raise CedarError("expected a bool")


def equal(left: Any, right: Any, facts: Facts) -> bool:
    """Cedar's `==`."""
    return type(left) is type(right) and bool(left == right)


def _long(value: Any) -> int:
    if type(value) is not int:
        raise CedarError("expected a long")
    return value


def _ranged(value: int) -> int:
    if I64_MIN <= value <= I64_MAX:
        return value
    raise CedarError("integer overflow")


def _compare(test: Callable[[Any, Any], bool]) -> Operator:
    def compare(left: Any, right: Any, facts: Facts) -> bool:
        kind = type(left)
        if kind is not type(right):
            raise CedarError("cannot compare two types")
        if kind is int:
            return test(left, right)
        if kind is DateTime or kind is Duration:
            return test(left.millis, right.millis)
        raise CedarError("cannot be compared")

    return compare


def _compare_decimals(test: Callable[[Any, Any], bool]) -> Operator:
    def compare(left: Any, right: Any, facts: Facts) -> bool:
        if type(left) is not Decimal or type(right) is not Decimal:
            raise CedarError("expected decimals")
        return test(left.units, right.units)

    return compare


def _arithmetic(compute: Callable[[int, int], int]) -> Operator:
    return lambda left, right, facts: _ranged(compute(_long(left), _long(right)))


def is_in(left: Any, right: Any, facts: Facts) -> bool:
    """Cedar's `in`. Raises `CedarError`."""
    if type(left) is not Uid:
        raise CedarError("expected an entity")
    ancestors = facts.up.get(left) or facts.actions.get(left) or (left,)
    if type(right) is Uid:
        return right in ancestors
    if type(right) is Values and all(type(item) is Uid for item in right):
        return any(item in ancestors for item in right)
    raise CedarError("expected an entity or a set of entities")


def _set(value: Any) -> Values:
    if type(value) is not Values:
        raise CedarError("expected a set")
    return value


def _contains(left: Any, right: Any, facts: Facts) -> bool:
    return key(right) in _set(left)


def _tag(left: Any, right: Any, facts: Facts) -> Mapping[str, Any]:
    if type(left) is not Uid or type(right) is not str:
        raise CedarError("expected an entity and a tag's name")
    return facts.tags.get(left, {})


def _get_tag(left: Any, right: Any, facts: Facts) -> Any:
    tags = _tag(left, right, facts)
    if right not in tags:
        raise CedarError("no such tag")
    return tags[right]


def _typed(kind: type, other: type, call: Callable[[Any, Any], Any]) -> Operator:
    def typed(left: Any, right: Any, facts: Facts) -> Any:
        if type(left) is not kind or type(right) is not other:
            raise CedarError("wrong type of argument")
        try:
            return call(left, right)
        except ExtensionError as error:
            raise CedarError(str(error)) from None

    return typed


OPERATORS: dict[str, Operator] = {
    "eq": equal,
    "not_eq": lambda left, right, facts: not equal(left, right, facts),
    "less": _compare(operator.lt),
    "less_eq": _compare(operator.le),
    "greater": _compare(operator.gt),
    "greater_eq": _compare(operator.ge),
    "add": _arithmetic(operator.add),
    "sub": _arithmetic(operator.sub),
    "mul": _arithmetic(operator.mul),
    "in": is_in,
    "contains": _contains,
    "contains_all": lambda left, right, facts: _set(left) >= _set(right),
    "contains_any": lambda left, right, facts: not _set(left).isdisjoint(_set(right)),
    "has_tag": lambda left, right, facts: right in _tag(left, right, facts),
    "get_tag": _get_tag,
    "is_in_range": _typed(Ip, Ip, Ip.in_range),
    "offset": _typed(DateTime, Duration, DateTime.offset),
    "duration_since": _typed(DateTime, DateTime, DateTime.since),
    "decimal_less_than": _compare_decimals(operator.lt),
    "decimal_less_eq": _compare_decimals(operator.le),
    "decimal_greater": _compare_decimals(operator.gt),
    "decimal_greater_eq": _compare_decimals(operator.ge),
}


def _toward_zero(value: int, unit: int) -> int:
    return value // unit if value >= 0 else -(-value // unit)


def _method(kind: type, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def method(value: Any) -> Any:
        if type(value) is not kind:
            raise CedarError("wrong type of argument")
        try:
            return call(value)
        except ExtensionError as error:
            raise CedarError(str(error)) from None

    return method


def _constructor(name: str) -> Callable[[Any], Any]:
    return _method(str, lambda text: parse_extension(name, text))


UNARY: dict[str, Callable[[Any], Any]] = {
    "not": lambda value: not truth(value),
    "neg": lambda value: _ranged(-_long(value)),
    "is_empty": lambda value: not _set(value),
    **{name: _constructor(name) for name in CONSTRUCTORS},
    "is_ipv4": _method(Ip, lambda ip: ip.version == 4),
    "is_ipv6": _method(Ip, lambda ip: ip.version == 6),
    "is_loopback": _method(Ip, Ip.loopback),
    "is_multicast": _method(Ip, Ip.multicast),
    "to_date": _method(DateTime, DateTime.date),
    "to_time": _method(DateTime, DateTime.time),
    "to_milliseconds": _method(Duration, lambda span: span.millis),
    "to_seconds": _method(Duration, lambda span: _toward_zero(span.millis, 1_000)),
    "to_minutes": _method(Duration, lambda span: _toward_zero(span.millis, 60_000)),
    "to_hours": _method(Duration, lambda span: _toward_zero(span.millis, 3_600_000)),
    "to_days": _method(Duration, lambda span: _toward_zero(span.millis, 86_400_000)),
}


def like_matcher(pattern: tuple[Any, ...]) -> Callable[[Any], bool]:
    """Cedar's `like` with this pattern; what is no String is an error."""
    matches = matcher(pattern)

    def like(value: Any) -> bool:
        if type(value) is not str:
            raise CedarError("expected a string")
        return matches(value)

    return like


def is_of_type(value: Any, name: str) -> bool:
    """Cedar's `is`. Raises `CedarError`."""
    if type(value) is not Uid:
        raise CedarError("expected an entity")
    return value.type == name
