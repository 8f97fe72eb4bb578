"""The formats that can be read: every module of `formats/`, listed from the folder.

A format is one file with three names: `NAME` (unique), `recognise(view) -> Claim` and `read(view, settings) -> Reading`. Its module gets
a bounded read-only buffer and gives values; it imports no other format.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from types import ModuleType

from vouchgate.scanning import formats
from vouchgate.scanning.sniff import Format
from vouchgate.vocabulary.errors import Conflict


@cache
def installed() -> tuple[Format, ...]:
    """Every format of the folder, by name. Raises `Conflict` for a name that two files claim."""
    found = sorted(pkgutil.iter_modules(formats.__path__), key=lambda module: module.name)
    return register(importlib.import_module(f"{formats.__name__}.{module.name}") for module in found)


def register(modules: Iterable[ModuleType]) -> tuple[Format, ...]:
    """The plug-ins of some modules. Raises `Conflict` for a duplicate, `AttributeError` for a module that is no format."""
    seen: dict[str, Format] = {}
    for module in modules:
        name = module.NAME
        if name in seen:
            raise Conflict(f"two format files claim the name `{name}`", remedy="give one of them another NAME")
        seen[name] = Format(name=name, recognise=module.recognise, read=module.read)
    return tuple(seen[name] for name in sorted(seen))
