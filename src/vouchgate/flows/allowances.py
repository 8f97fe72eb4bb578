"""Allowances: classes that somebody answers for in one artifact, from envelopes to what the scanner may let in.

1. A vouch counts if it verifies under the TrustRoot: its key is delegated for its role, it is in its time, and nothing revoked it.
2. It counts for one digest, one name, 90 days at most (scanning/knowledge/overlay.py), and never if its key signed anything else about that
   digest: nobody answers for their own artifact. Whatever else the caller knows about the digest is looked at, expired and fallen included.
3. Of several that count for one name the newest is taken. A renewal so lengthens what was said; to shorten it, revoke the one before.
4. What does not count is as if it were not there; whoever named it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from vouchgate.evidence.authors import named_authors
from vouchgate.evidence.statement import read_vouch
from vouchgate.evidence.verify import nothing_revoked, verify
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.overlay import ALLOW, MAX_ALLOWANCES, allowed
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Refused
from vouchgate.vocabulary.trust import TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis, VerifiedVouch, Vouch


@dataclass(frozen=True)
class Allowance:
    """One that counts: what was signed, and what it lets in."""

    vouch: Vouch
    entry: Entry


def counting(digest: str, held: Iterable[VerifiedVouch], authors: frozenset[str], now: UnixMillis) -> tuple[Allowance, ...]:
    """Rules 2 and 3 for the artifact with this digest: `held` verify now, `authors` are the keys that signed anything else about it."""
    newest: dict[tuple[str, str], Allowance] = {}
    for made in sorted(held, key=lambda one: (-one.vouch.issued_at, one.vouch.id)):
        entry = allowed(made, digest, now, authors)
        if entry is not None:
            newest.setdefault((entry.module, entry.name), Allowance(made.vouch, entry))
    return tuple(newest.values())[:MAX_ALLOWANCES]


def authors_of(digest: str, about: Iterable[Vouch]) -> frozenset[str]:
    """Keys that signed anything but an allowance about the artifact with this digest, and those of whoever is vouched to have signed it."""
    said = [vouch for vouch in about if vouch.predicate_type != ALLOW and digest in contents_of(vouch)]
    return frozenset(vouch.issuer_key for vouch in said) | named_authors(digest, said)


def contents_of(vouch: Vouch) -> set[str]:
    """Texts of the digests that it is about."""
    named = {one.name.rpartition("/")[2] for one in vouch.subjects if "/artifact/" in one.name}
    return named | {one.digest.text for one in vouch.subjects if one.digest is not None}


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
    found = {digest: counting(digest, held, authors_of(digest, about), now) for digest in _digests(held)}
    faults += [_fault(made) for made in held if made.vouch.predicate_type == ALLOW and not _counts(made, about, now)]
    return {digest: tuple(one.entry for one in these) for digest, these in found.items() if these}, faults


def _digests(held: Iterable[VerifiedVouch]) -> list[str]:
    return sorted({one.digest.text for made in held for one in made.vouch.subjects if one.digest is not None})


def _counts(made: VerifiedVouch, about: Sequence[Vouch], now: UnixMillis) -> bool:
    return any(counting(digest, [made], authors_of(digest, about), now) for digest in _digests([made]))


def _fault(made: VerifiedVouch) -> str:
    return fault_in(made.vouch)


def fault_in(vouch: Vouch) -> str:
    """What is said of an allowance that verifies and does not count."""
    name = f"{vouch.claims.get('module')}.{vouch.claims.get('name')}"
    return (
        f"the allowance of `{name[:200]}` does not count: one name, one digest, 90 days at most, by a key that signed nothing else about it"
    )


def by_digest(digest: str, allowances: Iterable[Allowance]) -> Mapping[str, tuple[Entry, ...]]:
    """As the scanner takes them; nothing where there are none."""
    entries = tuple(one.entry for one in allowances)
    return {digest: entries} if entries else {}
