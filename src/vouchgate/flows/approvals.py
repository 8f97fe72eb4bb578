"""People agree to single requests, or refuse them.

1. What waits is shown to whoever may see the status of things; its parameters only to whoever policy lets `approve` that resource.
2. Agree: a person, never a workload. Policy lets the person `approve` the resource, the person is in one of the groups that still lack somebody, asked for nothing of it
   in their own name or as somebody who acts, and agreed for no other group of it. Each act and each refused act is an entry.
3. An agreement stands while all of that does: whoever is revoked, leaves the group or loses the role takes their agreements along (`fallen`),
   which is looked at when the approval is used.
4. Refuse: whoever may agree may refuse, before and after others agreed. Nothing at all refuses too, by the time that it waits.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from vouchgate.flows.administer import act_entry, authorise, decision_for
from vouchgate.flows.changes import ApprovalPut
from vouchgate.flows.context import Context
from vouchgate.flows.facts import Facts
from vouchgate.flows.facts_approvals import ended
from vouchgate.identity.verify import registered
from vouchgate.policy.facts import group_uid, principal_uid
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_approvals import ApprovalState
from vouchgate.vocabulary.approvals import Agreement, Approval
from vouchgate.vocabulary.errors import Conflict, NotFound, NotPermitted
from vouchgate.vocabulary.names import principal_parts
from vouchgate.vocabulary.records import DeleteRecord
from vouchgate.vocabulary.vouches import UnixMillis

MAX_LISTED = 200
"""Approvals that one answer lists, those that wait first."""
AT_ONCE = 100
"""Records of ended approvals that are forgotten in one commit."""


async def listed(context: Context, caller: Caller) -> tuple[ApprovalState, ...]:
    """Rule 1. Raises `NotPermitted`."""
    await authorise(context, caller, "read")
    now = context.clock.now()
    found = [one for _, one in zip(range(MAX_LISTED), context.facts.approvals.listed(now), strict=False)]
    may = {name: decision_for(context, caller, "approve", name).effect == "allow" for name in {one.resource for one in found}}
    return tuple(state_of(context, caller, one, now, shown=may[one.resource]) for one in found)


async def give(context: Context, caller: Caller, id: str) -> ApprovalState:
    """Rule 2. Raises `NotFound`, `NotPermitted`, `Conflict`."""
    one = _found(context, id)
    await authorise(context, caller, "approve", one.resource)
    who, now = caller.principal.principal.id, context.clock.now()
    group = _group_for(context.facts, one, who)
    if not group:
        await _refused(context, caller, one, "approve")
        raise NotPermitted(_why_not(context.facts, one, who), remedy=f"ask somebody else of {_groups(one.groups)}")
    agreement = Agreement(group=group, approver=who, credential_id=caller.principal.credential_id, at=now)
    given = (*one.given, agreement)
    stage = "approved" if {said.group for said in given} == set(one.groups) else "pending"
    made = msgspec.structs.replace(one, given=given, stage=stage)
    detail = {"approval": one.id, "group": group, "for": one.principal, "parameters": one.parameters.digest}
    await context.sequencer.submit(who, [ApprovalPut(approval=made)], [act_entry(context, caller, "approve", one.resource, "done", detail)])
    return state_of(context, caller, made, now, shown=True)


async def refuse(context: Context, caller: Caller, id: str, reason: str) -> ApprovalState:
    """Rule 4. Raises `NotFound`, `NotPermitted`, `Conflict`."""
    one = _found(context, id)
    await authorise(context, caller, "approve", one.resource)
    who, now = caller.principal.principal.id, context.clock.now()
    if not _member(context.facts, who, one.groups):
        await _refused(context, caller, one, "refuse")
        raise NotPermitted(f"`{who}` is in none of {_groups(one.groups)}", remedy="ask somebody of the group")
    made = ended(one, "refused", who, now)
    detail = {"approval": one.id, "for": one.principal, "reason": reason[:500]}
    await context.sequencer.submit(who, [ApprovalPut(approval=made)], [act_entry(context, caller, "refuse", one.resource, "done", detail)])
    return state_of(context, caller, made, now, shown=True)


def fallen(facts: Facts, one: Approval, now: UnixMillis) -> str:
    """Rule 3: why an agreement no longer stands, or nothing."""
    for said in one.given:
        registration = facts.registration_of(said.approver, now)
        if registration is None:
            return f"`{said.approver}` is registered no longer"
        if facts.revocation_of(said.approver, said.credential_id) is not None:
            return f"`{said.approver}` was revoked"
        if not _member(facts, said.approver, (said.group,)):
            return f"`{said.approver}` has left `{said.group}`"
        if facts.decide(registered(registration, now), "approve", one.resource, now, mode="enforce").effect != "allow":
            return f"`{said.approver}` may approve this no longer"
    return ""


async def forget(context: Context) -> int:
    """Records of approvals that ended long ago; how many went. The log keeps them."""
    over = context.facts.approvals.over(context.clock.now())[:AT_ONCE]
    if over:
        await context.sequencer.append("system:sweep", [], steps=[DeleteRecord(kind="approval", key=name) for name in over])
        context.facts.approvals.drop(over)
    return len(over)


def state_of(context: Context, caller: Caller, one: Approval, now: UnixMillis, *, shown: bool) -> ApprovalState:
    """As it is told to a caller."""
    waits = one.stage in ("pending", "approved")
    return ApprovalState(
        id=one.id,
        state="expired" if waits and one.expires_at <= now else one.stage,
        principal=one.principal,
        actors=one.actors,
        action=one.action,
        resource=one.resource,
        method=one.parameters.method,
        path=one.parameters.path if shown else "",
        tool=one.parameters.tool,
        body=one.parameters.body if shown else "",
        shown=shown,
        digest=one.parameters.digest,
        groups=one.groups,
        approvers=tuple(f"{said.approver} ({said.group})" for said in one.given),
        reason=one.reason,
        asked_at=one.asked_at,
        expires_at=one.expires_at,
        ended_by=one.ended_by,
        ended_at=one.ended_at,
        mine=shown
        and one.stage == "pending"
        and one.expires_at > now
        and bool(_group_for(context.facts, one, caller.principal.principal.id)),
    )


def _found(context: Context, id: str) -> Approval:
    one = context.facts.approvals.all.get(id)
    if one is None:
        raise NotFound(f"there is no approval `{id[:64]}`", remedy="list them: `vouchgate approve list`")
    if one.expires_at <= context.clock.now():
        raise Conflict(f"the approval `{one.id}` has expired", remedy="let the request be made again")
    return one


def _member(facts: Facts, who: str, groups: Iterable[str]) -> bool:
    above = facts.world.up.get(principal_uid(who), frozenset())
    return any(group_uid(group) in above for group in groups)


def _group_for(facts: Facts, one: Approval, who: str) -> str:
    """The group for which this person could agree, or nothing."""
    taken = who in (one.principal, *one.actors) or who in {said.approver for said in one.given}
    if taken or principal_parts(who).kind != "person":
        return ""
    lacking = [group for group in one.groups if group not in {said.group for said in one.given}]
    return next((group for group in lacking if _member(facts, who, (group,))), "")


def _why_not(facts: Facts, one: Approval, who: str) -> str:
    if principal_parts(who).kind != "person":
        return f"`{who}` is no person"
    if who in (one.principal, *one.actors):
        return "nobody approves what is asked in their own name"
    if who in {said.approver for said in one.given}:
        return f"`{who}` agreed already, and each group needs a person of its own"
    return f"`{who}` is in none of the groups that still have to agree"


def _groups(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


async def _refused(context: Context, caller: Caller, one: Approval, verb: str) -> None:
    entry = act_entry(context, caller, verb, one.resource, "denied", {"approval": one.id})
    await context.sequencer.submit(caller.principal.principal.id, (), [entry])
