"""A vouch as a person reads it: does it hold, from whom, until when, and why not."""

from __future__ import annotations

from vouchgate.evidence.lineage import inputs_of, run_of
from vouchgate.evidence.waivers import WAIVER
from vouchgate.flows.facts import Facts
from vouchgate.vocabulary.answers import VouchState
from vouchgate.vocabulary.vouches import UnixMillis, Vouch

EXPIRING_MS = 3_600_000
"""A vouch that ends within an hour is shown as expiring, unless it never lived longer."""


def state_of(facts: Facts, vouch: Vouch, now: UnixMillis, state: str = "") -> VouchState:
    """One vouch. `state` overrides what follows from the facts, for a plan."""
    by = facts.lineage.revoked(vouch)
    if not state:
        if by:
            state = "revoked"
        elif vouch.outcome == "fail":
            state = "failed"
        elif vouch.outcome == "inconclusive":
            state = "inconclusive"
        elif vouch.expires_at <= now:
            state = "expired"
        else:
            short = vouch.expires_at - vouch.issued_at <= EXPIRING_MS
            state = "expiring" if vouch.expires_at - now < EXPIRING_MS and not short else "holds"
    reason = facts.revocations[by].reason if by in facts.revocations else ""
    return VouchState(
        id=vouch.id,
        predicate=vouch.predicate_type,
        subject=vouch.subjects[0].name,
        state=state,  # type: ignore[arg-type]
        outcome=vouch.outcome,
        tier=vouch.tier,
        issuer_role=vouch.issuer_role,
        issuer_key=vouch.issuer_key,
        tool=f"{vouch.method.tool} {vouch.method.version}".strip(),
        issued_at=vouch.issued_at,
        expires_at=vouch.expires_at,
        rests_on=vouch.rests_on,
        inputs=tuple(inputs_of(vouch)),
        run=run_of(vouch),
        detail=f"revoked: {reason}" if by else _waived(vouch),
    )


def _waived(vouch: Vouch) -> str:
    """What a waiver stands in for, and who agreed."""
    said = vouch.claims
    if vouch.predicate_type != WAIVER:
        return ""
    return f"stands in for `{said['control']}`: {said['reason']} (asked by {said['requester']}, agreed by {said['approver']})"


def newest_states(facts: Facts, name: str, now: UnixMillis) -> tuple[VouchState, ...]:
    """The newest vouch of each predicate about a thing, and the newest waiver of each control."""
    newest: dict[str, Vouch] = {}
    for vouch in facts.about(name):
        kind = f"{WAIVER} {vouch.claims['control']}" if vouch.predicate_type == WAIVER else vouch.predicate_type
        known = newest.get(kind)
        if known is None or vouch.issued_at >= known.issued_at:
            newest[kind] = vouch
    return tuple(state_of(facts, newest[one], now) for one in sorted(newest))


def lacking_states(name: str, lacking: dict[str, str]) -> tuple[VouchState, ...]:
    """What is not there at all."""
    return tuple(VouchState(id="", predicate=one, subject=name, state="absent", detail=why) for one, why in sorted(lacking.items()))
