"""What can be proved of single policies: which never count, which permit more than a policy of their kind should, and what a change loosens.

    examine(policies, against, clock, seconds) -> Examined

Findings (warnings, each with a request that shows it where there is one)
1. `never-matches`: no request to which the schema applies its action satisfies it.
2. `shadowed`: a permit of which every request is stopped by forbids, or permitted by other permits; a forbid of which every request is
   forbidden by others. Of several that are the same, the later ones.
3. What a permit asks too little for, on the actions that matter (`LEAST`): `asks-for-nothing`, `asks-for-no-vouch`, `no-risk-bound`, `any-caller`,
   `outside-unlabelled`. Only its own condition counts: a forbid elsewhere that happens to stop it today may be changed by somebody else.
4. `grants-more`: what is allowed now and is not in force; `removes-forbid`, `narrows-forbid`, `owes-less`: a forbid in force that is gone, forbids
   less, or can be met by less.

Of base and generated policies nothing is said but 4. A bound that is reached is told in `unproved`; then no finding means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vouchgate.policy.catalog import BASE
from vouchgate.policy.compile import CompiledPolicies, CompiledPolicy, Request, evaluate
from vouchgate.policy.lints import HIGH_RISK
from vouchgate.policy.load import Policy
from vouchgate.policy.obligations import EVERY, meetable, obligations_of, strictest
from vouchgate.policy.prove import Clock, Goal, Search, answer, any_of, both_of, grants_nothing_new, look_for, not_of
from vouchgate.policy.smt_environments import Environment
from vouchgate.policy.telling import Replayed
from vouchgate.policy.unknowns import TRUE
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import CheckFinding
from vouchgate.vocabulary.crossing_words import SOURCE

if TYPE_CHECKING:
    from vouchgate.policy.smt import Problem

VOUCHED: frozenset[str] = frozenset({"infer", "chat", "embed", "import", "admit", "promote", "export", "deploy", "release-key"})
"""Actions of which a permit should ask for evidence on what is used or moved."""
SENT: frozenset[str] = frozenset({"infer", "chat", "embed", "call-tool"})
"""Actions that send data to whatever answers."""
BOUNDED: tuple[str, ...] = ("use", "move")
"""Groups of actions of which a permit should bound the risk; `release-key` and `sign` beside them."""
ALONE: frozenset[str] = frozenset({"release-key", "sign"})
LATER = "look at it with `vouchgate policy prove --never`"


@dataclass
class Examined:
    """See the module."""

    findings: tuple[CheckFinding, ...] = ()
    unproved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Least:
    """What a permit should ask for at least: it is found out by a request that has none of it."""

    kind: str
    actions: Callable[[CompiledPolicies, str], bool]
    without: Callable[[Problem], Any]
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class Against:
    """What is compared with what."""

    old: CompiledPolicies
    new: CompiledPolicies
    name: str
    """What the old ones are, for people."""


def examine(policies: CompiledPolicies, *, against: Against | None, clock: Clock, seconds: float) -> Examined:
    """All findings within the time. Raises `Unsupported`, `LimitExceeded`."""
    return _Examination(policies, clock, clock() + seconds).run(against)


def own(policy: Policy) -> bool:
    """Whether a person wrote it."""
    return policy.source not in (f"{BASE}.cedar", SOURCE)


@dataclass
class _Examination:
    policies: CompiledPolicies
    clock: Clock
    end: float
    found: list[CheckFinding] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)

    def run(self, against: Against | None) -> Examined:
        if against is not None:
            self._against(against)
        gone: set[str] = set()
        mine = [one for one in self.policies.policies if own(one.policy)]
        for number, one in enumerate(reversed(mine)):
            if self.clock() >= self.end:
                self.unproved.append(f"the bound of time was reached with {len(mine) - number} of {len(mine)} policies not looked at")
                break
            if not self._counts(one, gone) and (self._never(one) or self._shadowed(one, gone)):
                gone.add(one.id)
            elif not one.forbids:
                self._least(one)
        order = {policy.id: number for number, policy in enumerate(self.policies.policies)}
        self.found.sort(key=lambda finding: order.get(finding.policy, -1))
        return Examined(tuple(self.found), tuple(dict.fromkeys(self.unproved)))

    def _say(self, one: CompiledPolicy, kind: str, text: str, fix: str, example: str = "") -> None:
        policy = one.policy
        self.found.append(
            CheckFinding(
                kind=kind,
                severity="warning",
                policy=policy.id,
                file=policy.source,
                line=policy.line,
                text=text,
                remedy=fix,
                example=example,
            )
        )

    def _look(
        self, one: CompiledPolicy, meant: Callable[[Problem], Any], shows: Callable[[Request, World], bool], *, fitting: bool = True
    ) -> Search:
        def replay(request: Request, world: World) -> Replayed | None:
            return Replayed((one.id,), (), (), (self.policies,)) if shows(request, world) else None

        def only(environment: Environment) -> bool:
            if fitting and not environment.fits:
                return False
            scope = one.scope
            above = {environment.action} if scope.action_exact else self.policies.actions[environment.action]
            return scope.actions is None or not above.isdisjoint(scope.actions)

        left = max(0.0, self.end - self.clock())
        return look_for(Goal((self.policies,), meant, replay), self.clock, left, only=only)

    def _holds(self, one: CompiledPolicy) -> Callable[[Request, World], bool]:
        def holds(request: Request, world: World) -> bool:
            evaluation = evaluate(self.policies, request, world)
            return any(policy is one and mask == TRUE for policy, mask in zip(evaluation.in_scope, evaluation.masks, strict=True))

        return holds

    def _nothing(self, search: Search, one: CompiledPolicy) -> bool:
        """Whether it was proved that there is no such request."""
        if search.found is None and search.why:
            self.unproved.append(f"{one.policy.where}: {search.why[0]}")
        return search.found is None and not search.why

    def _never(self, one: CompiledPolicy) -> bool:
        search = self._look(one, lambda problem: problem.applies(one).satisfied, self._holds(one))
        if not self._nothing(search, one):
            return False
        fix = "correct its condition or what its head names, or remove it"
        self._say(one, "never-matches", "no request can satisfy it: its condition contradicts itself, its head, or what facts can be", fix)
        return True

    def _others(self, one: CompiledPolicy, gone: set[str]) -> tuple[list[CompiledPolicy], list[CompiledPolicy]]:
        """Forbids that stop a permit, and policies of the same effect."""
        others = [other for other in self.policies.policies if other is not one and other.id not in gone]
        stops = [other for other in others if other.forbids and not one.forbids and not meetable(other, EVERY)]
        return stops, [other for other in others if other.forbids == one.forbids and meetable(other, EVERY) == meetable(one, EVERY)]

    def _counts(self, one: CompiledPolicy, gone: set[str]) -> bool:
        """Whether some request shows at once that it neither never matches nor is shadowed: of most policies that is all there is to ask."""
        stops, alike = self._others(one, gone)
        return self._beyond(one, [*stops, *([] if meetable(one, EVERY) else alike)]).found is not None

    def _shadowed(self, one: CompiledPolicy, gone: set[str]) -> bool:
        if meetable(one, EVERY):
            return False
        stops, alike = self._others(one, gone)
        if not one.forbids and self._within(one, stops, "is never reached: forbids stop all that it permits"):
            return True
        return self._within(one, alike, "adds nothing: other policies cover all that it says")

    def _within(self, one: CompiledPolicy, others: list[CompiledPolicy], text: str) -> bool:
        if not self._nothing(self._beyond(one, others), one):
            return False
        self._say(one, "shadowed", f"it {text}", "remove it, or narrow the others")
        return True

    def _beyond(self, one: CompiledPolicy, others: list[CompiledPolicy]) -> Search:
        """A request that satisfies it and none of the others."""
        covering = set(others)

        def meant(problem: Problem) -> Any:
            here = problem.applies(one).satisfied
            return False if here is False else both_of(here, not_of(any_of(*(problem.applies(other).satisfied for other in others))))

        def shows(request: Request, world: World) -> bool:
            evaluation = evaluate(self.policies, request, world)
            held = {policy for policy, mask in zip(evaluation.in_scope, evaluation.masks, strict=True) if mask == TRUE}
            return one in held and held.isdisjoint(covering)

        return self._look(one, meant, shows)

    def _least(self, one: CompiledPolicy) -> None:
        missing: dict[str, str] = {}
        for least in LEAST:
            if not any(least.actions(self.policies, action) for action in self._actions(one)):
                continue

            def meant(problem: Problem, least: Least = least) -> Any:
                if not least.actions(self.policies, problem.environment.action.id):
                    return False
                return both_of(problem.applies(one).satisfied, least.without(problem))

            search = self._look(one, meant, self._holds(one))
            if search.found is not None:
                shown = answer(search, "", "is allowed:", self.clock).counterexample
                missing[least.kind] = shown.sentence if shown else ""
            else:
                self._nothing(search, one)
        if {"asks-for-no-vouch", "no-risk-bound"} <= set(missing):
            example = missing.pop("asks-for-no-vouch")
            del missing["no-risk-bound"]
            text, fix = "it asks for no vouch and bounds no risk", "ask for what must be vouched for, and add `context.risk < 60`"
            self._say(one, "asks-for-nothing", text, fix, example)
        for least in LEAST:
            if least.kind in missing:
                self._say(one, least.kind, least.text, least.fix, missing[least.kind])

    def _actions(self, one: CompiledPolicy) -> Iterator[str]:
        for action, above in self.policies.actions.items():
            in_scope = one.scope.actions is None or not (frozenset((action,)) if one.scope.action_exact else above).isdisjoint(
                one.scope.actions
            )
            if in_scope:
                yield action.id

    def _against(self, against: Against) -> None:
        """Finding 4."""
        ids = {one.id for one in self.policies.policies}
        for one in against.old.policies:
            if one.forbids and one.id not in ids and own(one.policy):
                text = f"{against.name} forbids by `{one.id}`, which is not in these"
                fix = f"keep it: {' '.join(one.policy.text.split())[:160]}"
                self.found.append(CheckFinding(kind="removes-forbid", severity="warning", policy=one.id, text=text, remedy=fix))
        for one in against.old.policies:
            self._owes_less(one, against)
            self._narrower(one, against)
        old, new = ({(one.id, one.policy.text.strip()) for one in policies.policies} for policies in (against.old, against.new))
        if old == new:
            return
        proof = grants_nothing_new(against.old, against.new, clock=self.clock, seconds=max(0.1, (self.end - self.clock()) / 2))
        if proof.counterexample is not None:
            shown = proof.counterexample
            cause = against.new.source.policy(shown.permitted_by[0])
            finding = CheckFinding(
                kind="grants-more", severity="warning", policy=shown.permitted_by[0], file=cause.source if cause else "",
                line=cause.line if cause else 0, text=f"it allows what {against.name} does not",
                remedy="take it back, or say why: `--reason` of `vouchgate policy apply`", example=shown.sentence,
            )  # fmt: skip
            self.found.append(finding)
        elif proof.verdict == "unknown":
            self.unproved.append(f"whether it allows more than {against.name}: {proof.why[0]}")

    def _owes_less(self, one: CompiledPolicy, against: Against) -> None:
        """A forbid of the same name that can be met where it could not, or by less."""
        other = next((other for other in against.new.policies if other.id == one.id and other.forbids), None)
        if other is None or not one.forbids:
            return
        was, now = obligations_of(one), obligations_of(other)
        if now and (not was or strictest((*was, *now)) != strictest(now)):
            asked = "could not be met" if not was else "asked for " + ", ".join(f"{each.kind}={each.value}" for each in was)
            self._say(other, "owes-less", f"the forbid of this name in {against.name} {asked}", "take it back, or say why")

    def _narrower(self, one: CompiledPolicy, against: Against) -> None:
        """A forbid of the same name that forbids less, whether or not a permit makes use of it today."""
        other = next(
            (other for other in against.new.policies if other.id == one.id and other.policy.text.strip() != one.policy.text.strip()), None
        )
        if other is None or not one.forbids or self.clock() >= self.end:
            return

        def meant(problem: Problem) -> Any:
            here = problem.applies(one).satisfied
            return False if here is False else both_of(here, not_of(problem.applies(other).satisfied if other.forbids else False))

        def replay(request: Request, world: World) -> Replayed | None:
            was, now = (_satisfied(policies, request, world) for policies in (against.old, against.new))
            return (
                Replayed((one.id,), (), (), (against.old, against.new)) if one.id in was and not (other.forbids and one.id in now) else None
            )

        search = look_for(Goal((against.old, against.new), meant, replay), self.clock, max(0.1, (self.end - self.clock()) / 2))
        if search.found is not None:
            shown = answer(search, "", "", self.clock).counterexample
            example = shown.sentence.replace("; permitted by", "; forbidden by") if shown else ""
            self._say(other, "narrows-forbid", f"it forbids less than the policy of this name in {against.name}", "take it back", example)
        elif search.why:
            self.unproved.append(f"{other.policy.where}: whether it forbids less than before: {search.why[0]}")


def _satisfied(policies: CompiledPolicies, request: Request, world: World) -> set[str]:
    evaluation = evaluate(policies, request, world)
    return {policy.id for policy, mask in zip(evaluation.in_scope, evaluation.masks, strict=True) if mask == TRUE}


# -- requests that have nothing


def _unvouched(problem: Problem) -> Any:
    """Nothing is vouched for: not of the resource, not of what it stands for, not of the caller. Of a provider outside nobody vouches for what it
    serves; what a permit should ask for there is `_outside`."""
    parts: list[Any] = []
    if "outside" in problem.shape.entities[problem.resource.type].attributes:
        parts.append(not_of(problem.entities.read(problem.resource, "outside").term))
    for kind, entities in problem.entities.ground.items():
        attributes = problem.shape.entities[kind].attributes
        if "vouches" in attributes:
            parts += [problem.terms.empty(problem.entities.read(one, "vouches").term) for one in list(entities.values())]
    return both_of(*parts)


def _risky(problem: Problem) -> Any:
    return problem.evaluate_fact("risk") >= HIGH_RISK


def _nobody(problem: Problem) -> Any:
    """A caller in no group, that no policy names, of which nothing is vouched for."""
    entities = problem.entities
    caller = problem.principal
    groups = [group for one, group in list(entities.asked.values()) if one is caller and group.type == "Group"]
    named = [one for uid, one in list(entities.constants.items()) if uid.type == caller.type]
    zones = [group for one, group in list(entities.asked.values()) if one is caller and group.type == "Zone"]
    return both_of(
        *(not_of(entities.member(caller, group)) for group in (*groups, *zones)),
        *(not_of(caller.term == one.term) for one in named),
        problem.terms.empty(entities.read(caller, "vouches").term),
    )


def _outside(problem: Problem) -> Any:
    """An endpoint outside, for which no label and no purpose was set, and of which it is not known what it serves."""
    attributes = problem.shape.entities[problem.resource.type].attributes
    if "outside" not in attributes:
        return False
    entities, resource = problem.entities, problem.resource
    sets = [entities.read(resource, name).term for name in ("labels", "purposes", "vouches")]
    return both_of(
        entities.read(resource, "outside").term,
        not_of(entities.read(resource, "wrapped").term),
        *(problem.terms.empty(one) for one in sets),
    )


def _uses_or_moves(policies: CompiledPolicies, action: str) -> bool:
    above = next((above for uid, above in policies.actions.items() if uid.id == action), frozenset())
    return action in ALONE or (action not in BOUNDED and any(uid.id in BOUNDED for uid in above))


LEAST: tuple[Least, ...] = (
    Least(
        "asks-for-no-vouch", lambda policies, action: action in VOUCHED, _unvouched,
        "it asks for no vouch", 'ask for the evidence: `resource.vouches.containsAll(["scan", "structure"])`, or of `resource.model`',
    ),
    Least(
        "no-risk-bound", _uses_or_moves, _risky,
        f"it still permits a caller with risk {HIGH_RISK} and more", "add `context.risk < 60` to its `when`",
    ),
    Least(
        "any-caller", lambda policies, action: True, _nobody,
        "it permits a caller that is in no group and that no policy names", "name a group in its head: `principal in Group::\"...\"`",
    ),
    Least(
        "outside-unlabelled", lambda policies, action: action in SENT, _outside,
        "it permits sending data to a provider outside for which no label is set", "ask for `resource.labels` or `resource.purposes`, or `!resource.outside`",
    ),
)  # fmt: skip
