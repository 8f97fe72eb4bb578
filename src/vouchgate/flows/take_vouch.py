"""Evidence from outside: a vouch that a producer signed with a key of its own, delegated in the TrustRoot.

1. The act is decided; a caller hands in a bounded number a minute, each of bounded size.
2. What it says is verified as any vouch is: the key's delegation, the predicate, the claims, the window, what stands against it. A refusal is
   recorded and answered with its reason.
3. Agreements (waivers, approvals) never come in this way: the flow that makes them holds that two persons agreed.
4. An allowance that cannot count is not taken in, and one whose signer now says anything else about the artifact is revoked with it
   (allowances_standing.py).
5. A vouch that is there already is no change, whoever sends it again; one that was signed for longer than ours may live is refused.
"""

from __future__ import annotations

import time

from vouchgate.evidence.verify import verify
from vouchgate.evidence.waivers import AGREEMENTS
from vouchgate.flows import allowances_standing
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.context import Buckets, Context
from vouchgate.flows.revoke import enforced
from vouchgate.flows.sign import MAX_VOUCH_DAYS
from vouchgate.flows.vouch_states import state_of
from vouchgate.flows.waive import subject_of
from vouchgate.vocabulary.answers import Caller, VouchState
from vouchgate.vocabulary.answers_approvals import VouchTaken
from vouchgate.vocabulary.errors import LimitExceeded, Unavailable
from vouchgate.vocabulary.outcomes import Refused
from vouchgate.vocabulary.vouches import Vouch

PER_MINUTE = 600
"""Vouches that one caller hands in: ten thousand devices, each every quarter of an hour."""
MAX_LISTED = 500
"""Vouches of one answer, the newest."""
DAY_MS = 86_400_000

_buckets = Buckets(PER_MINUTE)


async def take(context: Context, caller: Caller, envelope: bytes) -> VouchTaken:
    """Steps 1 to 5. Raises `NotPermitted`, `LimitExceeded`, `Unavailable`."""
    started = time.monotonic()
    await authorise(context, caller, "vouch")
    who = caller.principal.principal.id
    if not _buckets.take(f"{context.trust_domain} {who}"):
        raise LimitExceeded(f"`{who}` handed in {PER_MINUTE} vouches within a minute", remedy="send them more slowly")
    facts, now = context.facts, context.clock.now()
    if facts.trust_root is None:
        raise Unavailable("there is no TrustRoot yet", remedy="wait until the control plane is ready")
    made = verify(envelope, facts.trust_root, now, known=facts.lineage.vouches, revoked=facts.lineage.revoked)
    if isinstance(made, Refused):
        return await _refuse(context, caller, made.why, made.reason, made.remedy)
    vouch = made.vouch
    if vouch.predicate_type in AGREEMENTS:
        reason = f"a `{vouch.predicate_type}` is an agreement of persons, and is not taken from outside"
        return await _refuse(context, caller, "unverified", reason, "use `vouchgate waive` or `vouchgate approve`")
    if vouch.expires_at > now + MAX_VOUCH_DAYS * DAY_MS:
        return await _refuse(context, caller, "unverified", f"it lives longer than {MAX_VOUCH_DAYS} days", "sign it for a shorter time")
    if vouch.id in facts.lineage.vouches:
        return _taken(vouch, why="known")
    fault = allowances_standing.fault(facts, made, now)
    if fault:
        return await _refuse(context, caller, "unverified", fault, "let somebody else than its author answer for one class of it")
    changes, entries = allowances_standing.coming_in(facts, vouch, envelope, now)
    entries.append(act_entry(context, caller, "add-vouch", "", "done", {"vouch": vouch.id, "predicate": vouch.predicate_type}))
    await context.sequencer.submit(who, changes, entries)
    taken = _taken(vouch)
    return VouchTaken(
        taken=True,
        id=taken.id,
        predicate=taken.predicate,
        subjects=taken.subjects,
        expires_at=taken.expires_at,
        points=await enforced(context, started),
    )


def listed(context: Context, about: str) -> tuple[VouchState, ...]:
    """Vouches about a name or a digest, the newest first. Raises `NotFound`, `InvalidInput`."""
    name, now = subject_of(context, about).name, context.clock.now()
    found = sorted(context.facts.about(name), key=lambda one: (-one.issued_at, one.id))
    return tuple(state_of(context.facts, one, now) for one in found[:MAX_LISTED])


def _taken(vouch: Vouch, *, why: str = "") -> VouchTaken:
    return VouchTaken(
        taken=True,
        id=vouch.id,
        predicate=vouch.predicate_type,
        subjects=tuple(one.name for one in vouch.subjects),
        expires_at=vouch.expires_at,
        why=why,
    )


async def _refuse(context: Context, caller: Caller, why: str, reason: str, remedy: str) -> VouchTaken:
    entry = act_entry(context, caller, "add-vouch", "", "denied", {"why": why, "reason": reason[:500]})
    await context.sequencer.submit(caller.principal.principal.id, (), [entry])
    return VouchTaken(taken=False, why=why, reason=reason, remedy=remedy)
