"""The part of the control plane's surface that looks at policies over time: history, records, suggestions. Nothing happens here but naming the verb
and handing over."""

from __future__ import annotations

import asyncio

from vouchgate.flows import policy_history, replay, suggest
from vouchgate.flows.administer import authorise
from vouchgate.flows.context import Context
from vouchgate.policy.learn import Options
from vouchgate.vocabulary import answers_policy
from vouchgate.vocabulary.answers import Caller


class PolicySystem:
    """See the module's text."""

    context: Context

    async def policy_history(self, caller: Caller, version: int) -> answers_policy.PolicyHistory:
        await authorise(self.context, caller, "analyse")
        return await asyncio.to_thread(policy_history.history, self.context, version)

    async def policy_snapshot(self, caller: Caller) -> answers_policy.PolicySnapshot:
        await authorise(self.context, caller, "analyse")
        return await replay.snapshot(self.context)

    async def policy_records(self, caller: Caller, start: int, since: int) -> answers_policy.RecordedPage:
        await authorise(self.context, caller, "analyse")
        return await replay.page(self.context, start, since)

    async def policy_replay(self, caller: Caller, text: str, days: int) -> answers_policy.ReplayOutcome:
        await authorise(self.context, caller, "analyse")
        return await suggest.replayed(self.context, text, days)

    async def policy_suggest(self, caller: Caller, zone: str, days: int) -> answers_policy.Suggestion:
        await authorise(self.context, caller, "analyse")
        return await suggest.suggested(self.context, Options(zone=zone), days)

    async def policy_privilege(self, caller: Caller, principal: str, days: int) -> answers_policy.PrivilegeTable:
        await authorise(self.context, caller, "analyse")
        return await suggest.privileges(self.context, principal, days)
