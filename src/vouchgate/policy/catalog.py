"""Loading what the product decides on: the packs that come with it, a person's own policies, and the schema they speak.

    load(sources) -> PolicySet                    base pack first, then these; validated and free of hazards. Raises `InvalidPolicy`
    pack(name) -> Source                          one pack, for example `ai_lifecycle`
    packs() -> tuple[str, ...]                    their names
    schema_text() -> str                          the Cedar schema of the spine

Rules
1. The base policy is always there and comes first; no other policy may take one of its names.
2. What Cedar's validator does not accept, and what `hazards` names, is refused with policy, file, line and fix.
3. A pack is one file `packs/<name>.cedar`; adding one needs no other change.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

from vouchgate.policy.hazards import hazards
from vouchgate.policy.load import MAX_LISTED, InvalidPolicy, PolicySet, Source, read, validate
from vouchgate.vocabulary.errors import NotFound

BASE = "base"
MAX_LOADED = 4
"""Sets that are kept as loaded: what is checked, then signed, then applied is one text, and to validate it holds the process up each time."""
_FOLDER = resources.files("vouchgate.policy") / "packs"


def load(sources: Sequence[Source], schema: str | None = None) -> PolicySet:
    """Read, validate and refuse hazards (rules 1 and 2). Raises `InvalidPolicy`."""
    others = tuple(source for source in sources if source != pack(BASE))
    return _loaded((pack(BASE), *others), schema if schema is not None else schema_text())


@functools.lru_cache(maxsize=MAX_LOADED)
def _loaded(sources: tuple[Source, ...], schema: str) -> PolicySet:
    policies = read(sources, schema)
    validate(policies)
    found = hazards(policies)
    if found:
        told = "; ".join(f"policy `{one.policy}` ({one.source}, line {one.line}): {one.text}" for one in found[:MAX_LISTED])
        raise InvalidPolicy(told, remedy=found[0].fix)
    return policies


def packs() -> tuple[str, ...]:
    """Names of all packs, sorted."""
    return tuple(sorted(entry.name.removesuffix(".cedar") for entry in _FOLDER.iterdir() if entry.name.endswith(".cedar")))


def pack(name: str) -> Source:
    """One pack's text. Raises `NotFound`."""
    if name not in packs():
        raise NotFound(f"there is no policy pack `{name[:64]}`", remedy=f"use one of {', '.join(packs())}")
    return Source(f"{name}.cedar", (_FOLDER / f"{name}.cedar").read_text("utf-8"))


def schema_text() -> str:
    """The schema every pack is validated against."""
    return (_FOLDER / "ai_lifecycle.cedarschema").read_text("utf-8")
