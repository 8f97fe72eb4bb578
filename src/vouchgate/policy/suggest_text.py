"""A suggestion as Cedar that a person reads: few policies, each with who used it and how often, and nothing that the World does not hold today.

    write(learned, usage, world, head, ...) -> Written

Rules
1. What a permit in force gives is narrowed, never replaced: its conditions stay word for word, its groups and zones as conditions beside the
   narrower head. So nothing is suggested that the policy in force would not allow. Where nothing in force allowed it (a zone that observed), the
   evidence that its things hold now is asked for, at the tier that it has.
2. Names are written out. A whole zone is named only where every thing of that kind in it is granted, at least `MIN_ZONE_THINGS`, and never what is of
   high value: the comment says that what is placed there later is in it.
3. Hours and networks are bounded only where they were stable: found in the first part of the time, and no request outside in the rest of it, which
   has at least `MIN_STABLE_REQUESTS`; then at most 0.5% of later requests are outside, with 95% confidence (three over n).
4. Texts of others (names, reasons) stand in strings and comments only where they cannot end them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from vouchgate.policy.compile import CompiledPolicy
from vouchgate.policy.learn import HIGH_VALUE_LABELS, Learned, Subject, high_value
from vouchgate.policy.replay import uid_of_resource
from vouchgate.policy.usage import HOURS_PER_DAY, Cell, CellUse, Usage
from vouchgate.policy.values import Uid, Values
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import LeftOut

RISK_CEILING = 60
"""Risk at which what is suggested ends, as in the pack `ai-lifecycle`."""
MIN_ZONE_THINGS = 3
MIN_STABLE_REQUESTS = 600
"""Requests without one outside a bound: three over 600 is 0.5%."""
MIN_STABLE_DAYS = 5
"""Days that the bound is found on, and days that it is held to."""
MAX_HOURS = 14
"""A window of more hours is no bound."""
MAX_NETWORKS = 4
MAX_NAMES = 50
"""Names in one policy; a person reads no more."""
MAX_COMMENTED = 200
"""Lines about what was left out; the answer has all of it."""
_TOKEN = re.compile(r'//[^\r\n]*|"(?:\\.|[^"\\])*"|[()]|\w+|[^\w()"/]+|/', re.DOTALL)
STABLE_PART = 0.5
"""Part of the time in which a bound is found; it is held to the rest."""


@dataclass(slots=True)
class Written:
    """Policies as text."""

    text: str
    ids: list[str] = field(default_factory=list)
    bounds: dict[str, str] = field(default_factory=dict)
    """Policy -> its bounds, in words."""


@dataclass(frozen=True, slots=True, order=True)
class Basis:
    """The permit in force that a suggestion narrows (rule 1)."""

    id: str
    scope: tuple[str, ...]
    """Its head, as conditions."""
    clauses: str
    """Its `when` and `unless`, word for word."""


NOTHING = Basis("", (), "")


@dataclass(frozen=True, slots=True)
class _Block:
    subject: Subject
    basis: Basis
    actions: tuple[str, ...]
    kind: str
    zone: str
    clause: tuple[str, ...]
    things: tuple[str, ...]


def quoted(text: str) -> str:
    """A Cedar string (rule 4)."""
    plain = (one if one.isprintable() else f"\\u{{{ord(one):x}}}" for one in text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{"".join(plain)}"'


def comment(text: str) -> str:
    """Text that stays in its line (rule 4)."""
    return "".join(one if one.isprintable() else "?" for one in text)[:240]


def write(
    learned: Learned,
    usage: Usage,
    world: World,
    head: Iterable[str],
    basis: Callable[[Cell], Basis],
    *,
    begin: int,
    end: int,
    bounds: bool,
    high: bool,
    prefix: str = "seen",
) -> Written:
    """All policies, in a stable order."""
    made = Written("")
    by_thing: dict[str, list[tuple[str, str, CellUse]]] = {}
    for (caller, action, thing), use in usage.cells.items():
        by_thing.setdefault(thing, []).append((caller, action, use))
    parts = ["\n".join(f"// {comment(line)}".rstrip() for line in head)]
    for number, block in enumerate(sorted(_blocks(learned, usage, world, basis, high), key=_order), 1):
        name = f"{prefix}-{number:03d}"
        made.ids.append(name)
        uses = _uses(block, by_thing)
        limits, words = bounds_of(uses, begin, end) if bounds else ((), "")
        if words:
            made.bounds[name] = words
        parts.append(_policy(name, block, uses, limits, words, begin, end))
    parts += _not_granted(learned.left_out)
    made.text = "\n\n".join(part for part in parts if part) + "\n"
    return made


def _order(block: _Block) -> tuple[object, ...]:
    return (block.zone, block.kind, block.subject.kind != "group", block.subject, block.basis, block.actions, block.things)


def _blocks(learned: Learned, usage: Usage, world: World, basis: Callable[[Cell], Basis], high: bool) -> Iterable[_Block]:
    """Grants of one subject joined to rectangles: things that are used for the same actions, on the same ground, and lie in one zone."""
    for (subject, ground), pairs in _grounded(learned, usage, basis).items():
        actions: dict[str, set[str]] = {}
        for action, thing in pairs:
            actions.setdefault(thing, set()).add(action)
        joined: dict[tuple[tuple[str, ...], str, str, tuple[str, ...]], list[str]] = {}
        for thing, several in actions.items():
            uid = uid_of_resource(thing)
            zones = sorted(above.id for above in world.up.get(uid, ()) if above.type == "Zone" and above != uid)
            clause = () if ground.id else (*_evidence(uid, world), f"context.risk < {RISK_CEILING}")
            joined.setdefault((tuple(sorted(several)), uid.type, zones[0] if zones else "", clause), []).append(thing)
        for (several_actions, kind, zone, clause), things in joined.items():
            whole = _whole_zone(kind, zone, things, world, high)
            for some in [()] if whole else [tuple(sorted(things)[at : at + MAX_NAMES]) for at in range(0, len(things), MAX_NAMES)]:
                for few in _few(subject):
                    yield _Block(few, ground, several_actions, kind, zone, clause, some)


def _grounded(learned: Learned, usage: Usage, basis: Callable[[Cell], Basis]) -> dict[tuple[Subject, Basis], set[tuple[str, str]]]:
    """Each grant by the permits in force on whose ground its callers used it."""
    users: dict[tuple[str, str], list[str]] = {}
    for caller, action, thing in usage.cells:
        users.setdefault((action, thing), []).append(caller)
    found: dict[tuple[Subject, Basis], set[tuple[str, str]]] = {}
    for subject, pairs in learned.grants.items():
        for pair in pairs:
            grounds: dict[Basis, list[str]] = {}
            named = set(subject.callers) if subject.kind == "callers" else None
            for caller in users[pair]:
                cell = (caller, *pair)
                if cell in learned.cells and (named is None or caller in named):
                    grounds.setdefault(basis(cell), []).append(caller)
            for ground, callers in grounds.items():
                who = subject if named is None else Subject("callers", callers=tuple(sorted(callers)))
                found.setdefault((who, ground), set()).add(pair)
    return found


def basis_of(permit: CompiledPolicy) -> Basis:
    """A permit as the ground of narrower ones."""
    scope = permit.scope
    conditions = []
    for side, named, exact, kind in (
        ("principal", scope.principal, scope.principal_exact, scope.principal_type),
        ("resource", scope.resource, scope.resource_exact, scope.resource_type),
    ):
        if kind:
            conditions.append(f"{side} is {kind}")
        if named is not None:
            conditions.append(f"{side} {'==' if exact else 'in'} {named.type}::{quoted(named.id)}")
    return Basis(permit.id, tuple(conditions), clauses_of(permit.policy.text))


def clauses_of(text: str) -> str:
    """What stands between the head of a policy and its last `;`."""
    depth, begun, last = 0, False, [match[0] for match in _TOKEN.finditer(text.rstrip().removesuffix(";").rstrip())][-1:]
    # what follows must not stand in the comment
    ended = "\n" if last and last[0].startswith("//") else ""
    for match in _TOKEN.finditer(text):
        part = match[0]
        if part == "(":
            depth += 1
        elif part == ")":
            depth -= 1
        begun = begun or (part in ("permit", "forbid") and depth == 0)
        if begun and part == ")" and depth == 0:
            return text[match.end() :].rstrip().removesuffix(";").strip() + ended
    return ""


def _few(subject: Subject) -> Iterable[Subject]:
    if subject.kind != "callers":
        return (subject,)
    return [Subject("callers", callers=subject.callers[at : at + MAX_NAMES]) for at in range(0, len(subject.callers), MAX_NAMES)]


def _whole_zone(kind: str, zone: str, things: list[str], world: World, high: bool) -> bool:
    """Rule 2."""
    if not zone or high or kind != "Endpoint" or len(things) < MIN_ZONE_THINGS:
        return False
    there = {uid.id for uid in world.entities if uid.type == kind and Uid("Zone", zone) in world.up[uid]}
    return {one for one in there if not high_value("", Uid(kind, one), world)} == set(things)


def _evidence(uid: Uid, world: World) -> tuple[str, ...]:
    """What a thing holds now, as conditions (rule 1)."""
    attributes = world.attributes.get(uid, {})
    found = []
    model = attributes.get("model")
    if isinstance(model, Uid):
        held = _held(model, world, ("scan", "structure"))
        if held:
            found += ["resource has model", f"resource.model.vouches.containsAll([{', '.join(quoted(one) for one in held)}])"]
        for tier in ("serves@verified", "serves@rederived", "serves@cooperative", "serves"):
            if _held(uid, world, (tier,)):
                found.append(f"resource.vouches.contains({quoted(tier)})")
                break
    elif uid.type in ("Artifact", "Dataset", "Model", "Adapter"):
        held = _held(uid, world, ("import", "scan", "structure"))
        if held:
            found.append(f"resource.vouches.containsAll([{', '.join(quoted(one) for one in held)}])")
    return tuple(found)


def _held(uid: Uid, world: World, wanted: tuple[str, ...]) -> list[str]:
    vouches = world.attributes.get(uid, {}).get("vouches", Values())
    return [one for one in wanted if one in vouches]


def _policy(name: str, block: _Block, uses: Mapping[str, list[CellUse]], limits: tuple[str, ...], words: str, begin: int, end: int) -> str:
    callers = len(uses)
    requests = sum(use.requests(begin, end) for several in uses.values() for use in several)
    days = len(frozenset[int]().union(*(use.days(begin, end) for several in uses.values() for use in several)))
    told = f"{callers} caller{'' if callers == 1 else 's'}, {requests:,} request{'' if requests == 1 else 's'} on {days} day{'' if days == 1 else 's'}"
    notes = [f"// Seen: {told}." + (f" {words}" if words else "")]
    if not block.things:
        notes.append(f"// All of zone `{comment(block.zone)}` was used; what is placed there later is in it too.")
    if block.subject.kind != "callers":
        notes.append("// For the whole group: most of it used this.")
    head, conditions = _head(block.subject)
    actions = ", ".join(f"Action::{quoted(one)}" for one in block.actions)
    action = f"action == {actions}" if len(block.actions) == 1 else f"action in [{actions}]"
    resource, more = _resource(block)
    when = [*conditions, *more, *_beyond(block, head, resource), *block.clause, *limits]
    unless = ""
    if block.subject.kind != "callers" and block.subject.callers:
        names = ", ".join(f"Principal::{quoted(one)}" for one in block.subject.callers)
        unless = f"\nunless {{ principal in [{names}] }}"
    joined = " &&\n  ".join(when)
    narrowed = f"\nwhen {{\n  {joined}\n}}" if when else ""
    kept = f"\n{block.basis.clauses}" if block.basis.clauses else ""
    if block.basis.id:
        notes.append(f"// Narrower than `{comment(block.basis.id)}`, whose conditions it keeps.")
    head_text = f"@id({quoted(name)})\n@reason({quoted('seen: ' + told)})\npermit (\n  {head},\n  {action},\n  {resource}\n)"
    return "\n".join(notes) + f"\n{head_text}{narrowed}{kept}{unless};"


def _beyond(block: _Block, head: str, resource: str) -> list[str]:
    """What the permit's head asks for and the narrower one does not say."""
    return [one for one in block.basis.scope if one not in (head, resource)]


