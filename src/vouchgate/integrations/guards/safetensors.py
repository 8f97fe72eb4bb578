"""safetensors: `safe_open`, through which every `load_file` goes."""

from __future__ import annotations

from typing import Any

from vouchgate.integrations.guards.replacing import replace


def wrap(module: Any, guard: Any) -> None:
    """What is opened is mapped before the call returns, so the descriptor may go."""

    def make(original: Any) -> Any:
        def safe_open(filename: Any, *args: Any, **kwargs: Any) -> Any:
            with guard.file(filename, "safetensors") as opened:
                return original(opened.path, *args, **kwargs)

        return safe_open

    replace(module, "safe_open", make)


MODULES = {"safetensors": wrap}
