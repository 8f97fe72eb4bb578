"""Values of a request that is not known, as terms of z3: booleans that fold, texts, addresses, sets, entities.

Rules
1. What is known while translating stays a Python value (`bool`, `int`, `str`, a name): a policy that cannot apply costs z3 nothing.
2. Texts are compared and nothing else, so they are an uninterpreted sort with one constant for each text that occurs, all different, and room
   for others; only where a pattern (`like`) is asked of an open text are they z3's strings.
3. A set is what is a member of it. A statement over all members is instantiated over every term of the element's sort that occurs, its own
   witness included (`Terms.forall`); without functions from texts to texts this is complete (EPR).
4. A value is exact, or `Untranslated` is raised with the name of the construct.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import z3

from vouchgate.policy.extensions import Ip
from vouchgate.policy.schema_shape import Kind
from vouchgate.policy.values import Uid

BOOL, LONG, TEXT, ADDRESS = Kind("Bool"), Kind("Long"), Kind("String"), Kind("ipaddr")
Bool = Any
"""`bool`, or a z3 Boolean."""


class Untranslated(Exception):
    """A construct that has no exact translation; its name is the message."""


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value of a known kind."""

    kind: Kind
    term: Any
    """Bool, Long, String: a Python value or a z3 term; Entity: `Entity`; Set: `Members`; ipaddr: `Address`; others: the value itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """An entity: its type, its term, and its name where that is known."""

    type: str
    term: Any
    uid: Uid | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """A set; `elements` where they are written out."""

    of: Kind
    holds: Callable[[Value], Bool]
    elements: tuple[Value, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """An address with its prefix: `six` Bool, `bits` 128, `prefix` 8 wide."""

    six: Any
    bits: Any
    prefix: Any
    known: Ip | None = None


def both(*parts: Bool) -> Bool:
    """And, folded."""
    open_ones = [part for part in parts if part is not True]
    if any(part is False for part in open_ones):
        return False
    return True if not open_ones else open_ones[0] if len(open_ones) == 1 else z3.And(open_ones)


def either(*parts: Bool) -> Bool:
    """Or, folded."""
    open_ones = [part for part in parts if part is not False]
    if any(part is True for part in open_ones):
        return True
    return False if not open_ones else open_ones[0] if len(open_ones) == 1 else z3.Or(open_ones)


def negate(part: Bool) -> Bool:
    """Not, folded."""
    return (not part) if isinstance(part, bool) else z3.Not(part)


def implies(left: Bool, right: Bool) -> Bool:
    """If left then right, folded."""
    return either(negate(left), right)


def same(left: Bool, right: Bool) -> Bool:
    """Both or neither, folded."""
    if isinstance(left, bool):
        return right if left else negate(right)
    if isinstance(right, bool):
        return left if right else negate(left)
    return left == right


def choose(condition: Bool, then: Bool, other: Bool) -> Bool:
    """One of two booleans."""
    return then if condition is True else other if condition is False else both(implies(condition, then), either(condition, other))


class Terms:
    """The texts, the sets and the facts of one problem."""

    def __init__(self, *, patterns: bool) -> None:
        self.patterns = patterns
        """Whether texts are z3's strings (rule 2)."""
        self.text_sort = z3.StringSort() if patterns else z3.DeclareSort("Text")
        self.facts: list[Any] = []
        """What holds of every world and request."""
        self.likely: list[Any] = []
        """What holds of every sensible one; a counterexample is looked for among these first."""
        self.texts: dict[str, Any] = {}
        self.ground: dict[Kind, dict[Any, Value]] = {}
        """Terms by the kind that they stand for."""
        self._universal: list[tuple[Kind, Callable[[Value], Bool]]] = []
        self._made = 0

    def name(self, hint: str) -> str:
        """A name that nothing else has."""
        self._made += 1
        return f"{hint}#{self._made}"

    # -- texts

    def text(self, value: Any) -> Any:
        """The term of a text."""
        if not isinstance(value, str):
            return value
        found = self.texts.get(value)
        if found is None:
            found = self.texts[value] = self._constant(value)
            self.seen(Value(TEXT, value))
        return found

    def _constant(self, value: str) -> Any:
        if not self.patterns:
            return z3.Const(f"text:{value!a}", self.text_sort)
        if any(ord(character) > 0x2FFFF for character in value):
            raise Untranslated("a text with characters beyond the third plane, beside `like`")
        return z3.StringVal(value.replace("\\", "\\u{5c}"))

    def seen(self, value: Value) -> Value:
        """Note a term over which sets are to be instantiated."""
        self.ground.setdefault(value.kind, {})[_key(value)] = value
        return value

    def open_text(self, term: Any) -> Value:
        return self.seen(Value(TEXT, term))

    # -- sets

    def forall(self, of: Kind, body: Callable[[Value], Bool]) -> Bool:
        """Whether the body holds of everything of this kind (rule 3)."""
        truth = z3.Bool(self.name("forall"))
        witness = self.fresh(of)
        self.facts.append(either(truth, negate(body(witness))))
        self._universal.append((of, lambda value: implies(truth, body(value))))
        return truth

    def fresh(self, of: Kind) -> Value:
        """Something of a kind that an element of a set can have."""
        if of == TEXT:
            return self.open_text(z3.Const(self.name("text"), self.text_sort))
        if of == LONG:
            return self.seen(Value(LONG, z3.Int(self.name("long"))))
        raise Untranslated(f"a comparison of sets of {of.entity or of.name}")

    def instantiate(self) -> list[Any]:
        """Every universal statement over every term that occurs."""
        found = []
        for of, body in self._universal:
            for value in list(self.ground.get(of, {}).values()):
                found.append(body(value))
        return [part for part in found if part is not True]

    def distinct(self) -> list[Any]:
        """Texts that are written differently differ."""
        constants = list(self.texts.values())
        return [z3.Distinct(constants)] if not self.patterns and len(constants) > 1 else []

    # -- equality

    def equal(self, left: Value, right: Value) -> Bool:
        """Cedar's `==`."""
        if left.kind.name != right.kind.name:
            return False
        one, other = left.term, right.term
        match left.kind.name:
            case "Bool":
                return same(one, other)
            case "Long":
                return one == other
            case "String":
                return one == other if isinstance(one, str) and isinstance(other, str) else self.text(one) == self.text(other)
            case "Entity":
                return _same_entity(one, other)
            case "ipaddr":
                if one.known is not None and other.known is not None:
                    return bool(one.known == other.known)
                return both(one.six == other.six, one.bits == other.bits, one.prefix == other.prefix)
            case "Set":
                return both(self.within(one, other), self.within(other, one))
            case "decimal" | "datetime" | "duration":
                return bool(one == other)
        raise Untranslated(f"a comparison of a {left.kind.name}")

    def within(self, small: Members, large: Members) -> Bool:
        """Whether every member of `small` is one of `large`."""
        if small.elements is not None:
            return both(*(large.holds(element) for element in small.elements))
        return self.forall(small.of, lambda value: implies(small.holds(value), large.holds(value)))

    def meets(self, one: Members, other: Members) -> Bool:
        """Whether the two share a member."""
        if other.elements is None and one.elements is not None:
            one, other = other, one
        if other.elements is not None:
            return either(*(one.holds(element) for element in other.elements))
        return negate(self.forall(one.of, lambda value: negate(both(one.holds(value), other.holds(value)))))

    def empty(self, one: Members) -> Bool:
        """Whether it has no member."""
        if one.elements is not None:
            return not one.elements
        return self.forall(one.of, lambda value: negate(one.holds(value)))

    def written(self, of: Kind, elements: tuple[Value, ...]) -> Members:
        """A set that is written out."""
        return Members(of, lambda value: either(*(self.equal(value, element) for element in elements)), elements)

    # -- addresses

    def address(self, ip: Ip) -> Address:
        """A known address."""
        return Address(z3.BoolVal(ip.version == 6), z3.BitVecVal(ip.address, 128), z3.BitVecVal(ip.prefix, 8), ip)

    def open_address(self, name: str) -> Address:
        """An address of which nothing is known."""
        six, bits, prefix = z3.Bool(f"{name}.six"), z3.BitVec(f"{name}.bits", 128), z3.BitVec(f"{name}.prefix", 8)
        self.facts.append(z3.ULE(prefix, z3.If(six, z3.BitVecVal(128, 8), z3.BitVecVal(32, 8))))
        self.facts.append(z3.Or(six, z3.LShR(bits, 32) == 0))
        self.likely.append(z3.And(z3.Not(six), prefix == 32))
        return Address(six, bits, prefix)


