"""`signature`: somebody whom the settings name signed exactly these bytes, and the control plane held the signature against what it keeps."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="signature",
    version=1,
    roles=frozenset({"importer"}),
    claims=Fields(
        required={"signer": "text", "kind": "text", "identity": "text", "bundle": "text", "authors": "texts"},
        optional={"issuer": "text", "signed_at": "integer", "root": "text", "log": "text", "log_index": "integer"},
    ),
    max_hours=365 * 24,
    summary="a signer of the settings signed exactly these bytes",
)
