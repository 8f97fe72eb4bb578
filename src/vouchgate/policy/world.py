"""World: the facts that policies read, as Cedar entities in memory, updated one entity at a time.

    world = World()
    world.put(Entity(uid, attributes, parents, evidence))     add or replace one entity
    world.remove(uid)                                          forget one entity
    world.advance(now) -> frozenset[Uid]                       drop vouches that lapsed; whose facts changed (recompute those cells)
    world.next_lapse                                           when the next vouch lapses (UnixMillis), or None
    world.slice(uids) -> list[Uid]                             the entities that a decision about these can read
    world.touched_by(uid) -> frozenset[Uid]                    uid, what is under it, and what refers to it: the cells to recompute

`facts.py` builds the entities from the vocabulary's nouns; a flow calls `facts.put_principal`, `put_endpoint`, `put_artifact`.

Rules
1. An entity's attribute `vouches` is computed here from `evidence.held` and from nothing else: for each vouch its predicate and
   `<predicate>@<tier>` for its tier and every weaker one; for a waiver the one string that it waives. A vouch that is revoked, failed or lapsed is not held; `evidence.lacking` says why.
2. Ancestors are kept transitively, so a decision looks them up and never walks.
3. A name that stands as a parent or in an attribute but has no entity is `dangling`: its own memberships are unknown, so whoever depends on it
   is denied (`decide`). Without this, forgetting a group would lift what is forbidden to its members.
4. One World holds one trust domain. `revision` rises with every change; whoever keeps something computed from it compares revisions.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import json
from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import cedarpy

from vouchgate.policy.values import Record, Uid, Values, from_cedar_json, to_cedar_json, to_value, uid_from_json, values
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.vouches import TIERS, Tier, UnixMillis
from vouchgate.vocabulary.wire import encode

MAX_ENTITIES = 1_000_000
"""Entities of one World; about 1 GiB."""
MIN_LAPSES = 1_024
"""Lapses that are kept before replaced ones are looked for."""
MAX_SHARED_PARENTS = 4_096
"""Sets of groups that are looked for among those of others."""
NO_TAGS: Mapping[str, Any] = {}
MAX_PARENTS = 256
"""Groups and zones of one entity; a principal in more is a mistake in the registration."""


@dataclass(frozen=True, slots=True)
class Held:
    """One vouch that holds: verified, passed, not revoked, not lapsed."""

    predicate: str
    vouch_id: str
    tier: Tier
    not_after: UnixMillis
    waives: str = ""
    """The one string that a waiver stands in for; empty for a vouch that is worth what its predicate and tier say."""

    @property
    def strings(self) -> tuple[str, ...]:
        """What it puts into the attribute `vouches`."""
        return (self.waives,) if self.waives else tier_strings(self.predicate, self.tier)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an entity's vouches."""

    held: tuple[Held, ...] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Predicate -> why it does not hold: `absent`, `expired`, `failed`, `revoked`, `unverified`."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One Cedar entity. Attribute values may be plain Python (`to_value` converts)."""

    uid: Uid
    attributes: Mapping[str, Any] = field(default_factory=dict)
    parents: frozenset[Uid] = frozenset()
    evidence: Evidence | None = None
    """None for a kind of entity that bears no vouches."""
    tags: Mapping[str, Any] = field(default_factory=dict)


@functools.lru_cache(maxsize=4096)
def tier_strings(predicate: str, tier: Tier) -> tuple[str, ...]:
    """`scan`, `scan@rederived`, `scan@cooperative`, ... : what a vouch of this tier is worth."""
    return (predicate, *(f"{predicate}@{weaker}" for weaker in TIERS[TIERS.index(tier) :]))


def vouch_strings(held: Iterable[Held]) -> Values:
    """The `vouches` attribute for these vouches (rule 1)."""
    return values(text for one in held for text in one.strings)


def _names_in(value: Any) -> Iterable[Uid]:
    if isinstance(value, Uid):
        yield value
    elif isinstance(value, Values):
        for item in value:
            yield from _names_in(item)
    elif isinstance(value, Record):
        for item in value.fields.values():
            yield from _names_in(item)


