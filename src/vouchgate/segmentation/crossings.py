"""Crossings as Cedar: from what is declared to pass between zones, the policies that forbid the rest.

    render(crossings, zones) -> str      one source, empty where no crossing is declared: zones then hold nobody

Rules
1. Whoever is in a zone uses and moves what lies in that zone; in another, what a crossing of his zone covers: its target, action, kind, and
   every vouch that it asks for. So one crossing more never forbids, and one fewer never permits.
2. One policy a source zone, found by the caller's zone: however many zones there are, a request meets one of them. A set that would be larger
   than Cedar's bounds is divided by kind, then by action; each part holds for its kind or action alone.
3. A thing that lies in several zones is where the caller may reach it best. A thing that lies nowhere is reached by nobody.
4. Content that comes in (`ingest`, `import`, `admit` of an artifact) lies nowhere yet, and whoever brings it has it: `context.target`, where it
   is to lie, counts instead. A name is placed before anything is done with it, so rule 1 holds for it.
5. What is taken elsewhere (`promote`, `export`, `deploy`) needs a `context.target`, and a crossing from where it lies to there that covers it;
   beside the mover's own right to act on it (rule 1). What is done through an endpoint stays where the endpoint is.
6. A caller in a zone that is not declared reaches nothing, vouchgate's own processes (kind `system`) excepted. Administering and approving
   pass no zone.
7. A vouch that is asked of an endpoint may be its model's.
Left to others: whether a policy permits at all (these only forbid), validating settings (vocabulary/settings_zones.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vouchgate.vocabulary.crossing_words import ALONE, ENTERING, GROUPS, KINDS, LEAVING, POLICIES, expanded, kinds_of
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.places import Crossing

MAX_ID = 64
"""Characters of a policy's name (policy/load.py)."""
MAX_WEIGHT = 180
"""Operators of one generated policy's condition, counted with room to spare: the loader's bound is 256."""
MAX_BYTES = 60_000
"""Of one generated policy; the loader's bound is 64 KiB."""
MAX_DECLARED = 1_900
"""Zones of one set; the loader's bound on commas is 2,000."""
TYPES = {
    "endpoint": ("Endpoint",), "tool": ("Tool",), "dataset": ("Dataset",), "model": ("Model",), "adapter": ("Adapter",),
    "artifact": ("Artifact",), "key": ("Key", "System"),
}  # fmt: skip
"""Kind -> entity types."""
ELSEWHERE, MOVE = f"{POLICIES}elsewhere", f"{POLICIES}move"
FROM, ENTER = f"{POLICIES}from-", f"{POLICIES}enter-"
_ZONE = re.compile(r"[a-z0-9._-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Clause:
    """Crossings of one source that differ in their targets alone."""

    targets: tuple[str, ...]
    actions: tuple[str, ...]
    kinds: tuple[str, ...]
    vouches: tuple[str, ...]


def render(crossings: Sequence[Crossing], zones: Iterable[str]) -> str:
    """The policies. Raises `InvalidInput` where a name is none, or where a zone has more crossings than policies can hold."""
    if not crossings:
        return ""
    declared = sorted({*zones, *(one.source for one in crossings)})
    for name in {*declared, *(one.target for one in crossings)}:
        if not _ZONE.match(name):
            raise InvalidInput(f"`{name[:64]!a}` is not a zone", remedy="use lower-case letters, digits, `.`, `_` and `-`")
    if len(declared) > MAX_DECLARED:
        raise InvalidInput(f"there are {len(declared)} zones, the bound is {MAX_DECLARED}", remedy="use fewer zones, or two trust domains")
    of: dict[str, list[Crossing]] = {zone: [] for zone in declared}
    for one in crossings:
        of[one.source].append(one)
    entering = {zone: found for zone in declared if (found := _content(clauses(of[zone], only=ENTERING)))}
    policies = [_elsewhere(declared), _enter_own(sorted(entering))]
    for zone in declared:
        policies += _from(zone, clauses(of[zone]))
        policies += _enter(zone, entering[zone]) if zone in entering else []
    policies += _move(crossings)
    return _HEAD + "\n\n".join(policies) + "\n"


def clauses(crossings: Iterable[Crossing], only: Sequence[str] = ()) -> list[Clause]:
    """Crossings of one source, those with equal words joined, sorted. `only`: narrowed to these actions."""
    found: dict[tuple[tuple[str, ...], ...], set[str]] = {}
    for one in crossings:
        actions = tuple(sorted(expanded(one.actions) & set(only))) if only else tuple(sorted(one.actions))
        kinds = tuple(sorted(kind for kind in one.kinds if any(kind in kinds_of(action) for action in expanded(actions))))
        if actions and kinds:
            found.setdefault((actions, kinds, tuple(sorted(one.vouches))), set()).add(one.target)
    return [Clause(tuple(sorted(targets)), *words) for words, targets in sorted(found.items())]


_HEAD = """// Generated from [[crossings]] and the zones: what passes between zones, and nothing else. These policies only forbid.

"""
_GUARDED = ("use", "move", *ALONE)
_CONTENT = "resource is Artifact"
_WRITTEN = "resource is Endpoint"
"""What is written through an endpoint goes where the endpoint is (rule 1)."""


def _elsewhere(declared: Sequence[str]) -> str:
    """Rule 6."""
    names = ", ".join(_text(zone) for zone in declared)
    body = f'principal.kind == "system" || [{names}].contains(principal.zone)'
    return _forbid(ELSEWHERE, "principal", _GUARDED, "resource", body, "Whoever is in a zone that is not declared reaches nothing.")


def _content(found: Sequence[Clause]) -> list[Clause]:
    """Of these, what lets artifacts pass; the policy's head says that they are."""
    return [Clause(one.targets, one.actions, (), one.vouches) for one in found if "artifact" in one.kinds]


def _enter_own(others: Sequence[str]) -> str:
    """Rule 4, for every zone whose crossings let nothing enter another."""
    body = ["context has target && context.target == principal.zone", 'principal.kind == "system"']
    body += [f"[{', '.join(map(_text, others))}].contains(principal.zone)"] if others else []
    return _forbid(f"{POLICIES}enter", "principal", ENTERING, _CONTENT, _joined(body), "What is brought in comes to lie in its own zone.")


def _from(zone: str, found: Sequence[Clause]) -> list[str]:
    """Rule 1. What enters is left to `_enter`."""
    told = f"Zone {zone} reaches what lies in it, and what its crossings cover."
    first = [f"resource in {_zone(zone)}", f"resource is Artifact && action in {_actions(ENTERING)}"]
    return _divided(FROM, zone, _GUARDED, first, found, told)


def _enter(zone: str, found: Sequence[Clause]) -> list[str]:
    """Rule 4."""
    told = f"What zone {zone} brings in comes to lie in it, or where its crossings let it."
    alternatives = [f"context has target && context.target == {_text(zone)}", *(_clause(one, by_target=True) for one in found)]
    if sum(map(_operators, alternatives)) > MAX_WEIGHT + 60:
        raise InvalidInput(f"more crossings let content enter from `{zone}` than a policy can name", remedy="join zones")
    who = f"principal in {_zone(zone)}"
    return [_forbid(_id(ENTER, zone), who, ENTERING, _CONTENT, _joined(alternatives), told)]


def _divided(
    prefix: str,
    zone: str,
    actions: Sequence[str],
    first: list[str],
    found: Sequence[Clause],
    told: str,
) -> list[str]:
    """Rule 2: one policy, or one a kind, or one a kind and action."""
    who = f"principal in {_zone(zone)}"
    if _weight(found) <= MAX_WEIGHT:
        body = _joined([*first, *(_clause(one) for one in found)])
        return [_forbid(_id(prefix, zone), who, actions, "resource", body, told)]
    made = []
    for kind in (one for one in KINDS if any(one in kinds_of(action) for action in expanded(actions))):
        part = [Clause(one.targets, one.actions, (kind,), one.vouches) for one in found if kind in one.kinds]
        for number, type_ in enumerate(TYPES[kind]):
            name = _id(f"{prefix}{kind}{number or ''}.", zone)
            if _weight(part) <= MAX_WEIGHT:
                body = _joined([*first, *(_clause(one) for one in part)])
                made.append(_forbid(name, who, actions, f"resource is {type_}", body, told))
            else:
                single = sorted(action for action in expanded(actions) if kind in kinds_of(action))
                made += _by_action(name, who, (actions, single), f"resource is {type_}", first, part, told)
    made += [
        _forbid(_id(f"{prefix}{type_.lower()}.", zone), who, actions, f"resource is {type_}", _joined(first), told) for type_ in ("Run",)
        if actions is _GUARDED
    ]  # fmt: skip
    return made


def _by_action(
    name: str,
    who: str,
    actions: tuple[Sequence[str], Sequence[str]],
    what: str,
    first: list[str],
    found: Sequence[Clause],
    told: str,
) -> list[str]:
    """A zone, a kind and an action each; a targets list longer than a policy holds is refused."""
    every, single = actions
    made = []
    for action in single:
        part: dict[tuple[str, ...], set[str]] = {}
        for one in found:
            if action in expanded(one.actions):
                part.setdefault(one.vouches, set()).update(one.targets)
        own = [Clause(tuple(sorted(targets)), (action,), found[0].kinds, vouches) for vouches, targets in sorted(part.items())]
        if _weight(own) > MAX_WEIGHT:
            raise InvalidInput(
                f"`{action}` crosses from one zone into more zones than a policy can name", remedy="join zones, or ask for the same vouches"
            )
        body = _joined([*first, *(_clause(one) for one in own)])
        made.append(_forbid(_short(f"{name}.{action}"), who, (action,), what, body, told))
    # a later action of the schema is in none of these: it stays within the zone
    rest = [f"action in {_actions(single)}", *first]
    return [*made, _forbid(_short(f"{name}.rest"), who, every, what, _joined(rest), told)]


def _move(crossings: Sequence[Crossing]) -> list[str]:
    """Rule 5."""
    told = "What is taken into another zone crosses from where it lies."
    pairs: dict[str, list[str]] = {}
    for source in sorted({one.source for one in crossings}):
        for one in clauses((each for each in crossings if each.source == source), only=LEAVING):
            for action in one.actions:
                whole = Clause(one.targets, (action,), tuple(kind for kind in one.kinds if kind != "endpoint"), one.vouches)
                if whole.kinds:
                    pairs.setdefault(action, []).append(f"resource in {_zone(source)} && {_clause(whole, by_target=True, leaving=True)}")
    made = []
    for action in LEAVING:
        for number, body in enumerate(_packed([_WRITTEN], pairs.get(action, []))):
            if number:
                raise InvalidInput(f"more crossings let `{action}` pass than a policy can name", remedy="join zones")
            made.append(_forbid(f"{MOVE}-{action}", "principal", (action,), "resource", body, told))
    return made


def _packed(first: list[str], alternatives: list[str]) -> list[str]:
    """As many as a policy holds; more are refused by who asks."""
    weight = sum(_operators(one) for one in alternatives)
    body = _joined([*first, *alternatives])
    return [body] if weight <= MAX_WEIGHT + 60 and len(body) <= MAX_BYTES else [body, ""]


def _clause(one: Clause, *, by_target: bool = False, leaving: bool = False) -> str:
    parts = []
    if by_target:
        targets = [f"context.target == {_text(one.targets[0])}"] if len(one.targets) == 1 else []
        parts += [] if leaving else [f"action in {_actions(one.actions)}"]
        parts += ["context has target", *(targets or [f"[{', '.join(map(_text, one.targets))}].contains(context.target)"])]
    else:
        where = _zone(one.targets[0]) if len(one.targets) == 1 else f"[{', '.join(map(_zone, one.targets))}]"
        parts += [f"resource in {where}", f"action in {_actions(one.actions)}"]
    types = [type_ for kind in one.kinds for type_ in TYPES[kind]]
    if types:
        parts.append(_any(f"resource is {type_}" for type_ in types))
    if one.vouches:
        parts.append(_vouched(one.vouches, endpoints="endpoint" in one.kinds))
    return " && ".join(parts)


def _vouched(vouches: Sequence[str], *, endpoints: bool) -> str:
    """Rule 7."""
    wanted = f"[{', '.join(map(_text, vouches))}]"
    if not endpoints:
        return f"resource.vouches.containsAll({wanted})"
    alternatives = []
    for text in map(_text, vouches):
        model = f"resource is Endpoint && resource has model && resource.model.vouches.contains({text})"
        alternatives.append(f"(resource.vouches.contains({text}) || ({model}))")
    return " && ".join(alternatives)


def _forbid(name: str, who: str, actions: Sequence[str], what: str, body: str, told: str) -> str:
    made = f"// {told}\n@id({_text(name)})\nforbid ({who}, action in {_actions(actions)}, {what})\nunless {{\n  {body}\n}};"
    if len(made) > MAX_BYTES:
        raise InvalidInput("a generated policy would be larger than policies may be", remedy="use fewer or shorter names of zones")
    return made


def _joined(alternatives: Sequence[str]) -> str:
    return " ||\n  ".join(f"({one})" if "&&" in one else one for one in alternatives)


def _any(parts: Iterable[str]) -> str:
    found = list(parts)
    return found[0] if len(found) == 1 else f"({' || '.join(found)})"


def _weight(found: Sequence[Clause]) -> int:
    return 12 + sum(_operators(_clause(one)) + 1 for one in found)


_OPERATOR = re.compile(r"&&|\|\||::|[.+*\-@]|[<>=!]=?|\b(?:has|in|is|like)\b")


def _operators(text: str) -> int:
    return len(_OPERATOR.findall(re.sub(r'"[^"]*"', '""', text)))


def _actions(names: Iterable[str]) -> str:
    found = list(names)
    return f"Action::{_text(found[0])}" if len(found) == 1 else f"[{', '.join(f'Action::{_text(name)}' for name in found)}]"


def _zone(name: str) -> str:
    return f"Zone::{_text(name)}"


def _text(text: str) -> str:
    return f'"{text}"'


def _id(prefix: str, zone: str) -> str:
    return _short(prefix + zone)


def _short(name: str) -> str:
    """A policy's name has at most 64 characters; a longer one ends with what tells it from its like."""
    if len(name) <= MAX_ID:
        return name
    return f"{name[: MAX_ID - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


__all__ = ["ELSEWHERE", "ENTER", "FROM", "GROUPS", "MOVE", "Clause", "clauses", "render"]
