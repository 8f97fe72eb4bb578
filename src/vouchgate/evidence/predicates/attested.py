"""`attested`: a process that holds this identity was looked at through the kernel, lately. Says who runs and what program, nothing of the host."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="attested",
    version=1,
    roles=frozenset({"supervisor"}),
    claims=Fields(required={"checked": "texts"}, optional={"selectors": "texts"}),
    needs_digest=False,
    max_hours=24,
    summary="a process of this identity was seen by the kernel's word lately",
)
