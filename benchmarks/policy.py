"""`make bench` (policy): what a decision costs, compiled beside cedarpy in one run, and whether both say the same.

Rules (contracts, "Figures cannot be bent")
1. Both engines answer the same requests over the same entities, rounds interleaved; cedarpy with parsed policies, schema and entities kept.
   The compiled engine meets each cell for the first time in no round (its scope cache is warm, as it is in a running PDP); the row `first sight`
   shows the other case.
2. Every request's answers are compared; one difference fails the run.
3. Null: cedarpy itself, held to the goal, must miss it. Sabotage: the index disabled must miss the goal of flat cost, and an engine in
   which one policy lies must be found out by the cross-check. If any passes, the run fails.
4. With the public corpus beside the checkout, the whole of it is run.

Usage: python -m benchmarks.policy [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rows import Row, emit, exit_code, median_interval
from vouchgate.policy import catalog
from vouchgate.policy.compile import CompiledPolicies, CompiledPolicy, Request, ask_cedar, compile_policies, evaluate
from vouchgate.policy.crosscheck import crosscheck
from vouchgate.policy.decide import decide
from vouchgate.policy.facts import REQUEST_FACTS, action_uid, principal_uid, put_artifact, put_endpoint, put_principal, resource_uid
from vouchgate.policy.load import Source
from vouchgate.policy.values import Uid
from vouchgate.policy.vectors import run_vectors
from vouchgate.policy.world import Evidence, Held, World
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, resource_id
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.principals import Principal, VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis

GOAL_SHARE = 0.1
"""A compiled decision costs at most this share of cedarpy's, at any number of scoped policies."""
GOAL_FLAT = 2.0
"""1,000 scoped policies cost at most this many times what 10 cost."""
BLIND = "evaluate, 1,000 scoped policies, index disabled"
SIZES = (10, 100, 1_000)
CALLERS = 50
DIGEST = "sha256:" + "ab" * 32
CORPUS = Path(__file__).resolve().parents[2] / "shared" / "vectors" / "cedar-corpus.tar.xz"
CONDITION = """when { resource has model && resource.model.vouches.containsAll(["scan", "structure"]) &&
  resource.vouches.contains("serves@rederived") && context.risk < 60 };"""


@dataclass(frozen=True)
class Case:
    """One set of policies with its world and requests."""

    name: str
    policies: CompiledPolicies
    world: World
    requests: tuple[Request, ...]


def case(size: int, *, scoped: bool) -> Case:
    """`size` policies, each for a group of its own or for everybody with the group in the condition."""
    texts = []
    for number in range(size):
        head = f'principal in Group::"team-{number}"' if scoped else "principal"
        tail = CONDITION if scoped else CONDITION.replace("when {", f'when {{ principal in Group::"team-{number}" &&')
        texts.append(f'@id("p{number}") permit ({head}, action == Action::"infer", resource is Endpoint in Zone::"serve") {tail}')
    policies = compile_policies(catalog.load([Source("bench.cedar", "\n".join(texts))]))
    return Case(f"{size:,} {'scoped' if scoped else 'unscoped'} policies", policies, world(size), requests())


def caller(number: int) -> PrincipalId:
    return PrincipalId(f"spiffe://bench.local/service/serve/caller-{number}")


def world(teams: int) -> World:
    """One endpoint whose model holds what is asked for, and callers in a team each."""
    made = World()
    late = UnixMillis(2**40)
    for number in range(CALLERS):
        put_principal(made, Principal(id=caller(number), groups=(f"team-{number % teams}", "staff")))
    endpoint = Endpoint(
        id=resource_id("vg://bench.local/endpoint/digits"), trust_domain=TrustDomain("bench.local"), zone="serve", upstream="unix:/x",
        routes=(), model_digest=DIGEST,
    )  # fmt: skip
    put_endpoint(made, endpoint, Evidence((Held("serves", "v1", "verified", late),)))
    put_artifact(
        made,
        f"vg://bench.local/artifact/{DIGEST}",
        Evidence((Held("scan", "v2", "verified", late), Held("structure", "v3", "verified", late))),
    )
    return made


