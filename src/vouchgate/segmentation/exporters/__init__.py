"""One file per exporter: a plan of zones as documents for one kind of network.

A file here defines `EXPORTER = Exporter(...)`, and nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vouchgate.segmentation.plan import Plan


@dataclass(frozen=True)
class Exported:
    """What came of a plan."""

    documents: dict[str, bytes]
    """File name -> content."""
    left_out: tuple[str, ...] = ()
    """What the network cannot hold, or must not hold yet, in plain words."""


@dataclass(frozen=True)
class Exporter:
    """A way to render a plan."""

    name: str
    version: int
    render: Callable[[Plan], Exported]
    """Called with a plan that was checked."""
    summary: str = ""
    """One line for the catalog."""