def _head(subject: Subject) -> tuple[str, list[str]]:
    if subject.kind == "group":
        return f"principal in Group::{quoted(subject.name)}", []
    if subject.kind == "zone-kind":
        return f"principal is Principal in Zone::{quoted(subject.name)}", [f"principal.kind == {quoted(subject.of_kind)}"]
    if len(subject.callers) == 1:
        return f"principal == Principal::{quoted(subject.callers[0])}", []
    names = ",\n    ".join(f"Principal::{quoted(one)}" for one in subject.callers)
    return "principal", [f"principal in [\n    {names}\n  ]"]


def _resource(block: _Block) -> tuple[str, list[str]]:
    scope = f"resource is {block.kind}" + (f" in Zone::{quoted(block.zone)}" if block.zone else "")
    if not block.things:
        labels = ", ".join(quoted(one) for one in sorted(HIGH_VALUE_LABELS))
        return scope, [f"!resource.outside && !resource.labels.containsAny([{labels}])"]
    if len(block.things) == 1:
        return f"resource == {block.kind}::{quoted(block.things[0])}", []
    names = ",\n    ".join(f"{block.kind}::{quoted(one)}" for one in block.things)
    return scope, [f"resource in [\n    {names}\n  ]"]


def _uses(block: _Block, by_thing: Mapping[str, list[tuple[str, str, CellUse]]]) -> dict[str, list[CellUse]]:
    """Use of the block by the callers that were seen."""
    found: dict[str, list[CellUse]] = {}
    only = set(block.subject.callers) if block.subject.kind == "callers" else None
    for thing in block.things or by_thing:
        for caller, action, use in by_thing.get(thing, ()):
            if action in block.actions and (only is None or caller in only):
                found.setdefault(caller, []).append(use)
    return found


