"""Recorded decisions under a changed policy: who gains, who loses, and what differs for another reason.

    replay = Replay(world, old, new, not_recorded=log.not_recorded)
    replay.take(records)                              as often as there are records
    replay.outcome() -> ReplayOutcome
    decide_recorded(policies, world, record, not_recorded) -> Verdict          one record, one set: what the rest is held to

Rules
1. Both versions decide each record over the same World, the one that is given, with the facts of the recorded request. What differs between them is
   the policy's doing. What the old version says today and what was recorded may differ too, because entities, evidence or groups have changed
   since: that is told apart (`drifted`) and is nobody's gain.
2. `open`: the answer depends on a fact that was not recorded, and is not guessed.
3. Obligations count: an allow that carries others than before is a change of its own (`bound`).
4. A name that is not known (any more) is denied under both, as `decide` does, and counted.
5. What is equal is decided once: records whose caller and thing no policy can tell apart (`classes`) and that agree in every fact that a policy
   in scope reads. This is exact; `shared=False` decides every record by itself, and must say the same.

Left to others: reading files and clocks, progress, drawing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vouchgate.policy.classes import UNKNOWN, Classes
from vouchgate.policy.compile import CompiledPolicies, Request, evaluate
from vouchgate.policy.obligations import EVERY, lift
from vouchgate.policy.recorded import Recorded, address_of, hour_of, weekday_of
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import CellChange, DriftedCell, ReplayOutcome
from vouchgate.vocabulary.vouches import UnixMillis

MAX_CHANGED_CELLS = 200_000
"""Cells that are listed one by one; more are counted. A person reads the first screen of them."""
MAX_KEPT_ANSWERS = 1_000_000
"""Answers that are kept for equal questions, then all are forgotten at once; about 250 MB."""
_ALWAYS = ("risk", "authenticated", "credential")
_OPTIONAL = (
    "source_ip", "method", "path", "usual_hour", "usual_network", "purpose", "target", "run", "stage", "declared", "depth", "actor",
    "on_behalf_of",
)  # fmt: skip
_TYPES = {
    "endpoint": "Endpoint", "tool": "Tool", "artifact": "Artifact", "dataset": "Dataset", "model": "Model", "adapter": "Adapter",
    "key": "Key", "run": "Run", "system": "System",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one set says of one record."""

    effect: str
    """`allow`, `deny`, `open`."""
    by: tuple[str, ...] = ()
    """Policies that determine it; for `open` those whose outcome is open."""
    obligations: tuple[str, ...] = ()
    """`kind=value` that an allow carries."""
    forbidden: bool = False
    """Whether a forbid denies, as opposed to no permit allowing."""
    known: bool = True
    """False where no policy was asked, because a name is not known."""


NOT_KNOWN = Verdict("deny", known=False)


def uid_of_resource(name: str) -> Uid:
    """`vg://...` as policies name it; what no policy can speak of has the type of nothing, and is not known."""
    kind, _, last = name.partition("://")[2].partition("/")[2].partition("/")
    if kind == "zone":
        return Uid("Zone", last)
    return Uid(_TYPES.get(kind, ""), name)


def context_of(record: Recorded, reads: frozenset[str] | None = None) -> dict[str, Any]:
    """What policies see as `context`; an address is not made where nobody reads it."""
    context: dict[str, Any] = {
        "risk": record.risk,
        "authenticated": record.authenticated,
        "credential": record.credential,
        "delegated": bool(record.actors) or record.on_behalf_of is not None,
        "hour": hour_of(record.time) if record.hour is None else record.hour,
        "weekday": weekday_of(record.time) if record.weekday is None else record.weekday,
    }
    for name in _OPTIONAL:
        value = getattr(record, name)
        if value is not None:
            context[name] = value
    address = context.pop("source_ip", None)
    if address is not None and (reads is None or "source_ip" in reads):
        known = address_of(address)
        if known is not None:
            context["source_ip"] = known
    return context


def unknown_in(context: Mapping[str, Any], not_recorded: frozenset[str], record: Recorded) -> frozenset[str]:
    """Facts that were not recorded."""
    return not_recorded.difference(context) if not_recorded and not record.whole else frozenset()


