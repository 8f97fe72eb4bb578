"""An artifact is taken in: stage, scan, vouch, decide, keep.

1. Stage: a private copy of the opened file or of the folder that is one artifact, hashed while it is copied; everything after this is
   about that copy.
2. Scan it in a process of its own. The scanner's digest must be the copy's. Where this content was scanned before by the same scanner with
   the same knowledge and settings, under the TrustRoot in force, and that still holds, it is not scanned again.
3. Vouch what was seen in the scanner's role: `scan` (pass, fail or inconclusive) and, where it passed, `structure`. Both are in the store,
   and so among the facts, before anything is decided.
4. Anything but a clean verdict ends here: recorded, refused, with the remedy of its first reason. Nothing of it is kept.
5. Policy decides `admit` for whoever asked. A deny is recorded and nothing is kept.
6. Keep the copy, then vouch `import` in the importer's role, resting on both scans and naming the decision.
A copy that is not kept is dropped on every way out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec.structs import replace

from vouchgate.audit import ocsf
from vouchgate.evidence.statement import read_vouch
from vouchgate.flows.administer import act_entry
from vouchgate.flows.changes import Change, VouchAdded
from vouchgate.flows.context import Context
from vouchgate.scanning.verdict import ScanReport, Verdict, unfinished
from vouchgate.vocabulary.answers import Caller, ImportFinding, ImportOutcome, VouchState
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import Method, Outcome, Subject, UnixMillis, Vouch
from vouchgate.vocabulary.wire import to_plain

TOOL = "vouchgate-scanner"
VOUCH_DAYS = 90
"""Days that a scan holds: what is known about formats grows, so each artifact is read again four times a year."""
DAY_MS = 24 * 3600 * 1000
RENEW_BEFORE_MS = 7 * DAY_MS
"""A scan that ends sooner is made again, so that what is admitted now is not denied next week."""
MAX_OPERATORS = 1_000
"""Names of operators in a `structure` vouch; a model that has more (functions of its own) is described by the first."""
MAX_TEXT = 400
NO_ARTIFACT = "folder"
"""What the scanner calls a folder that no format knows as one artifact (scanning/scan.py)."""
_OUTCOMES: dict[str, Outcome] = {"clean": "pass", "refused": "fail", "review": "inconclusive", "incomplete": "inconclusive"}
_SEVERITIES: dict[str, Literal["high", "medium"]] = {"refused": "high", "review": "medium", "incomplete": "medium"}


class Copy(Protocol):
    """A staged copy (ports/artifacts.py)."""

    @property
    def descriptor(self) -> int: ...
    @property
    def digest(self) -> Digest: ...


class Artifacts(Protocol):
    """The content store (ports/artifacts.py). Blocking; called in a thread."""

    def stage(self, source: int) -> Any: ...
    def stage_tree(self, source: int) -> Any: ...
    def locate(self, digest: Digest) -> int: ...
    def keep(self, staged: Any) -> object: ...
    def drop(self, staged: Any) -> None: ...


class Scanner(Protocol):
    """The scanner process (ports/scanner.py). Blocking; called in a thread. Never raises for what the artifact does."""

    def __call__(self, fd: int, *, name: str) -> ScanReport: ...


@dataclass(frozen=True)
class Desk:
    """What one import works with."""

    trust_domain: str
    requested_by: str
    artifacts: Artifacts
    scan: Scanner
    sign: Callable[[Mapping[str, Any]], Awaitable[bytes]]
    """A vouch request of the signer to its DSSE envelope."""
    commit: Callable[[Sequence[Vouch], Sequence[bytes]], Awaitable[None]]
    """Vouches and their envelopes into the store and the facts, durable when it returns."""
    decide: Callable[[str], Decision]
    """`admit` for an artifact's name, on the facts as they are."""
    record: Callable[[ImportOutcome, Decision | None], Awaitable[None]]
    """The act and its decision into the log."""
    now: Callable[[], UnixMillis]
    held: Callable[[str], Sequence[Vouch]] = lambda name: ()
    """Vouches that hold for an artifact's name and were made under the TrustRoot in force."""


async def admit_artifact(desk: Desk, source: int, *, name: str, zone: str, tree: bool = False) -> ImportOutcome:
    """Take in the file, or with `tree` the folder's stream, behind the descriptor `source`. Raises what staging, the signer or the store raise;
    then nothing is admitted."""
    staged = await asyncio.to_thread(desk.artifacts.stage_tree if tree else desk.artifacts.stage, source)
    try:
        return await _admit(desk, staged, name, zone)
    finally:
        await asyncio.to_thread(desk.artifacts.drop, staged)


