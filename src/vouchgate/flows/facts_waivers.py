"""What is known of a name: its vouches that hold, why the rest does not, and the waivers that stand in for what is missing.

Rules
1. A waiver adds exactly the string of its control, and only where nothing else gives it.
2. It stands in for what is absent, expired, or not known as well as asked; never for a predicate of which something failed or was revoked
   and no newer pass of its tier took its place. So it counts no more from the moment at which such a vouch comes in.
3. It ends with itself: expired, revoked, or fallen with its subject. A waiver that ended says nothing against its subject.
4. A name that stands for content holds the vouches of both, and what stands against one stands against the waivers of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vouchgate.evidence.lineage import Lineage
from vouchgate.evidence.waivers import WAIVER
from vouchgate.policy.decide import REFUSED_EVIDENCE
from vouchgate.policy.world import Evidence, Held
from vouchgate.vocabulary.vouches import TIERS, UnixMillis, Vouch

RANK = {tier: rank for rank, tier in enumerate(TIERS)}


@dataclass(frozen=True)
class Known:
    """What the lineage says of one name."""

    held: tuple[Held, ...] = ()
    lacking: dict[str, str] | None = None
    against: frozenset[str] = frozenset()
    """Predicates that no waiver stands in for (rule 2)."""
    waivers: tuple[Vouch, ...] = ()
    """Those that stand (rule 3)."""


NOTHING = Known()


def known(lineage: Lineage, name: str, now: UnixMillis) -> Known:
    """One name by itself."""
    vouches = lineage.about(name)
    if not vouches:
        return NOTHING
    held: list[Held] = []
    lacking: dict[str, str] = {}
    for one in lineage.holding(name, now):
        if one.predicate == WAIVER:
            continue
        if one.outcome == "pass":
            held.append(Held(one.predicate, one.vouch_id, one.tier, one.not_after))
        else:
            lacking[one.predicate] = "failed"
    have = {one.predicate for one in held}
    by_predicate: dict[str, list[Vouch]] = {}
    for vouch in vouches:
        by_predicate.setdefault(vouch.predicate_type, []).append(vouch)
    waivers = by_predicate.pop(WAIVER, [])
    fallen = {vouch.id for listed in by_predicate.values() for vouch in listed if lineage.revoked(vouch)}
    for predicate, listed in by_predicate.items():
        if predicate not in have and predicate not in lacking:
            lacking[predicate] = _why([one for one in listed if one.id not in fallen])
    revoked = {predicate for predicate, listed in by_predicate.items() if _is_revoked(listed, fallen)} if fallen else set()
    return Known(
        held=tuple(sorted(held, key=lambda one: (one.predicate, one.vouch_id))),
        lacking=lacking,
        against=frozenset(revoked | {predicate for predicate, why in lacking.items() if why in REFUSED_EVIDENCE}),
        waivers=tuple(one for one in waivers if one.not_before <= now < one.expires_at and not lineage.revoked(one)),
    )


def evidence_of(parts: Sequence[Known]) -> Evidence:
    """One name's evidence, or with its content's behind it (rule 4); what is said of the first counts before the others'."""
    held = tuple(dict.fromkeys(one for part in parts for one in part.held))
    lacking: dict[str, str] = {}
    for part in reversed(parts):
        lacking |= part.lacking or {}
    return Evidence((*held, *in_force(parts)), lacking)


def in_force(parts: Sequence[Known]) -> list[Held]:
    """The waivers that stand in for something now (rules 1 and 2); of several for one control the one that lasts longest."""
    waivers = sorted((one for part in parts for one in part.waivers), key=lambda one: (-one.expires_at, one.id))
    if not waivers:
        return []
    have = {text for part in parts for one in part.held for text in one.strings}
    against = frozenset[str]().union(*(part.against for part in parts))
    found: list[Held] = []
    for one in waivers:
        control = str(one.claims["control"])
        if control not in have and control.partition("@")[0] not in against:
            have.add(control)
            found.append(Held(WAIVER, one.id, one.tier, one.expires_at, waives=control))
    return found


def _why(standing: Sequence[Vouch]) -> str:
    """Why none of these holds. A fail that no newer pass of its tier cleared stays a fail after its end."""
    passes = [one for one in standing if one.outcome == "pass"]
    if any(one.outcome == "fail" and not _cleared(one, passes) for one in standing):
        return "failed"
    if passes:
        return "expired"
    return "absent" if standing else "revoked"


def _is_revoked(listed: Iterable[Vouch], fallen: set[str]) -> bool:
    listed = list(listed)
    passes = [one for one in listed if one.outcome == "pass" and one.id not in fallen]
    return any(one.id in fallen and not _cleared(one, passes) for one in listed)


def _cleared(one: Vouch, passes: Sequence[Vouch]) -> bool:
    """Whether a newer pass, known at least as well, took its place."""
    return any(other.issued_at > one.issued_at and RANK[other.tier] <= RANK[one.tier] for other in passes)
