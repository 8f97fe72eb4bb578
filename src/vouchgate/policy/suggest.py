"""`suggest`: least privilege from what was used, as readable Cedar, with what it would have denied later. It never puts anything in force.

    suggest(usage, world, policies, standing, options, asks=(), beside=(), now=0) -> Suggestion

Rules
1. What is granted is `learn`'s; how it reads is `suggest_text`'s. The whole text loads as any policy does (`catalog.load`), or nothing is returned.
2. Every forbid in force stays, word for word; so do permits for what the log does not show whole (signing, approving, exchanging, administering).
   Other permits are replaced, and named: those under which something was used, and those under which nothing was.
3. The time is divided: learned from the first part alone, the suggestion is held to the requests of the rest, by the text itself, compiled. The
   text that is returned is then learned from all of the time. The interval comes from resampling a caller's days, since one caller's requests
   are not independent.
4. `enough` says whether there is data enough: by Good and Turing's estimate, at most 1% of later requests fall into cells that were never seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from vouchgate.policy.catalog import BASE, load
from vouchgate.policy.compile import CompiledPolicies, CompiledPolicy, compile_policies
from vouchgate.policy.learn import LEARNED_GROUPS, Learned, Options, learn, learnable, unseen_share
from vouchgate.policy.load import MAX_SOURCE_BYTES, Source
from vouchgate.policy.privilege import Grants, privilege_of
from vouchgate.policy.recorded import HOUR_MS, Recorded
from vouchgate.policy.replay import decide_recorded, uid_of_resource
from vouchgate.policy.suggest_text import NOTHING, Basis, Written, basis_of, write
from vouchgate.policy.usage import HOURS_PER_DAY, Cell, Usage
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import Later, Privilege, Standing, Suggestion
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.vouches import UnixMillis

NAME = "suggested.cedar"
"""Under which the text is read."""
HELD_BACK = 0.25
"""Share of the time that the suggestion is held to."""
MIN_DAYS_HELD_BACK = 1
MIN_DAYS = 3
"""Days below which nothing is held back."""
ENOUGH = 0.01
"""Share of later requests in cells never seen that is borne."""
MAX_MORE_DAYS = 90
RESAMPLES = 1_000
MAX_NAMED = 8
"""Policies that the first lines name; the answer names all."""
MEANT = frozenset({"high-value", "excluded-caller"})
"""Denials that a suggestion means: a person decides, or something stands against the caller."""


def suggest(
    usage: Usage,
    world: World,
    policies: CompiledPolicies,
    standing: Mapping[str, Standing] = {},
    options: Options = Options(),
    *,
    asks: Sequence[tuple[str, str]] = (),
    beside: Sequence[tuple[str, str]] = (),
) -> Suggestion:
    """See the module's rules. `beside` is what is compiled with any policy (crossings). Raises `InvalidInput` where nothing was used."""
    if not usage.requests:
        raise InvalidInput("no allowed request was recorded in this time", remedy="observe first, or look at a longer time: --since 30d")
    if options.zone and Uid("Zone", options.zone) not in world:
        raise InvalidInput(f"there is no zone `{options.zone[:64]}`", remedy="list them: `vouchgate zones list`")
    begin, end = _hour(usage.first) // HOURS_PER_DAY * HOURS_PER_DAY, _hour(usage.last) + 1
    frame = _Frame(usage, world, policies, standing, options, beside)
    learned = learn(usage, world, policies.actions, standing, options, begin, end)
    written = frame.text(learned, begin, end)
    compiled = frame.compiled(written)
    unseen = unseen_share(usage, begin, end)
    days = max(1, (end - begin + HOURS_PER_DAY - 1) // HOURS_PER_DAY)
    permits = frame.permits()
    active = {cell[0] for cell in usage.cells}
    return Suggestion(
        text=written.text,
        policies=len(compiled.policies),
        digest=compiled.digest,
        zone=options.zone,
        requests=learned.requests,
        begins_at=UnixMillis(usage.first),
        ends_at=UnixMillis(usage.last),
        days=days,
        cells=learned.used,
        granted=len(learned.cells),
        pooled=len(learned.pooled),
        left_out=tuple(learned.left_out),
        replaces=tuple(permits["used"]),
        unused=tuple(permits["unused"]),
        kept=tuple(permits["kept"]),
        unseen=round(unseen, 4),
        enough=unseen <= ENOUGH,
        more_days=0 if unseen <= ENOUGH else min(MAX_MORE_DAYS, max(1, round(days * (unseen / ENOUGH - 1)))),
        later=_later(frame, begin, end) if days >= MIN_DAYS else None,
        now=_privilege(policies, world, active, usage, asks, options),
        then=_privilege(compiled, world, active, usage, asks, options),
    )


def _hour(time: int) -> int:
    return time // HOUR_MS


class _Frame:
    """What both parts of rule 3 share."""

    def __init__(
        self, usage: Usage, world: World, policies: CompiledPolicies, standing: Mapping[str, Standing], options: Options,
        beside: Sequence[tuple[str, str]],
    ) -> None:  # fmt: skip
        self.usage, self.world, self.policies, self.standing, self.options, self.beside = usage, world, policies, standing, options, beside
        self._beside = {name for name, _ in beside}
        self._permits: dict[str, list[str]] = {}
        self._grants = Grants(policies, world)
        self._bases = {one.id: basis_of(one) for one in self._own() if not one.forbids}

    def permits(self) -> dict[str, list[str]]:
        """Rule 2, by id."""
        if self._permits:
            return self._permits
        used = {one for cell in self.usage.cells for one in self._grants.of(*cell)[1]}
        used |= set[str]().union(*(use.by for use in self.usage.cells.values()))
        found: dict[str, list[str]] = {"kept": [], "used": [], "unused": []}
        for one in self._own():
            found["kept" if self._keeps(one) else "used" if one.id in used else "unused"].append(one.id)
        self._permits = found
        return found

    def _own(self) -> Iterable[CompiledPolicy]:
        return (one for one in self.policies.policies if one.policy.source != f"{BASE}.cedar" and one.policy.source not in self._beside)

    def _keeps(self, one: CompiledPolicy) -> bool:
        if one.forbids:
            return True
        if one.scope.actions is None:
            return False
        named = {Uid("Action", group) for group in LEARNED_GROUPS}
        return not any(action in named or learnable(action.id, self.policies.actions) for action in one.scope.actions)

    def _gives_more(self, one: CompiledPolicy) -> bool:
        """Whether a permit that is replaced gives acts beside that are never learned."""
        named = one.scope.actions
        return named is None or any(action.id == "move" or not learnable(action.id, self.policies.actions) for action in named)

    def text(self, learned: Learned, begin: int, end: int) -> Written:
        """The whole policy file."""
        days = max(1, (end - begin + HOURS_PER_DAY - 1) // HOURS_PER_DAY)
        permits = self.permits()
        head = [
            f"Least privilege, suggested from {learned.requests:,} allowed requests on {days} days. Nothing of this is in force.",
            "Read it, test it (vouchgate policy replay, vouchgate policy test), then have it approved: vouchgate policy apply.",
            f"It grants {len(learned.cells):,} cells (caller, act, thing) where {learned.used:,} were used.",
        ]
        if self.options.zone:
            head.append(f"For things of zone {self.options.zone} alone: keep the permits of other zones.")
        head += [f"It stands for the permits {_some(permits['used'])}."] if permits["used"] else []
        mixed = [one.id for one in self._own() if one.id in permits["used"] and self._gives_more(one)]
        head += [f"Beside it {_some(mixed)} gave acts that are not learned (imports, signing ...): keep those by hand."] if mixed else []
        head += [f"Nothing was used under {_some(permits['unused'])}."] if permits["unused"] else []
        made = write(
            learned, self.usage, self.world, head, self.basis, begin=begin, end=end, bounds=self.options.bounds, high=self.options.high_value,
            prefix=self._prefix(),
        )  # fmt: skip
        kept = [one.policy.text.strip() for one in self._own() if self._keeps(one)]
        if kept:
            made.text += "\n// As before.\n\n" + "\n\n".join(kept) + "\n"
        if len(made.text.encode()) > MAX_SOURCE_BYTES:
            raise LimitExceeded("the suggestion is longer than a policy file may be", remedy="suggest zone by zone: --zone NAME")
        return made

    def basis(self, cell: Cell) -> Basis:
        """The permit in force that gave a cell; where several do, one of them, so that the suggestion is never laxer."""
        permits = self._grants.of(*cell)[1]
        found = next((one for one in permits if one in self._bases), "")
        return self._bases[found] if found else NOTHING

    def _prefix(self) -> str:
        """Names that no policy that stays has."""
        wanted = f"seen-{self.options.zone}" if self.options.zone else "seen"
        taken = {one.id for one in self.policies.policies if one.policy.source == f"{BASE}.cedar" or self._keeps(one)}
        while any(name.startswith(f"{wanted}-") for name in taken):
            wanted += "-new"
        return wanted[:48]

    def compiled(self, written: Written) -> CompiledPolicies:
        """Rule 1. Raises `InvalidPolicy`."""
        return compile_policies(load([Source(NAME, written.text), *(Source(name, text) for name, text in self.beside)]))


def _some(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _later(frame: _Frame, begin: int, end: int) -> Later:
    """Rule 3."""
    usage, options = frame.usage, frame.options
    held = max(MIN_DAYS_HELD_BACK, round((end - begin) / HOURS_PER_DAY * HELD_BACK)) * HOURS_PER_DAY
    middle = (end - held) // HOURS_PER_DAY * HOURS_PER_DAY
    learned = learn(usage, frame.world, frame.policies.actions, frame.standing, options, begin, middle)
    compiled = frame.compiled(frame.text(learned, begin, middle))
    seen = {cell[0] for cell, use in usage.cells.items() if use.first < middle * HOUR_MS}
    why_not = {(one.principal, one.action, one.resource): str(one.why) for one in learned.left_out}
    clusters: dict[tuple[str, int], list[int]] = {}
    reasons: dict[str, int] = {}
    zone = Uid("Zone", options.zone)
    for cell, use in usage.cells.items():
        if not learnable(cell[1], frame.policies.actions):
            continue
        if options.zone and zone not in frame.world.up.get(uid_of_resource(cell[2]), ()):
            continue
        answers: dict[tuple[int, str], bool] = {}
        for hour, network, count in use.within(middle, end):
            place = (hour % 24, network)
            if place not in answers:
                answers[place] = _allows(compiled, frame.world, cell, hour, network)
            cluster = clusters.setdefault((cell[0], hour // HOURS_PER_DAY), [0, 0])
            cluster[0] += count
            if not answers[place]:
                cluster[1] += count
                reason = why_not.get(cell) or (
                    "new-caller"
                    if cell[0] not in seen
                    else "never-seen"
                    if cell not in learned.cells
                    else "bounds"
                    if _open(answers)
                    else "evidence"
                )
                reasons[reason] = reasons.get(reason, 0) + count
    requests, denied = (sum(one[at] for one in clusters.values()) for at in (0, 1))
    low, high = share_interval([(one[0], one[1]) for one in clusters.values()])
    return Later(
        begins_at=UnixMillis(middle * HOUR_MS), requests=requests, denied=denied, share=denied / requests if requests else 0.0, low=low,
        high=high, by_reason=dict(sorted(reasons.items())), left_to_person=sum(reasons.get(one, 0) for one in MEANT),
    )  # fmt: skip


def _open(answers: Mapping[tuple[int, str], bool]) -> bool:
    """Whether the cell is allowed at another hour or from another network."""
    return any(answers.values())


def _allows(policies: CompiledPolicies, world: World, cell: Cell, hour: int, network: str) -> bool:
    record = Recorded(time=hour * HOUR_MS, principal=cell[0], action=cell[1], resource=cell[2], source_ip=network.partition("/")[0] or None)
    return decide_recorded(policies, world, record).effect == "allow"


def share_interval(clusters: Sequence[tuple[int, int]], seed: int = 1) -> tuple[float, float]:
    """95% interval of the share over (requests, denied) of independent clusters: percentile bootstrap; where nothing was denied, three over the
    number of clusters bounds it from above."""
    total = sum(requests for requests, _ in clusters)
    if not total:
        return 0.0, 1.0
    if not any(denied for _, denied in clusters):
        return 0.0, min(1.0, 3 / len(clusters))
    chance = random.Random(seed)  # noqa: S311 -- resampling, not a secret
    some = clusters if len(clusters) <= MAX_CLUSTERS else chance.sample(clusters, MAX_CLUSTERS)
    drawn = []
    for _ in range(RESAMPLES):
        picked = chance.choices(some, k=len(some))
        drawn.append(sum(denied for _, denied in picked) / max(1, sum(requests for requests, _ in picked)))
    drawn.sort()
    return drawn[int(RESAMPLES * 0.025)], drawn[int(RESAMPLES * 0.975)]


MAX_CLUSTERS = 5_000
"""Clusters that are resampled; more make the interval no better, and cost seconds."""


def _privilege(
    policies: CompiledPolicies, world: World, active: set[str], usage: Usage, asks: Sequence[tuple[str, str]], options: Options
) -> Privilege:
    zone = Uid("Zone", options.zone)
    wanted = [pair for pair in asks if not options.zone or zone in world.up.get(uid_of_resource(pair[1]), ())]
    known = {(action, resource) for _, action, resource in usage.cells}
    pairs = [pair for pair in dict.fromkeys((*wanted, *sorted(known))) if learnable(pair[0], policies.actions)]
    if options.zone:
        pairs = [pair for pair in pairs if zone in world.up.get(uid_of_resource(pair[1]), ())]
    grants = Grants(policies, world)
    return privilege_of(grants, sorted(active), pairs, usage)
