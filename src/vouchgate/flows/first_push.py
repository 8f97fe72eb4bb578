"""The first push after a start: a gateway keeps what it holds, under its own leases, until this control plane has decided again.

A control plane that was killed comes back knowing nothing that is decided. Were its empty maps told at once, granted callers would be asked
about one by one by a control plane that does not answer yet, and be refused.

Rules
1. From the start on, maps and routes are withheld from gateways that have some; revocations, keys and all else are told at once. What is
   withheld gets no lease either: a gateway's old maps end at the latest one lease after the last renewal of the control plane that was.
2. They are released once nobody who could have a seat is undecided; or with what is decided, after a third of the shortest lease, since
   then somebody's map may be near its end; or, where no cell was answered at all, after the longest lease.
3. A revocation that takes grants away by what they rest on is in no list of the gateway's: it is enforced by the maps. One that is so young
   that the control plane before may not have pushed them, or one that comes now, releases everything at once. So does a removed
   registration, and a changed zone or endpoint.

What is in a map is the publisher's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from vouchgate.flows.points import Points
from vouchgate.vocabulary.places import DEFAULT_LEASE_SECONDS, Zone

SHARE_OF_LEASE = 3
"""Rule 2. Leases are renewed every third: after a kill two thirds are left, of which the way back may take one, and this wait the other."""


class FirstPush:
    """See the module's text."""

    def __init__(self, points: Points, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._points, self._clock = points, clock
        self._began = clock()
        self.waiting = True
        self.answered = False
        """Whether any cell was decided since the start."""
        points.withhold()

    def begin(self) -> None:
        """Gateways may connect from now on."""
        self._began = self._clock()

    def due(self, decided: Callable[[], bool], zones: Collection[Zone]) -> bool:
        """Rule 2; `decided`: whether nobody is undecided who could have a seat."""
        if not self.waiting:
            return False
        age, leases = self._clock() - self._began, [zone.lease_seconds for zone in zones] or [DEFAULT_LEASE_SECONDS]
        late = age >= max(leases) or (self.answered and age >= min(leases) / SHARE_OF_LEASE)
        return late or decided()

    def release(self) -> None:
        """No more is withheld, until the next start."""
        if self.waiting:
            self.waiting = False
            self._points.release()
