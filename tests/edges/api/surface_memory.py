"""The in-memory twin of `Surface`: a small world of two endpoints and four callers that obeys the protocol's rules.

It decides by a rule as simple as it can be: uid `ADMIN_UID` and console sessions may do everything, `NOBODY_UID` nothing. What is asked is
kept in `asked`, so that a test sees what reached the surface.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from policy_memory import PolicyMemory

from vouchgate.flows.login_oidc import CallBack
from vouchgate.vocabulary import answers_zones
from vouchgate.vocabulary.answers import (
    AdministerVerb,
    AdoptOutcome,
    AdoptRequest,
    Approved,
    AuditCheckpoint,
    AuditEntry,
    AuditPage,
    AuditProof,
    AuditReport,
    Caller,
    ClockState,
    ImportOutcome,
    ImportRequest,
    Metric,
    Need,
    PointOutcome,
    PointState,
    PolicyFinding,
    PolicyReport,
    PolicyVersion,
    ProcessState,
    Readiness,
    ReadyPart,
    RescanLine,
    RescanState,
    RevokeOutcome,
    RevokeRequest,
    Sample,
    Status,
    VouchState,
    WitnessState,
    WouldRefuse,
    WrapOutcome,
    WrapRequest,
    ZoneState,
)
from vouchgate.vocabulary.answers_approvals import ApprovalState, VouchTaken, Waiver, WaiveRequest
from vouchgate.vocabulary.answers_decisions import (
    CallerState,
    DecisionFilter,
    DecisionLine,
    DecisionPage,
    EndpointState,
    Explanation,
    Fix,
    PathStep,
    PolicyUse,
)
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
from vouchgate.vocabulary.answers_policy import CellCount, CheckFinding, CheckReport, CheckRequest, Counterexample, Proof, ProofRequest
from vouchgate.vocabulary.answers_upkeep import BackupOutcome
from vouchgate.vocabulary.answers_zones import (
    AssetMove,
    AssetRequest,
    AssetState,
    AttackSurface,
    BlastRadius,
    CrossingSeen,
    ListenerLine,
    MoveOutcome,
    Reached,
    Step,
    ZoneContents,
    ZoneMap,
    ZoneProof,
)
from vouchgate.vocabulary.ca import CaInstallRequest, CaIssuer, CaRequested, CaRoot, CaStatus, CaStepRequest
from vouchgate.vocabulary.decisions import Decision, Missing
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unverified
from vouchgate.vocabulary.places import Asset, Crossing, Endpoint, Route, Zone
from vouchgate.vocabulary.principals import Principal, Registration, VerifiedPrincipal
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.secrets import SecretLine
from vouchgate.vocabulary.vouches import Revocation

TD = "test.local"
NOBODY_UID = 65534
START = 1_795_000_000_000
DIGEST = "sha256:" + "4e" * 32
OTHER_DIGEST = "sha256:" + "b7" * 32
HOUR = 3_600_000


def person(name: str) -> str:
    return f"spiffe://{TD}/person/office/{name}"


def vouch(predicate: str, **changes: Any) -> VouchState:
    made = {
        "id": secrets.token_hex(32),
        "predicate": predicate,
        "subject": f"vg://{TD}/artifact/{DIGEST}",
        "state": "holds",
        "outcome": "pass",
        "tier": "verified",
        "issuer_role": "scanner",
        "issuer_key": "9c" * 32,
        "tool": "vouchgate-scan 0.1.0",
        "issued_at": START - 2 * HOUR,
        "expires_at": START + 22 * HOUR,
    }
    return VouchState(**{**made, **changes})


class MemorySurface(PolicyMemory):
    """One world; `now` is set by the test."""

    def __init__(self, now: int = START) -> None:
        self.out: set[str] = set()
        digits = Asset(id=f"vg://{TD}/dataset/digits", zones=("train",))
        self.placed: dict[str, AssetState] = {digits.id: AssetState(asset=digits, vouches=("scan",))}
        self.begun: dict[str, tuple[str, str, str]] = {}
        self.idp = "https://idp.example"
        self.now = now
        self.asked: list[tuple[str, Any]] = []
        self.codes: dict[str, int] = {}
        self.bootstrap = "bootstrap-token"
        self.revoked: dict[str, Revocation] = {}
        self.not_ready = ""
        self.fail_with: Exception | None = None
        self.lines: list[DecisionLine] = []
        self.listeners: set[asyncio.Queue[DecisionLine]] = set()
        self.modes = {"serve": "enforce", "lab": "observe"}
        self.extra_endpoints: list[EndpointState] = []
        self.extra_callers: list[CallerState] = []
        self.needs: list[Need] = [
            Need(
                kind="endpoint-refused",
                severity="act",
                subject="chat",
                title="chat is refused for everyone",
                detail="its model has no scan vouch that holds: the last one expired 12 minutes ago",
                remedy="scan the model again",
                command="vouchgate scan models/chat.safetensors",
            ),
            Need(
                kind="would-deny",
                severity="soon",
                subject="lab",
                title="enforcing lab would refuse 37 calls of 2 callers",
                detail="both are declared callers without identity; observe ends in 12 days",
                remedy="give them identities, or let the zone enforce",
                command="vouchgate adopt lab --plan",
                count=37,
            ),
            Need(
                kind="witness",
                severity="note",
                subject="log",
                title="no witness outside this machine",
                detail="the log is tamper-evident against everyone but this machine's administrator",
                remedy="configure an outside witness",
            ),
        ]

    # --- who

    def caller(self, name: str, how: str, peer: str) -> Caller:
        return Caller(
            principal=VerifiedPrincipal(
                principal=Principal(id=person(name), groups=("role:responder", "role:auditor")),
                credential_kind="uid" if how == "uid" else "cookie",
                credential_id=peer,
                authenticated=True,
                verified_at=self.now,
                not_after=self.now + HOUR,
            ),
            how=how,
            peer=peer,
        )

    async def identify_peer(self, uid: int, pid: int) -> Caller:
        return self.caller("nobody" if uid == NOBODY_UID else "admin", "uid", f"uid:{uid} pid:{pid}")

    async def identify_code(self, code: str, peer: str) -> Caller:
        until = self.codes.pop(code, 0)
        if until <= self.now:
            raise Unverified("this code is not known, used or expired", remedy="run `vouchgate admin login` for a new one")
        return self.caller("admin", "cookie", peer)

    def _decide(self, caller: Caller, verb: str, asked: Any = None) -> None:
        if self.fail_with:
            raise self.fail_with
        if caller.principal.principal.id == person("nobody"):
            raise NotPermitted(f"you may not `{verb}`", remedy="ask a registrar for a role")
        self.asked.append((verb, asked))

    def check(self, caller: Caller) -> None:
        if caller.principal.principal.id in self.out:
            raise Unverified("the session has ended", remedy="log in again")

    def login_providers(self) -> tuple[LoginProvider, ...]:
        return (LoginProvider(name="staff", title="Staff <b>login</b>"),)

    async def begin_login(self, provider: str, *, redirect_uri: str, owner: str) -> LoginBegun:
        if provider != "staff":
            raise NotFound(f"there is no provider `{provider}`", remedy="name one")
        state, binding = secrets.token_urlsafe(8), secrets.token_urlsafe(8)
        self.begun[state] = (binding, owner, redirect_uri)
        return LoginBegun(url=f"{self.idp}/authorize?state={state}", state=state, binding=binding, expires_at=self.now + HOUR)

    async def finish_login(self, binding: str, owner: str, back: CallBack, *, peer: str) -> tuple[Caller, str]:
        if self.begun.get(back.state, ("", "", ""))[:2] != (binding, owner) or back.code != "good":
            raise Unverified("this login was not begun here, or was finished before", remedy="begin again")
        del self.begun[back.state]
        kind = "cookie" if owner == "browser" else "session"
        made = VerifiedPrincipal(
            principal=Principal(id=f"spiffe://{TD}/person/staff/ada", groups=("callers",)),
            credential_kind=kind,
            credential_id=f"session-{back.state}",
            authenticated=True,
            verified_at=self.now,
            not_after=self.now + HOUR,
        )
        return Caller(principal=made, how=kind, peer=peer), "Ada"

    async def may(self, caller: Caller, verb: AdministerVerb) -> None:
        self._decide(caller, f"may {verb}")

    # --- reading

    async def ready(self) -> Readiness:
        names = ("store", "log", "signer", "gateway epoch 41")
        parts = tuple(ReadyPart(name=name, ok=name != self.not_ready) for name in names)
        return Readiness(ready=all(part.ok for part in parts), parts=parts)

    async def metrics(self, caller: Caller) -> tuple[Metric, ...]:
        self._decide(caller, "read")
        return (
            Metric(
                name="vouchgate_decisions_total",
                kind="counter",
                help="Calls by verdict.",
                samples=(Sample(value=3, labels={"effect": "allow", "endpoint": 'a"b\\c\nd'}), Sample(value=1.5)),
            ),
        )

    async def status(self, caller: Caller) -> Status:
        self._decide(caller, "read")
        return Status(
            trust_domain=TD,
            version="0.1.0",
            now=self.now,
            started_at=START - 3 * HOUR,
            epoch=41,
            policy_version=7,
            policy_digest="sha256:" + "aa" * 32,
            solo=False,
            isolated=True,
            gateway="https://127.0.0.1:8443",
            plain="http://127.0.0.1:8080",
            console="http://127.0.0.1:8470",
            clock=ClockState(state="sound"),
            witness=WitnessState(
                kind="own",
                name="witness.test.local",
                size=18_204,
                cosigned_at=self.now - 900,
                statement="tamper-evident against everyone but this machine's administrator",
            ),
            log_size=18_211,
            log_root="c0" * 32,
            allowed=18_044,
            denied=167,
            would_deny=37,
            needs=tuple(self.needs),
            points=(
                PointState(
                    id="gateway",
                    kind="gateway",
                    state="current",
                    epoch=41,
                    acknowledged_at=self.now - 400,
                    lease_until=self.now + 9_600,
                    entries=12,
                ),
                PointState(id="ext_authz", kind="ext_authz", state="current", epoch=41, acknowledged_at=self.now - 400),
            ),
            processes=tuple(
                ProcessState(name=name, state="running", pid=4000 + number, uid=58001 + number, since=START - 3 * HOUR)
                for number, name in enumerate(("signer", "control", "pdp", "gateway", "tailer", "scanner", "witness"))
            ),
            zones=await self.zones(caller),
        )

    async def zones(self, caller: Caller) -> tuple[ZoneState, ...]:
        self._decide(caller, "read")
        return (
            ZoneState(zone=Zone(name="serve", trust_domain=TD, mode=self.modes["serve"]), endpoints=2),
            ZoneState(
                zone=Zone(name="lab", trust_domain=TD, mode=self.modes["lab"], observe_until=START + 12 * 24 * HOUR),
                endpoints=1,
                would_deny=2,
            ),
        )

    async def export_zones(self, caller: Caller, request: answers_zones.ExportRequest) -> answers_zones.ExportOutcome:
        self._decide(caller, "read", request)
        return answers_zones.ExportOutcome(
            documents={"network-policies.json": '{"items": []}\n'}, left_out=("zone lab is in observe: no policy",)
        )

    async def zones_drift(self, caller: Caller, fresh: bool) -> answers_zones.DriftReport:
        self._decide(caller, "read", fresh)
        drift = answers_zones.Drift(point="gateway", kind="extra", what="listener way-around", detail="nobody meant it to be there")
        point = answers_zones.PointReading(point="gateway", read_at=START, resources=20, took_ms=8.0, drifts=(drift,))
        return answers_zones.DriftReport(ok=False, points=(point,))

    async def forecast(self, caller: Caller) -> answers_zones.Forecast:
        self._decide(caller, "read")
        lapse = answers_zones.Lapse(
            kind="vouch", subject=f"vg://{TD}/endpoint/digits", title="scan lapses", at=START + HOUR, within="24h", refused=2,
            callers=(f"spiffe://{TD}/service/serve/alice",), calls=7, command="vouchgate import FILE",
        )  # fmt: skip
        return answers_zones.Forecast(at=START, allowed=4, refused={"24h": 2, "7d": 2, "30d": 2}, lapses=(lapse,))

    async def adopt_next(self, caller: Caller) -> answers_zones.AdoptRanking:
        self._decide(caller, "explain")
        lab = answers_zones.AdoptRank(
            zone="lab",
            mode="observe",
            score=0.3,
            value=3,
            exposure=2,
            breaks=21,
            calls=40,
            why="3 things",
            command="vouchgate adopt lab --plan",
        )
        return answers_zones.AdoptRanking(zones=(lab,))

    async def endpoints(self, caller: Caller) -> tuple[EndpointState, ...]:
        self._decide(caller, "read")
        serves = vouch("serves", subject=f"vg://{TD}/endpoint/digits", issuer_role="supervisor", expires_at=self.now + 4 * 60_000)
        scan = vouch("scan", rests_on=(secrets.token_hex(32),))
        imported = vouch("import", issuer_role="importer", expires_at=self.now + 90 * 24 * HOUR)
        old = vouch(
            "scan", state="expired", subject=f"vg://{TD}/artifact/{OTHER_DIGEST}", expires_at=self.now - 12 * 60_000, detail="it expired"
        )
        routes = (Route(method="POST", path="/v2/models/digits/infer", action="infer"),)
        return (
            EndpointState(
                endpoint=Endpoint(
                    id=f"vg://{TD}/endpoint/digits",
                    trust_domain=TD,
                    zone="serve",
                    upstream="unix:/run/digits.sock",
                    routes=routes,
                    bearer=True,
                    model_digest=DIGEST,
                    digest_tier="verified",
                ),
                mode="enforce",
                verdict="served",
                vouches=(serves, scan, imported),
                callers=3,
                allowed=17_950,
                denied=120,
                last_call_at=self.now - 800,
            ),
            EndpointState(
                endpoint=Endpoint(
                    id=f"vg://{TD}/endpoint/chat",
                    trust_domain=TD,
                    zone="serve",
                    upstream="unix:/run/chat.sock",
                    routes=routes,
                    model_in_body=True,
                    models={"tiny": f"vg://{TD}/endpoint/chat"},
                    model_digest=OTHER_DIGEST,
                    digest_tier="rederived",
                ),
                mode="enforce",
                verdict="refused",
                reason="its model has no scan vouch that holds",
                missing=(
                    Missing(
                        predicate="scan",
                        subject=f"vg://{TD}/artifact/{OTHER_DIGEST}",
                        why="expired",
                        remedy="vouchgate scan models/chat.safetensors",
                    ),
                ),
                vouches=(old, vouch("serves", tier="rederived", subject=f"vg://{TD}/endpoint/chat")),
                callers=0,
                allowed=94,
                denied=47,
                last_call_at=self.now - 42_000,
            ),
            EndpointState(
                endpoint=Endpoint(
                    id=f"vg://{TD}/endpoint/legacy",
                    trust_domain=TD,
                    zone="lab",
                    upstream="tcp:127.0.0.1:9000",
                    routes=(),
                    wrapped=True,
                    model_digest="",
                    digest_tier="",
                ),
                mode="observe",
                verdict="served",
                callers=2,
                allowed=37,
                would_deny=37,
                last_call_at=self.now - 5_000,
                missing=(Missing(predicate="serves", subject=f"vg://{TD}/endpoint/legacy", why="absent", remedy="declare its model"),),
            ),
            *self.extra_endpoints,
        )

    async def callers(self, caller: Caller, after: str, limit: int) -> tuple[CallerState, ...]:
        self._decide(caller, "read")
        return tuple(sorted((one for one in self._callers() if one.principal > after), key=lambda one: one.principal))[:limit]

    def _callers(self) -> tuple[CallerState, ...]:
        return (
            CallerState(
                principal=f"spiffe://{TD}/service/serve/shop",
                groups=("callers",),
                credential_kind="x509",
                authenticated=True,
                credential_until=self.now + 41 * 60_000,
                last_seen=self.now - 800,
                allowed=17_210,
                denied=3,
            ),
            CallerState(
                principal=person("alice"),
                groups=("callers", "analysts"),
                credential_kind="jwt",
                authenticated=True,
                credential_until=self.now + 3 * 60_000,
                last_seen=self.now - 20_000,
                allowed=834,
                denied=0,
            ),
            CallerState(
                principal=person("bob"),
                groups=("guests",),
                credential_kind="x509",
                authenticated=True,
                last_seen=self.now - HOUR,
                denied=164,
                revoked="5f" * 32,
            ),
            CallerState(
                principal=f"spiffe://{TD}/declared/lab/addr-10.0.0.7",
                credential_kind="declared",
                authenticated=False,
                last_seen=self.now - 5_000,
                would_deny=21,
                allowed=21,
            ),
            *self.extra_callers,
        )

    async def registrations(self, caller: Caller, after: str, limit: int) -> tuple[Registration, ...]:
        self._decide(caller, "read")
        return (
            ()
            if person("alice") <= after
            else (Registration(principal=person("alice"), trust_domain=TD, groups=("callers",), created_at=START),)
        )

    def add(self, **changes: Any) -> DecisionLine:
        """A call happens."""
        made = {
            "seq": len(self.lines) + 1,
            "at": self.now,
            "effect": "allow",
            "would_be": "allow",
            "mode": "enforce",
            "principal": f"spiffe://{TD}/service/serve/shop",
            "authenticated": True,
            "action": "infer",
            "resource": f"vg://{TD}/endpoint/digits",
            "method": "POST",
            "path": "/v2/models/digits/infer",
            "status": 200,
            "grant_id": secrets.token_hex(8),
            "request_id": secrets.token_hex(16),
            "enforced_by": "gateway",
            "duration_ms": 5.3,
            "peer": "127.0.0.1",
        }
        line = DecisionLine(**{**made, **changes})
        self.lines.append(line)
        for listener in self.listeners:
            listener.put_nowait(line)
        return line

    async def decisions(self, caller: Caller, limit: int, before: int, where: DecisionFilter) -> DecisionPage:
        self._decide(caller, "read", where)
        lines = [line for line in reversed(self.lines) if (not before or line.seq < before) and _matches(line, where)]
        rest = len(lines) > limit
        return DecisionPage(decisions=tuple(lines[:limit]), before=lines[limit - 1].seq if rest else 0)

    async def subscribe_decisions(self, caller: Caller) -> AsyncIterator[DecisionLine]:
        self._decide(caller, "read")
        queue: asyncio.Queue[DecisionLine] = asyncio.Queue()
        self.listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.listeners.discard(queue)

    async def why(self, caller: Caller, principal: str, action: str, resource: str) -> Explanation:
        self._decide(caller, "explain", (principal, action, resource))
        if "nothing" in resource:
            raise NotFound(f"there is no endpoint `{resource}`", remedy="see `vouchgate status`")
        return self._explain("deny" if "bob" in principal else "allow", principal, action, resource, live=True)

    async def why_decision(self, caller: Caller, id: str) -> Explanation:
        self._decide(caller, "explain", id)
        for line in self.lines:
            if id in (line.decision_id, line.grant_id, line.request_id, str(line.seq)):
                explained = self._explain(line.effect, line.principal, line.action, line.resource, live=False)
                return msgspec.structs.replace(explained, log_index=line.seq)
        raise NotFound(f"there is no decision `{id}`", remedy="give a decision id, grant id, request id or log index")

    def _explain(self, effect: str, principal: str, action: str, resource: str, *, live: bool) -> Explanation:
        denied = effect == "deny"
        gone = Missing(predicate="scan", subject=f"vg://{TD}/artifact/{DIGEST}", why="expired", remedy="scan the model again")
        return Explanation(
            decision=Decision(
                id="d1" * 16,
                trust_domain=TD,
                effect=effect,
                would_be=effect,
                principal=principal,
                action=action,
                resource=resource,
                policy_digest="sha256:" + "aa" * 32,
                policy_version=7,
                evidence_epoch=41,
                determining=("digits.callers",),
                missing=(gone,) if denied else (),
                reason="the model has no scan vouch that holds" if denied else "callers may infer on a model that was scanned",
                remedy="scan the model again" if denied else "",
                not_after=self.now + HOUR,
                evaluated_at=self.now,
            ),
            live=live,
            groups=("callers",),
            credential="X.509-SVID, checked by the gateway",
            endpoint=resource,
            model_digest=DIGEST,
            digest_tier="verified",
            policies=(
                PolicyUse(
                    id="digits.callers", effect="permit", summary="callers may infer on a model that was scanned", source="digits.cedar:4"
                ),
            ),
            vouches=(
                vouch("scan", state="expired", expires_at=self.now - 12 * 60_000, detail="it expired") if denied else vouch("scan"),
                vouch("serves", issuer_role="supervisor"),
            ),
            path=(
                PathStep(where="gateway", what="mTLS, certificate verified", result="passed"),
                PathStep(where="revocations", what="nothing about this caller", result="passed"),
                PathStep(where="allow-map", what="no grant" if denied else "grant found", result="stopped" if denied else "passed"),
                PathStep(where="model server", what="digits", result="not-reached" if denied else "passed"),
            ),
            fixes=(Fix(text="scan the model again", command="vouchgate scan models/digits.onnx"),) if denied else (),
        )

    # --- acts

    def _points(self, plan: bool) -> tuple[PointOutcome, ...]:
        if plan:
            return (PointOutcome(point="gateway", outcome="planned"),)
        return (
            PointOutcome(point="gateway", outcome="enforced", at=self.now + 6, after_ms=5.8),
            PointOutcome(point="edge-2", outcome="expires-by-lease", at=self.now + 10_000),
        )

    async def revoke(self, caller: Caller, request: RevokeRequest) -> RevokeOutcome:
        self._decide(caller, "revoke", request)
        if not request.reason:
            raise InvalidInput("a revocation needs a reason", remedy="add --reason")
        kind = request.kind or ("digest" if request.target.startswith("sha256") else "principal")
        made = None
        if not request.plan:
            if request.target in self.revoked:
                raise Conflict(f"`{request.target}` is revoked already", remedy="see `vouchgate why`")
            made = Revocation(
                id=secrets.token_hex(32),
                trust_domain=TD,
                target_kind=kind,
                target=request.target,
                reason=request.reason,
                requested_by=caller.principal.principal.id,
                made_at=self.now,
            )
            self.revoked[request.target] = made
        return RevokeOutcome(
            planned=request.plan,
            revocation=made,
            target_kind=kind,
            target=request.target,
            vouches=(vouch("scan"), vouch("serves")),
            endpoints=(f"vg://{TD}/endpoint/digits",),
            callers=(person("alice"),),
            grants=3,
            points=self._points(request.plan),
            epoch=42,
            undo=f"vouchgate revoke --undo {made.id}" if made else "",
        )

    async def unrevoke(self, caller: Caller, id: str, reason: str) -> Approved:
        self._decide(caller, "unrevoke", (id, reason))
        return Approved(id=id, done=False, detail="another person must approve it")

    async def adopt(self, caller: Caller, request: AdoptRequest) -> AdoptOutcome:
        self._decide(caller, "adopt", request)
        if request.zone not in self.modes:
            raise NotFound(f"there is no zone `{request.zone}`", remedy=f"zones: {', '.join(self.modes)}")
        was = self.modes[request.zone]
        if request.to != "plan":
            self.modes[request.zone] = request.to
        refused = WouldRefuse(
            principal=f"spiffe://{TD}/declared/lab/addr-10.0.0.7",
            authenticated=False,
            action="infer",
            resource=f"vg://{TD}/endpoint/legacy",
            count=21,
            last_at=self.now - 5_000,
            reason="it has no identity",
            remedy="vouchgate identity issue service lab batch",
        )
        return AdoptOutcome(
            zone=request.zone,
            was=was,
            now=self.modes[request.zone],
            planned=request.to == "plan",
            would_refuse=(refused,),
            calls_seen=37,
            points=self._points(request.to == "plan"),
        )

    async def wrap(self, caller: Caller, request: WrapRequest) -> WrapOutcome:
        self._decide(caller, "wrap", request)
        endpoint = Endpoint(
            id=f"vg://{TD}/endpoint/{request.name}", trust_domain=TD, zone=request.zone, upstream=request.upstream, routes=(), wrapped=True
        )
        return WrapOutcome(
            endpoint=endpoint, mode="observe", address=f"http://127.0.0.1:8080/{request.name}", observe_until=self.now + 30 * 24 * HOUR
        )

    async def import_artifact(self, caller: Caller, request: ImportRequest) -> ImportOutcome:
        data = Path(request.path).read_bytes()
        self._decide(caller, "import", (request, data))
        admitted = not request.name.endswith(".pkl")
        return ImportOutcome(
            admitted=admitted,
            digest=DIGEST,
            size=len(data),
            format="onnx" if admitted else "pickle",
            resource=f"vg://{TD}/artifact/{DIGEST}",
            zone=request.zone,
            reason="it passed" if admitted else "a pickle runs code when it is opened",
            remedy="" if admitted else "save the weights as safetensors",
            vouches=(vouch("scan"),) if admitted else (),
        )

    async def issue_identity(self, caller: Caller, request: IdentityRequest) -> IssuedIdentity:
        self._decide(caller, "issue-identity", request)
        jwt = request.form == "jwt"
        pem = base64.b64encode(request.spki).decode()
        return IssuedIdentity(
            principal=f"spiffe://{TD}/{request.kind}/{request.zone}/{request.name}",
            form=request.form,
            certificates="" if jwt else f"-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n",
            bundle="" if jwt else "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            token="aaa.bbb.ccc" if jwt else "",
            credential_id="c1" * 32,
            not_after=self.now + HOUR,
            groups=request.groups or (),
        )

    def _run(self, principal: str, stage: str, **more: Any) -> Run:
        return Run(
            id="run-0123456789abcdef", trust_domain=TD, principal=principal, zone="train", stage=stage, inputs=(DIGEST,),
            started_at=self.now - HOUR, not_after=self.now + HOUR, **more,
        )  # fmt: skip

    async def runs(self, caller: Caller) -> tuple[Run, ...]:
        self._decide(caller, "read")
        return (self._run(f"spiffe://{TD}/job/train/fit", "train"),)

    async def begin_run(self, caller: Caller, request: RunRequest) -> RunOutcome:
        self._decide(caller, "run", request)
        return RunOutcome(run=self._run(request.principal, request.stage))

    async def end_run(self, caller: Caller, id: str, reason: str) -> RunOutcome:
        self._decide(caller, "run", (id, reason))
        ended = self._run(f"spiffe://{TD}/job/train/fit", "train", ended_at=self.now, ended_by="ann", reason=reason)
        return RunOutcome(run=ended, credentials=2, points=self._points(False))

    def approval(self, **changes: Any) -> ApprovalState:
        made: dict[str, Any] = {
            "id": "00ab", "state": "pending", "principal": f"spiffe://{TD}/service/serve/app", "action": "call-tool",
            "resource": f"vg://{TD}/tool/tools.pay", "method": "POST", "path": "/mcp", "tool": "pay", "body": '{"to": "\\u202ebob"}',
            "shown": True, "digest": "5c" * 32, "groups": ("safety-board",), "asked_at": self.now, "expires_at": self.now + 900_000,
            "mine": True,
        }  # fmt: skip
        return ApprovalState(**{**made, **changes})

    async def approvals(self, caller: Caller) -> tuple[ApprovalState, ...]:
        self._decide(caller, "read")
        return (self.approval(), self.approval(id="00ac", state="used", ended_by="d1", mine=False))

    async def give_approval(self, caller: Caller, id: str) -> ApprovalState:
        self._decide(caller, "approve", id)
        if id != "00ab":
            raise NotFound(f"there is no approval `{id}`", remedy="list them: `vouchgate approve list`")
        return self.approval(state="approved", approvers=(person("ann"),), mine=False)

    async def refuse_approval(self, caller: Caller, id: str, reason: str) -> ApprovalState:
        self._decide(caller, "approve", (id, reason))
        return self.approval(state="refused", ended_by=person("ann"), mine=False)

    def waiver(self, **changes: Any) -> Waiver:
        made = {
            "id": "w-0123456789abcdef",
            "state": "waits",
            "control": "scan",
            "subject": f"vg://{TD}/artifact/{DIGEST}",
            "until": self.now + 24 * HOUR,
            "why": "the scanner is being replaced",
            "requester": person("admin"),
            "waits_until": self.now + 24 * HOUR,
        }
        return Waiver(**{**made, **changes})

    async def waivers(self, caller: Caller) -> tuple[Waiver, ...]:
        self._decide(caller, "read")
        return (
            self.waiver(),
            self.waiver(id="5a" * 32, state="in-force", control="serves@rederived", approver=person("ann"), renewals=2),
        )

    async def ask_waiver(self, caller: Caller, request: WaiveRequest) -> Waiver:
        self._decide(caller, "waive", request)
        return self.waiver(control=request.control, until=request.until, why=request.why)

    async def agree_waiver(self, caller: Caller, id: str) -> Waiver:
        self._decide(caller, "waive", id)
        if id != "w-0123456789abcdef":
            raise NotFound(f"no request `{id}` waits", remedy="list them: `vouchgate waive list`")
        return self.waiver(id="5b" * 32, state="in-force", approver=person("ann"))

    async def withdraw_waiver(self, caller: Caller, id: str) -> Waiver:
        self._decide(caller, "waive", id)
        return self.waiver(state="ended")

    async def vouches(self, caller: Caller, about: str) -> tuple[VouchState, ...]:
        self._decide(caller, "read", about)
        return () if about == "nobody" else (vouch("posture", subject=person("admin"), issuer_role="device"),)

    async def add_vouch(self, caller: Caller, envelope: bytes) -> VouchTaken:
        self._decide(caller, "vouch", envelope)
        if envelope == b"bad":
            return VouchTaken(taken=False, why="unverified", reason="the vouch's signature does not hold", remedy="produce the vouch again")
        return VouchTaken(taken=True, id="5c" * 32, predicate="posture", subjects=(person("admin"),), expires_at=self.now + HOUR)

    async def vouch_signature(self, caller: Caller, digest: str, bundle: bytes, by: str) -> VouchTaken:
        self._decide(caller, "vouch", (digest, by))
        if bundle == b"bad":
            return VouchTaken(taken=False, why="unverified", reason="for `ml-team`: the signature does not hold", remedy="sign it again")
        name = f"vg://{TD}/artifact/{digest}"
        return VouchTaken(taken=True, id="5d" * 32, predicate="signature", subjects=(name,), expires_at=self.now + HOUR)

    async def vouch_provenance(self, caller: Caller, digest: str, bundle: bytes, by: str) -> VouchTaken:
        self._decide(caller, "vouch", (digest, by))
        name = f"vg://{TD}/artifact/{digest}"
        return VouchTaken(taken=True, id="5e" * 32, predicate="provenance", subjects=(name,), expires_at=self.now + HOUR)

    async def load(self, caller: Caller, request: LoadRequest) -> LoadOutcome:
        name = f"vg://{TD}/artifact/{request.digest}"
        missing = (Missing(predicate="scan", subject=name, why="absent", remedy="import the artifact"),)
        return LoadOutcome(
            allowed=False, digest=request.digest, resource=name, decision_id="6d" * 16, reason="it was never scanned", missing=missing
        )

    async def gate(self, caller: Caller, request: GateRequest) -> GateOutcome:
        name = f"vg://{TD}/artifact/{request.digest}"
        missing = (Missing(predicate="approval", subject=name, why="absent", remedy="ask for it"),)
        return GateOutcome(
            allowed=False, digest=request.digest, resource=name, decision_id="7d" * 16, reason="nobody approved it", missing=missing
        )

    async def serving(self, caller: Caller, request: ServingRequest) -> ServingOutcome:
        return ServingOutcome(vouch_id="5e" * 32, tier="cooperative", expires_at=self.now + HOUR, renew_ms=300_000)

    async def zone_map(self, caller: Caller) -> ZoneMap:
        self._decide(caller, "analyse")
        one = Crossing(source="agents", target="serve", actions=("infer",), vouches=("scan",), why="agents ask the classifier")
        zones = (
            ZoneContents(name="agents", declared=True, mode="enforce", principals=1, names=("helper",)),
            ZoneContents(
                name="serve", declared=True, mode="enforce", principals=2, names=("alice", "bob"), endpoints=(f"vg://{TD}/endpoint/digits",)
            ),
            ZoneContents(name="<b>odd</b>", declared=False, principals=1, names=("eve",)),
        )
        passes = (
            CrossingSeen(source="agents", target="serve", declared=(one,), allowed=41, last_at=self.now),
            CrossingSeen(source="serve", target="agents", denied=3, last_at=self.now),
        )
        return ZoneMap(trust_domain=TD, holds=True, zones=zones, passes=passes, unused=())

    async def prove_zones(self, caller: Caller, source: str, target: str) -> ZoneProof:
        self._decide(caller, "analyse", (source, target))
        if (source, target) == ("agents", "serve"):
            step = Step(source=person("helper"), target=f"vg://{TD}/endpoint/digits", how="may infer", by="agents-may", flow="both")
            return ZoneProof(source=source, target=target, proved=False, path=(step,), principals=3, things=2, decisions=40)
        return ZoneProof(source=source, target=target, proved=True, principals=3, things=2, decisions=40, assumes=("nothing else listens",))

    async def blast(self, caller: Caller, origin: str) -> BlastRadius:
        self._decide(caller, "analyse", origin)
        if origin == "nobody":
            raise NotFound("there is no caller, endpoint or asset `nobody`", remedy="`vouchgate identity list`")
        step = Step(source=person("alice"), target=f"vg://{TD}/endpoint/digits", how="may infer", by="callers-may-infer", flow="both")
        row = Reached(name=f"vg://{TD}/endpoint/digits", kind="endpoint", zone="serve", distance=1, via=step)
        return BlastRadius(
            origin=origin,
            kind="principal",
            zones=("serve",),
            principals=0,
            endpoints=1,
            assets=0,
            secrets=0,
            tree=(row,),
            breaks=("3 calls",),
        )

    async def attack_surface(self, caller: Caller) -> AttackSurface:
        self._decide(caller, "analyse")
        line = ListenerLine(name="gateway", address="127.0.0.1:8443", kind="tcp", who="whoever has an X.509-SVID")
        return AttackSurface(
            principals=4, actions=2, things=2, allowed=3, depends=1, without=16, factor=4.0, across=1, zones=(("agents", "serve", 1, 0),),
            listeners=(line,), listeners_without=(line,),
        )  # fmt: skip

    async def assets(self, caller: Caller) -> tuple[AssetState, ...]:
        self._decide(caller, "read")
        return tuple(self.placed.values())

    async def put_asset(self, caller: Caller, request: AssetRequest) -> AssetState:
        self._decide(caller, "place", request)
        asset = Asset(id=f"vg://{TD}/{request.kind}/{request.name}", zones=request.zones, digest=request.digest)
        self.placed[asset.id] = AssetState(asset=asset, vouches=("scan",))
        return self.placed[asset.id]

    async def remove_asset(self, caller: Caller, name: str, reason: str) -> AssetState:
        self._decide(caller, "place", name)
        if name not in self.placed:
            raise NotFound(f"`{name}` was placed nowhere", remedy="list them: `vouchgate assets list`")
        return self.placed.pop(name)

    async def move_asset(self, caller: Caller, request: AssetMove) -> MoveOutcome:
        self._decide(caller, "place", request)
        state = self.placed.get(request.asset)
        if state is None:
            raise NotFound(f"`{request.asset}` was placed nowhere", remedy="list them: `vouchgate assets list`")
        if request.target == "agents":
            return MoveOutcome(moved=False, state=state, decision_id="d-1", reason="no crossing covers it", remedy="declare one")
        asset = msgspec.structs.replace(state.asset, zones=(request.target,))
        self.placed[asset.id] = msgspec.structs.replace(state, asset=asset)
        return MoveOutcome(moved=True, state=self.placed[asset.id], decision_id="d-2", reason="permitted")

    async def token_service(self, caller: Caller) -> TokenServiceState:
        self._decide(caller, "login")
        return TokenServiceState(url="https://localhost:9443/token", audience=f"vg://{TD}/system/sts")

    async def exchange_token(self, caller: Caller, request: ExchangeRequest) -> ExchangeOutcome:
        self._decide(caller, "login", request)
        if request.form["scope"] == "administer":
            return ExchangeOutcome(error="invalid-scope", reason="that is no scope", remedy="ask for less")
        return ExchangeOutcome(access_token="aaa.bbb.ccc", token_type="DPoP", expires_in=300, scope=request.form["scope"])

    async def register(self, caller: Caller, request: RegistrationRequest) -> Registration:
        self._decide(caller, "register", request)
        return Registration(
            principal=f"spiffe://{TD}/{request.kind}/{request.zone}/{request.name}",
            trust_domain=TD,
            selectors=request.selectors,
            groups=request.groups,
            svid_ttl_seconds=request.svid_seconds or 3600,
            created_at=self.now,
        )

    async def unregister(self, caller: Caller, principal: str, reason: str) -> Registration:
        self._decide(caller, "unregister", (principal, reason))
        return Registration(principal=principal, trust_domain=TD, groups=("callers",), created_at=self.now)

    async def join_token(self, caller: Caller, request: JoinTokenRequest) -> JoinToken:
        self._decide(caller, "join-token", request)
        return JoinToken(token="t" * 43, principal=request.principal, expires_at=self.now + request.ttl_seconds * 1000)

    def _partner(self, name: str) -> PartnerState:
        return PartnerState(
            name=name, trust_domain="partner.example", profile="https_web", state="trusted", sequence=7, fetched_at=self.now - HOUR,
            next_at=self.now + 300_000, callers=2,
        )  # fmt: skip

    async def partners(self, caller: Caller) -> tuple[PartnerState, ...]:
        self._decide(caller, "read")
        return (self._partner("partner"),)

    async def refresh_partner(self, caller: Caller, name: str) -> PartnerState:
        self._decide(caller, "federate", name)
        return self._partner(name)

    def _secret(self, name: str) -> SecretLine:
        return SecretLine(
            name=name, rotator="postgres", state="steady", version=3, age_ms=HOUR, rotates_at=self.now + 30 * 24 * HOUR, overlap_until=0,
            problem="",
        )  # fmt: skip

    async def secret_lines(self, caller: Caller) -> tuple[SecretLine, ...]:
        self._decide(caller, "read")
        return (self._secret("pricing-db"),)

    async def put_secret(self, caller: Caller, name: str, parts: dict[str, str], admin: bool) -> SecretLine:
        self._decide(caller, "secret", (name, parts, admin))
        return self._secret(name)

    async def rotate_secret(self, caller: Caller, name: str) -> SecretLine:
        self._decide(caller, "secret", ("rotate", name))
        return self._secret(name)

    async def roll_back_secret(self, caller: Caller, name: str) -> SecretLine:
        self._decide(caller, "secret", ("roll-back", name))
        return self._secret(name)

    async def release_secret(self, caller: Caller, name: str) -> dict[str, str]:
        self._decide(caller, "secret", ("release", name))
        return {"user": "app_a", "password": "s3cret"}

    async def login_code(self, caller: Caller) -> CodeIssued:
        self._decide(caller, "login")
        code = secrets.token_urlsafe(16)
        self.codes[code] = self.now + 120_000
        return CodeIssued(code=code, url=f"http://127.0.0.1:8470/login#{code}", expires_at=self.now + 120_000)

    async def claim_bootstrap(self, caller: Caller, token: str) -> Registration:
        if not secrets.compare_digest(token, self.bootstrap) or not self.bootstrap:
            raise Unverified("this bootstrap token is not known, used or expired", remedy="run `vouchgate init` again in an empty folder")
        self.bootstrap = ""
        return Registration(principal=caller.principal.principal.id, trust_domain=TD, groups=("role:registrar",), created_at=self.now)

    async def break_glass(self, caller: Caller, envelope: bytes) -> Registration:
        raise Unverified("the statement is not signed by enough root keys, or by others too", remedy="sign a new one")

    async def accept_clock(self, caller: Caller, reason: str) -> Status:
        self._decide(caller, "accept-clock", reason)
        return await self.status(caller)

    async def rescan(self, caller: Caller) -> RescanState:
        self._decide(caller, "rescan", None)
        return RescanState(running=True, scanner="vouchgate-scanner 2 1", total=2, done=1, clean=1)

    async def rescan_state(self, caller: Caller) -> RescanState:
        self._decide(caller, "read", None)
        lost = RescanLine(digest=DIGEST, outcome="refused", why="it calls os.system", remedy="export it anew")
        return RescanState(scanner="vouchgate-scanner 2 1", total=2, done=2, clean=1, lost=1, fallen=4, revocation="ab12", lines=(lost,))

    def _ca(self) -> CaStatus:
        root = CaRoot(
            number=1, status="active", since=0, upstream=False, key_id="ab" * 32, fingerprint="cd" * 32, not_after=self.now + 90 * 24 * HOUR
        )
        return CaStatus(roots=(root,), issuer=CaIssuer(number=3, root=1, begins=self.now, ends=self.now + 7 * 24 * HOUR), sequence=4)

    async def ca(self, caller: Caller) -> CaStatus:
        self._decide(caller, "read")
        return self._ca()

    async def ca_step(self, caller: Caller, request: CaStepRequest) -> CaStatus:
        self._decide(caller, "rotate-key", request)
        return self._ca()

    async def ca_request(self, caller: Caller) -> CaRequested:
        self._decide(caller, "rotate-key")
        return CaRequested(pem="-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")

    async def ca_install(self, caller: Caller, request: CaInstallRequest) -> CaStatus:
        self._decide(caller, "rotate-key", request)
        return self._ca()

    # --- audit, policy, backup

    async def audit_entries(self, caller: Caller, start: int, count: int) -> AuditPage:
        self._decide(caller, "audit", (start, count))
        entry = AuditEntry(
            index=18_210, at=self.now, kind="decision", actor=person("alice"), summary="allowed infer on digits", body={"class_uid": 6003}
        )
        return AuditPage(entries=(entry,), size=18_211)

    async def audit_checkpoint(self, caller: Caller) -> AuditCheckpoint:
        self._decide(caller, "audit")
        note = f"{TD}/log\n18211\nwMDA\n\n— {TD}/log abcd\n"
        return AuditCheckpoint(note=note, size=18_211, root="c0" * 32, at=self.now, signers=(f"{TD}/log",))

    async def audit_proof(self, caller: Caller, of: str) -> AuditProof:
        self._decide(caller, "audit", of)
        return AuditProof(index=7, text="c2sp.org/tlog-proof@v1\nindex 7\n")

    async def audit_verify(self, caller: Caller, against: str) -> AuditReport:
        self._decide(caller, "audit", against)
        bad = "forged" in against
        return AuditReport(
            ok=not bad,
            size=18_211,
            root="c0" * 32,
            checked=18_211,
            problems=("the log does not extend this checkpoint",) if bad else (),
            statement="tamper-evident against everyone but this machine's administrator",
            duration_ms=41.0,
        )

    async def policy_current(self, caller: Caller) -> PolicyVersion:
        self._decide(caller, "policy-check")
        return PolicyVersion(version=7, digest="sha256:" + "aa" * 32, text="permit (principal, action, resource);", applied_at=START)

    async def policy_check(self, caller: Caller, text: str) -> PolicyReport:
        self._decide(caller, "policy-check", text)
        if "permit" in text:
            return PolicyReport(ok=True, policies=1, digest="sha256:" + "ab" * 32)
        finding = PolicyFinding(severity="error", line=1, text="expected a policy", remedy="write permit or forbid")
        return PolicyReport(ok=False, policies=0, digest="", findings=(finding,))

    async def policy_prove(self, caller: Caller, request: ProofRequest) -> Proof:
        self._decide(caller, "analyse", request)
        shown = Counterexample(
            sentence="principal `spiffe://example.local/service/serve/app` does `infer`", principal="spiffe://example.local/service/serve/app",
            action="infer", resource="vg://example.local/endpoint/digits", fits=True, permitted_by=("callers-may-infer",),
        )  # fmt: skip
        return Proof(
            verdict="refuted", question=request.never, sentence=f"not so. This is allowed: {shown.sentence}", counterexample=shown, kinds=3
        )

    async def policy_examine(self, caller: Caller, request: CheckRequest) -> CheckReport:
        self._decide(caller, "policy-check", request)
        text = "".join(one.text for one in request.policies)
        if "permit" in text or not request.policies:
            finding = CheckFinding(kind="no-crossings", severity="warning", text="no crossings are declared", remedy="declare some")
            cells = (CellCount(endpoint="vg://example.local/endpoint/digits", action="infer", allowed=1, residual=0, denied=2),)
            return CheckReport(ok=True, policies=2, digest="sha256:" + "ab" * 32, findings=(finding,), cells=cells, changes=("adds `b`",))
        file = request.policies[0].name
        broken = CheckFinding(
            kind="unreadable", severity="error", file=file, line=1, text="expected a policy", remedy="write permit or forbid"
        )
        return CheckReport(ok=False, policies=0, findings=(broken,))

    async def policy_apply(self, caller: Caller, text: str, reason: str) -> PolicyVersion:
        self._decide(caller, "policy-apply", (text, reason))
        return PolicyVersion(version=8, digest="sha256:" + "ab" * 32, text=text, waits_for="another policy-approver")

    async def backup(self, caller: Caller, path: Path) -> BackupOutcome:
        self._decide(caller, "backup", path)
        path.write_bytes(b"backup " * 1000)
        return BackupOutcome(path=str(path), size=7000, digest=DIGEST, log_size=18_211, epoch=41)


def _matches(line: DecisionLine, where: DecisionFilter) -> bool:
    would = line.effect == "allow" and line.would_be == "deny"
    effect = where.effect in ("", line.effect) or (where.effect == "would-deny" and would)
    return effect and where.principal in line.principal and where.resource in line.resource
