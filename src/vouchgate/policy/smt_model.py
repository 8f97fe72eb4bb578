"""A model of z3 as a request and a World: what `evaluate` and cedarpy can be asked about.

    example(problem, model) -> Example          the request with every fact that the schema requires, and the smallest world around it

Rules
1. What the model leaves open takes the quietest value: false, 0, the empty set, absent.
2. A name that no policy writes down is invented, valid by the grammar of names, and different from every other.
3. A membership is put in where the model has it; nothing else is above anything, but for the zone that vouchgate gives everything that has one.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import z3

from vouchgate.policy.compile import Request
from vouchgate.policy.extensions import Ip
from vouchgate.policy.schema_shape import Kind
from vouchgate.policy.smt import Problem
from vouchgate.policy.smt_entities import NAME_PARTS
from vouchgate.policy.smt_terms import TEXT, Address, Named
from vouchgate.policy.values import Uid, values
from vouchgate.policy.world import Entity, World
from vouchgate.vocabulary.names import principal_parts

TRUST_DOMAIN = "example.local"
"""Of invented names."""
_ESCAPE = re.compile(r"\\u\{([0-9a-fA-F]+)\}")
QUIET: Mapping[str, Any] = {
    "risk": 0,
    "authenticated": True,
    "credential": "x509",
    "delegated": False,
    "hour": 12,
    "weekday": 3,
    "depth": 1,
    "source_ip": Ip(4, 0x0A000001, 32),
}
"""Facts of an everyday request."""


@dataclass(frozen=True, slots=True)
class Example:
    """A request and the facts around it."""

    request: Request
    world: World


def example(problem: Problem, model: Any) -> Example:
    """Rules 1 to 3."""
    return _Reading(problem, model).example()


class _Reading:
    def __init__(self, problem: Problem, model: Any) -> None:
        self._problem, self._model = problem, model
        self._entities, self._terms = problem.entities, problem.terms
        self._texts = {self._value(term): text for text, term in problem.terms.texts.items()} if not problem.terms.patterns else {}
        self._parts_read = set(problem.entities.parts)
        self._taken = set(problem.terms.texts)
        self._numbers = itertools.count(1)
        self._uids: dict[Any, Uid] = {}
        self._alike: dict[Any, list[Named]] = {}

    def example(self) -> Example:
        for kind, entities in self._entities.ground.items():
            for one in entities.values():
                self._alike.setdefault((kind, self._value(one.term)), []).append(one)
        made = {self._uid(ones[0]): self._entity(ones) for ones in self._alike.values() if self._exists(ones[0])}
        for parent in [parent for entity in made.values() for parent in entity.parents]:
            if parent.type in ("Group", "Zone") and parent not in made:
                made[parent] = Entity(parent)
        for entity in list(made.values()):
            for value in entity.attributes.values():
                if isinstance(value, Uid) and value not in made and value not in self._uids.values():
                    made[value] = Entity(value, self._quiet(value.type))
        names = self._uid(self._problem.principal), self._problem.environment.action, self._uid(self._problem.resource)
        return Example(Request(*names, self._context()), World(made.values()))

    # -- terms

    def _value(self, term: Any) -> str:
        return str(self._model.eval(term, model_completion=True).sexpr())

    def _true(self, term: Any) -> bool:
        return term if isinstance(term, bool) else z3.is_true(self._model.eval(term, model_completion=True))

    def _text(self, term: Any) -> str:
        if isinstance(term, str):
            return term
        if self._terms.patterns:
            found = self._model.eval(term, model_completion=True).as_string()
            return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), found)
        value = self._value(term)
        if value not in self._texts:
            self._texts[value] = self._invented("other")
        return self._texts[value]

    def _invented(self, stem: str) -> str:
        name = next(name for number in self._numbers if (name := f"{stem}-{number}") not in self._taken)
        self._taken.add(name)
        return name

    # -- entities

    def _exists(self, one: Named) -> bool:
        return self._true(self._entities.exists(one))

    def _uid(self, one: Named) -> Uid:
        if one.uid is not None and one.term is None:
            return one.uid
        place = (one.type, self._value(one.term))
        if place not in self._uids:
            alike = self._alike.get(place, [one])
            named = next((other.uid for other in alike if other.uid is not None), None)
            self._uids[place] = named or self._name(one)
        return self._uids[place]

    def _name(self, one: Named) -> Uid:
        """Rule 2."""
        match one.type:
            case "Principal":
                domain, kind, zone, name = (self._part(one, part) for part in NAME_PARTS)
                return Uid("Principal", f"spiffe://{domain}/{kind}/{zone}/{name}")
            case "Zone":
                called = self._entities._functions.get(("called", "Zone"))
                return Uid("Zone", self._text(called(one.term)) if called is not None else self._invented("zone"))
            case "Group":
                return Uid("Group", self._invented("group"))
            case "Artifact":
                digest = hashlib.sha256(self._invented("content").encode()).hexdigest()
                return Uid("Artifact", f"vg://{TRUST_DOMAIN}/artifact/sha256:{digest}")
        return Uid(one.type, f"vg://{TRUST_DOMAIN}/{one.type.lower()}/{self._invented(one.type.lower())}")

    def _part(self, caller: Named, part: str) -> str:
        if part in self._parts_read:
            return self._text(self._entities.read(caller, part).term)
        return {"trust_domain": TRUST_DOMAIN, "kind": "service"}.get(part) or self._invented(part if part == "zone" else "somebody")

    def _entity(self, alike: list[Named]) -> Entity:
        one = alike[0]
        attributes = self._quiet(one.type)
        if one.type == "Principal":
            parts = principal_parts(self._uid(one).id)
            attributes |= {part: str(getattr(parts, part)) for part in NAME_PARTS}
        for name, attribute in self._problem.shape.entities[one.type].attributes.items():
            read = [value for other in alike if (value := self._entities._read.get((other.term.get_id(), name))) is not None]
            if not attribute.required and not (read and self._true(self._entities.has(one, name))):
                predicate = self._entities._functions.get(("has", one.type, name))
                if predicate is None or not self._true(predicate(one.term)):
                    continue
            if one.type == "Principal" and name in NAME_PARTS:
                continue
            if read or ("member", one.type, name) in self._entities._functions:
                attributes[name] = self._attribute(one, name, attribute.kind, read[0] if read else None)
            elif attribute.kind.name == "Entity" and name not in attributes:
                attributes[name] = self._somebody(attribute.kind.entity)
        return Entity(self._uid(one), attributes, self._parents(alike, attributes))

    def _attribute(self, one: Named, name: str, kind: Kind, read: Any) -> Any:
        if kind.name == "Set":
            member = self._entities._members(one.type, name)
            ground = list(self._terms.ground.get(TEXT, {}).values())
            return values(self._text(text.term) for text in ground if self._true(member(one.term, self._terms.text(text.term))))
        return self._plain(read)

    def _plain(self, value: Any) -> Any:
        match value.kind.name:
            case "Bool":
                return self._true(value.term)
            case "Long":
                return value.term if isinstance(value.term, int) else self._model.eval(value.term, model_completion=True).as_long()
            case "String":
                return self._text(value.term)
            case "Entity":
                return self._uid(value.term)
        return self._address(value.term)

    def _address(self, address: Address) -> Ip:
        six = self._true(address.six)
        bits, prefix = (self._model.eval(part, model_completion=True).as_long() for part in (address.bits, address.prefix))
        return Ip(6 if six else 4, bits, prefix)

    def _parents(self, alike: list[Named], attributes: Mapping[str, Any]) -> frozenset[Uid]:
        terms = {other.term.get_id() for other in alike}
        found = {
            self._uid(group)
            for one, group in self._entities.asked.values()
            if one.term.get_id() in terms and self._true(self._entities.member(one, group))
        }
        kind = alike[0].type
        if kind == "Principal":
            found.add(Uid("Zone", attributes["zone"]))
        elif kind in ("Endpoint", "Run") and not any(parent.type == "Zone" for parent in found):
            found.add(Uid("Zone", self._invented("elsewhere")))
        elif kind == "Tool":
            found.add(attributes["endpoint"])
        return frozenset(found - {self._uid(alike[0])})

    def _quiet(self, kind: str) -> dict[str, Any]:
        """Required attributes that nobody asked about (rule 1)."""
        return {
            name: _NOTHING[attribute.kind.name]
            for name, attribute in self._problem.shape.entities[kind].attributes.items()
            if attribute.required and attribute.kind.name in _NOTHING
        }

    def _somebody(self, kind: str) -> Uid:
        if kind == "Principal":
            return Uid(kind, f"spiffe://{TRUST_DOMAIN}/service/{self._invented('zone')}/{self._invented('service')}")
        return Uid(kind, f"vg://{TRUST_DOMAIN}/{kind.lower()}/{self._invented(kind.lower())}")

    # -- the request

    def _context(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, (present, attribute) in self._problem.context.items():
            read = self._problem._context.get(name)
            if not self._true(present):
                continue
            if read is not None:
                found[name] = self._plain(read)
            elif attribute.required or name in QUIET:
                found[name] = QUIET.get(name, _NOTHING.get(attribute.kind.name))
            else:
                found[name] = _NOTHING[attribute.kind.name]
        return found


_NOTHING: Mapping[str, Any] = {"Bool": False, "Long": 0, "String": "", "Set": values(()), "ipaddr": QUIET["source_ip"]}
