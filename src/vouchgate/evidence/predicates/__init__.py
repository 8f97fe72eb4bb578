"""One file per predicate: what may be stated, with which claims, and by which role.

A file here defines `PREDICATE = Predicate(...)`, and nothing else needs to change.
"""

from __future__ import annotations

from dataclasses import dataclass

from vouchgate.vocabulary.fields import Fields


@dataclass(frozen=True)
class Predicate:
    """A kind of statement."""

    name: str
    version: int
    roles: frozenset[str]
    """Roles that may sign it; a delegation can only narrow this."""
    claims: Fields
    needs_digest: bool = True
    """Whether every subject must be content."""
    max_hours: int = 0
    """Hours that such a vouch may live at most; 0 where its expiry is its issuer's alone."""
    summary: str = ""
    """One line for the catalog."""
