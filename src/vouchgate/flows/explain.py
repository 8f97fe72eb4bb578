"""Why: the whole answer to one question, in plain words.

A live question is decided now, on the facts as they are and ahead of any request; what depends on the request says so, and what the answer
rests on and what would turn it over was tried out (policy/turning.py). A recorded one is read from the log, and says so.
"""

from __future__ import annotations

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.context import Context
from vouchgate.flows.report import line_of, vouches_behind
from vouchgate.identity.verify import registered
from vouchgate.policy.compile import Request
from vouchgate.policy.facts import REQUEST_FACTS, action_uid, principal_uid, request_context, resource_uid
from vouchgate.policy.load import Policy
from vouchgate.policy.obligations import EVERY
from vouchgate.policy.turning import told_gained, told_lost, told_standing, turning
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers import VouchState
from vouchgate.vocabulary.answers_decisions import Explanation, Fix, PathStep, PolicyUse
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.names import principal_id, resource_id
from vouchgate.vocabulary.principals import Registration, VerifiedPrincipal


def full_principal(context: Context, text: str) -> str:
    """A whole name from a whole or a short one, or what stands for a partner's caller. Raises `NotFound`, `InvalidInput`."""
    if text.startswith("spiffe://"):
        alias = context.facts.alias_of(text, context.clock.now())
        return alias.principal if alias else principal_id(text)
    found = [name for name in context.facts.registrations if name.rpartition("/")[2] == text]
    return _only(found, text, "principal")


def full_resource(context: Context, text: str) -> str:
    """The same for a thing."""
    if text.startswith("vg://"):
        return resource_id(text)
    found = [str(name) for name in context.facts.endpoints if name.rpartition("/")[2] == text]
    return _only(found, text, "endpoint")


def _only(found: list[str], text: str, kind: str) -> str:
    if len(found) > 1:
        raise InvalidInput(f"`{text[:80]}` names {len(found)} of kind {kind}", remedy="give the whole name")
    if not found:
        raise NotFound(f"there is no {kind} `{text[:80]}`", remedy="`vouchgate status` lists what there is")
    return found[0]


def why(context: Context, who: str, action: str, what: str) -> Explanation:
    """Decide now. Raises `NotFound`, `InvalidInput`."""
    facts, now = context.facts, context.clock.now()
    name, thing = full_principal(context, who), full_resource(context, what)
    registration = facts.registration_of(name, now)
    if registration is None:
        raise NotFound(f"`{name}` is not registered", remedy="register it: `vouchgate identity issue --group callers ...`")
    caller = registered(registration, now)
    decision = facts.decide(caller, action, thing, now, unknown=REQUEST_FACTS, carries=EVERY)
    made = explained(context, decision, live=True, registration=registration)
    minimal, flips = _turning(context, caller, decision)
    return msgspec.structs.replace(made, minimal=minimal, flips=flips)


