"""Cedar's values in Python, such that `type(a) is type(b) and a == b` is exactly Cedar's `==`.

Rules
1. Bool, Long and String are `bool`, `int` and `str`; an entity is a `Uid`; the extension types are the classes in `extensions`.
2. A set is a `Values` and a record a `Record`. Both compare by keys in which a Bool cannot pass for a Long (in Python `True == 1`).
3. `from_cedar_json` reads the explicit form (`__entity`, `__extn`), `to_cedar_json` writes it; reading what was written gives the same value.
4. Nesting is at most MAX_VALUE_DEPTH, integers are 64-bit; anything else raises `InvalidInput`.

It leaves evaluation to `terms`, and extension arithmetic to `extensions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vouchgate.policy.extensions import I64_MAX, I64_MIN, DateTime, Decimal, Duration, Extended, ExtensionError, Ip, parse_extension
from vouchgate.vocabulary.errors import InvalidInput

MAX_VALUE_DEPTH = 32
"""Levels of sets and records inside one attribute; a real fact has two."""


class Uid(NamedTuple):
    """An entity's name: Cedar type and id."""

    type: str
    id: str

    def __str__(self) -> str:
        return f'{self.type}::"{self.id}"'


class _Truth:
    """A Bool inside a set or record, which equals no Long."""

    __slots__ = ()


_TRUE, _FALSE = _Truth(), _Truth()


def key(value: Any) -> Any:
    """The value as it is compared inside sets and records."""
    if value is True:
        return _TRUE
    if value is False:
        return _FALSE
    return value


class Values(frozenset[Any]):
    """A Cedar set; its members are keys (rule 2)."""

    __slots__ = ()


def values(items: Iterable[Any]) -> Values:
    """A Cedar set of these values."""
    return Values(key(item) for item in items)


class Record:
    """A Cedar record: attribute -> value."""

    __slots__ = ("_key", "fields")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)
        self._key: frozenset[tuple[str, Any]] | None = None

    @property
    def key(self) -> frozenset[tuple[str, Any]]:
        if self._key is None:
            self._key = frozenset((name, key(value)) for name, value in self.fields.items())
        return self._key

    def __eq__(self, other: object) -> bool:
        return type(other) is Record and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Record({self.fields!r})"


def _fail(what: str) -> InvalidInput:
    return InvalidInput(
        f"a fact holds {what}, which no policy can read", remedy="give booleans, 64-bit integers, text, names, sets and records"
    )


def from_cedar_json(value: Any, *, depth: int = 0) -> Any:
    """A value from Cedar's explicit JSON form. Raises `InvalidInput`."""
    if depth > MAX_VALUE_DEPTH:
        raise _fail(f"more than {MAX_VALUE_DEPTH} nested levels")
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if not I64_MIN <= value <= I64_MAX:
            raise _fail("an integer beyond 64 bits")
        return value
    if isinstance(value, list):
        return values(from_cedar_json(item, depth=depth + 1) for item in value)
    if isinstance(value, dict):
        if len(value) == 1 and "__entity" in value:
            return uid_from_json(value["__entity"])
        if len(value) == 1 and "__extn" in value:
            return _extension_from_json(value["__extn"], depth)
        return Record({name: from_cedar_json(item, depth=depth + 1) for name, item in value.items()})
    raise _fail(f"`{str(value)[:40]}`")


def uid_from_json(value: Any) -> Uid:
    """A `Uid` from `{"type": ..., "id": ...}`. Raises `InvalidInput`."""
    if not (isinstance(value, dict) and isinstance(value.get("type"), str) and isinstance(value.get("id"), str)):
        raise _fail("a malformed entity name")
    return Uid(value["type"], value["id"])


def _extension_from_json(call: Any, depth: int) -> Any:
    if not isinstance(call, dict) or not isinstance(call.get("fn"), str):
        raise _fail("a malformed extension value")
    arguments = call["args"] if "args" in call else [call.get("arg")]
    if not isinstance(arguments, list):
        raise _fail("a malformed extension value")
    try:
        if call["fn"] == "offset" and len(arguments) == 2:
            start, by = (from_cedar_json(item, depth=depth + 1) for item in arguments)
            if type(start) is DateTime and type(by) is Duration:
                return start.offset(by)
        elif len(arguments) == 1 and isinstance(arguments[0], str):
            return parse_extension(call["fn"], arguments[0])
    except ExtensionError:
        raise _fail(f"`{str(call)[:60]}`") from None
    raise _fail(f"`{str(call)[:60]}`")


def to_cedar_json(value: Any) -> Any:
    """The explicit JSON form of a value."""
    if value is _TRUE or value is _FALSE:
        return value is _TRUE
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, Uid):
        return {"__entity": {"type": value.type, "id": value.id}}
    if isinstance(value, Values):
        return sorted((to_cedar_json(item) for item in value), key=repr)
    if isinstance(value, Record):
        return {name: to_cedar_json(item) for name, item in sorted(value.fields.items())}
    if isinstance(value, DateTime):
        epoch = {"__extn": {"fn": "datetime", "arg": "1970-01-01"}}
        return {"__extn": {"fn": "offset", "args": [epoch, to_cedar_json(Duration(value.millis))]}}
    if isinstance(value, Extended):
        return {"__extn": {"fn": value.constructor, "arg": value.text}}
    raise _fail(f"`{str(value)[:40]}`")


def to_value(value: Any, *, depth: int = 0) -> Any:
    """A value from plain Python: sets, lists and tuples become sets, mappings records; Cedar values stay. Raises `InvalidInput`."""
    if isinstance(value, bool | str | Uid | Values | Record | Extended):
        return value
    if isinstance(value, int):
        return from_cedar_json(value)
    if depth > MAX_VALUE_DEPTH:
        raise _fail(f"more than {MAX_VALUE_DEPTH} nested levels")
    if isinstance(value, set | frozenset | list | tuple):
        return values(to_value(item, depth=depth + 1) for item in value)
    if isinstance(value, Mapping):
        return Record({str(name): to_value(item, depth=depth + 1) for name, item in value.items()})
    raise _fail(f"`{str(value)[:40]}`")


__all__ = [
    "DateTime",
    "Decimal",
    "Duration",
    "Ip",
    "Record",
    "Uid",
    "Values",
    "from_cedar_json",
    "key",
    "to_cedar_json",
    "to_value",
    "uid_from_json",
    "values",
]
