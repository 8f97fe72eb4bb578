"""The finders, run over the facts that a port collected.

Rules
1. The folder is the list: a file in `finders/` with a `FINDER` is in; two of one name are refused.
2. A fact is bounded before any finder sees it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from functools import cache

from vouchgate.inventory import finders as folder
from vouchgate.inventory.finders import HEAD_BYTES, Asset, FileFact, Finder
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound

MAX_PATH = 4096
"""Characters of a path (PATH_MAX)."""


def collect(found: Iterable[Finder]) -> dict[str, Finder]:
    """Finders by name. Raises `Conflict` on a duplicate."""
    known: dict[str, Finder] = {}
    for finder in found:
        if finder.name in known:
            raise Conflict(f"two finders are named `{finder.name}`", remedy="rename one of them")
        known[finder.name] = finder
    return known


@cache
def finders() -> dict[str, Finder]:
    """All finders of this build, by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    return collect(importlib.import_module(f"{folder.__name__}.{name}").FINDER for name in modules)


def finder(name: str) -> Finder:
    """One finder. Raises `NotFound`."""
    known = finders()
    if name not in known:
        raise NotFound(f"there is no finder `{name[:60]}`", remedy=f"use one of {', '.join(sorted(known))}")
    return known[name]


def find(facts: Iterable[FileFact]) -> Iterator[Asset]:
    """Every asset that any finder tells, in the order of the facts. Raises `InvalidInput` for a fact over the bounds."""
    for fact in facts:
        if len(fact.head) > HEAD_BYTES or len(fact.path) > MAX_PATH or fact.size < 0:
            raise InvalidInput(
                f"the fact about `{fact.path[:80]}` is over the bounds", remedy=f"hand in at most {HEAD_BYTES} bytes of a file"
            )
        yield from (asset for one in finders().values() if (asset := one.find(fact)) is not None)
