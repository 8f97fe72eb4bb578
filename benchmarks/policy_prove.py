"""`make bench-prove`: what a proof costs, whether proofs and requests contradict each other, and whether misconfigurations are found.

Rules (contracts, "Figures cannot be bent")
1. Times are of whole questions over the pack in force, z3's own included: CPU seconds of this process, which on an idle machine are those that a
   person waits; the process of its own and the kept bound are wall seconds.
2. Every `proved` is held against requests over random worlds made as vouchgate makes them; one contradiction fails the run. Every `refuted` is
   replayed from its JSON alone by both engines.
3. Null: an answer `proved` to everything must be contradicted. Sabotage: a translation in which an erring policy stops nothing must be refuted by
   the engines (its counterexamples must not reproduce), and must so end as `unknown`.

Usage: python -m benchmarks.policy_prove [--quick]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "policy"))

import prove_world as random_world

from benchmarks.rows import Row, emit, exit_code, median_interval
from vouchgate.policy import catalog, prove
from vouchgate.policy.compile import CompiledPolicies, compile_policies, evaluate
from vouchgate.policy.examine import examine
from vouchgate.policy.jobs import ProofJob, texts_of
from vouchgate.policy.load import Source
from vouchgate.policy.obligations import EVERY, lift
from vouchgate.policy.prove import equivalent, grants_nothing_new, never_allows, question_of
from vouchgate.ports import prover
from vouchgate.vocabulary.answers_policy import Proof

GOAL_SECONDS = 10.0
"""A question about the pack is answered while a person waits."""
GOAL_BOUND_SECONDS = 5.0
"""How far over its own bound a question may run, in this process."""
SCHEMA = catalog.schema_text()
AUTHOR = 'permit (principal, action == Action::"administer:author-policy", resource) unless { principal in Group::"role:policy-author" };'
EXPORT = 'permit (principal, action == Action::"export", resource) unless { resource.vouches.contains("scan") };'
REQUESTS = 320


def pack(*more: str) -> CompiledPolicies:
    return compile_policies(
        catalog.load([catalog.pack("ai_lifecycle"), *(Source(f"{number}.cedar", text) for number, text in enumerate(more))])
    )


def wide(size: int) -> CompiledPolicies:
    """As many policies as a large installation has, each for a team of its own."""
    texts = [
        f'@id("team-{number}") permit (principal in Group::"team-{number}", action == Action::"infer", resource is Endpoint in Zone::"serve") '
        f'when {{ resource has model && resource.model.vouches.containsAll(["scan", "structure"]) && context.risk < 60 }};'
        for number in range(size)
    ]
    return pack("\n".join(texts))


def timed(name: str, ask: Callable[[], Proof], wanted: str, rounds: int, *, goal: float = GOAL_SECONDS, wall: bool = False) -> Row:
    found, verdicts = [], set()
    now = time.perf_counter if wall else time.process_time
    for _ in range(rounds):
        begin = now()
        verdicts.add(ask().verdict)
        found.append(now() - begin)
    low, high = median_interval(found)
    met = high <= goal and verdicts == {wanted}
    return Row(name=name, value=statistics.median(found), unit="s" if wall else "cpu s", goal=f"<= {goal:g}, {wanted}", met=met, n=rounds, interval=(low, high),
               note=f"answered {', '.join(sorted(verdicts))}")  # fmt: skip


def times(rounds: int) -> list[Row]:
    ours, clock = pack(), time.monotonic
    narrower = pack('@id("no-chat") forbid (principal, action == Action::"chat", resource);')
    many = wide(500)
    bounded = question_of("permit (principal, action, resource) when { context.risk < 10 && context.risk > 20 };", SCHEMA)
    job = ProofJob(question="never", schema=SCHEMA, policies=texts_of(ours), never=AUTHOR)
    return [
        timed("never, the pack: proved", lambda: never_allows(ours, question_of(AUTHOR, SCHEMA), clock=clock), "proved", rounds),
        timed("never, the pack: refuted", lambda: never_allows(ours, question_of(EXPORT, SCHEMA), clock=clock), "refuted", rounds),
        timed("nothing new, the pack and one forbid more", lambda: grants_nothing_new(ours, narrower, clock=clock), "proved", rounds),
        timed("equivalent, the pack and one forbid more", lambda: equivalent(ours, narrower, clock=clock), "refuted", rounds),
        timed("never, the pack and 500 policies: proved", lambda: never_allows(many, question_of(AUTHOR, SCHEMA), clock=clock), "proved", max(1, rounds // 3),
              goal=3 * GOAL_SECONDS),
        timed("never, the pack, in a process of its own", lambda: prover.prove(job), "proved", rounds, wall=True),
        timed("bound of 0.2 s kept", lambda: never_allows(many, bounded, clock=clock, seconds=0.2), "unknown", rounds, goal=GOAL_BOUND_SECONDS, wall=True),
    ]  # fmt: skip


def held_against_requests(seeds: int) -> list[Row]:
    """Rules 2 and 3."""
    contradicted = null = unknown = asked = proved = replayed = 0
    for seed in range(seeds):
        chance = random.Random(f"bench/{seed}")
        atoms = random_world.ATOMS + random_world.PATTERNS if seed % 2 else random_world.ATOMS
        one, other = (random_world.compiled(random_world.policy_texts(chance, atoms=atoms)) for _ in range(2))
        proof = never_allows(one, other, clock=time.monotonic)
        unknown += proof.verdict == "unknown"
        proved += proof.verdict == "proved"
        replayed += proof.verdict == "refuted"
        hits = 0
        for _ in range(REQUESTS // 40):
            made = random_world.world(chance)
            for _ in range(40):
                request = random_world.request(chance, made)
                asked += 1
                allowed = lift(evaluate(one, request, made), EVERY).evaluation.effect == "allow"
                hits += allowed and evaluate(other, request, made).cedar_effect == "allow"
        contradicted += hits > 0 and proof.verdict == "proved"
        null += hits > 0
    return [
        Row(name="proofs that a request contradicts", value=contradicted, unit="proofs", goal="0", met=contradicted == 0, n=asked,
            note=f"{proved} proved of {seeds} questions, {asked} requests"),
        Row(name="questions left open", value=unknown, unit="questions", goal="0", met=unknown == 0, n=seeds, note=f"{replayed} refuted and replayed"),
        Row(name="null: `proved` to everything is contradicted", value=null, unit="questions", goal="> 0", met=null > 0, n=seeds),
    ]  # fmt: skip


def sabotaged() -> Row:
    """A translation that forgets that an error denies (rule 3)."""
    scope = 'principal in Group::"a", action == Action::"infer", resource is Endpoint'
    erring = random_world.compiled(f"permit ({scope});\nforbid ({scope}) when {{ context.hour == 3 }};")
    question = random_world.compiled(f"permit ({scope}) unless {{ context has hour }};")
    honest = never_allows(erring, question, clock=time.monotonic).verdict
    right = prove.blocked
    prove.blocked = lambda problem, policies: prove.any_of(*(problem.applies(one).satisfied for one in policies.policies if one.forbids))
    try:
        lying = never_allows(erring, question, clock=time.monotonic).verdict
    finally:
        prove.blocked = right
    found = (honest, lying) == ("proved", "unknown")
    return Row(name="sabotage: a wrong translation does not get past the replay", value=float(found), unit="found", goal="1", met=found, n=1,
               note=f"honest {honest}, sabotaged {lying}")  # fmt: skip


def checking(rounds: int) -> list[Row]:
    ours, found, findings = pack(), [], 0
    for _ in range(rounds):
        begin = time.process_time()
        looked = examine(ours, against=None, clock=time.monotonic, seconds=120)
        found.append(time.process_time() - begin)
        findings += len(looked.findings) + len(looked.unproved)
    return [
        Row(name="check, the pack, what is proved", value=statistics.median(found), unit="cpu s", goal="<= 20", met=median_interval(found)[1] <= 20,
            n=rounds, interval=median_interval(found), note=f"{len(ours.policies)} policies"),
        Row(name="findings in the pack", value=findings, unit="findings", goal="0", met=findings == 0, n=rounds),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_prove")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; not for figures")
    quick = parser.parse_args(arguments).quick
    rows = [*times(2 if quick else 7), *held_against_requests(30 if quick else 400), sabotaged(), *checking(1 if quick else 3)]
    emit("prove", rows)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
