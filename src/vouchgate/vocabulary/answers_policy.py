"""What analyses of policies answer: replay, suggest, privilege, history and difference, proofs and checks.

Rules of `answers.py` hold here too: an answer is complete, what came from outside is escaped by whoever renders it, 0 as a time means never.
"""

from __future__ import annotations

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

# --- replay -----------------------------------------------------------------------------------------------------------------------


class CellChange(Noun, frozen=True, kw_only=True):
    """Recorded requests of one caller, act and thing that a changed policy answers otherwise, all in one way."""

    principal: str
    action: str
    resource: str
    was: str
    """`allow`, `deny`, `open`: by the old version."""
    now: str
    count: int
    first_at: UnixMillis
    last_at: UnixMillis
    example: str = ""
    """Decision or grant of one of them; `vouchgate why` explains it."""
    because: str
    policies: tuple[str, ...] = ()


class DriftedCell(Noun, frozen=True, kw_only=True):
    """Recorded requests that the old version itself answers otherwise today: entities, evidence or groups have changed since."""

    principal: str
    action: str
    resource: str
    recorded: str
    today: str
    count: int
    why: str
    example: str = ""
    first_at: UnixMillis
    last_at: UnixMillis


class ReplayOutcome(Noun, frozen=True, kw_only=True):
    """Recorded decisions under two versions of the policy."""

    records: int
    same: int
    gained: int
    """Requests that were denied and are allowed."""
    lost: int
    opened: int
    """Requests whose answer depends on facts that were not recorded."""
    bound: int
    """Requests that stay allowed with other obligations."""
    gains: tuple[CellChange, ...] = ()
    losses: tuple[CellChange, ...] = ()
    opens: tuple[CellChange, ...] = ()
    bounds: tuple[CellChange, ...] = ()
    drifted: int = 0
    """Requests that the old version answers otherwise today than was recorded; no doing of the new one."""
    drifts: tuple[DriftedCell, ...] = ()
    unknown_names: int = 0
    """Requests whose caller, act or thing is not known any more: denied under both."""
    observed: int = 0
    """Requests that were let through because the zone observed."""
    unlisted: int = 0
    """Changed requests of cells beyond the bound of what is listed."""
    cut_off: bool = False
    """The file has no end: this is not all of it."""
    left_out: dict[str, int] = {}
    """Requests that no policy decided, by why."""
    old_digest: str = ""
    new_digest: str = ""
    seconds: float = 0.0
