"""`declaration`: a person or a configuration says something about content or a name; nobody has checked it."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="declaration",
    version=1,
    roles=frozenset({"importer"}),
    claims=Fields(required={"statement": "text", "value": "text", "declared_by": "text"}, optional={"zone": "text"}),
    needs_digest=False,
    summary="somebody says so, unchecked",
)