def _turning(context: Context, caller: VerifiedPrincipal, decision: Decision) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the answer rests on and what would turn it over, in words; nothing for a revocation, which no policy decides."""
    facts = context.facts
    names = (principal_uid(decision.principal), action_uid(decision.action), resource_uid(decision.resource))
    if facts.policies is None or any(name not in facts.world for name in (names[0], names[2])):
        return (), ()
    if any(one.startswith("revocation:") for one in decision.determining):
        return (), ()
    request = Request(*names, request_context(caller, decision.risk, {}))
    found = turning(facts.policies, request, facts.world, REQUEST_FACTS, EVERY)
    told = told_gained if found.effect == "deny" else told_lost
    return tuple(dict.fromkeys(map(told_standing, found.minimal))), tuple(dict.fromkeys(map(told, found.flips)))


def why_recorded(context: Context, key: str) -> Explanation:
    """Explain a recorded decision by decision id, grant id, request id or log index. Raises `NotFound`."""
    store = context.store
    indexes = store.find_entries(key.partition(".")[0])
    if not indexes and key.isdigit() and int(key) < store.size():
        indexes = [int(key)]
    for index in reversed(indexes):
        entry = store.entries(index, 1)[0]
        detail = ocsf.detail_of(entry)
        if isinstance(detail, dict) and "would_be" in detail and "policy_digest" in detail:
            return explained(context, wire.from_plain(Decision, detail, what="decision"), live=False, log_index=index)
        line = line_of(entry, index)
        if line is not None and line.decision_id and line.decision_id != key:
            return msgspec.structs.replace(why_recorded(context, line.decision_id), log_index=index)
        if line is not None:
            return _native(context, line.principal, line.action, line.resource, line.reason, line.remedy, index)
    raise NotFound(
        f"no decision or request `{key[:80]}` is in the log",
        remedy="`vouchgate audit show` lists entries; the newest may still be on their way",
    )


def _native(context: Context, who: str, action: str, what: str, reason: str, remedy: str, index: int) -> Explanation:
    """A request that the gateway itself refused, without a decision."""
    decision = Decision(
        id="",
        trust_domain=context.trust_domain,
        effect="deny",
        would_be="deny",
        principal=who,
        action=action,
        resource=what,
        policy_digest="",
        policy_version=0,
        evidence_epoch=0,
        reason=reason,
        remedy=remedy,
        not_after=context.clock.now(),
        evaluated_at=context.clock.now(),
    )
    return explained(context, decision, live=False, log_index=index)


def explained(
    context: Context, decision: Decision, *, live: bool, registration: Registration | None = None, log_index: int = -1
) -> Explanation:
    """Who, what, because of which policies and vouches, on which path, and what would change it."""
    facts = context.facts
    known = registration or facts.registration_of(decision.principal, context.clock.now())
    endpoint = facts.endpoints.get(decision.resource)
    fixes = [Fix(text=one.remedy) for one in decision.missing if one.remedy]
    if decision.remedy and decision.remedy not in {fix.text for fix in fixes}:
        fixes.insert(0, Fix(text=decision.remedy))
    return Explanation(
        decision=decision,
        live=live,
        groups=known.groups if known else (),
        credential="registered; shown by X.509-SVID or, where the endpoint lists bearer, JWT-SVID" if known else "not registered",
        endpoint=str(endpoint.id) if endpoint else "",
        model_digest=endpoint.model_digest if endpoint else "",
        digest_tier=endpoint.digest_tier if endpoint else "",
        policies=tuple(_policy(context, one) for one in decision.determining),
        vouches=_vouches(context, decision),
        path=_path(context, decision, endpoint is not None),
        fixes=tuple(fixes[:4]),
        log_index=log_index if log_index >= 0 else _index_of(context, decision.id),
    )


def _index_of(context: Context, decision_id: str) -> int:
    found = context.store.find_entries(decision_id) if decision_id else []
    return found[0] if found else -1


def _policy(context: Context, policy_id: str) -> PolicyUse:
    policies = context.facts.policies
    policy: Policy | None = policies.source.policy(policy_id) if policies else None
    if policy is None:
        return PolicyUse(id=policy_id, effect="forbid", summary="a standing revocation" if policy_id.startswith("revocation:") else "")
    comment = " ".join(line.strip().removeprefix("//").strip() for line in policy.text.splitlines() if line.strip().startswith("//"))
    return PolicyUse(
        id=policy_id,
        effect="permit" if policy.effect == "permit" else "forbid",
        summary=comment[:300],
        source=f"{policy.source}, line {policy.line}",
    )


def _vouches(context: Context, decision: Decision) -> tuple[VouchState, ...]:
    missing = tuple(
        VouchState(
            id="",
            predicate=one.predicate,
            subject=one.subject,
            state={"revoked": "revoked", "expired": "expired", "failed": "failed", "unverified": "unverified"}.get(one.why, "absent"),  # type: ignore[arg-type]
            detail=one.why,
        )
        for one in decision.missing
    )
    endpoint = context.facts.endpoints.get(decision.resource)
    behind = vouches_behind(context.facts, endpoint, context.clock.now()) if endpoint else ()
    used = tuple(one for one in behind if one.id in decision.vouches_used or decision.effect == "deny")
    return missing + tuple(one for one in used if one.predicate not in {gone.predicate for gone in missing})


def _path(context: Context, decision: Decision, endpoint: bool) -> tuple[PathStep, ...]:
    """Where the request goes through, and where it is stopped."""
    if not endpoint:
        return (PathStep(where="control plane", what="decided here", result="passed" if decision.effect == "allow" else "stopped"),)
    revoked = any(one.startswith("revocation:") for one in decision.determining)
    identified = bool(decision.principal)
    allowed, asked = decision.effect == "allow", decision.residual or bool(decision.actors)
    steps = [
        ("gateway: TLS and identity", "X.509-SVID or JWT-SVID", identified),
        ("gateway: revocations", "identity and credential", not revoked),
    ]
    if asked:
        chain = " for ".join((*decision.actors, decision.principal)) if decision.actors else ""
        what = f"the whole token: {chain}, each decided by itself" if chain else "decided on each request"
        steps.append(("PDP", what, allowed or decision.residual))
    else:
        steps.append(("gateway: allow-map", "caller x endpoint x action", allowed))
    steps.append(("model server", "answers", True))
    found = []
    stopped = False
    for where, what, passes in steps:
        result = "not-reached" if stopped else "passed" if passes else "stopped"
        if result == "stopped" and decision.mode == "observe" and allowed:
            result = "observed"
        stopped = stopped or result == "stopped"
        found.append(PathStep(where=where, what=what, result=result))  # type: ignore[arg-type]
    return tuple(found)