# -- bounds of hours and networks (rule 3)


def bounds_of(uses: Mapping[str, list[CellUse]], begin: int, end: int) -> tuple[tuple[str, ...], str]:
    """Conditions, and the same in words."""
    middle = begin + int((end - begin) * STABLE_PART)
    before = [one for several in uses.values() for use in several for one in use.within(begin, middle)]
    after = [one for several in uses.values() for use in several for one in use.within(middle, end)]
    if sum(count for _, _, count in after) < MIN_STABLE_REQUESTS:
        return (), ""
    if min(len({hour // HOURS_PER_DAY for hour, _, _ in part}) for part in (before, after)) < MIN_STABLE_DAYS:
        return (), ""
    limits, words = [], []
    window = window_of({hour % 24 for hour, _, _ in before})
    if window is not None and all(inside(hour % 24, window) for hour, _, _ in after):
        first, last = window
        joined = "&&" if first <= last else "||"
        limits.append(f"context has hour && (context.hour >= {first} {joined} context.hour <= {last})")
        words.append(f"Only from {first}:00 to {last}:59 UTC, so each request is asked.")
    networks = sorted({network for _, network, _ in before})
    if "" not in networks and len(networks) <= MAX_NETWORKS and {network for _, network, _ in after} <= set(networks):
        ranges = " || ".join(f"context.source_ip.isInRange(ip({quoted(one)}))" for one in networks)
        limits.append(f"context has source_ip && ({ranges})")
        words.append(f"Only from {', '.join(networks)}, so each request is asked.")
    return tuple(limits), " ".join(words)


def window_of(hours: set[int]) -> tuple[int, int] | None:
    """The shortest run of hours of the day that holds these, with one more on each side; None where that is no bound."""
    if not hours:
        return None
    ordered = sorted(hours)
    gaps = [((ordered[(at + 1) % len(ordered)] - hour - 1) % 24, at) for at, hour in enumerate(ordered)]
    gap, at = max(gaps)
    if len(ordered) == 1:
        gap = 23
    first, last = ordered[(at + 1) % len(ordered)], ordered[at]
    if 24 - gap + 2 > MAX_HOURS:
        return None
    return (first - 1) % 24, (last + 1) % 24


def inside(hour: int, window: tuple[int, int]) -> bool:
    """Whether an hour of the day lies in a window that may pass midnight."""
    first, last = window
    return first <= hour <= last if first <= last else hour >= first or hour <= last


# -- what is not granted


def _not_granted(left_out: list[LeftOut]) -> Iterable[str]:
    told = {
        "high-value": "For a person to decide: of high value, and so not granted. Take the line over where it is right.",
        "too-few-days": "Not granted: seen on too few days.",
        "excluded-caller": "Not granted: something stands against the caller, and nothing is learned from it.",
        "not-known": "Not granted: not known any more.",
    }
    for why, words in told.items():
        rows = [one for one in left_out if one.why == why]
        if not rows:
            continue
        lines = [f"// {words}"]
        for number, one in enumerate(rows[:MAX_COMMENTED], 1):
            days = f"{one.days} day{'' if one.days == 1 else 's'}"
            lines.append(
                f"//   {comment(one.principal)} {comment(one.action)} {comment(one.resource)}: {comment(one.detail)} ({one.count} requests, {days})"
            )
            if why == "high-value":
                lines.append(f"//     {_ready(number, one)}")
        if len(rows) > MAX_COMMENTED:
            lines.append(f"//   and {len(rows) - MAX_COMMENTED} more")
        yield "\n".join(lines)


def _ready(number: int, one: LeftOut) -> str:
    """The line that a person may take over."""
    uid = uid_of_resource(one.resource)
    caller, action, thing = quoted(one.principal), quoted(one.action), quoted(uid.id)
    return (
        f'@id("by-hand-{number:03d}") permit (principal == Principal::{caller}, action == Action::{action}, resource == {uid.type}::{thing}) '
        f"when {{ context.risk < {RISK_CEILING} }};"
    )
