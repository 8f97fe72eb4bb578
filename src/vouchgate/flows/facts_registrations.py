"""Who is registered, and until when; the part of `Facts` that only reads, and how a registration is kept.

Rules
1. A registration that has ended earns nothing from that moment on, swept or not.
2. Ten thousand registrations share what is equal among them.
3. A partner's caller is stood for by the one registration that has its id as its only selector, in a zone `federated-...`; two stand for nobody.
"""

from __future__ import annotations

import bisect
import heapq
from typing import Any

import msgspec

from vouchgate.vocabulary.names import PrincipalId, principal_parts
from vouchgate.vocabulary.principals import ALIAS_ZONE, FOREIGN_ID, Registration
from vouchgate.vocabulary.vouches import UnixMillis

UID = "unix:uid"
"""The selector that names a unix user (identity/attestors/unix_process.py)."""
MAX_SAME = 4_096
"""Values of registrations that are looked for among those of others."""


class Registered:
    """See the module's text. `Facts` fills what is named here."""

    registrations: dict[str, Registration]
    _names: list[str]
    """Their names, sorted."""
    _ends: list[tuple[int, str]]
    _same: dict[Any, Any]
    _of_uid: dict[str, set[str]]
    """Unix uid -> principals whose registrations name it."""
    _of_foreign: dict[str, set[str]]
    """Id of a partner's caller -> principals whose registrations stand for it."""
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

    def _keep(self, registration: Registration) -> None:
        self._drop(registration.principal)
        self.registrations[registration.principal] = registration
        bisect.insort(self._names, registration.principal)
        for uid in _uids(registration):
            self._of_uid.setdefault(uid, set()).add(registration.principal)
        if foreign := foreign_id(registration):
            self._of_foreign.setdefault(foreign, set()).add(registration.principal)

    def _drop(self, principal: str) -> None:
        old = self.registrations.pop(principal, None)
        if old is None:
            return
        del self._names[bisect.bisect_left(self._names, principal)]
        for uid in _uids(old):
            _forget(self._of_uid, uid, principal)
        if foreign := foreign_id(old):
            _forget(self._of_foreign, foreign, principal)

    def of_uid(self, uid: int) -> list[Registration]:
        """Registrations that a unix user alone earns."""
        found = (self.registrations[name] for name in self._of_uid.get(str(uid), ()))
        return [one for one in found if all(selector.type == UID for selector in one.selectors)]

    def alias_of(self, foreign: str, now: UnixMillis) -> Registration | None:
        """The one registration that stands for a partner's caller."""
        found = [one for name in self._of_foreign.get(foreign, ()) if (one := self.registration_of(name, now)) is not None]
        return found[0] if len(found) == 1 else None

    def aliases(self) -> dict[str, str]:
        """Ids of partners' callers, and our names for them."""
        return {foreign: next(iter(names)) for foreign, names in self._of_foreign.items() if len(names) == 1}

    def tied(self, made: Registration) -> Registration | None:
        """Another registration that the same unix user or partner's caller would earn equally, so that neither would be earned."""
        for name in self._of_foreign.get(foreign_id(made), ()):
            if name != made.principal:
                return self.registrations[name]
        person = principal_parts(made.principal).kind == "person"
        for uid in _uids(made):
            for name in self._of_uid.get(uid, ()):
                other = self.registrations[name]
                alike = (principal_parts(name).kind == "person") == person and set(other.selectors) == set(made.selectors)
                if alike and name != made.principal:
                    return other
        return None

    def names_after(self, after: str, limit: int) -> list[str]:
        """Who is registered, by name, behind `after`."""
        first = bisect.bisect_right(self._names, after)
        return self._names[first : first + limit]

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


def foreign_id(registration: Registration) -> str:
    """Rule 3: whom it stands for; empty for every other registration."""
    if len(registration.selectors) != 1 or registration.selectors[0].type != FOREIGN_ID:
        return ""
    return registration.selectors[0].value if principal_parts(registration.principal).zone.startswith(ALIAS_ZONE) else ""


def _forget(index: dict[str, set[str]], key: str, principal: str) -> None:
    left = index.get(key, set())
    left.discard(principal)
    if not left:
        index.pop(key, None)


def _uids(registration: Registration) -> list[str]:
    return [one.value for one in registration.selectors if one.type == UID]
