"""`validate`: a model or dataset was tested, and met its goal (or not)."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="validate",
    version=1,
    roles=frozenset({"validator"}),
    claims=Fields(
        required={"probe": "text", "statistic": "number", "goal": "number"},
        optional={"interval_low": "number", "interval_high": "number", "samples": "integer", "against": "text", "zone": "text"},
    ),
    summary="a test of the content gave this figure against this goal",
)
