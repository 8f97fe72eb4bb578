"""Which manifest was vouched for with an artifact, when it was taken in."""

from __future__ import annotations

from collections.abc import Iterable

from vouchgate.vocabulary.vouches import Vouch


def manifest_of(vouches: Iterable[Vouch]) -> str:
    """`sha256-manifest:...` of the newest `import` vouch among those that hold, or nothing."""
    mine = [one for one in vouches if one.predicate_type == "import" and one.outcome == "pass"]
    newest = max(mine, key=lambda one: one.issued_at, default=None)
    return str(newest.claims.get("manifest", "")) if newest is not None else ""
