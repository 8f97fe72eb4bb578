"""Zip archives of no narrower kind: their structure by zips.py, and each member scanned as a file is.

Rules
1. The archive is one that every reader reads alike (zips.py).
2. Every member is recognised by its content and read by one format; its name only tightens (active_names.py).
3. A `__main__` at the top is refused: Python runs such an archive when it is given it as a program.
"""

from __future__ import annotations

from vouchgate.scanning.archived import members_of, scan_members
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading, Reason
from vouchgate.scanning.zips import open_zip

NAME = "zip"
MAIN = ("__main__.py", "__main__.pyc")
"""What Python looks for in an archive that it is to run (zipapp, "The Python Zip Application Archive Format")."""


def recognise(sight: Sight) -> Claim:
    """By a directory at the end, which is how readers find it, or by a first member."""
    found = sight.zip_directory
    return NOT_MINE if found is None else Claim(strength="certain", kind=NAME, because="a zip archive", above=TEXTS)


def read(sight: Sight, scope: Scope) -> Reading:
    """Structure first, then one member after another."""
    archive = open_zip(sight.view, scope, NAME)
    scan_members(members_of(archive, scope), scope)
    reasons = tuple(_runs(entry.name) for entry in archive.files if entry.name in MAIN)
    return Reading(covered=archive.covered, reasons=reasons, facts={"members": len(archive.files)})


def _runs(name: str) -> Reason:
    return Reason(
        rule=f"{NAME}:program",
        where=f"member `{name}`",
        why="with it the archive is a program: `python FILE` runs it",
        remedy="pack the data alone, without the program",
    )
