"""When and from where a caller usually calls: learned from the access log in the control plane, told to a policy as `usual_hour`, `usual_network`.

Learning
1. From calls that were let through, and would be where a zone enforces; of callers that proved who they are; while nothing known against the
   caller has a risk above `MAX_RISK`. What was refused teaches nothing. For whom it was called does not matter, only who called.
2. Today teaches nothing today. What was seen on `MIN_DAYS` of the last `DAYS` days with calls is usual; a caller with fewer days has no habits
   yet, and then the facts are absent: a policy says what that means.
3. Days without calls do not count: who comes back from a holiday is held to what was usual before it.
4. An hour counts for its neighbours too: nobody's day begins on the minute.
Keeping
5. What is new in a batch of lines is committed with the batch, so a restart neither forgets nor repeats it.
6. The decision worker is told of a caller's habits when they changed, at most once a day, `AT_ONCE` callers at a time.
7. Bounded: `MAX_CALLERS`, the least recently seen are forgotten; `MAX_NETWORKS` for each. With a registration its habits go.
A registration's declared networks and hours count at once.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.changes import Change, HabitPut, RegistrationRemoved
from vouchgate.flows.context import Reads
from vouchgate.flows.facts import Facts
from vouchgate.flows.sequence import Sequenced, Sequencer
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.habits import Habit, hours_of, is_within, network_of
from vouchgate.vocabulary.names import PrincipalId, resource
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.records import Append, DeleteRecord, PutRecord
from vouchgate.vocabulary.records import Change as Step
from vouchgate.vocabulary.vouches import UnixMillis

KIND = "habits"
"""Kind of the record that holds what was seen of one caller."""
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
DAYS = 28
"""Days with calls that are remembered: four weeks, so that what is done once a week is seen four times."""
MIN_DAYS = 3
"""Days on which a thing was seen before it is usual: a stolen token has to be let through on three."""
MAX_RISK = 20
"""Risk above which a caller teaches nothing; the pack steps up from 30."""
MAX_NETWORKS = 8
"""Networks of one caller; a traveller's oldest are forgotten."""
MAX_CALLERS = 100_000
"""Callers with habits: about 60 MB."""
AT_ONCE = 64
"""Callers whose new habits are told in one commit, so that nothing waits for the morning's hundred thousand."""
PAGE = 1_000
"""Records read at once."""
_ALL_DAYS = (1 << DAYS) - 1
_HOURS = struct.Struct("<24I")
_NEVER_SEEN = _HOURS.pack(*[0] * 24)


class Seen(wire.Noun, frozen=True, kw_only=True):
    """What was seen of one caller. A set of days is a number: bit 0 is the last whole day with calls."""

    principal: str
    day: int
    """Days since 1970 (UTC) of what stands in `today`."""
    days: int = 0
    """Whole days with calls, at most `DAYS`."""
    hours: bytes = _NEVER_SEEN
    """Of each hour, the set of days."""
    networks: tuple[tuple[str, int], ...] = ()
    """Network and its set of days."""
    today_hours: int = 0
    today_networks: tuple[str, ...] = ()


def seen_on(seen: Seen, day: int, hour: int, network: str) -> Seen:
    """One more call; the same where it says nothing new, or is of a day before the one that is being gathered."""
    if day < seen.day:
        return seen
    if day > seen.day:
        seen = closed(seen, day)
    news: dict[str, Any] = {}
    if not seen.today_hours >> hour & 1:
        news["today_hours"] = seen.today_hours | 1 << hour
    if network and network not in seen.today_networks and len(seen.today_networks) < MAX_NETWORKS:
        news["today_networks"] = (*seen.today_networks, network)
    return msgspec.structs.replace(seen, **news) if news else seen


def closed(seen: Seen, day: int) -> Seen:
    """The day that was gathered becomes a day of the past (rules 2 and 3)."""
    if not seen.today_hours:
        return msgspec.structs.replace(seen, day=day)
    hours = [(days << 1 | seen.today_hours >> hour & 1) & _ALL_DAYS for hour, days in enumerate(_HOURS.unpack(seen.hours))]
    networks = {name: days << 1 & _ALL_DAYS for name, days in seen.networks}
    networks |= {name: networks.get(name, 0) | 1 for name in seen.today_networks}
    # of more than fit, those seen on most days stay, and among these the latest
    kept = sorted((one for one in networks.items() if one[1]), key=lambda one: (-one[1].bit_count(), one[1] & -one[1], one[0]))[
        :MAX_NETWORKS
    ]
    return Seen(principal=seen.principal, day=day, days=min(DAYS, seen.days + 1), hours=_HOURS.pack(*hours), networks=tuple(sorted(kept)))


def habit_of(seen: Seen) -> Habit | None:
    """What is usual, from whole days alone; None with too few."""
    if seen.days < MIN_DAYS:
        return None
    days = _HOURS.unpack(seen.hours)
    near = (days[hour - 1] | days[hour] | days[(hour + 1) % 24] for hour in range(24))
    return Habit(
        principal=PrincipalId(seen.principal),
        hours=sum(1 << hour for hour, found in enumerate(near) if found.bit_count() >= MIN_DAYS),
        networks=tuple(name for name, found in seen.networks if found.bit_count() >= MIN_DAYS),
    )


