"""What the control plane tells an administrator: the answers that console, API and command line all render.

Rules
1. An answer is complete: whoever renders it asks nothing else and computes nothing but layout.
2. A name, path or reason in an answer came from outside and is escaped by whoever renders it; nothing here is markup.
3. A time is `UnixMillis`; 0 means never, or not known.
Left to others: making the answers (flows), offering them (edges/api), drawing them (edges/console, edges/cli).
"""

from __future__ import annotations

from typing import Any, Literal

from vouchgate.vocabulary.answers_zones import ReadyLine
from vouchgate.vocabulary.decisions import Mode
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.places import Endpoint, Zone
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.vouches import Outcome, Revocation, Tier, UnixMillis
from vouchgate.vocabulary.wire import Noun

NEVER = UnixMillis(0)
AdministerVerb = Literal[
    "read", "explain", "revoke", "unrevoke", "adopt", "wrap", "import", "issue-identity", "login", "bootstrap", "accept-clock", "rescan", "audit",
    "policy-check", "policy-apply", "policy-approve", "backup", "register", "unregister", "join-token", "run", "federate", "secret", "rotate-key",
    "kill-sessions", "place", "analyse", "waive", "vouch", "approve",
]  # fmt: skip
"""Action `administer:<verb>` that `decide` is asked about before an act (contracts, "Administration")."""


class Caller(Noun, frozen=True, kw_only=True):
    """Who performs an administrative act, and how that is known."""

    principal: VerifiedPrincipal
    how: Literal["uid", "cookie", "session"]
    """`uid`: the kernel's word on a unix socket (SO_PEERCRED); `cookie`: a console session; `session`: a login of the command line."""
    peer: str
    """`uid:<n> pid:<n>` or the peer's address; for the log, never for a decision."""


# --- status -----------------------------------------------------------------------------------------------------------------------


class Need(Noun, frozen=True, kw_only=True):
    """Something that waits for a person, worst first wherever it is shown."""

    kind: Literal[
        "would-deny", "endpoint-refused", "point-unreachable", "point-rejected", "clock", "witness", "isolation", "vouch-expiring",
        "solo", "break-glass", "audit-lag", "disk", "process-down", "policy", "key-expiring", "secret", "partner",
        "waiver", "drift", "approval",
    ]  # fmt: skip
    severity: Literal["act", "soon", "note"]
    """`act`: something is refused or unprotected now; `soon`: it will be; `note`: known and lasting."""
    subject: str
    """Name of what it is about: a zone, an endpoint, an enforcement point, a process."""
    title: str
    """One short sentence, lower-case."""
    detail: str = ""
    remedy: str = ""
    command: str = ""
    """A command line that does the remedy, or nothing."""
    count: int = 0


class PointState(Noun, frozen=True, kw_only=True):
    """One enforcement point as the control plane sees it."""

    id: str
    kind: Literal["gateway", "ext_authz", "in_process"]
    state: Literal["current", "behind", "rejected", "unreachable"]
    epoch: int
    """Newest epoch it acknowledged."""
    acknowledged_at: UnixMillis = NEVER
    lease_until: UnixMillis = NEVER
    """When its maps lapse if no heartbeat follows."""
    entries: int = 0
    detail: str = ""
    """Why it rejected or cannot be reached."""


class ProcessState(Noun, frozen=True, kw_only=True):
    """One process of the tree."""

    name: str
    state: Literal["running", "starting", "down"]
    pid: int = 0
    uid: int = 0
    since: UnixMillis = NEVER
    restarts: int = 0
    detail: str = ""


class ZoneState(Noun, frozen=True, kw_only=True):
    """A zone beside what enforcing it would change."""

    zone: Zone
    endpoints: int = 0
    would_deny: int = 0
    """Distinct caller x action x resource cells that were called in observe and that enforcing refuses."""


class ClockState(Noun, frozen=True, kw_only=True):
    """Whether issuing and renewing go on (contracts, "Clock")."""

    state: Literal["sound", "frozen"]
    detail: str = ""


class WitnessState(Noun, frozen=True, kw_only=True):
    """Who besides this control plane has cosigned the log."""

    kind: Literal["none", "own", "outside"]
    name: str = ""
    size: int = 0
    """Entries that the newest cosignature covers."""
    cosigned_at: UnixMillis = NEVER
    statement: str = ""
    """What the log is evidence against, in plain words."""


class Status(Noun, frozen=True, kw_only=True):
    """The state of everything on one page."""

    zones_hold: bool = False
    """Whether a crossing is declared; without, zones hold nobody."""

    trust_domain: TrustDomain
    version: str
    now: UnixMillis
    started_at: UnixMillis
    epoch: int
    policy_version: int
    policy_digest: str
    solo: bool
    isolated: bool
    """Whether every process has its own uid."""
    keys: str = ""
    """Where the signer's keys lie: `[keys] place`."""
    gateway: str
    """Address of the mTLS listener."""
    plain: str = ""
    console: str = ""
    clock: ClockState
    witness: WitnessState
    log_size: int
    log_root: str = ""
    allowed: int = 0
    denied: int = 0
    would_deny: int = 0
    needs: tuple[Need, ...] = ()
    points: tuple[PointState, ...] = ()
    processes: tuple[ProcessState, ...] = ()
    zones: tuple[ZoneState, ...] = ()


