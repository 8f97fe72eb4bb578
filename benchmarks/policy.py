"""`make bench` (policy): what a decision costs, compiled beside cedarpy in one run, and whether both say the same.

Rules (contracts, "Figures cannot be bent")
1. Both engines answer the same requests over the same entities, rounds interleaved; cedarpy with parsed policies, schema and entities kept.
   The compiled engine meets each cell for the first time in no round (its scope cache is warm, as it is in a running PDP); the row `first sight`
   shows the other case.
2. Every request's answers are compared; one difference fails the run.
3. Null: cedarpy itself, held to the goal, must miss it. Sabotage: the index disabled must miss the goal of flat cost, and an engine in
   which one policy lies must be found out by the cross-check. If any passes, the run fails.
4. With the public corpus beside the checkout, the whole of it is run.
5. casbin answers the same requests under an equivalent RBAC model with domains (team in zone; risk and evidence as attributes of the request),
   in the same rounds; its answers are compared too. Half of the requests are granted.
6. `GOAL_US` and `GOAL_UNSCOPED_US` are held with 1,000 policies and 10,000 entities, by the interval's upper bound. No answer is kept between
   two evaluations; `decide` keeps them, so it has a row for a question that was asked before and one for a first sight.

Usage: python -m benchmarks.policy [--quick]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import casbin

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rows import Row, emit, exit_code, median_interval
from vouchgate.policy import catalog
from vouchgate.policy.compile import CompiledPolicies, CompiledPolicy, Request, ask_cedar, compile_policies, evaluate
from vouchgate.policy.crosscheck import crosscheck
from vouchgate.policy.decide import decide
from vouchgate.policy.facts import REQUEST_FACTS, action_uid, principal_uid, put_artifact, put_endpoint, put_principal, resource_uid
from vouchgate.policy.grounds import grounds
from vouchgate.policy.load import Source
from vouchgate.policy.values import Uid
from vouchgate.policy.vectors import run_vectors
from vouchgate.policy.world import Evidence, Held, World
from vouchgate.vocabulary.decisions import Decision, Risk
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, resource_id
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.principals import Principal, VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis

GOAL_SHARE = 0.1
"""A compiled decision costs at most this share of cedarpy's, at any number of scoped policies."""
GOAL_FLAT = 2.0
"""1,000 scoped policies cost at most this many times what 10 cost."""
GOAL_US = 10.0
"""Microseconds of one evaluation at 1,000 scoped policies and 10,000 entities."""
GOAL_UNSCOPED_US = 600.0
"""The same where no policy names a group in its head."""
ENTITIES = 10_000
LARGE = f"1,000 scoped policies, {ENTITIES:,} entities"
LARGE_UNSCOPED = f"1,000 unscoped policies, {ENTITIES:,} entities"
BLIND = "evaluate, 1,000 scoped policies, index disabled"
SIZES = (10, 100, 1_000)
CALLERS = 50
DEAR = 3
"""Requests of a round for an engine that takes tens of milliseconds for one; 60 of them in twenty rounds say its median to a few percent."""
CHEAP = 10
"""The same for one that takes less."""
GOAL_PACK_US = 200.0
"""Microseconds of a whole decision on the request, under the policies that a user starts with."""
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


def case(size: int, *, scoped: bool, entities: int = 0) -> Case:
    """`size` policies, each for a group of its own or for everybody with the group in the condition."""
    texts = []
    for number in range(size):
        head = f'principal in Group::"team-{number}"' if scoped else "principal"
        tail = CONDITION if scoped else CONDITION.replace("when {", f'when {{ principal in Group::"team-{number}" &&')
        texts.append(f'@id("p{number}") permit ({head}, action == Action::"infer", resource is Endpoint in Zone::"serve") {tail}')
    policies = compile_policies(catalog.load([Source("bench.cedar", "\n".join(texts))]))
    name = f"{size:,} {'scoped' if scoped else 'unscoped'} policies" + (f", {entities:,} entities" if entities else "")
    return Case(name, policies, world(size, entities), requests())


def caller(number: int) -> PrincipalId:
    return PrincipalId(f"spiffe://bench.local/service/serve/caller-{number}")


def world(teams: int, entities: int = 0) -> World:
    """One endpoint whose model holds what is asked for, callers in a team each, and so many more that there are `entities`."""
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
    for number in range(CALLERS, CALLERS + entities - len(made)):
        put_principal(made, Principal(id=caller(number), groups=(f"team-{number % teams}", "staff")))
    return made


