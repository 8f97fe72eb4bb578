"""The formats that can be read: every module of `formats/`, listed from the folder.

A format is one file with three names: `NAME` (unique), `recognise(sight) -> Claim` and `read(sight, scope) -> Reading`; one that can be a whole
folder has `recognise_folder(names) -> Claim` and `read_folder(folder, scope) -> Reading` too, and `raw_files(names)` where files
of plain numbers lie in it. Its module gets bounded read-only bytes and gives values; it imports no other format.
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
    return Format(
        name=module.NAME,
        recognise=module.recognise,
        read=module.read,
        recognise_folder=getattr(module, "recognise_folder", None),
        read_folder=getattr(module, "read_folder", None),
        raw_files=getattr(module, "raw_files", None),
    )
