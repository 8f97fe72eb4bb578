"""`allow`: somebody answers for one name in one artifact, which the knowledge base does not know: a class of one's own, for a time."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="allow",
    version=1,
    roles=frozenset({"reviewer"}),
    claims=Fields(
        required={"module": "text", "name": "text", "use": "text", "why": "text"},
        optional={"arguments": "text", "state": "text"},
    ),
    max_hours=90 * 24,
    summary="a person answers for one class or function that an artifact refers to",
)
