"""Cedar's `like` patterns (Cedar language reference, "like"): literal characters and `*`, which stands for any text, the empty one too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cedarpy import pst


def matcher(pattern: tuple[Any, ...]) -> Callable[[str], bool]:
    """A test of a text against a pattern, without backtracking: a hostile text costs length x wildcards at most."""
    pieces = [""]
    for part in pattern:
        if isinstance(part, pst.Wildcard):
            pieces.append("")
        else:
            pieces[-1] += part.value
    first, middle, last = pieces[0], [piece for piece in pieces[1:-1] if piece], pieces[-1]

    def matches(text: str) -> bool:
        if len(pieces) == 1:
            return text == first
        end = len(text) - len(last)
        if not text.startswith(first) or not text.endswith(last) or end < len(first):
            return False
        at = len(first)
        for piece in middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return matches
