"""One request that could not be decided ahead of it: asked by the gateway, answered over the whole request.

1. The facts must be fresh: without word from the control plane within the lease, nothing is let in.
2. Who is calling, by the gateway's rules; the gateway verified the credentials, the kernel said that the gateway speaks. A token's audience
   is the endpoint alone (JWT-SVID, section 3.2; RFC 8725, section 3.9). A token with more
   than plain claims is read whole here (delegation.py): the gateway weighs none of them.
3. A standing revocation of the caller, of anybody who acts for it, of the credential, of what it was made from, or of its run ends it.
4. What is asked for: the endpoint, or the endpoint behind the model that the body names. A token's scope must name the act.
5. `decide` with the request's own facts, for everybody in the chain. A reader sees the reason, what is missing and the cheapest remedy.
6. What an allow owes is carried out or asked for (obligations.py); where the control plane has to settle some of it, the request passes only
   with its word (`settled`).
The answer leaves after the decision is in the log (the edge waits for `record`).
"""

from __future__ import annotations

import datetime
import secrets
from typing import Any

import msgspec

from vouchgate.flows.delegation import Proofs, decide_chain, in_scope, read_whole, run_facts, run_of, struck, use_proof
from vouchgate.flows.facts import Facts
from vouchgate.flows.habits import HOUR_MS, address_of, usual_facts
from vouchgate.flows.obligations import STATUS, challenge_of, denied_with, owed_first, owed_on_answer
from vouchgate.identity.dpop import Proof
from vouchgate.identity.verify import forwarded
from vouchgate.policy.facts import MAX_FACT_CHARACTERS
from vouchgate.vocabulary.approvals import Owed, Settled
from vouchgate.vocabulary.decisions import Decision, Missing
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.places import Endpoint, resource_of
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

PROBLEM_TYPE = "https://vouchgate.dev/problem/"
VERIFIED_NOW_MS = 60_000
"""Milliseconds for which the gateway's word on a credential stands: this one request, generously."""
_STATUS = {
    "anonymous": 401,
    "expired": 401,
    "jwt-unbound": 401,
    "bearer-not-listed": 401,
    "token-unread": 401,
    "jwt-audience": 401,
    "dpop-full": 429,
}
_CHALLENGE = {"dpop-invalid": "invalid_dpop_proof", "dpop-replayed": "invalid_dpop_proof", "dpop-unbound": "invalid_token"}
"""Refusals of a proof, as RFC 9449, section 7.1 names them; each is a 401 that says which algorithm is taken."""


