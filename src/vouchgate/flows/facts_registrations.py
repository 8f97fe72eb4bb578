"""Who is registered, and until when; the part of `Facts` that only reads, and how a registration is kept.

Rules
1. A registration that has ended earns nothing from that moment on, swept or not.
2. Ten thousand registrations share what is equal among them.
"""

from __future__ import annotations

import heapq
from typing import Any

import msgspec

from vouchgate.vocabulary.names import PrincipalId
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.vouches import UnixMillis

MAX_SAME = 4_096
"""Values of registrations that are looked for among those of others."""


class Registered:
    """See the module's text. `Facts` fills what is named here."""

    registrations: dict[str, Registration]
    _ends: list[tuple[int, str]]
    _same: dict[Any, Any]
    _now: UnixMillis

    def _slim(self, registration: Registration) -> Registration:
        """Thousands are in the same groups and live as long."""
        if len(self._same) > MAX_SAME:
            self._same.clear()
        names = ("trust_domain", "groups", "selectors", "source", "svid_ttl_seconds", "jwt_ttl_seconds", "created_at")
        return msgspec.structs.replace(
            registration,
            **{name: self._same.setdefault(value, value) for name in names if (value := getattr(registration, name)) is not None},
        )

    def registration_of(self, principal: str, now: UnixMillis) -> Registration | None:
        """A registration that has not ended."""
        known = self.registrations.get(principal)
        return known if known is not None and not 0 < known.expires_at <= now else None

    def expired(self, now: UnixMillis) -> list[str]:
        """Registrations that ended by themselves and are still there."""
        found: list[str] = []
        while self._ends and self._ends[0][0] <= now:
            end, principal = heapq.heappop(self._ends)
            known = self.registrations.get(principal)
            if known is not None and known.expires_at == end and principal not in found:
                found.append(principal)
        for principal in found:
            # a sweep that fails finds them again
            heapq.heappush(self._ends, (self.registrations[principal].expires_at, principal))
        return found

    def groups_of(self, principal: PrincipalId) -> tuple[str, ...]:
        """Groups of a registered principal; none for anyone else, and none after its end."""
        known = self.registration_of(principal, self._now)
        return known.groups if known else ()
