"""Whose key stands behind an artifact by a signature: such a person may not answer for it as a reviewer as well.

Rules
1. The settings say which reviewers' keys are the same people as a signer; a `signature` or `provenance` vouch carries them in `authors`.
2. It holds for every such vouch that was ever made about the artifact, whatever became of it: who signed once has signed.
"""

from __future__ import annotations

from collections.abc import Iterable

from vouchgate.vocabulary.vouches import Vouch

SIGNED_BY = frozenset({"signature", "provenance"})


def named_authors(digest: str, about: Iterable[Vouch]) -> frozenset[str]:
    """Ids of the keys whose holders signed the artifact with this digest (`sha256:...`)."""
    found: set[str] = set()
    for vouch in about:
        if vouch.predicate_type in SIGNED_BY and any(one.digest is not None and one.digest.text == digest for one in vouch.subjects):
            authors = vouch.claims.get("authors")
            found |= {one for one in authors if isinstance(one, str)} if isinstance(authors, list | tuple) else set()
    return frozenset(found)