class ReadyPart(Noun, frozen=True, kw_only=True):
    """One thing that must work before traffic is taken."""

    name: str
    ok: bool
    detail: str = ""


class Readiness(Noun, frozen=True, kw_only=True):
    """Store, log, signer and the epoch of each enforcement point."""

    ready: bool
    parts: tuple[ReadyPart, ...]


class Sample(Noun, frozen=True, kw_only=True):
    """One value of a metric."""

    value: float
    labels: dict[str, str] = {}


class Metric(Noun, frozen=True, kw_only=True):
    """One family, rendered as Prometheus text at the edge."""

    name: str
    """`vouchgate_...`, `[a-z_]+`."""
    kind: Literal["counter", "gauge"]
    help: str
    samples: tuple[Sample, ...]


# --- evidence ---------------------------------------------------------------------------------------------------------------------


class VouchState(Noun, frozen=True, kw_only=True):
    """A vouch as evidence now: does it hold, from whom, until when."""

    id: str
    predicate: str
    subject: str
    state: Literal["holds", "expiring", "expired", "failed", "inconclusive", "revoked", "unverified", "absent"]
    outcome: Outcome | Literal[""] = ""
    """Empty where it is absent."""
    tier: Tier | Literal[""] = ""
    issuer_role: str = ""
    issuer_key: str = ""
    tool: str = ""
    issued_at: UnixMillis = NEVER
    expires_at: UnixMillis = NEVER
    rests_on: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    """Digests of what the content was made from."""
    run: str = ""
    """The run that made it."""
    detail: str = ""
    """Why it does not hold."""


# --- acts -------------------------------------------------------------------------------------------------------------------------


class PointOutcome(Noun, frozen=True, kw_only=True):
    """What one enforcement point did with a change."""

    point: str
    outcome: Literal["enforced", "expires-by-lease", "planned"]
    at: UnixMillis = NEVER
    """When it acknowledged, or when its lease lapses."""
    after_ms: float = 0.0
    """From the request to the acknowledgement."""


class RevokeRequest(Noun, frozen=True, kw_only=True):
    """Withdraw a target."""

    kind: Literal["", "credential", "principal", "registration", "key", "digest", "vouch", "run", "policy"] = ""
    """Empty: told from the target's form."""
    target: str
    reason: str
    cascade: Literal["self", "downstream"] = "downstream"
    plan: bool = False
    """Say what would fall, change nothing."""


class RevokeOutcome(Noun, frozen=True, kw_only=True):
    """What fell, and where it is enforced."""

    planned: bool
    revocation: Revocation | None = None
    target_kind: str
    target: str
    vouches: tuple[VouchState, ...] = ()
    endpoints: tuple[str, ...] = ()
    """Endpoints that nobody may call afterwards."""
    callers: tuple[str, ...] = ()
    """Callers that lose a grant."""
    grants: int = 0
    points: tuple[PointOutcome, ...] = ()
    epoch: int = 0
    undo: str = ""
    """The command with which another person undoes it."""


class WouldRefuse(Noun, frozen=True, kw_only=True):
    """One cell that enforcing refuses and that was called in observe."""

    principal: str
    authenticated: bool
    action: str
    resource: str
    count: int
    last_at: UnixMillis
    reason: str
    remedy: str = ""


class AdoptRequest(Noun, frozen=True, kw_only=True):
    """Move a zone between observe and enforce, or say what that would do."""

    zone: str
    to: Literal["plan", "enforce", "observe"]
    reason: str = ""


class AdoptOutcome(Noun, frozen=True, kw_only=True):
    """A zone's mode, and what enforcing refuses."""

    zone: str
    was: Mode
    now: Mode
    planned: bool
    observe_until: UnixMillis = NEVER
    would_refuse: tuple[WouldRefuse, ...] = ()
    calls_seen: int = 0
    waits_for: str = ""
    """Who must still approve, where two persons are needed; empty where it is done."""
    waivers: int = 0
    """Waivers that stand: without them more would be refused."""
    points: tuple[PointOutcome, ...] = ()
    lines: tuple[ReadyLine, ...] = ()
    """For each call that enforcing refuses, what lets it go on."""
    after: str = ""
    """What was predicted when it was enforced, and what happened since."""


class WrapRequest(Noun, frozen=True, kw_only=True):
    """Put an unmodified server behind the gateway, in observe."""

    name: str
    upstream: str
    """`http://127.0.0.1:9000`, `tcp:127.0.0.1:9000` or `unix:/path/to.sock`."""
    zone: str
    listen: str = ""
    """`host:port` of the plain listener; empty for the gateway's own."""
    model: str = ""
    """Digest text of the artifact it serves, where a person declares it."""


