"""What is odd in a policy's own words: habits that are valid and yet are seldom meant. Everything here is a warning.

    lints(policies) -> list[PolicyFinding]           in the order of the set
    follows(policies, pack) -> bool                  whether a set was made from a pack, so that what it lacks of it is worth saying
    unlike_pack(policies, pack) -> list              forbids of that pack that are gone

Findings
1. `any-action`, `any-resource`: a permit that names none, and whose condition does not read the resource either.
2. `administers`: a permit of administration, approval or waivers outside the base policy, whose roles those are.
3. `weak-tier`, `any-vouch`: evidence that anybody can declare, and one vouch of several where all were meant.
4. `odd-zone`: an action in a stage of the lifecycle where it has no place.
5. `near-name`, `unknown-role`: a group, zone or vouch that is written once and almost like another; a role that the base policy does not have.
6. `no-ceiling`: policies that permit use or movement without one forbid on the risk.
7. `missing-forbid`: what a set that follows a pack has lost of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from cedarpy import pst

from vouchgate.policy.catalog import BASE
from vouchgate.policy.compile import named_in, scope_of
from vouchgate.policy.hazards import PolicyFinding, finding
from vouchgate.policy.load import Policy, PolicySet, Source, read_source
from vouchgate.policy.terms import NotCompiled
from vouchgate.policy.unknowns import children
from vouchgate.policy.values import Uid
from vouchgate.vocabulary.crossing_words import SOURCE
from vouchgate.vocabulary.vouches import TIERS

HIGH_RISK = 80
"""Risk from which serious findings stand against a caller; nothing that uses or moves anything should still be permitted."""
SHORT_NAME = 6
"""Characters from which two letters behind the first are a slip; below it, one."""
WEAK = frozenset(TIERS[TIERS.index("cooperative") :])
"""Tiers that rest on the word of whoever is vouched for."""
STAGES = frozenset({"ingest", "prepare", "train", "evaluate", "register", "serve", "agents"})
"""Zones whose meaning is known; those of the user's own are not judged."""
PLACES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("infer", "chat", "embed", "call-tool"), frozenset({"serve", "agents"})),
    **dict.fromkeys(("promote",), frozenset({"register"})),
    "train": frozenset({"prepare", "train"}),
    "label": frozenset({"ingest", "prepare"}),
    "ingest": frozenset({"ingest", "prepare"}),
}
"""Action -> stages where it has a place."""
MIN_WHOLE = 4
"""Permits of use from which policies are taken for the whole of an installation's, and should have a ceiling of risk."""
GROUPS_OF_USE = (Uid("Action", "use"), Uid("Action", "move"))
OFFICES = frozenset({"approve", "waive"})


def _own(policies: PolicySet) -> list[Policy]:
    return [one for one in policies.policies if one.source not in (f"{BASE}.cedar", SOURCE) and one.tree is not None]


def nodes(policy: Policy) -> Iterator[Any]:
    """Every expression of a policy's clauses."""
    pending = [clause.expr for clause in policy.tree.clauses] if policy.tree is not None else []
    while pending:
        one = pending.pop()
        yield one
        pending.extend(children(one))


def lints(policies: PolicySet) -> list[PolicyFinding]:
    """All of them."""
    found: list[PolicyFinding] = []
    own = _own(policies)
    for policy in own:
        if policy.effect == "permit":
            found += [*_wide(policy, policies), *_offices(policy, policies), *_evidence(policy), *_place(policy)]
    return [*found, *_names(own, policies), *_vouch_names(own), *_ceiling(own, policies)]


def _wide(policy: Policy, policies: PolicySet) -> Iterator[PolicyFinding]:
    assert policy.tree is not None
    if isinstance(policy.tree.action, pst.ScopeAny):
        yield finding(
            policy, "any-action", "it permits every action, those of later versions too", "name the actions in its head", "warning"
        )
    reads = any(isinstance(node, pst.Var) and node.name == "resource" for node in nodes(policy))
    if isinstance(policy.tree.resource, pst.ScopeAny) and not reads and _uses(policy, policies):
        fix = 'name a kind, a zone or a thing: `resource is Endpoint in Zone::"serve"`'
        yield finding(policy, "any-resource", "it permits its actions on everything", fix, "warning")


def _actions(policy: Policy, policies: PolicySet) -> frozenset[Uid]:
    """Actions that it is about."""
    try:
        scope = scope_of(policy.tree)
    except NotCompiled:
        return frozenset()
    if scope.actions is None:
        return frozenset(policies.actions)
    return frozenset(
        one for one, above in policies.actions.items() if not (frozenset((one,)) if scope.action_exact else above).isdisjoint(scope.actions)
    )


def _uses(policy: Policy, policies: PolicySet) -> bool:
    return any(not policies.actions[one].isdisjoint(GROUPS_OF_USE) for one in _actions(policy, policies))


def _offices(policy: Policy, policies: PolicySet) -> Iterator[PolicyFinding]:
    found = sorted(one.id for one in _actions(policy, policies) if one.id in OFFICES or one.id.startswith("administer"))
    if found:
        text = f"it hands out `{found[0]}`{' and others' if len(found) > 1 else ''}, which the base policy's roles have"
        yield finding(policy, "administers", text, "put people into the role's group instead: `role:responder` ...", "warning")


def _evidence(policy: Policy) -> Iterator[PolicyFinding]:
    for node in nodes(policy):
        match node:
            case pst.BinaryOp(op="contains" | "contains_all" | "contains_any" as op, left=pst.GetAttr(attr="vouches")):
                texts = _vouches(node)
                weak = [text for text in texts if text == "serves" or text.partition("@")[2] in WEAK]
                if weak:
                    fix = f"ask for a tier that was checked: `{weak[0].partition('@')[0]}@rederived`"
                    yield finding(policy, "weak-tier", f"`{weak[0]}` is there on somebody's mere word", fix, "warning")
                if op == "contains_any" and len(texts) > 1:
                    text = f"one of {len(texts)} vouches is enough for it"
                    yield finding(policy, "any-vouch", text, "write `containsAll` if each is needed", "warning")


