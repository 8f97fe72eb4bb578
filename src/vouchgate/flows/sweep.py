"""Registrations that have ended are taken away.

They earn nothing from their end on, swept or not (facts_registrations.py); this gives back what they hold, and puts their end into the log.
One that was made to last longer in the meantime is left alone: what is swept is looked at again when its turn comes.
"""

from __future__ import annotations

import asyncio
import contextlib

from vouchgate.audit import ocsf
from vouchgate.flows.changes import RegistrationRemoved
from vouchgate.flows.context import Context
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append

SWEEP_SECONDS = 5.0
"""Between looks; what has ended is refused at once."""
AT_ONCE = 100
"""Registrations of one commit: a sweep of thousands delays nobody's change."""
SWEEPER = "system:sweep"


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


async def run(context: Context) -> None:
    """Sweep again and again; a store that does not work is told by others (health.py)."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        # what could not be swept is found again at the next look
        with contextlib.suppress(VouchgateError):
            await sweep(context)
