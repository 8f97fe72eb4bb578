"""Runs of jobs: begun on declared inputs, and everything that was issued under one dies with it.

1. Begin: the act is decided; the principal is a registered job or step whose roles the caller holds; every input is an admitted artifact that
   nothing stands against. What was declared cannot be changed.
2. While it goes on, credentials are bound to it (issue_identity.py) and live no longer than it.
3. End: the run's end and its revocation are one commit, so no credential is recorded in between; points strike its credentials by their ids.
4. A run that reached its end is marked as ended; its credentials expired with it. Evidence that was used and ended since is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Any

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.administer import act_entry, authorise, system_of
from vouchgate.flows.attest_remote import forget_used
from vouchgate.flows.changes import Revoked, RunPut
from vouchgate.flows.context import Context
from vouchgate.flows.explain import full_principal
from vouchgate.flows.register import require_roles
from vouchgate.flows.revoke import enforced
from vouchgate.policy.decide import REFUSED_EVIDENCE
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_identities import RunOutcome, RunRequest
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotFound, NotPermitted, VouchgateError
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, principal_parts, resource
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.runs import Run, inputs_digest
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

RUN_KINDS = frozenset({"job", "step"})
"""Kinds of principal that run."""
MAX_GOING_ON = 10_000
"""Runs at once; each is about 1 KiB beside its inputs."""
SWEEP_SECONDS = 10.0
"""Between looks for runs that reached their end."""
MIN_LEFT_SECONDS = 10
"""A run that ends sooner gets no credential: the signer issues no shorter life."""


async def begin(context: Context, caller: Caller, request: RunRequest) -> RunOutcome:
    """Step 1. Raises `NotPermitted`, `NotFound`, `InvalidInput`, `Conflict`, `LimitExceeded`."""
    await authorise(context, caller, "run")
    now = context.clock.now()
    name = PrincipalId(full_principal(context, request.principal))
    registration, parts = context.facts.registration_of(name, now), principal_parts(name)
    if registration is None:
        raise NotFound(f"`{name}` is not registered", remedy="register it: `vouchgate identity issue job ...`")
    if parts.kind not in RUN_KINDS:
        raise InvalidInput(f"a `{parts.kind}` does not run", remedy=f"name a {' or '.join(sorted(RUN_KINDS))}")
    require_roles(context, caller, registration.groups, "run as whoever holds it")
    if context.facts.revocation_of(name) is not None:
        raise NotPermitted(f"`{name}` is revoked", remedy="ask a responder; another person may undo it")
    inputs = tuple(sorted({parse_digest(one).text for one in request.inputs}))
    for one in inputs:
        _check_input(context, one, now)
    if sum(1 for one in context.facts.runs.values() if not one.ended_at) >= MAX_GOING_ON:
        raise LimitExceeded(f"{MAX_GOING_ON} runs go on", remedy="end those that are over")
    run = Run(
        id=f"run-{secrets.token_hex(8)}",
        trust_domain=TrustDomain(context.trust_domain),
        principal=name,
        zone=parts.zone,
        stage=request.stage,
        purpose=request.purpose,
        inputs=inputs,
        started_at=now,
        not_after=UnixMillis(now + 1000 * request.seconds),
    )
    detail = {
        "run": run.id,
        "principal": name,
        "stage": run.stage,
        "purpose": run.purpose,
        "inputs": inputs_digest(inputs),
        "count": len(inputs),
    }
    await context.sequencer.submit(
        caller.principal.principal.id, [RunPut(run=run)], [act_entry(context, caller, "begin-run", "", "done", detail)]
    )
    return RunOutcome(run=run)


def _check_input(context: Context, digest: str, now: UnixMillis) -> None:
    """An input was admitted, and nothing stands against it. Raises `Conflict`, `NotFound`."""
    evidence = context.facts.evidence(resource(context.trust_domain, "artifact", digest), now)
    against = sorted(name for name, why in evidence.lacking.items() if why in REFUSED_EVIDENCE)
    revoked = [one for one in context.facts.standing_revocations() if (one.target_kind, one.target) == ("digest", digest)]
    if against or revoked:
        what = f"`{digest[:23]}` was revoked" if revoked else f"the evidence `{against[0]}` on `{digest[:23]}` does not hold"
        raise Conflict(f"a run cannot begin on this: {what}", remedy=f"look at it: `vouchgate evidence show {digest[:23]}`")
    if not any(one.predicate == "import" for one in evidence.held):
        raise NotFound(f"`{digest[:23]}` was not admitted", remedy="take it in first: `vouchgate import FILE`")


async def end(context: Context, caller: Caller, run_id: str, reason: str) -> RunOutcome:
    """Step 3. Raises `NotPermitted`, `NotFound`, `Conflict`."""
    started = time.monotonic()
    await authorise(context, caller, "run")
    run = context.facts.runs.get(run_id)
    if run is None:
        raise NotFound(f"there is no run `{run_id[:64]}`", remedy="list them: `vouchgate runs list`")
    if run.ended_at:
        raise Conflict(f"the run `{run.id}` has ended", remedy="nothing is left to do")
    who, now = caller.principal.principal.id, context.clock.now()
    ended = msgspec.structs.replace(run, ended_at=now, ended_by=who, reason=reason[:500])
    revocation = Revocation(
        id=secrets.token_hex(8),
        trust_domain=run.trust_domain,
        target_kind="run",
        target=run.id,
        reason=reason[:500] or "the run ended",
        requested_by=who,
        made_at=now,
    )
    struck = len(context.facts.struck_credentials(revocation))
    entries = [
        Append(entry=ocsf.revocation(revocation, now=now), label=revocation.id),
        act_entry(context, caller, "end-run", "", "done", {"run": run.id, "reason": reason[:500], "credentials": struck}),
    ]
    await context.sequencer.submit(who, [RunPut(run=ended), Revoked(revocation=revocation)], entries)
    return RunOutcome(run=ended, credentials=struck, points=await enforced(context, started))


def going_on(context: Context, run_id: str, principal: str) -> Run:
    """The run that a credential is to be bound to. Raises `NotFound`, `NotPermitted`, `Conflict`."""
    run = context.facts.runs.get(run_id)
    if run is None:
        raise NotFound(f"there is no run `{run_id[:64]}`", remedy="begin one: `vouchgate runs begin`")
    if run.principal != principal:
        raise NotPermitted(f"the run `{run.id}` is not of `{principal}`", remedy="begin a run of its own")
    if not run.alive(context.clock.now()) or context.facts.revocation_of(principal, run=run.id) is not None:
        raise Conflict(f"the run `{run.id}` has ended", remedy="begin a new run")
    return run


def bound(run: Run | None) -> dict[str, Any]:
    """What the signer is told of the run."""
    if run is None:
        return {}
    said = {"run": run.id, "zone": run.zone, "stage": run.stage, "inputs": inputs_digest(run.inputs)}
    return {"binding": {name: value for name, value in said.items() if value}}


def within(run: Run | None, seconds: int, now: UnixMillis) -> int:
    """A life that ends with the run. Raises `Conflict` where that would be none."""
    left = seconds if run is None else min(seconds, (run.not_after - now) // 1000)
    if run is not None and left < MIN_LEFT_SECONDS:
        raise Conflict(f"the run `{run.id}` is about to end", remedy="begin a new run")
    return left


def listed(context: Context) -> tuple[Run, ...]:
    """Newest first."""
    return tuple(sorted(context.facts.runs.values(), key=lambda one: (-one.started_at, one.id)))


async def expire(context: Context) -> None:
    """Step 4, until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        for run in over(context):
            ended = msgspec.structs.replace(run, ended_at=context.clock.now(), ended_by="expiry", reason="it reached its end")
            try:
                await context.sequencer.submit("system:runs", [RunPut(run=ended)], [_expired(context, run)])
            except VouchgateError:
                # the store is away: the next look tries again, and nothing was issued past the end
                break
        with contextlib.suppress(VouchgateError):
            await forget_used(context)


def _expired(context: Context, run: Run) -> Append:
    entry = ocsf.act(
        context.trust_domain,
        uid=f"ended/{run.id}",
        who="system:runs",
        verb="end-run",
        resource=system_of(context),
        outcome="done",
        detail={"run": run.id, "reason": "it reached its end"},
        now=context.clock.now(),
    )
    return Append(entry=entry)


def over(context: Context) -> list[Run]:
    """Runs that reached their end and are not marked as ended."""
    now = context.clock.now()
    return [one for one in context.facts.runs.values() if not one.ended_at and one.not_after <= now]