def _place(policy: Policy) -> Iterator[PolicyFinding]:
    named = [one for one in named_in(policy.json) if one.type == "Zone" and one.id in STAGES]
    actions = [one.id for one in named_in(policy.json) if one.type == "Action" and one.id in PLACES]
    for action in sorted(actions):
        odd = sorted(zone.id for zone in named if zone.id not in PLACES[action])
        if odd and len(odd) == len(named):
            text = f"`{action}` has no place in the zone `{odd[0]}`"
            yield finding(policy, "odd-zone", text, f"name one of {', '.join(sorted(PLACES[action]))}, or a zone of your own", "warning")
            return


def _names(own: Sequence[Policy], policies: PolicySet) -> Iterator[PolicyFinding]:
    used = Counter(one for policy in own for one in named_in(policy.json) if one.type in ("Group", "Zone"))
    base = {one for policy in policies.policies if policy.source == f"{BASE}.cedar" for one in named_in(policy.json) if one.type == "Group"}
    for policy in own:
        for one in sorted(named_in(policy.json)):
            if one.type == "Group" and one.id.startswith("role:") and one not in base:
                roles = ", ".join(sorted(role.id for role in base if role.id.startswith("role:")))
                yield finding(policy, "unknown-role", f"the base policy has no role `{one.id}`", f"use one of {roles}", "warning")
            elif one.type in ("Group", "Zone") and used[one] == 1:
                others = [other.id for other in {*used, *base} if other.type == one.type and other != one]
                near = [other for other in sorted(others) if slip(one.id, other)]
                if near:
                    text = f"the {one.type.lower()} `{one.id}` is named here alone, and almost like `{near[0]}`"
                    yield finding(policy, "near-name", text, f"write `{near[0]}` if that was meant", "warning")


def _vouch_names(own: Sequence[Policy]) -> Iterator[PolicyFinding]:
    """A predicate that one policy alone names: whoever misspells it in a permit denies, and in a forbid lets through."""
    named = {policy.id: {text.partition("@")[0] for node in nodes(policy) for text in _vouches(node)} for policy in own}
    used = Counter(word for words in named.values() for word in words)
    for policy in own:
        for word in sorted(words for words in named[policy.id] if used[words] == 1):
            near = [other for other in sorted(used) if other != word and used[other] > 1 and slip(word, other)]
            if near:
                text = f"the vouch `{word}` is named here alone, and almost like `{near[0]}`"
                yield finding(policy, "near-name", text, f"write `{near[0]}` if that was meant", "warning")


def _vouches(node: Any) -> list[str]:
    """The words of `vouches.contains...`."""
    match node:
        case pst.BinaryOp(op="contains" | "contains_all" | "contains_any", left=pst.GetAttr(attr="vouches"), right=right):
            return [one.value for one in (right.elements if isinstance(right, pst.Set) else (right,)) if isinstance(one, pst.StringLit)]
    return []


def slip(one: str, other: str) -> bool:
    """Whether one name is the other with a letter or two changed; `team-1` and `team-2` are two names."""
    if one == other or re.sub(r"[0-9]", "", one) == re.sub(r"[0-9]", "", other):
        return False
    bound = 2 if min(len(one), len(other)) >= SHORT_NAME and one[0] == other[0] else 1
    if abs(len(one) - len(other)) > bound:
        return False
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        above, row = row, [number]
        for place, beside in enumerate(other, 1):
            row.append(min(above[place] + 1, row[-1] + 1, above[place - 1] + (letter != beside)))
    return row[-1] <= bound


def _ceiling(own: Sequence[Policy], policies: PolicySet) -> Iterator[PolicyFinding]:
    permits = [policy for policy in own if policy.effect == "permit" and _uses(policy, policies)]
    bounds = [
        policy
        for policy in own
        if policy.effect == "forbid" and _uses(policy, policies) and any(_is_ceiling(node) for node in nodes(policy))
    ]
    if len(permits) >= MIN_WHOLE and not bounds:
        text = "no forbid stops a caller about whom serious findings stand, whatever permits say"
        fix = '@id("risk-ceiling") forbid (principal, action in [Action::"use", Action::"move"], resource) when { context.risk >= 80 };'
        yield finding(permits[0], "no-ceiling", text, fix, "warning")


def _is_ceiling(node: Any) -> bool:
    match node:
        case pst.BinaryOp(op="greater_eq", left=pst.GetAttr(attr="risk"), right=pst.LongLit(value=bound)):
            return bool(bound <= HIGH_RISK)
    return False


def follows(policies: PolicySet, pack: Source) -> bool:
    """Whether at least half of a pack's policies are there by name."""
    here = {one.id for one in policies.policies}
    names = [one.id for one in read_source(pack)]
    return 2 * sum(name in here for name in names) >= len(names)


def unlike_pack(policies: PolicySet, pack: Source) -> list[PolicyFinding]:
    """Finding 7, of a set that follows it."""
    here = {one.id for one in policies.policies}
    return [
        PolicyFinding(
            "missing-forbid", "warning", one.id, pack.name, one.line,
            f"the pack forbids by `{one.id}`, which these policies do not have",
            f"take it over from {pack.name}, line {one.line}",
        )
        for one in read_source(pack)
        if one.effect == "forbid" and one.id not in here
    ]  # fmt: skip
