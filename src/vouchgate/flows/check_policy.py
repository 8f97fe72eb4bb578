"""Check policies: what their words say, what can be proved of them, and what they name that is not there.

    check_files(files, prover, against, seconds) -> CheckReport        without a control plane
    check_here(context, caller, request, prover) -> CheckReport        beside what is in force: names, cells, changes; `administer:check`

Rules
1. An error means that the policies cannot be put in force; then nothing more is said.
2. Policies are compared with those in force; without any, with the pack that they follow.
3. What could not be looked at stands in `unproved`: without z3, beyond the time, beyond the bound of cells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from vouchgate.flows.administer import authorise
from vouchgate.flows.context import Context
from vouchgate.flows.prevalidate import beside
from vouchgate.flows.prove import MAX_API_SECONDS, Prover
from vouchgate.policy.catalog import BASE, load, pack, packs, schema_text
from vouchgate.policy.check import cells, check
from vouchgate.policy.compile import CompiledPolicies, compile_policies, named_in
from vouchgate.policy.examine import own
from vouchgate.policy.hazards import PolicyFinding
from vouchgate.policy.jobs import Checked, CheckJob, texts_of
from vouchgate.policy.lints import follows, lints, slip, unlike_pack
from vouchgate.policy.load import InvalidPolicy, PolicySet, Source
from vouchgate.policy.values import Uid
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_policy import CellCount, CheckFinding, CheckReport, CheckRequest, PolicyText
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable, Unsupported

MAX_LIVE_CELLS = 50_000
"""Cells that are counted on the control plane's own thread, endpoint by endpoint; about half a second in all."""
MAX_NAMED = 12
"""Names of one finding."""


def check_files(files: Sequence[PolicyText], prover: Prover, *, against: Sequence[PolicyText] = (), seconds: float = 10.0) -> CheckReport:
    """Files alone, or beside other files that they are to replace."""
    findings = _said(files)
    if any(one.severity == "error" for one in findings):
        return CheckReport(ok=False, policies=0, findings=findings)
    policies = _load(files)
    old = _load(against) if against else None
    return _report(policies, old, findings, prover, seconds)


def _load(files: Sequence[PolicyText]) -> CompiledPolicies:
    return compile_policies(load([Source(one.name, one.text) for one in files]))


def _said(files: Sequence[PolicyText]) -> tuple[CheckFinding, ...]:
    """What `check` says, with the file."""
    return tuple(_finding(one) for one in check([Source(one.name, one.text) for one in files]))


def _finding(one: PolicyFinding) -> CheckFinding:
    return CheckFinding(
        kind=one.kind, severity=one.severity, policy=one.policy, file=one.source, line=one.line, text=one.text, remedy=one.fix
    )


def _report(
    policies: CompiledPolicies, old: CompiledPolicies | None, said: tuple[CheckFinding, ...], prover: Prover, seconds: float
) -> CheckReport:
    follow = _followed(policies.source)
    odd: tuple[CheckFinding, ...] = tuple(_finding(one) for one in lints(policies.source))
    job = CheckJob(schema=schema_text(), policies=texts_of(policies), in_force=texts_of(old) if old is not None else (), seconds=seconds)
    if follow is not None and old is None:
        odd += tuple(_finding(one) for one in unlike_pack(policies.source, follow))
        job = _beside_pack(job, policies, follow)
    proved = _proved(job, prover)
    findings = _once((*said, *odd, *proved.findings))
    return CheckReport(
        ok=True,
        policies=len(policies.policies),
        digest=policies.digest,
        findings=findings,
        changes=_changes(old.source, policies.source) if old is not None else (),
        unproved=proved.unproved,
    )


def _followed(policies: PolicySet) -> Source | None:
    """The pack that they were made from."""
    return next((one for name in packs() if name != BASE and follows(policies, one := pack(name))), None)


def _beside_pack(job: CheckJob, policies: CompiledPolicies, follow: Source) -> CheckJob:
    """Compared with the pack is what has the names of the pack: what else somebody permits is their own to say."""
    like = compile_policies(load([follow]))
    names = {one.id for one in like.policies}
    return msgspec.structs.replace(
        job, in_force=texts_of(like, [one.id for one in like.policies if not one.forbids or policies.source.policy(one.id)]),
        compared=texts_of(policies, names), against=f"the pack {follow.name}",
    )  # fmt: skip


def _proved(job: CheckJob, prover: Prover) -> Checked:
    if job.seconds <= 0:
        return Checked(unproved=("nothing was proved, as no time was given for it",))
    try:
        return prover.check(job)
    except (Unsupported, LimitExceeded, Unavailable) as error:
        return Checked(unproved=(f"nothing was proved: {error.reason}; {error.remedy}",))


def _once(findings: Iterable[CheckFinding]) -> tuple[CheckFinding, ...]:
    """What is proved replaces what was guessed of the same policy; errors first."""
    kept: dict[tuple[str, str], CheckFinding] = {}
    for one in findings:
        place = (one.kind, one.policy or one.text)
        if place not in kept or one.example:
            kept[place] = one
    return tuple(sorted(kept.values(), key=lambda one: one.severity != "error"))


