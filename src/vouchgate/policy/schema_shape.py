"""The shape of a Cedar schema: what attributes an entity has, what stands above it, and what an action applies to.

    shape_of(schema_text) -> Shape          raises `Unsupported` where the schema uses what this reader does not know

Rules
1. Read are `type`, `entity` and `action` declarations (Cedar schema grammar, human-readable form), without namespaces, tags and enumerated
   entities: what `packs/*.cedarschema` uses. cedarpy parses the same text, so it is well-formed when it comes here.
2. An action without `appliesTo` is a group; the policies know it all the same, so it can be asked for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vouchgate.vocabulary.errors import Unsupported

_TOKEN = re.compile(r'//[^\n]*|\s+|"(?:\\.|[^"\\])*"|::|[{}\[\]()<>:;,?=@]|[A-Za-z_]\w*|.')
_PRIMITIVE = frozenset({"Bool", "Long", "String", "ipaddr", "decimal", "datetime", "duration"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A type: `Bool`, `Long`, `String`, `ipaddr` ..., or `Entity` with its type's name, `Set` with what is in it, `Record` with its fields."""

    name: str
    entity: str = ""
    of: Kind | None = None
    fields: tuple[tuple[str, Attribute], ...] = ()


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an entity or of the context."""

    kind: Kind
    required: bool


@dataclass(frozen=True, slots=True)
class EntityShape:
    """One type of entity."""

    parents: frozenset[str]
    """Types directly above."""
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class ActionShape:
    """What an action applies to; all empty for a group."""

    principals: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    context: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """A whole schema."""

    entities: Mapping[str, EntityShape]
    actions: Mapping[str, ActionShape]
    """By id."""

    def above(self, kind: str) -> frozenset[str]:
        """Types that can stand above one of this type, at any distance."""
        found: set[str] = set()
        pending = [kind]
        while pending:
            shape = self.entities.get(pending.pop())
            for parent in shape.parents - found if shape else ():
                found.add(parent)
                pending.append(parent)
        return frozenset(found)

    @property
    def principals(self) -> frozenset[str]:
        """Types that can ask."""
        return frozenset().union(*(action.principals for action in self.actions.values()))

    @property
    def resources(self) -> frozenset[str]:
        """Types that can be asked for."""
        return frozenset().union(*(action.resources for action in self.actions.values()))


class _Reader:
    """A cursor over the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = [part for part in _TOKEN.findall(text) if part.strip() and not part.startswith("//")]
        self._at = 0
        self.types: dict[str, Kind] = {}
        self.entities: set[str] = set()

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, wanted: str = "") -> str:
        found = self.peek()
        if not found or (wanted and found != wanted):
            raise Unsupported(
                f"the schema cannot be analysed at `{found[:40]}`", remedy="write it without namespaces, tags and enumerated entities"
            )
        self._at += 1
        return found

    def taken(self, wanted: str) -> bool:
        if self.peek() != wanted:
            return False
        self._at += 1
        return True

    def name(self) -> str:
        found = self.take()
        return found[1:-1] if found.startswith('"') else found

    def names(self) -> Iterator[str]:
        yield self.name()
        while self.taken(","):
            yield self.name()

    def some(self) -> list[str]:
        """One name, or a list of names in brackets."""
        if not self.taken("["):
            return [self.name()]
        found = [] if self.peek() == "]" else list(self.names())
        self.take("]")
        return found

    def kind(self) -> Kind:
        if self.peek() == "{":
            return Kind("Record", fields=tuple(self.record().items()))
        name = self.take()
        if name == "Set":
            self.take("<")
            inner = self.kind()
            self.take(">")
            return Kind("Set", of=inner)
        if name in _PRIMITIVE:
            return Kind(name)
        return self.types.get(name) or Kind("Entity", entity=name)

    def record(self) -> dict[str, Attribute]:
        self.take("{")
        found: dict[str, Attribute] = {}
        while not self.taken("}"):
            name = self.name()
            required = not self.taken("?")
            self.take(":")
            found[name] = Attribute(self.kind(), required)
            if not self.taken(","):
                self.take("}")
                break
        return found


@functools.lru_cache(maxsize=8)
def shape_of(schema_text: str) -> Shape:
    """Read a schema. Raises `Unsupported`."""
    reader = _Reader(schema_text)
    entities: dict[str, EntityShape] = {}
    actions: dict[str, ActionShape] = {}
    while reader.peek():
        match reader.take():
            case "type":
                name = reader.name()
                reader.take("=")
                reader.types[name] = reader.kind()
            case "entity":
                names = list(reader.names())
                parents = reader.some() if reader.taken("in") else []
                reader.taken("=")
                attributes = reader.record() if reader.peek() == "{" else {}
                entities |= {name: EntityShape(frozenset(parents), attributes) for name in names}
            case "action":
                names = list(reader.names())
                if reader.taken("in"):
                    reader.some()
                applies = _applies(reader) if reader.taken("appliesTo") else ActionShape()
                actions |= dict.fromkeys(names, applies)
            case other:
                raise Unsupported(f"the schema cannot be analysed at `{other[:40]}`", remedy="use entity, type and action declarations")
        reader.take(";")
    return Shape(entities, actions)


def _applies(reader: _Reader) -> ActionShape:
    principals: list[str] = []
    resources: list[str] = []
    context: dict[str, Attribute] = {}
    reader.take("{")
    while not reader.taken("}"):
        part = reader.take()
        reader.take(":")
        if part == "principal":
            principals = reader.some()
        elif part == "resource":
            resources = reader.some()
        else:
            context = dict(reader.kind().fields)
        reader.taken(",")
    return ActionShape(frozenset(principals), frozenset(resources), context)