async def _admit(desk: Desk, staged: Copy, name: str, zone: str) -> ImportOutcome:
    digest = staged.digest
    subject = Subject(name=resource(desk.trust_domain, "artifact", digest.text), digest=digest)
    known = await _known(desk, subject)
    verdict = known[0] if known else _same_bytes(await asyncio.to_thread(desk.scan, staged.descriptor, name=name), digest, name)
    if digest.kind == "tree" and verdict.format == NO_ARTIFACT:
        raise InvalidInput("the folder is no single model in a format that is known", remedy="import its files one by one")
    vouches = known[1] if known else await _vouch_scan(desk, subject, verdict)
    if verdict.outcome != "clean":
        outcome = _outcome(subject, verdict, zone, vouches, reason=_why(verdict), remedy=_remedy(verdict))
        await desk.record(outcome, None)
        return outcome
    decision = desk.decide(subject.name)
    if decision.effect != "allow":
        outcome = _outcome(subject, verdict, zone, vouches, reason=decision.reason, remedy=decision.remedy, decision_id=decision.id)
        await desk.record(outcome, decision)
        return outcome
    await asyncio.to_thread(desk.artifacts.keep, staged)
    vouches += (await _vouch_import(desk, subject, verdict, name, zone, vouches, decision),)
    outcome = _outcome(subject, verdict, zone, vouches, reason="it was read to the last byte and policy admits it", decision_id=decision.id)
    await desk.record(outcome, decision)
    return outcome


def _same_bytes(report: ScanReport, digest: Digest, name: str) -> Verdict:
    """Step 2: a report about other bytes says nothing about these."""
    if report.verdict.outcome != "incomplete" and (
        (report.digest.kind, report.digest.value, report.digest.size) != (digest.kind, digest.value, digest.size)
    ):
        return unfinished(name, digest.size, "the scanner read other bytes than were staged", "check the disk and import it again")
    return report.verdict


async def scanner_now(desk: Desk) -> Method:
    """How a scan would be made now: asked of the scanner itself, on a file of two bytes. Raises `Unavailable`."""
    probe = os.memfd_create("probe", os.MFD_CLOEXEC)
    try:
        os.write(probe, b"{}")
        staged = await asyncio.to_thread(desk.artifacts.stage, probe)
    finally:
        os.close(probe)
    try:
        verdict: Verdict = (await asyncio.to_thread(desk.scan, staged.descriptor, name="probe")).verdict
    finally:
        await asyncio.to_thread(desk.artifacts.drop, staged)
    if verdict.outcome == "incomplete" or not verdict.settings_digest:
        raise Unavailable(f"the scanner does not answer: {_why(verdict)}", remedy="see `vouchgate doctor` and the control plane's log")
    return _method(verdict)


async def _known(desk: Desk, subject: Subject) -> tuple[Verdict, tuple[Vouch, ...]] | None:
    """Step 2: the verdict and the vouches of a scan that need not be made again."""
    held = desk.held(subject.name)
    if not {"scan", "structure"} <= {vouch.predicate_type for vouch in held}:
        return None
    method, until = await scanner_now(desk), desk.now() + RENEW_BEFORE_MS
    fit = {
        vouch.predicate_type: vouch
        for vouch in held
        if vouch.method == method and vouch.outcome == "pass" and vouch.issuer_role == "scanner" and vouch.expires_at > until
    }
    if not {"scan", "structure"} <= set(fit) or subject.digest is None:
        return None
    size = subject.digest.size
    verdict = Verdict(outcome="clean", format=str(fit["scan"].claims["format"]), size=size, covered=size)
    return verdict, (fit["scan"], fit["structure"])


async def vouch_again(desk: Desk, descriptor: int, digest: Digest) -> Verdict:
    """Scan kept content again, and vouch what was seen now (flows/rescan.py)."""
    subject = Subject(name=resource(desk.trust_domain, "artifact", digest.text), digest=digest)
    report = await asyncio.to_thread(desk.scan, descriptor, name=digest.text)
    verdict = _same_bytes(report, replace(digest, size=digest.size or report.digest.size), digest.text)
    await _vouch_scan(desk, subject, verdict)
    return verdict


def _method(verdict: Verdict) -> Method:
    return Method(
        tool=TOOL,
        version=verdict.scanner_version,
        knowledge_version=f"{verdict.knowledge_version} {verdict.knowledge_digest}" if verdict.knowledge_digest else "",
        settings_digest=verdict.settings_digest,
    )


