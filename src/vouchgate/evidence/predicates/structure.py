"""`structure`: an artifact is what its format says, within the bounds of its reader."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="structure",
    version=1,
    roles=frozenset({"scanner"}),
    claims=Fields(
        required={"format": "text"},
        optional={"tensors": "integer", "parameters": "integer", "operators": "counts", "opset": "text", "problems": "texts"},
    ),
    summary="the artifact is well-formed in its format",
)
