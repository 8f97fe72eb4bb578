"""What taking an artifact in works with: content store, scanner, signer, facts and policy, as one caller has them.

Left to others: what is done with them (admit_artifact.py, scan_vouch.py, rescan.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vouchgate.audit import ocsf
from vouchgate.evidence.statement import read_vouch
from vouchgate.flows import allowances_standing, scanner_seen
from vouchgate.flows.administer import act_entry
from vouchgate.flows.allowances import Allowance
from vouchgate.flows.changes import Change, SettingPut, VouchAdded
from vouchgate.flows.context import Context
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.verdict import ScanReport
from vouchgate.vocabulary.answers import Caller, ImportOutcome
from vouchgate.vocabulary.answers_approvals import VouchTaken
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import Conflict
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import Method, Outcome, Subject, UnixMillis, Vouch
from vouchgate.vocabulary.wire import to_plain

VOUCH_DAYS = 90
"""Days that a scan holds: what is known about formats grows, so each artifact is read again four times a year."""
DAY_MS = 24 * 3600 * 1000


class Copy(Protocol):
    """A staged copy (ports/artifacts.py)."""

    @property
    def descriptor(self) -> int: ...
    @property
    def path(self) -> Path: ...
    @property
    def digest(self) -> Digest: ...


class Artifacts(Protocol):
    """The content store (ports/artifacts.py). Blocking; called in a thread."""

    def stage(self, source: int) -> Any: ...
    def stage_tree(self, source: int) -> Any: ...
    def locate(self, digest: Digest) -> int: ...
    def open_tree(self, digest: Digest) -> Any: ...
    def keep(self, staged: Any) -> object: ...
    def drop(self, staged: Any) -> None: ...


class Scanner(Protocol):
    """The scanner process (ports/scanner.py). Blocking; called in a thread. Never raises for what the artifact does."""

    def __call__(self, fd: int, *, name: str, allowed: Mapping[str, tuple[Entry, ...]] = ...) -> ScanReport: ...


async def _nothing(_: Method) -> None:
    return


async def _unasked(_: Copy) -> VouchTaken | None:
    return None


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
    allowances: Callable[[str], Sequence[Allowance]] = lambda digest: ()
    """What is allowed now in the artifact with this digest."""
    evidence: Callable[[Copy], Awaitable[VouchTaken | None]] = _unasked
    """Holds what was handed in with the artifact (a signature, provenance) against the copy, and vouches for it; gives the first refusal."""
    remember: Callable[[Method], Awaitable[None]] = _nothing
    """The scanner says what it is: durable where that is newer than what was seen. Raises `Conflict` where it is older."""


def vouch_request(
    desk: Desk,
    role: str,
    predicate: str,
    subject: Subject,
    method: Method,
    claims: dict[str, Any],
    *,
    outcome: Outcome = "pass",
    rests_on: Sequence[Vouch] = (),
    until: Sequence[Vouch] = (),
) -> dict[str, Any]:
    """What the signer takes for a vouch (flows/sign.py, `VouchRequest`); it ends with the first of `until`."""
    now = desk.now()
    return {
        "role": role,
        "predicate_type": predicate,
        "predicate_version": 1,
        "subjects": [to_plain(subject)],
        "outcome": outcome,
        "not_before": now,
        "expires_at": min((now + VOUCH_DAYS * DAY_MS, *(vouch.expires_at for vouch in until))),
        "rests_on": [vouch.id for vouch in rests_on],
        "tier": "verified",
        "method": to_plain(method),
        "claims": claims,
    }


async def take_in(desk: Desk, requests: Sequence[Mapping[str, Any]]) -> tuple[Vouch, ...]:
    """Sign and commit, all of them or none."""
    envelopes = [await desk.sign(request) for request in requests]
    vouches = tuple(read_vouch(envelope).vouch for envelope in envelopes)
    await desk.commit(vouches, envelopes)
    return vouches


def desk_of(
    context: Context,
    caller: Caller,
    *,
    artifacts: Artifacts,
    scan: Scanner,
    zone: str = "",
    evidence: Callable[[Copy], Awaitable[VouchTaken | None]] = _unasked,
) -> Desk:
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

    async def remember(method: Method) -> None:
        await _remember(context, caller, method)

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
        held=lambda name: _held(context, name),
        allowances=lambda digest: allowances_standing.standing(context.facts, digest, context.clock.now()),
        evidence=evidence,
        remember=remember,
    )


def _held(context: Context, name: str) -> list[Vouch]:
    facts = context.facts
    if facts.trust_root is None:
        return []
    standing = [facts.lineage.vouches[one.vouch_id] for one in facts.lineage.holding(name, context.clock.now())]
    failed = {vouch.predicate_type for vouch in standing if vouch.outcome != "pass"}
    since = facts.trust_root.issued_at
    return [vouch for vouch in standing if vouch.predicate_type not in failed and vouch.issued_at >= since]


async def _remember(context: Context, caller: Caller, method: Method) -> None:
    """A scanner that is older than what was seen is put on record, and not used."""
    who = caller.principal.principal.id
    try:
        now = scanner_seen.newer(scanner_seen.parse(context.facts.settings.get(scanner_seen.KEY, "")), scanner_seen.of_method(method))
    except Conflict as older:
        await context.sequencer.submit(who, (), [act_entry(context, caller, "use-scanner", "", "denied", {"reason": older.reason})])
        raise
    if now is not None:
        entry = act_entry(context, caller, "use-scanner", "", "done", {"scanner": now.text})
        await context.sequencer.submit(who, [SettingPut(key=scanner_seen.KEY, value=now.text)], [entry])