async def _vouch_scan(desk: Desk, subject: Subject, verdict: Verdict) -> tuple[Vouch, ...]:
    method = _method(verdict)
    findings = [f"{reason.rule} at {reason.where}"[:MAX_TEXT] for reason in verdict.reasons]
    claims = {"format": verdict.format, "scanned_bytes": verdict.covered, "findings": findings}
    requests = [_request(desk, "scanner", "scan", subject, method, claims, outcome=_OUTCOMES[verdict.outcome])]
    if verdict.outcome == "clean":
        requests.append(_request(desk, "scanner", "structure", subject, method, _structure(verdict)))
    return await _take_in(desk, requests)


def _structure(verdict: Verdict) -> dict[str, Any]:
    claims: dict[str, Any] = {"format": verdict.format}
    claims |= {key: verdict.facts[key] for key in ("tensors", "parameters", "opset") if key in verdict.facts}
    operators = verdict.facts.get("operators")
    if operators:
        claims["operators"] = dict(list(operators.items())[:MAX_OPERATORS])
    return claims


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
    request = _request(desk, "importer", "import", subject, method, claims) | {"rests_on": [vouch.id for vouch in rests_on]}
    return (await _take_in(desk, [request]))[0]


def _request(
    desk: Desk, role: str, predicate: str, subject: Subject, method: Method, claims: dict[str, Any], *, outcome: Outcome = "pass"
) -> dict[str, Any]:
    """What the signer takes for a vouch (flows/sign.py, `VouchRequest`)."""
    now = desk.now()
    return {
        "role": role,
        "predicate_type": predicate,
        "predicate_version": 1,
        "subjects": [to_plain(subject)],
        "outcome": outcome,
        "not_before": now,
        "expires_at": now + VOUCH_DAYS * DAY_MS,
        "tier": "verified",
        "method": to_plain(method),
        "claims": claims,
    }


async def _take_in(desk: Desk, requests: Sequence[Mapping[str, Any]]) -> tuple[Vouch, ...]:
    envelopes = [await desk.sign(request) for request in requests]
    vouches = tuple(read_vouch(envelope).vouch for envelope in envelopes)
    await desk.commit(vouches, envelopes)
    return vouches


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


def _why(verdict: Verdict) -> str:
    first = f"{verdict.reasons[0].where}: {verdict.reasons[0].why}" if verdict.reasons else "not every byte is accounted for"
    return {"refused": first, "review": f"a person must look at it: {first}"}.get(verdict.outcome, f"the scan did not end: {first}")


def _remedy(verdict: Verdict) -> str:
    return verdict.reasons[0].remedy if verdict.reasons else "export it again with the framework's own exporter"


def _plain(name: str) -> str:
    """A file's name as it may be signed and shown."""
    return "".join(character if character.isprintable() else "?" for character in name[:MAX_TEXT])


def desk_of(context: Context, caller: Caller, *, artifacts: Artifacts, scan: Scanner, zone: str = "") -> Desk:
    """The control plane's own desk for one caller; `zone` is where it is to lie."""
    who = caller.principal.principal.id

    async def sign(request: Mapping[str, Any]) -> bytes:
        answer = await context.signer.call("vouch", **request)
        envelope: bytes = answer["envelope"]
        return envelope

    async def commit(vouches: Sequence[Vouch], envelopes: Sequence[bytes]) -> None:
        changes: list[Change] = [VouchAdded(id=vouch.id, envelope=one) for vouch, one in zip(vouches, envelopes, strict=True)]
        entries = [Append(entry=ocsf.vouch(vouch, now=context.clock.now()), label=vouch.id) for vouch in vouches]
        await context.sequencer.submit(who, changes, entries)

    async def record(outcome: ImportOutcome, decision: Decision | None) -> None:
        detail = {"digest": outcome.digest, "format": outcome.format, "reason": outcome.reason, "zone": outcome.zone}
        entries = [Append(entry=ocsf.decision(decision), label=decision.id)] if decision is not None else []
        done = "done" if outcome.admitted else "denied"
        entries.append(act_entry(context, caller, "import", outcome.resource, done, detail))
        await context.sequencer.submit(who, (), entries)

    def held(name: str) -> list[Vouch]:
        facts = context.facts
        if facts.trust_root is None:
            return []
        standing = [facts.lineage.vouches[one.vouch_id] for one in facts.lineage.holding(name, context.clock.now())]
        failed = {vouch.predicate_type for vouch in standing if vouch.outcome != "pass"}
        since = facts.trust_root.issued_at
        return [vouch for vouch in standing if vouch.predicate_type not in failed and vouch.issued_at >= since]

    return Desk(
        trust_domain=context.trust_domain,
        requested_by=who,
        artifacts=artifacts,
        scan=scan,
        sign=sign,
        commit=commit,
        decide=lambda name: context.facts.decide(
            caller.principal, "admit", name, context.clock.now(), facts={"target": zone} if zone else {}
        ),
        record=record,
        now=context.clock.now,
        held=held,
    )
