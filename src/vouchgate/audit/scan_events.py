"""A scan's results as OCSF 1.8.0 Detection Findings (class 2004): one event for each artifact that is not clean, for a SIEM to take in.

These are not entries of our own log (ocsf.py): a scan on a developer's machine or in CI has no trust domain and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

OCSF_VERSION = "1.8.0"
_DETECTION, _CREATE, _FINDINGS = 2004, 1, 2
_NEW, _RULE = 1, 1
_SEVERITIES = {"refused": 4, "review": 3, "incomplete": 3}
"""OCSF `severity_id`: 3 medium, 4 high."""


class ScanFinding(Noun, frozen=True, kw_only=True):
    """One thing that speaks against an artifact."""

    rule: str
    place: str
    """Member and place in it."""
    why: str
    remedy: str


class ScannedArtifact(Noun, frozen=True, kw_only=True):
    """One artifact that is not clean."""

    path: str
    digest: str
    """As `Digest.text`; empty where it was not hashed."""
    format: str
    outcome: str
    findings: tuple[ScanFinding, ...]


def event(seen: ScannedArtifact, *, version: str, now: UnixMillis) -> dict[str, Any]:
    """The event about one artifact; `version` is the scanner's."""
    path = _plain(seen.path)
    first = seen.findings[0] if seen.findings else ScanFinding(rule="scan", place="", why="it is not clean", remedy="")
    return {
        "activity_id": _CREATE,
        "category_uid": _FINDINGS,
        "class_uid": _DETECTION,
        "type_uid": _DETECTION * 100 + _CREATE,
        "severity_id": _SEVERITIES.get(seen.outcome, 4),
        "status_id": _NEW,
        "time": now,
        "message": f"{path} is {seen.outcome}: {_plain(first.why)}",
        "metadata": {"version": OCSF_VERSION, "product": {"name": "vouchgate", "vendor_name": "vouchgate", "version": version}},
        "finding_info": {
            "uid": f"{seen.digest or path} {seen.outcome}",
            "title": f"{seen.format} artifact is {seen.outcome}",
            "desc": _plain(f"{first.place}: {first.why}"),
            "types": sorted({finding.rule for finding in seen.findings}),
            "analytic": {"name": first.rule, "type_id": _RULE, "version": version},
        },
        "resources": [{"name": path, "uid": seen.digest, "type": seen.format} if seen.digest else {"name": path, "type": seen.format}],
        "remediation": {"desc": _plain(first.remedy) or "see the findings"},
        "unmapped": {"vouchgate": {"outcome": seen.outcome, "findings": _findings(seen.findings)}},
    }


def _findings(findings: Sequence[ScanFinding]) -> list[dict[str, str]]:
    return [{"rule": one.rule, "place": _plain(one.place), "why": _plain(one.why), "remedy": one.remedy} for one in findings]


def _plain(text: str) -> str:
    """Text that JSON can carry: a lone surrogate of a file's name is shown as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
