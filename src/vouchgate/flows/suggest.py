"""Replay, suggestion and privileges worked out here, beside the event loop, for whoever has no process of its own to do it in (the console).

    replayed(context, text, days) / suggested(context, options, days) / privileges(context, principal, days)

Each looks at one still picture of the entities, at most `MAX_RECORDS` records, and one of them runs at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

from vouchgate.flows.context import Context
from vouchgate.flows.replay import Picture, beside, picture, recorded
from vouchgate.policy.learn import Options
from vouchgate.policy.privilege import table
from vouchgate.policy.recorded import NOT_RECORDED
from vouchgate.policy.replay import Replay
from vouchgate.policy.suggest import suggest
from vouchgate.policy.usage import Usage
from vouchgate.vocabulary.answers_policy import PrivilegeTable, ReplayOutcome, Suggestion
from vouchgate.vocabulary.errors import Conflict
from vouchgate.vocabulary.places import Endpoint

MAX_RECORDS = 200_000
"""Records of one analysis here: some seconds of one core. `vouchgate policy ...` does more in its own process."""
DAY_MS = 86_400_000
TURN = "policy-analysis"
"""Marks in `Context.once` that one is running."""
Answer = TypeVar("Answer", ReplayOutcome, Suggestion, PrivilegeTable)


async def replayed(context: Context, text: str, days: int) -> ReplayOutcome:
    """What a text would have answered to the last days' requests. Raises `InvalidPolicy`, `Conflict`."""
    made, since, endpoints = _begin(context, days)
    new = await asyncio.to_thread(context.facts.compiled, [("policy.cedar", text)])

    def work() -> ReplayOutcome:
        replay = Replay(made.world, made.policies, new, not_recorded=frozenset(NOT_RECORDED))
        for some in recorded(context, endpoints, since, MAX_RECORDS):
            replay.take(some)
        return _bounded(replay.outcome(), replay.records)

    return await _alone(context, work)


async def suggested(context: Context, options: Options, days: int) -> Suggestion:
    """A suggestion from the last days. Raises `InvalidInput` where nothing was seen, `Conflict`."""
    made, since, endpoints = _begin(context, days)
    standing = {one.principal: one for one in made.standing}
    names = tuple(name for name, _ in context.facts.policy.sources) if context.facts.policy else ()

    def work() -> Suggestion:
        usage, count = _usage(context, endpoints, since)
        found = suggest(usage, made.world, made.policies, standing, options, asks=made.asks, beside=beside(made.policies, names))
        return _bounded(found, count)

    return await _alone(context, work)


async def privileges(context: Context, principal: str, days: int) -> PrivilegeTable:
    """Granted beside used cells. Raises `NotFound`, `Conflict`."""
    made, since, endpoints = _begin(context, days)

    def work() -> PrivilegeTable:
        usage, count = _usage(context, endpoints, since)
        return _bounded(table(usage, made.world, made.policies, made.asks, principal=principal), count)

    return await _alone(context, work)


def _begin(context: Context, days: int) -> tuple[Picture, int, dict[str, Endpoint]]:
    made = picture(context)
    return made, made.now - days * DAY_MS, dict(context.facts.endpoints)


def _usage(context: Context, endpoints: dict[str, Endpoint], since: int) -> tuple[Usage, int]:
    usage, count = Usage(), 0
    for some in recorded(context, endpoints, since, MAX_RECORDS):
        usage.take(some)
        count += len(some)
    return usage, count


def _bounded(found: Answer, count: int) -> Answer:
    return msgspec.structs.replace(found, cut_off=True) if count >= MAX_RECORDS else found


async def _alone(context: Context, work: Callable[[], Answer]) -> Answer:
    """One at a time: two would only take each other's core."""
    if TURN in context.once:
        raise Conflict("another analysis is running", remedy="wait for it, or use the command line: `vouchgate policy suggest`")
    context.once.add(TURN)
    try:
        return await asyncio.to_thread(work)
    finally:
        context.once.discard(TURN)
