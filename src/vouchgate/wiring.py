"""The only place that reads settings and plugs storage and ports into flows."""

from __future__ import annotations

from vouchgate.ports.clock import Clock
from vouchgate.vocabulary.vouches import UnixMillis


def clock(floor: int = 0) -> Clock:
    """The process's clock, never below `floor` (Unix milliseconds of the last cosigned log time)."""
    return Clock(UnixMillis(floor))