def usual_facts(habit: Habit | None, registration: Registration | None, hour: int, address: str) -> dict[str, bool]:
    """What a policy is told; nothing where nothing is known or declared."""
    declared_hours = hours_of(registration.hours) if registration else 0
    declared_networks = registration.networks if registration else ()
    known: dict[str, bool] = {}
    if habit is not None or declared_hours:
        known["usual_hour"] = bool(((habit.hours if habit else 0) | declared_hours) >> hour & 1)
    if address and (habit is not None or declared_networks):
        learned = habit is not None and network_of(address) in habit.networks
        known["usual_network"] = learned or (bool(declared_networks) and is_within(address, declared_networks))
    return known


class Habits:
    """Rules 1 and 5 to 7, in the control plane."""

    def __init__(self, facts: Facts, sequencer: Sequencer, clock: Callable[[], UnixMillis]) -> None:
        self._facts, self._sequencer, self._clock = facts, sequencer, clock
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._names: dict[str, str] = {}
        """Networks, so that equal ones are one object."""
        self._due: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self._before: dict[str, Seen | None] = {}
        """What the callers of the batch that is being committed had before."""

    @property
    def callers(self) -> int:
        """Of whom something was seen."""
        return len(self._seen)

    def start(self, store: Reads) -> None:
        """Take up what was seen before."""
        after = ""
        while rows := store.scan(KIND, after=after, limit=PAGE):
            for row in rows:
                seen = wire.decode(Seen, row.value, what="habits")
                if seen.principal not in self._facts.registrations:
                    self._gone[seen.principal] = None
                    continue
                self._put(seen)
                self._look(seen)
            after = rows[-1].key

    def tell(self, batch: Sequence[Sequenced]) -> None:
        """Rule 7 for changes that are durable."""
        for one in batch:
            if isinstance(one.change, RegistrationRemoved):
                self._forget(one.change.principal)

    def count(self, lines: Iterable[tuple[DecisionLine, str]]) -> list[Step]:
        """Rules 1 and 5 for ended calls, each with who made it; what to commit with them. Undone by `undo` where the commit fails."""
        self._before = {}
        for line, who in lines:
            if self._teaches(line, who):
                self._add(line, who)
        return [PutRecord(KIND, who, wire.encode(self._seen[who])) for who in self._before if who in self._seen]

    def undo(self) -> None:
        """The batch was not committed: as if it had not been seen."""
        for who, before in self._before.items():
            if before is None:
                self._seen.pop(who, None)
            else:
                self._seen[who] = before
        self._before = {}

    async def settle(self) -> None:
        """Rule 6, and the records of who is gone. What cannot be written down is tried again with the next lines."""
        due, gone = list(self._due)[:AT_ONCE], list(self._gone)[:AT_ONCE]
        habits = [habit for who in due if (habit := habit_of(self._seen[who])) is not None] if due else []
        if not habits and not gone:
            for who in due:
                self._due.pop(who, None)
            return
        changes: list[Change] = [HabitPut(habit=habit) for habit in habits]
        steps: list[Step] = [DeleteRecord(kind=kind, key=who) for who in gone for kind in (KIND, "habit")]
        try:
            await self._sequencer.submit("habits", changes, [self._entry(habits, gone)], steps=steps)
        except VouchgateError:
            return
        for who in due:
            self._due.pop(who, None)
        for who in gone:
            self._gone.pop(who, None)

    def _teaches(self, line: DecisionLine, who: str) -> bool:
        if line.effect != "allow" or line.would_be != "allow" or not line.authenticated:
            return False
        known = who in self._facts.registrations and who not in self._gone
        return known and self._facts.risk_of(who, line.resource).value <= MAX_RISK

    def _add(self, line: DecisionLine, who: str) -> None:
        day, hour = line.at // DAY_MS, line.at // HOUR_MS % 24
        old = self._seen.get(who)
        network = network_of(address_of(line.peer))
        new = seen_on(old or Seen(principal=who, day=day), day, hour, self._names.setdefault(network, network))
        if new is old:
            self._seen.move_to_end(who)
            return
        self._before.setdefault(who, old)
        self._put(new)
        if old is None or new.day != old.day:
            self._look(new)

    def _put(self, seen: Seen) -> None:
        self._seen[seen.principal] = seen
        self._seen.move_to_end(seen.principal)
        if len(self._seen) > MAX_CALLERS:
            self._forget(next(iter(self._seen)))
        if len(self._names) > MAX_CALLERS:
            self._names.clear()

    def _look(self, seen: Seen) -> None:
        """Whether the decision worker knows less."""
        habit = habit_of(seen)
        if habit is not None and habit != self._facts.habits.get(seen.principal):
            self._due[seen.principal] = None

    def _forget(self, who: str) -> None:
        self._due.pop(who, None)
        if self._seen.pop(who, None) is not None:
            self._gone[who] = None

    def _entry(self, habits: Sequence[Habit], gone: Sequence[str]) -> Append:
        td, now = self._facts.trust_domain, self._clock()
        entry = ocsf.act(
            td,
            uid=f"habits/{now}/{habits[0].principal if habits else gone[0]}",
            who="system:control",
            verb="learn-habits",
            resource=resource(td, "system", "control"),
            outcome="done",
            detail={"learned": [one.principal for one in habits], "forgotten": list(gone)},
            now=now,
        )
        return Append(entry=entry)


def address_of(peer: str) -> str:
    """`10.0.0.7` of `10.0.0.7:4711`, `2001:db8::1` of `[2001:db8::1]:4711`."""
    return peer.rpartition(":")[0].strip("[]") or peer
