"""The keepers and the rotators: one file each in `keepers/` and `rotators/`, listed here. The folder is the list; two of one name are refused."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache

from vouchgate.protection import keepers as folder
from vouchgate.protection import rotators as rotator_folder
from vouchgate.protection.keepers import Keeper
from vouchgate.protection.rotators import Rotator
from vouchgate.vocabulary.errors import Conflict, NotFound


def collect(found: Iterable[Keeper]) -> dict[str, Keeper]:
    """Keepers by name. Raises `Conflict` on a duplicate."""
    known: dict[str, Keeper] = {}
    for keeper in found:
        if keeper.name in known:
            raise Conflict(f"two keepers are named `{keeper.name}`", remedy="rename one of them")
        known[keeper.name] = keeper
    return known


@cache
def keepers() -> dict[str, Keeper]:
    """All keepers of this build, by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    return collect(importlib.import_module(f"{folder.__name__}.{name}").KEEPER for name in modules)


def keeper(name: str) -> Keeper:
    """One keeper. Raises `NotFound`."""
    known = keepers()
    if name not in known:
        raise NotFound(f"there is no keeper `{name[:60]}`", remedy=f"use one of {', '.join(sorted(known))}")
    return known[name]


def collect_rotators(found: Iterable[Rotator]) -> dict[str, Rotator]:
    """Rotators by name. Raises `Conflict` on a duplicate."""
    known: dict[str, Rotator] = {}
    for one in found:
        if one.name in known:
            raise Conflict(f"two rotators are named `{one.name}`", remedy="rename one of them")
        known[one.name] = one
    return known


@cache
def rotators() -> dict[str, Rotator]:
    """All rotators of this build, by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(rotator_folder.__path__))
    return collect_rotators(importlib.import_module(f"{rotator_folder.__name__}.{name}").ROTATOR for name in modules)


def rotator(name: str) -> Rotator:
    """One rotator. Raises `NotFound`."""
    known = rotators()
    if name not in known:
        raise NotFound(f"there is no rotator `{name[:60]}`", remedy=f"use one of {', '.join(sorted(known))}")
    return known[name]
