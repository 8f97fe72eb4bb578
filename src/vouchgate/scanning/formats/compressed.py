"""Compressed files: unpacked in memory within bounds, and what they hold scanned as a file of its own. The rules are in compressions.py."""

from __future__ import annotations

from vouchgate.scanning.compressions import packer_of, unpack
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading

NAME = "compressed"
INSIDE = "unpacked"
"""What the content is called in reasons: a name in the stream's header says nothing."""


def recognise(sight: Sight) -> Claim:
    """By the first bytes."""
    packer = packer_of(sight.head)
    return Claim(strength="certain", kind=NAME, because=f"a {packer} stream", above=TEXTS) if packer else NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """Unpack it and scan what is inside; an empty stream holds nothing."""
    packer = packer_of(sight.head)
    content = unpack(sight.view, packer, scope, NAME)
    scope.inner(INSIDE, content)
    return Reading(covered=len(sight), facts={"packer": packer, "unpacked": len(content)})
