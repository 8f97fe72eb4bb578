"""Numbered, forward-only migrations. A release may add a file here; it never changes or removes one.

Each file `mNNNN_<what>` has `SQLITE` and `POSTGRES`, statements that take the previous schema to this one in one transaction. A store that
is newer than the program is refused, never taken back: restore a backup, or update the program.
"""

from __future__ import annotations

import importlib
import pkgutil

import msgspec

from vouchgate.vocabulary.errors import Unsupported


class Migration(msgspec.Struct, frozen=True):
    """One step."""

    number: int
    sqlite: tuple[str, ...]
    postgres: tuple[str, ...]


def _all() -> tuple[Migration, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    steps = []
    for number, name in enumerate(names, 1):
        assert name.startswith(f"m{number:04d}_"), f"{name} is not migration {number}"
        module = importlib.import_module(f"{__name__}.{name}")
        steps.append(Migration(number, module.SQLITE, module.POSTGRES))
    return tuple(steps)


MIGRATIONS = _all()
NEWEST = len(MIGRATIONS)


def pending(schema: int) -> tuple[Migration, ...]:
    """Steps still to be taken. Raises `Unsupported` where the store is newer than this program."""
    if schema > NEWEST:
        raise Unsupported(
            f"the store has schema {schema}, this program knows up to {NEWEST}",
            remedy="update vouchgate, or restore a backup that the older version made",
        )
    return MIGRATIONS[schema:]
