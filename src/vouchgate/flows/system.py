"""The control plane as one surface (edges/api/surface.py): who asks is decided first, then one flow tells the story.

Nothing happens here but naming the verb and handing over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from vouchgate.flows import (
    adopt,
    approvals,
    audit_trail,
    change_policy,
    explain,
    issue_identity,
    login,
    register,
    report,
    revoke,
    rotate_ca,
    runs,
    take_vouch,
    waive,
)
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.attest_remote import address
from vouchgate.flows.checkpoint import Checkpoints
from vouchgate.flows.context import Context
from vouchgate.flows.exchange_token import service_id
from vouchgate.flows.federate import Federation
from vouchgate.flows.login_oidc import CallBack
from vouchgate.flows.people import People
from vouchgate.flows.prevalidate import beside
from vouchgate.flows.rotate_secret import Secrets
from vouchgate.flows.system_artifacts import ArtifactSystem
from vouchgate.flows.system_policy import PolicySystem
from vouchgate.flows.system_prove import ProvingSystem
from vouchgate.flows.system_watch import WatchSystem
from vouchgate.flows.system_zones import ZonesSystem
from vouchgate.flows.token_service import TokenService
from vouchgate.vocabulary import answers, answers_approvals, answers_decisions, answers_identities
from vouchgate.vocabulary.answers import AdministerVerb, Caller
from vouchgate.vocabulary.answers_upkeep import BackupOutcome
from vouchgate.vocabulary.ca import CaInstallRequest, CaRequested, CaStatus, CaStepRequest
from vouchgate.vocabulary.errors import Conflict, Unavailable
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.secrets import SecretLine


class System(ZonesSystem, PolicySystem, WatchSystem, ProvingSystem, ArtifactSystem):
    """See the module's text."""

    def __init__(
        self,
        context: Context,
        *,
        secrets: Secrets,
        federation: Federation,
        checkpoints: Checkpoints,
        trail: audit_trail.Trail,
        artifacts: Any,
        scan: Any,
        back_up: Callable[[Path], BackupOutcome],
        people: People,
    ) -> None:
        self.context, self.checkpoints, self.trail, self.secrets = context, checkpoints, trail, secrets
        self._artifacts, self._scan, self._back_up = artifacts, scan, back_up
        self._codes = login.Codes()
        self.tokens: TokenService | None = None
        """The token service's flows, once they are there."""
        self._people = people
        people.ends_too(self._codes.forget)
        self.federation = federation

    async def _read(self, caller: Caller, verb: AdministerVerb = "read") -> None:
        await authorise(self.context, caller, verb)

    async def _did(self, caller: Caller, verb: str, detail: dict[str, Any]) -> None:
        entry = act_entry(self.context, caller, verb, "", "done", detail)
        await self.context.sequencer.submit(caller.principal.principal.id, (), [entry])

    # Who is asking

    async def identify_peer(self, uid: int, pid: int) -> Caller:
        return login.caller_of_uid(self.context, uid, pid)

    async def identify_code(self, code: str, peer: str) -> Caller:
        return login.caller_of_code(self.context, self._codes, code, peer)

    def check(self, caller: Caller) -> None:
        self._people.check(caller)

    def login_providers(self) -> tuple[answers_identities.LoginProvider, ...]:
        return self._people.providers()

    async def begin_login(self, provider: str, *, redirect_uri: str, owner: str) -> answers_identities.LoginBegun:
        return await self._people.begin(provider, redirect_uri=redirect_uri, owner=owner)

    async def finish_login(self, binding: str, owner: str, back: CallBack, *, peer: str) -> tuple[Caller, str]:
        return await self._people.finish(binding, owner, back, peer=peer)

    async def may(self, caller: Caller, verb: AdministerVerb) -> None:
        await authorise(self.context, caller, verb)

    # Reading

    async def ready(self) -> answers.Readiness:
        return await report.ready(self.context, self.checkpoints)

    async def metrics(self, caller: Caller) -> tuple[answers.Metric, ...]:
        await self._read(caller)
        return report.metrics(self.context, self.checkpoints)

    async def status(self, caller: Caller) -> answers.Status:
        await self._read(caller)
        return await report.status(self.context, self.checkpoints, self.federation.listed())

    async def endpoints(self, caller: Caller) -> tuple[answers_decisions.EndpointState, ...]:
        await self._read(caller)
        return report.endpoint_states(self.context)

    async def callers(self, caller: Caller, after: str, limit: int) -> tuple[answers_decisions.CallerState, ...]:
        await self._read(caller)
        return report.caller_states(self.context, after, limit)

    async def zones(self, caller: Caller) -> tuple[answers.ZoneState, ...]:
        await self._read(caller)
        return adopt.zone_states(self.context)

    async def registrations(self, caller: Caller, after: str, limit: int) -> tuple[Registration, ...]:
        await self._read(caller)
        return report.registrations(self.context, after, limit)

    async def decisions(
        self, caller: Caller, limit: int, before: int, where: answers_decisions.DecisionFilter
    ) -> answers_decisions.DecisionPage:
        await self._read(caller)
        return report.decisions(self.context, limit, before, where)

    async def subscribe_decisions(self, caller: Caller) -> AsyncIterator[answers_decisions.DecisionLine]:
        await self._read(caller)
        async for line in self.context.traffic.watch():
            yield line

    async def why(self, caller: Caller, principal: str, action: str, resource: str) -> answers_decisions.Explanation:
        await self._read(caller, "explain")
        return explain.why(self.context, principal, action, resource)

    async def why_decision(self, caller: Caller, id: str) -> answers_decisions.Explanation:
        await self._read(caller, "explain")
        return explain.why_recorded(self.context, id)

    # Acting

    async def revoke(self, caller: Caller, request: answers.RevokeRequest) -> answers.RevokeOutcome:
        return await revoke.revoke(self.context, caller, request)

    async def unrevoke(self, caller: Caller, id: str, reason: str) -> answers.Approved:
        return await revoke.unrevoke(self.context, caller, id, reason)

    async def adopt(self, caller: Caller, request: answers.AdoptRequest) -> answers.AdoptOutcome:
        return await adopt.adopt(self.context, caller, request)

    async def wrap(self, caller: Caller, request: answers.WrapRequest) -> answers.WrapOutcome:
        return await adopt.wrap(self.context, caller, request)

    async def issue_identity(self, caller: Caller, request: answers_identities.IdentityRequest) -> answers_identities.IssuedIdentity:
        return await issue_identity.issue_identity(self.context, caller, request)

    async def runs(self, caller: Caller) -> tuple[Run, ...]:
        await self._read(caller)
        return runs.listed(self.context)

    async def begin_run(self, caller: Caller, request: answers_identities.RunRequest) -> answers_identities.RunOutcome:
        return await runs.begin(self.context, caller, request)

    async def end_run(self, caller: Caller, id: str, reason: str) -> answers_identities.RunOutcome:
        return await runs.end(self.context, caller, id, reason)

    async def token_service(self, caller: Caller) -> answers_identities.TokenServiceState:
        return answers_identities.TokenServiceState(url=f"{address(self.context)}/token", audience=service_id(self.context.trust_domain))

    async def approvals(self, caller: Caller) -> tuple[answers_approvals.ApprovalState, ...]:
        return await approvals.listed(self.context, caller)

    async def give_approval(self, caller: Caller, id: str) -> answers_approvals.ApprovalState:
        return await approvals.give(self.context, caller, id)

    async def refuse_approval(self, caller: Caller, id: str, reason: str) -> answers_approvals.ApprovalState:
        return await approvals.refuse(self.context, caller, id, reason)

    async def waivers(self, caller: Caller) -> tuple[answers_approvals.Waiver, ...]:
        return await waive.look(self.context, caller)

    async def ask_waiver(self, caller: Caller, request: answers_approvals.WaiveRequest) -> answers_approvals.Waiver:
        return await waive.ask(self.context, caller, request)

    async def agree_waiver(self, caller: Caller, id: str) -> answers_approvals.Waiver:
        return await waive.agree(self.context, caller, id)

    async def withdraw_waiver(self, caller: Caller, id: str) -> answers_approvals.Waiver:
        return await waive.withdraw(self.context, caller, id)

    async def vouches(self, caller: Caller, about: str) -> tuple[answers.VouchState, ...]:
        await self._read(caller)
        return take_vouch.listed(self.context, about)

    async def add_vouch(self, caller: Caller, envelope: bytes) -> answers_approvals.VouchTaken:
        return await take_vouch.take(self.context, caller, envelope)

    async def exchange_token(self, caller: Caller, request: answers_identities.ExchangeRequest) -> answers_identities.ExchangeOutcome:
        if self.tokens is None:
            raise Unavailable("the token service is not there yet", remedy="try again shortly")
        local = caller.principal if caller.how == "uid" else None
        made = await self.tokens.token(request.form, proof=request.proof, peer=caller.peer, local=local)
        if isinstance(made, Denied):
            return answers_identities.ExchangeOutcome(error=made.code, reason=made.reason, remedy=made.remedy)
        return answers_identities.ExchangeOutcome(
            access_token=made.access_token, token_type=made.token_type, expires_in=made.expires_in, scope=made.scope
        )

    async def register(self, caller: Caller, request: answers_identities.RegistrationRequest) -> Registration:
        return await register.register(self.context, caller, request)

    async def unregister(self, caller: Caller, principal: str, reason: str) -> Registration:
        return await register.unregister(self.context, caller, principal, reason)

    async def join_token(self, caller: Caller, request: answers_identities.JoinTokenRequest) -> answers_identities.JoinToken:
        return await register.join_token(self.context, caller, request)

    async def partners(self, caller: Caller) -> tuple[answers_identities.PartnerState, ...]:
        return await self.federation.states(caller)

    async def refresh_partner(self, caller: Caller, name: str) -> answers_identities.PartnerState:
        return await self.federation.refresh(caller, name)

    async def secret_lines(self, caller: Caller) -> tuple[SecretLine, ...]:
        return await self.secrets.lines(caller)

    async def put_secret(self, caller: Caller, name: str, parts: dict[str, str], admin: bool) -> SecretLine:
        return await self.secrets.put(caller, name, parts, admin=admin)

    async def rotate_secret(self, caller: Caller, name: str) -> SecretLine:
        return await self.secrets.rotate(caller, name)

    async def roll_back_secret(self, caller: Caller, name: str) -> SecretLine:
        return await self.secrets.roll_back(caller, name)

    async def release_secret(self, caller: Caller, name: str) -> dict[str, str]:
        return await self.secrets.release(caller, name)

    async def login_code(self, caller: Caller) -> answers_identities.CodeIssued:
        return await login.login_code(self.context, self._codes, caller)

    async def claim_bootstrap(self, caller: Caller, token: str) -> Registration:
        return await login.claim(self.context, caller, token)

    async def break_glass(self, caller: Caller, envelope: bytes) -> Registration:
        return await login.break_glass(self.context, caller, envelope)

    async def accept_clock(self, caller: Caller, reason: str) -> answers.Status:
        await authorise(self.context, caller, "accept-clock")
        self.context.clock.accept()
        await self.context.signer.call("accept_clock")
        await self._did(caller, "accept-clock", {"reason": reason[:500]})
        return await report.status(self.context, self.checkpoints, self.federation.listed())

    async def ca(self, caller: Caller) -> CaStatus:
        return await rotate_ca.show(self.context, caller)

    async def ca_step(self, caller: Caller, request: CaStepRequest) -> CaStatus:
        return await rotate_ca.step(self.context, caller, request)

    async def ca_request(self, caller: Caller) -> CaRequested:
        return await rotate_ca.ask(self.context, caller)

    async def ca_install(self, caller: Caller, request: CaInstallRequest) -> CaStatus:
        return await rotate_ca.install(self.context, caller, request)

    # Audit

    async def audit_entries(self, caller: Caller, start: int, count: int) -> answers.AuditPage:
        await self._read(caller, "audit")
        return self.trail.entries(start, count)

    async def audit_checkpoint(self, caller: Caller) -> answers.AuditCheckpoint:
        await self._read(caller, "audit")
        return self.trail.checkpoint()

    async def audit_proof(self, caller: Caller, of: str) -> answers.AuditProof:
        await self._read(caller, "audit")
        return await self.trail.proof(of)

    async def audit_verify(self, caller: Caller, against: str) -> answers.AuditReport:
        await self._read(caller, "audit")
        return await self.trail.verify(against)

    # Policy, backup

    async def policy_current(self, caller: Caller) -> answers.PolicyVersion:
        await self._read(caller)
        return change_policy.current(self.context)

    async def policy_check(self, caller: Caller, text: str) -> answers.PolicyReport:
        await self._read(caller, "policy-check")
        await beside(self.context.facts, [(change_policy.NAME, text)], self.context.validator)
        return await asyncio.to_thread(change_policy.report, self.context, text)

    async def policy_apply(self, caller: Caller, text: str, reason: str) -> answers.PolicyVersion:
        return await change_policy.apply(self.context, caller, text, reason)

    async def backup(self, caller: Caller, path: Path) -> BackupOutcome:
        await authorise(self.context, caller, "backup")
        if path.exists():
            raise Conflict(f"`{path.name}` exists already", remedy="choose another name")
        await self._did(caller, "backup", {"name": path.name})
        try:
            return await asyncio.to_thread(self._back_up, path)
        except OSError as error:
            raise Unavailable(f"the backup could not be written: {error.strerror}", remedy="free some space and try again") from None
