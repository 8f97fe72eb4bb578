"""Statements about every request there can be, proved by z3 on Cedar's typed tree, or refuted by a request that both engines answer.

    never_allows(policies, question, ...) -> Proof        nothing that `question` permits is allowed by `policies`
    grants_nothing_new(old, new, ...) -> Proof            whatever `new` allows, `old` allows, bound to no less
    equivalent(old, new, ...) -> Proof                    both ways

Rules
1. Effect is ours: allowed is what a permit allows, no forbid stops and no policy in scope errs on. A forbid that can be met by an obligation
   (`@oblige`) does not stop; what it binds a grant to counts in a comparison.
2. `question` is Cedar text. A request is meant by it if Cedar would allow it under that text alone.
3. A counterexample is shown only after `compile.evaluate` and cedarpy answered it as the model of z3 says; else the answer is `unknown`.
4. `proved` means: unsatisfiable in every environment, with whatever has no exact translation left open (`smt`, rule 3). Everything else is
   `unknown` and names the bound or the construct.
5. Bounds: policies, seconds over all, seconds and memory of each call of z3. A z3 that does not keep its own is ended with its process: the
   flow asks in a child (`ports/prover.py`).
6. z3 is the optional extra `analysis`; without it every question raises `Unsupported`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vouchgate.policy.compile import CompiledPolicies, CompiledPolicy, Evaluation, Request, compile_policies, evaluate
from vouchgate.policy.crosscheck import crosscheck
from vouchgate.policy.load import Source, problems, read
from vouchgate.policy.obligations import EVERY, lift, meetable, obligations_of, strictest
from vouchgate.policy.smt_environments import Environment, environments
from vouchgate.policy.telling import Replayed, counterexample, smaller
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import Proof
from vouchgate.vocabulary.decisions import Obligation
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unsupported

if TYPE_CHECKING:
    from vouchgate.policy.smt import Problem
    from vouchgate.policy.smt_model import Example

DEFAULT_SECONDS = 30.0
"""For one question over all; a set of a hundred policies takes about one."""
MAX_SECONDS = 600.0
"""Longer than a person waits."""
CHECK_SECONDS = 5.0
"""One call of z3: what takes longer there seldom ends."""
MAX_POLICIES = 2_000
"""Policies of both sets together; translating one for one kind of request takes up to 0.5 ms."""
MAX_KINDS = 20_000
"""Kinds of requests; a schema of 66 actions and ten types of resources has at most 660."""
MAX_MEMORY_MIB = 1_024
"""What z3 may take; set by the process that runs it."""
MAX_WHY = 8
"""Reasons that are told."""

Clock = Callable[[], float]
"""Seconds that only rise."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is looked for: a request that refutes the statement."""

    sets: tuple[CompiledPolicies, ...]
    meant: Callable[[Problem], Any]
    """When a request refutes it, as a Boolean of z3."""
    replay: Callable[[Request, World], Replayed | None]
    """What both engines say, if they refute it too; without cedarpy (`sure`)."""


@dataclass
class Search:
    """What became of looking for it."""

    found: Replayed | None = None
    example: Example | None = None
    environment: Environment | None = None
    why: list[str] = dataclasses.field(default_factory=list)
    kinds: int = 0


def smt() -> Any:
    """The translation, which needs z3. Raises `Unsupported`."""
    try:
        import z3  # noqa: F401

        from vouchgate.policy import smt as translation
        from vouchgate.policy import smt_model
    except ImportError:
        raise Unsupported(
            "z3 is not installed, without which nothing can be proved", remedy="install it: `pip install 'vouchgate[analysis]'`"
        ) from None
    return translation, smt_model


# -- questions


def question_of(text: str, schema: str) -> CompiledPolicies:
    """The policies of a question, validated like others, but without `@id`s. Raises `InvalidInput`."""
    policies = read([Source("question", text)], schema)
    if not policies.policies:
        raise InvalidInput(
            "the question permits nothing", remedy="write what must never be allowed: `permit (principal, action, resource);`"
        )
    for _, problem in problems(policies):
        raise InvalidInput(f"the question is not valid: {problem}", remedy="write it as a policy that fits the schema")
    return compile_policies(policies)


def never_allows(policies: CompiledPolicies, question: CompiledPolicies, *, clock: Clock, seconds: float = DEFAULT_SECONDS) -> Proof:
    """Rule 2. Raises `Unsupported`, `LimitExceeded`."""

    def replay(request: Request, world: World) -> Replayed | None:
        ours, asked = lift(evaluate(policies, request, world), EVERY), evaluate(question, request, world)
        if ours.evaluation.effect != "allow" or asked.cedar_effect != "allow":
            return None
        return Replayed(permits_of(ours.evaluation), (), ours.obligations, (policies, question))

    def refutes(problem: Problem) -> Any:
        asked = meant(problem, question)
        return False if asked is False else both_of(asked, allowed(problem, policies))

    search = look_for(Goal((policies, question), refutes, replay), clock, seconds)
    return answer(search, "what the question permits is never allowed", "is allowed:", clock)


