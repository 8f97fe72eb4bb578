"""What rules may spend on looking at values that a pickle shares: one look is linear, but a file can ask for the same look again and again.

Rules
1. One budget for a run and for what runs inside it; whoever visits values pays for each visit, shared ones each time.
2. Spent means that the run ends: nothing is concluded from a look that was not finished.
"""

from __future__ import annotations

from contextvars import ContextVar

MAX_VISITS = 4_000_000
"""Values visited by rules in one pickle; a file of 1,000,000 numbers in rules' arguments takes one a number."""
_left: ContextVar[int] = ContextVar("visits left", default=MAX_VISITS)


class Overworked(Exception):
    """The budget is spent."""


def refill() -> None:
    """At the beginning of a run."""
    _left.set(MAX_VISITS)


def visit(count: int = 1) -> None:
    """Pay for so many visits. Raises `Overworked`."""
    left = _left.get() - count
    _left.set(left)
    if left < 0:
        raise Overworked
