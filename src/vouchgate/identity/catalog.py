"""The attestors, and which registration their selectors earn.

Rules
1. The folder is the list: a file in `attestors/` with an `ATTESTOR` is in; two of one name are refused.
2. A registration is earned when every one of its selectors was established; one without selectors is never earned by attestation, and
   neither is one that has ended (`expires_at`).
3. Where several are earned, the one with the most selectors wins; two equally specific ones are refused, because a tie would let the order
   of registrations choose an identity.
4. A selector in `NARROWING` only narrows another: any user of the machine can run the same program and steer it from outside
   (LD_PRELOAD, ptrace), and a process may even name another file as its executable (prctl(2), PR_SET_MM_EXE_FILE); the users inside of a
   container are its image's choice. A registration that has nothing else is never earned.
`match` goes over all registrations; `RegistrationIndex` answers the same from an index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from vouchgate.identity import attestors as folder
from vouchgate.identity.attestors import Attested, Attestor, Trust
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.plugins import by_name, modules
from vouchgate.vocabulary.principals import Registration, Selector
from vouchgate.vocabulary.vouches import UnixMillis

NARROWING = frozenset({
    "unix:path", "unix:sha256", "container:uid", "container:gid", "container:supplementary_gid", "container:sha256", "container:runtime",
})  # fmt: skip
"""Types of selectors that earn nothing by themselves (rule 4)."""
REFILE_AT = 32
"""Sets of selectors under one selector from which on it is looked whether a rarer one has come up; each doubling looks again."""


@cache
def attestors() -> dict[str, Attestor]:
    """All attestors of this build, by name."""
    return by_name("attestor", (module.ATTESTOR for module in modules(folder)))


def attestor(name: str) -> Attestor:
    """The attestor of that name. Raises `InvalidInput`."""
    found = attestors().get(name)
    if found is None:
        raise InvalidInput(f"`{name[:80]}` is not an attestor", remedy=f"use one of {', '.join(sorted(attestors()))}")
    return found


def attest(
    name: str, given: Mapping[str, Any], trust: Trust | None = None, now: UnixMillis = UnixMillis(0), nonce: str = ""
) -> Attested | Denied:
    """What the facts or the evidence establish.

    Raises `InvalidInput` for an unknown attestor and for collected facts of the wrong shape; evidence of the wrong shape is `Denied`, and so
    is evidence without a time, or without the nonce that its attestor asks for.
    """
    chosen = attestor(name)
    if chosen.kind == "presented":
        why = _unasked(chosen, trust, now, nonce)
        if why:
            return Denied(code="not-attestable", reason=why, remedy="ask for a nonce, and name a source of trust from vouchgate.toml")
        try:
            chosen.fields.check(given, what=f"{name} evidence")
        except InvalidInput as error:
            return Denied(code="evidence-malformed", reason=error.reason, remedy=error.remedy)
    else:
        chosen.fields.check(given, what=f"{name} attestation")
    return chosen.establish(given, trust or Trust(), now, nonce)


def _unasked(chosen: Attestor, trust: Trust | None, now: UnixMillis, nonce: str) -> str:
    if trust is None or now <= 0:
        return f"`{chosen.name}` evidence cannot be held against anything"
    if chosen.nonce == "text" and not (22 <= len(nonce) <= 128 and nonce.isascii() and nonce.isprintable()):
        return f"`{chosen.name}` evidence needs a nonce that was made for it"
    if chosen.nonce == "digits" and not (len(nonce) == 10 and nonce.isascii() and nonce.isdigit()):
        return f"`{chosen.name}` evidence needs a nonce of ten digits that was made for it"
    return ""


def match(selectors: Iterable[Selector], registrations: Iterable[Registration], now: UnixMillis) -> Registration | Denied:
    """The registration that the selectors earn, by the rules above."""
    established = set(selectors)
    return _best(
        [entry for entry in registrations if _live(entry, now) and set(entry.selectors) <= established and can_earn(entry.selectors)]
    )


def _live(entry: Registration, now: UnixMillis) -> bool:
    return entry.expires_at == 0 or entry.expires_at > now


def can_earn(selectors: Iterable[Selector]) -> bool:
    """Whether a registration with these selectors can be earned at all (rules 2 and 4)."""
    return any(one.type not in NARROWING for one in selectors)


def _best(earned: list[Registration]) -> Registration | Denied:
    if not earned:
        return Denied(
            code="not-registered",
            reason="no registration matches this workload",
            remedy="list it in vouchgate.toml under [[identities]], with its `uid`",
        )
    most = max(len(set(entry.selectors)) for entry in earned)
    best = [entry for entry in earned if len(set(entry.selectors)) == most]
    if len({entry.principal for entry in best}) > 1:
        return Denied(code="ambiguous", reason="two registrations match this workload equally", remedy="add a selector to one of them")
    return best[0]


class RegistrationIndex:
    """Registrations by their rarest selector, kept up to date one by one. `match` here equals `match` over all of them."""

    def __init__(self, registrations: Iterable[Registration] = ()) -> None:
        self._entries: dict[str, Registration] = {}
        self._sets: dict[frozenset[Selector], dict[str, Registration]] = {}
        self._used: Counter[Selector] = Counter()
        """How many sets have a selector."""
        self._filed: dict[Selector, set[frozenset[Selector]]] = {}
        self._place: dict[frozenset[Selector], Selector] = {}
        for entry in registrations:
            self.add(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Registration) -> None:
        """Take a registration in; an older one of the same principal is replaced."""
        self.remove(entry.principal)
        self._entries[entry.principal] = entry
        if not can_earn(entry.selectors):
            return
        wanted = frozenset(entry.selectors)
        holders = self._sets.get(wanted)
        if holders is None:
            holders = self._sets[wanted] = {}
            self._used.update(wanted)
            self._file(wanted)
        holders[entry.principal] = entry

    def remove(self, principal: str) -> None:
        """Forget the registration of a principal, if there is one."""
        entry = self._entries.pop(principal, None)
        wanted = frozenset(entry.selectors) if entry else frozenset()
        holders = self._sets.get(wanted)
        if holders is None:
            return
        holders.pop(principal, None)
        if not holders:
            del self._sets[wanted]
            self._unfile(wanted)
            for one in wanted:
                self._used[one] -= 1
                if not self._used[one]:
                    del self._used[one]

    def match(self, selectors: Iterable[Selector], now: UnixMillis) -> Registration | Denied:
        """The registration that the selectors earn, by the module's rules."""
        established = set(selectors)
        earned: list[Registration] = []
        for one in established:
            for wanted in self._filed.get(one, ()):
                if wanted <= established:
                    earned += [entry for entry in self._sets[wanted].values() if _live(entry, now)]
        return _best(earned)

    def _rarest(self, wanted: frozenset[Selector]) -> Selector:
        return min(wanted, key=lambda one: (self._used[one], one.type, one.value))

    def _file(self, wanted: frozenset[Selector]) -> None:
        place = self._place[wanted] = self._rarest(wanted)
        drawer = self._filed.setdefault(place, set())
        drawer.add(wanted)
        if len(drawer) >= REFILE_AT and len(drawer) & (len(drawer) - 1) == 0:
            for other in [other for other in drawer if self._rarest(other) != place]:
                self._unfile(other)
                rarest = self._place[other] = self._rarest(other)
                self._filed.setdefault(rarest, set()).add(other)

    def _unfile(self, wanted: frozenset[Selector]) -> None:
        place = self._place.pop(wanted)
        drawer = self._filed[place]
        drawer.discard(wanted)
        if not drawer:
            del self._filed[place]
