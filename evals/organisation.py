"""An organisation at work for eight weeks, made from a seed: who may what, what they do, and what thieves do with what they stole.

Nothing here is vouchgate's: plain values, the standard library alone. The evaluation freezes this file by its digest before anything is tuned.

    organisation(seed) -> Organisation           members, resources, static grants
    benign(org, first_day, days, rng) -> Iterator[Ask]
    suspicious(org, day, each, rng) -> Iterator[Ask]

What makes it hard on purpose
1. Every suspicious request is one that the static grants permit, with a credential that verifies.
2. Honest people travel, work late, and come back from leave; services move to other hosts; devices miss a check. Their requests are labelled benign.
3. A thief knows the victim's name, groups, resources and usual rate. He differs in what the kind of his request says, and in nothing else.

Sources of the kinds: the issue's list (odd hour, new network, stale posture, purpose mismatch, risk, stolen run token).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

HOUR, DAY = 3_600, 86_400
KINDS = ("odd-hour", "new-network", "stale-posture", "purpose-mismatch", "risk", "stolen-run-token")
PURPOSES = ("research", "operations", "billing", "safety")
POSTURE_HOURS = 12
"""A device or host is checked about this often; a check counts for a day."""
TRAVEL, LATE, MISSED_CHECK, MOVED_HOST = 0.012, 0.012, 0.004, 0.004
"""Shares of honest requests (of a day, for a missed check and a moved host) that look odd."""


@dataclass(frozen=True)
class Thing:
    """What can be asked for."""

    name: str
    kind: str
    """`endpoint`, `dataset`, `model`."""
    zone: str
    actions: tuple[str, ...]
    purposes: tuple[str, ...] = ()
    personal: bool = False


@dataclass(frozen=True)
class Member:
    """Who acts. Hours are UTC."""

    name: str
    kind: str
    zone: str
    groups: tuple[str, ...]
    networks: tuple[str, ...]
    """First three bytes of its addresses."""
    hours: tuple[int, ...]
    works_weekends: bool
    rate: float
    """Requests a working hour."""
    needs: tuple[tuple[str, str], ...]
    """(action, thing) that its work takes, the most frequent first."""
    rare: tuple[tuple[str, str, int, int], ...] = ()
    """(action, thing, every so many days, first day): a weekly report, a monthly check, and what a new task takes from some day on."""
    purpose: str = ""
    joined_day: int = 0


@dataclass(frozen=True)
class Ask:
    """One request as it happened."""

    at: int
    """Seconds since the organisation's first day, 00:00 UTC, a Monday."""
    who: str
    action: str
    thing: str
    address: str
    purpose: str = ""
    """Of the run that it is made under; empty for none."""
    run: str = ""
    """`own` (going on, declared), or for thieves `ended`, `undeclared`, `other-stage`, `elsewhere`."""
    posture_age: int = 0
    """Seconds since the device or host was last checked."""
    risk: int = 0
    credential_age: int = 0
    label: str = "benign"
    """`benign`, or one of KINDS."""
    honest_oddity: str = ""
    """What an honest request has that is out of its usual: `travel`, `late`, `missed-check`, `moved-host`."""


@dataclass(frozen=True)
class Organisation:
    """Members, things, and what static roles grant."""

    seed: int
    members: tuple[Member, ...]
    things: tuple[Thing, ...]
    grants: dict[str, tuple[tuple[str, str], ...]]
    """Group -> (action, thing) that it may."""
    by_name: dict[str, Member] = field(default_factory=dict, compare=False)

    def may(self, who: str, action: str, thing: str) -> bool:
        """What static role-based access control says."""
        return any((action, thing) in self.grants[group] for group in self.by_name[who].groups)


def organisation(seed: int, size: int = 300) -> Organisation:
    """Members of seven kinds over the lifecycle's zones; every grant is a group's."""
    rng = random.Random(f"organisation/{seed}")
    things = _things(rng)
    grants = _grants(things)
    members = tuple(_member(rng, number, things, grants) for number in range(size))
    return Organisation(seed, members, things, grants, {member.name: member for member in members})


def _things(rng: random.Random) -> tuple[Thing, ...]:
    made = [
        Thing(f"model-{number}", "endpoint", "serve", ("infer", "chat", "describe"), tuple(sorted(rng.sample(PURPOSES, 2))))
        for number in range(24)
    ]
    made += [
        Thing(f"raw-{number}", "dataset", "ingest", ("ingest", "read", "transform"), (rng.choice(PURPOSES),), number % 3 == 0)
        for number in range(12)
    ]
    made += [
        Thing(
            f"set-{number}",
            "dataset",
            "prepare",
            ("read", "label", "train", "evaluate"),
            tuple(sorted(rng.sample(PURPOSES, 2))),
            number % 4 == 0,
        )
        for number in range(20)
    ]
    made += [
        Thing(f"candidate-{number}", "model", "register", ("evaluate", "promote", "deploy", "export"), PURPOSES) for number in range(16)
    ]
    return tuple(made)