def in_range(one: Address, other: Address) -> Bool:
    """Cedar's `isInRange`, as `Ip.in_range` has it."""
    if one.known is not None and other.known is not None:
        return one.known.in_range(other.known)
    width = z3.If(other.six, z3.BitVecVal(128, 8), z3.BitVecVal(32, 8))
    host = z3.ZeroExt(120, width - other.prefix)
    return z3.And(one.six == other.six, z3.UGE(one.prefix, other.prefix), z3.LShR(one.bits ^ other.bits, host) == 0)


def _same_entity(one: Named, other: Named) -> Bool:
    if one.type != other.type:
        return False
    if one.uid is not None and other.uid is not None:
        return one.uid == other.uid
    return one.term == other.term


def _key(value: Value) -> Any:
    term = value.term
    if isinstance(term, Named):
        return term.uid or term.term.get_id()
    return term if isinstance(term, str | int) else term.get_id()


def pattern(parts: tuple[Any, ...]) -> Any:
    """A `like` pattern as a regular expression of z3; `parts` are texts, and None for a wildcard."""
    everything = z3.Full(z3.ReSort(z3.StringSort()))
    pieces = [everything if part is None else z3.Re(z3.StringVal(part.replace("\\", "\\u{5c}"))) for part in parts]
    return pieces[0] if len(pieces) == 1 else z3.Concat(pieces) if pieces else z3.Re(z3.StringVal(""))
