"""What an allow owes, at the control plane: budgets and approvals, settled in the transaction that records the decision.

1. The decision must rest on the policy that is in force here: the PDP worker may be a second behind.
2. Budgets: allowed requests of each of the chain at the endpoint, in windows of the clock (UTC). A count is taken before the commit and given
   back where it fails; it is stored in the commit of the allow it counts, so neither a restart of this process nor one of the PDP worker
   forgets one. Counts for one endpoint share a lane of the sequencer, so the stored ones never go back.
3. Approvals: one that everybody agreed to, whose people may still agree, is used up by the commit of the allow; of two that want it, the
   sequencer lets one through. Else the refusal is recorded, and in its commit an approval is opened, unless one waits already.
4. What is not met is recorded as a deny. Nothing is let through that is not in the log.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence

from vouchgate.audit import ocsf
from vouchgate.flows.approvals import fallen
from vouchgate.flows.changes import ApprovalPut
from vouchgate.flows.context import Context, Reads
from vouchgate.flows.facts_approvals import ended, key_of
from vouchgate.flows.obligations import denied_with
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.approvals import Approval, Owed, Settled
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import Conflict, LimitExceeded
from vouchgate.vocabulary.records import Append, PutRecord
from vouchgate.vocabulary.vouches import UnixMillis

KIND = "owed-budget"
"""Kind of the record that holds counts."""
WINDOW_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
MAX_COUNTS = 100_000
"""Counts at hand (about 40 MB); above it those whose windows are over are forgotten, and if none are, nothing more is let through."""
PAGE = 1_000
"""Records read at once."""

Cell = tuple[str, str]
"""(principal, endpoint)."""


class Counted(wire.Noun, frozen=True, kw_only=True):
    """What one caller was allowed at one endpoint in its newest windows."""

    principal: str
    endpoint: str
    windows: dict[str, tuple[int, int]] = {}
    """Window -> (its number since 1970, requests)."""


class Settling:
    """See the module's text."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._counts: dict[Cell, dict[str, tuple[int, int]]] = {}

    def start(self, store: Reads) -> None:
        """Take up what was counted before."""
        now, after = self._context.clock.now(), ""
        while rows := store.scan(KIND, after=after, limit=PAGE):
            for row in rows:
                one = wire.decode(Counted, row.value, what="count")
                if not _over(one.windows, now):
                    self._counts[one.principal, one.endpoint] = dict(one.windows)
            after = rows[-1].key

    async def settle(self, decision: Decision, owed: Owed) -> tuple[Settled, Decision]:
        """Rules 1 to 4: how it ended, and the decision as it was recorded. Raises what the store raises; then nothing was let through."""
        facts, now = self._context.facts, self._context.clock.now()
        names = (decision.principal, *decision.actors)
        if facts.policies is None or (decision.policy_version, decision.policy_digest) != (facts.policies.version, facts.policies.digest):
            return await self._refuse(decision, Settled(code="policy-changed", reason="the policy has just changed", remedy="ask again"))
        if any(facts.revocation_of(name) is not None for name in names):
            return await self._refuse(
                decision, Settled(code="revoked", reason="somebody of the chain was revoked", remedy="ask a responder")
            )
        spent = self._spent(names, owed, now)
        if spent is not None:
            return await self._refuse(decision, spent)
        agreed = None
        if owed.groups:
            wanted = self._wanted(decision, owed, now)
            agreed = facts.approvals.open_of(key_of(wanted), now)
            if agreed is None or agreed.stage != "approved":
                return await self._wait(decision, agreed, wanted)
            fell = fallen(facts, agreed, now)
            if fell:
                return await self._fall(decision, agreed, fell, now)
        return await self._allow(decision, owed, agreed, now)

    async def _allow(self, decision: Decision, owed: Owed, agreed: Approval | None, now: UnixMillis) -> tuple[Settled, Decision]:
        cells = [(name, owed.endpoint) for name in (decision.principal, *decision.actors)] if owed.budgets else []
        for cell in cells:
            self._count(cell, owed, now, 1)
        changes = [ApprovalPut(approval=ended(agreed, "used", decision.id, now))] if agreed else []
        try:
            await self._commit(decision, changes, [self._record(cell) for cell in cells], lane=f"budget:{owed.endpoint}" if cells else "")
        except BaseException as error:
            for cell in cells:
                self._count(cell, owed, now, -1)
            if not (isinstance(error, Conflict) and agreed):
                raise
            used = Settled(code="approval-needed", reason="the approval was used by another request", remedy="ask again for a new one")
            return await self._refuse(decision, used)
        return Settled(), decision

    async def _wait(self, decision: Decision, waiting: Approval | None, wanted: Approval) -> tuple[Settled, Decision]:
        found = waiting or wanted
        try:
            return await self._refuse(decision, _needed(found), [] if waiting else [ApprovalPut(approval=wanted)])
        except Conflict:
            # another of the same request came first
            return await self._refuse(decision, _needed(self._context.facts.approvals.open_of(key_of(wanted), wanted.asked_at) or found))
        except LimitExceeded as error:
            full = Settled(code="approvals-full", reason=error.reason, remedy=error.remedy, retry_after=60)
            return await self._refuse(decision, full)

    async def _fall(self, decision: Decision, agreed: Approval, why: str, now: UnixMillis) -> tuple[Settled, Decision]:
        said = Settled(code="approval-needed", reason=f"an approval fell: {why}", remedy="ask again; another person approves")
        with contextlib.suppress(Conflict):
            return await self._refuse(decision, said, [ApprovalPut(approval=ended(agreed, "refused", "system:fallen", now))])
        return await self._refuse(decision, said)

    async def _refuse(self, decision: Decision, settled: Settled, changes: Sequence[ApprovalPut] = ()) -> tuple[Settled, Decision]:
        made = denied_with(decision, settled)
        await self._commit(made, changes, [])
        return settled, made

    async def _commit(self, decision: Decision, changes: Sequence[ApprovalPut], steps: Sequence[PutRecord], *, lane: str = "") -> None:
        entry = Append(entry=ocsf.decision(decision), label=decision.id)
        await self._context.sequencer.submit(lane or f"pdp:{decision.principal}", changes, [entry], steps=steps)

    def _wanted(self, decision: Decision, owed: Owed, now: UnixMillis) -> Approval:
        assert owed.parameters is not None
        return Approval(
            id=secrets.token_hex(8),
            principal=decision.principal,
            actors=decision.actors,
            action=decision.action,
            resource=decision.resource,
            endpoint=owed.endpoint,
            parameters=owed.parameters,
            groups=tuple(sorted(set(owed.groups))),
            reason=decision.reason,
            asked_at=now,
            expires_at=UnixMillis(now + self._context.settings.limits.approval_minutes * 60_000),
            decision_id=decision.id,
        )

    # -- rule 2

    def _spent(self, names: Sequence[str], owed: Owed, now: UnixMillis) -> Settled | None:
        for name in names if owed.budgets else ():
            counts = self._counts.get((name, owed.endpoint), {})
            for budget in owed.budgets:
                most, _, window = budget.partition("/")
                number, used = counts.get(window, (0, 0))
                if number >= now // WINDOW_MS[window] and used >= int(most):
                    wait = -(-((number + 1) * WINDOW_MS[window] - now) // 1000)
                    reason = f"`{name}` has used up its {most} requests of this {window}"
                    return Settled(code="budget-spent", reason=reason, remedy=f"ask again in {wait} s", retry_after=wait)
        if owed.budgets and len(self._counts) >= MAX_COUNTS and not self._forget(now):
            return Settled(code="budget-spent", reason="too many callers are counted", remedy="ask again shortly", retry_after=60)
        return None

    def _count(self, cell: Cell, owed: Owed, now: UnixMillis, by: int) -> None:
        counts = self._counts.setdefault(cell, {})
        for window in {budget.partition("/")[2] for budget in owed.budgets}:
            number, used = counts.get(window, (0, 0))
            current = now // WINDOW_MS[window]
            if number > current and by > 0:
                current = number
            if number == current:
                counts[window] = (number, used + by)
            elif by > 0:
                counts[window] = (current, by)

    def _record(self, cell: Cell) -> PutRecord:
        said = Counted(principal=cell[0], endpoint=cell[1], windows=self._counts[cell])
        return PutRecord(KIND, f"{cell[0]} {cell[1]}", wire.encode(said))

    def _forget(self, now: UnixMillis) -> bool:
        self._counts = {cell: windows for cell, windows in self._counts.items() if not _over(windows, now)}
        return len(self._counts) < MAX_COUNTS


def _over(windows: dict[str, tuple[int, int]], now: UnixMillis) -> bool:
    return all(number < now // WINDOW_MS[window] for window, (number, _) in windows.items())


def _needed(one: Approval) -> Settled:
    missing = [group for group in one.groups if group not in {said.group for said in one.given}]
    return Settled(
        code="approval-needed",
        reason=f"a person of {' and one of '.join(f'`{group}`' for group in missing)} has to agree to exactly this request",
        remedy=f"ask one to run `vouchgate approve give {one.id}`, then send the same request again",
        approval=one.id,
        approval_until=one.expires_at,
    )
