"""Policies are validated and compiled beside the event loop, before anything that holds it up needs them.

    await prevalidate(sources, validator, crossings=..., zones=...)      one set; raises `InvalidPolicy`
    await beside(facts, sources, validator)                              one set alone, and with the crossings in force; never raises for it
    await prepare(facts, changes, validator)                             every set that these changes bring into force

Rules
1. Cedar's validator holds the interpreter's lock for a millisecond a policy, so a child process runs it (ports/prover.py). Its verdict is taken over for
   exactly the texts that were sent (`catalog.accept`). No verdict (the child died, hung, could not be had) is no "yes": whoever loads the set
   then validates it in process, slowly.
2. A refusal is taken as it is: nothing that the child refuses comes into force.
3. What is left (reading, compiling) runs in a thread, in calls of a few milliseconds, and is kept; so is what comes into force later.
4. This only prepares. What applies the change asks `load` as before, which validates whatever has no verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from vouchgate.flows.changes import CrossingsPut, PolicyActivated, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.facts_zones import compile_in_force, sources_in_force
from vouchgate.flows.sequence import Sequenced
from vouchgate.policy.catalog import accept, accepted, schema_text, verdict_key
from vouchgate.policy.jobs import ValidateJob
from vouchgate.vocabulary.answers_policy import PolicyText
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.places import Crossing


class Validator(Protocol):
    """ports/prover.py"""

    def validate(self, job: ValidateJob) -> str:
        """The key of the verdict; empty where there is none. Blocks."""


async def prevalidate(
    sources: Sequence[tuple[str, str]], validator: Validator | None, *, crossings: Sequence[Crossing] = (), zones: Iterable[str] = ()
) -> None:
    """Rules 1 to 3. Raises `InvalidPolicy`; what else goes wrong is left to whoever loads the set."""
    if validator is None:
        return
    zones = tuple(zones)
    wanted = sources_in_force(sources, crossings=crossings, zones=zones)
    if not accepted(wanted):
        schema = schema_text()
        job = ValidateJob(schema=schema, policies=tuple(PolicyText(name=one.name, text=one.text) for one in wanted))
        key = await asyncio.to_thread(validator.validate, job)
        if key != verdict_key(wanted, schema):
            return
        accept(key)
    await asyncio.to_thread(compile_in_force, tuple(sources), version=0, crossings=tuple(crossings), zones=zones)


async def beside(facts: Facts, sources: Sequence[tuple[str, str]], validator: Validator | None) -> None:
    """A set that is looked at, not brought into force: alone (`policy.check`), and beside what holds between zones."""
    for crossings in dict.fromkeys(((), tuple(facts.crossings))):
        with contextlib.suppress(VouchgateError):
            await prevalidate(sources, validator, crossings=crossings, zones=facts.zones)


async def prepare(facts: Facts, changes: Sequence[Sequenced], validator: Validator | None, *, checked: bool = False) -> None:
    """Every set that the changes, one after the other, would have compiled, and where they are `checked` first, what that compiles. Never
    raises for a set: applying the change says what is wrong."""
    if validator is None:
        return
    sources, crossings, zones = facts.policy.sources if facts.policy else None, facts.crossings, list(facts.zones)
    for one in changes:
        match one.change:
            case PolicyActivated(sources=activated):
                sources = activated
            case CrossingsPut(crossings=put):
                crossings = put
            case ZonePut(zone=zone) if zone.name not in zones:
                zones.append(zone.name)
                if not crossings:
                    continue
            case _:
                continue
        sets = [sources] if sources is not None else []
        if checked and not isinstance(one.change, PolicyActivated):
            sets.append(())
        for texts in sets:
            with contextlib.suppress(VouchgateError):
                await prevalidate(texts, validator, crossings=crossings, zones=zones)
