"""One file per detector: which events it weighs, in what unit its false alarms are counted, and how many it allows itself.

A file here defines `DETECTOR = Detector(...)`, and nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vouchgate.vocabulary.events import Event, Finding


@dataclass(frozen=True)
class Detector:
    """A pure step over batches of events."""

    name: str
    version: str
    unit: str
    """What the bound on false alarms counts, for example `principal-day`."""
    budget_id: str
    """Name of the alarm budget; ends in the bound for one unit."""
    techniques: frozenset[str]
    """MITRE ATLAS ids that its findings may name."""
    start: Callable[[], Any]
    """The state before the first event."""
    step: Callable[[Any, Sequence[Event]], tuple[Any, tuple[Finding, ...]]]
    """`(state, batch) -> (state, findings)`; the state handed in is not changed."""
    summary: str = ""
    """One line for the catalog."""