def decide_recorded(policies: CompiledPolicies, world: World, record: Recorded, not_recorded: frozenset[str] = frozenset()) -> Verdict:
    """One record under one set, with nothing shared."""
    request = Request(
        Uid("Principal", record.principal), Uid("Action", record.action), uid_of_resource(record.resource), context_of(record)
    )
    if request.principal not in world or request.resource not in world or request.action not in policies.actions:
        return NOT_KNOWN
    if world.dangling(request.principal) or world.dangling(request.resource):
        return NOT_KNOWN
    return _verdict(policies, request, world, unknown_in(request.context, not_recorded, record))


def _verdict(policies: CompiledPolicies, request: Request, world: World, unknown: frozenset[str]) -> Verdict:
    lifted = lift(evaluate(policies, request, world, unknown), EVERY)
    said = lifted.evaluation
    if said.effect == "residual":
        return Verdict("open", said.residual)
    by = said.errors if said.effect == "deny" and said.errors else said.determining
    forbidden = said.effect == "deny" and bool(by) and any(policy.forbids and policy.id in by for policy in said.in_scope)
    return Verdict(said.effect, by, tuple([f"{one.kind}={one.value}" for one in lifted.obligations]), forbidden)


@dataclass(slots=True)
class _Pair:
    """Both verdicts of one question, and what they mean."""

    was: Verdict
    now: Verdict
    kind: str
    """`same`, `gains`, `loses`, `open`, `bound`."""
    because: str = ""


@dataclass(slots=True)
class _Question:
    """Everything that records of these two classes and this action share."""

    facts: Callable[[Recorded], Any] | None
    """The facts on which the answers depend, as one value; None where that is the whole context."""
    who: tuple[Uid, Uid, Uid] | None = None
    """Caller, action and thing that stand for all; None where each record stands for itself."""
    reads: frozenset[str] | None = None
    """Names of those facts; None for all."""
    pairs: dict[Any, _Pair] = field(default_factory=dict)


@dataclass(slots=True)
class _Seen:
    """Records of one cell that changed in one way."""

    pair: _Pair
    count: int = 0
    first: int = 0
    last: int = 0
    example: str = ""
    recorded: str = ""


