"""The scanner or its knowledge grew: what is kept is scanned again first, then everything that the weaker one said is taken away at once.

1. What stands: every artifact whose scan passed by a weaker scanner and still counts. Weaker is a version or a knowledge version below what
   the scanner says of itself now.
2. Each that is kept is scanned again and vouched anew. Where the new scan passes, both stand side by side, so nothing is lost for a moment;
   where it is refused, the new vouch beats the old one at once.
3. Then one revocation of kind `scanner` takes away every passing `scan` and `structure` vouch of the weaker scanner, those made later
   included. It does not spread: what rests on them (an import, an endpoint that serves) asks for the evidence itself when it is decided.
4. What wants a person's look, was not read to its end twice, or is not kept, is not passed by the scanner that is here: it loses its scan with
   the revocation, and is told with its remedy. An older pass never outweighs a newer doubt.
5. A scanner older than one that was seen scans nothing and takes nothing away (scanner_seen.py).
6. What was done is read off the vouches, never off a note of this flow: ended at any step and begun again, it goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from vouchgate.audit import ocsf
from vouchgate.evidence.lineage import Lineage
from vouchgate.flows.changes import Revoked
from vouchgate.flows.context import Context
from vouchgate.flows.import_desk import Desk
from vouchgate.flows.scan_vouch import scan_and_vouch, scanner_now
from vouchgate.vocabulary.answers import RescanLine, RescanState
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import NotFound
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import Method, Revocation, Subject, Vouch, below_scanner, scanner_target

READINGS = 2
"""What was not read to its end (a process that was killed, a full machine) is read once more before it counts as lost."""
MAX_LINES = 200
"""Artifacts told one by one: those that lost their scan, the first ones."""
PREDICATES = ("scan", "structure")


@dataclass(frozen=True)
class Due:
    """One artifact whose scan is weaker than the scanner that is here."""

    digest: Digest
    said: str
    """Outcome of a scan by the present scanner that stands already; empty where there is none."""


def weaker(lineage: Lineage, target: str) -> list[Vouch]:
    """Passing vouches that the revocation of `target` takes away, and that count still."""
    fallen = lineage.fallen()
    return [vouch for vouch in lineage.vouches.values() if below_scanner(vouch, target) and vouch.id not in fallen]


def due(lineage: Lineage, method: Method, now: int) -> list[Due]:
    """Step 1, in the order of the digests."""
    target = scanner_target(method)
    stand = [vouch for vouch in weaker(lineage, target) if vouch.predicate_type == "scan" and vouch.expires_at > now]
    digests = {one.digest.text: one.digest for vouch in stand for one in vouch.subjects if one.digest is not None}
    return [Due(digest, _said(lineage.about(text), method, target, now)) for text, digest in sorted(digests.items())]


def _said(vouches: Iterable[Vouch], method: Method, target: str, now: int) -> str:
    made = [
        vouch.outcome
        for vouch in vouches
        if vouch.predicate_type == "scan"
        and vouch.outcome != "inconclusive"
        and vouch.expires_at > now
        and vouch.method.tool == method.tool
        and not below_scanner(replace(vouch, outcome="pass"), target)
    ]
    return "fail" if "fail" in made else "".join(made[-1:])


async def rescan(context: Context, desk: Desk, tell: Callable[[RescanState], None]) -> RescanState:
    """Steps 1 to 4; `tell` hears every step. Raises what the scanner's absence, the signer or the store raise: then nothing is revoked."""
    method = await scanner_now(desk)
    target, lineage = scanner_target(method), context.facts.lineage
    found = due(lineage, method, context.clock.now())
    before = [one.said for one in found if one.said]
    passed = before.count("pass")
    state = RescanState(running=True, scanner=target, total=len(found), done=len(before), clean=passed, lost=len(before) - passed)
    tell(state)
    for one in found:
        if not one.said:
            state = _counted(state, await _again(desk, one.digest, method))
            tell(state)
    state = await _revoke(context, desk, target, state)
    tell(state)
    return state


async def _again(desk: Desk, digest: Digest, method: Method) -> RescanLine:
    """Step 2 for one artifact."""
    subject = Subject(name=resource(desk.trust_domain, "artifact", digest.text), digest=digest)
    try:
        descriptor = await asyncio.to_thread(desk.artifacts.locate, digest)
    except NotFound as missing:
        return RescanLine(digest=digest.text, outcome="not-kept", why=missing.reason, remedy="import it again")
    try:
        verdict = (await scan_and_vouch(desk, descriptor, subject, digest.text, method, readings=READINGS)).verdict
    finally:
        os.close(descriptor)
    first = verdict.reasons[0] if verdict.reasons else None
    return RescanLine(
        digest=digest.text, outcome=verdict.outcome, why=first.why if first else "", remedy=first.remedy if first and first.remedy else ""
    )


def _counted(state: RescanState, line: RescanLine) -> RescanState:
    state = replace(state, done=state.done + 1, clean=state.clean + (line.outcome == "clean"))
    if line.outcome == "clean":
        return state
    return replace(state, lost=state.lost + 1, lines=(*state.lines, line)[:MAX_LINES])


async def _revoke(context: Context, desk: Desk, target: str, state: RescanState) -> RescanState:
    """Step 3, and the record of all of it."""
    falling = weaker(context.facts.lineage, target)
    state = replace(state, running=False, fallen=len(falling))
    if not falling:
        return state
    now = context.clock.now()
    revocation = Revocation(
        id=secrets.token_hex(8),
        trust_domain=context.facts.trust_domain,  # type: ignore[arg-type]
        target_kind="scanner",
        target=target,
        cascade="self",
        reason=f"scanned again by a newer scanner: {state.clean} of {state.total} artifacts were clean, {state.lost} lost their scan",
        requested_by=desk.requested_by,
        made_at=now,
    )
    entries = [Append(entry=ocsf.revocation(revocation, now=now), label=revocation.id)]
    await context.sequencer.submit(desk.requested_by, [Revoked(revocation=revocation)], entries)
    return replace(state, revocation=revocation.id)
