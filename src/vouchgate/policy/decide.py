"""Decide: policy over verified caller and held evidence, answered as a `Decision` that explains itself.

    decide(principal, action, resource, world, context, *, policies, now, evidence_epoch,
           risk=Risk(), unknown=frozenset(), mode="enforce", carries=frozenset()) -> vocabulary.Decision

    principal: VerifiedPrincipal     only `identity.verify*` makes one; its groups are ignored, the World's registration counts
    action: str                      `infer`, `administer:revoke`, ...
    resource: str                    `vg://td/endpoint/digits`, `vg://td/artifact/sha256:...`
    context: facts of the request by name (`facts.REQUEST_FACTS`); never risk, authenticated or credential: those are set here
    unknown: names in `facts.REQUEST_FACTS` that are not known yet (pre-deciding); `residual` says that the answer depends on them
    carries: kinds of obligations that whoever asks will carry out, or see carried out; nothing unless said

Steps
1. Vouches that lapsed by `now` are dropped (`World.advance`), and the credential must not have lapsed.
2. Caller and resource, and every group and zone above them, must be known; the policies must know the action. Else deny.
3. The compiled policies are evaluated; an error in scope denies; a residual is not an allow. Forbids that `carries` can meet are lifted
   (obligations.py): the allow then owes `obligations`, and `determining` names the permits and the forbids that they meet.
4. In observe a deny is let through with `would_be = deny`, where `observable` says so; there obligations are recorded, not carried out.
   What observe never lets through owes them in observe too: its `mode` is then enforce.
5. `not_after` is the earliest moment at which a fact that the answer rests on lapses.
6. A deny names what is missing and the cheapest change (`leaves.flip`).
7. Steps 2, 3 and 6 depend on the cell, on the facts that some policy reads, and on the world at one revision: their answer is kept for these
   (`answers.Answers`), and what depends on the credential, the time or the mode is worked out each time.

It leaves freezing of principals and revocations to the flow: what is revoked is not in the World.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vouchgate.policy.compile import CompiledPolicies, Evaluation, Request, evaluate, facts_of
from vouchgate.policy.facts import REQUEST_FACTS, action_uid, principal_uid, request_context, resource_uid
from vouchgate.policy.grounds import FOREVER, Grounds, deciding
from vouchgate.policy.obligations import NONE, lift
from vouchgate.policy.recorded import NOT_RECORDED
from vouchgate.policy.values import Uid, to_cedar_json
from vouchgate.policy.words import Told, tell
from vouchgate.policy.world import World
from vouchgate.vocabulary.decisions import Decision, Effect, Mode, Obligation, Risk, never_observed
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import resource_parts
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import encode

_PLAIN = frozenset({bool, int, str})
"""Types whose JSON form is themselves."""
REFUSED_EVIDENCE: frozenset[str] = frozenset({"revoked", "failed", "unverified"})
"""Why evidence is refused, as opposed to absent or expired; observe never lets it through."""


def observable(action: str, lacking: Iterable[str] = (), *, known_use: bool = True) -> bool:
    """Whether observe may let a denied act pass: not for some actions, not over revoked or refused evidence, and only for the use of
    an endpoint that is known (`known_use`): observe exists for traffic, not for moving artifacts or for names that nobody registered."""
    if not known_use or never_observed(action):
        return False
    return REFUSED_EVIDENCE.isdisjoint(lacking)


def decide(
    principal: VerifiedPrincipal,
    action: str,
    resource: str,
    world: World,
    context: Mapping[str, Any],
    *,
    policies: CompiledPolicies,
    now: UnixMillis,
    evidence_epoch: int,
    risk: Risk = Risk(),
    unknown: frozenset[str] = frozenset(),
    mode: Mode = "enforce",
    carries: frozenset[str] = NONE,
) -> Decision:
    """One answer; see the module. Raises `InvalidInput` for a name or fact that is none, never for a "no"."""
    if not isinstance(principal, VerifiedPrincipal):
        raise InvalidInput("a decision needs a verified caller", remedy="verify the credential first")
    _check(unknown, context)
    world.advance(now)
    request = Request(
        principal_uid(principal.principal.id), action_uid(action), resource_uid(resource), request_context(principal, risk, context)
    )
    if principal.not_after <= now:
        answer = _answered(
            None, Grounds(), Told(f"the credential of caller `{principal.principal.id}` has lapsed", "present a fresh credential")
        )
    else:
        answer = policies.answers.of(request, world, unknown, lambda: _answer(request, world, policies, unknown, carries), carries)
    would_be: Effect = "allow" if answer.effect == "allow" else "deny"
    residual = answer.effect == "residual"
    may_observe = mode == "observe" and _may_observe(action, request, world, policies)
    passes = may_observe and not residual and principal.not_after > now
    if answer.obligations and not may_observe:
        mode = "enforce"
    facts_digest = _facts_digest(request, world)
    seed = [
        principal.credential_id,
        [request.principal, request.action, request.resource],
        facts_digest,
        policies.digest,
        policies.version,
        evidence_epoch,
        now,
        mode,
    ]
    return Decision(
        id=hashlib.sha256(b"vouchgate/decision/v1\0" + encode(seed)).hexdigest()[:32],
        trust_domain=resource_parts(resource).trust_domain,
        effect="allow" if passes else would_be,
        residual=residual,
        mode=mode,
        would_be=would_be,
        principal=principal.principal.id,
        action=action,
        resource=resource,
        facts_digest=facts_digest,
        facts=None if unknown else {name: context[name] for name in NOT_RECORDED if name in context},
        policy_digest=policies.digest,
        policy_version=policies.version,
        evidence_epoch=evidence_epoch,
        risk=risk,
        determining=answer.determining,
        vouches_used=answer.vouch_ids,
        waivers=answer.waivers,
        missing=answer.told.missing,
        errors=answer.evaluation.errors if answer.evaluation else (),
        obligations=() if residual else answer.obligations,
        reason=answer.told.reason,
        remedy=answer.told.remedy,
        not_after=UnixMillis(min(principal.not_after, answer.lapses)),
        evaluated_at=now,
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """What of an answer does not depend on who asks when; worked out once."""

    evaluation: Evaluation | None
    """None where a name was not known, so that no policy was asked."""
    vouch_ids: tuple[str, ...]
    waivers: tuple[str, ...]
    lapses: int
    """When the first of the vouches lapses (step 5)."""
    told: Told
    obligations: tuple[Obligation, ...] = ()

    @property
    def effect(self) -> str:
        return self.evaluation.effect if self.evaluation else "deny"

    @property
    def determining(self) -> tuple[str, ...]:
        if self.evaluation is None:
            return ()
        return self.evaluation.residual if self.evaluation.effect == "residual" else self.evaluation.determining


def _answered(evaluation: Evaluation | None, found: Grounds, told: Told, obligations: tuple[Obligation, ...] = ()) -> _Answer:
    return _Answer(evaluation, found.vouch_ids, found.waivers, min(found.not_after, default=FOREVER), told, obligations)


def _check(unknown: frozenset[str], context: Mapping[str, Any]) -> None:
    if not unknown:
        return
    strange = sorted(unknown - REQUEST_FACTS)
    if strange:
        raise InvalidInput(f"`{strange[0]}` cannot be unknown", remedy=f"only {', '.join(sorted(REQUEST_FACTS))} can")
    both = sorted(unknown & set(context))
    if both:
        raise InvalidInput(f"`{both[0]}` is given and said to be unknown", remedy="leave it out of one of them")


def _answer(request: Request, world: World, policies: CompiledPolicies, unknown: frozenset[str], carries: frozenset[str]) -> _Answer:
    """Steps 2, 3 and 6; reads nothing but what it is given, so that it may be kept (rule 7)."""
    refusal = _unknown_names(request, world, policies)
    if refusal is not None:
        return _answered(None, Grounds(), refusal)
    lifted = lift(evaluate(policies, request, world, unknown), carries)
    facts = facts_of(policies, request, world, unknown)
    found = deciding(policies, lifted.evaluation, facts, carries)
    return _answered(lifted.evaluation, found, tell(lifted, found, facts, world), lifted.obligations)


def _unknown_names(request: Request, world: World, policies: CompiledPolicies) -> Told | None:
    """Step 2."""
    if request.principal not in world:
        return Told(f"caller `{request.principal.id}` is not registered", "ask a registrar to register the caller")
    if request.resource not in world:
        return Told(f"nothing is known of `{request.resource.id}`", "check the name, or add it with `vouchgate wrap` or `vouchgate import`")
    if request.action not in policies.actions:
        return Told(
            f"no policy knows the action `{request.action.id[:64]}`", "use an action of the schema (`vouchgate policy check` lists them)"
        )
    dangling = world.dangling(request.principal) | world.dangling(request.resource)
    if dangling:
        return Told(f"`{min(dangling).id}` is named as a group or zone, but nothing is known of it", "ask a registrar to define it")
    return None


def _may_observe(action: str, request: Request, world: World, policies: CompiledPolicies) -> bool:
    above = policies.actions.get(request.action, frozenset())
    known_use = request.resource in world and action_uid("use") in above
    return observable(action, _lacking(world, request.resource), known_use=known_use)


def _lacking(world: World, resource: Uid) -> set[str]:
    """Why evidence on the resource and its model does not hold."""
    model = world.attributes.get(resource, {}).get("model")
    entities = (world.entities.get(uid) for uid in (resource, model) if isinstance(uid, Uid))
    return {why for entity in entities if entity and entity.evidence for why in entity.evidence.lacking.values()}


def _facts_digest(request: Request, world: World) -> str:
    """What the decision read: attributes and ancestors of caller, resource and model, and the context."""
    model = world.attributes.get(request.resource, {}).get("model")
    names = [request.principal, request.resource, *([model] if isinstance(model, Uid) else [])]
    context = {name: value if type(value) in _PLAIN else to_cedar_json(value) for name, value in request.context.items()}
    return hashlib.sha256(encode([[world.digest(name) for name in names], context])).hexdigest()
