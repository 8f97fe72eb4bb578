"""A gate of another system asks whether content may pass: a registry before a version goes live, a cluster before a pod is taken.

1. The kernel says which gate asks; it is decided for the gate's own identity. What is asked about is a digest, never a name or a path.
2. Revoked content is refused whatever policy says. Content for a zone lies in that zone, where crossings are declared.
3. Policy decides `promote` or `deploy` on the artifact, with `target` and `purpose` told. What owes something denies; observing lets nothing pass.
4. The decision is recorded with what it is for, and an allow may be relied on for `HOLD_MS`. A dry run is decided and not recorded.
Left to others: what the content is (the gate hashes it, or is told a digest that its system holds to), and keeping it from changing afterwards.
"""

from __future__ import annotations

from vouchgate.audit import ocsf
from vouchgate.flows.administer import act_entry
from vouchgate.flows.assets import check_served
from vouchgate.flows.context import Buckets, Context
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.digests import Digest, parse_digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append

HOLD_MS = 1_000
"""Milliseconds: what is withdrawn is withdrawn everywhere within a second."""
PER_MINUTE = 3_000
"""Questions of one gate a minute: a cluster asks for each pod, and holds an allow for a second."""
MAX_WORD = 64
"""Characters of `target` and `purpose`."""
MAX_SUBJECT = 512
"""Characters of `subject`."""

_buckets = Buckets(PER_MINUTE)


async def ask(context: Context, caller: Caller, request: GateRequest) -> GateOutcome:
    """Rules 1 to 4; a refusal is an answer. Raises `InvalidInput`, `LimitExceeded`."""
    digest = _checked(context, caller, request)
    decision, lack = _decide(context, caller, request, digest), _lack(context, digest, request.target)
    allowed = lack is None and _allows(decision)
    reason, remedy = lack or (decision.reason, decision.remedy)
    if not request.dry_run:
        detail = {"digest": digest.text, "act": request.act, "subject": request.subject, "target": request.target, "reason": reason[:500]}
        entries = [
            Append(entry=ocsf.decision(decision), label=decision.id),
            act_entry(context, caller, "gate", decision.resource, "done" if allowed else "denied", detail),
        ]
        await context.sequencer.submit(caller.principal.principal.id, (), entries)
    return GateOutcome(
        allowed=allowed,
        digest=digest.text,
        resource=decision.resource,
        decision_id="" if request.dry_run else decision.id,
        reason=reason,
        remedy="" if allowed else remedy,
        missing=decision.missing,
        hold_ms=max(0, min(HOLD_MS, decision.not_after - context.clock.now())) if allowed else 0,
    )


def _checked(context: Context, caller: Caller, request: GateRequest) -> Digest:
    who = caller.principal.principal.id
    if not _buckets.take(f"{context.trust_domain} {who}"):
        raise LimitExceeded(f"`{who}` asked {PER_MINUTE} times within a minute", remedy="hold an allow for as long as its answer says")
    for word, bound in ((request.target, MAX_WORD), (request.purpose, MAX_WORD), (request.subject, MAX_SUBJECT)):
        if len(word) > bound or not word.isprintable():
            raise InvalidInput(f"`{word[:MAX_WORD]}` is no plain text", remedy=f"give at most {bound} printable characters")
    return parse_digest(request.digest)


def _decide(context: Context, caller: Caller, request: GateRequest, digest: Digest) -> Decision:
    """Rule 3."""
    told = {name: value for name, value in (("target", request.target), ("purpose", request.purpose)) if value}
    name = resource(context.trust_domain, "artifact", digest.text)
    return context.facts.decide(caller.principal, request.act, name, context.clock.now(), facts=told, mode="enforce")


def _allows(decision: Decision) -> bool:
    return decision.effect == "allow" and decision.would_be == "allow" and not decision.residual and not decision.obligations


def _lack(context: Context, digest: Digest, target: str) -> tuple[str, str] | None:
    """Rule 2: (why not, remedy)."""
    tainted = context.facts.lineage.tainted(digest.text)
    if tainted:
        return f"`{digest.text[:23]}` was revoked", f"use other content, or: `vouchgate revoke --undo {tainted}`"
    if target:
        try:
            check_served(context.facts, target, digest.text)
        except Conflict as error:
            return error.reason, error.remedy
    return None
