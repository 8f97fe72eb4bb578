"""What went through the gateway: the access log's events become log entries, counters and, in observe, would-be decisions.

In the tailer
1. An event becomes an OCSF entry and a short line for people (shape.py).
In the control plane
2. Entries, what they count of budgets (budgets.py) and teach of habits (habits.py), and the file's new offset are one commit; a batch whose first offset is not the stored one is refused (exactly once).
3. The line gets the reason of the decision behind it: the PDP worker's answer, the grant's standing decision, or the gateway's own word.
4. A partner's caller is counted and shown under the name that stands for it here, with its own beside (`ocsf.ACTS_AS`).
5. In observe the decision that enforcing would have made is computed beside and recorded once per cell and epoch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.budgets import Budgets
from vouchgate.flows.facts import Facts
from vouchgate.flows.habits import Habits
from vouchgate.flows.sequence import Sequencer
from vouchgate.flows.shape import SOURCE, Shaped
from vouchgate.flows.traffic import Traffic
from vouchgate.identity.verify import declared, registered
from vouchgate.policy.obligations import EVERY
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.records import Append, SetOffset
from vouchgate.vocabulary.vouches import UnixMillis

REMEMBERED = 5_000
"""Decisions at hand by id, so that a line can say why; older ones are read from the log."""


class Observer:
    """Steps 2 to 5."""

    def __init__(
        self,
        facts: Facts,
        sequencer: Sequencer,
        traffic: Traffic,
        clock: Callable[[], UnixMillis],
        budgets: Budgets | None = None,
        habits: Habits | None = None,
    ) -> None:
        self._facts, self._sequencer, self._traffic, self._clock, self._budgets = facts, sequencer, traffic, clock, budgets
        self._habits = habits
        self._decisions: OrderedDict[str, Decision] = OrderedDict()
        self._would: OrderedDict[tuple[Any, ...], Decision] = OrderedDict()
        self.heard_at = UnixMillis(0)
        """When the tailer last said that it is up to date, or brought lines."""
        self.end_lines = 0
        """Ended requests that were taken in since the start."""

    def remember(self, decision: Decision) -> None:
        """A decision that a line may name."""
        self._decisions[decision.id] = decision
        if len(self._decisions) > REMEMBERED:
            self._decisions.popitem(last=False)

    def decision(self, decision_id: str) -> Decision | None:
        """A decision that was made lately."""
        return self._decisions.get(decision_id)

    async def take(self, shaped: Sequence[Shaped], offset: SetOffset) -> None:
        """Step 2 after 4, then 3 and 5. Raises `Conflict` where the batch does not continue what was read."""
        shaped = [self._named(one) for one in shaped]
        entries = [Append(entry=one.entry, label=one.line.request_id) for one in shaped]
        news: dict[str, Decision] = {}
        lines = [self._explained(one, news) for one in shaped]
        extra = [Append(entry=ocsf.decision(would), label=would.id) for would in news.values()]
        counts = self._budgets.count(shaped) if self._budgets else []
        ended = [(line, self._called_by(line)) for one, line in zip(shaped, lines, strict=True) if one.final]
        learned = self._habits.count(ended) if self._habits else []
        try:
            first = await self._sequencer.append(SOURCE, entries + extra, steps=(offset, *counts, *learned))
        except BaseException:
            if self._budgets:
                self._budgets.undo()
            if self._habits:
                self._habits.undo()
            raise
        for would in news.values():
            self.remember(would)
        self.heard_at = self._clock()
        for number, (one, line) in enumerate(zip(shaped, lines, strict=True)):
            if one.final:
                self.end_lines += 1
                self._traffic.add(msgspec.structs.replace(line, seq=first + number))
        if self._budgets:
            await self._budgets.settle()
        if self._habits:
            await self._habits.settle()

    def _called_by(self, line: DecisionLine) -> str:
        """Who made the call: of a delegated one the actor, whose address it is."""
        known = self._decisions.get(line.decision_id)
        return known.actors[0] if known is not None and known.actors else line.principal

    def _named(self, one: Shaped) -> Shaped:
        """Step 4."""
        who = one.line.principal
        if not one.line.authenticated or who.startswith(f"spiffe://{self._facts.trust_domain}/"):
            return one
        alias = self._facts.alias_of(who, self._clock())
        if alias is None:
            return one
        line = msgspec.structs.replace(one.line, principal=alias.principal, federated=who)
        return msgspec.structs.replace(one, line=line, entry=ocsf.acting_as(one.entry, alias.principal))

    def _explained(self, one: Shaped, news: dict[str, Decision]) -> DecisionLine:
        line = one.line
        if one.observed:
            would = self._would_be(line)
            if would is None:
                return line
            if would.id not in self._decisions:
                news[would.id] = would
            return msgspec.structs.replace(
                line,
                principal=would.principal,
                would_be=would.would_be,
                mode="observe",
                reason=would.reason,
                remedy=would.remedy,
                decision_id=would.id,
                waivers=would.waivers,
            )
        known = self._decisions.get(line.decision_id)
        if known is not None and (known.reason or known.remedy or known.waivers):
            said = {"reason": known.reason, "remedy": known.remedy, "mode": known.mode, "resource": known.resource}
            return msgspec.structs.replace(line, **said, waivers=known.waivers)
        return line

    def _would_be(self, line: DecisionLine) -> Decision | None:
        """What enforcing would have said; once per caller, act, thing and epoch."""
        key = (line.principal, line.action, line.resource, self._facts.epoch)
        made = self._would.get(key)
        if made is None:
            try:
                made = self._decide(line)
            except VouchgateError:
                return None
            self._would[key] = made
            if len(self._would) > REMEMBERED:
                self._would.popitem(last=False)
        return made

    def _decide(self, line: DecisionLine) -> Decision:
        now = self._clock()
        known = self._facts.registration_of(line.principal, now)
        if known is not None and line.authenticated:
            return self._facts.decide(registered(known, now), line.action, line.resource, now, carries=EVERY)
        caller = declared(declared_name(self._facts, line), f"address:{line.peer}", now)
        return self._facts.decide(caller, line.action, line.resource, now, carries=EVERY)


def declared_name(facts: Facts, line: DecisionLine) -> str:
    """A weak name for a caller that proves nothing: where it calls from."""
    endpoint = facts.endpoints.get(line.resource)
    host = line.peer.rpartition(":")[0].strip("[]").replace(":", "-") or "unknown"
    return principal(facts.trust_domain, "declared", endpoint.zone if endpoint else "unknown", f"address-{host}"[:64])
