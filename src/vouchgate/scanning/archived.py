"""Scans the members of an archive one after another, each as a file is; what every container without a structure of its own does.

Rules
1. Every member is recognised by its content and read by one format; its name only tightens (active_names.py).
2. What a narrower format reads itself (`own`) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from vouchgate.scanning.active_names import tightened
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.tars import Tar
from vouchgate.scanning.zips import Zip

Members = Iterable[tuple[str, Callable[[], memoryview]]]
"""Names, and how to get at the bytes: a packed member is unpacked when its turn comes, and let go after it."""


def members_of(archive: Zip | Tar, scope: Scope) -> Members:
    """The files of an archive whose structure holds."""
    if isinstance(archive, Zip):
        return [(entry.name, lambda entry=entry: archive.content(entry, scope)) for entry in archive.files]  # type: ignore[misc]
    return [(member.name, lambda member=member: archive.content(member)) for member in archive.files]  # type: ignore[misc]


def scan_members(members: Members, scope: Scope, *, own: Collection[str] = ()) -> None:
    """Rules 1 and 2. Raises `Refuse` where a bound is met."""
    for name, content in members:
        if name not in own:
            scan_member(name, content(), scope)


def scan_member(name: str, content: memoryview, scope: Scope, *, only: Collection[str] = ()) -> None:
    """One of them, which must be of one of the formats `only`, if any are named."""
    found = tightened(name, scope.inner(name, content, only=only).kind)
    if found is not None:
        scope.add((found,), scope.place(name))
