"""What the control plane answers about zones: what lies where, what passes, what is reached; exporters and drift beside it.

Each answer is bounded, and says so where a bound cut it off.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from vouchgate.vocabulary.decisions import Missing
from vouchgate.vocabulary.places import Asset, Crossing
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

_Zone = Annotated[str, Meta(pattern=r"^[a-z0-9._-]{1,64}$")]
_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Digest = Annotated[str, Meta(max_length=100)]
_Words = Annotated[tuple[_Zone, ...], Meta(max_length=16)]


class AssetRequest(Noun, frozen=True, kw_only=True):
    """Place something, or say more of it."""

    kind: Literal["dataset", "model", "adapter", "key", "artifact"]
    name: Annotated[str, Meta(min_length=1, max_length=96)]
    """Last segment of its id; an artifact's is its digest."""
    zones: _Words = ()
    digest: _Digest = ""
    base: _Digest = ""
    labels: _Words = ()
    purposes: _Words = ()


class AssetMove(Noun, frozen=True, kw_only=True):
    """Take something into another zone."""

    asset: _Name
    target: _Zone
    source: Annotated[str, Meta(max_length=64)] = ""
    """Zone that it leaves; needed where it lies in several."""
    action: Annotated[str, Meta(max_length=64)] = "promote"
    """`promote`, `export` or `deploy`."""
    keep: bool = False
    """It stays where it is too."""
    reason: Annotated[str, Meta(max_length=1024)] = ""


class AssetState(Noun, frozen=True, kw_only=True):
    """Something, where it lies, and what is vouched for of it."""

    asset: Asset
    vouches: tuple[str, ...] = ()
    """Predicates that hold of its name or its content."""
    lacking: dict[str, str] = {}
    """Predicate -> why it does not hold."""


class MoveOutcome(Noun, frozen=True, kw_only=True):
    """Whether it was moved."""

    moved: bool
    state: AssetState
    decision_id: str
    reason: str
    remedy: str = ""
    missing: tuple[Missing, ...] = ()


class CrossingSeen(Noun, frozen=True, kw_only=True):
    """What passes, or passed, from one zone to another."""

    source: str
    target: str
    declared: tuple[Crossing, ...] = ()
    """Empty for traffic that no crossing covers."""
    allowed: int = 0
    """Requests that were let through since the control plane started."""
    denied: int = 0
    would_deny: int = 0
    """Let through in observe, though refused."""
    last_at: int = 0


class ZoneContents(Noun, frozen=True, kw_only=True):
    """What is in a zone."""

    name: str
    declared: bool
    """Whether it is among [zones]; whoever is in another reaches nothing once crossings are declared."""
    mode: str = ""
    principals: int = 0
    """Registrations."""
    names: tuple[str, ...] = ()
    """The first of them, by their last segment."""
    endpoints: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()


class ZoneMap(Noun, frozen=True, kw_only=True):
    """Zones, what is in them, and what passes between them."""

    trust_domain: str
    holds: bool
    """Whether any crossing is declared: without, zones hold nobody."""
    zones: tuple[ZoneContents, ...]
    passes: tuple[CrossingSeen, ...]
    unused: tuple[Crossing, ...] = ()
    """Declared, and never passed since the control plane started."""
    adrift: tuple[str, ...] = ()
    """Things that lie in no zone: nobody reaches them once crossings are declared."""


class Step(Noun, frozen=True, kw_only=True):
    """One step of a path."""

    source: str
    target: str
    how: str
    """In plain words: reads, writes, calls, becomes, is served by ..."""
    by: str
    """What lets it: a policy, a crossing, a registration, a vouch."""
    flow: Literal["control", "data", "both"] = "control"
    """Whether the one side can act through the other, or data comes from the one to the other, or both."""
    certain: bool = True
    """False where it depends on the request (a residual)."""


class ZoneProof(Noun, frozen=True, kw_only=True):
    """Whether anything gets from one zone to another."""

    source: str
    target: str
    proved: bool
    """Nothing does, over everything that was looked at, and nothing was left out."""
    path: tuple[Step, ...] = ()
    """The shortest, where there is one."""
    principals: int = 0
    things: int = 0
    decisions: int = 0
    """Triples that were decided, each once for all callers of whom the same is decided."""
    cut: str = ""
    """Why not everything was looked at; a cut proof proves nothing."""
    assumes: tuple[str, ...] = ()
    """What the proof rests on that was not looked at."""


class Reached(Noun, frozen=True, kw_only=True):
    """Something that is reached, and how."""

    name: str
    kind: str
    zone: str
    distance: int
    via: Step


class BlastRadius(Noun, frozen=True, kw_only=True):
    """What is reached if one identity or one piece of content is in the wrong hands."""

    origin: str
    kind: str
    zones: tuple[str, ...]
    principals: int
    endpoints: int
    assets: int
    secrets: int
    tree: tuple[Reached, ...]
    """Nearest first, each with the step that reaches it first; the counts are of everything."""
    breaks: tuple[str, ...] = ()
    """What revoking it would end, in plain words."""
    cut: str = ""


class ListenerLine(Noun, frozen=True, kw_only=True):
    """Something that takes connections."""

    name: str
    address: str
    kind: Literal["tcp", "unix"]
    who: str
    """Who may connect, in plain words."""


