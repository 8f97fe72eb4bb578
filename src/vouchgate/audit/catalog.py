"""The exporters: one file each in `exporters/`, listed here.

An exporter module has `NAME`, `SUFFIX` (of a file it is written to) and `render(index, entry) -> bytes`. Adding one needs that file alone; a
second of the same name is refused.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import msgspec

from vouchgate.audit import exporters
from vouchgate.vocabulary.errors import Conflict, NotFound


class Exporter(msgspec.Struct, frozen=True):
    """One way to hand log entries to another system."""

    name: str
    suffix: str
    render: Callable[[int, bytes], bytes]
    """`(log index, entry) -> bytes`."""
    summary: str
    """First line of the module's documentation."""


def collect(modules: Iterable[ModuleType | Any]) -> dict[str, Exporter]:
    """Exporters by name. Raises `Conflict` where a name is taken twice."""
    found: dict[str, Exporter] = {}
    for module in modules:
        exporter = Exporter(module.NAME, module.SUFFIX, module.render, (module.__doc__ or "").strip().split("\n")[0])
        if exporter.name in found:
            raise Conflict(f"two exporters are called `{exporter.name}`", remedy="rename one of them")
        found[exporter.name] = exporter
    return found


def all_exporters() -> dict[str, Exporter]:
    """Every exporter of the folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(exporters.__path__))
    return collect(importlib.import_module(f"{exporters.__name__}.{name}") for name in names)


def exporter(name: str) -> Exporter:
    """One exporter. Raises `NotFound`."""
    known = all_exporters()
    if name not in known:
        raise NotFound(f"there is no exporter `{name[:60]}`", remedy=f"use one of {', '.join(known)}")
    return known[name]
