"""Registrations that have ended are taken away, and records of credentials that ended a day ago.

They earn nothing from their end on, swept or not (facts_registrations.py); this gives back what they hold, and puts their end into the log.
One that was made to last longer in the meantime is left alone: what is swept is looked at again when its turn comes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from vouchgate.audit import ocsf
from vouchgate.flows import approvals
from vouchgate.flows.changes import RegistrationRemoved
from vouchgate.flows.context import Context
from vouchgate.flows.facts_credentials import ENDS_INDEX, HOUR_MS
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append, DeleteRecord

SWEEP_SECONDS = 5.0
"""Between looks; what has ended is refused at once."""
AT_ONCE = 100
"""Registrations of one commit: a sweep of thousands delays nobody's change."""
SWEEPER = "system:sweep"
KEPT_HOURS = 26
"""Hours for which the record of an ended credential is kept: the longest life, and clocks that differ. The log keeps it for ever."""
LOOKED_HOURS = 24 * 30
"""Hours before that which are looked at: a control plane that was down for a month forgets no record."""
PAGE = 500
"""Records of one commit."""
PAGES = 20
"""Commits of one sweep; with 5 s between sweeps, 2,000 credentials a second are forgotten as fast as they are issued."""


async def sweep(context: Context) -> int:
    """Take away what has ended by now; how many that were. Raises what the store raises."""
    now = context.clock.now()
    ended = context.facts.expired(now)
    taken = 0
    for start in range(0, len(ended), AT_ONCE):
        part = [name for name in ended[start : start + AT_ONCE] if name in context.facts.registrations]
        part = [name for name in part if context.facts.registration_of(name, now) is None]
        entries = [
            Append(
                entry=ocsf.act(
                    context.trust_domain,
                    uid=f"ended/{name}/{context.facts.registrations[name].expires_at}",
                    who=SWEEPER,
                    verb="unregister",
                    resource=resource(context.trust_domain, "system", "control"),
                    outcome="done",
                    detail={"principal": name, "ended_at": context.facts.registrations[name].expires_at},
                    now=now,
                )
            )
            for name in part
        ]
        if part:
            await context.sequencer.submit(SWEEPER, [RegistrationRemoved(principal=name) for name in part], entries)
        taken += len(part)
    return taken


class Forgetting:
    """Which hours hold records of credentials that ended long ago; an hour is looked at until it is empty, then never again."""

    def __init__(self) -> None:
        self._next = 0

    async def forget(self, context: Context) -> int:
        """Remove some; how many went. Raises what the store raises."""
        last = context.clock.now() // HOUR_MS - KEPT_HOURS
        hour, gone = max(self._next, last - LOOKED_HOURS), 0
        for _ in range(PAGES):
            page: list[Any] = []
            while hour < last and not page:
                page = context.store.scan("credential", index=ENDS_INDEX, equals=str(hour), limit=PAGE)
                hour += 0 if page else 1
            if not page:
                break
            await context.sequencer.append(SWEEPER, [], steps=[DeleteRecord(kind="credential", key=one.key) for one in page])
            gone += len(page)
        self._next = hour
        return gone


async def run(context: Context) -> None:
    """Sweep again and again; a store that does not work is told by others (health.py)."""
    forgetting = Forgetting()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        # what could not be swept is found again at the next look
        with contextlib.suppress(VouchgateError):
            await sweep(context)
            await forgetting.forget(context)
            await approvals.forget(context)
