"""What a gate of another system (a model registry, a cluster) asks the control plane before it lets content through, and what it is told."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.decisions import Missing
from vouchgate.vocabulary.wire import Noun


class GateRequest(Noun, frozen=True, kw_only=True):
    """May this content be promoted or deployed, in the eyes of the gate that asks?"""

    digest: str
    """Of a file, or of a folder (`sha256-tree:...`)."""
    act: Literal["promote", "deploy"]
    subject: str = ""
    """What is done with it, for the log: `models:/digits/3 alias champion`, `Pod shop/web-1` ..."""
    target: str = ""
    """The zone it is to work in: where crossings are declared it must lie there, and policies see it as `context.target`."""
    purpose: str = ""
    """What it is for; policies see it as `context.purpose`."""
    dry_run: bool = False
    """Nothing will come of it: the question is decided like any other, and not recorded."""


class GateOutcome(Noun, frozen=True, kw_only=True):
    """The decision."""

    allowed: bool
    digest: str
    resource: str
    decision_id: str
    reason: str
    remedy: str = ""
    missing: tuple[Missing, ...] = ()
    """Vouches whose absence decided."""
    hold_ms: int = 0
    """Milliseconds for which an allow may be relied on without asking again."""
