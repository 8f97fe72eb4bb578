"""The exporters: one file each in `exporters/`, listed here. The folder is the list; two of one name are refused."""

from __future__ import annotations

from functools import cache

from vouchgate.segmentation import exporters as folder
from vouchgate.segmentation.exporters import Exported, Exporter
from vouchgate.segmentation.plan import Plan, check
from vouchgate.vocabulary.plugins import by_name, chosen, modules


@cache
def exporters() -> dict[str, Exporter]:
    """All exporters of this build, by name."""
    return by_name("exporter", (module.EXPORTER for module in modules(folder)))


def export(name: str, plan: Plan) -> Exported:
    """The plan as documents of one exporter. Raises `NotFound`, `InvalidInput`."""
    exporter = chosen("exporter", exporters(), name)
    check(plan)
    return exporter.render(plan)
