"""`scan`: an artifact was read without being run, and nothing unsafe was found (or something was)."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="scan",
    version=1,
    roles=frozenset({"scanner"}),
    claims=Fields(
        required={"format": "text"},
        optional={"allowed": "texts", "findings": "texts", "severities": "counts", "scanned_bytes": "integer", "disarmed_from": "text"},
    ),
    summary="the bytes were read without running them, and are safe to open",
)
