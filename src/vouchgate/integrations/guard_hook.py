"""Wraps a library's ways in as soon as the library is imported, or at once where it was imported before.

Rules
1. A finder in front of all others asks the others for the module and lets the guard wrap it when it has been run, before anybody who imports it
   sees it: what copies a function out of it copies the wrapped one.
2. Each file of guards/ says which modules it wraps and how. A module that lacks what is to be wrapped cannot be imported under the guard.
3. A library that was imported before is wrapped too, but what others copied out of it by then is not: it is said on stderr.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vouchgate.integrations.guards import GUARDS

if TYPE_CHECKING:
    from vouchgate.integrations.guard import Guard

Wrap = Callable[[ModuleType, "Guard"], None]
_ALWAYS_THERE = frozenset({"pickle"})
"""Modules that the interpreter's own start imports; nobody copied anything yet that a model is loaded with."""


def follow(guard: Guard) -> None:
    """Rules 1 and 3, from here on."""
    sys.meta_path.insert(0, _Finder(guard))
    for name, wrap in GUARDS.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        if name not in _ALWAYS_THERE:
            print(f"vouchgate: `{name}` was imported before the guard; what was copied from it is not guarded", file=sys.stderr)  # noqa: T201
        _wrapped(wrap, module, guard)


def _wrapped(wrap: Wrap, module: ModuleType, guard: Guard) -> None:
    if not getattr(module, "__vouchgate__", False):
        wrap(module, guard)
        module.__vouchgate__ = True  # type: ignore[attr-defined]


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        wrap = GUARDS.get(fullname)
        if wrap is None:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, wrap, self._guard)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """The module's own loader, and the guard behind it."""

    def __init__(self, own: Any, wrap: Wrap, guard: Guard) -> None:
        self._own, self._wrap, self._guard = own, wrap, guard

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._own.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._own.exec_module(module)
        _wrapped(self._wrap, module, self._guard)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)
