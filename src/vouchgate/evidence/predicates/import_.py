"""`import`: an artifact was taken in, from where, and by whom. With `inputs` it was made from other content."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="import",
    version=1,
    roles=frozenset({"importer"}),
    claims=Fields(
        required={"source": "text", "requested_by": "text"},
        optional={"name": "text", "zone": "text", "format": "text", "inputs": "texts", "decision_id": "text", "manifest": "text"},
    ),
    summary="the artifact was taken in by a named person from a named source",
)
