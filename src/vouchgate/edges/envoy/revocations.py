"""Which standing revocations are in which of a gateway's two revocation resources.

Rules
1. A filter takes its whole map anew with every push: 10,000 entries cost 260 to 440 ms, 200 cost 8. So what is new goes into a small map,
   and the large one is rendered again when the small one holds more than `MAX_NEWER`.
2. A revocation leaves the small map only when every connected point acknowledged a large one that holds it. A point that connects later
   is given the large one first (ads.py, rule 2). So whatever was enforced stays enforced, at every moment and in every order of arrival.
3. A withdrawn one is taken out of the large map at once; it harms nobody but the one who was pardoned.
4. One that outlived every credential it could strike is left out: nothing is issued to a revoked principal, and no id is used again.
"""

from __future__ import annotations

from collections.abc import Mapping

from vouchgate.identity.x509svid import MAX_TTL_SECONDS
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

MAX_NEWER = 200
"""Revocations of the small map; one more costs about 8 ms to render, push and acknowledge."""
OUTLIVED_MS = (MAX_TTL_SECONDS + 3600) * 1000
"""Milliseconds after which every credential of the time of the revocation has expired; an hour for clocks that differ."""


def outlived(revocation: Revocation, now: UnixMillis) -> bool:
    """Whether it can strike no credential any more; issuing stays blocked while it stands."""
    return revocation.made_at + OUTLIVED_MS < now


class Split:
    """See the module's text."""

    def __init__(self) -> None:
        self.older: dict[str, Revocation] = {}
        """What the large map holds, as rendered last or as it is to be rendered."""
        self.older_changed = False
        self.older_version = ""
        self.complete_with: set[str] = set()
        """Versions of the large map that hold everything which the small one leaves out."""
        self.lifting = False
        """Whether the large map was rendered last for the sake of somebody who was pardoned."""
        self._standing: dict[str, Revocation] = {}
        self._settled: set[str] = set()

    @property
    def moving(self) -> bool:
        """Whether the small map repeats what the large one holds."""
        return len(self._settled) < len(self.older)

    def take(self, standing: Mapping[str, Revocation], now: UnixMillis) -> None:
        """All that stand, by id."""
        self._standing = dict(standing)
        pardoned = {name for name, one in self.older.items() if name not in standing and not outlived(one, now)}
        self.lifting = bool(pardoned)
        if pardoned:
            self._settled -= pardoned
            self.older = {name: one for name, one in self.older.items() if name not in pardoned}
            self.older_changed = True
        if len(self._standing.keys() - self.older.keys()) > MAX_NEWER:
            self.older = dict(standing)
            self._settled &= self.older.keys()
            self.older_changed = True

    def newer(self) -> list[Revocation]:
        """What the small map holds."""
        return [one for name, one in self._standing.items() if name not in self._settled]

    def rendered(self, version: str) -> None:
        """The large map was rendered as this version."""
        self.older_version, self.older_changed = version, False
        self.complete_with.add(version)

    def settle(self) -> bool:
        """Every point holds the large map as rendered last."""
        self._settled = set(self.older)
        self.complete_with = {self.older_version}
        return True
