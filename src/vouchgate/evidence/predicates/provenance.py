"""`provenance`: a builder whom the settings name made these bytes from a source that they allow (SLSA provenance v1), as the builder signed it."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="provenance",
    version=1,
    roles=frozenset({"importer"}),
    claims=Fields(
        required={"builder": "text", "builder_id": "text", "build_type": "text", "source": "text", "bundle": "text", "authors": "texts"},
        optional={
            "commit": "text", "identity": "text", "issuer": "text", "signed_at": "integer", "root": "text", "log": "text",
            "log_index": "integer", "invocation": "text",
        },
    ),
    max_hours=365 * 24,
    summary="a builder of the settings made it from an allowed source",
)  # fmt: skip
