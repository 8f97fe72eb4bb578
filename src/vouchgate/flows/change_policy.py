"""Check a policy text, and make it the one in force: authored by one person, approved by another (with `solo` by the same)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

from vouchgate.flows import waive
from vouchgate.flows.administer import ACTIONS, act_entry, authorise, system_of
from vouchgate.flows.changes import SettingPut
from vouchgate.flows.context import Context
from vouchgate.flows.policy_history import proposal
from vouchgate.flows.prevalidate import prevalidate
from vouchgate.flows.revoke import enforced
from vouchgate.flows.start import activate
from vouchgate.identity.verify import registered
from vouchgate.policy.check import check
from vouchgate.policy.load import Source
from vouchgate.vocabulary.answers import Caller, PolicyFinding, PolicyReport, PolicyVersion
from vouchgate.vocabulary.errors import Conflict, InvalidInput, Unavailable

APPROVAL_HOURS = 24
"""Hours within which the second person must agree."""
NAME = "policy.cedar"
"""Name under which a text that was sent, not read from a file, stands in findings."""


def current(context: Context) -> PolicyVersion:
    """The policy in force. Raises `Unavailable` before there is one."""
    policy = context.facts.policy
    if policy is None:
        raise Unavailable("no policy is loaded yet", remedy="wait until the control plane is ready")
    text = "\n".join(f"// --- {name}\n{body}" for name, body in policy.sources)
    return PolicyVersion(
        version=policy.version,
        digest=policy.digest,
        text=text,
        signed_by=f"{policy.author}, {policy.approver}",
        applied_at=policy.applied_at,
    )


def report(context: Context, text: str) -> PolicyReport:
    """What checking a text gave, and what it would change."""
    findings = tuple(
        PolicyFinding(severity=one.severity, policy=one.policy, line=one.line, text=one.text, remedy=one.fix)
        for one in check([Source(NAME, text)])
    )
    if any(one.severity == "error" for one in findings):
        return PolicyReport(ok=False, policies=0, digest="", findings=findings)
    try:
        compiled = context.facts.compiled([(NAME, text)])
    except InvalidInput as error:
        problem = PolicyFinding(severity="error", text=error.reason, remedy=error.remedy)
        return PolicyReport(ok=False, policies=0, digest="", findings=(*findings, problem))
    policies = compiled.source.policies
    old = {one.id: one.text for one in context.facts.policies.source.policies} if context.facts.policies else {}
    new = {one.id: one.text for one in policies}
    changes = [f"adds `{one}`" for one in new if one not in old] + [f"removes `{one}`" for one in old if one not in new]
    changes += [f"changes `{one}`" for one in new if one in old and new[one].strip() != old[one].strip()]
    findings += tuple(_waived(context))
    return PolicyReport(ok=True, policies=len(policies), digest=compiled.digest, findings=findings, changes=tuple(changes))


def _waived(context: Context) -> Iterator[PolicyFinding]:
    """What policies do not get to see, because two persons agreed to go without."""
    found = waive.standing(context)
    if found:
        controls = ", ".join(sorted({f"`{one.claims['control']}`" for one in found}))
        text = f"{len(found)} waiver{'s stand' if len(found) > 1 else ' stands'}: policies that ask for {controls} are met without it"
        yield PolicyFinding(severity="warning", text=text, remedy="see `vouchgate waive list`")


async def apply(context: Context, caller: Caller, text: str, reason: str) -> PolicyVersion:
    """Propose a text as its author; it is in force once another person, an approver, has applied exactly the same, while the author may still
    write policies. Raises `InvalidPolicy`, `NotPermitted`."""
    started = time.monotonic()
    who, digest = caller.principal.principal.id, hashlib.sha256(text.encode()).hexdigest()
    author = _author(context, digest)
    seconds = author not in ("", who) and not context.settings.solo
    await authorise(context, caller, "policy-approve" if seconds else "policy-apply")
    await prevalidate([(NAME, text)], context.validator, crossings=context.facts.crossings, zones=context.facts.zones)
    context.facts.compiled([(NAME, text)])
    now = context.clock.now()
    if seconds and _author(context, digest) != author:
        raise Conflict(f"the proposal of `{author}` has lapsed meanwhile", remedy="let an author propose the text again")
    if not (context.settings.solo or seconds):
        entry = act_entry(context, caller, "propose-policy", "", "done", {"sha256": digest, "reason": reason[:500]})
        waiting = f"{digest} {who} {now + APPROVAL_HOURS * 3_600_000}"
        await context.sequencer.submit(who, [SettingPut(key="policy-proposal", value=waiting)], [entry])
        return PolicyVersion(
            version=current(context).version + 1,
            digest=digest,
            text=text,
            waits_for="a policy approver who is another person, with the same text",
        )
    entry = act_entry(context, caller, "apply-policy", "", "done", {"sha256": digest, "reason": reason[:500], "author": author or who})
    # a proposal is used up: the same text again, after another policy was in force, takes two persons again
    await context.sequencer.submit(who, [SettingPut(key="policy-proposal", value="")], [entry])
    await activate(context, [(NAME, text)], author=author or who, approver=who)
    made = current(context)
    return PolicyVersion(
        version=made.version,
        digest=made.digest,
        text=made.text,
        signed_by=made.signed_by,
        applied_at=made.applied_at,
        points=await enforced(context, started, maps=True),
    )


def _author(context: Context, digest: str) -> str:
    """Who proposed this text and may still write policies; empty where nobody did, or where the proposal has lapsed."""
    waits, now = proposal(context), context.clock.now()
    registration = context.facts.registration_of(waits.author, now) if waits is not None and waits.sha256 == digest else None
    if waits is None or registration is None:
        return ""
    made = context.facts.decide(registered(registration, now), ACTIONS["policy-apply"], system_of(context), now)
    return waits.author if made.effect == "allow" else ""
