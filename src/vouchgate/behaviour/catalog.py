"""The detectors, run together over a batch of events.

Rules
1. The folder is the list: a file in `detectors/` with a `DETECTOR` is in; two of one name are refused.
2. A finding is passed on only if it is what its detector declared: its name, version, unit and budget, at most three events, a technique
   of its list, a way to clear. One that is not is a mistake of the detector and is raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from vouchgate.behaviour import detectors as folder
from vouchgate.behaviour.detectors import Detector
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.events import Event, Finding
from vouchgate.vocabulary.plugins import by_name, chosen, modules

MAX_EVENTS = 3
"""Events that a finding names (contracts, "Nouns")."""


@cache
def detectors() -> dict[str, Detector]:
    """All detectors of this build, by name."""
    return by_name("detector", (module.DETECTOR for module in modules(folder)))


def detector(name: str) -> Detector:
    """One detector. Raises `NotFound`."""
    return chosen("detector", detectors(), name)


def assess(states: Mapping[str, Any], batch: Sequence[Event]) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """Run every detector over the batch; `states` by detector name, empty before the first batch."""
    after: dict[str, Any] = {}
    found: list[Finding] = []
    for name, one in detectors().items():
        after[name], findings = one.step(states[name] if name in states else one.start(), batch)
        for finding in findings:
            check_finding(one, finding)
        found += findings
    return after, tuple(found)


def check_finding(made_by: Detector, finding: Finding) -> None:
    """Rule 2. Raises `InvalidInput`."""
    declared = (made_by.name, made_by.version, made_by.unit, made_by.budget_id)
    said = (finding.detector, finding.detector_version, finding.unit, finding.budget_id)
    wrong = ""
    if said != declared:
        wrong = f"says {said}, declared is {declared}"
    elif len(finding.events) > MAX_EVENTS:
        wrong = f"names {len(finding.events)} events, the bound is {MAX_EVENTS}"
    elif finding.technique not in made_by.techniques:
        wrong = f"names `{finding.technique[:40]}`, which is not one of its techniques"
    elif not finding.clears_when or not finding.subject or not finding.id:
        wrong = "lacks its id, its subject or when it clears"
    if wrong:
        raise InvalidInput(f"a finding of `{made_by.name}` {wrong}", remedy=f"correct the detector `{made_by.name}`")