def requests() -> tuple[Request, ...]:
    resource, action = resource_uid("vg://bench.local/endpoint/digits"), action_uid("infer")
    context = {"risk": 0, "authenticated": True, "credential": "x509"}
    return tuple(Request(principal_uid(caller(number)), action, resource, context) for number in range(CALLERS))


def microseconds(run: Callable[[Request], object], asked: Sequence[Request], repeat: int) -> float:
    """Mean cost of one request in one round."""
    begin = time.perf_counter_ns()
    for _ in range(repeat):
        for request in asked:
            run(request)
    return (time.perf_counter_ns() - begin) / 1_000 / (repeat * len(asked))


def without_index(policies: CompiledPolicies) -> CompiledPolicies:
    """The same set with every policy examined for every request (sabotage)."""

    class Blind(CompiledPolicies):
        def in_scope(self, principal: Uid, action: Uid, resource: Uid, world: World) -> tuple[CompiledPolicy, ...]:
            principals, resources = world.up[principal], world.up[resource]
            actions = self.actions[action]
            return tuple(
                policy
                for policy in self.policies
                if (policy.scope.principal is None or policy.scope.principal in principals)
                and (policy.scope.resource is None or policy.scope.resource in resources)
                and (policy.scope.actions is None or not actions.isdisjoint(policy.scope.actions))
            )

    return Blind(policies.source, policies.policies, version=0)


def measure(one: Case, rounds: int) -> tuple[list[Row], list[str]]:
    """Rows of one case, and what went wrong."""
    wrong = [f"{one.name}: {found.reason}" for found in (crosscheck(one.policies, request, one.world) for request in one.requests) if found]
    handle, schema = one.policies.cedar_handle, one.policies.source.schema
    ours: list[float] = []
    cedar: list[float] = []
    again: list[float] = []
    blind: list[float] = []
    sabotaged = without_index(one.policies)
    for _ in range(rounds):
        ours.append(microseconds(lambda request: evaluate(one.policies, request, one.world), one.requests, 20))
        cedar.append(microseconds(lambda request: ask_cedar(handle, request, one.world, schema), one.requests[:10], 1))
        if one.name == "10 scoped policies":
            again.append(microseconds(lambda request: ask_cedar(handle, request, one.world, schema), one.requests[:10], 1))
        if one.name == "1,000 scoped policies":
            blind.append(microseconds(lambda request: evaluate(sabotaged, request, one.world), one.requests, 1))
    shares = [left / right for left, right in zip(ours, cedar, strict=True)]
    n = rounds * len(one.requests) * 20
    low, high = median_interval(shares)
    scoped = " scoped" in one.name
    rows = [
        Row(name=f"evaluate, {one.name}", value=statistics.median(ours), unit="us", n=n, interval=median_interval(ours)),
        Row(name=f"cedarpy, {one.name}", value=statistics.median(cedar), unit="us", n=rounds * 10, interval=median_interval(cedar)),
        Row(
            name=f"evaluate / cedarpy, {one.name}", value=statistics.median(shares), unit="ratio", goal=f"<= {GOAL_SHARE}" if scoped else "",
            met=high <= GOAL_SHARE if scoped else None, n=rounds, interval=(low, high),
        ),
    ]  # fmt: skip
    if again:
        share = [left / right for left, right in zip(again, cedar, strict=True)]
        rows.append(Row(name="null: cedarpy / cedarpy, 10 scoped policies", value=statistics.median(share), unit="ratio",
                        goal=f"> {GOAL_SHARE}", met=statistics.median(share) > GOAL_SHARE, n=rounds, interval=median_interval(share)))  # fmt: skip
    if blind:
        rows.append(
            Row(name=BLIND, value=statistics.median(blind), unit="us", n=rounds * len(one.requests), interval=median_interval(blind))
        )
    return rows, wrong


def flat(rows: Sequence[Row]) -> list[Row]:
    """The index: a hundred times the policies cost little more; without it (sabotage) they cost much more."""
    by_name = {row.name: row for row in rows}
    few = by_name["evaluate, 10 scoped policies"]
    found = []
    for name, said in (
        ("evaluate, 1,000 scoped policies", "1,000 / 10 scoped policies"),
        (BLIND, "sabotage: 1,000 without index / 10 scoped policies"),
    ):
        many = by_name[name]
        share, honest = many.value / few.value, name != BLIND
        met = share <= GOAL_FLAT if honest else share > GOAL_FLAT
        found.append(Row(name=said, value=share, unit="ratio", goal=f"{'<=' if honest else '>'} {GOAL_FLAT}", met=met, n=many.n))
    return found


