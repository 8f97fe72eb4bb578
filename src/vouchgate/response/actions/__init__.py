"""One file per action: what it would do about a finding.

A file here defines `ACTION = Action(...)`, and nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vouchgate.response.effects import Declined, Effect, Situation
from vouchgate.vocabulary.events import Finding


@dataclass(frozen=True)
class Action:
    """A pure plan: values in, an effect or the reason for none out."""

    name: str
    version: int
    plan: Callable[[Finding, Situation], Effect | Declined]
    summary: str = ""
    """One line for the catalog."""
