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


class RecordedPage(Noun, frozen=True, kw_only=True):
    """Some recorded decisions, as lines of the export format (policy/recorded.py)."""

    lines: str
    records: int
    next: int
    """Log index from which the next page begins."""
    end: int
    """Log entries there are."""
    left_out: dict[str, int] = {}


class Standing(Noun, frozen=True, kw_only=True):
    """What speaks against learning from a caller; only callers of whom something does."""

    principal: str
    risk: int = 0
    reasons: tuple[str, ...] = ()
    revoked: str = ""
    """Reason of the standing revocation, or nothing."""


class PolicySnapshot(Noun, frozen=True, kw_only=True):
    """Everything that a replay needs beside the records: the policy in force and the entities that it speaks of, at one moment."""

    trust_domain: str
    made_at: UnixMillis
    policy_version: int
    policy_digest: str
    sources: tuple[tuple[str, str], ...]
    """(name, text) of each file of the policy in force; the base policy is loaded before them."""
    beside: tuple[tuple[str, str], ...] = ()
    """Likewise what is compiled beside it: crossings between zones."""
    entities: bytes
    """Cedar's JSON entities, compressed (RFC 1950)."""
    asks: tuple[tuple[str, str], ...] = ()
    """(action, resource) of everything that can be asked of endpoints and of what was placed."""
    standing: tuple[Standing, ...] = ()
    log_size: int = 0


# --- suggest ----------------------------------------------------------------------------------------------------------------------


class LeftOut(Noun, frozen=True, kw_only=True):
    """Something that was seen and is not suggested."""

    principal: str
    action: str
    resource: str
    why: Literal["too-few-days", "high-value", "excluded-caller", "not-known", "evidence"]
    detail: str
    count: int
    days: int
    last_at: UnixMillis


class Later(Noun, frozen=True, kw_only=True):
    """What a suggestion, learned from the first part of the time alone, would have done in the rest of it."""

    begins_at: UnixMillis
    """The part that was held back begins here."""
    requests: int
    """Allowed requests in it."""
    denied: int
    share: float
    low: float
    """95% interval of the share, by resampling a caller's days."""
    high: float
    by_reason: dict[str, int] = {}
    """Denied requests: `new-caller`, `never-seen`, `too-few-days`, `high-value`, `excluded-caller`, `bounds`, `not-known`, `evidence`."""
    left_to_person: int = 0
    """Of the denied, those that a person is asked to decide about (high value) or that an exclusion means to deny."""


class Privilege(Noun, frozen=True, kw_only=True):
    """Granted beside used cells (caller x action x thing), over callers that used any."""

    callers: int
    granted: int
    used: int
    median: float
    """Of granted / used by caller."""


class Suggestion(Noun, frozen=True, kw_only=True):
    """Least privilege as Cedar that a person reads and applies; nothing is in force by it."""

    text: str
    policies: int
    digest: str
    zone: str = ""
    requests: int
    """Allowed requests that it was learned from."""
    begins_at: UnixMillis
    ends_at: UnixMillis
    days: int
    cells: int
    """Cells that were used."""
    granted: int
    """Cells that it grants to callers that were seen."""
    pooled: int
    """Of these, cells that a caller did not use itself and its group did."""
    left_out: tuple[LeftOut, ...] = ()
    replaces: tuple[str, ...] = ()
    """Permits in force that the suggestion stands for."""
    unused: tuple[str, ...] = ()
    """Permits in force under which nothing was seen."""
    kept: tuple[str, ...] = ()
    """Policies in force that stay as they are: every forbid, and permits for what the log does not show."""
    unseen: float = 0.0
    """Share of later requests to be expected in cells that were never seen (Good-Turing)."""
    enough: bool = True
    more_days: int = 0
    """Days for which to go on observing before the expected share falls to 1%; 0 where it is below."""
    later: Later | None = None
    """None where the time is too short to hold a part back."""
    now: Privilege | None = None
    """Under the policy in force."""
    then: Privilege | None = None
    """Under the suggestion."""
    cut_off: bool = False


# --- privilege --------------------------------------------------------------------------------------------------------------------


class UnusedGrant(Noun, frozen=True, kw_only=True):
    """Something that a caller may do and has not done."""

    action: str
    resource: str
    policies: tuple[str, ...]
    """Permits that give it."""
    on_request: bool = False
    """Whether it depends on facts of the single request."""
    last_at: UnixMillis = UnixMillis(0)
    """When it was last used; 0: not in the time that was looked at."""


class CallerPrivilege(Noun, frozen=True, kw_only=True):
    """One caller's grants beside their use."""

    principal: str
    granted: int
    on_request: int
    """Of the granted, those that depend on facts of the single request."""
    used: int
    """Granted cells that were used."""
    used_beyond: int = 0
    """Cells that were used and are not granted (any more)."""
    unused: tuple[UnusedGrant, ...] = ()
    last_at: UnixMillis = UnixMillis(0)

    @property
    def excess(self) -> int:
        """Granted and not used."""
        return self.granted - self.used


class PrivilegeTable(Noun, frozen=True, kw_only=True):
    """Who may what beside who did what; the largest excess first."""

    callers: tuple[CallerPrivilege, ...]
    known: int
    """Callers there are."""
    dormant: int
    """Callers with grants that used none."""
    total: Privilege
    begins_at: UnixMillis = UnixMillis(0)
    ends_at: UnixMillis = UnixMillis(0)
    requests: int = 0
    unused_policies: tuple[str, ...] = ()
    """Permits that give nothing that was used."""
    cells: int = 0
    """(action, thing) pairs that were looked at for each caller."""
    cut_off: bool = False


# --- history and difference -------------------------------------------------------------------------------------------------------


class PolicyRecord(Noun, frozen=True, kw_only=True):
    """One signed version of the policy."""

    version: int
    digest: str
    author: str
    approver: str
    applied_at: UnixMillis
    files: tuple[str, ...]
    policies: int
    """0 where the text does not load with this version of vouchgate."""
    in_force: bool = False
    signature: Literal["holds", "key-not-current", "broken"]
    """`key-not-current`: signed by a key that the TrustRoot in force does not name (any more)."""
    detail: str = ""
    text: str = ""
    """Only where this version was asked for."""


class PolicyProposal(Noun, frozen=True, kw_only=True):
    """A text that one person proposed and nobody has agreed to yet."""

    sha256: str
    """Of the text."""
    author: str
    until: UnixMillis


class PolicyHistory(Noun, frozen=True, kw_only=True):
    """Every version, the newest first."""

    versions: tuple[PolicyRecord, ...]
    proposal: PolicyProposal | None = None


class PolicyChange(Noun, frozen=True, kw_only=True):
    """One policy that differs between two texts."""

    id: str
    what: Literal["added", "removed", "changed"]
    effect: Literal["permit", "forbid"]
    old: str = ""
    new: str = ""


class PolicyDifference(Noun, frozen=True, kw_only=True):
    """Two texts, and what their difference would have meant for recorded requests."""

    old: str
    """What was compared: a version or files."""
    new: str
    old_digest: str
    new_digest: str
    changes: tuple[PolicyChange, ...]
    behaviour: ReplayOutcome | None = None


class SettingsReport(Noun, frozen=True, kw_only=True):
    """What checking settings found, beside their own contradictions, which are an error."""

    endpoints: int
    zones: int
    findings: tuple[CheckFinding, ...] = ()
