"""Allowances: classes that somebody answers for in one artifact, from envelopes to what the scanner may let in.

1. A vouch counts if it verifies under the TrustRoot: its key is delegated for its role, it is in its time, and nothing revoked it.
2. It counts for one digest, one name, 90 days at most (scanning/knowledge/overlay.py), and never if its key signed anything else about that
   digest: nobody answers for their own artifact. Whatever else the caller knows about the digest is looked at, expired and fallen included.
3. What does not count is as if it were not there; whoever named it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from vouchgate.evidence.statement import read_vouch
from vouchgate.evidence.verify import nothing_revoked, verify
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.overlay import ALLOW, MAX_ALLOWANCES, allowed
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Refused
from vouchgate.vocabulary.trust import TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis, VerifiedVouch, Vouch


def entries_for(digest: str, held: Iterable[VerifiedVouch], about: Iterable[Vouch], now: UnixMillis) -> tuple[Entry, ...]:
    """What is allowed for the artifact with this digest: `held` are vouches that verify now, `about` all that were ever made about it."""
    everything = [vouch for vouch in about if any(one.digest is not None and one.digest.text == digest for one in vouch.subjects)]
    authors = {vouch.issuer_key for vouch in everything if vouch.predicate_type != ALLOW}
    found = (allowed(vouch, digest, now, authors) for vouch in held)
    return tuple(entry for entry in found if entry is not None)[:MAX_ALLOWANCES]


def given(envelopes: Sequence[bytes], trust_root: TrustRoot, now: UnixMillis) -> tuple[dict[str, tuple[Entry, ...]], list[str]]:
    """What envelopes allow, by digest, where there is no control plane; and why the others do not count.

    An envelope that is no allowance allows nothing, but its key is then an author of what it is about.
    """
    known: dict[str, Vouch] = {}
    about: list[Vouch] = []
    held: list[VerifiedVouch] = []
    faults: list[str] = []
    for envelope in envelopes:
        with suppress(InvalidInput):
            about.append(read_vouch(envelope).vouch)  # even one that does not verify: it can only make its key an author
        made = verify(envelope, trust_root, now, known=known, revoked=nothing_revoked)
        if isinstance(made, Refused):
            faults.append(made.reason)
            continue
        known[made.vouch.id] = made.vouch
        held.append(made)
    found = {digest: entries_for(digest, held, about, now) for digest in _digests(held)}
    faults += [_fault(made) for made in held if made.vouch.predicate_type == ALLOW and not _counts(made, found)]
    return {digest: entries for digest, entries in found.items() if entries}, faults


def highest_knowledge(vouches: Iterable[Vouch]) -> int:
    """The highest version of the knowledge base that any scan vouch rests on; 0 where there is none."""
    seen = (vouch.method.knowledge_version.partition(" ")[0] for vouch in vouches if vouch.predicate_type == "scan")
    return max((int(version) for version in seen if version.isascii() and version.isdigit()), default=0)


def _digests(held: Iterable[VerifiedVouch]) -> list[str]:
    return sorted({one.digest.text for made in held for one in made.vouch.subjects if one.digest is not None})


def _counts(made: VerifiedVouch, found: Mapping[str, tuple[Entry, ...]]) -> bool:
    claims = made.vouch.claims
    return any(
        (entry.module, entry.name, entry.reviewer) == (claims.get("module"), claims.get("name"), made.vouch.issuer_key)
        for digest in _digests([made])
        for entry in found.get(digest, ())
    )


def _fault(made: VerifiedVouch) -> str:
    name = f"{made.vouch.claims.get('module')}.{made.vouch.claims.get('name')}"
    return (
        f"the allowance of `{name[:200]}` does not count: one name, one digest, 90 days at most, by a key that signed nothing else about it"
    )
