"""A process asks before it loads a model, and says afterwards what it serves.

Loading
1. The kernel says who asks; what is asked about is a digest, never a name or a path.
2. Policy decides `read` on the artifact, with the `purpose` told: to load content is to read it. How, flows/content_decisions.py says; content
   for an endpoint lies in the endpoint's zone.
3. The decision is recorded; a revocation reaches every later load.
Serving
4. Everything above anew, and policy decides `deploy` on the endpoint: who may not put content there may not say that it is there.
5. The `serves` vouch is `cooperative`, since the process speaks for itself, rests on the artifact's `import` vouch, and lives `SERVES_SECONDS`.
6. It never stands beside a stronger one: where the supervisor saw what the endpoint serves, that is the answer, and a contradiction a conflict.
"""

from __future__ import annotations

from typing import Any

from vouchgate.audit import ocsf
from vouchgate.evidence.manifests import manifest_of
from vouchgate.evidence.statement import read_vouch
from vouchgate.flows.administer import act_entry
from vouchgate.flows.changes import VouchAdded
from vouchgate.flows.content_decisions import MAX_WORD, allows, check_words, decide, hold_ms, lack
from vouchgate.flows.context import Buckets, Context
from vouchgate.flows.units import SERVES_SECONDS
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_loads import LoadOutcome, LoadRequest, ServingOutcome, ServingRequest
from vouchgate.vocabulary.digests import Digest, parse_digest
from vouchgate.vocabulary.errors import Conflict, LimitExceeded, NotFound, NotPermitted
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import TIERS, Method, Subject, Vouch
from vouchgate.vocabulary.wire import to_plain

PER_MINUTE = 600
"""Questions of one caller a minute; each is two entries of the log."""
TIER = "cooperative"

_buckets = Buckets(PER_MINUTE)


async def load(context: Context, caller: Caller, request: LoadRequest) -> LoadOutcome:
    """Rules 1 to 3; a refusal is an answer. Raises `InvalidInput`, `NotFound`, `LimitExceeded`."""
    digest = _checked(context, caller, request)
    decision = decide(context, caller, "read", digest, purpose=request.purpose)
    lacking = lack(context, digest, _zone(context, request.endpoint))
    allowed = allows(decision) and lacking is None
    reason, remedy = lacking or (decision.reason, decision.remedy)
    detail = {"digest": digest.text, "library": request.library, "purpose": request.purpose, "endpoint": request.endpoint}
    entries = [
        Append(entry=ocsf.decision(decision), label=decision.id),
        act_entry(context, caller, "load", decision.resource, "done" if allowed else "denied", {**detail, "reason": reason[:500]}),
    ]
    await context.sequencer.submit(caller.principal.principal.id, (), entries)
    return LoadOutcome(
        allowed=allowed,
        digest=digest.text,
        resource=decision.resource,
        decision_id=decision.id,
        reason=reason,
        remedy="" if allowed else remedy,
        missing=decision.missing,
        hold_ms=hold_ms(context, decision) if allowed else 0,
        manifest=_manifest(context, decision.resource) if allowed else "",
    )