def first_sight(one: Case, rounds: int) -> Row:
    """Evaluate with a cold scope cache."""
    found = []
    for _ in range(rounds):
        fresh = CompiledPolicies(one.policies.source, one.policies.policies, version=0)
        found.append(microseconds(lambda request, fresh=fresh: evaluate(fresh, request, one.world), one.requests, 1))
    return Row(name=f"evaluate at first sight of a cell, {one.name}", value=statistics.median(found), unit="us",
               n=rounds * len(one.requests), interval=median_interval(found))  # fmt: skip


def whole_decision(one: Case, rounds: int) -> list[Row]:
    """`decide` with reason, digest and ends, ahead of the request and on it."""
    rows = []
    for name, unknown in (("decide, all facts known", frozenset[str]()), ("decide ahead of the request", REQUEST_FACTS)):
        found = []
        for _ in range(rounds):

            def run(request: Request, unknown: frozenset[str] = unknown) -> object:
                who = VerifiedPrincipal(
                    principal=Principal(id=PrincipalId(request.principal.id)), credential_kind="x509", credential_id="c", authenticated=True,
                    verified_at=UnixMillis(0), not_after=UnixMillis(2**40),
                )  # fmt: skip
                return decide(
                    who,
                    "infer",
                    request.resource.id,
                    one.world,
                    {},
                    policies=one.policies,
                    now=UnixMillis(1),
                    evidence_epoch=1,
                    unknown=unknown,
                )

            found.append(microseconds(run, one.requests, 2))
        rows.append(Row(name=f"{name}, {one.name}", value=statistics.median(found), unit="us", n=rounds * len(one.requests) * 2,
                        interval=median_interval(found)))  # fmt: skip
    return rows


def liar_is_found(one: Case) -> Row:
    """Sabotage: a policy that always holds."""
    lying = tuple(replace(policy, condition=lambda facts: True) if policy.id == "p0" else policy for policy in one.policies.policies)
    policies = CompiledPolicies(one.policies.source, lying, version=0)
    request = replace(one.requests[0], context={"risk": 70, "authenticated": True, "credential": "x509"})
    found = crosscheck(policies, request, one.world) is not None and crosscheck(one.policies, request, one.world) is None
    return Row(name="sabotage: a lying policy is found by the cross-check", value=float(found), unit="found", goal="1", met=found, n=1)


def corpus() -> list[Row]:
    """Rule 4."""
    if not CORPUS.exists():
        sys.stdout.write(f"the corpus does not stand beside the checkout ({CORPUS.name}); its row is left out\n")
        return []
    with tempfile.TemporaryDirectory(prefix="vg") as folder, tarfile.open(CORPUS) as archive:
        archive.extractall(folder, filter="data")
        found = run_vectors(Path(folder) / "cedar-corpus")
    return [Row(name="agreement with Cedar's corpus", value=found.agreed / max(found.total, 1), unit="share", goal="1",
                met=found.agreed == found.total > 0, n=found.total, note=f"{found.agreed} of {found.total}, none excluded")]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; not for figures")
    rounds = 5 if parser.parse_args(arguments).quick else 20
    rows: list[Row] = []
    wrong: list[str] = []
    made = [case(size, scoped=True) for size in SIZES] + [case(size, scoped=False) for size in SIZES]
    for one in made:
        found, differences = measure(one, rounds)
        rows += found
        wrong += differences
    rows += flat(rows)
    rows += [first_sight(made[2], rounds), *whole_decision(made[2], rounds), liar_is_found(made[0]), *corpus()]
    compared = sum(len(one.requests) for one in made)
    rows.append(
        Row(name="answers equal to cedarpy's", value=compared - len(wrong), unit="requests", goal=str(compared), met=not wrong, n=compared)
    )
    emit("policy", rows)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
