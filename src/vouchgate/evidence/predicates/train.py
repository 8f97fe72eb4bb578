"""`train`: a run made this content from these inputs. What the run made falls with what it was made from."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="train",
    version=1,
    roles=frozenset({"supervisor"}),
    claims=Fields(
        required={"run": "text", "inputs": "texts"},
        optional={"step": "text", "code": "text", "parameters": "text", "metrics": "text", "zone": "text"},
    ),
    summary="a run made this content from named inputs",
)
