"""Loading what the product decides on: the packs that come with it, a person's own policies, and the schema they speak.

    load(sources) -> PolicySet                    base pack first, then these; validated and free of hazards. Raises `InvalidPolicy`
    pack(name) -> Source                          one pack, for example `ai_lifecycle`
    packs() -> tuple[str, ...]                    their names
    schema_text() -> str                          the Cedar schema of the spine
    whole(sources) -> tuple[Source, ...]          with the base pack first
    accept(key), accepted(sources)                a verdict of another process on exactly these texts (`verdict_key`)

Rules
1. The base policy is always there and comes first; no other policy may take one of its names.
2. What Cedar's validator does not accept, and what `hazards` names, is refused with policy, file, line and fix.
3. A pack is one file `packs/<name>.cedar`; adding one needs no other change.
4. What a child process of ours validated (flows/prevalidate.py) is not validated again: Cedar's validator holds the interpreter's lock, and with it
   every decision. The verdict counts for the digest of schema, names and texts, so for nothing else; without one we validate here.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from importlib import resources

from vouchgate.policy.hazards import hazards
from vouchgate.policy.load import MAX_LISTED, InvalidPolicy, PolicySet, Source, read, validate
from vouchgate.vocabulary.errors import NotFound

BASE = "base"
MAX_LOADED = 4
"""Sets that are kept as loaded: what is checked, then signed, then applied is one text, and to validate it holds the process up each time."""
MAX_ACCEPTED = 32
"""Verdicts of other processes that are remembered, the newest ones."""
_accepted: dict[str, None] = {}
_FOLDER = resources.files("vouchgate.policy") / "packs"


def load(sources: Sequence[Source], schema: str | None = None) -> PolicySet:
    """Read, validate and refuse hazards (rules 1 and 2). Raises `InvalidPolicy`."""
    return _loaded(whole(sources), schema if schema is not None else schema_text())


def whole(sources: Sequence[Source]) -> tuple[Source, ...]:
    """With the base pack first (rule 1)."""
    base = pack(BASE)
    return (base, *(source for source in sources if source != base))


def verdict_key(sources: Sequence[Source], schema: str) -> str:
    """What a verdict is bound to (rule 4)."""
    read_as = json.dumps([schema, [[one.name, one.text] for one in sources]], separators=(",", ":"))
    return hashlib.sha256(b"vouchgate/policy-verdict/v1\0" + read_as.encode()).hexdigest()


def accept(key: str) -> None:
    """Take a verdict over (rule 4)."""
    _accepted[key] = None
    while len(_accepted) > MAX_ACCEPTED:
        del _accepted[next(iter(_accepted))]


def accepted(sources: Sequence[Source]) -> bool:
    """Whether `load` of the whole set would not validate it here."""
    return verdict_key(sources, schema_text()) in _accepted


@functools.lru_cache(maxsize=MAX_LOADED)
def _loaded(sources: tuple[Source, ...], schema: str) -> PolicySet:
    policies = read(sources, schema)
    if verdict_key(sources, schema) in _accepted:
        return policies
    validate(policies)
    found = hazards(policies)
    if found:
        told = "; ".join(f"policy `{one.policy}` ({one.source}, line {one.line}): {one.text}" for one in found[:MAX_LISTED])
        raise InvalidPolicy(told, remedy=found[0].fix)
    accept(verdict_key(sources, schema))
    return policies


def packs() -> tuple[str, ...]:
    """Names of all packs, sorted."""
    return tuple(sorted(entry.name.removesuffix(".cedar") for entry in _FOLDER.iterdir() if entry.name.endswith(".cedar")))


@functools.cache
def pack(name: str) -> Source:
    """One pack's text. Raises `NotFound`."""
    if name not in packs():
        raise NotFound(f"there is no policy pack `{name[:64]}`", remedy=f"use one of {', '.join(packs())}")
    return Source(f"{name}.cedar", (_FOLDER / f"{name}.cedar").read_text("utf-8"))


@functools.cache
def schema_text() -> str:
    """The schema every pack is validated against."""
    return (_FOLDER / "ai_lifecycle.cedarschema").read_text("utf-8")
