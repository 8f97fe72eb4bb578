"""Applications: policies and entities of somebody else, decided here and kept apart from vouchgate's own.

    compile_application(files, now) -> Application           raises `InvalidPolicy`, `InvalidInput` naming file, line and fix
    application.evaluate(question, trust_domain, now, epoch) -> Evaluated

Rules
1. An application is a schema, policies and entities of its own: nothing of vouchgate's world is read, and nothing of another application's.
2. The subject must be on file. A resource may be one that only the asking point knows; its type must be one of the schema.
3. What the asking point says of an entity (`properties`) is added to what is on file and never contradicts it: a contradiction is refused,
   since either of the two would be wrong.
4. A value that Cedar cannot express (a fraction) is refused and not left out: to leave a fact out could lift a forbid. `null` is no value.
5. An action's `properties` stand in the context as `action`, beside the members of `context`.
6. A policy in scope that errs denies; an obligation that the asking point does not carry out denies.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import cedarpy

from vouchgate.policy.answers import Answers
from vouchgate.policy.compile import CompiledPolicies, Evaluation, Request, compile_policies, evaluate
from vouchgate.policy.load import InvalidPolicy, Source, read, validate
from vouchgate.policy.obligations import Lifted, lift
from vouchgate.policy.values import Record, Uid, from_cedar_json
from vouchgate.policy.world import Entity, World, world_from_cedar_json
from vouchgate.vocabulary.authzen import Evaluated, Question, Thing
from vouchgate.vocabulary.decisions import Decision, Effect
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun, encode

MAX_ENTITIES_BYTES = 16 * 1024 * 1024
"""Bytes of an entities file; about 100,000 entities."""


class ApplicationFiles(Noun, frozen=True, kw_only=True):
    """An application as it was read."""

    name: str
    schema: str
    policies: tuple[tuple[str, str], ...]
    """(name of the file, its text)."""
    entities: str = ""


def compile_application(files: ApplicationFiles) -> Application:
    """Read, validate, compile. Raises `InvalidPolicy`, `InvalidInput`."""
    policies = read([Source(name, text) for name, text in files.policies], files.schema)
    validate(policies)
    if len(files.entities) > MAX_ENTITIES_BYTES:
        raise InvalidInput(f"the entities of `{files.name}` are over the bound", remedy="keep those that policies read")
    try:
        told = cedarpy.Entities.from_json_str(files.entities or "[]", policies.schema)
    except ValueError as error:
        raise InvalidPolicy(f"the entities of `{files.name}` do not fit its schema: {error}", remedy="correct the entities file") from None
    world = world_from_cedar_json(str(told))
    for action in policies.actions:
        # Cedar lists the schema's actions among the entities; the compiled set knows them itself
        world.remove(action)
    return Application(files.name, compile_policies(policies), world, _types(files.schema))


_ENTITY = re.compile(r"\bentity\s+([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)")
_SPACE = re.compile(r"\bnamespace\s+([A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)\s*\{")
_ASIDE = re.compile(r'//[^\r\n]*|"(?:\\.|[^"\\])*"')


def _types(schema_text: str) -> frozenset[str]:
    """Names of the entity types of a schema that Cedar has read; in a namespace both spellings, so that none is left out."""
    text = _ASIDE.sub(" ", schema_text)
    names = {name.strip() for found in _ENTITY.finditer(text) for name in found[1].split(",")}
    return frozenset(names | {f"{space[1]}::{name}" for space in _SPACE.finditer(text) for name in names})


class Application:
    """See the module's text. Belongs to one thread."""

    def __init__(self, name: str, policies: CompiledPolicies, world: World, types: frozenset[str]) -> None:
        self.name, self.policies, self.world, self.types = name, policies, world, types
        self._by_type: dict[str, list[str]] = {}
        for uid in world.entities:
            self._by_type.setdefault(uid.type, []).append(uid.id)
        for ids in self._by_type.values():
            ids.sort()
        above = {group for uid, all_ in policies.actions.items() for group in all_ if group != uid}
        self.actions = tuple(sorted(uid.id for uid in policies.actions if uid not in above))
        """Names that can be asked about: no groups of actions."""
        self._answers: Answers[Lifted] = Answers(None)

    def candidates(self, kind: str, after: str, limit: int) -> list[str]:
        """Ids on file of one type, behind `after`, in order."""
        known = self._by_type.get(kind, [])
        first = bisect.bisect_right(known, after) if after else 0
        return known[first : first + limit]

    def evaluate(self, question: Question, trust_domain: str, now: UnixMillis, epoch: int) -> Evaluated:
        """Rules 2 to 6."""
        who, what = Uid(question.subject.type, question.subject.id), Uid(question.resource.type, question.resource.id)
        action = Uid("Action", question.action)
        refusal = self._unknown(who, action, what)
        if refusal:
            return Evaluated(decision=self._decision(question, trust_domain, now, epoch, "deny", refusal), status=404)
        try:
            context = self._context(question)
            world = self._world(question, who, what)
        except InvalidInput as error:
            return Evaluated(decision=self._decision(question, trust_domain, now, epoch, "deny", error.reason), status=400)
        lifted = self._ask(Request(who, action, what, context), world, question.carries)
        found = lifted.evaluation
        effect: Effect = "allow" if found.effect == "allow" else "deny"
        made = self._decision(question, trust_domain, now, epoch, effect, _reason(found), found, lifted, context)
        return Evaluated(decision=made)

    def _ask(self, request: Request, world: World, carries: frozenset[str]) -> Lifted:
        def make() -> Lifted:
            return lift(evaluate(self.policies, request, world), carries)

        return self._answers.of(request, world, frozenset(), make, carries) if world is self.world else make()

    def _unknown(self, who: Uid, action: Uid, what: Uid) -> str:
        if who not in self.world:
            return f"the subject `{who.id}` of type `{who.type}` is not known"
        if what not in self.world and what.type not in self.types:
            return f"`{what.type}` is not a type of `{self.name}`"
        if action not in self.policies.actions:
            return f"`{action.id}` is not an action of `{self.name}`"
        dangling = self.world.dangling(who) | (self.world.dangling(what) if what in self.world else frozenset())
        return f"`{min(dangling).id}` is named as a parent, but nothing is known of it" if dangling else ""

    def _context(self, question: Question) -> dict[str, Any]:
        context = _values(question.context)
        if question.action_properties:
            context["action"] = Record(_values(question.action_properties))
        return context

    def _world(self, question: Question, who: Uid, what: Uid) -> World:
        """What is on file, with what the point says added (rule 3)."""
        added: list[Entity] = []
        for uid, thing in ((who, question.subject), (what, question.resource)):
            more = self._added(uid, thing)
            if more is not None:
                added.append(more)
        if not added:
            return self.world
        # what any policy could read on its way from the two, and what policies name
        near = self.world.slice([who, what, *self.policies.named])
        world = World(self.world.entities[uid] for uid in near)
        for one in added:
            world.put(one)
        return world

    def _added(self, uid: Uid, thing: Thing) -> Entity | None:
        known = self.world.entities.get(uid)
        said = _values(thing.properties)
        held: Mapping[str, Any] = known.attributes if known else {}
        for name in said:
            if name in held and (type(held[name]) is not type(said[name]) or held[name] != said[name]):
                raise InvalidInput(
                    f"`{name[:64]}` of `{uid.id[:160]}` is another one on file",
                    remedy="leave it out, or correct the application's entities",
                )
        if known is not None and not said.keys() - held.keys():
            return None
        return Entity(uid, {**held, **said}, known.parents if known else frozenset(), None, known.tags if known else {})

    def _decision(
        self,
        question: Question,
        trust_domain: str,
        now: UnixMillis,
        epoch: int,
        effect: Effect,
        reason: str,
        found: Evaluation | None = None,
        lifted: Lifted | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        who, what = (f'{one.type}::"{one.id}"' for one in (question.subject, question.resource))
        seed = encode([self.name, who, question.action, what, question.subject.properties, question.resource.properties,
                       question.action_properties, question.context])  # fmt: skip
        digest = hashlib.sha256(seed).hexdigest()
        return Decision(
            id=hashlib.sha256(b"vouchgate/application/v1\0" + digest.encode() + encode([self.policies.digest, epoch, now])).hexdigest()[
                :32
            ],
            trust_domain=TrustDomain(trust_domain),
            effect=effect,
            would_be=effect,
            principal=who,
            action=question.action,
            resource=f"{self.name}/{what}",
            facts_digest=digest,
            policy_digest=self.policies.digest,
            policy_version=0,
            evidence_epoch=epoch,
            determining=found.determining if found else (),
            errors=found.errors if found else (),
            obligations=lifted.obligations if lifted and effect == "allow" else (),
            reason=reason,
            remedy=_owed(lifted) if lifted else "",
            not_after=now,
            evaluated_at=now,
        )


def _values(said: Mapping[str, Any]) -> dict[str, Any]:
    """Rule 4. Raises `InvalidInput`."""
    return {name: from_cedar_json(value) for name, value in said.items() if value is not None}


def _reason(found: Evaluation) -> str:
    if found.errors:
        return f"policy `{found.errors[0]}` could not be evaluated, so nothing is permitted"
    if found.effect == "allow":
        return f"permitted by `{'`, `'.join(found.determining)}`"
    return f"forbidden by `{'`, `'.join(found.determining)}`" if found.determining else "no policy permits it"


def _owed(lifted: Lifted) -> str:
    kinds = sorted({one.kind for one in lifted.short_of})
    return f"ask at a point that carries out {', '.join(kinds)}" if kinds else ""