def _changes(old: PolicySet, new: PolicySet) -> tuple[str, ...]:
    was, now = ({one.id: one.text.strip() for one in policies.policies} for policies in (old, new))
    found = [f"adds `{one}`" for one in now if one not in was] + [f"removes `{one}`" for one in was if one not in now]
    return (*found, *(f"changes `{one}`" for one in now if one in was and now[one] != was[one]))


async def check_here(context: Context, caller: Caller, request: CheckRequest, prover: Prover) -> CheckReport:
    """Beside what is in force. Raises `NotPermitted`, `InvalidInput`, `Unavailable`."""
    await authorise(context, caller, "policy-check")
    if not 0 <= request.seconds <= MAX_API_SECONDS:
        raise InvalidInput(f"checking has up to {MAX_API_SECONDS:g} seconds", remedy="give fewer with --seconds")
    policy, in_force = context.facts.policy, context.facts.policies
    if policy is None or in_force is None:
        raise Unavailable("no policy is loaded yet", remedy="wait until the control plane is ready")
    files = request.policies or tuple(PolicyText(name=name, text=text) for name, text in policy.sources)
    await beside(context.facts, [(one.name, one.text) for one in files], context.validator)
    said = await asyncio.to_thread(_said, files)
    if any(one.severity == "error" for one in said):
        return CheckReport(ok=False, policies=0, findings=said)
    try:
        policies = await asyncio.to_thread(context.facts.compiled, [(one.name, one.text) for one in files])
    except InvalidPolicy as error:
        problem = CheckFinding(kind="invalid", severity="error", text=error.reason, remedy=error.remedy)
        return CheckReport(ok=False, policies=0, findings=(*said, problem))
    here = (*said, *_stale(context, policies.source), *_undivided(context))
    counted, uncounted = await _cells(context, policies)
    report = await asyncio.to_thread(_report, policies, in_force if request.policies else None, here, prover, request.seconds)
    return CheckReport(
        ok=True, policies=report.policies, digest=report.digest, findings=report.findings, cells=counted, changes=report.changes,
        unproved=(*report.unproved, *uncounted),
    )  # fmt: skip


def _stale(context: Context, policies: PolicySet) -> Iterator[CheckFinding]:
    """Names that policies write and that are not there."""
    world = context.facts.world
    known = {*world.entities, *(Uid("Zone", name) for name in context.facts.zones), *policies.actions}
    absent: dict[str, list[str]] = {}
    for policy in policies.policies:
        for one in sorted(named_in(policy.json) - known) if own(policy) else ():
            near = [uid.id for uid in sorted(known) if uid.type == one.type and slip(one.id, uid.id)]
            if near:
                yield CheckFinding(
                    kind="stale-name", severity="warning", policy=policy.id, file=policy.source, line=policy.line,
                    text=f"there is no {one.type.lower()} `{one.id}`", remedy=f"did you mean `{near[0]}`?",
                )  # fmt: skip
            elif one.id not in absent.setdefault(one.type, []):
                absent[one.type].append(one.id)
    for kind, names in sorted(absent.items()):
        shown = ", ".join(f"`{name}`" for name in names[:MAX_NAMED]) + (
            f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        )
        text = f"nobody is in {shown}" if kind == "Group" else f"there is no {kind.lower()} {shown}"
        fix = (
            "register callers in them, or remove the policies" if kind == "Group" else "correct the name, declare it, or remove the policy"
        )
        yield CheckFinding(kind="stale-name", severity="warning", text=text, remedy=fix)


def _undivided(context: Context) -> Iterator[CheckFinding]:
    """Zones that hold nobody."""
    if len(context.facts.zones) > 1 and not context.facts.crossings:
        text = f"no crossings are declared, so nothing but single policies divides the {len(context.facts.zones)} zones"
        fix = "declare `[[crossings]]` in vouchgate.toml, beginning with what `vouchgate zones map` shows"
        yield CheckFinding(kind="no-crossings", severity="warning", text=text, remedy=fix)


async def _cells(context: Context, policies: CompiledPolicies) -> tuple[tuple[CellCount, ...], tuple[str, ...]]:
    """Callers by endpoint and action; the loop goes on between two endpoints."""
    found: list[CellCount] = []
    left = MAX_LIVE_CELLS
    for endpoint in sorted(context.facts.endpoints.values(), key=lambda one: one.id):
        actions = sorted({route.action for route in endpoint.routes} & {action.id for action in policies.actions})
        left -= len(actions) * len(context.facts.registrations)
        if left < 0:
            return tuple(found), (f"cells beyond the bound of {MAX_LIVE_CELLS} were not counted",)
        counted = cells(policies, context.facts.world, actions=actions, only=endpoint.id)
        found += [
            CellCount(endpoint=one.endpoint, action=one.action, allowed=one.allowed, residual=one.residual, denied=one.denied)
            for one in counted
        ]
        await asyncio.sleep(0)
    return tuple(found), ()