class AttackSurface(Noun, frozen=True, kw_only=True):
    """What can be reached at all, with vouchgate and without."""

    principals: int
    actions: int
    things: int
    allowed: int
    """Principal x action x thing that is allowed whatever the request."""
    depends: int
    """That depends on the request."""
    without: int
    """The same triples on a network where whoever reaches a server may do all that it offers."""
    factor: float
    """`without` / (`allowed` + `depends`); 0 where nothing is reached."""
    across: int
    """Of `allowed` and `depends`, those in another zone than the caller's."""
    zones: tuple[tuple[str, str, int, int], ...] = ()
    """Source zone, target zone, allowed, depends."""
    listeners: tuple[ListenerLine, ...] = ()
    listeners_without: tuple[ListenerLine, ...] = ()
    cut: str = ""


# --- exporters and drift ----------------------------------------------------------------------------------------------------------


class ExportRequest(Noun, frozen=True, kw_only=True):
    """Render the zones for an enforcement point that is not ours."""

    to: Literal["envoy", "kubernetes", "istio"]
    namespace: Annotated[str, Meta(max_length=63)] = "vouchgate"
    """Where the gateway runs."""
    labels: dict[str, str] = {}
    """Of the gateway's pods; empty for the usual ones."""
    namespaces: dict[str, str] = {}
    """Zone -> namespace, where they differ."""
    service_account: Annotated[str, Meta(max_length=253)] = ""
    """Of the gateway's pods."""
    service_accounts: dict[str, tuple[str, ...]] = {}
    """Zone -> service accounts of its workloads."""
    direct: bool = False
    """Open flows between zones past the gateway (Istio); sidecars always do."""
    jwks_uri: Annotated[str, Meta(max_length=512)] = ""
    listen: Annotated[str, Meta(max_length=255)] = "127.0.0.1:15443"
    """Where the first sidecar listens; each further one a port higher, by the endpoints' names."""
    run_dir: Annotated[str, Meta(max_length=100)] = "/run/vouchgate-sidecars"
    """Folder of the sidecars' pipes and logs."""


class ExportOutcome(Noun, frozen=True, kw_only=True):
    """Documents, and what they cannot hold."""

    documents: dict[str, str]
    left_out: tuple[str, ...] = ()


class Drift(Noun, frozen=True, kw_only=True):
    """One thing that an enforcement point enforces otherwise than it is meant to."""

    point: str
    kind: Literal["missing", "extra", "different", "stale", "rejected", "unleased", "loosened", "unreadable"]
    """`extra`: there and not meant; `different`: the same version with other content; `stale`: another version; `unleased`: without an end of
    its own; `loosened`: what is meant would itself let more through than the product's rules do."""
    what: str
    """Which resource, as `listener tls`."""
    detail: str = ""


class PointReading(Noun, frozen=True, kw_only=True):
    """One enforcement point, as it was read back last."""

    point: str
    read_at: UnixMillis = UnixMillis(0)
    """0: not yet."""
    resources: int = 0
    """Resources that were compared."""
    took_ms: float = 0.0
    drifts: tuple[Drift, ...] = ()


class DriftReport(Noun, frozen=True, kw_only=True):
    """Every enforcement point that is read back."""

    ok: bool
    points: tuple[PointReading, ...]


# --- ahead ------------------------------------------------------------------------------------------------------------------------


class Lapse(Noun, frozen=True, kw_only=True):
    """Something that ends by itself, and what is refused from then on."""

    kind: Literal["vouch", "waiver", "registration", "observe", "ca", "trust-root", "partner", "secret", "serves", "identity"]
    subject: str
    title: str
    at: UnixMillis
    within: Literal["24h", "7d", "30d"]
    refused: int = 0
    """Caller x action x resource cells that turn from allow to deny because of it."""
    callers: tuple[str, ...] = ()
    """Whose, at most 20, those seen calling first."""
    calls: int = 0
    """Calls of these cells that were seen."""
    renews_itself: bool = False
    """Nobody has to do anything while vouchgate runs."""
    command: str = ""
    detail: str = ""


class Forecast(Noun, frozen=True, kw_only=True):
    """What will be refused because time passes, decided on the facts as they will be."""

    at: UnixMillis
    allowed: int
    """Cells that are allowed now."""
    refused: dict[str, int]
    """`24h`, `7d`, `30d` -> cells of these that will be refused by then."""
    lapses: tuple[Lapse, ...]
    cut_off: str = ""
    """Why not everything was looked at; empty where it was."""
    took_ms: float = 0.0


class AdoptRank(Noun, frozen=True, kw_only=True):
    """One zone, and why it stands where it stands: value x exposure / (calls that would break + 1)."""

    zone: str
    mode: Literal["observe", "enforce"]
    score: float
    value: int
    exposure: int
    breaks: int
    """Calls seen that enforcing would have refused."""
    calls: int
    why: str
    command: str = ""
    after: str = ""
    """What was predicted when it was enforced, and what happened since."""


class AdoptRanking(Noun, frozen=True, kw_only=True):
    """Zones, the one to enforce next first; those that enforce already last."""

    zones: tuple[AdoptRank, ...]


class ReadyLine(Noun, frozen=True, kw_only=True):
    """What lets one caller that enforcing would refuse go on."""

    principal: str
    action: str
    resource: str
    count: int
    cedar: str = ""
    """A policy for `vouchgate policy apply`; empty where a command does it."""
    commands: tuple[str, ...] = ()
    """In their order, before the policy is applied."""
    proved: bool = False
    """Whether the call was decided again with the line in place, and passes."""
    why: str = ""
