"""What one caller may use of one provider on one day (UTC): counted from the access log, and ended by deciding anew.

1. Each ended call that was let through counts in the commit that takes its log line in, so a restart neither forgets nor repeats it.
2. Who used up a budget is written down as a fact of the day (`flag`), through the sequencer: the control plane and the PDP worker then deny
   the cell until the day ends or the budget is another one, natively and when asked, whatever a policy permits.
3. The cell is decided anew at once; at the day's end its decision lapses, and it is decided anew again.
4. What is counted too late, because it was begun yesterday and ended today, is counted to the day on which it began.

The overshoot is what began before the push: what the caller had in flight, and what began within the log's lag (at most [audit]
max_lag_seconds, beyond which leases end); a stream goes on for its endpoint's max_stream_seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.changes import SettingPut
from vouchgate.flows.context import Reads
from vouchgate.flows.sequence import Sequencer
from vouchgate.flows.shape import Shaped
from vouchgate.flows.spent import budget_words, flag, spent_until
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.places import Budget, Endpoint
from vouchgate.vocabulary.records import Append, PutRecord
from vouchgate.vocabulary.vouches import UnixMillis

KIND = "budget"
"""Kind of the record that holds a count."""
DAY_MS = 86_400_000
MAX_COUNTS = 100_000
"""Counts at hand, above which those of earlier days are forgotten; of today there is at most one for each caller and provider."""
PAGE = 1_000
"""Records read at once."""

Cell = tuple[str, str]
"""(endpoint id, principal id)."""


class Used(wire.Noun, frozen=True, kw_only=True):
    """What one caller used of one provider on one day."""

    endpoint: str
    principal: str
    day: int
    """Days since 1970 (UTC)."""
    requests: int = 0
    bytes: int = 0
    """Of bodies, both ways."""


class Budgets:
    """Step 1 to 3 in the control plane. `endpoints` and `settings` are the facts' own."""

    def __init__(
        self,
        trust_domain: str,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        settings: Callable[[], Mapping[str, str]],
        sequencer: Sequencer,
        redecide: Callable[[Iterable[Cell]], None],
        clock: Callable[[], UnixMillis],
    ) -> None:
        self._trust_domain, self._endpoints, self._settings = trust_domain, endpoints, settings
        self._sequencer, self._redecide, self._clock = sequencer, redecide, clock
        self._used: dict[Cell, Used] = {}
        self._due: set[Cell] = set()
        """Cells that may have used up their budget since that was last looked at."""
        self._before: dict[Cell, Used | None] = {}
        """What the cells of the batch that is being committed had before."""

    def start(self, store: Reads) -> None:
        """Take up what was counted before."""
        after = ""
        while rows := store.scan(KIND, after=after, limit=PAGE):
            for row in rows:
                used = wire.decode(Used, row.value, what="budget")
                self._used[used.endpoint, used.principal] = used
            after = rows[-1].key
        self._due = set(self._used)

    def used(self, cell: Cell) -> Used | None:
        """What was counted of a cell on its newest day."""
        return self._used.get(cell)

    def count(self, shaped: Sequence[Shaped]) -> list[PutRecord]:
        """Step 1: count a batch of lines; what to commit with it. Undone by `undo` where the commit fails."""
        self._before = {}
        for one in shaped:
            cell = (one.line.resource, one.line.principal)
            if one.final and one.line.effect == "allow" and one.line.principal and self._budget(cell) is not None:
                self._add(cell, day=one.line.at // DAY_MS, size=one.size)
        return [PutRecord(KIND, flag(cell), wire.encode(self._used[cell])) for cell in self._before]

    def undo(self) -> None:
        """The batch was not committed: as if it had not been counted."""
        for cell, before in self._before.items():
            if before is None:
                self._used.pop(cell, None)
            else:
                self._used[cell] = before
        self._before = {}

    async def settle(self) -> None:
        """Steps 2 and 3 for every cell that used up its budget and is not said to have. One that cannot be written down is tried again with the
        next lines."""
        for cell in sorted(self._due):
            budget = self._exhausted(cell)
            if budget is not None:
                said = f"{(self._today() + 1) * DAY_MS} {budget_words(budget)}"
                try:
                    await self._sequencer.submit("budgets", [SettingPut(key=flag(cell), value=said)], [self._entry(cell)])
                except VouchgateError:
                    return
                self._redecide([cell])
            self._due.discard(cell)

    def _add(self, cell: Cell, *, day: int, size: int) -> None:
        old = self._used.get(cell)
        if old is not None and day < old.day:
            return
        if old is None and len(self._used) >= MAX_COUNTS:
            self._forget()
        self._before.setdefault(cell, old)
        self._due.add(cell)
        base = old if old is not None and old.day == day else Used(endpoint=cell[0], principal=cell[1], day=day)
        self._used[cell] = msgspec.structs.replace(base, requests=base.requests + 1, bytes=base.bytes + size)

    def _forget(self) -> None:
        """Counts of other days; they bound nothing any more."""
        today = self._today()
        self._used = {cell: used for cell, used in self._used.items() if used.day >= today or cell in self._before}

    def _exhausted(self, cell: Cell) -> Budget | None:
        """The budget that is used up today and not said to be."""
        used, budget = self._used.get(cell), self._budget(cell)
        if used is None or budget is None or used.day != self._today():
            return None
        over = 0 < budget.requests <= used.requests or 0 < budget.bytes <= used.bytes
        said = spent_until(self._settings(), self._endpoints().get(cell[0]), cell[1]) > self._clock()
        return budget if over and not said else None

    def _budget(self, cell: Cell) -> Budget | None:
        endpoint = self._endpoints().get(cell[0])
        budget = endpoint.egress.budget if endpoint is not None and endpoint.egress is not None else None
        return budget if budget is not None and budget != Budget() else None

    def _today(self) -> int:
        return self._clock() // DAY_MS

    def _entry(self, cell: Cell) -> Append:
        used, now = self._used[cell], self._clock()
        entry = ocsf.act(
            self._trust_domain,
            uid=f"budget/{cell[0]}/{cell[1]}/{used.day}",
            who=cell[1],
            verb="use-up-budget",
            resource=cell[0],
            outcome="done",
            detail={"requests": used.requests, "bytes": used.bytes, "day": used.day},
            now=now,
        )
        return Append(entry=entry)
