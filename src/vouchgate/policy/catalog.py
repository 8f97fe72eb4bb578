"""The policy packs that come with the product, and the schema they speak.

    schema_text() -> str                          the Cedar schema of the spine
    pack(name) -> Source                          one pack; `base` cannot be left out: `load.load` always puts it first
    packs() -> tuple[str, ...]                    their names

A pack is one file `packs/<name>.cedar`; adding one needs no other change.
"""

from __future__ import annotations

from importlib import resources

from vouchgate.policy.load import Source
from vouchgate.vocabulary.errors import NotFound

BASE = "base"
_FOLDER = resources.files("vouchgate.policy") / "packs"


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