async def serving(context: Context, caller: Caller, request: ServingRequest) -> ServingOutcome:
    """Rules 4 to 6. Raises `NotPermitted`, `Conflict`, and what `load` raises."""
    asked = LoadRequest(digest=request.digest, endpoint=request.endpoint)
    digest = _checked(context, caller, asked)
    endpoint, now = _endpoint(context, request.endpoint), context.clock.now()
    decisions = [
        decide(context, caller, "read", digest),
        context.facts.decide(caller.principal, "deploy", endpoint.id, now),
    ]
    refused = next((one for one in decisions if not allows(one)), None)
    why_not = lack(context, digest, endpoint.zone) or ((refused.reason, refused.remedy) if refused is not None else None)
    if why_not is not None:
        reason, remedy = why_not
        entries = [Append(entry=ocsf.decision(one), label=one.id) for one in decisions]
        entries.append(act_entry(context, caller, "serve", endpoint.id, "denied", {"digest": digest.text, "reason": reason[:500]}))
        await context.sequencer.submit(caller.principal.principal.id, (), entries)
        raise NotPermitted(reason, remedy=remedy or "ask somebody who may deploy to the endpoint")
    seen = _stronger(context, endpoint)
    if seen is not None:
        return _same(seen, endpoint, digest)
    vouch = await _vouch(context, caller, endpoint, digest)
    return ServingOutcome(vouch_id=vouch.id, tier=vouch.tier, expires_at=vouch.expires_at, renew_ms=SERVES_SECONDS * 1000 // 3)


def _checked(context: Context, caller: Caller, request: LoadRequest) -> Digest:
    who = caller.principal.principal.id
    if not _buckets.take(f"{context.trust_domain} {who}"):
        raise LimitExceeded(f"`{who}` asked {PER_MINUTE} times within a minute", remedy="keep what is loaded, or ask more slowly")
    check_words((request.library, request.purpose, request.endpoint))
    if request.endpoint:
        _endpoint(context, request.endpoint)
    return parse_digest(request.digest)


def _endpoint(context: Context, name: str) -> Endpoint:
    found = context.facts.endpoints.get(resource(context.trust_domain, "endpoint", name))
    if found is None:
        raise NotFound(f"there is no endpoint `{name[:MAX_WORD]}`", remedy="name it in vouchgate.toml")
    return found


def _zone(context: Context, endpoint: str) -> str:
    return _endpoint(context, endpoint).zone if endpoint else ""


def _manifest(context: Context, artifact: str) -> str:
    lineage = context.facts.lineage
    return manifest_of(lineage.vouches[one.vouch_id] for one in lineage.holding(artifact, context.clock.now()))


def _stronger(context: Context, endpoint: Endpoint) -> Vouch | None:
    """The newest `serves` vouch of a tier above ours that holds now."""
    held = context.facts.lineage.holding(endpoint.id, context.clock.now())
    found = [context.facts.lineage.vouches[one.vouch_id] for one in held if one.predicate == "serves" and one.outcome == "pass"]
    return max((one for one in found if TIERS.index(one.tier) < TIERS.index(TIER)), key=lambda one: one.issued_at, default=None)


def _same(seen: Vouch, endpoint: Endpoint, digest: Digest) -> ServingOutcome:
    """Rule 6."""
    named = {one.digest.text for one in seen.subjects if one.name == endpoint.id and one.digest}
    if digest.text not in named:
        raise Conflict(
            f"`{endpoint.id}` was seen to serve `{min(named, default='nothing')[:23]}`, not `{digest.text[:23]}`",
            remedy="see `vouchgate evidence show` for the endpoint; let the process serve what was deployed there",
        )
    return ServingOutcome(vouch_id=seen.id, tier=seen.tier, expires_at=seen.expires_at, renew_ms=SERVES_SECONDS * 1000 // 3)


async def _vouch(context: Context, caller: Caller, endpoint: Endpoint, digest: Digest) -> Vouch:
    """Rule 5."""
    now = context.clock.now()
    artifact = resource(context.trust_domain, "artifact", digest.text)
    imported = [one.vouch_id for one in context.facts.lineage.holding(artifact, now) if one.predicate == "import" and one.outcome == "pass"]
    claims: dict[str, Any] = {"model": artifact, "observed": f"said by {caller.peer}"[:200]}
    said = await context.signer.call(
        "vouch",
        role="supervisor",
        predicate_type="serves",
        predicate_version=1,
        subjects=[to_plain(Subject(name=endpoint.id, digest=digest))],
        outcome="pass",
        not_before=now,
        expires_at=now + SERVES_SECONDS * 1000,
        rests_on=sorted(imported)[:1],
        tier=TIER,
        method=to_plain(Method(tool="vouchgate-guard", version="1")),
        claims=claims,
    )
    vouch = read_vouch(said["envelope"]).vouch
    entries = [
        Append(entry=ocsf.vouch(vouch, now=now), label=vouch.id),
        act_entry(context, caller, "serve", endpoint.id, "done", {"digest": digest.text, "vouch": vouch.id}),
    ]
    await context.sequencer.submit(caller.principal.principal.id, [VouchAdded(id=vouch.id, envelope=said["envelope"])], entries)
    return vouch
