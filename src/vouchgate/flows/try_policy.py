"""Decision vectors run in process: each case of a file decided as the control plane and the PDP would, and held to what it states.

    read_vectors(text, name) -> VectorFile                      raises `InvalidInput` with the place
    in_process(vectors, facts, name, now) -> VectorReport
    check_case(vectors, facts, case, now) -> VectorOutcome

Rules
1. `ask` means that the decision made ahead of the request is a residual; `allow` and `deny` mean the answer with exactly the case's facts.
2. A case names things that the file defines; policies that it names must be there.
3. What is stated beside the verdict (policies, obligations, missing evidence) is stated completely.
"""

from __future__ import annotations

import tomllib

from vouchgate.flows.imagined import Imagined, full_what, full_who
from vouchgate.identity.verify import registered
from vouchgate.policy.facts import REQUEST_FACTS
from vouchgate.policy.obligations import EVERY
from vouchgate.vocabulary.decision_vectors import VectorCase, VectorFile, VectorOutcome, VectorReport, Verdict
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.names import PrincipalId, TrustDomain
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import from_plain

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Bytes of one file; 10,000 cases."""
MAX_CASES = 10_000
"""Cases of one file; each is decided twice, in a few seconds."""
RUN_ONLY = frozenset({"depth", "actor", "on_behalf_of"})
"""Facts that are no request's own: a chain of actors, which a file cannot imagine through a gateway."""


def read_vectors(text: str, name: str) -> VectorFile:
    """One file. Raises `InvalidInput`, `LimitExceeded`."""
    if len(text) > MAX_FILE_BYTES:
        raise LimitExceeded(f"`{name}` is over the bound of {MAX_FILE_BYTES} characters", remedy="divide it")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"`{name}` is no TOML: {error}", remedy="correct the file at this place") from None
    vectors = from_plain(VectorFile, document, what=f"file `{name}`")
    if not vectors.cases:
        raise InvalidInput(f"`{name}` holds no cases", remedy="write [[cases]] with who, action, what and expect")
    if len(vectors.cases) > MAX_CASES:
        raise LimitExceeded(f"`{name}` holds {len(vectors.cases)} cases, the bound is {MAX_CASES}", remedy="divide it")
    return vectors


def in_process(vectors: VectorFile, facts: Imagined, name: str, now: UnixMillis) -> VectorReport:
    """Every case."""
    outcomes = tuple(check_case(vectors, facts, case, number, now) for number, case in enumerate(vectors.cases))
    agreed = sum(one.status == "agrees" for one in outcomes)
    return VectorReport(file=name, through="in-process", agreed=agreed, total=len(outcomes), outcomes=outcomes)


def check_case(vectors: VectorFile, facts: Imagined, case: VectorCase, number: int, now: UnixMillis) -> VectorOutcome:
    """Decide one case and compare."""
    _check_names(vectors, facts, case)
    decision = decide_case(vectors, facts, case, now)
    verdict = verdict_of(decision)
    told = list(_differences(case, decision, verdict))
    return VectorOutcome(
        name=case_name(case, number), status="differs" if told else "agrees", verdict=verdict, expected=case.expect, told=tuple(told)
    )


def case_name(case: VectorCase, number: int) -> str:
    """For a reader."""
    return case.name or f"{number + 1}: {case.who.rpartition('/')[2]} {case.action} {case.what}"


def decide_case(vectors: VectorFile, facts: Imagined, case: VectorCase, now: UnixMillis, *, ahead: bool | None = None) -> Decision:
    """The decision with the case's facts; ahead of the request where the case asks for that (rule 1)."""
    who = full_who(vectors, case.who)
    known = facts.registrations.get(who)
    registration = known or Registration(principal=PrincipalId(who), trust_domain=TrustDomain(facts.trust_domain), created_at=now)
    before = case.expect == "ask" if ahead is None else ahead
    given = {} if before else dict(case.context)
    unknown = REQUEST_FACTS if before else frozenset()
    caller = registered(registration, now)
    return facts.decide(caller, case.action, full_what(vectors, case.what), now, facts=given, unknown=unknown, carries=EVERY)


def verdict_of(decision: Decision) -> Verdict:
    """As a case states it."""
    return "ask" if decision.residual else decision.effect


def _check_names(vectors: VectorFile, facts: Imagined, case: VectorCase) -> None:
    kind, _, name = case.what.partition("/")
    if not case.what.startswith("vg://"):
        tools = {f"{endpoint}.{tool.lower()}" for endpoint, one in vectors.endpoints.items() for tool in one.tools}
        known = {"endpoint": name in vectors.endpoints, "tool": name in tools, "system": True, "zone": name in facts.zones}
        if not known.get(kind, case.what in vectors.assets):
            raise InvalidInput(f"`{case.what[:120]}` is not defined in this file", remedy="define it, or name it in full: `vg://...`")
    for policy in case.because:
        if facts.policies is None or (facts.policies.source.policy(policy) is None and not policy.startswith("revocation:")):
            raise InvalidInput(f"there is no policy `{policy[:64]}`", remedy="name one by its @id")


def _differences(case: VectorCase, decision: Decision, verdict: Verdict) -> list[str]:
    found = [f"{verdict} where {case.expect} is stated: {decision.reason}"] if verdict != case.expect else []
    stated = (
        ("because", case.because, decision.determining),
        ("obligations", case.obligations, tuple(f"{one.kind}={one.value}" for one in decision.obligations)),
        ("missing", case.missing, tuple(one.predicate for one in decision.missing)),
    )
    for what, wanted, got in stated:
        if (wanted or (what == "obligations" and case.expect == "allow")) and sorted(set(wanted)) != sorted(set(got)):
            found.append(f"{what} {_listed(got)} where {_listed(wanted)} is stated")
    return found


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(sorted(set(names))) or "nothing"
