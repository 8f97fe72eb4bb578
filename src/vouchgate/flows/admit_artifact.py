"""An artifact is taken in: stage, scan, vouch, decide, keep.

1. Stage: a private copy of the opened file or of the folder that is one artifact, hashed while it is copied; everything after this is
   about that copy.
2. What was handed in with it (a signature, provenance) is held against the copy and vouched for before anything else: whoever turns out to have signed
   it may not answer for a class in it a moment later. One that does not hold ends the import.
3. Scan it in a process of its own, or find a scan that still holds, and vouch what was seen (scan_vouch.py). Both vouches are in the store, and
   so among the facts, before anything is decided.
4. Anything but a clean verdict ends here: recorded, refused, with the remedy of its first reason. Nothing of it is kept.
5. Policy decides `admit` for whoever asked. A deny is recorded and nothing is kept.
6. Keep the copy, then vouch `import` in the importer's role, resting on both scans and naming the decision; of tensors, in a file or a folder, also the manifest
   by which each of them can be verified alone (parted.py).
A copy that is not kept is dropped on every way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from vouchgate.flows.import_desk import Copy, Desk, take_in, vouch_request
from vouchgate.flows.parted import manifest_name
from vouchgate.flows.scan_vouch import MAX_TEXT, Scan, known_scan, scan_and_vouch, scanner_now, why
from vouchgate.scanning.verdict import Verdict
from vouchgate.vocabulary.answers import ImportFinding, ImportOutcome, VouchState
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.vouches import Method, Subject, Vouch

NO_ARTIFACT = "folder"
"""What the scanner calls a folder that no format knows as one artifact (scanning/scan.py)."""
NOT_READ = Verdict(outcome="incomplete", format="unknown", size=0)
"""Of an artifact that was refused before it was scanned."""
MAX_NAMES_TOLD = 3
"""Allowed names in a reason; the vouches have all of them."""
_SEVERITIES: dict[str, Literal["high", "medium"]] = {"refused": "high", "review": "medium", "incomplete": "medium"}


async def admit_artifact(desk: Desk, source: int, *, name: str, zone: str, tree: bool = False) -> ImportOutcome:
    """Take in the file, or with `tree` the folder's stream, behind the descriptor `source`. Raises what staging, the scanner's own answer, the signer
    or the store raise; then nothing is admitted."""
    staged = await asyncio.to_thread(desk.artifacts.stage_tree if tree else desk.artifacts.stage, source)
    try:
        return await _admit(desk, staged, name, zone)
    finally:
        await asyncio.to_thread(desk.artifacts.drop, staged)


async def _admit(desk: Desk, staged: Copy, name: str, zone: str) -> ImportOutcome:
    digest = staged.digest
    subject = Subject(name=resource(desk.trust_domain, "artifact", digest.text), digest=digest)
    refused = await desk.evidence(staged)
    if refused is not None:
        outcome = _outcome(subject, NOT_READ, zone, (), reason=refused.reason, remedy=refused.remedy)
        await desk.record(outcome, None)
        return outcome
    method = await scanner_now(desk)
    seen = await known_scan(desk, subject, method) or await scan_and_vouch(desk, staged.descriptor, subject, name, method)
    verdict, vouches = seen.verdict, seen.vouches
    if digest.kind == "tree" and verdict.format == NO_ARTIFACT:
        raise InvalidInput("the folder is no single model in a format that is known", remedy="import its files one by one")
    if verdict.outcome != "clean":
        outcome = _outcome(subject, verdict, zone, vouches, reason=why(verdict), remedy=_remedy(verdict))
        await desk.record(outcome, None)
        return outcome
    decision = desk.decide(subject.name)
    if decision.effect != "allow":
        outcome = _outcome(subject, verdict, zone, vouches, reason=decision.reason, remedy=decision.remedy, decision_id=decision.id)
        await desk.record(outcome, decision)
        return outcome
    await asyncio.to_thread(desk.artifacts.keep, staged)
    vouches += (await _vouch_import(desk, subject, verdict, name, zone, vouches, decision),)
    outcome = _outcome(subject, verdict, zone, vouches, reason=_admitted(seen), decision_id=decision.id)
    await desk.record(outcome, decision)
    return outcome


def _admitted(seen: Scan) -> str:
    said = "it was read to the last byte and policy admits it"
    if not seen.allowed:
        return said
    names = ", ".join(f"`{one[:80]}`" for one in seen.allowed[:MAX_NAMES_TOLD])
    more = f" and {len(seen.allowed) - MAX_NAMES_TOLD} more" if len(seen.allowed) > MAX_NAMES_TOLD else ""
    return f"{said}; a reviewer answers for {names}{more}, for as long as the scan holds"


async def _vouch_import(
    desk: Desk, subject: Subject, verdict: Verdict, name: str, zone: str, rests_on: Sequence[Vouch], decision: Decision
) -> Vouch:
    method = Method(tool="vouchgate-import", version="1")
    claims = {
        "source": f"{'folder' if subject.digest is not None and subject.digest.kind == 'tree' else 'file'} {_plain(name)}",
        "name": _plain(name),
        "requested_by": desk.requested_by,
        "zone": zone,
        "format": verdict.format,
        "decision_id": decision.id,
    }
    formats = (
        {verdict.format, *verdict.members.values()} if subject.digest is not None and subject.digest.kind == "tree" else {verdict.format}
    )
    if subject.digest is not None and (manifest := await asyncio.to_thread(manifest_name, desk.artifacts, subject.digest, formats)):
        claims["manifest"] = manifest
    request = vouch_request(desk, "importer", "import", subject, method, claims, rests_on=rests_on)
    return (await take_in(desk, [request]))[0]


def _outcome(
    subject: Subject, verdict: Verdict, zone: str, vouches: Sequence[Vouch], *, reason: str, remedy: str = "", decision_id: str = ""
) -> ImportOutcome:
    assert subject.digest is not None
    return ImportOutcome(
        admitted=any(vouch.predicate_type == "import" for vouch in vouches),
        digest=subject.digest.text,
        size=subject.digest.size,
        format=verdict.format,
        resource=subject.name,
        zone=zone,
        reason=reason,
        remedy=remedy,
        findings=findings_of(verdict),
        vouches=tuple(_state(vouch) for vouch in vouches),
        decision_id=decision_id,
    )


def findings_of(verdict: Verdict) -> tuple[ImportFinding, ...]:
    """A verdict's reasons as an answer shows them."""
    return tuple(
        ImportFinding(severity=_SEVERITIES[item.weight], rule=item.rule, where=item.where, text=item.why, remedy=item.remedy)
        for item in verdict.reasons
    )


def _state(vouch: Vouch) -> VouchState:
    return VouchState(
        id=vouch.id,
        predicate=vouch.predicate_type,
        subject=vouch.subjects[0].name,
        state={"pass": "holds", "fail": "failed", "inconclusive": "inconclusive"}[vouch.outcome],  # type: ignore[arg-type]
        outcome=vouch.outcome,
        tier=vouch.tier,
        issuer_role=vouch.issuer_role,
        issuer_key=vouch.issuer_key,
        tool=f"{vouch.method.tool} {vouch.method.version}",
        issued_at=vouch.issued_at,
        expires_at=vouch.expires_at,
        rests_on=vouch.rests_on,
    )


def _remedy(verdict: Verdict) -> str:
    return verdict.reasons[0].remedy if verdict.reasons else "export it again with the framework's own exporter"


def _plain(name: str) -> str:
    """A file's name as it may be signed and shown."""
    return "".join(character if character.isprintable() else "?" for character in name[:MAX_TEXT])
