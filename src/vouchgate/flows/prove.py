"""Prove a statement about the policy in force, or about files: the question is put together here and answered by a process of its own.

ask(context, caller, request, prover) -> Proof               over the API; `administer:analyse`
job_of(request, policies, old) -> ProofJob                   also of files alone, without a control plane
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from vouchgate.flows.administer import authorise
from vouchgate.flows.context import Context
from vouchgate.policy.catalog import schema_text
from vouchgate.policy.compile import CompiledPolicies
from vouchgate.policy.jobs import Checked, CheckJob, ProofJob, texts_of
from vouchgate.policy.prove import question_of
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_policy import PolicyText, Proof, ProofRequest
from vouchgate.vocabulary.errors import InvalidInput, Unavailable

MAX_API_SECONDS = 120.0
"""Seconds of one question over the API; longer ones are asked of files, on the asker's own machine."""


class Prover(Protocol):
    """ports/prover.py"""

    def prove(self, job: ProofJob) -> Proof: ...
    def check(self, job: CheckJob) -> Checked: ...


async def ask(context: Context, caller: Caller, request: ProofRequest, prover: Prover) -> Proof:
    """Answer one question. Raises `NotPermitted`, `InvalidInput`, `Unavailable`, `Unsupported`."""
    await authorise(context, caller, "analyse")
    if not 0 < request.seconds <= MAX_API_SECONDS:
        raise InvalidInput(f"a question has up to {MAX_API_SECONDS:g} seconds", remedy="give fewer with --seconds, or prove over files")
    policies = await asyncio.to_thread(_compiled, context, request.policies)
    old = await asyncio.to_thread(_compiled, context, request.old) if request.question != "never" else None
    job = await asyncio.to_thread(job_of, request, policies, old)
    started = time.monotonic()
    proof = await asyncio.to_thread(prover.prove, job)
    return msgspec.structs.replace(proof, seconds=round(time.monotonic() - started, 3))


def _compiled(context: Context, texts: Sequence[PolicyText]) -> CompiledPolicies:
    """Files as they would decide here, or what is in force."""
    if texts:
        return context.facts.compiled([(one.name, one.text) for one in texts])
    if context.facts.policies is None:
        raise Unavailable("no policy is loaded yet", remedy="wait until the control plane is ready")
    return context.facts.policies


def job_of(request: ProofRequest, policies: CompiledPolicies, old: CompiledPolicies | None) -> ProofJob:
    """The question with everything that it is about. Raises `InvalidInput` for one that is no Cedar."""
    if request.question == "never":
        question_of(request.never, schema_text())
    return ProofJob(
        question=request.question,
        schema=schema_text(),
        policies=texts_of(policies),
        old=texts_of(old) if old is not None else (),
        never=request.never,
        seconds=request.seconds,
    )