class Replay:
    """See the module's text."""

    def __init__(
        self, world: World, old: CompiledPolicies, new: CompiledPolicies, *, not_recorded: frozenset[str] = frozenset(), shared: bool = True
    ) -> None:
        self._world, self._old, self._new, self._not_recorded = world, old, new, not_recorded
        self._shared = shared
        self._classes = Classes(world, old, new)
        self._principals: dict[str, int] = {}
        self._resources: dict[str, int] = {}
        self._questions: dict[tuple[int, str, int], _Question] = {}
        self._answers = 0
        self._nobody = _Pair(NOT_KNOWN, NOT_KNOWN, "same")
        self._changed: dict[tuple[str, str, str, str], _Seen] = {}
        self._drifted: dict[tuple[str, str, str, str], _Seen] = {}
        self._counts: dict[str, int] = dict.fromkeys(("same", "gains", "loses", "open", "bound"), 0)
        self.records = 0
        self.unknown_names = 0
        self.drifted = 0
        self.observed = 0
        self.unlisted = 0
        """Changed records in cells beyond the bound."""
        self.decided = 0
        """Questions that were really decided."""

    def take(self, records: Iterable[Recorded]) -> None:
        """Decide these under both."""
        principals, resources, questions, counts = self._principals, self._resources, self._questions, self._counts
        number = 0
        for record in records:
            number += 1
            principal, resource = principals.get(record.principal), resources.get(record.resource)
            if principal is None:
                principal = self._class_of(principals, record.principal)
            if resource is None:
                resource = self._class_of(resources, record.resource)
            question = questions.get((principal, record.action, resource))
            if question is None:
                question = self._ask(principal, record, resource)
            pair = question.pairs.get(question.facts(record)) if question.facts is not None else None
            if pair is None:
                pair = self._decide(question, record)
            kind = pair.kind
            counts[kind] += 1
            if kind != "same":
                self._note(record, pair)
            elif pair is self._nobody:
                self.unknown_names += 1
            if record.observed:
                self.observed += 1
            elif pair.was.effect != record.effect:
                self._drift(record, pair)
        self.records += number

    def verdicts(self, record: Recorded) -> tuple[Verdict, Verdict]:
        """What both versions say of one record, from what was decided before where that is equal."""
        principal = self._class_of(self._principals, record.principal)
        resource = self._class_of(self._resources, record.resource)
        question = self._questions.get((principal, record.action, resource)) or self._ask(principal, record, resource)
        pair = question.pairs.get(question.facts(record)) if question.facts is not None else None
        pair = pair or self._decide(question, record)
        return pair.was, pair.now

    def _class_of(self, known: dict[str, int], name: str) -> int:
        if len(known) >= MAX_KEPT_ANSWERS:
            known.clear()
        if known is self._principals:
            found = self._classes.of_principal(Uid("Principal", name))
        else:
            found = self._classes.of_resource(uid_of_resource(name))
        known[name] = found
        return found

    def _ask(self, principal: int, record: Recorded, resource: int) -> _Question:
        if self._answers >= MAX_KEPT_ANSWERS or len(self._questions) >= MAX_KEPT_ANSWERS:
            self._questions.clear()
            self._answers = 0
        who, action, thing = Uid("Principal", record.principal), Uid("Action", record.action), uid_of_resource(record.resource)
        if UNKNOWN in (principal, resource) or (action not in self._old.actions and action not in self._new.actions):
            made = _Question(_no_facts, pairs={None: self._nobody})
        elif not self._shared:
            made = _Question(None)
        else:
            reads = self._classes.reads(who, action, thing)
            whole = reads is not None and not self._not_recorded.isdisjoint(reads)
            made = _Question(None if reads is None else facts_reader(reads, whole=whole), (who, action, thing), reads)
        self._questions[principal, record.action, resource] = made
        return made

    def _decide(self, question: _Question, record: Recorded) -> _Pair:
        self.decided += 1
        context = context_of(record, question.reads)
        own = (Uid("Principal", record.principal), Uid("Action", record.action), uid_of_resource(record.resource))
        request, unknown = Request(*(question.who or own), context), unknown_in(context, self._not_recorded, record)
        was, now = (self._one(policies, request, unknown) for policies in (self._old, self._new))
        kind = kind_of(was, now)
        pair = _Pair(was, now, kind, "" if kind == "same" else because(was, now))
        if question.facts is not None:
            question.pairs[question.facts(record)] = pair
            self._answers += 1
        return pair

    def _one(self, policies: CompiledPolicies, request: Request, unknown: frozenset[str]) -> Verdict:
        return _verdict(policies, request, self._world, unknown) if request.action in policies.actions else NOT_KNOWN

    def _note(self, record: Recorded, pair: _Pair) -> None:
        cell = (record.principal, record.action, record.resource, pair.because)
        seen = self._changed.get(cell)
        if seen is None:
            if len(self._changed) >= MAX_CHANGED_CELLS:
                self.unlisted += 1
                return
            seen = self._changed[cell] = _Seen(pair, first=record.time, example=record.decision)
        _count(seen, record)

    def _drift(self, record: Recorded, pair: _Pair) -> None:
        if pair.was.effect == "open":
            return
        self.drifted += 1
        cell = (record.principal, record.action, record.resource, record.effect)
        seen = self._drifted.get(cell)
        if seen is None:
            if len(self._drifted) >= MAX_CHANGED_CELLS:
                return
            seen = self._drifted[cell] = _Seen(pair, first=record.time, example=record.decision, recorded=record.effect)
        _count(seen, record)

    def outcome(self) -> ReplayOutcome:
        """What came of it; the most frequent changes first."""
        found: dict[str, list[CellChange]] = {"gains": [], "loses": [], "open": [], "bound": []}
        for (principal, action, resource, _), seen in self._changed.items():
            found[seen.pair.kind].append(_told(principal, action, resource, seen))
        for rows in found.values():
            rows.sort(key=lambda row: (-row.count, row.principal, row.action, row.resource))
        drifted = [
            DriftedCell(
                principal=principal, action=action, resource=resource, recorded=recorded, today=seen.pair.was.effect, count=seen.count,
                why=_drift_words(seen), example=seen.example, first_at=UnixMillis(seen.first), last_at=UnixMillis(seen.last),
            )
            for (principal, action, resource, recorded), seen in self._drifted.items()
        ]  # fmt: skip
        drifted.sort(key=lambda row: (-row.count, row.principal, row.action, row.resource))
        return ReplayOutcome(
            records=self.records,
            same=self._counts["same"],
            gained=self._counts["gains"],
            lost=self._counts["loses"],
            opened=self._counts["open"],
            bound=self._counts["bound"],
            gains=tuple(found["gains"]),
            losses=tuple(found["loses"]),
            opens=tuple(found["open"]),
            bounds=tuple(found["bound"]),
            drifted=self.drifted,
            drifts=tuple(drifted),
            unknown_names=self.unknown_names,
            observed=self.observed,
            unlisted=self.unlisted,
            old_digest=self._old.digest,
            new_digest=self._new.digest,
        )


