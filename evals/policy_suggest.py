"""Least privilege suggested from traffic: how much more it grants than was used, and what of later honest work it would have denied.

1. Static roles (organisation.py) are in force and everything that members do is allowed. Four weeks are observed, `suggest` writes its Cedar text, and
   that text alone, compiled, is asked about every request of the two weeks after.
2. Members whom nobody saw in the observed weeks have a row of their own: no traffic says what they need, and they ask for it when they join.
3. granted / used, for each member: cells (action x thing) that the text may permit it, over the cells that it used in the six weeks.
4. Somebody has looked at the grants of high value; without him they are left out, and a row of its own says what that denies.
5. Null: the static roles themselves. Sabotage: learned from one day, and every caller of a zone and kind granted what any of them used.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "evals")]

from benchmarks.rows import Row, median_interval  # noqa: E402
from organisation import Ask, Organisation, benign, organisation  # noqa: E402
from policy_office import GROUPS, MONDAY, TD, Office  # noqa: E402

from vouchgate.flows.facts import compile_sources  # noqa: E402
from vouchgate.policy.compile import CompiledPolicies, Request, evaluate  # noqa: E402
from vouchgate.policy.facts import REQUEST_FACTS, action_uid, principal_uid, resource_uid  # noqa: E402
from vouchgate.policy.learn import Options  # noqa: E402
from vouchgate.policy.recorded import Recorded  # noqa: E402
from vouchgate.policy.replay import decide_recorded  # noqa: E402
from vouchgate.policy.suggest import suggest  # noqa: E402
from vouchgate.policy.usage import Usage  # noqa: E402
from vouchgate.policy.values import Uid  # noqa: E402
from vouchgate.vocabulary.names import principal, resource  # noqa: E402

SEEDS, TUNING_SEED = (201, 202), 4
OBSERVE_DAYS, LATER_DAYS = 28, 14
GOAL_RATIO, GOAL_DENIED = 1.2, 0.01
Cell = tuple[str, str, str]


@dataclass
class Held:
    """What a text was held to."""

    ratios: list[float]
    by_member: list[tuple[int, int]]
    """(denied, requests) of the later weeks, of members that were seen before."""
    newcomers: list[tuple[int, int]] = field(default_factory=list)
    """The same of members whom nobody had seen in the observed weeks: they joined later, or came back from leave."""
    excess: int = 0
    """Cells that are granted and that nobody used in the six weeks."""
    static_excess: int = 0


@dataclass(frozen=True)
class Case:
    """One organisation, and how the text is made."""

    seed: int
    size: int
    days: int = OBSERVE_DAYS
    high_value: bool = True
    how: str = "suggest"
    """`suggest`, `static`."""


def hold(case: Case) -> Held:
    """Observe, write, hold."""
    org, rng = organisation(case.seed, case.size), random.Random(f"suggest/{case.seed}")
    office = Office(org)
    seen = [_recorded(org, ask) for ask in benign(org, 0, OBSERVE_DAYS, rng)]
    later = [_recorded(org, ask) for ask in benign(org, OBSERVE_DAYS, LATER_DAYS, rng)]
    observed = [one for one in seen if one.time >= MONDAY + (OBSERVE_DAYS - case.days) * 86_400_000]
    world, roles = office.fresh.world, compile_sources([("roles.cedar", _roles(org))], version=1)
    policies = roles
    if case.how == "suggest":
        usage = Usage()
        usage.take(observed)
        text = suggest(usage, world, roles, options=Options(high_value=case.high_value)).text
        policies = compile_sources([("suggested.cedar", text)], version=2)
    asks = [(action, _thing(org, thing.name)) for thing in org.things for action in thing.actions]
    used: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for one in (*seen, *later):
        used[one.principal].add((one.action, one.resource))
    granted = {who: _granted(policies, office, who, asks) for who in used}
    denied: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for one in later:
        total[one.principal] += 1
        denied[one.principal] += decide_recorded(policies, world, one).effect != "allow"
    known = {one.principal for one in observed}
    return Held(
        ratios=[len(granted[who]) / len(used[who]) for who in sorted(used) if who in known],
        by_member=[(denied[who], total[who]) for who in sorted(total) if who in known],
        newcomers=[(denied[who], total[who]) for who in sorted(total) if who not in known],
        excess=sum(len(granted[who] - used[who]) for who in used),
        static_excess=sum(len(_granted(roles, office, who, asks) - used[who]) for who in used),
    )


def _recorded(org: Organisation, ask: Ask) -> Recorded:
    member = org.by_name[ask.who]
    return Recorded(
        time=MONDAY + ask.at * 1000,
        principal=principal(TD, member.kind, member.zone, member.name),
        action=ask.action,
        resource=_thing(org, ask.thing),
        by=tuple(f"role-{group}-{ask.action}" for group in member.groups),
        source_ip=ask.address,
    )


def _thing(org: Organisation, name: str) -> str:
    kind = next(thing.kind for thing in org.things if thing.name == name) if name not in _KINDS else _KINDS[name]
    _KINDS[name] = kind
    return resource(TD, kind, name)


_KINDS: dict[str, str] = {}


def _roles(org: Organisation) -> str:
    """Static roles as Cedar."""
    texts = []
    for group, cells in org.grants.items():
        for action in sorted({action for action, _ in cells}):
            names = [resource_uid(_thing(org, thing)) for one, thing in cells if one == action]
            kind = names[0].type
            listed = ", ".join(f'{uid.type}::"{uid.id}"' for uid in names)
            texts.append(
                f'@id("role-{group}-{action}") permit (principal in Group::"{GROUPS.get(group, group)}", action == Action::"{action}", '
                f"resource is {kind}) when {{ [{listed}].contains(resource) }};"
            )
    return "\n".join(texts)


def _granted(policies: CompiledPolicies, office: Office, who: str, asks: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    context = {"risk": 0, "authenticated": True, "credential": "x509", "delegated": False}
    caller: Uid = principal_uid(who)
    return {
        (action, name)
        for action, name in asks
        if evaluate(policies, Request(caller, action_uid(action), resource_uid(name), context), office.fresh.world, REQUEST_FACTS).effect
        != "deny"
    }


def by_members(pairs: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """95% bootstrap over members of the share denied."""
    chance = random.Random(1)
    drawn = []
    for _ in range(1_000):
        sample = chance.choices(pairs, k=len(pairs))
        drawn.append(sum(one[0] for one in sample) / max(1, sum(one[1] for one in sample)))
    drawn.sort()
    return drawn[25], drawn[975]


def rows(pool: Executor, *, quick: bool) -> list[Row]:
    """The figures of `suggest`."""
    seeds, size = ((TUNING_SEED,), 60) if quick else (SEEDS, 200)
    whole = [Case(seed, size) for seed in seeds]
    first = whole[0].seed
    others = [Case(first, size, high_value=False), Case(first, size, how="static"), Case(first, size, days=1)]
    held = list(pool.map(hold, (*whole, *others)))
    ours, (careful, static, hasty) = held[: len(whole)], held[len(whole) :]
    ratios, pairs = [one for each in ours for one in each.ratios], [one for each in ours for one in each.by_member]
    new = [one for each in ours for one in each.newcomers]
    interval, share = by_members(pairs), _share(pairs)
    spread = median_interval(ratios)
    excess, before = sum(one.excess for one in ours), sum(one.static_excess for one in ours)
    return [
        Row(name="suggest/granted over used", value=statistics.median(ratios), unit="ratio, median of members", goal=f"<= {GOAL_RATIO}",
            met=spread[1] <= GOAL_RATIO, n=len(ratios), interval=spread, note="members with traffic in the observed weeks"),
        Row(name="suggest/later honest requests denied", value=share, unit="share", goal=f"<= {GOAL_DENIED}", met=interval[1] <= GOAL_DENIED,
            n=sum(one[1] for one in pairs), interval=interval, note=f"{sum(one[0] for one in pairs)} denied; {len(new)} members never seen before stand in their own row"),
        Row(name="suggest/later honest requests of newcomers denied", value=_share(new), unit="share", n=sum(one[1] for one in new),
            note=f"{len(new)} members without a request in the observed weeks"),
        Row(name="suggest/excess privilege taken away", value=1 - excess / before, unit="share of static roles' excess cells", n=before,
            note=f"{before - excess} of {before}; the paper's figure is 0.657"),
        Row(name="suggest/later honest requests denied, high value left to a person", value=_share(careful.by_member), unit="share",
            n=sum(one[1] for one in careful.by_member), interval=by_members(careful.by_member)),
        Row(name="suggest/null: static roles, granted over used", value=statistics.median(static.ratios), unit="ratio", goal=f"> {GOAL_RATIO}",
            met=statistics.median(static.ratios) > GOAL_RATIO, n=len(static.ratios)),
        Row(name="suggest/sabotage: learned from one day, later denied", value=_share(hasty.by_member), unit="share", goal=f"> {GOAL_DENIED}",
            met=_share(hasty.by_member) > GOAL_DENIED, n=sum(one[1] for one in hasty.by_member)),
    ]  # fmt: skip


def _share(pairs: Sequence[tuple[int, int]]) -> float:
    return sum(one[0] for one in pairs) / max(1, sum(one[1] for one in pairs))
