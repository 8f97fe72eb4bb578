"""The exporters: one file each in `exporters/`, listed here. The folder is the list; two of one name are refused."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache

from vouchgate.segmentation import exporters as folder
from vouchgate.segmentation.exporters import Exported, Exporter
from vouchgate.segmentation.plan import Plan, check
from vouchgate.vocabulary.errors import Conflict, NotFound


def collect(found: Iterable[Exporter]) -> dict[str, Exporter]:
    """Exporters by name. Raises `Conflict` on a duplicate."""
    known: dict[str, Exporter] = {}
    for exporter in found:
        if exporter.name in known:
            raise Conflict(f"two exporters are named `{exporter.name}`", remedy="rename one of them")
        known[exporter.name] = exporter
    return known


@cache
def exporters() -> dict[str, Exporter]:
    """All exporters of this build, by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    return collect(importlib.import_module(f"{folder.__name__}.{name}").EXPORTER for name in modules)


def export(name: str, plan: Plan) -> Exported:
    """The plan as documents of one exporter. Raises `NotFound`, `InvalidInput`."""
    known = exporters()
    if name not in known:
        raise NotFound(f"there is no exporter `{name[:60]}`", remedy=f"use one of {', '.join(sorted(known))}")
    check(plan)
    return known[name].render(plan)
