"""`waiver`: two persons let one missing vouch pass for a time; never over a revocation."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="waiver",
    version=1,
    roles=frozenset({"approver"}),
    claims=Fields(
        required={"control": "text", "reason": "text", "requester": "text", "approver": "text"},
        optional={"zone": "text"},
    ),
    needs_digest=False,
    max_hours=90 * 24,
    summary="one named missing vouch is waived for a time by two persons",
)
