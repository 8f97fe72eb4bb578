"""What was used, generalised with care: which cells (caller, action, thing) are worth granting, to whom, and which are not (ADR 0016).

    learn(usage, world, standing, options, begin, end) -> Learned          from the hours begin to end of what was used
    unseen_share(usage, begin, end) -> float                               Good-Turing: of later requests, those in cells never seen

Rules
1. A cell that its caller used on `min_days` days or more is granted to it.
2. One that was used on fewer days is granted if peers bear it out: another caller that shares a group, or zone and kind, used the same, and together
   on more than `min_days` days. Else it is left out, and listed with why.
3. A group, or the callers of one kind in one zone, is granted what most of it used: at least `MIN_PEERS` of them and `peer_share` of all its
   members. Such grants are made from the largest share down, and only while what is granted stays within `EXCESS` times what was used by the
   group's members. So weekly and monthly work that a caller did not do in the time is granted where its peers did it, and nobody's privilege grows
   by more than that.
4. Nothing is learned from a caller that is revoked, about whom more than `risk_bound` stands, or that is not registered (any more); it is in no grant,
   also where its group is.
5. High value (labels `personal` and `secret`, keys, `export` and `release-key`, providers outside) is never granted: a person is shown it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vouchgate.policy.replay import uid_of_resource
from vouchgate.policy.usage import Cell, CellUse, Usage
from vouchgate.policy.values import Uid, Values
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import LeftOut, Standing
from vouchgate.vocabulary.vouches import UnixMillis

MIN_DAYS = 2
"""Days on which a cell must have been used; once may be an accident, or a thief."""
RISK_BOUND = 40
"""Risk above which nothing is learned from a caller; half of what stops it altogether (pack `ai-lifecycle`)."""
MIN_PEERS = 3
"""Members that must have used what their group is granted."""
PEER_SHARE = 0.75
"""Share of a group's members that must have used what it is granted."""
EXCESS = 1.15
"""Granted for each used cell, at most, within a group; below the goal of 1.2, because what is used later differs."""
HIGH_VALUE_LABELS = frozenset({"personal", "secret"})
HIGH_VALUE_ACTIONS = frozenset({"export", "release-key"})
LEARNED_GROUPS = ("use", "move")
"""Action groups whose use the log shows whole; the rest (signing, approving, administering, exchanging) is never learned."""
ALWAYS_NEW = frozenset({"import", "admit"})
"""Acts on content that was never there before: what was used says nothing about what will be."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose."""

    zone: str = ""
    """Only things of this zone."""
    min_days: int = MIN_DAYS
    risk_bound: int = RISK_BOUND
    peer_share: float = PEER_SHARE
    bounds: bool = True
    """Whether hours and networks are bounded where they are stable."""
    high_value: bool = False
    """Whether high value is granted too: a person has looked at it."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Whom a policy is for."""

    kind: str
    """`group`, `zone-kind`, `callers`."""
    name: str = ""
    """The group, or the zone."""
    of_kind: str = ""
    callers: tuple[str, ...] = ()
    """Of `callers`: all of them; else those that are excluded from the group."""


@dataclass(slots=True)
class Learned:
    """What to grant."""

    grants: dict[Subject, set[tuple[str, str]]] = field(default_factory=dict)
    """Subject -> (action, resource)"""
    cells: set[Cell] = field(default_factory=set)
    """Every cell that is granted to a caller that was seen."""
    pooled: set[Cell] = field(default_factory=set)
    """Of these, what the caller did not use itself."""
    left_out: list[LeftOut] = field(default_factory=list)
    used: int = 0
    requests: int = 0


@dataclass(slots=True)
class _Peers:
    """A group, or callers of one kind in one zone."""

    subject: Subject
    members: set[str] = field(default_factory=set)
    excluded: set[str] = field(default_factory=set)


def learn(usage: Usage, world: World, actions: Mapping[Uid, frozenset[Uid]], standing: Mapping[str, Standing], options: Options,
          begin: int, end: int) -> Learned:  # fmt: skip
    """See the module's rules."""
    found = Learned()
    sets = peers_of(world, standing, options)
    by_caller: dict[str, list[_Peers]] = {}
    for peers in sets:
        for member in peers.members:
            by_caller.setdefault(member, []).append(peers)
    users: dict[tuple[str, str], dict[str, CellUse]] = {}
    for cell, use in usage.cells.items():
        if not learnable(cell[1], actions) or (options.zone and not _in_zone(cell[2], world, options.zone)):
            continue
        requests = use.requests(begin, end)
        if not requests:
            continue
        found.used += 1
        found.requests += requests
        why = excluded(cell, world, standing, options)
        if why is not None:
            found.left_out.append(_left_out(cell, use, begin, end, *why))
            continue
        users.setdefault(cell[1:], {})[cell[0]] = use
    _pool(found, sets, users, options)
    _own(found, by_caller, users, options, begin, end)
    found.left_out.sort(key=lambda one: (one.why, -one.count, one.principal, one.action, one.resource))
    return found


def learnable(action: str, actions: Mapping[Uid, frozenset[Uid]]) -> bool:
    """Whether the log shows all use of an action."""
    above = actions.get(Uid("Action", action), frozenset())
    return action not in ALWAYS_NEW and any(Uid("Action", group) in above for group in LEARNED_GROUPS)


def _in_zone(resource: str, world: World, zone: str) -> bool:
    return Uid("Zone", zone) in world.up.get(uid_of_resource(resource), ())


