"""joblib: `load`, from a path or an open file. A mapping (`mmap_mode`) is of the verified bytes too."""

from __future__ import annotations

from typing import Any

from vouchgate.integrations.guards.replacing import is_path, replace


def wrap(module: Any, guard: Any) -> None:
    """`joblib.numpy_pickle`."""

    def make(original: Any) -> Any:
        def load(filename: Any, *args: Any, **kwargs: Any) -> Any:
            if is_path(filename):
                with guard.file(filename, "joblib") as opened:
                    return original(opened.path, *args, **kwargs)
            with guard.stream(filename, "joblib") as reader:
                return original(reader, *args, **kwargs)

        return load

    replace(module, "load", make)


MODULES = {"joblib.numpy_pickle": wrap}
