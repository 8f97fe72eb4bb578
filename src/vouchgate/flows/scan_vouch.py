"""Content of the store is scanned and what was seen is vouched; or a scan that need not be made again is found.

1. The scanner is asked first what it is, on a file of two bytes that nobody else wrote. What it says then is held against everything that was
   seen before (scanner_seen.py), and its report on an artifact must say the same: a child that an artifact took over chooses no version.
2. The report's digest must be the content's.
3. What is not clean by the knowledge base alone is read again with the names that are allowed in exactly this content. A pass that needed them
   rests on every one of them and ends with the first: an allowance that lapses, falls or is forfeited takes the scan with it.
4. `scan` (pass, fail or inconclusive) and, where it passed, `structure`, in the scanner's role.
5. A scan is found instead of made where it was made by the same scanner with the same knowledge and settings, under the TrustRoot in force, it
   rests on exactly what is allowed now, and it holds for a while longer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from vouchgate.flows.allowances import Allowance, by_digest
from vouchgate.flows.import_desk import DAY_MS, Desk, take_in, vouch_request
from vouchgate.scanning.verdict import ScanReport, Verdict, unfinished
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.vouches import Method, Outcome, Subject, Vouch

TOOL = "vouchgate-scanner"
PREDICATES = frozenset({"scan", "structure"})
RENEW_BEFORE_MS = 7 * DAY_MS
"""A scan that ends sooner is made again, so that what is admitted now is not denied next week."""
MAX_OPERATORS = 1_000
"""Names of operators in a `structure` vouch; a model that has more (functions of its own) is described by the first."""
MAX_TEXT = 400
_OUTCOMES: dict[str, Outcome] = {"clean": "pass", "refused": "fail", "review": "inconclusive", "incomplete": "inconclusive"}


@dataclass(frozen=True)
class Scan:
    """What is known of the content, and the vouches that say so."""

    verdict: Verdict
    vouches: tuple[Vouch, ...]
    allowed: tuple[str, ...] = ()
    """Names that somebody answers for, without which it would not have passed."""


async def scanner_now(desk: Desk, allowances: Sequence[Allowance] = ()) -> Method:
    """Rule 1: how a scan would be made now. Raises `Unavailable`, and `Conflict` for a scanner older than what was seen."""
    probe = os.memfd_create("probe", os.MFD_CLOEXEC)
    try:
        os.write(probe, b"{}")
        staged = await asyncio.to_thread(desk.artifacts.stage, probe)
    finally:
        os.close(probe)
    try:
        verdict = (await _ask(desk, staged.descriptor, staged.digest, "probe", allowances)).verdict
    finally:
        await asyncio.to_thread(desk.artifacts.drop, staged)
    if verdict.outcome == "incomplete" or not verdict.settings_digest:
        raise Unavailable(f"the scanner does not answer: {why(verdict)}", remedy="see `vouchgate doctor` and the control plane's log")
    method = _method(verdict)
    if not allowances:
        await desk.remember(method)
    return method


async def scan_and_vouch(desk: Desk, descriptor: int, subject: Subject, name: str, method: Method, *, readings: int = 1) -> Scan:
    """Rules 2 to 4; `method` is what the scanner said of itself just now. What is not read to its end is read again, `readings` times in all."""
    assert subject.digest is not None
    verdict = await _read(desk, descriptor, subject.digest, name, method)
    while verdict.outcome == "incomplete" and readings > 1:
        readings -= 1
        verdict = await _read(desk, descriptor, subject.digest, name, method)
    allowances: tuple[Allowance, ...] = ()
    if verdict.outcome in ("refused", "review"):
        verdict, allowances = await _with_allowances(desk, descriptor, subject.digest, name, verdict)
    vouches = await _vouch(desk, subject, verdict, allowances)
    return Scan(verdict, vouches, _names(allowances))


async def known_scan(desk: Desk, subject: Subject, method: Method) -> Scan | None:
    """Rule 5."""
    assert subject.digest is not None
    held = desk.held(subject.name)
    if not {vouch.predicate_type for vouch in held} >= PREDICATES:
        return None
    found = _fitting(desk, held, subject.digest, method, ())
    if found is None and any(vouch.rests_on for vouch in held if vouch.predicate_type == "scan"):
        allowances = tuple(desk.allowances(subject.digest.text))
        return _fitting(desk, held, subject.digest, await scanner_now(desk, allowances), allowances) if allowances else None
    return found


def why(verdict: Verdict) -> str:
    """What stands against it, in one line."""
    first = f"{verdict.reasons[0].where}: {verdict.reasons[0].why}" if verdict.reasons else "not every byte is accounted for"
    return {"refused": first, "review": f"a person must look at it: {first}"}.get(verdict.outcome, f"the scan did not end: {first}")


def _fitting(desk: Desk, held: Sequence[Vouch], digest: Digest, method: Method, allowances: Sequence[Allowance]) -> Scan | None:
    until, rests_on = desk.now() + RENEW_BEFORE_MS, _ids(allowances)
    fit = {
        vouch.predicate_type: vouch
        for vouch in held
        if vouch.method == method
        and vouch.outcome == "pass"
        and vouch.issuer_role == "scanner"
        and vouch.expires_at > until
        and vouch.rests_on == rests_on
    }
    if not set(fit) >= PREDICATES:
        return None
    verdict = Verdict(outcome="clean", format=str(fit["scan"].claims["format"]), size=digest.size, covered=digest.size)
    return Scan(verdict, (fit["scan"], fit["structure"]), _names(allowances))


async def _with_allowances(
    desk: Desk, descriptor: int, digest: Digest, name: str, verdict: Verdict
) -> tuple[Verdict, tuple[Allowance, ...]]:
    """Rule 3."""
    allowances = tuple(desk.allowances(digest.text))
    if not allowances:
        return verdict, ()
    again = await _read(desk, descriptor, digest, name, await scanner_now(desk, allowances), allowances)
    if again.outcome != "clean":
        return again, ()
    if tuple(desk.allowances(digest.text)) != allowances:
        return unfinished(name, digest.size, "what is allowed in it changed while it was read", "import it again"), ()
    return again, allowances


async def _read(desk: Desk, descriptor: int, digest: Digest, name: str, method: Method, allowances: Sequence[Allowance] = ()) -> Verdict:
    """Rules 1 and 2."""
    report = await _ask(desk, descriptor, digest, name, allowances)
    verdict, seen = report.verdict, report.digest
    if verdict.outcome == "incomplete":
        return verdict
    if (seen.kind, seen.value, seen.size) != (digest.kind, digest.value, digest.size or seen.size):
        return unfinished(name, digest.size, "the scanner read other bytes than were staged", "check the disk and import it again")
    if _method(verdict) != method:
        return unfinished(name, digest.size, "the scanner says of itself other versions than a moment ago", "import it again")
    return verdict


async def _ask(desk: Desk, descriptor: int, digest: Digest, name: str, allowances: Sequence[Allowance]) -> ScanReport:
    asked = partial(desk.scan, descriptor, name=name)
    if allowances:
        asked = partial(asked, allowed=by_digest(digest.text, allowances))
    return await asyncio.to_thread(asked)


def _method(verdict: Verdict) -> Method:
    return Method(
        tool=TOOL,
        version=verdict.scanner_version,
        knowledge_version=f"{verdict.knowledge_version} {verdict.knowledge_digest}" if verdict.knowledge_digest else "",
        settings_digest=verdict.settings_digest,
    )


async def _vouch(desk: Desk, subject: Subject, verdict: Verdict, allowances: Sequence[Allowance]) -> tuple[Vouch, ...]:
    """Rule 4."""
    resting = sorted((one.vouch for one in allowances), key=lambda vouch: vouch.id)
    claims: dict[str, Any] = {
        "format": verdict.format,
        "scanned_bytes": verdict.covered,
        "findings": [f"{reason.rule} at {reason.where}"[:MAX_TEXT] for reason in verdict.reasons],
    }
    claims |= {"allowed": [one[:MAX_TEXT] for one in _names(allowances)]} if allowances else {}
    asked = partial(vouch_request, desk, "scanner", subject=subject, method=_method(verdict), rests_on=resting, until=resting)
    requests = [asked("scan", claims=claims, outcome=_OUTCOMES[verdict.outcome])]
    if verdict.outcome == "clean":
        requests.append(asked("structure", claims=_structure(verdict)))
    return await take_in(desk, requests)


def _structure(verdict: Verdict) -> dict[str, Any]:
    claims: dict[str, Any] = {"format": verdict.format}
    claims |= {key: verdict.facts[key] for key in ("tensors", "parameters", "opset") if key in verdict.facts}
    operators = verdict.facts.get("operators")
    if operators:
        claims["operators"] = dict(list(operators.items())[:MAX_OPERATORS])
    return claims


def _ids(allowances: Sequence[Allowance]) -> tuple[str, ...]:
    return tuple(sorted(one.vouch.id for one in allowances))


def _names(allowances: Sequence[Allowance]) -> tuple[str, ...]:
    return tuple(sorted(f"{one.entry.module}.{one.entry.name}" for one in allowances))
