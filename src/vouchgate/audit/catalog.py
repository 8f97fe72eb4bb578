"""The exporters: one file each in `exporters/`, listed here.

An exporter module has `NAME`, `SUFFIX` (of a file it is written to) and `render(index, entry) -> bytes`. Adding one needs that file alone; a
second of the same name is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType

import msgspec

from vouchgate.audit import exporters as folder
from vouchgate.vocabulary.plugins import by_name, chosen, modules


class Exporter(msgspec.Struct, frozen=True):
    """One way to hand log entries to another system."""

    name: str
    suffix: str
    render: Callable[[int, bytes], bytes]
    """`(log index, entry) -> bytes`."""
    summary: str
    """First line of the module's documentation."""


@cache
def exporters() -> dict[str, Exporter]:
    """All exporters of this build, by name."""
    return by_name("exporter", (_exporter(module) for module in modules(folder)))


def exporter(name: str) -> Exporter:
    """One exporter. Raises `NotFound`."""
    return chosen("exporter", exporters(), name)


def _exporter(module: ModuleType) -> Exporter:
    return Exporter(module.NAME, module.SUFFIX, module.render, (module.__doc__ or "").strip().split("\n")[0])