class Problem(Noun, frozen=True, kw_only=True):
    """RFC 9457, section 3.1, with our members beside."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    request_id: str
    decision_id: str
    missing: tuple[Missing, ...] = ()
    approval: str = ""
    """Id of the approval that waits, where a person has to agree; it lapses at `approval_until` (milliseconds since 1970)."""
    approval_until: UnixMillis = UnixMillis(0)


class Admission(Noun, frozen=True, kw_only=True):
    """The answer to one request, and what of it is recorded."""

    allowed: bool
    decision: Decision
    problem: Problem | None = None
    challenge: str = ""
    """What `www-authenticate` says beside a refusal (RFC 9110, section 11.6.1); empty: nothing of our own."""
    owed: Owed | None = None
    """What the control plane has to settle before the request passes."""
    answer: str = ""
    """What the gateway carries out on the answer (`x-vg-obligations`)."""
    retry_after: int = 0
    """Seconds after which asking again may help; 0: not said."""
    alarm: str = ""
    """Why nothing more may be decided; empty while all is well."""


def admit(request: Request, facts: Facts, now: UnixMillis, *, lease_until: UnixMillis, proofs: Proofs | None = None) -> Admission:
    """Steps 1 to 5."""
    endpoint = facts.endpoints.get(request.endpoint)
    if now >= lease_until or facts.policies is None:  # 1
        return _refused(request, facts, now, "lease-expired", "the decision point has not heard from the control plane", "start it", 503)
    if endpoint is None:
        return _refused(request, facts, now, "no-route", "nothing is known of this endpoint", "see `vouchgate status`", 404)
    if len(request.path) > MAX_FACT_CHARACTERS:
        # cut off, it could end before what a policy forbids
        reason = f"the path and query have more than {MAX_FACT_CHARACTERS} characters"
        return _refused(request, facts, now, "path-too-long", reason, "send what is long in the body", 414)
    found = _caller(request, facts, now, bearer=endpoint.bearer, proofs=proofs)  # 2
    if isinstance(found, Denied):
        return _no(request, facts, now, found)
    caller, proof = found
    run = run_of(caller, request.serial, facts, now)
    revocation = struck(caller, facts, None if isinstance(run, Denied) else run) or facts.revocation_of(request.san, request.serial)  # 3
    if revocation is not None:
        reason = f"`{revocation.target}` was revoked: {revocation.reason}"
        return _refused(request, facts, now, "revoked", reason, "ask a responder; another person may undo it", 403, revocation.id)
    spent = run if isinstance(run, Denied) else use_proof(proof, proofs, now)
    if isinstance(run, Denied) or spent is not None:
        return _no(request, facts, now, run if isinstance(run, Denied) else spent)
    name = resource_of(endpoint, model=request.model, tool=request.tool)  # 4
    if not name and request.tool:
        reason = f"`{request.tool[:64]}` is not a tool of this endpoint"
        return _refused(request, facts, now, "unknown-tool", reason, "ask for one that `tools/list` names", 403)
    if not name:
        reason = f"the body asks for the model `{request.model[:64]}`, which this endpoint does not offer"
        remedy = f"ask for one of {', '.join(sorted(endpoint.models))}"
        return _refused(request, facts, now, "unknown-model", reason, remedy, 403)
    if not in_scope(caller, request.action, str(endpoint.id), name):
        return _out_of_scope(request, facts, now, name)
    mode = facts.mode_of(endpoint.zone, now)
    known = _request_facts(request, now) | _usual(request, caller, facts, now) | run_facts(run, facts, name)
    decision, mismatch = decide_chain(facts, caller, request.action, name, now, known=known, mode=mode)  # 5
    if mismatch:
        refused = _refused(
            request, facts, now, "engines-disagree", mismatch, "report it; policies are not decided on until it is found", 503
        )
        return msgspec.structs.replace(refused, alarm=mismatch)
    if decision.effect == "allow":
        return _carried_out(request, decision, endpoint, now)
    return Admission(allowed=False, decision=decision, problem=problem_of(decision, request.request_id))


def _carried_out(request: Request, decision: Decision, endpoint: Endpoint, now: UnixMillis) -> Admission:
    """Step 6."""
    if decision.mode == "observe" or not decision.obligations:
        return Admission(allowed=True, decision=decision)
    owed = owed_first(decision, request, endpoint, now)
    if isinstance(owed, Denied):
        said = Settled(code=owed.code, reason=owed.reason, remedy=owed.remedy)
        challenge = challenge_of(decision, request) if owed.code == "step-up" else ""
        return msgspec.structs.replace(_owing(denied_with(decision, said), said, request), challenge=challenge)
    return Admission(allowed=True, decision=decision, owed=owed, answer=owed_on_answer(decision))


def settled(admission: Admission, said: Settled, request: Request) -> Admission:
    """Step 6's end: the admission after the control plane settled what was owed, and recorded the decision."""
    return admission if not said.code else _owing(denied_with(admission.decision, said), said, request)


def _owing(decision: Decision, said: Settled, request: Request) -> Admission:
    problem = Problem(
        type=PROBLEM_TYPE + said.code,
        title=said.code.replace("-", " "),
        status=STATUS.get(said.code, 403),
        detail=said.reason,
        remedy=said.remedy,
        request_id=request.request_id,
        decision_id=decision.id,
        approval=said.approval,
        approval_until=said.approval_until,
    )
    return Admission(allowed=False, decision=decision, problem=problem, retry_after=said.retry_after)


def problem_of(decision: Decision, request_id: str) -> Problem:
    """A deny as the caller reads it."""
    code = "evidence-missing" if decision.missing else "denied"
    return Problem(
        type=PROBLEM_TYPE + code,
        title=code.replace("-", " "),
        status=403,
        detail=decision.reason,
        remedy=decision.remedy,
        request_id=request_id,
        decision_id=decision.id,
        missing=decision.missing,
    )


def _caller(
    request: Request, facts: Facts, now: UnixMillis, *, bearer: bool, proofs: Proofs | None
) -> tuple[VerifiedPrincipal, Proof | None] | Denied:
    soon = UnixMillis(now + VERIFIED_NOW_MS)
    if "," in request.san:
        return Denied(code="several-ids", reason="the certificate names several identities", remedy="present an X.509-SVID with one")
    if request.federated:
        return _federated(request, facts, now)
    if request.beyond or request.actor or request.confirmation:
        return read_whole(request, facts, now, bearer=bearer, proofs=proofs)
    made = forwarded(
        san=request.san,
        serial=request.serial,
        thumbprint=request.fingerprint,
        certificate_not_after=soon,
        sub=request.subject,
        jti=request.token_id,
        token_not_after=soon,
        cnf_x5t="",
        trust_domain=facts.trust_domain,
        now=now,
        bearer=bearer,
        groups_of=facts.groups_of,
    )
    if isinstance(made, Denied):
        return made
    if request.subject and request.audience != request.endpoint:
        # the gateway takes a list that names the endpoint among others; each of the others could use such a token here
        reason = "the token is not for this endpoint alone"
        return Denied(code="jwt-audience", reason=reason, remedy=f"ask for a token with the audience `{request.endpoint}`")
    return made, None