class World:
    """The entities of one trust domain. Not safe for two threads."""

    def __init__(self, entities: Iterable[Entity] = ()) -> None:
        self.entities: dict[Uid, Entity] = {}
        self.attributes: MutableMapping[Uid, dict[str, Any]] = {}
        """What the evaluator reads, `vouches` included."""
        self.tags: dict[Uid, dict[str, Any]] = {}
        """Of those that have any."""
        self.up: MutableMapping[Uid, frozenset[Uid]] = {}
        """Itself and all ancestors."""
        self.revision = 0
        self._children: dict[Uid, set[Uid]] = {}
        self._referred: dict[Uid, set[Uid]] = {}
        self._same_parents: dict[frozenset[Uid], frozenset[Uid]] = {}
        """Thousands are in the same groups."""
        self._lapses_bound = MIN_LAPSES
        self._digests: dict[Uid, str] = {}
        self._handle: tuple[int, Any, Any] | None = None
        self._lapses: list[tuple[UnixMillis, Uid]] = []
        for entity in entities:
            self.put(entity)

    def __contains__(self, uid: Uid) -> bool:
        return uid in self.entities

    def __len__(self) -> int:
        return len(self.entities)

    def put(self, entity: Entity) -> None:
        """Add or replace one entity. Raises `InvalidInput` where it would be its own ancestor or a value is no Cedar value."""
        uid = entity.uid
        if len(self.entities) >= MAX_ENTITIES and uid not in self.entities:
            raise LimitExceeded(f"the world holds {MAX_ENTITIES} entities", remedy="remove what is no longer used")
        if len(entity.parents) > MAX_PARENTS:
            raise LimitExceeded(f"`{uid}` is in more than {MAX_PARENTS} groups", remedy="put it into fewer groups")
        if any(uid in self.up.get(parent, (parent,)) for parent in entity.parents):
            raise InvalidInput(f"`{uid}` would contain itself", remedy="take it out of the group that it contains")
        attributes = {name: to_value(value) for name, value in entity.attributes.items()}
        tags = {name: to_value(value) for name, value in entity.tags.items()}
        if entity.evidence is not None:
            attributes["vouches"] = vouch_strings(entity.evidence.held)
        self._unlink(uid)
        self._digests.pop(uid, None)
        self.entities[uid] = Entity(uid, attributes, self._shared(entity.parents), entity.evidence, tags or NO_TAGS)
        self.attributes[uid] = attributes
        if tags:
            self.tags[uid] = tags
        for parent in entity.parents:
            self._children.setdefault(parent, set()).add(uid)
        for value in (*attributes.values(), *tags.values()):
            for name in _names_in(value):
                self._referred.setdefault(name, set()).add(uid)
        for one in entity.evidence.held if entity.evidence else ():
            heapq.heappush(self._lapses, (one.not_after, uid))
        if len(self._lapses) > self._lapses_bound:
            self._compact()
        self._climb(uid)
        self.revision += 1

    def _shared(self, parents: frozenset[Uid]) -> frozenset[Uid]:
        if len(self._same_parents) > MAX_SHARED_PARENTS:
            self._same_parents.clear()
        return self._same_parents.setdefault(parents, parents)

    def _compact(self) -> None:
        """Forget the lapses of vouches that were replaced, so that renewing every second does not grow the heap."""
        self._lapses = [(one.not_after, uid) for uid, entity in self.entities.items() if entity.evidence for one in entity.evidence.held]
        heapq.heapify(self._lapses)
        self._lapses_bound = max(MIN_LAPSES, 2 * len(self._lapses))

    def remove(self, uid: Uid) -> None:
        """Forget one entity; what is under it keeps its name as a dangling parent."""
        if uid not in self.entities:
            return
        self._unlink(uid)
        self._digests.pop(uid, None)
        del self.entities[uid], self.attributes[uid], self.up[uid]
        self.tags.pop(uid, None)
        for child in self._children.get(uid, ()):
            self._climb(child)
        self.revision += 1

    def _unlink(self, uid: Uid) -> None:
        old = self.entities.get(uid)
        if old is None:
            return
        for parent in old.parents:
            self._drop(self._children, parent, uid)
        for value in (*self.attributes[uid].values(), *self.tags.pop(uid, {}).values()):
            for name in _names_in(value):
                self._drop(self._referred, name, uid)

    @staticmethod
    def _drop(index: dict[Uid, set[Uid]], name: Uid, uid: Uid) -> None:
        index.get(name, set()).discard(uid)
        if not index.get(name):
            index.pop(name, None)

    def _climb(self, uid: Uid) -> None:
        """Recompute ancestors of `uid` and of everything under it."""
        pending = [uid]
        while pending:
            one = pending.pop()
            if one not in self.entities:
                continue
            found = {one}
            for parent in self.entities[one].parents:
                found |= self.up.get(parent, {parent})
            above = frozenset(found)
            if self.up.get(one) != above:
                self.up[one] = above
                self._digests.pop(one, None)
                pending.extend(self._children.get(one, ()))

    def dangling(self, uid: Uid) -> frozenset[Uid]:
        """`uid` and its ancestors, so far as there is no entity for them (rule 3)."""
        return frozenset(name for name in self.up.get(uid, (uid,)) if name not in self.entities)

    def touched_by(self, uid: Uid) -> frozenset[Uid]:
        """`uid`, everything under it, and everything whose attributes name one of these, transitively."""
        found: set[Uid] = set()
        pending = [uid]
        while pending:
            one = pending.pop()
            if one not in found:
                found.add(one)
                pending.extend(self._children.get(one, ()))
                pending.extend(self._referred.get(one, ()))
        return frozenset(found)

    @property
    def next_lapse(self) -> UnixMillis | None:
        """When the next vouch lapses."""
        return self._lapses[0][0] if self._lapses else None

    def advance(self, now: UnixMillis) -> frozenset[Uid]:
        """Drop vouches whose `not_after` is not later than `now`; the entities whose facts changed. The clock set back brings none back."""
        changed: set[Uid] = set()
        while self._lapses and self._lapses[0][0] <= now:
            _, uid = heapq.heappop(self._lapses)
            entity = self.entities.get(uid)
            if entity is None or entity.evidence is None:
                continue
            lapsed = [one for one in entity.evidence.held if one.not_after <= now]
            if lapsed:
                kept = tuple(one for one in entity.evidence.held if one.not_after > now)
                lacking = {**entity.evidence.lacking, **{one.predicate: "expired" for one in lapsed if not one.waives}}
                evidence = Evidence(kept, lacking)
                self.entities[uid] = Entity(uid, entity.attributes, entity.parents, evidence, entity.tags)
                self.attributes[uid]["vouches"] = vouch_strings(kept)
                self._digests.pop(uid, None)
                changed.add(uid)
        self.revision += bool(changed)
        return frozenset(changed)

    def imagine(self, memberships: Iterable[tuple[Uid, Uid]], vouches: Iterable[tuple[Uid, str]]) -> World:
        """This world with more memberships `(who, group)` and vouch strings `(whose, text)`, to ask what would be; only to be read."""
        other = World()
        other.entities, other.tags = self.entities, self.tags
        up: dict[Uid, frozenset[Uid]] = {}
        for who, group in memberships:
            up[who] = up.get(who, self.up.get(who, frozenset((who,)))) | self.up.get(group, frozenset((group,)))
        attributes: dict[Uid, dict[str, Any]] = {}
        for whose, text in vouches:
            known = attributes.get(whose, self.attributes.get(whose, {}))
            attributes[whose] = {**known, "vouches": Values(known.get("vouches", Values()) | {text})}
        other.up, other.attributes = ChainMap(up, self.up), ChainMap(attributes, self.attributes)
        return other

    def still(self) -> World:
        """This world as it is now, for another thread; only to be read."""
        other = World()
        other.entities, other.tags, other.up, other.revision = dict(self.entities), dict(self.tags), dict(self.up), self.revision
        other.attributes = {uid: dict(fields) for uid, fields in self.attributes.items()}
        return other

    def providing(self, uid: Uid, text: str) -> tuple[Held, ...]:
        """The vouches that put `text` into the entity's `vouches`."""
        entity = self.entities.get(uid)
        held = entity.evidence.held if entity and entity.evidence else ()
        return tuple(one for one in held if text in one.strings)

    def digest(self, uid: Uid) -> str:
        """SHA-256 over everything a policy can read of this entity: attributes, tags, itself and its ancestors."""
        known = self._digests.get(uid)
        if known is None:
            read = [self._entity_json(uid) if uid in self.entities else None, sorted(map(str, self.up.get(uid, (uid,))))]
            known = self._digests[uid] = hashlib.sha256(encode(read)).hexdigest()
        return known

    def slice(self, uids: Iterable[Uid]) -> list[Uid]:
        """The entities that any policy could read on its way from these: themselves, what contains them, what they name, and so on."""
        found: set[Uid] = set()
        pending = list(uids)
        while pending:
            uid = pending.pop()
            if uid in found or uid not in self.entities:
                continue
            found.add(uid)
            pending += self.up[uid]
            for value in (*self.attributes[uid].values(), *self.tags.get(uid, {}).values()):
                pending += _names_in(value)
        return sorted(found)

    def cedar_slice(self, uids: Iterable[Uid], schema: Any = None) -> Any:
        """cedarpy's handle over `slice`: what one question needs, however many entities there are."""
        return cedarpy.Entities.from_json_str(json.dumps([self._entity_json(uid) for uid in self.slice(uids)]), schema)

    def cedar_entities(self, schema: Any = None) -> Any:
        """cedarpy's handle over the same entities, made once a revision; with a schema it knows the groups of actions too."""
        made = self._handle
        if made is None or made[0] != self.revision or made[1] is not schema:
            made = self._handle = (self.revision, schema, cedarpy.Entities.from_json_str(self.to_cedar_json(), schema))
        return made[2]

    def to_cedar_json(self) -> str:
        """All entities as Cedar's JSON, for the oracle and for export."""
        return json.dumps([self._entity_json(uid) for uid in sorted(self.entities)])

    def _entity_json(self, uid: Uid) -> dict[str, Any]:
        entity: dict[str, Any] = {
            "uid": uid._asdict(),
            "attrs": {name: to_cedar_json(value) for name, value in self.attributes[uid].items()},
            "parents": [parent._asdict() for parent in sorted(self.entities[uid].parents)],
        }
        if uid in self.tags:
            entity["tags"] = {name: to_cedar_json(value) for name, value in self.tags[uid].items()}
        return entity


def world_from_cedar_json(document: str) -> World:
    """A World from Cedar's explicit entities JSON. Raises `InvalidInput`."""
    try:
        rows = json.loads(document)
        entities = [
            Entity(
                uid=uid_from_json(row["uid"]),
                attributes={name: from_cedar_json(value) for name, value in row.get("attrs", {}).items()},
                parents=frozenset(uid_from_json(parent) for parent in row.get("parents", ())),
                tags={name: from_cedar_json(value) for name, value in row.get("tags", {}).items()},
            )
            for row in rows
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"the entities cannot be read: {error}", remedy="write them in Cedar's JSON entity format") from None
    return World(entities)