def excluded(cell: Cell, world: World, standing: Mapping[str, Standing], options: Options) -> tuple[str, str] | None:
    """(why, in words) nothing is learned from a cell, or None (rules 4 and 5)."""
    principal, action, resource = cell
    thing = uid_of_resource(resource)
    if Uid("Principal", principal) not in world:
        return "not-known", "the caller is not registered"
    if thing not in world:
        return "not-known", "nothing is known of the thing"
    against = excluded_caller(standing.get(principal), options)
    if against:
        return "excluded-caller", against
    value = high_value(action, thing, world)
    return ("high-value", value) if value and not options.high_value else None


def excluded_caller(stands: Standing | None, options: Options) -> str:
    """Why nothing is learned from a caller, or nothing."""
    if stands is None:
        return ""
    if stands.revoked:
        return f"revoked: {stands.revoked}"
    return f"risk {stands.risk}: {', '.join(stands.reasons) or 'findings'}" if stands.risk > options.risk_bound else ""


def high_value(action: str, thing: Uid, world: World) -> str:
    """Why a person decides, or nothing (rule 5)."""
    attributes = world.attributes.get(thing, {})
    behind = attributes.get("endpoint")
    if isinstance(behind, Uid):
        attributes = {**world.attributes.get(behind, {}), **attributes}
    labels = attributes.get("labels", Values())
    marked = sorted(HIGH_VALUE_LABELS.intersection(labels if isinstance(labels, Values) else ()))
    if marked:
        return f"labelled {', '.join(marked)}"
    if action in HIGH_VALUE_ACTIONS:
        return f"the act `{action}`"
    if thing.type == "Key":
        return "a key"
    return "a provider outside" if attributes.get("outside") is True else ""


def _left_out(cell: Cell, use: CellUse, begin: int, end: int, why: str, detail: str) -> LeftOut:
    return LeftOut(
        principal=cell[0], action=cell[1], resource=cell[2], why=why, detail=detail, count=use.requests(begin, end),  # type: ignore[arg-type]
        days=len(use.days(begin, end)), last_at=UnixMillis(use.last),
    )  # fmt: skip


def peers_of(world: World, standing: Mapping[str, Standing], options: Options) -> list[_Peers]:
    """Every set of callers that a policy can name."""
    found: dict[Subject, _Peers] = {}
    for uid in world.entities:
        if uid.type != "Principal":
            continue
        against = bool(excluded_caller(standing.get(uid.id), options))
        for above in world.up[uid]:
            if above.type == "Group" and not above.id.startswith("role:"):
                subject = Subject("group", above.id)
            elif above.type == "Zone" and isinstance(world.attributes[uid].get("kind"), str):
                subject = Subject("zone-kind", above.id, world.attributes[uid]["kind"])
            else:
                continue
            peers = found.setdefault(subject, _Peers(subject))
            (peers.excluded if against else peers.members).add(uid.id)
    return [found[subject] for subject in sorted(found)]


def _pool(found: Learned, sets: list[_Peers], users: dict[tuple[str, str], dict[str, CellUse]], options: Options) -> None:
    """Rule 3."""
    for peers in sets:
        if len(peers.members) < MIN_PEERS:
            continue
        shares = []
        used = 0
        for pair, callers in users.items():
            by = peers.members.intersection(callers)
            used += len(by)
            if len(by) >= MIN_PEERS and len(by) >= options.peer_share * len(peers.members):
                shares.append((len(by), pair))
        granted = used
        for _, pair in sorted(shares, key=lambda one: (-one[0], one[1])):
            more = sum((member, *pair) not in found.cells for member in peers.members if member not in users[pair])
            if granted + more > EXCESS * used:
                break
            granted += more
            _grant(found, peers, pair, users[pair])


def _grant(found: Learned, peers: _Peers, pair: tuple[str, str], used_by: dict[str, CellUse]) -> None:
    new = {(member, *pair) for member in peers.members} - found.cells
    if not new:
        return
    subject = Subject(peers.subject.kind, peers.subject.name, peers.subject.of_kind, tuple(sorted(peers.excluded)))
    found.grants.setdefault(subject, set()).add(pair)
    found.cells |= new
    found.pooled |= {cell for cell in new if cell[0] not in used_by}


def _own(
    found: Learned,
    by_caller: dict[str, list[_Peers]],
    users: dict[tuple[str, str], dict[str, CellUse]],
    options: Options,
    begin: int,
    end: int,
) -> None:
    """Rules 1 and 2, for what no group was granted."""
    named: dict[tuple[str, str], set[str]] = {}
    for pair, callers in users.items():
        days = {caller: use.days(begin, end) for caller, use in callers.items()}
        for caller, use in callers.items():
            if (caller, *pair) in found.cells:
                continue
            alone = len(days[caller])
            if alone >= options.min_days or _borne_out(caller, days, by_caller.get(caller, []), options):
                named.setdefault(pair, set()).add(caller)
                found.cells.add((caller, *pair))
            else:
                detail = f"on {alone} day{'' if alone == 1 else 's'}, and no peer bears it out"
                found.left_out.append(_left_out((caller, *pair), use, begin, end, "too-few-days", detail))
    for pair, several in named.items():
        found.grants.setdefault(Subject("callers", callers=tuple(sorted(several))), set()).add(pair)


def _borne_out(caller: str, days: dict[str, frozenset[int]], sets: list[_Peers], options: Options) -> bool:
    """Rule 2."""
    for peers in sets:
        others = [other for other in days if other != caller and other in peers.members]
        if others and len(days[caller]) + sum(len(days[other]) for other in others) > options.min_days:
            return True
    return False


def unseen_share(usage: Usage, begin: int, end: int) -> float:
    """Good and Turing's estimate over requests: what stands in cells that were used on one day alone is as much as will be in cells never seen."""
    once = total = 0
    for use in usage.cells.values():
        requests = use.requests(begin, end)
        total += requests
        if requests and len(use.days(begin, end)) == 1:
            once += requests
    return once / total if total else 1.0
