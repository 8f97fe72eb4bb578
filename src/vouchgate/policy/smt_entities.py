"""The entities of a world that is not known: attributes, memberships and what vouchgate makes sure of, over terms of z3.

Rules
1. A type of the schema is an uninterpreted sort; a name that policies write down is a constant of it, and all those differ. There is always room
   for others. An attribute is a function, and what may be missing has a predicate `has`; an entity may be missing too (`exists`), but for the
   caller and the resource, without which `decide` denies.
2. A membership is a relation between two types that the schema allows. It is transitive and without circles over everything that occurs on its
   left (`_chains`); what is not asked about can be left out of the world without changing what is.
3. Worlds are as `facts.py` and `world.py` make them: a caller's kind, zone, name and trust domain are those of its name, and it lies in that zone
   alone; an endpoint and a run lie in one zone; a tool is in its endpoint; a vouch of a tier is one of each weaker tier and of none; a name
   that is no `vg://` or `spiffe://` name is nobody. These stand in `laws`, and nowhere else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import z3

from vouchgate.policy.schema_shape import Attribute, Kind, Shape
from vouchgate.policy.smt_terms import TEXT, Bool, Members, Named, Terms, Untranslated, Value, both, either, implies, negate
from vouchgate.policy.values import Uid
from vouchgate.vocabulary.errors import InvalidName
from vouchgate.vocabulary.names import MAX_TRUST_DOMAIN, PRINCIPAL_KINDS, principal_parts, resource_parts
from vouchgate.vocabulary.vouches import TIERS

LONGEST = 2**63
NAME_PARTS = ("trust_domain", "kind", "zone", "name")
ONE_ZONE = frozenset({"Principal", "Endpoint", "Run"})
"""Types that lie in exactly one zone."""
GIVEN = frozenset({"Group", "Zone"})
"""Types of what is there as soon as something lies in it."""
THINGS = frozenset({"Artifact", "Dataset", "Model", "Adapter", "Key", "Run", "Endpoint", "Tool", "System"})
"""Types whose names are `vg://<trust-domain>/<type>/<name>`."""


class Entities:
    """The entities of one problem."""

    def __init__(self, shape: Shape, terms: Terms) -> None:
        self.shape, self.terms = shape, terms
        self._sorts: dict[str, Any] = {}
        self.constants: dict[Uid, Named] = {}
        self.ground: dict[str, dict[int, Named]] = {}
        """Entity terms by type and identity of the term."""
        self.present: set[int] = set()
        """Terms that certainly have an entity."""
        self._functions: dict[tuple[str, ...], Any] = {}
        self._read: dict[tuple[int, str], Value] = {}
        self._vouched: set[str] = set()
        """Predicates that policies ask for."""
        self.asked: dict[tuple[int, int], tuple[Named, Named]] = {}
        """Memberships that occur: (who, in what)."""

    # -- terms

    def sort(self, kind: str) -> Any:
        """The sort of a type. Raises `Untranslated` for one that the schema does not have."""
        if kind not in self.shape.entities:
            raise Untranslated(f"the type `{kind}`")
        if kind not in self._sorts:
            self._sorts[kind] = z3.DeclareSort(kind)
        return self._sorts[kind]

    def constant(self, uid: Uid) -> Named:
        """What a name that is written down stands for."""
        if uid.type not in self.shape.entities:
            return Named(uid.type, None, uid)
        found = self.constants.get(uid)
        if found is None:
            found = self.constants[uid] = Named(uid.type, z3.Const(f"name:{uid}", self.sort(uid.type)), uid)
            self._note(found)
        return found

    def variable(self, kind: str, name: str) -> Named:
        """The caller or the resource: something that is there."""
        found = self._note(Named(kind, z3.Const(name, self.sort(kind))))
        self.present.add(found.term.get_id())
        self.terms.facts.append(self._predicate("exists", kind)(found.term))
        return found

    def _note(self, entity: Named) -> Named:
        return self.ground.setdefault(entity.type, {}).setdefault(entity.term.get_id(), entity)

    def _predicate(self, *name: str) -> Any:
        return self._function(z3.BoolSort(), *name)

    def _function(self, into: Any, *name: str) -> Any:
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = z3.Function(".".join(name), self.sort(name[1]), into)
        return found

    def exists(self, entity: Named) -> Bool:
        """Whether there is an entity of this name."""
        if entity.term is None:
            return False
        return True if entity.term.get_id() in self.present else self._predicate("exists", entity.type)(entity.term)

    # -- attributes

    def has(self, entity: Named, name: str) -> Bool:
        """Cedar's `has`."""
        attribute = self._attribute(entity, name)
        if attribute is None:
            return False
        there = self.exists(entity)
        return there if attribute.required else both(there, self._predicate("has", entity.type, name)(entity.term))

    def _attribute(self, entity: Named, name: str) -> Attribute | None:
        shape = self.shape.entities.get(entity.type)
        return shape.attributes.get(name) if shape else None

    def read(self, entity: Named, name: str) -> Value:
        """The attribute of an entity that has it."""
        place = (entity.term.get_id(), name)
        if place not in self._read:
            attribute = self._attribute(entity, name)
            assert attribute is not None
            self._read[place] = self._made(entity, name, attribute.kind)
        return self._read[place]

    def _made(self, entity: Named, name: str, kind: Kind) -> Value:
        of = entity.type
        match kind.name:
            case "Bool":
                return Value(kind, self._predicate("is", of, name)(entity.term))
            case "Long":
                term = self._function(z3.IntSort(), "long", of, name)(entity.term)
                self.terms.facts.append(z3.And(term >= -LONGEST, term < LONGEST))
                return Value(kind, term)
            case "String":
                return self.terms.open_text(self._function(self.terms.text_sort, "text", of, name)(entity.term))
            case "Entity":
                return Value(kind, self._note(Named(kind.entity, self._function(self.sort(kind.entity), "entity", of, name)(entity.term))))
            case "Set" if kind.of == TEXT:
                return Value(kind, Members(TEXT, lambda value: self._holds(entity, name, value.term)))
        raise Untranslated(f"the attribute `{name}` of {of}")

    def _holds(self, entity: Named, name: str, text: Any) -> Any:
        if name == "vouches" and isinstance(text, str):
            self._vouched.add(text.partition("@")[0])
        return self._members(entity.type, name)(entity.term, self.terms.text(text))

    def _members(self, of: str, name: str) -> Any:
        place = ("member", of, name)
        if place not in self._functions:
            self._functions[place] = z3.Function(".".join(place), self.sort(of), self.terms.text_sort, z3.BoolSort())
        return self._functions[place]

    # -- memberships

    def within(self, one: Named, group: Named) -> Bool:
        """Cedar's `in`, for entities that are no actions."""
        if one.term is None or group.term is None:
            return bool(one.uid is not None and one.uid == group.uid)
        itself: Bool = False
        if one.type == group.type:
            itself = one.uid == group.uid if one.uid is not None and group.uid is not None else one.term == group.term
        if itself is True or group.type not in self.shape.above(one.type):
            return itself
        return either(itself, both(self.exists(one), self.member(one, group)))

    def member(self, one: Named, group: Named) -> Any:
        """The relation itself, between two different entities."""
        self.asked[one.term.get_id(), group.term.get_id()] = (one, group)
        place = ("in", one.type, group.type)
        if place not in self._functions:
            self._functions[place] = z3.Function(".".join(place), self.sort(one.type), self.sort(group.type), z3.BoolSort())
        return self._functions[place](one.term, group.term)

    # -- what holds of every world

    def laws(self) -> list[Any]:
        """Rules 2 and 3 over everything that occurs. It is asked for once, after everything was translated."""
        found: list[Bool] = [*self._tools()]
        asked = -1
        while asked != len(self.asked):
            asked, chains = len(self.asked), list(self._chains())
        # texts that a law brings in are bound by the laws that come after it
        found += [*chains, *self._tiers(), *self._zones(), *self._names(), *self._distinct()]
        self.terms.likely += [
            there
            for kind, entities in self.ground.items()
            for entity in entities.values()
            if (entity.uid is None or kind in GIVEN) and (there := self.exists(entity)) is not True
        ]
        return [part for part in found if part is not True]

    def _every(self, kind: str) -> list[Named]:
        return list(self.ground.get(kind, {}).values())

    def _names(self) -> Iterator[Bool]:
        """A caller is what its name says; a name that is none is nobody."""
        for uid, entity in list(self.constants.items()):
            if uid.type in THINGS and not _is_resource(uid):
                yield negate(self.exists(entity))
        callers, parts = self._every("Principal"), self.parts
        for caller in callers:
            yield from self._caller(caller, parts)
        for number, one in enumerate(callers if len(parts) == len(NAME_PARTS) else ()):
            for other in callers[:number]:
                yield implies(both(*(self._part(one, part) == self._part(other, part) for part in NAME_PARTS)), one.term == other.term)

    @property
    def parts(self) -> list[str]:
        """Parts of callers' names that were read; the others can be invented."""
        read = {name for _, name in self._read}
        return [part for part in NAME_PARTS if part in read]

    def _part(self, caller: Named, part: str) -> Any:
        return self.read(caller, part).term

    def _caller(self, caller: Named, parts: list[str]) -> Iterator[Bool]:
        if caller.uid is not None:
            try:
                named = principal_parts(caller.uid.id)
            except InvalidName:
                yield negate(self.exists(caller))
                return
            yield from (self._part(caller, part) == self.terms.text(getattr(named, part)) for part in parts)
            return
        for part in parts:
            if part == "kind":
                yield either(*(self._part(caller, "kind") == self.terms.text(kind) for kind in sorted(PRINCIPAL_KINDS)))
            else:
                yield from self._word(self._part(caller, part), part)

    def _word(self, term: Any, part: str) -> Iterator[Bool]:
        """A part of a name."""
        if self.terms.patterns:
            letters = z3.Union(z3.Range("a", "z"), z3.Range("0", "9"), z3.Re("."), z3.Re("_"), z3.Re("-"))
            yield z3.InRe(term, z3.Loop(letters, 1, MAX_TRUST_DOMAIN if part == "trust_domain" else 64))
            if part != "trust_domain":
                yield z3.And(term != z3.StringVal("."), term != z3.StringVal(".."))
            return
        yield from (term != self.terms.text(text) for text in list(self.terms.texts) if not is_part(text, part))

    def _zones(self) -> Iterator[Bool]:
        """One zone, and for a caller the one of its name."""
        called = self._function(self.terms.text_sort, "called", "Zone")
        zones = self._every("Zone")
        for zone in zones:
            if zone.uid is not None:
                yield called(zone.term) == self.terms.text(zone.uid.id)
            else:
                self.terms.open_text(called(zone.term))
        for number, one in enumerate(zones):
            for other in zones[:number]:
                if one.uid is None or other.uid is None:
                    yield implies(called(one.term) == called(other.term), one.term == other.term)
        for kind in ONE_ZONE & set(self.ground):
            for one in self._every(kind):
                lying = [group for who, group in list(self.asked.values()) if who.type == kind and group.type == "Zone"]
                if kind == "Principal":
                    yield from (self.member(one, zone) == (self._part(one, "zone") == called(zone.term)) for zone in lying)
                else:
                    yield from self._one_zone(one, lying)

    def _one_zone(self, one: Named, zones: list[Named]) -> Iterator[Bool]:
        for number, zone in enumerate(zones):
            for other in zones[:number]:
                yield implies(both(self.member(one, zone), self.member(one, other)), self.terms.equal(_value(zone), _value(other)))

    def _tools(self) -> Iterator[Bool]:
        """A tool is in its endpoint, and in no other."""
        for tool in self._every("Tool"):
            endpoint = self.read(tool, "endpoint").term
            yield self.member(tool, endpoint)
            yield from (
                self.member(tool, group) == (endpoint.term == group.term)
                for one, group in list(self.asked.values())
                if one is tool and group.type == "Endpoint"
            )

    def _chains(self) -> Iterator[Bool]:
        """Transitivity over what stands on the left; nothing contains itself through others."""
        lefts = {one.term.get_id(): one for one, _ in self.asked.values()}
        for middle in lefts.values():
            above = [group for one, group in list(self.asked.values()) if one is middle or one.term.get_id() == middle.term.get_id()]
            for one in list(lefts.values()):
                if one is middle or middle.type not in self.shape.above(one.type):
                    continue
                for group in above:
                    step = both(self.member(one, middle), self.exists(middle), self.member(middle, group))
                    itself = one.term == group.term if one.type == group.type else False
                    yield implies(step, both(negate(itself), self.member(one, group)))
        for one, group in list(self.asked.values()):
            if one.type == group.type:
                yield implies(self.member(one, group), one.term != group.term)
            if one.term.get_id() in self.present:
                yield implies(self.member(one, group), self._predicate("exists", group.type)(group.term))

    def _tiers(self) -> Iterator[Bool]:
        """What `world.tier_strings` gives for a vouch."""
        predicates = sorted(self._vouched)
        for kind, shape in self.shape.entities.items():
            if "vouches" in shape.attributes and kind in self.ground and ("member", kind, "vouches") in self._functions:
                for one in self._every(kind):
                    yield from self._tiers_of(one, predicates)

    def _tiers_of(self, one: Named, predicates: list[str]) -> Iterator[Bool]:
        member = self._members(one.type, "vouches")

        def holds(text: str) -> Any:
            return member(one.term, self.terms.text(text))

        for predicate in predicates:
            tiers = [f"{predicate}@{tier}" for tier in TIERS]
            yield from (implies(holds(strong), holds(weak)) for strong, weak in itertools.pairwise(tiers))
            yield holds(predicate) == holds(tiers[-1])
        yield from (negate(holds(text)) for text in list(self.terms.texts) if "@" in text and text.partition("@")[2] not in TIERS)

    def _distinct(self) -> Iterator[Bool]:
        for kind, entities in self.ground.items():
            named = [entity.term for entity in entities.values() if entity.uid is not None]
            if len(named) > 1 and kind:
                yield z3.Distinct(named)


def _value(entity: Named) -> Value:
    return Value(Kind("Entity", entity=entity.type), entity)


def is_part(text: str, part: str) -> bool:
    """Whether it can be this part of a caller's name."""
    parts = {"trust_domain": "x", "kind": "service", "zone": "x", "name": "x"} | {part: text}
    try:
        principal_parts(f"spiffe://{parts['trust_domain']}/{parts['kind']}/{parts['zone']}/{parts['name']}")
    except InvalidName:
        return False
    return "/" not in text


def _is_resource(uid: Uid) -> bool:
    try:
        parts = resource_parts(uid.id)
    except InvalidName:
        return False
    return parts.kind == uid.type.lower()
