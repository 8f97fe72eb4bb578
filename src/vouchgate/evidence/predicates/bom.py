"""`bom`: somebody held a signed bill of materials to what is known of its parts, and says whether it can ship."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="bom",
    version=1,
    roles=frozenset({"reviewer"}),
    claims=Fields(
        required={"document": "text", "spec": "text", "demand": "text"},
        optional={"serial": "text", "classes": "counts", "open_vulnerabilities": "integer", "newest_record": "text", "against": "texts"},
    ),
    max_hours=30 * 24,
    summary="what it consists of is written down, and nothing known speaks against it",
)
