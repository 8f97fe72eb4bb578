"""Which format some bytes are. Content decides; a name's extension is never looked at.

Rules
1. Every format in the catalog is asked. Exactly one certain claim settles it.
2. Two certain claims are a polyglot: two programs would read two different things from one digest. That is refused as it is.
3. A possible claim counts only where no format is certain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.verdict import Reading
from vouchgate.vocabulary.wire import Noun

Strength = Literal["certain", "possible", "no"]
Reader = Callable[[memoryview, ScanSettings], Reading]


class Claim(Noun, frozen=True, kw_only=True):
    """A format's word on whether the bytes are its own."""

    strength: Strength
    kind: str = ""
    """What the verdict calls it."""
    because: str = ""
    """What was seen, for a person."""


NOT_MINE = Claim(strength="no")


class Format(Noun, frozen=True, kw_only=True):
    """A format's plug-in as the catalog found it."""

    name: str
    recognise: Callable[[memoryview], Claim]
    read: Reader


class Sniffed(Noun, frozen=True, kw_only=True):
    """The formats whose claim counts: none, one, or several."""

    claims: tuple[tuple[Format, Claim], ...]


def sniff(view: memoryview, formats: tuple[Format, ...]) -> Sniffed:
    """Ask every format; keep the certain claims, else the possible ones."""
    claims = [(kind, kind.recognise(view)) for kind in formats]
    for strength in ("certain", "possible"):
        chosen = tuple((kind, claim) for kind, claim in claims if claim.strength == strength)
        if chosen:
            return Sniffed(claims=chosen)
    return Sniffed(claims=())