def grants_nothing_new(old: CompiledPolicies, new: CompiledPolicies, *, clock: Clock, seconds: float = DEFAULT_SECONDS) -> Proof:
    """Whatever `new` allows, `old` allows too. Raises `Unsupported`, `LimitExceeded`."""
    search = look_for(_more(old, new), clock, seconds)
    return answer(
        search, "the new policies allow nothing that the old ones deny", "is allowed by the new policies and was not before:", clock
    )


def equivalent(old: CompiledPolicies, new: CompiledPolicies, *, clock: Clock, seconds: float = DEFAULT_SECONDS) -> Proof:
    """Both allow the same, bound to the same. Raises `Unsupported`, `LimitExceeded`."""
    started = clock()
    forth = look_for(_more(old, new), clock, seconds / 2)
    said = "both allow the same"
    if forth.found is not None:
        return answer(forth, said, "is allowed by the new policies and was not before:", clock)
    back = look_for(_more(new, old), clock, max(0.1, seconds - (clock() - started)))
    back.why = list(dict.fromkeys([*forth.why, *back.why]))
    return answer(back, said, "was allowed by the old policies and is not now:", clock)


def _more(old: CompiledPolicies, new: CompiledPolicies) -> Goal:
    """A request that `new` allows and `old` denies, or binds to more."""

    def replay(request: Request, world: World) -> Replayed | None:
        now, was = lift(evaluate(new, request, world), EVERY), lift(evaluate(old, request, world), EVERY)
        if now.evaluation.effect != "allow":
            return None
        if was.evaluation.effect == "allow" and _as_strict(now.obligations, was.obligations):
            return None
        return Replayed(permits_of(now.evaluation), stopped_by(was.evaluation), now.obligations, (new, old))

    def looser(problem: Problem) -> Any:
        if _in_scope(problem, new) == _in_scope(problem, old):
            return False
        granted = allowed(problem, new)
        if granted is False:
            return False
        before = allowed(problem, old)
        if before is False:
            return granted
        unbound = [
            both_of(problem.applies(bound).satisfied, *(not_of(problem.applies(one).satisfied) for one in _binding(new, bound)))
            for bound in old.policies
            if meetable(bound, EVERY)
        ]
        return both_of(granted, any_of(not_of(before), *unbound))

    return Goal((new, old), looser, replay)


def _in_scope(problem: Problem, policies: CompiledPolicies) -> frozenset[Any]:
    """What can count here; a policy that both sets have is one."""
    applied = ((one.forbids, obligations_of(one), problem.applies(one)) for one in policies.policies)
    return frozenset((forbids, bound, id(one)) for forbids, bound, one in applied if one.satisfied is not False or one.errs is not False)


def _as_strict(now: Sequence[Obligation], was: Sequence[Obligation]) -> bool:
    return strictest((*now, *was)) == strictest(now)


def _binding(policies: CompiledPolicies, bound: CompiledPolicy) -> list[CompiledPolicy]:
    """Forbids that bind a grant to at least as much as this one."""
    return [one for one in policies.policies if meetable(one, EVERY) and _as_strict(obligations_of(one), obligations_of(bound))]


def permits_of(evaluation: Evaluation) -> tuple[str, ...]:
    """The permits that hold."""
    return tuple(policy.id for policy, mask in zip(evaluation.in_scope, evaluation.masks, strict=True) if not policy.forbids and mask == 1)


def stopped_by(evaluation: Evaluation) -> tuple[str, ...]:
    """The policies by which it is denied; none where no permit holds."""
    forbids = [policy.id for policy, mask in zip(evaluation.in_scope, evaluation.masks, strict=True) if policy.forbids and mask == 1]
    return (*forbids, *evaluation.errors)


# -- as Booleans of z3


def both_of(*parts: Any) -> Any:
    """And."""
    from vouchgate.policy.smt_terms import both

    return both(*parts)


def any_of(*parts: Any) -> Any:
    """Or."""
    from vouchgate.policy.smt_terms import either

    return either(*parts)


def not_of(part: Any) -> Any:
    """Not."""
    from vouchgate.policy.smt_terms import negate

    return negate(part)


def allowed(problem: Problem, policies: CompiledPolicies) -> Any:
    """Rule 1."""
    permits = any_of(*(problem.applies(policy).satisfied for policy in policies.permits))
    return False if permits is False else both_of(permits, not_of(blocked(problem, policies)))


def blocked(problem: Problem, policies: CompiledPolicies) -> Any:
    """Whether a forbid that nothing meets holds, or any policy errs."""
    applied = [(policy, problem.applies(policy)) for policy in policies.policies]
    return any_of(
        *(one.satisfied for policy, one in applied if policy.forbids and not meetable(policy, EVERY)), *(one.errs for _, one in applied)
    )


