"""Tar archives of no narrower kind: their structure by tars.py, each member scanned as a file is; names only tighten (active_names.py).

A zip within the last member is found from a tar's end by readers that look there; it is read as that member's content (tars.py, rule 5).
"""

from __future__ import annotations

from vouchgate.scanning.archived import members_of, scan_members
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.tars import is_tar, open_tar
from vouchgate.scanning.verdict import Reading

NAME = "tar"


def recognise(sight: Sight) -> Claim:
    """By the first header's checksum."""
    return (
        Claim(strength="certain", kind=NAME, because="its first block has a tar header's checksum", above=("zip",))
        if is_tar(sight.view)
        else NOT_MINE
    )


def read(sight: Sight, scope: Scope) -> Reading:
    """Structure first, then one member after another."""
    archive = open_tar(sight.view, scope, NAME)
    scan_members(members_of(archive, scope), scope)
    return Reading(covered=archive.covered, facts={"members": len(archive.files)})
