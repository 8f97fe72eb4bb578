"""Facts: everything that decisions rest on, in memory, rebuilt from records, kept by applying changes in order.

The control plane and the PDP worker each hold one; both apply the same changes, and each verifies every signature itself.

Rules
1. Nothing is believed because it is stored: a TrustRoot must match the pinned fingerprint, a policy the policy key, a vouch the TrustRoot.
2. What is vouched for, and what was withdrawn, is kept by facts_vouches.py.
3. The policy world is derived (facts_world.py): after each change exactly the entities that it touches are made again.
4. A change that is applied twice changes nothing: a replica that was loaded while changes came in is fed some of them again.
5. What a change may alter stands in facts_cells.py, which credentials die with what in facts_credentials.py.
6. An expired registration earns nothing from its end on; whoever sweeps (`expired`) only takes it away.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from vouchgate.evidence.policystatement import verify_policy
from vouchgate.evidence.trustroot import verify_trust_root
from vouchgate.flows.changes import (
    ApprovalPut,
    AssetPut,
    AssetRemoved,
    Change,
    CredentialIssued,
    CrossingsPut,
    EndpointPut,
    EndpointRemoved,
    HabitPut,
    KeysPublished,
    PolicyActivated,
    RegistrationPut,
    RegistrationRemoved,
    Revoked,
    RiskSet,
    RunPut,
    SecretPut,
    SettingPut,
    SourcePut,
    SourceRemoved,
    TrustRootAdopted,
    VouchAdded,
    ZonePut,
)
from vouchgate.flows.facts_approvals import Approvals
from vouchgate.flows.facts_cells import Cell, Cells
from vouchgate.flows.facts_credentials import Credentials, Standing
from vouchgate.flows.facts_registrations import Registered
from vouchgate.flows.facts_vouches import Vouched
from vouchgate.flows.facts_world import LAPSING
from vouchgate.flows.facts_zones import check_where, compile_in_force, secret_zones
from vouchgate.flows.scanner_seen import KEY as SCANNER_SEEN
from vouchgate.flows.scanner_seen import newer, parse
from vouchgate.flows.sequence import Sequenced
from vouchgate.flows.spent import refused, spent_until
from vouchgate.identity.bundle import TrustBundle, parse_jwks
from vouchgate.identity.verify import registered
from vouchgate.policy import facts as world_facts
from vouchgate.policy.compile import CompiledPolicies, Request
from vouchgate.policy.crosscheck import crosscheck, sampled
from vouchgate.policy.decide import decide
from vouchgate.policy.obligations import EVERY, NONE
from vouchgate.policy.values import Uid
from vouchgate.policy.world import MAX_PARENTS, Evidence, World
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.decisions import Decision, Mode, Risk
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, Unavailable, Unverified
from vouchgate.vocabulary.habits import Habit
from vouchgate.vocabulary.names import ResourceId, resource
from vouchgate.vocabulary.places import Asset, Crossing, Endpoint, Zone, asks
from vouchgate.vocabulary.principals import Registration, VerifiedPrincipal
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.secrets import Secret
from vouchgate.vocabulary.sources import TrustSource
from vouchgate.vocabulary.trust import SignedTrustRoot, TrustRoot
from vouchgate.vocabulary.vouches import Revocation, UnixMillis, Vouch


class Facts(Cells, Standing, Registered, Vouched):
    """See the module's text. Belongs to one thread."""

    def __init__(self, trust_domain: str, fingerprint: str) -> None:
        self.trust_domain, self._fingerprint = trust_domain, fingerprint
        self.epoch = 0
        self._now = UnixMillis(0)
        """The newest time that was told."""
        self._lapsed: set[Uid] = set()
        """Whose vouches lapsed since `advance` was asked."""
        self.zones: dict[str, Zone] = {}
        self.crossings: tuple[Crossing, ...] = ()
        self.endpoints: dict[str, Endpoint] = {}
        self.assets: dict[str, Asset] = {}
        self.departed: dict[str, Asset] = {}
        """Assets that were taken away, as they were."""
        self._stands_for: dict[str, set[str]] = {}
        """Name of content -> assets that stand for it."""
        self.registrations: dict[str, Registration] = {}
        self._names: list[str] = []
        self.revocations: dict[str, Revocation] = {}
        self._standing: dict[tuple[str, str], dict[str, Revocation]] = {}
        self.runs: dict[str, Run] = {}
        self.sources: dict[str, TrustSource] = {}
        """Recorded keys of others, by name."""
        self.secrets: dict[str, Secret] = {}
        self.credentials = Credentials()
        self._ends: list[tuple[int, str]] = []
        """(end, principal) of registrations that end by themselves; replaced ones among them."""
        self._same: dict[Any, Any] = {}
        self._of_uid: dict[str, set[str]] = {}
        self._of_foreign: dict[str, set[str]] = {}
        """Values of registrations, so that equal ones are one object."""
        self.waivers: dict[str, Vouch] = {}
        self.approvals = Approvals()
        self.habits: dict[str, Habit] = {}
        self.risks: dict[str, Risk] = {}
        self.settings: dict[str, str] = {}
        self.signed_root: SignedTrustRoot | None = None
        self.trust_root: TrustRoot | None = None
        self.bundle: TrustBundle | None = None
        self.policy: PolicyActivated | None = None
        self.policies: CompiledPolicies | None = None
        self.lineage = self._new_lineage()
        self.world = World()
        world_facts.put_system(self.world, resource(trust_domain, "system", "control"), Evidence())
        self.refused_vouches = 0
        self._envelopes: dict[str, tuple[VouchAdded, int]] = {}

    # -- changing

    def check(self, change: Change) -> None:
        """Whether a change may follow what is there. Raises a typed error."""
        check_where(change, zones=self.zones, crossings=self.crossings, assets=self.assets, trust_domain=self.trust_domain)
        match change:
            case Revoked(revocation=revocation):
                self._check_revocation(revocation)
            case VouchAdded(id=vouch_id) if vouch_id in self.lineage.vouches:
                # its record names its place in the log; moved behind what rests on it, a restart would leave that out
                raise Conflict(f"the vouch `{vouch_id[:16]}` is there already", remedy="nothing is left to do")
            case TrustRootAdopted(signed=signed):
                said = wire.decode(TrustRoot, signed.payload, what="TrustRoot")
                verify_trust_root(signed, self._fingerprint, UnixMillis(max(self._now, said.issued_at)), current=self.signed_root)
            case KeysPublished(bundle=bundle):
                parse_jwks(bundle, self.trust_domain)
            case SettingPut():
                self._check_setting(change)
            case PolicyActivated():
                if self.policy is not None and change.version <= self.policy.version:
                    raise Conflict(
                        f"policy version {change.version} is not above {self.policy.version}",
                        remedy="apply it again; it gets a new version",
                    )
                self._check_policy(change)
            case EndpointPut(endpoint=endpoint):
                if endpoint.zone not in self.zones:
                    raise NotFound(f"there is no zone `{endpoint.zone}`", remedy="name one of the zones of vouchgate.toml")
                if endpoint.egress is not None and self.mode_of(endpoint.zone, self._now) == "observe":
                    raise Conflict(f"zone `{endpoint.zone}` observes", remedy="put a provider in a zone that enforces: its key is ours")
            case ZonePut(zone=zone) if zone.mode == "observe" and any(
                one.zone == zone.name and one.egress is not None for one in self.endpoints.values()
            ):
                raise Conflict(
                    f"a provider is in zone `{zone.name}`", remedy="observe never lets calls out with a key of ours; move it first"
                )
            case _:
                self._check_who(change)

    def apply(self, sequenced: Sequenced, now: UnixMillis) -> None:
        """Take one change in. A vouch that does not verify is counted and left out."""
        self.epoch, self._now = max(self.epoch, sequenced.epoch), max(self._now, now)
        match sequenced.change:
            case TrustRootAdopted(signed=signed):
                self.trust_root = verify_trust_root(signed, self._fingerprint, self._root_time(signed, now), current=self.signed_root)
                self.signed_root = signed
                self._verify_again(now)
            case KeysPublished(bundle=bundle):
                self.bundle = parse_jwks(bundle, self.trust_domain)
            case PolicyActivated() as policy:
                self._check_policy(policy)
                self.policy = policy
                self._compile()
            case CrossingsPut(crossings=crossings):
                self.crossings = crossings
                self._compile()
            case VouchAdded() as added:
                self._add_vouch(added, sequenced.log_index, now)
            case Revoked(revocation=revocation):
                self._revoke(revocation, now)
            case RiskSet(subject=subject, risk=risk):
                self.risks[subject] = risk
            case SettingPut(key=key, value=value):
                self.settings[key] = value
            case ApprovalPut(approval=approval):
                self.approvals.put(approval, self._now)
            case _:
                self._apply_what(sequenced.change, now)
                self._apply_who(sequenced.change, now)

    def _check_setting(self, change: SettingPut) -> None:
        if change.key == "bootstrap" and self.settings.get("bootstrap") == "":
            raise Conflict("the bootstrap token was used", remedy="name administrators in vouchgate.toml, and start again")
        if change.key == SCANNER_SEEN:
            newer(parse(self.settings.get(SCANNER_SEEN, "")), parse(change.value))

    def _check_who(self, change: Change) -> None:
        match change:
            case ApprovalPut(approval=approval):
                self.approvals.check(approval, self._now)
            case CredentialIssued():
                self.credentials.check(change)
                self._check_standing(change)
            case RegistrationPut(registration=registration) if len(registration.groups) >= MAX_PARENTS:
                # committed, it would keep every later start from building the policy world
                raise InvalidInput(
                    f"`{registration.principal}` is in {len(registration.groups)} groups", remedy=f"{MAX_PARENTS - 1} at most"
                )
            case RegistrationRemoved(principal=principal) if principal not in self.registrations:
                raise NotFound(f"`{principal}` is not registered", remedy="list them: `vouchgate identity list`")
            case SourcePut(source=source) if source.name in self.sources and source.sequence <= self.sources[source.name].sequence:
                raise Conflict(f"the keys of `{source.name}` are not newer than the recorded ones", remedy="fetch them again")
            case _:
                return

    def _apply_what(self, change: Change, now: UnixMillis) -> None:
        """Zones, endpoints, what was placed where."""
        match change:
            case ZonePut(zone=zone):
                new = zone.name not in self.zones
                self.zones[zone.name] = zone
                world_facts.put_zone(self.world, zone.name)
                if new and self.crossings:
                    self._compile()
            case EndpointPut(endpoint=endpoint):
                self.endpoints[endpoint.id] = endpoint
                self._renew_endpoint(endpoint.id, now)
            case EndpointRemoved(id=endpoint_id):
                self.endpoints.pop(endpoint_id, None)
                self.world.remove(world_facts.resource_uid(endpoint_id))
            case AssetPut(asset=asset):
                self._place(asset)
                self._renew_asset(asset.id, now)
                self._renew_secret(asset.id)
            case AssetRemoved(id=asset_id, was=was):
                self.departed[asset_id] = was or self.assets.get(asset_id) or Asset(id=ResourceId(asset_id))
                self._place(Asset(id=ResourceId(asset_id)))
                del self.assets[asset_id]
                self._renew_asset(asset_id, now)
                self._renew_secret(asset_id)
            case _:
                return

    def _apply_who(self, change: Change, now: UnixMillis) -> None:
        """Registrations, runs, keys of others, credentials."""
        match change:
            case RegistrationPut(registration=registration):
                self._keep(self._slim(registration))
                if registration.expires_at:
                    heapq.heappush(self._ends, (registration.expires_at, registration.principal))
                self._renew_principal(registration.principal, now)
            case HabitPut(habit=habit):
                if habit.principal in self.registrations:
                    self.habits[habit.principal] = habit
            case RegistrationRemoved(principal=principal):
                self._drop(principal)
                self.habits.pop(principal, None)
                self.world.remove(world_facts.principal_uid(principal))
            case RunPut(run=run):
                self.runs[run.id] = run
            case SourcePut(source=source):
                self.sources[source.name] = source
            case SecretPut(secret=secret):
                self.secrets[secret.name] = secret
                self._put_secret(secret.name)
            case SourceRemoved(name=name):
                self.sources.pop(name, None)
            case CredentialIssued() as issued:
                self.credentials.add(issued, now)

    def _renew_secret(self, asset_id: str) -> None:
        """The secret lies where the key of its name does."""
        kind, _, name = asset_id.removeprefix("vg://").partition("/")[2].partition("/")
        if kind == "key" and name in self.secrets:
            self._put_secret(name)

    def _put_secret(self, name: str) -> None:
        zones = secret_zones(self.assets, self.trust_domain, name)
        world_facts.put_system(self.world, resource(self.trust_domain, "system", f"secret.{name}"), Evidence(), zones)

    def _check_standing(self, issued: CredentialIssued) -> None:
        """A credential of a run that ended, or of what was revoked while it was signed, is never recorded, and so never leaves."""
        run = self.runs.get(issued.run)
        if issued.run and (run is None or run.ended_at):
            raise Conflict(f"the run `{issued.run}` has ended", remedy="begin a new run")
        # whoever issues in batches (flows/workload.py) looks again by itself: one that fell must not take the others along
        for who in (issued.principal, *issued.actors) if issued.run or issued.actors else ():
            found = self.revocation_of(who, issued.id, run=issued.run, parents=issued.parents)
            if found is not None:
                raise Conflict(f"`{found.target}` was revoked: {found.reason}", remedy="ask a responder; another person may undo it")

    def _root_time(self, signed: SignedTrustRoot, now: UnixMillis) -> UnixMillis:
        """The first root of a replay may have expired since; its successor must be able to follow it (start.py refuses to go on without)."""
        if self.signed_root is not None:
            return now
        said = wire.decode(TrustRoot, signed.payload, what="TrustRoot")
        return UnixMillis(max(said.issued_at, min(now, said.expires_at - 1)))

    @property
    def fingerprint(self) -> str:
        """The pinned fingerprint of the root keys."""
        return self._fingerprint

    def _compile(self) -> None:
        """The policy in force beside what holds between zones."""
        if self.policy is not None:
            self.policies = self.compiled(self.policy.sources, version=self.policy.version)

    def compiled(self, sources: Sequence[tuple[str, str]], *, version: int = 0) -> CompiledPolicies:
        """Policy files as they would decide beside the crossings in force. Raises `InvalidPolicy`."""
        return compile_in_force(sources, version=version, crossings=self.crossings, zones=self.zones)

    def _check_policy(self, policy: PolicyActivated) -> None:
        if self.trust_root is None:
            raise Unavailable("there is no TrustRoot yet", remedy="run `vouchgate init`")
        statement = verify_policy(policy.envelope, self.trust_root, current_version=policy.version)
        signed = (statement.version, statement.policy_digest)
        if signed != (policy.version, policy.digest) or sources_digest(policy.sources) != policy.digest:
            raise Unverified("the policy's text is not what its signature covers", remedy="apply the policy again")

    def advance(self, now: UnixMillis) -> list[Cell]:
        """Let vouches lapse; the cells whose facts changed."""
        self._let_lapse(now)
        self.credentials.advance(now)
        lapsed, self._lapsed = self._lapsed, set()
        return self.cells(self._touched_by(lapsed)) if lapsed else []

    def _let_lapse(self, now: UnixMillis) -> None:
        """A decision may be the first to see that time passed; whoever is told of lapses (`advance`) still learns of it."""
        self._now = max(self._now, now)
        lapsed = self.world.advance(now)
        self._lapsed |= lapsed
        self._renew_subjects((uid.id for uid in lapsed if uid.type in LAPSING), now)

    def _let_end(self, principal: str, now: UnixMillis) -> None:
        """An ended registration is nobody to any policy, swept or not."""
        if principal in self.registrations and self.registration_of(principal, now) is None:
            self.world.remove(world_facts.principal_uid(principal))

    # -- deciding

    def mode_of(self, zone_name: str, now: UnixMillis) -> Mode:
        """Observe while it lasts, else enforce."""
        zone = self.zones.get(zone_name)
        return "observe" if zone is not None and zone.mode == "observe" and zone.observe_until > now else "enforce"

    def risk_of(self, principal: str, name: str) -> Risk:
        """The higher of what is known against the caller and against what is asked for."""
        known = [self.risks[subject] for subject in (principal, name) if subject in self.risks]
        return max(known, key=lambda risk: risk.value, default=Risk())

    def decide(
        self,
        principal: VerifiedPrincipal,
        action: str,
        name: str,
        now: UnixMillis,
        *,
        facts: dict[str, Any] | None = None,
        unknown: frozenset[str] = frozenset(),
        mode: Mode | Literal[""] = "",
        carries: frozenset[str] = NONE,
    ) -> Decision:
        """One decision on the facts as they are; no policy lets a revoked caller or credential through. `carries`: kinds of obligations
        that whoever asks carries out (`EVERY` for what the gateway and the PDP do); by default none, so that they deny. Raises `Unavailable` before a policy
        is loaded."""
        if self.policies is None:
            raise Unavailable("no policy is loaded yet", remedy="wait until the control plane is ready")
        self._let_lapse(now)
        self._let_end(principal.principal.id, now)
        endpoint = self.endpoints.get(name)
        made = decide(
            principal,
            action,
            name,
            self.world,
            facts or {},
            policies=self.policies,
            risk=self.risk_of(principal.principal.id, name),
            unknown=unknown,
            now=now,
            mode=mode or (self.mode_of(endpoint.zone, now) if endpoint else "enforce"),
            evidence_epoch=self.epoch,
            carries=carries,
        )
        revocation = self.revocation_of(
            principal.principal.id,
            principal.credential_id,
            run=principal.binding.run if principal.binding else "",
            parents=principal.parents,
        )
        if revocation is not None:
            return _revoked(made, revocation)
        until = spent_until(self.settings, endpoint, principal.principal.id)
        return refused(made, until) if until > now else made

    def recheck(self, decision: Decision, caller: VerifiedPrincipal, facts: dict[str, Any]) -> str:
        """For a sample of decisions over known facts: what Cedar itself says against it, or nothing."""
        if self.policies is None or not sampled(decision.id):
            return ""
        context = world_facts.request_context(caller, decision.risk, facts)
        request = Request(
            world_facts.principal_uid(decision.principal),
            world_facts.action_uid(decision.action),
            world_facts.resource_uid(decision.resource),
            context,
        )
        mismatch = crosscheck(self.policies, request, self.world)
        return mismatch.reason if mismatch else ""

    def standing(self, cell: Cell, now: UnixMillis) -> list[Decision]:
        """Decide every action of a cell ahead of any request: the request's own facts are unknown."""
        endpoint, registration = self.endpoints.get(cell[0]), self.registrations.get(cell[1])
        if endpoint is None or registration is None:
            return []
        caller, mode = registered(registration, now), self.mode_of(endpoint.zone, now)
        if registration.expires_at:
            caller = msgspec.structs.replace(caller, not_after=min(caller.not_after, registration.expires_at))
        return [
            self.decide(caller, action, name, now, unknown=world_facts.REQUEST_FACTS, mode=mode, carries=EVERY)
            for action, name in asks(endpoint)
        ]


def sources_digest(sources: Sequence[tuple[str, str]]) -> str:
    """What a policy statement signs: the files, not the base pack and the schema, which come with the product and change with it."""
    return hashlib.sha256(b"vouchgate/policy-sources/v1\x00" + wire.encode(list(sources))).hexdigest()


def compile_sources(sources: Sequence[tuple[str, str]], *, version: int) -> CompiledPolicies:
    """Policy files, validated and compiled, the base pack before them, without crossings. Raises `InvalidPolicy`."""
    return compile_in_force(sources, version=version)


def _revoked(made: Decision, by: Revocation) -> Decision:
    return msgspec.structs.replace(
        made,
        effect="deny",
        would_be="deny",
        residual=False,
        determining=(f"revocation:{by.id}",),
        missing=(),
        obligations=(),
        reason=f"`{by.target}` was revoked: {by.reason}",
        remedy=f"another person may undo it: `vouchgate revoke --undo {by.id}`",
    )
