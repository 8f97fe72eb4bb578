"""Compare: what one knowledge base lets in that another does not, what may act first."""

from __future__ import annotations

from collections.abc import Iterable

from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.vocabulary.errors import Unverified
from vouchgate.vocabulary.wire import Noun

ORDER = ("callable", "constructible", "inert", "less")
"""What a reviewer must see first."""


class Change(Noun, frozen=True, kw_only=True):
    """One name that differs."""

    name: str
    what: str
    """The strongest use that is new; `less` where it lost uses, or is gone."""
    before: Entry | None = None
    after: Entry | None = None


def changes(old: Iterable[Entry], new: Iterable[Entry]) -> list[Change]:
    """Every name whose uses or rules differ, in the order of `ORDER`, then by name."""
    before = {(entry.module, entry.name): entry for entry in old}
    after = {(entry.module, entry.name): entry for entry in new}
    found = [
        Change(name=".".join(key), what=_what(before.get(key), after.get(key)), before=before.get(key), after=after.get(key))
        for key in before.keys() | after.keys()
        if _means(before.get(key)) != _means(after.get(key))
    ]
    return sorted(found, key=lambda change: (ORDER.index(change.what), change.name))


def check_not_older(version: int, seen: int) -> None:
    """Raise `Unverified` where a knowledge base is older than one that was seen before."""
    if version < seen:
        raise Unverified(
            f"the knowledge base is of version {version}, and version {seen} was seen here before",
            remedy="install the newer version of vouchgate again, or find out who put the older one there",
        )


def _what(before: Entry | None, after: Entry | None) -> str:
    if after is None:
        return "less"
    for use in ORDER[:3]:
        if use in after.uses and (before is None or use not in before.uses or _rules(before) != _rules(after)):
            return use
    return "less"


def _rules(entry: Entry) -> tuple[str, str]:
    return entry.arguments, entry.state


def _means(entry: Entry | None) -> tuple[object, ...] | None:
    return None if entry is None else (frozenset(entry.uses), entry.arguments, entry.state)