class WrapOutcome(Noun, frozen=True, kw_only=True):
    """Where the wrapped server is reached now."""

    endpoint: Endpoint
    mode: Mode
    address: str
    """Address at which callers reach it, `http://host:port/prefix`."""
    observe_until: UnixMillis = NEVER
    points: tuple[PointOutcome, ...] = ()


class ImportRequest(Noun, frozen=True, kw_only=True):
    """Take a file in: it lies at `path`, private to the control plane, and was called `name`."""

    path: str
    name: str
    zone: str
    allow_declared: tuple[str, ...] = ()
    """`predicate=value` statements that the importer makes; each becomes a declared vouch."""
    tree: bool = False
    """What lies at `path` is a folder that is one artifact, as a stream (vocabulary/tree_frames.py)."""
    signature: bytes = b""
    """A bundle of a signer of the settings; it is to hold for exactly this artifact."""
    provenance: bytes = b""
    """A bundle of a builder of the settings, likewise."""


class RescanLine(Noun, frozen=True, kw_only=True):
    """One artifact that lost its scan."""

    digest: str
    outcome: Literal["clean", "refused", "review", "incomplete", "not-kept"]
    why: str = ""
    remedy: str = ""


class RescanState(Noun, frozen=True, kw_only=True):
    """Where scanning everything again stands (flows/rescan.py)."""

    running: bool = False
    scanner: str = ""
    """Tool, version and knowledge version that scan now."""
    total: int = 0
    """Artifacts whose scan was weaker."""
    done: int = 0
    clean: int = 0
    lost: int = 0
    """Artifacts that have no passing scan any more."""
    fallen: int = 0
    """Vouches that the revocation took away."""
    revocation: str = ""
    trouble: str = ""
    """Why it ended early; it is begun again at the next start, or by asking again."""
    lines: tuple[RescanLine, ...] = ()
    """Those that lost their scan; the first 200."""


class ImportFinding(Noun, frozen=True, kw_only=True):
    """One thing that the scanner found."""

    severity: Literal["low", "medium", "high", "critical"]
    rule: str
    where: str
    text: str
    remedy: str = ""


class ImportOutcome(Noun, frozen=True, kw_only=True):
    """What was decided about a file."""

    admitted: bool
    digest: str
    size: int
    format: str
    resource: str
    zone: str
    reason: str
    remedy: str = ""
    findings: tuple[ImportFinding, ...] = ()
    vouches: tuple[VouchState, ...] = ()
    decision_id: str = ""


class Approved(Noun, frozen=True, kw_only=True):
    """An act that waited for a second person, or an undo, as it stands now."""

    id: str
    done: bool
    detail: str
    epoch: int = 0
    points: tuple[PointOutcome, ...] = ()


# --- audit, policy --------------------------------------------------------------------------------------------------------


class AuditEntry(Noun, frozen=True, kw_only=True):
    """One entry of the log, made readable beside its OCSF body."""

    index: int
    at: UnixMillis
    kind: str
    actor: str = ""
    summary: str
    body: dict[str, Any] = {}


class AuditPage(Noun, frozen=True, kw_only=True):
    """Entries in log order."""

    entries: tuple[AuditEntry, ...]
    size: int


class AuditCheckpoint(Noun, frozen=True, kw_only=True):
    """The newest checkpoint, as the note that was signed (C2SP signed-note)."""

    note: str
    size: int
    root: str
    at: UnixMillis
    signers: tuple[str, ...]


class AuditProof(Noun, frozen=True, kw_only=True):
    """A `tlog-proof` text for one entry."""

    index: int
    text: str


class AuditReport(Noun, frozen=True, kw_only=True):
    """What recomputing the whole log gave."""

    ok: bool
    size: int
    root: str
    checked: int
    problems: tuple[str, ...] = ()
    first_bad: int = -1
    witnesses: tuple[str, ...] = ()
    statement: str = ""
    duration_ms: float = 0.0


class PolicyFinding(Noun, frozen=True, kw_only=True):
    """One remark on a policy text."""

    severity: Literal["error", "warning"]
    policy: str = ""
    line: int = 0
    text: str
    remedy: str = ""


class PolicyReport(Noun, frozen=True, kw_only=True):
    """What checking a policy text gave; `changes` compares it with the policy in force."""

    ok: bool
    policies: int
    digest: str
    findings: tuple[PolicyFinding, ...] = ()
    changes: tuple[str, ...] = ()


class PolicyVersion(Noun, frozen=True, kw_only=True):
    """A signed policy set."""

    version: int
    digest: str
    text: str
    signed_by: str = ""
    applied_at: UnixMillis = NEVER
    waits_for: str = ""
    points: tuple[PointOutcome, ...] = ()