_ROLES = {
    "analysts": ("person", "serve", (("infer", "chat", "describe"), "endpoint")),
    "applications": ("service", "serve", (("infer", "describe"), "endpoint")),
    "ingesters": ("job", "ingest", (("ingest", "read", "transform"), "dataset")),
    "labellers": ("person", "prepare", (("read", "label"), "dataset")),
    "trainers": ("job", "train", (("read", "train"), "dataset")),
    "evaluators": ("job", "evaluate", (("evaluate",), "model")),
    "releasers": ("person", "register", (("promote", "deploy"), "model")),
}
"""Group -> kind, zone, what it may do with which kind of thing."""
_SHARES = (0.34, 0.2, 0.08, 0.1, 0.14, 0.08, 0.06)


def _grants(things: tuple[Thing, ...]) -> dict[str, tuple[tuple[str, str], ...]]:
    made = {}
    for group, (_, zone, (actions, kind)) in _ROLES.items():
        zones = {"ingest": ("ingest",), "train": ("prepare",), "evaluate": ("register",)}.get(zone, (zone,))
        made[group] = tuple(
            (action, thing.name)
            for thing in things
            if thing.kind == kind and thing.zone in zones
            for action in actions
            if action in thing.actions
        )
    return made


def _member(rng: random.Random, number: int, things: tuple[Thing, ...], grants: dict[str, tuple[tuple[str, str], ...]]) -> Member:
    group = rng.choices(tuple(_ROLES), _SHARES)[0]
    kind, zone, _ = _ROLES[group]
    by_name = {thing.name: thing for thing in things}
    served = sorted({purpose for _, thing in grants[group] for purpose in by_name[thing].purposes})
    purpose = rng.choice(served) if kind == "job" else ""
    fitting = [one for one in grants[group] if not purpose or purpose in by_name[one[1]].purposes]
    needs = rng.sample(fitting, min(len(fitting), rng.randint(2, 9)))
    others = [one for one in fitting if one not in needs]
    rare = [(*one, rng.choice((7, 7, 14, 28)), rng.randrange(7)) for one in rng.sample(others, min(len(others), rng.randint(0, 2)))]
    if others and rng.random() < 0.05:
        rare.append((*rng.choice(others), 1, rng.randrange(29, 50)))
    site = rng.randrange(1, 40)
    networks = tuple(f"10.{site}.{rng.randrange(256)}" for _ in range(rng.choice((1, 1, 2))))
    return Member(
        name=f"{group.rstrip('s')}-{number}",
        kind=kind,
        zone=zone,
        groups=(group,),
        networks=networks,
        hours=_hours(rng, kind),
        works_weekends=kind != "person" or rng.random() < 0.1,
        rate={"person": 3.0, "service": 4.0, "job": 3.0}[kind] * rng.uniform(0.4, 1.6),
        needs=tuple(needs),
        rare=tuple(rare),
        purpose=purpose,
        joined_day=rng.choice((0, 0, 0, 0, 0, 0, 7, 14, 21, 40)),
    )


def _hours(rng: random.Random, kind: str) -> tuple[int, ...]:
    if kind == "person":
        begin = rng.choice((5, 6, 7, 8, 9, 13))
        return tuple((begin + hour) % 24 for hour in range(rng.choice((8, 9, 10))))
    if kind == "job":
        begin = rng.choice((0, 1, 2, 20, 22, 10))
        return tuple((begin + hour) % 24 for hour in range(rng.choice((3, 4, 6))))
    return tuple(range(24)) if rng.random() < 0.7 else tuple(range(6, 22))


def benign(org: Organisation, first_day: int, days: int, rng: random.Random) -> Iterator[Ask]:
    """Honest work, in order of time."""
    for day in range(first_day, first_day + days):
        asks = [ask for member in org.members if day >= member.joined_day for ask in _day(org, member, day, rng)]
        yield from sorted(asks, key=lambda ask: ask.at)


def _day(org: Organisation, member: Member, day: int, rng: random.Random) -> Iterator[Ask]:
    if day % 7 >= 5 and not member.works_weekends:
        return
    on_leave = random.Random(f"leave/{org.seed}/{member.name}/{day // 7}").random() < (0.06 if member.kind == "person" else 0.0)
    if on_leave:
        return
    moved = rng.random() < MOVED_HOST and member.kind != "person"
    missed = rng.random() < MISSED_CHECK
    for hour in member.hours:
        for _ in range(_poisson(rng, member.rate)):
            yield _honest(member, day * DAY + hour * HOUR + rng.randrange(HOUR), moved=moved, missed=missed, rng=rng)

    for action, thing, every, first in member.rare:
        if day >= first and (day - first) % every == 0:
            at = day * DAY + rng.choice(member.hours) * HOUR + rng.randrange(HOUR)
            yield _with(_honest(member, at, moved=moved, missed=missed, rng=rng), action=action, thing=thing)