def _federated(request: Request, facts: Facts, now: UnixMillis) -> tuple[VerifiedPrincipal, None] | Denied:
    """A partner's workload, by the one registration of ours that stands for it; its own name is never ours to decide on."""
    found = facts.alias_of(request.federated, now)
    if found is None:
        return Denied(
            code="not-registered", reason=f"no registration stands for `{request.federated[:160]}`", remedy="ask a registrar of this domain"
        )
    soon = UnixMillis(now + VERIFIED_NOW_MS)
    made = forwarded(
        san=found.principal,
        serial=request.serial,
        thumbprint=request.fingerprint,
        certificate_not_after=soon,
        sub="",
        jti="",
        token_not_after=soon,
        cnf_x5t="",
        trust_domain=facts.trust_domain,
        now=now,
        bearer=False,
        groups_of=facts.groups_of,
    )
    return made if isinstance(made, Denied) else (made, None)


def _no(request: Request, facts: Facts, now: UnixMillis, denied: Denied | None) -> Admission:
    """A credential that does not hold."""
    assert denied is not None
    error = _CHALLENGE.get(denied.code, "")
    made = _refused(request, facts, now, denied.code, denied.reason, denied.remedy, 401 if error else _STATUS.get(denied.code, 403))
    return msgspec.structs.replace(made, challenge=f'DPoP algs="ES256", error="{error}"') if error else made


def _out_of_scope(request: Request, facts: Facts, now: UnixMillis, name: str) -> Admission:
    """RFC 6750, section 3.1: `insufficient_scope`, with the scope that would do."""
    wanted = f"{request.action}:{name.rpartition('/')[2]}"
    made = _refused(
        request,
        facts,
        now,
        "insufficient-scope",
        f"the token is not good for `{wanted}`",
        f"ask for a token with the scope `{wanted}`",
        403,
    )
    scheme = "DPoP" if request.authorization.startswith("DPoP ") else "Bearer"
    return msgspec.structs.replace(made, challenge=f'{scheme} error="insufficient_scope", scope="{wanted}"')


def _usual(request: Request, caller: VerifiedPrincipal, facts: Facts, now: UnixMillis) -> dict[str, bool]:
    """Of who calls: the address and the hour are its own, whomever it acts for."""
    who = caller.actors[0] if caller.actors else caller.principal.id
    if not caller.authenticated:
        return {}
    return usual_facts(facts.habits.get(who), facts.registration_of(who, now), now // HOUR_MS % 24, address_of(request.peer))


def _request_facts(request: Request, now: UnixMillis) -> dict[str, Any]:
    moment = datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)
    known: dict[str, Any] = {
        "hour": moment.hour,
        "weekday": moment.isoweekday(),
        "method": request.method[:16],
        "path": request.path,
    }
    address = address_of(request.peer)
    if address.replace(".", "").isdigit() or ":" in address:
        known["source_ip"] = address
    return known


def _refused(
    request: Request, facts: Facts, now: UnixMillis, code: str, reason: str, remedy: str, status: int, revocation_id: str = ""
) -> Admission:
    """A no from before the policy: recorded as a decision like any other."""
    alias = facts.alias_of(request.federated, now) if request.federated else None
    decision = Decision(
        id=secrets.token_hex(16),
        trust_domain=facts.trust_domain,
        effect="deny",
        would_be="deny",
        principal=request.subject or request.san or (alias.principal if alias else request.federated),
        action=request.action,
        resource=request.endpoint,
        policy_digest=facts.policies.digest if facts.policies else "",
        policy_version=facts.policies.version if facts.policies else 0,
        evidence_epoch=facts.epoch,
        determining=(f"revocation:{revocation_id}",) if revocation_id else (),
        reason=reason,
        remedy=remedy,
        not_after=now,
        evaluated_at=now,
    )
    problem = Problem(
        type=PROBLEM_TYPE + code,
        title=code.replace("-", " "),
        status=status,
        detail=reason,
        remedy=remedy,
        request_id=request.request_id,
        decision_id=decision.id,
    )
    return Admission(allowed=False, decision=decision, problem=problem)
