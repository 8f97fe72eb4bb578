"""The keepers and the rotators: one file each in `keepers/` and `rotators/`, listed here. The folder is the list; two of one name are refused."""

from __future__ import annotations

from functools import cache

from vouchgate.protection import keepers as folder
from vouchgate.protection import rotators as rotator_folder
from vouchgate.protection.keepers import Keeper
from vouchgate.protection.rotators import Rotator
from vouchgate.vocabulary.plugins import by_name, chosen, modules


@cache
def keepers() -> dict[str, Keeper]:
    """All keepers of this build, by name."""
    return by_name("keeper", (module.KEEPER for module in modules(folder)))


def keeper(name: str) -> Keeper:
    """One keeper. Raises `NotFound`."""
    return chosen("keeper", keepers(), name)


@cache
def rotators() -> dict[str, Rotator]:
    """All rotators of this build, by name."""
    return by_name("rotator", (module.ROTATOR for module in modules(rotator_folder)))


def rotator(name: str) -> Rotator:
    """One rotator. Raises `NotFound`."""
    return chosen("rotator", rotators(), name)
