"""The finders, run over the facts that a port collected.

Rules
1. The folder is the list: a file in `finders/` with a `FINDER` is in; two of one name are refused.
2. A fact is bounded before any finder sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from vouchgate.inventory import finders as folder
from vouchgate.inventory.finders import HEAD_BYTES, Asset, FileFact, Finder
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.plugins import by_name, chosen, modules

MAX_PATH = 4096
"""Characters of a path (PATH_MAX)."""


@cache
def finders() -> dict[str, Finder]:
    """All finders of this build, by name."""
    return by_name("finder", (module.FINDER for module in modules(folder)))


def finder(name: str) -> Finder:
    """One finder. Raises `NotFound`."""
    return chosen("finder", finders(), name)


def find(facts: Iterable[FileFact]) -> Iterator[Asset]:
    """Every asset that any finder tells, in the order of the facts. Raises `InvalidInput` for a fact over the bounds."""
    for fact in facts:
        if len(fact.head) > HEAD_BYTES or len(fact.path) > MAX_PATH or fact.size < 0:
            raise InvalidInput(
                f"the fact about `{fact.path[:80]}` is over the bounds", remedy=f"hand in at most {HEAD_BYTES} bytes of a file"
            )
        yield from (asset for one in finders().values() if (asset := one.find(fact)) is not None)