def meant(problem: Problem, question: CompiledPolicies) -> Any:
    """Rule 2."""
    permits = any_of(*(problem.applies(policy).satisfied for policy in question.permits))
    forbids = any_of(*(problem.applies(policy).satisfied for policy in question.policies if policy.forbids))
    return both_of(permits, not_of(forbids))


# -- looking


def look_for(goal: Goal, clock: Clock, seconds: float, *, only: Callable[[Environment], bool] | None = None) -> Search:
    """A request that refutes, in one kind of request after the other. Raises `Unsupported`, `LimitExceeded`."""
    smt()  # before anything is counted: without z3 nothing is decided
    count = sum(len(policies.policies) for policies in goal.sets)
    if count > MAX_POLICIES:
        raise LimitExceeded(
            f"the question is about {count} policies, the bound is {MAX_POLICIES}", remedy="ask about fewer policies at once"
        )
    search, end = Search(), clock() + min(seconds, MAX_SECONDS)
    kinds = environments(goal.sets)
    for environment in kinds:
        if only is not None and not only(environment):
            continue
        left = end - clock()
        if left <= 0 or search.kinds >= MAX_KINDS:
            bound = f"{MAX_KINDS} kinds of requests" if left > 0 else f"{seconds:g} seconds"
            search.why.append(f"the bound of {bound} was reached after {search.kinds} of {len(kinds)} kinds of requests")
            break
        search.kinds += 1
        if _found(search, goal, environment, min(left, CHECK_SECONDS)):
            break
    search.why = list(dict.fromkeys(search.why))
    return search


def _found(search: Search, goal: Goal, environment: Environment, seconds: float) -> bool:
    translation, reading = smt()
    problem = translation.Problem(environment, goal.sets)
    what = f"`{environment.action.id}` on a {environment.resource}"
    try:
        wanted = goal.meant(problem)
        if wanted is False:
            return False
        outcome, model = ask(problem, wanted, seconds)
        if model is None:
            if outcome:
                search.why.append(f"{what}: {outcome}")
            return False
        found = reading.example(problem, model)
    except (MemoryError, problem.broken) as error:
        search.why.append(f"{what}: z3 gave up: {str(error)[:120] or 'out of memory'}")
        return False
    except InvalidInput as error:
        search.why.append(f"{what}: a counterexample of z3 is no world: {error.reason[:120]}")
        return False
    if goal.replay(found.request, found.world) is None or _disagree(goal, found):
        constructs = sorted(set(problem.untranslated.values()))
        text = f"{what}: a counterexample of z3 is none in the engines"
        search.why += [f"`{construct}` has no exact translation" for construct in constructs] or [text]
        return False
    least = smaller(found, goal.replay)
    if _disagree(goal, least):
        least = found
    search.found, search.example, search.environment = goal.replay(least.request, least.world), least, environment
    return True


def _disagree(goal: Goal, found: Example) -> bool:
    """Whether cedarpy answers otherwise than the compiled policies (rule 3)."""
    return any(crosscheck(policies, found.request, found.world) is not None for policies in goal.sets)


def ask(problem: Problem, wanted: Any, seconds: float) -> tuple[str, Any]:
    """(why there is no answer, a model): a sensible request before any; neither where there is none."""
    import z3

    solver = z3.Solver()
    solver.set("timeout", max(1, int(seconds * 1_000)))
    solver.add(*problem.background(), *([] if wanted is True else [wanted]))
    for likely in (True, False):
        solver.push()
        if likely:
            solver.add(*problem.terms.likely)
        outcome = solver.check()
        if outcome == z3.sat:
            return "", solver.model()
        if outcome == z3.unknown and not likely:
            why = solver.reason_unknown()
            return (f"z3 did not end within {seconds:.1f} seconds" if "timeout" in why or "cancel" in why else f"z3 gave up: {why}"), None
        solver.pop()
    return "", None


def answer(search: Search, question: str, said: str, clock: Clock) -> Proof:
    """What was found, as a noun."""
    if search.found is not None and search.example is not None and search.environment is not None:
        shown = counterexample(search.example, search.found, fits=search.environment.fits)
        sentence = f"not so. This {said} {shown.sentence}"
        return Proof(verdict="refuted", question=question, sentence=sentence, counterexample=shown, kinds=search.kinds)
    if search.why:
        why = tuple(search.why[:MAX_WHY])
        return Proof(verdict="unknown", question=question, sentence=f"it could not be decided: {why[0]}", why=why, kinds=search.kinds)
    sentence = f"{question}: there is no such request among {search.kinds} kinds of requests"
    return Proof(verdict="proved", question=question, sentence=sentence, kinds=search.kinds)


def sources_of(policies: CompiledPolicies) -> Iterator[tuple[str, str]]:
    """(file, text) of each policy: what another process reads the same set from."""
    for policy in policies.source.policies:
        yield policy.source, policy.text
