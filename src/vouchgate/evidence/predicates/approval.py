"""`approval`: a person agreed to one act with exactly these parameters."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="approval",
    version=1,
    roles=frozenset({"approver"}),
    claims=Fields(
        required={"action": "text", "requester": "text", "approvers": "texts", "params_digest": "text", "nonce": "text"},
        optional={"reason": "text", "zone": "text"},
    ),
    needs_digest=False,
    summary="a person agreed to one act",
)