def kind_of(was: Verdict, now: Verdict) -> str:
    """What the difference of two verdicts means for the caller."""
    if was.effect == now.effect:
        return "bound" if was.effect == "allow" and was.obligations != now.obligations else "same"
    if "open" in (was.effect, now.effect):
        return "open"
    return "gains" if now.effect == "allow" else "loses"


def because(was: Verdict, now: Verdict) -> str:
    """Which policies make the difference, in plain words."""
    named = {name: ", ".join(f"`{one}`" for one in verdict.by) for name, verdict in (("was", was), ("now", now))}
    if "open" in (was.effect, now.effect):
        return f"it depends on facts that were not recorded: {named['now' if now.effect == 'open' else 'was']}"
    if was.effect == now.effect == "allow":
        return f"carries {', '.join(now.obligations) or 'nothing'} instead of {', '.join(was.obligations) or 'nothing'}"
    if now.effect == "allow":
        return f"no longer forbidden by {named['was']}, permitted by {named['now']}" if was.forbidden else f"permitted by {named['now']}"
    return f"forbidden by {named['now']}" if now.forbidden else f"no longer permitted by {named['was']}"


def _told(principal: str, action: str, resource: str, seen: _Seen) -> CellChange:
    was, now = seen.pair.was, seen.pair.now
    return CellChange(
        principal=principal, action=action, resource=resource, was=was.effect, now=now.effect, count=seen.count,
        first_at=UnixMillis(seen.first), last_at=UnixMillis(seen.last), example=seen.example, because=seen.pair.because,
        policies=tuple(dict.fromkeys((*was.by, *now.by) if was.forbidden or now.forbidden else (now.by or was.by))),
    )  # fmt: skip


def _drift_words(seen: _Seen) -> str:
    was = seen.pair.was
    if not was.known:
        return "the caller or the thing is not known any more"
    if was.effect == "allow":
        return f"today `{'`, `'.join(was.by)}` permits it"
    return f"today `{'`, `'.join(was.by)}` forbids it" if was.forbidden else "today no permit's evidence, groups or attributes hold"


def _count(seen: _Seen, record: Recorded) -> None:
    seen.count += 1
    seen.first, seen.last = min(seen.first, record.time), max(seen.last, record.time)


def _no_facts(record: Recorded) -> None:
    return None


def _delegated(record: Recorded) -> bool:
    return bool(record.actors) or record.on_behalf_of is not None


def _hour(record: Recorded) -> int:
    return hour_of(record.time) if record.hour is None else record.hour


def _weekday(record: Recorded) -> int:
    return weekday_of(record.time) if record.weekday is None else record.weekday


_READERS: dict[str, Callable[[Recorded], Any]] = {"delegated": _delegated, "hour": _hour, "weekday": _weekday}


def facts_reader(reads: frozenset[str], *, whole: bool = False) -> Callable[[Recorded], Any]:
    """What makes one value of the facts that are read. A fact that no record can hold is absent in all; `whole`: it counts whether a record is."""
    plain = sorted(name for name in reads if name in _ALWAYS or name in _OPTIONAL) + (["whole"] if whole else [])
    made = [_READERS[name] for name in sorted(reads) if name in _READERS]
    get: Callable[[Recorded], Any] = operator.attrgetter(*plain) if plain else _no_facts
    if not made:
        return get
    if len(made) == 1:
        only = made[0]
        return lambda record: (get(record), only(record))
    return lambda record: (get(record), *[one(record) for one in made])
