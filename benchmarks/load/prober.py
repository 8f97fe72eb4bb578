"""From a revocation to its enforcement, seen from outside, on the live connections of those it concerns.

Definition (contracts, "Figures cannot be bent"): t0 is the moment before the revoking request's first byte leaves the client of the control
API; t1 is the moment at which the answer to the last request that was still allowed had arrived, on any live connection of that identity.
The value is t1 - t0, or 0 if nothing was allowed after t0.

How it is seen
1. One thread, one loop, a tick of 1 ms. In each tick one request is sent: to the connection that is being revoked (1 kHz), and between
   revocations to each of the others in turn (1 kHz over all). Two cores do not carry 1 kHz on each of 100 connections at once without
   measuring themselves.
2. So a value is known to within one tick and one round trip: enforcement happened after the last allowed request was sent, and before
   the first refused one was answered. `Seen.refused_ms` is that upper bound.
3. A connection that was refused is probed on in its turn, and where the gateway closed it, `revisit` calls once more on a new one with the
   same certificate: an allowed answer later than t1 replaces t1 and counts as late.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.load.client import Target, statuses
from benchmarks.load.links import Link, Loop

TICK_SECONDS = 0.001
CONFIRM_REFUSALS = 3
"""Refusals in a row after which the next revocation is begun; the connection is still probed in its turn."""


class Seen(msgspec.Struct, kw_only=True):
    """One revocation."""

    name: str
    t0_ns: int
    last_allowed_ns: int
    first_refused_ns: int = 0
    answered_ns: int = 0
    """When the control plane answered."""
    probes: int = 0
    late: int = 0
    """Requests that were allowed after one had been refused."""

    @property
    def enforced_ms(self) -> float:
        """t1 - t0."""
        return max(0.0, (self.last_allowed_ns - self.t0_ns) / 1e6)

    @property
    def refused_ms(self) -> float:
        """Until the first refusal was read; infinite where there was none."""
        return (self.first_refused_ns - self.t0_ns) / 1e6 if self.first_refused_ns else float("inf")


class Subject(msgspec.Struct, kw_only=True):
    """An identity with its live connection, and the request that revokes it."""

    name: str
    link: Link
    target: Target
    """What is called, and as whom."""
    revoke: bytes


class Prober:
    """Holds the connections and measures one revocation after another."""

    def __init__(self, open_control: Callable[[], Link], *, seed: int = 1) -> None:
        self.loop = Loop(TICK_SECONDS)
        self._open_control = open_control
        self.control = open_control()
        self.loop.add(self.control)
        self.subjects: dict[Link, Subject] = {}
        self.seen: dict[Link, Seen] = {}
        self.lost: list[str] = []
        """Connections that the other side closed before they were revoked."""
        self.granted = 0
        """Answers to calls of those who were not revoked yet."""
        self.refused: list[str] = []
        """Of these, who was not let in, and the status."""
        self._turn: list[Link] = []
        self._chance = random.Random(seed)

    def add(self, subject: Subject) -> None:
        """Begin to probe a connection in its turn."""
        self.loop.add(subject.link)
        self.subjects[subject.link] = subject
        self._turn.append(subject.link)

    def drop(self, link: Link) -> None:
        """Close a connection."""
        self.loop.remove(link)
        self.subjects.pop(link, None)
        self._turn = [other for other in self._turn if other is not link]

    def run_for(self, seconds: float) -> None:
        """Probe all connections in turn."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._step(None)

    def revoke(self, subject: Subject, *, timeout: float, send: bool = True) -> Seen:
        """Revoke one identity and watch its connection. With `send` false nothing is revoked: the null."""
        hot = subject.link
        if gone(self.control):  # the control plane closes connections that were idle for long
            self.control = self._open_control()
            self.loop.add(self.control)
        for _ in range(self._chance.randrange(2, 8)):  # the moment of revoking falls anywhere between two probes
            self._until_tick(hot)
        time.sleep(self._chance.random() * TICK_SECONDS)
        seen = Seen(name=subject.name, t0_ns=time.monotonic_ns(), last_allowed_ns=0)
        self.seen[hot] = seen
        if send:
            seen.t0_ns = self.control.send(subject.revoke)
        end = seen.t0_ns + int(timeout * 1e9)
        refusals = 0
        while time.monotonic_ns() < end and (refusals < CONFIRM_REFUSALS or (send and not seen.answered_ns)):
            refusals = self._step(hot, refusals)
        if send and (self.control.status != 200 or not seen.answered_ns):
            raise RuntimeError(f"the control plane answered {self.control.status}: {self.control.body[:300]!r}")
        return seen

    def _until_tick(self, hot: Link) -> None:
        while not self._step(hot, -1):
            pass

    def _step(self, hot: Link | None, refusals: int = 0) -> int:
        """One turn of the loop: probe on a tick, note what was answered. Gives the refusals in a row of `hot`, or for -1 whether it ticked."""
        ticked, done = self.loop.turn()
        for link in done:
            if link is self.control and link.status > 0:
                for seen in self.seen.values():
                    seen.answered_ns = seen.answered_ns or link.answered_ns
            elif link in self.subjects:
                note(self.seen.get(link), link.status, link.answered_ns)
                if link not in self.seen:
                    self.granted += 1
                    if link.status != 200:
                        self.refused.append(f"{link.name}: {link.status}")
                if link is hot and refusals >= 0:
                    # a connection that was closed cannot be probed again: that is a refusal for good
                    refusals = 0 if link.status == 200 else CONFIRM_REFUSALS if gone(link) else refusals + 1
                if gone(link) and link not in self.seen:
                    self.lost.append(link.name)
        if ticked:
            self._probe(hot)
        return int(ticked) if refusals < 0 else refusals

    def _probe(self, hot: Link | None) -> None:
        link = hot
        if link is None:
            if not self._turn:
                return
            link = self._turn.pop(0)
            self._turn.append(link)
        if link.idle:
            link.send(self.subjects[link].target.request)
            if link in self.seen:
                self.seen[link].probes += 1

    def revisit(self) -> int:
        """Call once more as everyone who was revoked and whose connection is closed; how many were called."""
        called = [(link, seen) for link, seen in self.seen.items() if gone(link) and link in self.subjects]
        for link, seen in called:
            note(seen, statuses(self.subjects[link].target)[0], time.monotonic_ns())
        return len(called)

    def close(self) -> None:
        """Close everything."""
        self.loop.close()


def gone(link: Link) -> bool:
    """Whether no further request can be sent."""
    return link.closing or link.status < 0


def note(seen: Seen | None, status: int, at_ns: int) -> None:
    """Note one answer of a connection that was, or is being, revoked. A closed connection (-1) refuses."""
    if seen is None:
        return
    if status == 200:
        seen.last_allowed_ns = at_ns
        seen.late += bool(seen.first_refused_ns)
    elif not seen.first_refused_ns:
        seen.first_refused_ns = at_ns


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1_000_000) * len(ordered) // 1_000_000) - 1)]


def quantile(share: float) -> Callable[[Sequence[float]], float]:
    """`percentile` at one share, for the bootstrap."""
    return lambda values: percentile(values, share)