def requests() -> tuple[Request, ...]:
    resource, action = resource_uid("vg://bench.local/endpoint/digits"), action_uid("infer")
    known = {"authenticated": True, "credential": "x509", "delegated": False}
    return tuple(Request(principal_uid(caller(number)), action, resource, {"risk": number % 2 * 70, **known}) for number in range(CALLERS))


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
    casbin_us: list[float] = []
    other = casbin_of(1_000, one.world) if one.name == "1,000 scoped policies" else None
    if other is not None:
        wrong += [f"{one.name}: casbin answers otherwise" for request in one.requests[:10]
                  if ask_casbin(other, request, one.world) != (evaluate(one.policies, request, one.world).effect == "allow")]  # fmt: skip
    sabotaged = without_index(one.policies)
    few = one.requests[: DEAR if len(one.world) >= ENTITIES else CHEAP]
    repeat = 3 if one.name.startswith("1,000 unscoped") else 20
    for _ in range(rounds):
        ours.append(microseconds(lambda request: evaluate(one.policies, request, one.world), one.requests, repeat))
        cedar.append(microseconds(lambda request: ask_cedar(handle, request, one.world, schema), few, 1))
        if one.name == "10 scoped policies":
            again.append(microseconds(lambda request: ask_cedar(handle, request, one.world, schema), few, 1))
        if other is not None:
            casbin_us.append(microseconds(lambda request: ask_casbin(other, request, one.world), one.requests[:DEAR], 1))
        if one.name == "1,000 scoped policies":
            blind.append(microseconds(lambda request: evaluate(sabotaged, request, one.world), one.requests, 1))
    shares = [left / right for left, right in zip(ours, cedar, strict=True)]
    n = rounds * len(one.requests) * repeat
    low, high = median_interval(shares)
    scoped = " scoped" in one.name
    goal = {LARGE: GOAL_US, LARGE_UNSCOPED: GOAL_UNSCOPED_US}.get(one.name)
    own = median_interval(ours)
    rows = [
        Row(name=f"evaluate, {one.name}", value=statistics.median(ours), unit="us", n=n, interval=own, goal=f"<= {goal:g}" if goal else "",
            met=own[1] <= goal if goal else None),
        Row(name=f"cedarpy, {one.name}", value=statistics.median(cedar), unit="us", n=rounds * len(few), interval=median_interval(cedar)),
        Row(
            name=f"evaluate / cedarpy, {one.name}", value=statistics.median(shares), unit="ratio", goal=f"<= {GOAL_SHARE}" if scoped else "",
            met=high <= GOAL_SHARE if scoped else None, n=rounds, interval=(low, high),
        ),
    ]  # fmt: skip
    if again:
        share = [left / right for left, right in zip(again, cedar, strict=True)]
        rows.append(Row(name="null: cedarpy / cedarpy, 10 scoped policies", value=statistics.median(share), unit="ratio",
                        goal=f"> {GOAL_SHARE}", met=statistics.median(share) > GOAL_SHARE, n=rounds, interval=median_interval(share)))  # fmt: skip
    if casbin_us:
        rows.append(Row(name=f"casbin, {one.name}", value=statistics.median(casbin_us), unit="us", n=rounds * DEAR, interval=median_interval(casbin_us),
                        note="the same answers; its role graph holds the callers of the requests alone, since it is made anew for every pair seen first"))  # fmt: skip
        rows.append(Row(name=f"null: cedarpy held to {GOAL_US:g} us, {one.name}", value=statistics.median(cedar), unit="us", goal=f"> {GOAL_US:g}",
                        met=min(cedar) > GOAL_US, n=rounds * len(few)))  # fmt: skip
    if blind:
        rows.append(
            Row(name=BLIND, value=statistics.median(blind), unit="us", n=rounds * len(one.requests), interval=median_interval(blind))
        )
    return rows, wrong


CASBIN = """
[request_definition]
r = sub, dom, obj, act, risk, holds
[policy_definition]
p = sub, dom, obj, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act && r.risk < 60 && r.holds == True
"""


def casbin_of(size: int, world: World) -> casbin.Enforcer:
    """The equivalent model: a policy for each team, and everybody's team in the zone."""
    model = casbin.Model()
    model.load_model_from_text(CASBIN)
    made = casbin.Enforcer(model)
    made.add_policies([[f"team-{number}", "serve", "vg://bench.local/endpoint/digits", "infer"] for number in range(size)])
    people = [uid for uid in world.entities if uid.type == "Principal"]
    # as its own loader does; adding them one by one looks each up among all before it
    links = made.get_model()["g"]["g"].policy
    links += [[who.id, group.id, "serve"] for who in people for group in world.entities[who].parents if group.type == "Group"]
    made.build_role_links()
    return made


