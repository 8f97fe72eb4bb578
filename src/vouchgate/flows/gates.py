"""A gate of another system asks whether content may pass: a registry before a version goes live, a cluster before a pod is taken.

1. The kernel says which gate asks; it is decided for the gate's own identity. What is asked about is a digest, never a name or a path.
2. Policy decides `promote` or `deploy` on the artifact, with `target` and `purpose` told, as flows/content_decisions.py says.
3. The decision is recorded with what it is for. A dry run is decided and not recorded.
Left to others: what the content is (the gate hashes it, or is told a digest that its system holds to), and keeping it from changing afterwards.
"""

from __future__ import annotations

from vouchgate.audit import ocsf
from vouchgate.flows.administer import act_entry
from vouchgate.flows.content_decisions import allows, check_words, decide, hold_ms, lack
from vouchgate.flows.context import Buckets, Context
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.digests import Digest, parse_digest
from vouchgate.vocabulary.errors import LimitExceeded
from vouchgate.vocabulary.records import Append

PER_MINUTE = 3_000
"""Questions of one gate a minute: a cluster asks for each pod, and holds an allow for a second."""
MAX_SUBJECT = 512
"""Characters of `subject`."""

_buckets = Buckets(PER_MINUTE)


async def ask(context: Context, caller: Caller, request: GateRequest) -> GateOutcome:
    """Rules 1 to 3; a refusal is an answer. Raises `InvalidInput`, `LimitExceeded`."""
    digest = _checked(context, caller, request)
    decision = decide(context, caller, request.act, digest, target=request.target, purpose=request.purpose)
    lacking = lack(context, digest, request.target)
    allowed = lacking is None and allows(decision)
    reason, remedy = lacking or (decision.reason, decision.remedy)
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
        hold_ms=hold_ms(context, decision) if allowed else 0,
    )


def _checked(context: Context, caller: Caller, request: GateRequest) -> Digest:
    who = caller.principal.principal.id
    if not _buckets.take(f"{context.trust_domain} {who}"):
        raise LimitExceeded(f"`{who}` asked {PER_MINUTE} times within a minute", remedy="hold an allow for as long as its answer says")
    check_words((request.target, request.purpose))
    check_words((request.subject,), MAX_SUBJECT)
    return parse_digest(request.digest)
