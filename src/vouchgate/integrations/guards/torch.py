"""PyTorch: `torch.load` and `torch.jit.load`, from a path or an open file."""

from __future__ import annotations

from typing import Any

from vouchgate.integrations.guards.replacing import is_path, replace


def wrap(module: Any, guard: Any) -> None:
    """`torch.serialization` and `torch.jit._serialization`: both take `f` first."""

    def make(original: Any) -> Any:
        def load(f: Any, *args: Any, **kwargs: Any) -> Any:
            if is_path(f):
                with guard.file(f, "torch") as opened:
                    return original(opened.path, *args, **kwargs)
            with guard.stream(f, "torch") as reader:
                return original(reader, *args, **kwargs)

        return load

    replace(module, "load", make)


MODULES = {"torch.serialization": wrap, "torch.jit._serialization": wrap}
