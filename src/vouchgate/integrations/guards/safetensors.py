"""safetensors: `safe_open`, through which every `load_file` goes.

Where a manifest that was vouched for lies beside the file, each tensor is verified when it is read (guard_parts.py), and nothing else of the file is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from vouchgate.integrations.guards.replacing import replace


def wrap(module: Any, guard: Any) -> None:
    """What is opened is mapped before the call returns, so the descriptor may go."""

    def make(original: Any) -> Any:
        def safe_open(filename: Any, *args: Any, **kwargs: Any) -> Any:
            parts = guard.parts(filename, "safetensors")
            if parts is not None:
                return Parted(parts, lambda path: original(path, *args, **kwargs))
            with guard.file(filename, "safetensors") as opened:
                return original(opened.path, *args, **kwargs)

        return safe_open

    replace(module, "safe_open", make)


class Parted:
    """What `safe_open` returns of a file that is verified tensor by tensor: each answer comes from the library, reading a sealed copy of what was asked for."""

    def __init__(self, parts: Any, open_sealed: Callable[[str], Any]) -> None:
        self._parts, self._open = parts, open_sealed

    def keys(self) -> list[str]:
        """Names of the tensors, sorted as the library sorts them."""
        return sorted(self._parts.names)

    def offset_keys(self) -> list[str]:
        """Names in the order of their bytes."""
        return list(self._parts.names)

    def metadata(self) -> dict[str, str] | None:
        """The header's metadata."""
        found: dict[str, str] | None = self._parts.metadata
        return found

    def get_tensor(self, name: str) -> Any:
        """One tensor, verified now."""
        return self._sealed([name]).get_tensor(name)

    def get_tensors(self) -> Any:
        """All of them."""
        return self._sealed(self._parts.names).get_tensors()

    def get_slice(self, name: str) -> Any:
        """A view of one tensor, all of which is verified now."""
        return self._sealed([name]).get_slice(name)

    def _sealed(self, names: Sequence[str]) -> Any:
        descriptor = self._parts.sealed(names)
        try:
            return self._open(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)

    def __enter__(self) -> Parted:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def __del__(self) -> None:
        self._parts.close()


MODULES = {"safetensors": wrap}
