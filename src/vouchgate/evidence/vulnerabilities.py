"""Known vulnerabilities of installed packages: what a record says, what a statement about exploitability says, and what is left open.

Rules
1. Records that are aliases of each other are one finding; it is affected where any of them says so.
2. What a record does not let one tell (versions that cannot be compared) counts as affected, and says why.
3. Only a statement that counts closes a finding: `not_affected` with its reason, or `fixed`. `under_investigation` closes nothing.
4. Of several statements the newest counts, and of those as new the worst.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from vouchgate.vocabulary.wire import Noun

State = Literal["affected", "under_investigation", "fixed", "not_affected"]
WORST: tuple[State, ...] = ("affected", "under_investigation", "fixed", "not_affected")
OPEN = frozenset({"affected", "under_investigation"})
_PREFERRED = ("CVE-", "GHSA-", "MAL-", "PYSEC-")


class Package(Noun, frozen=True, kw_only=True):
    """What is looked up."""

    name: str
    """Normalised."""
    version: str


class Hit(Noun, frozen=True, kw_only=True):
    """One record says that one package is affected."""

    package: Package
    id: str
    aliases: tuple[str, ...] = ()
    summary: str = ""
    severity: str = ""
    fixed: tuple[str, ...] = ()
    """Versions after this one in which it is mended."""
    untold: str = ""
    """Why it could not be told, and so counts (rule 2)."""


class Statement(Noun, frozen=True, kw_only=True):
    """One statement about one vulnerability in one package."""

    ids: tuple[str, ...]
    """The vulnerability's name and aliases."""
    package: str
    """Normalised name."""
    version: str = ""
    """Empty for every version."""
    state: State
    because: str = ""
    at: float = 0.0
    """Seconds since 1970."""
    author: str = ""


class Finding(Noun, frozen=True, kw_only=True):
    """One vulnerability of one package, aliases together."""

    package: Package
    id: str
    aliases: tuple[str, ...]
    summary: str
    severity: str
    fixed: tuple[str, ...]
    untold: str
    state: State
    because: str = ""

    @property
    def open(self) -> bool:
        """Whether it stands against shipping (rule 3)."""
        return self.state in OPEN


def findings(hits: Iterable[Hit], statements: Iterable[Statement]) -> tuple[Finding, ...]:
    """Rules 1 to 4, open ones first, then by package."""
    said = list(statements)
    by_package: dict[tuple[str, str], list[Hit]] = {}
    for hit in hits:
        by_package.setdefault((hit.package.name, hit.package.version), []).append(hit)
    found = [_finding(group, said) for many in by_package.values() for group in _groups(many)]
    return tuple(sorted(found, key=lambda one: (WORST.index(one.state), one.package.name, one.package.version, one.id)))


def _groups(hits: list[Hit]) -> list[list[Hit]]:
    """Rule 1: hits that share a name, directly or through others."""
    group_of: dict[str, int] = {}
    groups: dict[int, list[Hit]] = {}
    names: dict[int, set[str]] = {}
    for number, hit in enumerate(hits):
        own = {hit.id, *hit.aliases}
        met = {group_of[name] for name in own if name in group_of}
        groups[number], names[number] = [hit], own
        for other in met:
            groups[number] += groups.pop(other)
            names[number] |= names.pop(other)
        group_of |= dict.fromkeys(names[number], number)
    return list(groups.values())


def _finding(group: list[Hit], statements: list[Statement]) -> Finding:
    names = {name for hit in group for name in (hit.id, *hit.aliases)}
    best = min(names, key=lambda name: (next((n for n, prefix in enumerate(_PREFERRED) if name.startswith(prefix)), len(_PREFERRED)), name))
    package = group[0].package
    fits = [one for one in statements if one.package == package.name and one.version in ("", package.version) and names & set(one.ids)]
    newest = max((one.at for one in fits), default=0.0)
    counts = min((one for one in fits if one.at == newest), key=lambda one: WORST.index(one.state), default=None)
    told = [hit.untold for hit in group]
    return Finding(
        package=package,
        id=best,
        aliases=tuple(sorted(names - {best})),
        summary=next((hit.summary for hit in group if hit.summary), ""),
        severity=next((hit.severity for hit in group if hit.severity), ""),
        fixed=tuple(dict.fromkeys(version for hit in group for version in hit.fixed)),
        untold=told[0] if all(told) else "",
        state=counts.state if counts else "affected",
        because=(f"{counts.because} (says {counts.author})" if counts.author else counts.because) if counts else "",
    )
