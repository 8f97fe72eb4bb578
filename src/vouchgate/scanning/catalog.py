"""The formats that can be read: every module of `formats/`, listed from the folder.

A format is one file with three names: `NAME` (unique), `recognise(view) -> Claim` and `read(view, settings) -> Reading`. Its module gets
a bounded read-only buffer and gives values; it imports no other format.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

from vouchgate.scanning import formats
from vouchgate.scanning.sniff import Format
from vouchgate.vocabulary.plugins import by_name, modules


@cache
def installed() -> tuple[Format, ...]:
    """Every format of this build, by name. Raises `Conflict` for a name that two files claim, `AttributeError` for a file that is no format."""
    return tuple(by_name("format", (_format(module) for module in modules(formats))).values())


def _format(module: ModuleType) -> Format:
    return Format(name=module.NAME, recognise=module.recognise, read=module.read)
