"""What analyses of policies answer: replay, suggest, privilege, history and difference, proofs and checks.

Rules of `answers.py` hold here too: an answer is complete, what came from outside is escaped by whoever renders it, 0 as a time means never.
"""

from __future__ import annotations

from typing import Any, Literal

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


# --- proofs and checks --------------------------------------------------------------------------------------------------------------

Verdict = Literal["proved", "refuted", "unknown"]


class PolicyText(Noun, frozen=True, kw_only=True):
    """One policy file by name."""

    name: str
    text: str


class ProofRequest(Noun, frozen=True, kw_only=True):
    """What is to be proved of policies. Without `policies` those in force are meant."""

    question: Literal["never", "nothing-new", "equivalent"]
    policies: tuple[PolicyText, ...] = ()
    """Of `never`; of the other two the new ones."""
    never: str = ""
    """Cedar text: what it permits is what must never be allowed."""
    old: tuple[PolicyText, ...] = ()
    """Of `nothing-new` and `equivalent`: compared with; without them those in force."""
    seconds: float = 30.0


class Counterexample(Noun, frozen=True, kw_only=True):
    """A request that both engines answer as the question said none would be."""

    sentence: str
    """In plain words."""
    principal: str
    action: str
    resource: str
    fits: bool
    """Whether the schema applies the action to this resource; the engine decides either way."""
    permitted_by: tuple[str, ...]
    """Policies that permit it, of the set in question."""
    denied_by: tuple[str, ...] = ()
    """Policies of the other set that deny it; empty for a deny by default."""
    obligations: tuple[str, ...] = ()
    """What the grant is bound to, as `kind=value`."""
    request: dict[str, Any] = {}
    """`principal`, `action`, `resource`, `context` in Cedar's JSON."""
    entities: tuple[dict[str, Any], ...] = ()
    """In Cedar's JSON."""


class Proof(Noun, frozen=True, kw_only=True):
    """The answer to one question about every request there can be."""

    verdict: Verdict
    question: str
    """In plain words."""
    sentence: str
    counterexample: Counterexample | None = None
    why: tuple[str, ...] = ()
    """For `unknown`: the bound that was hit, or the construct that has no exact translation."""
    kinds: int = 0
    """Kinds of requests that were looked at: (caller, act, resource) types that the policies can tell apart."""
    seconds: float = 0.0


class CheckFinding(Noun, frozen=True, kw_only=True):
    """One thing about a policy text that a person should see."""

    kind: str
    severity: Literal["error", "warning"]
    policy: str = ""
    file: str = ""
    line: int = 0
    text: str
    remedy: str = ""
    example: str = ""
    """A request that shows it, where one was found."""


class CellCount(Noun, frozen=True, kw_only=True):
    """What the policies say of one endpoint over all known callers, with risk 0."""

    endpoint: str
    action: str
    allowed: int
    residual: int
    """Asked again on each request."""
    denied: int


class CheckRequest(Noun, frozen=True, kw_only=True):
    """Policies to be checked; none for those in force."""

    policies: tuple[PolicyText, ...] = ()
    seconds: float = 10.0
    """For what is proved; 0 leaves that out."""


class CheckReport(Noun, frozen=True, kw_only=True):
    """Everything that checking found."""

    ok: bool
    """Whether the policies could be put in force."""
    policies: int
    digest: str = ""
    findings: tuple[CheckFinding, ...] = ()
    cells: tuple[CellCount, ...] = ()
    changes: tuple[str, ...] = ()
    """Against the policy in force."""
    unproved: tuple[str, ...] = ()
    """What was not looked at to the end, and why."""
