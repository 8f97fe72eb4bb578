"""`posture`: what a device's or host's own management saw of it lately, for the caller that works on it. Told by that tool, not seen by us."""

from __future__ import annotations

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.fields import Fields

PREDICATE = Predicate(
    name="posture",
    version=1,
    roles=frozenset({"device"}),
    claims=Fields(
        required={"checked": "texts", "source": "text"},
        optional={
            "disk_encrypted": "flag", "patch_level": "text", "agent_version": "text", "os": "text", "device": "text", "runtime": "text",
            "problems": "texts",
        },
    ),
    needs_digest=False,
    max_hours=24,
    summary="the caller's device was looked at lately, and is in order",
)  # fmt: skip