def _honest(member: Member, at: int, *, moved: bool, missed: bool, rng: random.Random) -> Ask:
    odd, network = "", rng.choice(member.networks)
    if member.kind == "person" and rng.random() < TRAVEL:
        odd, network = "travel", f"172.{rng.randrange(16, 32)}.{rng.randrange(256)}"
    elif moved:
        odd, network = "moved-host", f"10.{rng.randrange(1, 40)}.{rng.randrange(256)}"
    if member.kind == "person" and not odd and rng.random() < LATE:
        odd, at = "late", at - at % DAY + ((member.hours[-1] + rng.choice((1, 2, 3))) % 24) * HOUR + rng.randrange(HOUR)
    posture = rng.randrange(POSTURE_HOURS * HOUR)
    if missed:
        odd, posture = odd or "missed-check", DAY + rng.randrange(DAY)
    action, thing = _pick(member, rng)
    return Ask(
        at=at,
        who=member.name,
        action=action,
        thing=thing,
        address=f"{network}.{rng.randrange(1, 255)}",
        purpose=member.purpose,
        run="own" if member.purpose else "",
        posture_age=posture,
        risk=min(39, int(rng.expovariate(1 / 4))),
        credential_age=rng.randrange(HOUR),
        honest_oddity=odd,
    )


def suspicious(org: Organisation, day: int, each: int, rng: random.Random) -> Iterator[Ask]:
    """`each` requests of every kind, with an honest member's stolen credential; all of them permitted by static roles."""
    for kind in KINDS:
        made = 0
        for _ in range(each * 200):
            if made == each:
                break
            member = rng.choice(org.members)
            ask = _theft(org, member, kind, day, rng) if day - member.joined_day >= 14 else None
            if ask is not None and org.may(ask.who, ask.action, ask.thing):
                made += 1
                yield ask


def _theft(org: Organisation, member: Member, kind: str, day: int, rng: random.Random) -> Ask | None:
    at = day * DAY + rng.choice(member.hours) * HOUR + rng.randrange(HOUR)
    base = _honest(member, at, moved=False, missed=False, rng=random.Random(rng.random()))
    if base.honest_oddity:
        return None
    changed = _CHANGES[kind](org, member, base, rng)
    return None if changed is None else _with(base, label=kind, **changed)


def _odd_hour(org: Organisation, member: Member, base: Ask, rng: random.Random) -> dict[str, object] | None:
    far = [hour for hour in range(24) if all(min((hour - own) % 24, (own - hour) % 24) >= 4 for own in member.hours)]
    if not far:
        return None
    return {"at": base.at - base.at % DAY + rng.choice(far) * HOUR + rng.randrange(HOUR)}


def _new_network(org: Organisation, member: Member, base: Ask, rng: random.Random) -> dict[str, object] | None:
    place = rng.choice(
        (f"{rng.randrange(11, 120)}.{rng.randrange(256)}.{rng.randrange(256)}", f"10.{rng.randrange(40, 250)}.{rng.randrange(256)}")
    )
    return {"address": f"{place}.{rng.randrange(1, 255)}"}


def _stale_posture(org: Organisation, member: Member, base: Ask, rng: random.Random) -> dict[str, object] | None:
    return {"posture_age": rng.randrange(DAY + 1, 30 * DAY)}


def _purpose_mismatch(org: Organisation, member: Member, base: Ask, rng: random.Random) -> dict[str, object] | None:
    """A job's run, begun for its purpose, asks for a thing that is there for others; its role would let it."""
    if not member.purpose:
        return None
    others = [
        (action, thing.name) for thing in org.things if member.purpose not in thing.purposes for action in thing.actions
        if org.may(member.name, action, thing.name)
    ]  # fmt: skip
    if not others:
        return None
    action, thing = rng.choice(others)
    return {"action": action, "thing": thing}


def _risk(org: Organisation, member: Member, base: Ask, rng: random.Random) -> dict[str, object] | None:
    return {"risk": rng.randrange(60, 101)}


def _stolen_run(org: Organisation, member: Member, base: Ask, rng: random.Random) -> dict[str, object] | None:
    if not member.purpose:
        return None
    how = rng.choice(("ended", "undeclared", "other-stage", "elsewhere"))
    made: dict[str, object] = {"run": how}
    if how == "elsewhere":
        made["address"] = f"10.{rng.randrange(40, 250)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    return made


_CHANGES = {
    "odd-hour": _odd_hour,
    "new-network": _new_network,
    "stale-posture": _stale_posture,
    "purpose-mismatch": _purpose_mismatch,
    "risk": _risk,
    "stolen-run-token": _stolen_run,
}


def _pick(member: Member, rng: random.Random) -> tuple[str, str]:
    """The n-th need is asked for 1/n as often as the first."""
    return rng.choices(member.needs, [1 / (place + 1) for place in range(len(member.needs))])[0]


def _with(ask: Ask, **changed: object) -> Ask:
    return Ask(**{**{name: getattr(ask, name) for name in Ask.__dataclass_fields__}, **changed})  # type: ignore[arg-type]


def _poisson(rng: random.Random, mean: float) -> int:
    """Knuth's; means here are below 10."""
    limit, product, count = 2.718281828459045**-mean, rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
