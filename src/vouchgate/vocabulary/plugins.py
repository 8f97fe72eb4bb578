"""Plug-ins of a kind: one file each in a room's folder, known by name.

Rules
1. The folder is the list: a file in it is in, and adding one needs no change elsewhere.
2. Two of one name are refused, whichever comes first.
3. A name that is not known is refused with the names that are.
Left to others: what a plug-in of a kind is, and what it may do (the catalog of its room).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Protocol, TypeVar

from vouchgate.vocabulary.errors import Conflict, NotFound

MAX_SHOWN = 80
"""Characters of an unknown name that its refusal repeats."""


class Plugin(Protocol):
    """Whatever has a name."""

    @property
    def name(self) -> str:
        """Unique among those of its kind."""


Kind = TypeVar("Kind")
Named = TypeVar("Named", bound=Plugin)


def modules(folder: ModuleType) -> Iterator[ModuleType]:
    """The modules of a package, in the order of their names (rule 1)."""
    for name in sorted(module.name for module in pkgutil.iter_modules(folder.__path__)):
        yield importlib.import_module(f"{folder.__name__}.{name}")


def by_name(kind: str, found: Iterable[Named]) -> dict[str, Named]:
    """Plug-ins by name (rule 2). Raises `Conflict`."""
    known: dict[str, Named] = {}
    for one in found:
        if one.name in known:
            raise Conflict(f"two {kind}s are named `{one.name}`", remedy="rename one of them")
        known[one.name] = one
    return known


def chosen(kind: str, known: Mapping[str, Kind], name: str) -> Kind:
    """The one of that name (rule 3). Raises `NotFound`."""
    if name not in known:
        raise NotFound(f"there is no {kind} `{name[:MAX_SHOWN]}`", remedy=f"use one of {', '.join(sorted(known))}")
    return known[name]
