"""What a waiver may stand in for: one control, spelled as policies ask for it.

Rules
1. A control is a predicate of the catalog, or `<predicate>@<tier>`; nothing stands for a kind of control, and no waiver for a waiver or an
   approval: these are agreements themselves.
2. A waiver is about one subject, and its control fits it: content is not asked of a caller.
Left to others: who agreed (flows/waive.py), when it counts (flows/facts_waivers.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from vouchgate.evidence.predicates import Predicate
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import TIERS, Subject, Vouch

WAIVER = "waiver"
AGREEMENTS = frozenset({WAIVER, "approval"})
"""Predicates in which persons agree; they are made by the flows that know both persons, and are never waived."""


def check_control(control: str, known: Mapping[str, Predicate]) -> str:
    """The predicate of a control. Raises `InvalidInput` (rule 1)."""
    predicate, at, tier = control.partition("@")
    if predicate not in known or predicate in AGREEMENTS or (at and tier not in TIERS):
        names = ", ".join(sorted(set(known) - AGREEMENTS))
        raise InvalidInput(
            f"`{control[:80]}` is not a control that can be waived",
            remedy=f"name one of {names}, alone or with a tier, as in `serves@rederived`",
        )
    return predicate


def check_subject(control: str, subject: Subject, known: Mapping[str, Predicate]) -> None:
    """Raises `InvalidInput` (rule 2)."""
    predicate = known[check_control(control, known)]
    if predicate.needs_digest and subject.name.startswith("spiffe://"):
        raise InvalidInput(f"`{predicate.name}` is about content, and `{subject.name}` is a caller", remedy="name the artifact's digest")


def check_waiver(vouch: Vouch, known: Mapping[str, Predicate]) -> None:
    """Raises `InvalidInput` unless the waiver obeys both rules."""
    if len(vouch.subjects) != 1 or vouch.outcome != "pass":
        raise InvalidInput("a waiver is about one subject, and passes", remedy="make one waiver for each subject")
    check_subject(str(vouch.claims.get("control", "")), vouch.subjects[0], known)
