"""What is handed to the prover's process, and what comes back.

texts_of(policies) -> tuple[PolicyText, ...]       a compiled set as files, every policy on the line where it stood
do(job, clock) -> Outcome                          the work itself, in whichever process
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from vouchgate.policy.catalog import load, verdict_key
from vouchgate.policy.compile import CompiledPolicies, compile_policies
from vouchgate.policy.load import Source, read
from vouchgate.policy.prove import DEFAULT_SECONDS, equivalent, grants_nothing_new, never_allows, question_of
from vouchgate.vocabulary.answers_policy import CheckFinding, PolicyText, Proof
from vouchgate.vocabulary.wire import Noun


class ProofJob(Noun, frozen=True, kw_only=True, tag="proof"):
    """One question about sets that were validated."""

    question: Literal["never", "nothing-new", "equivalent"]
    schema: str
    policies: tuple[PolicyText, ...]
    """Base pack and generated policies among them."""
    old: tuple[PolicyText, ...] = ()
    never: str = ""
    seconds: float = DEFAULT_SECONDS


class CheckJob(Noun, frozen=True, kw_only=True, tag="check"):
    """One set, policy by policy; beside the one that is in force, if any."""

    schema: str
    policies: tuple[PolicyText, ...]
    in_force: tuple[PolicyText, ...] = ()
    """What they are compared with."""
    against: str = "the policy in force"
    """What that is, for people."""
    compared: tuple[PolicyText, ...] = ()
    """What is compared with it, where that is not the whole set."""
    seconds: float = 10.0


class ValidateJob(Noun, frozen=True, kw_only=True, tag="validate"):
    """Whether one set may be loaded, base pack and generated policies among them."""

    schema: str
    policies: tuple[PolicyText, ...]
    seconds: float = 3.0
    """Below the five that one of our processes waits for another: behind it the set is still validated in process."""


class Proved(Noun, frozen=True, kw_only=True, tag="proved"):
    """An answer to a question."""

    proof: Proof


class Checked(Noun, frozen=True, kw_only=True, tag="checked"):
    """What was proved of single policies."""

    findings: tuple[CheckFinding, ...] = ()
    unproved: tuple[str, ...] = ()
    """What was not looked at to the end, and why."""


class Validated(Noun, frozen=True, kw_only=True, tag="validated"):
    """The set may be loaded."""

    key: str
    """`catalog.verdict_key` of what was read: schema, names and texts."""


class Failed(Noun, frozen=True, kw_only=True, tag="failed"):
    """A typed error of the prover's process."""

    code: str
    reason: str
    remedy: str


Job = ProofJob | CheckJob | ValidateJob
Outcome = Proved | Checked | Validated | Failed


def texts_of(policies: CompiledPolicies, only: Collection[str] | None = None) -> tuple[PolicyText, ...]:
    """Every file with every policy on its line, so that what is found names the same place; `only` those of these names."""
    files: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for policy in policies.source.policies:
        if only is not None and policy.id not in only:
            continue
        at = lines.get(policy.source, 1)
        files.setdefault(policy.source, []).append("\n" * max(0, policy.line - at) + policy.text)
        lines[policy.source] = max(at, policy.line) + policy.text.count("\n")
    return tuple(PolicyText(name=name, text="".join(parts)) for name, parts in files.items())


def compiled_texts(texts: Sequence[PolicyText], schema: str) -> CompiledPolicies:
    """The same set again."""
    return compile_policies(read([Source(one.name, one.text) for one in texts], schema))


def do(job: Job, clock: Callable[[], float]) -> Outcome:
    """Answer a job. Raises what `prove` raises."""
    if isinstance(job, ValidateJob):
        sources = tuple(Source(one.name, one.text) for one in job.policies)
        load(sources, job.schema)
        return Validated(key=verdict_key(sources, job.schema))
    from vouchgate.policy.examine import Against, examine

    policies = compiled_texts(job.policies, job.schema)
    if isinstance(job, CheckJob):
        old, new = (compiled_texts(texts, job.schema) if texts else None for texts in (job.in_force, job.compared))
        found = examine(policies, clock=clock, seconds=job.seconds, against=Against(old, new or policies, job.against) if old else None)
        return Checked(findings=found.findings, unproved=found.unproved)
    if job.question == "never":
        return Proved(proof=never_allows(policies, question_of(job.never, job.schema), clock=clock, seconds=job.seconds))
    ask = grants_nothing_new if job.question == "nothing-new" else equivalent
    return Proved(proof=ask(compiled_texts(job.old, job.schema), policies, clock=clock, seconds=job.seconds))
