"""`serves`: an endpoint answers from exactly this content. The subject is the endpoint, with the model's digest."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="serves",
    version=1,
    roles=frozenset({"supervisor"}),
    claims=Fields(
        required={"model": "text"},
        optional={"run": "text", "pid": "integer", "uid": "integer", "path": "text", "observed": "text", "zone": "text"},
    ),
    summary="the endpoint answers from the content with this digest",
)