def ask_casbin(made: casbin.Enforcer | None, request: Request, world: World) -> bool:
    """One answer; what the model holds is looked up as part of the question, as for the others."""
    assert made is not None
    attributes = world.attributes[request.resource]
    held = world.attributes[attributes["model"]]["vouches"]
    holds = {"scan", "structure"} <= held and "serves@rederived" in attributes["vouches"]
    return bool(made.enforce(request.principal.id, "serve", request.resource.id, request.action.id, request.context["risk"], holds))


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
    for name, unknown, kept in (
        ("decide, all facts known, asked before", frozenset[str](), True),
        ("decide, all facts known, at first sight", frozenset[str](), False),
        ("decide ahead of the request, at first sight", REQUEST_FACTS, False),
    ):
        found = []
        for _ in range(rounds):

            def run(request: Request, unknown: frozenset[str] = unknown, kept: bool = kept) -> object:
                if not kept:
                    one.policies.answers.forget()
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


def on_the_request(rounds: int) -> list[Row]:
    """A whole decision under the pack that a user starts with, where the facts of each request differ, so that no answer is there already; beside
    it the same with grounds found by the walk over the tree, whose answers are compared."""
    made = world(1)
    put_principal(made, Principal(id=caller(0), groups=("callers", "staff")))
    policies = compile_policies(catalog.load([catalog.pack("ai_lifecycle")]))
    who = VerifiedPrincipal(
        principal=Principal(id=caller(0)), credential_kind="x509", credential_id="c", authenticated=True,
        verified_at=UnixMillis(0), not_after=UnixMillis(2**40),
    )  # fmt: skip
    asked = [(hour, risk) for hour in range(24) for risk in (0, 10, 20, 30)]

    def ask(hour: int, risk: int) -> Decision:
        facts = {"hour": hour, "weekday": 1, "usual_hour": True, "usual_network": True}
        return decide(who, "infer", "vg://bench.local/endpoint/digits", made, facts, policies=policies, now=UnixMillis(1), evidence_epoch=1,
                      risk=Risk(value=risk))  # fmt: skip

    def round_us() -> float:
        policies.answers.forget()
        begin = time.perf_counter_ns()
        for hour, risk in asked:
            ask(hour, risk)
        return (time.perf_counter_ns() - begin) / 1_000 / len(asked)

    def walking() -> AbstractContextManager[object]:
        return mock.patch("vouchgate.policy.decide.deciding", grounds)

    answers = [ask(*one) for one in asked]
    ours: list[float] = []
    walked: list[float] = []
    with walking():
        policies.answers.forget()
        same = [ask(*one) for one in asked] == answers and all(one.effect == "allow" and one.vouches_used for one in answers)
    for _ in range(rounds):
        ours.append(round_us())
        with walking():
            walked.append(round_us())
    own, n = median_interval(ours), rounds * len(asked)
    name = "decide on the request, pack ai_lifecycle"
    return [
        Row(name=name, value=statistics.median(ours), unit="us", n=n, interval=own, goal=f"<= {GOAL_PACK_US:g}", met=own[1] <= GOAL_PACK_US,
            note=f"{len(policies.policies)} policies"),
        Row(name=f"{name}, grounds by the walk", value=statistics.median(walked), unit="us", n=n, interval=median_interval(walked)),
        Row(name=f"{name}: equal answers", value=float(same), unit="equal", goal="1", met=same, n=len(asked)),
    ]  # fmt: skip


def liar_is_found(one: Case) -> Row:
    """Sabotage: a policy that always holds."""
    lying = tuple(replace(policy, condition=lambda facts: True) if policy.id == "p0" else policy for policy in one.policies.policies)
    policies = CompiledPolicies(one.policies.source, lying, version=0)
    request = replace(one.requests[0], context={**one.requests[0].context, "risk": 70})
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
    logging.disable(logging.WARNING)
    made = [case(size, scoped=True) for size in SIZES] + [case(size, scoped=False) for size in SIZES]
    made += [case(1_000, scoped=True, entities=ENTITIES), case(1_000, scoped=False, entities=ENTITIES)]
    for one in made:
        found, differences = measure(one, rounds)
        rows += found
        wrong += differences
    rows += flat(rows)
    rows += [first_sight(made[2], rounds), *whole_decision(made[6], rounds), *on_the_request(rounds), liar_is_found(made[0]), *corpus()]
    compared = sum(len(one.requests) for one in made)
    rows.append(
        Row(
            name="answers equal to cedarpy's and casbin's",
            value=compared - len(wrong),
            unit="requests",
            goal=str(compared),
            met=not wrong,
            n=compared,
        )
    )
    emit("policy", rows)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
