"""Keep what a process holds in memory to itself: no core dumps, and no reading by its own uid (core(5), prctl(2))."""

from __future__ import annotations

import ctypes
import resource

from vouchgate.vocabulary.errors import NotPermitted

_PR_SET_DUMPABLE = 4


def withhold_memory() -> None:
    """For the rest of this process's life. Raises `NotPermitted`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise NotPermitted("this process cannot be made undumpable", remedy="run it on Linux, outside a debugger")
