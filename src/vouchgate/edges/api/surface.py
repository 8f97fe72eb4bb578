"""`Surface`: everything the control plane offers to an administrator, as one protocol.

Rules
1. Every method but `identify_*` and `ready` takes the `Caller` first, and passes `decide` with action `administer:<verb>`
   before it does anything: a refusal is `NotPermitted`. Anybody may ask where the token service is, and for an exchange, which is decided as
   `exchange` and answered; a load is decided as `read` of the content, a gate's question as `promote` or `deploy` of it, serving as `deploy` to
   the endpoint.
2. Answers are nouns of `vocabulary/answers.py`; an expected "no" (an artifact that is refused, a policy that does not check) is an answer,
   a broken world is a typed error.
3. A method that changes something returns when the change is durable and every enforcement point has acknowledged it or its lease end is
   known.
Left to others: the implementation (wiring joins flows into it), HTTP (edges/api/app.py). `tests/edges/api/surface_memory.py` is its twin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from vouchgate.flows.login_oidc import CallBack
from vouchgate.vocabulary.answers import (
    AdministerVerb,
    AdoptOutcome,
    AdoptRequest,
    Approved,
    AuditCheckpoint,
    AuditPage,
    AuditProof,
    AuditReport,
    Caller,
    ImportOutcome,
    ImportRequest,
    Metric,
    PolicyReport,
    PolicyVersion,
    Readiness,
    RescanState,
    RevokeOutcome,
    RevokeRequest,
    Status,
    VouchState,
    WrapOutcome,
    WrapRequest,
    ZoneState,
)
from vouchgate.vocabulary.answers_approvals import ApprovalState, VouchTaken, Waiver, WaiveRequest
from vouchgate.vocabulary.answers_decisions import CallerState, DecisionFilter, DecisionLine, DecisionPage, EndpointState, Explanation
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.answers_identities import (
    CodeIssued,
    ExchangeOutcome,
    ExchangeRequest,
    IdentityRequest,
    IssuedIdentity,
    JoinToken,
    JoinTokenRequest,
    LoginBegun,
    LoginProvider,
    PartnerState,
    RegistrationRequest,
    RunOutcome,
    RunRequest,
    TokenServiceState,
)
from vouchgate.vocabulary.answers_loads import LoadOutcome, LoadRequest, ServingOutcome, ServingRequest
from vouchgate.vocabulary.answers_policy import (
    CheckReport,
    CheckRequest,
    PolicyHistory,
    PolicySnapshot,
    PrivilegeTable,
    Proof,
    ProofRequest,
    RecordedPage,
    ReplayOutcome,
    Suggestion,
)
from vouchgate.vocabulary.answers_upkeep import BackupOutcome
from vouchgate.vocabulary.answers_zones import (
    AdoptRanking,
    AssetMove,
    AssetRequest,
    AssetState,
    AttackSurface,
    BlastRadius,
    DriftReport,
    ExportOutcome,
    ExportRequest,
    Forecast,
    MoveOutcome,
    ZoneMap,
    ZoneProof,
)
from vouchgate.vocabulary.ca import CaInstallRequest, CaRequested, CaStatus, CaStepRequest
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.secrets import SecretLine


class Surface(Protocol):
    """What the control plane offers."""

    # Who is asking
    async def identify_peer(self, uid: int, pid: int) -> Caller:
        """The caller behind a unix socket. A uid without roles is still a caller; `decide` refuses its acts."""

    async def identify_code(self, code: str, peer: str) -> Caller:
        """Use a one-time code up. Raises `Unverified` for one that is unknown, used or expired."""

    def check(self, caller: Caller) -> None:
        """Whether a session's caller still stands; asked for each request and while a stream is open. Raises `Unverified`."""

    def login_providers(self) -> tuple[LoginProvider, ...]:
        """Identity providers that people log in with."""

    async def begin_login(self, provider: str, *, redirect_uri: str, owner: str) -> LoginBegun:
        """Send somebody to their provider; `owner` is who may finish it."""

    async def finish_login(self, binding: str, owner: str, back: CallBack, *, peer: str) -> tuple[Caller, str]:
        """Who came back, and their name for people to read. Raises `Unverified`."""

    async def may(self, caller: Caller, verb: AdministerVerb) -> None:
        """Raises `NotPermitted` where `decide` refuses; asked before a body is taken in or a stream is opened."""

    # Reading
    async def ready(self) -> Readiness: ...
    async def metrics(self, caller: Caller) -> tuple[Metric, ...]: ...
    async def status(self, caller: Caller) -> Status: ...
    async def endpoints(self, caller: Caller) -> tuple[EndpointState, ...]: ...
    async def callers(self, caller: Caller, after: str, limit: int) -> tuple[CallerState, ...]:
        """By name, at most `limit`, behind the name `after`."""

    async def zone_map(self, caller: Caller) -> ZoneMap: ...
    async def prove_zones(self, caller: Caller, source: str, target: str) -> ZoneProof:
        """Whether anything gets from one zone to another."""

    async def blast(self, caller: Caller, origin: str) -> BlastRadius:
        """What is reached if a caller, an endpoint or content is in the wrong hands."""

    async def attack_surface(self, caller: Caller) -> AttackSurface:
        """How much can be reached, with vouchgate and without."""

    async def zones(self, caller: Caller) -> tuple[ZoneState, ...]: ...
    async def export_zones(self, caller: Caller, request: ExportRequest) -> ExportOutcome:
        """The zones as documents of somebody else's enforcement point."""

    async def zones_drift(self, caller: Caller, fresh: bool) -> DriftReport:
        """What enforcement points enforce otherwise than meant; `fresh` reads them now."""

    async def forecast(self, caller: Caller) -> Forecast: ...
    async def adopt_next(self, caller: Caller) -> AdoptRanking: ...
    async def registrations(self, caller: Caller, after: str, limit: int) -> tuple[Registration, ...]:
        """Likewise."""

    async def decisions(self, caller: Caller, limit: int, before: int, where: DecisionFilter) -> DecisionPage:
        """Newest first, at most `limit`, older than log index `before` (0: from the newest)."""

    def subscribe_decisions(self, caller: Caller) -> AsyncIterator[DecisionLine]:
        """Decisions as they are logged. A slow reader loses the oldest (`seq` shows the gap); the first step raises `NotPermitted`."""

    async def why(self, caller: Caller, principal: str, action: str, resource: str) -> Explanation:
        """Decide now. `principal` and `resource` may be short names (`alice`, `digits`); an ambiguous one is `InvalidInput`."""

    async def why_decision(self, caller: Caller, id: str) -> Explanation:
        """Explain a recorded decision, by decision id, grant id, request id or log index."""

    # Acting
    async def revoke(self, caller: Caller, request: RevokeRequest) -> RevokeOutcome: ...
    async def unrevoke(self, caller: Caller, id: str, reason: str) -> Approved: ...
    async def adopt(self, caller: Caller, request: AdoptRequest) -> AdoptOutcome: ...
    async def wrap(self, caller: Caller, request: WrapRequest) -> WrapOutcome: ...
    async def import_artifact(self, caller: Caller, request: ImportRequest) -> ImportOutcome:
        """The file at `request.path` belongs to the callee from here on; the edge removes what is left of it afterwards."""

    async def issue_identity(self, caller: Caller, request: IdentityRequest) -> IssuedIdentity: ...
    async def runs(self, caller: Caller) -> tuple[Run, ...]: ...
    async def begin_run(self, caller: Caller, request: RunRequest) -> RunOutcome: ...
    async def end_run(self, caller: Caller, id: str, reason: str) -> RunOutcome:
        """End a run; the answer says where its credentials are struck."""

    async def approvals(self, caller: Caller) -> tuple[ApprovalState, ...]:
        """Requests that wait for people, and those that were answered lately; parameters only for whoever may approve."""

    async def give_approval(self, caller: Caller, id: str) -> ApprovalState: ...
    async def refuse_approval(self, caller: Caller, id: str, reason: str) -> ApprovalState: ...
    async def waivers(self, caller: Caller) -> tuple[Waiver, ...]: ...
    async def ask_waiver(self, caller: Caller, request: WaiveRequest) -> Waiver:
        """Ask to go without one piece of evidence; another person agrees."""

    async def agree_waiver(self, caller: Caller, id: str) -> Waiver: ...
    async def withdraw_waiver(self, caller: Caller, id: str) -> Waiver:
        """Take a request back, or refuse it."""

    async def vouches(self, caller: Caller, about: str) -> tuple[VouchState, ...]:
        """Vouches about a name or a digest, the newest first."""

    async def add_vouch(self, caller: Caller, envelope: bytes) -> VouchTaken:
        """Take in a vouch that a delegated producer signed; a refusal is an answer."""

    async def vouch_signature(self, caller: Caller, digest: str, bundle: bytes, by: str) -> VouchTaken:
        """Hold a model's signature against what is kept, and vouch for who signed it; a refusal is an answer."""

    async def vouch_provenance(self, caller: Caller, digest: str, bundle: bytes, by: str) -> VouchTaken:
        """Hold a builder's provenance against what is kept, and vouch for where it comes from; a refusal is an answer."""

    async def load(self, caller: Caller, request: LoadRequest) -> LoadOutcome:
        """Whether the caller may load this content; decided about the content itself, a refusal is an answer."""

    async def gate(self, caller: Caller, request: GateRequest) -> GateOutcome:
        """Whether content may pass a gate of another system; a refusal is an answer."""

    async def serving(self, caller: Caller, request: ServingRequest) -> ServingOutcome:
        """Take the caller's word for what an endpoint serves, where policy lets it deploy there."""

    async def assets(self, caller: Caller) -> tuple[AssetState, ...]: ...
    async def put_asset(self, caller: Caller, request: AssetRequest) -> AssetState:
        """Place something that lies nowhere yet, or say more of it."""

    async def remove_asset(self, caller: Caller, name: str, reason: str) -> AssetState: ...
    async def move_asset(self, caller: Caller, request: AssetMove) -> MoveOutcome:
        """Take something into another zone, which is decided about the thing; a refusal is an answer."""

    async def token_service(self, caller: Caller) -> TokenServiceState: ...
    async def exchange_token(self, caller: Caller, request: ExchangeRequest) -> ExchangeOutcome:
        """Token exchange; the caller is who acts, a refusal is an answer."""

    async def register(self, caller: Caller, request: RegistrationRequest) -> Registration:
        """Say which facts earn an identity."""

    async def unregister(self, caller: Caller, principal: str, reason: str) -> Registration:
        """Take a registration away; returns what it was."""

    async def join_token(self, caller: Caller, request: JoinTokenRequest) -> JoinToken:
        """A token that earns one registration once."""

    async def partners(self, caller: Caller) -> tuple[PartnerState, ...]: ...
    async def refresh_partner(self, caller: Caller, name: str) -> PartnerState:
        """Fetch a partner's bundle now."""

    async def secret_lines(self, caller: Caller) -> tuple[SecretLine, ...]: ...
    async def put_secret(self, caller: Caller, name: str, parts: dict[str, str], admin: bool) -> SecretLine:
        """Bring a credential of somebody else's system, or what its owner asks for."""

    async def rotate_secret(self, caller: Caller, name: str) -> SecretLine: ...
    async def roll_back_secret(self, caller: Caller, name: str) -> SecretLine: ...
    async def release_secret(self, caller: Caller, name: str) -> dict[str, str]:
        """The credential in use, where policy lets the caller have it."""

    async def login_code(self, caller: Caller) -> CodeIssued: ...
    async def claim_bootstrap(self, caller: Caller, token: str) -> Registration:
        """Give the caller's uid the first administrator's roles; only over the unix socket."""

    async def break_glass(self, caller: Caller, envelope: bytes) -> Registration:
        """Give the caller's uid every role for an hour, on a fresh statement of the offline root; only over the unix socket."""

    async def accept_clock(self, caller: Caller, reason: str) -> Status:
        """End a freeze that a jump of the clock caused."""

    async def rescan(self, caller: Caller) -> RescanState:
        """Begin to scan again what a weaker scanner passed."""

    async def rescan_state(self, caller: Caller) -> RescanState:
        """Where that stands."""

    async def ca(self, caller: Caller) -> CaStatus: ...
    async def ca_step(self, caller: Caller, request: CaStepRequest) -> CaStatus:
        """Move a root of the X.509 authority, or rotate its issuer."""

    async def ca_request(self, caller: Caller) -> CaRequested:
        """A request to a CA above ours, for a key that the signer keeps."""

    async def ca_install(self, caller: Caller, request: CaInstallRequest) -> CaStatus:
        """Take in what that CA returned; it signs once it is activated."""

    # Audit
    async def audit_entries(self, caller: Caller, start: int, count: int) -> AuditPage:
        """`start` below zero counts from the end."""

    async def audit_checkpoint(self, caller: Caller) -> AuditCheckpoint: ...
    async def audit_proof(self, caller: Caller, of: str) -> AuditProof:
        """`of` is a log index, a request id or a decision id."""

    async def audit_verify(self, caller: Caller, against: str) -> AuditReport:
        """Recompute the whole log; `against` is the text of an older checkpoint, or empty."""

    # Policy, backup
    async def policy_current(self, caller: Caller) -> PolicyVersion: ...
    async def policy_history(self, caller: Caller, version: int) -> PolicyHistory:
        """Every version, or one with its text."""

    async def policy_snapshot(self, caller: Caller) -> PolicySnapshot: ...
    async def policy_records(self, caller: Caller, start: int, since: int) -> RecordedPage:
        """Recorded decisions from a log index on; with `start` below zero from the first that is not before `since`."""

    async def policy_replay(self, caller: Caller, text: str, days: int) -> ReplayOutcome: ...
    async def policy_suggest(self, caller: Caller, zone: str, days: int) -> Suggestion: ...
    async def policy_privilege(self, caller: Caller, principal: str, days: int) -> PrivilegeTable: ...
    async def policy_check(self, caller: Caller, text: str) -> PolicyReport: ...
    async def policy_prove(self, caller: Caller, request: ProofRequest) -> Proof:
        """A statement about every request there can be."""

    async def policy_examine(self, caller: Caller, request: CheckRequest) -> CheckReport:
        """Everything that checking finds, beside what is in force."""

    async def policy_apply(self, caller: Caller, text: str, reason: str) -> PolicyVersion: ...
    async def backup(self, caller: Caller, path: Path) -> BackupOutcome:
        """Write a consistent backup to `path`, which does not exist yet; private keys are not in it."""
