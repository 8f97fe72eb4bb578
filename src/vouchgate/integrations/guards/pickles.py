"""The standard library's `pickle.load`.

A child that `multiprocessing` starts is told by its parent, over a pipe and with `pickle.load`, what to do: that, and nothing else, passes.
`pickle.loads` and `pickle.Unpickler` are not wrapped: the library's own queues and every other loader here are made of them.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import Any

from vouchgate.integrations.guards.replacing import replace

_STARTERS = frozenset({"multiprocessing.spawn", "multiprocessing.forkserver", "multiprocessing.resource_sharer"})


def wrap(module: Any, guard: Any) -> None:
    """`pickle`."""

    def make(original: Any) -> Any:
        def load(file: Any, *args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_globals.get("__name__") in _STARTERS and _is_pipe(file):
                return original(file, *args, **kwargs)
            with guard.stream(file, "pickle") as reader:
                return original(reader, *args, **kwargs)

        return load

    replace(module, "load", make)


def _is_pipe(file: Any) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):
        return False


MODULES = {"pickle": wrap}
