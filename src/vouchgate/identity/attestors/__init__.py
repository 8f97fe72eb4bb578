"""One file per attestor. An attestor maps facts that a port collected to selectors; it collects nothing itself.

A file here defines `ATTESTOR = Attestor(...)`, and nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.principals import Selector


@dataclass(frozen=True)
class Attestor:
    """How one kind of evidence about a workload becomes selectors."""

    name: str
    version: int
    fields: Fields
    """The facts it takes."""
    selectors: Callable[[Mapping[str, Any]], tuple[Selector, ...]]
    """Called with facts that `fields` accepted."""
