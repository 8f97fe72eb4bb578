"""A scan as OCSF events for `--ocsf`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vouchgate.audit.scan_events import ScanFinding, ScannedArtifact, event
from vouchgate.scanning.verdict import SCANNER_VERSION, Reason

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Scanned
    from vouchgate.vocabulary.vouches import UnixMillis


def events(scanned: Iterable[Scanned], *, now: UnixMillis) -> list[dict[str, Any]]:
    """One for each artifact that is not clean."""
    return [event(_seen(one), version=SCANNER_VERSION, now=now) for one in scanned if one.report.verdict.outcome != "clean"]


def _seen(one: Scanned) -> ScannedArtifact:
    verdict, digest = one.report.verdict, one.report.digest
    return ScannedArtifact(
        path=one.path,
        digest=digest.text if digest.value.strip("0") else "",
        format=verdict.format,
        outcome=verdict.outcome,
        findings=tuple(
            ScanFinding(rule=reason.rule, place=_place(reason), why=reason.why, remedy=reason.remedy) for reason in verdict.reasons
        ),
    )


def _place(reason: Reason) -> str:
    return f"{reason.member}: {reason.where}" if reason.member else reason.where
