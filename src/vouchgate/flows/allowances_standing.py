"""Allowances in a control plane: which count now, which could never count, and which end because their signer became an author.

1. What counts is read off the vouches each time it is asked: signature, delegation, time and revocations are looked at anew.
2. An allowance that cannot count is not taken in; whoever hands it in is told why.
3. A key that signs anything else about an artifact, or whose signature on it is vouched for, is an author of it from then on. What it allowed there is revoked in the same change, with the scans
   that rest on it; that revocation is not undone, because nobody may answer for their own artifact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from vouchgate.audit import ocsf
from vouchgate.evidence.verify import verify
from vouchgate.flows.allowances import Allowance, authors_of, contents_of, counting, fault_in
from vouchgate.flows.changes import Change, Revoked, VouchAdded
from vouchgate.flows.context import Context
from vouchgate.flows.facts import Facts
from vouchgate.scanning.knowledge.overlay import ALLOW, MAX_ALLOWANCES
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import Revocation, UnixMillis, VerifiedVouch, Vouch

MAX_TRIED = 2 * MAX_ALLOWANCES
"""Signatures looked at for one artifact (about 0.1 ms each): every name that may be allowed, and as many that were said again."""
REVOKER = "system:allowances"
"""Who revokes by rule 3."""


def standing(facts: Facts, digest: str, now: UnixMillis) -> tuple[Allowance, ...]:
    """Rule 1, for the artifact with this digest."""
    about = _about(facts, digest)
    candidates = [vouch for vouch in about if vouch.predicate_type == ALLOW and vouch.outcome == "pass" and now < vouch.expires_at]
    newest = sorted(candidates, key=lambda one: (-one.issued_at, one.id))[:MAX_TRIED]
    held = [made for made in (_verified(facts, one, now) for one in newest) if made is not None]
    return counting(digest, held, authors_of(digest, about), now)


def fault(facts: Facts, made: VerifiedVouch, now: UnixMillis) -> str:
    """Rule 2: why this allowance cannot count; empty where it can, and for every other vouch."""
    vouch = made.vouch
    if vouch.predicate_type != ALLOW:
        return ""
    digests = {one.digest.text for one in vouch.subjects if one.digest is not None}
    counts = (counting(digest, [made], authors_of(digest, _about(facts, digest)), now) for digest in digests)
    return "" if any(counts) else fault_in(vouch)


def forfeited(facts: Facts, vouch: Vouch, now: UnixMillis) -> list[Revocation]:
    """Rule 3: what is revoked in the same change as `vouch` comes in."""
    mine = [
        one
        for digest in sorted(contents_of(vouch))
        for one in _about(facts, digest)
        if one.predicate_type == ALLOW and one.issuer_key in authors_of(digest, [vouch])
    ]
    return _revocations(facts, mine, now)


def forfeited_all(facts: Facts, now: UnixMillis) -> list[Revocation]:
    """Rule 3 over everything that is there: what came back with a TrustRoot while an author's vouch had come in without it."""
    found = [
        vouch
        for vouch in facts.lineage.vouches.values()
        if vouch.predicate_type == ALLOW
        and any(vouch.issuer_key in authors_of(digest, _about(facts, digest)) for digest in contents_of(vouch))
    ]
    return _revocations(facts, found, now)


async def settle(context: Context) -> int:
    """Revoke what `forfeited_all` finds; how many. To be called when a start has brought in everything. Raises what the store raises."""
    falls = forfeited_all(context.facts, context.clock.now())
    if falls:
        entries = [Append(entry=ocsf.revocation(one, now=one.made_at), label=one.id) for one in falls]
        await context.sequencer.submit(REVOKER, [Revoked(revocation=one) for one in falls], entries)
    return len(falls)


def coming_in(facts: Facts, vouch: Vouch, envelope: bytes, now: UnixMillis) -> tuple[list[Change], list[Append]]:
    """A vouch that comes in with what falls by rule 3, as one change and its entries of the log."""
    falls = forfeited(facts, vouch, now)
    changes: list[Change] = [VouchAdded(id=vouch.id, envelope=envelope), *(Revoked(revocation=one) for one in falls)]
    entries = [Append(entry=ocsf.vouch(vouch, now=now), label=vouch.id)]
    return changes, entries + [Append(entry=ocsf.revocation(one, now=now), label=one.id) for one in falls]


def _revocations(facts: Facts, allowances: Iterable[Vouch], now: UnixMillis) -> list[Revocation]:
    """One for each that has none by this rule; that somebody else revoked it does not count, since that may be undone."""
    made = {name: one for one in allowances if (name := _name(one)) not in facts.revocations}
    return [_revocation(facts, name, one, now) for name, one in made.items()]


def _name(allowance: Vouch) -> str:
    """The same for the same allowance, so that it is revoked by this rule once."""
    return hashlib.sha256(f"forfeited {allowance.id}".encode()).hexdigest()[:16]


def _revocation(facts: Facts, name: str, allowance: Vouch, now: UnixMillis) -> Revocation:
    return Revocation(
        id=name,
        trust_domain=facts.trust_domain,  # type: ignore[arg-type]
        target_kind="vouch",
        target=allowance.id,
        reason="its signer is an author of the artifact, and nobody answers for their own",
        requested_by=REVOKER,
        made_at=now,
    )


def _about(facts: Facts, digest: str) -> list[Vouch]:
    """Everything that was ever said of this content, under its digest and under its name."""
    found = [*facts.lineage.about(digest), *facts.lineage.about(resource(facts.trust_domain, "artifact", digest))]
    return list({one.id: one for one in found}.values())


def _verified(facts: Facts, vouch: Vouch, now: UnixMillis) -> VerifiedVouch | None:
    envelope = facts.envelope_of(vouch.id)
    if envelope is None or facts.trust_root is None:
        return None
    made = verify(envelope, facts.trust_root, now, known=facts.lineage.vouches, revoked=facts.lineage.revoked)
    return made if isinstance(made, VerifiedVouch) else None
