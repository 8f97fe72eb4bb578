"""Approvals as facts: which requests wait for people, and how each may go on.

Rules
1. pending -> approved, refused; approved -> used, refused. Nothing else, nothing twice: the sequencer asks `check` before each commit, so of two
   that would use one approval up, one fails. After its end an approval goes nowhere.
2. What was asked for never changes; agreements are only added, each by another person and for another group, none by anybody of the chain.
3. At most `MAX_OPEN` are open, and of one name as many as `share` leaves: the fuller it gets, the fewer for each. Who asks once still gets in
   after somebody who asked for everything.
Left to others: who may agree, and whether those who did still may (approvals.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from vouchgate.vocabulary.approvals import Approval
from vouchgate.vocabulary.errors import Conflict, LimitExceeded
from vouchgate.vocabulary.vouches import UnixMillis

MAX_OPEN = 1_000
"""Approvals that wait at once; a person reads each of them."""
MAX_OPEN_OF_ONE = 20
"""Of one name, be it the caller or somebody who acts for it."""
FREE_PER_SHARE = 8
"""One name may hold one in so many of those that are still free."""
KEPT_MS = 3_600_000
"""Milliseconds for which an ended approval is still listed; the log keeps it for ever."""
_FIXED = (
    "principal",
    "actors",
    "action",
    "resource",
    "endpoint",
    "parameters",
    "groups",
    "reason",
    "asked_at",
    "expires_at",
    "decision_id",
)
_NEXT = {"pending": {"pending", "approved", "refused"}, "approved": {"used", "refused"}}
_AGAIN = "ask again; a new approval is opened"

Key = tuple[str, tuple[str, ...], str, str, str, tuple[str, ...]]


def key_of(one: Approval) -> Key:
    """What two requests must have in common to be one and the same."""
    return (one.principal, one.actors, one.action, one.resource, one.parameters.digest, one.groups)


class Approvals:
    """See the module's text."""

    def __init__(self) -> None:
        self.all: dict[str, Approval] = {}
        self._open: dict[Key, str] = {}
        self._held: Counter[str] = Counter()

    def open_of(self, key: Key, now: UnixMillis) -> Approval | None:
        """The one that waits, or that was agreed to and not used."""
        found = self.all.get(self._open.get(key, ""))
        return found if found is not None and found.expires_at > now else None

    def check(self, one: Approval, now: UnixMillis) -> None:
        """Whether it may follow what is there. Raises `Conflict` or `LimitExceeded`."""
        before = self.all.get(one.id)
        if before is None:
            self._check_new(one, now)
            return
        if any(getattr(before, name) != getattr(one, name) for name in _FIXED):
            raise Conflict(f"the approval `{one.id}` is for another request", remedy=_AGAIN)
        if one.stage not in _NEXT.get(before.stage, set()):
            raise Conflict(f"the approval `{one.id}` is {before.stage} already", remedy=_AGAIN)
        if before.expires_at <= max(now, one.ended_at, *(said.at for said in one.given), 0):
            raise Conflict(f"the approval `{one.id}` has expired", remedy=_AGAIN)
        if one.given[: len(before.given)] != before.given or (before.stage == "approved" and one.given != before.given):
            raise Conflict(f"somebody else agreed to `{one.id}` meanwhile", remedy="look at it again: `vouchgate approve list`")
        self._check_given(one)

    def put(self, one: Approval, now: UnixMillis) -> None:
        """Take it in."""
        self._forget(now)
        before = self.all.get(one.id)
        if before is not None:
            self._close(before)
        self.all[one.id] = one
        if one.stage in _NEXT and one.expires_at > now:
            self._open[key_of(one)] = one.id
            self._held.update(_names(one))

    def listed(self, now: UnixMillis) -> Iterator[Approval]:
        """Those that are open, then those that ended lately, the newest first."""
        known = sorted(self.all.values(), key=lambda one: (one.stage in _NEXT and one.expires_at > now, one.asked_at), reverse=True)
        return (one for one in known if one.expires_at + KEPT_MS > now)

    def waiting(self, now: UnixMillis) -> int:
        """How many wait for a person."""
        known = (self.all[name] for name in self._open.values())
        return sum(one.stage == "pending" and one.expires_at > now for one in known)

    def over(self, now: UnixMillis) -> list[str]:
        """Ids of those that ended long ago."""
        return [one.id for one in self.all.values() if one.expires_at + KEPT_MS <= now]

    def drop(self, names: Iterable[str]) -> None:
        """Forget these."""
        for name in names:
            one = self.all.pop(name, None)
            if one is not None:
                self._close(one)

    def _check_new(self, one: Approval, now: UnixMillis) -> None:
        if one.stage != "pending" or one.given or self.open_of(key_of(one), now) is not None:
            raise Conflict("this request waits for people already", remedy="see `vouchgate approve list`")
        self._lapse(now)
        free = MAX_OPEN - len(self._open)
        if free <= 0 or max(self._held[name] for name in _names(one)) >= share(free):
            raise LimitExceeded("too many requests wait for people", remedy="wait until some are answered or lapse, then ask again")

    def _check_given(self, one: Approval) -> None:
        groups, people = [said.group for said in one.given], [said.approver for said in one.given]
        if len(set(groups)) < len(groups) or len(set(people)) < len(people) or not set(groups) <= set(one.groups):
            raise Conflict("each group needs a person of its own", remedy="let another person agree")
        if not set(people).isdisjoint(_names(one)):
            raise Conflict("nobody agrees to what is asked in their own name", remedy="let another person agree")
        if (one.stage in ("approved", "used")) and set(groups) != set(one.groups):
            raise Conflict(f"not everybody agreed to `{one.id}`", remedy="see `vouchgate approve list`")

    def _lapse(self, now: UnixMillis) -> None:
        for one in [self.all[name] for name in self._open.values()]:
            if one.expires_at <= now:
                self._close(one)

    def _close(self, one: Approval) -> None:
        if self._open.get(key_of(one)) == one.id:
            del self._open[key_of(one)]
            self._held.subtract(_names(one))
            self._held += Counter()

    def _forget(self, now: UnixMillis) -> None:
        if len(self.all) > 2 * MAX_OPEN:
            self.drop(self.over(now))


def share(free: int) -> int:
    """How many of one name may be open (rule 3)."""
    return max(1, min(MAX_OPEN_OF_ONE, free // FREE_PER_SHARE))


def _names(one: Approval) -> set[str]:
    return {one.principal, *one.actors}


def ended(one: Approval, stage: str, by: str, at: UnixMillis) -> Approval:
    """The same one, refused or used."""
    return msgspec.structs.replace(one, stage=stage, ended_by=by, ended_at=at)
