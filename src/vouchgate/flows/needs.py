"""What waits for a person, worst first: what is refused or unprotected now, what will be, and what is known and lasting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vouchgate.flows import waive
from vouchgate.flows.adopt import zone_states
from vouchgate.flows.checkpoint import Checkpoints
from vouchgate.flows.context import Context
from vouchgate.flows.login import GLASS, broken_until
from vouchgate.flows.policy_history import proposal
from vouchgate.identity.ca import load_ca
from vouchgate.vocabulary.answers import Need, PointState, ProcessState
from vouchgate.vocabulary.answers_decisions import EndpointState
from vouchgate.vocabulary.answers_identities import PartnerState

OWN_MACHINE = "the log is tamper-evident against everyone but this machine's administrator: no outside witness is configured"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WAIVER_DAYS_LEFT = 7
"""Days before its end from which a waiver is told to end: a week to make the evidence."""
CA_DAYS_LEFT = 30
"""Days before its end from which a CA is told to expire: a new root takes one day from its preparation to the end of the old one."""
_RANK = {"act": 0, "soon": 1, "note": 2}


def needs(
    context: Context,
    points: Sequence[PointState],
    processes: Sequence[ProcessState],
    endpoints: Sequence[EndpointState],
    checkpoints: Checkpoints,
    partners: Sequence[PartnerState] = (),
) -> tuple[Need, ...]:
    """Everything, sorted."""
    found = [
        *_refused(endpoints),
        *_enforcement(context, points, processes),
        *_coming(context, checkpoints),
        *_waivers(context),
        *_approvals(context),
        *_drifts(context),
        *_authority(context),
        *_secrets(context),
        *_partners(partners, context.clock.now()),
        *_proposed(context),
        *_lasting(context),
    ]
    return tuple(sorted(found, key=lambda need: _RANK[need.severity]))


def _authority(context: Context) -> Iterator[Need]:
    """The CA that signs, while there is time to follow it with another."""
    bundle, now = context.facts.bundle, context.clock.now()
    if bundle is None or not bundle.x509_authorities:
        return
    active = load_ca(bundle.x509_authorities[0], bundle.trust_domain)
    left = (int(active.not_valid_after_utc.timestamp()) * 1000 - now) // DAY_MS
    own = active.subject == active.issuer
    if left < CA_DAYS_LEFT:
        yield Need(
            kind="key-expiring",
            severity="act" if left < 1 else "soon",
            subject="x509-ca",
            title=f"the CA expires in {max(0, left)} days",
            detail="nothing is issued after it",
            remedy="follow it with a new root" if own else "ask the CA above ours for another certificate",
            command=f"vouchgate admin {'ca-rotate prepare --reason renewal' if own else 'ca-request'}",
        )


def _secrets(context: Context) -> Iterator[Need]:
    """Secrets of others whose rotation does not go on by itself."""
    for one in context.facts.secrets.values():
        if one.problem:
            yield Need(
                kind="secret",
                severity="act" if one.current is None or one.state == "waiting" else "soon",
                subject=one.name,
                title=f"the secret {one.name} is {one.state}" if one.state != "steady" else f"the secret {one.name} was not rotated",
                detail=one.problem,
                remedy="do what its owner asks for" if one.state == "waiting" else "it is tried again by itself while it can be",
                command=f"vouchgate secrets rotate {one.name}" if one.state == "steady" else "vouchgate secrets list",
            )


def _partners(partners: Sequence[PartnerState], now: int) -> Iterator[Need]:
    """Foreign trust domains whose bundle is not had, or was not renewed. One that was not looked at yet waits for nobody."""
    for one in partners:
        if not one.problem:
            continue
        hours = max(0, (one.stale_at - now) // HOUR_MS)
        refused = one.state == "refused"
        yield Need(
            kind="partner",
            severity="act" if refused else "soon",
            subject=one.name,
            title=f"callers of the partner `{one.name}` are refused"
            if refused
            else f"the bundle of the partner `{one.name}` is not renewed",
            detail=one.problem if refused or not one.stale_at else f"{one.problem}; its callers are refused in {hours} h",
            remedy="see whether its bundle endpoint can be reached and is what [[federation]] says",
            command=f"vouchgate federation list --refresh {one.name}",
        )


def _refused(endpoints: Sequence[EndpointState]) -> Iterator[Need]:
    for one in endpoints:
        if one.verdict == "refused":
            yield Need(
                kind="endpoint-refused",
                severity="act",
                subject=one.endpoint.id,
                title=f"nobody may call `{one.endpoint.id.rpartition('/')[2]}`",
                detail=one.reason,
                remedy=one.missing[0].remedy if one.missing else "",
            )


def _enforcement(context: Context, points: Sequence[PointState], processes: Sequence[ProcessState]) -> Iterator[Need]:
    """Whether what was decided is enforced."""
    if not any(one.kind == "gateway" for one in points):
        title = "no gateway is connected"
        yield Need(kind="point-unreachable", severity="act", subject="gateway", title=title, remedy="see the gateway's log")
    for point in points:
        if point.state == "rejected":
            yield Need(kind="point-rejected", severity="act", subject=point.id, title="the gateway rejected a push", detail=point.detail)
    for why in context.publisher.holding:
        yield Need(kind="audit-lag", severity="act", subject="gateway", title="leases are not renewed", detail=why)
    if context.clock.trouble:
        yield Need(
            kind="clock",
            severity="act",
            subject="clock",
            title="issuing and renewing are frozen",
            detail=context.clock.trouble,
            remedy="set the clock right and accept it",
            command="vouchgate admin accept-clock",
        )
    for process in processes:
        if process.state == "down":
            title = f"the process `{process.name}` is down"
            yield Need(kind="process-down", severity="act", subject=process.name, title=title, detail=process.detail)
    if broken_until(context) > context.clock.now():
        reason = context.facts.settings[GLASS].partition(" ")[2]
        yield Need(
            kind="break-glass",
            severity="act",
            subject="administration",
            title="break-glass stands open",
            detail=f"the offline root let one user administer: {reason}",
            remedy="find out who signed it; it ends by itself within an hour",
        )


def _coming(context: Context, checkpoints: Checkpoints) -> Iterator[Need]:
    """What will be refused, or is not yet proved."""
    for one in zone_states(context):
        if one.would_deny:
            kinds = f"{one.would_deny} kind{'' if one.would_deny == 1 else 's'} of call"
            yield Need(
                kind="would-deny",
                severity="soon",
                subject=one.zone.name,
                title=f"enforcing `{one.zone.name}` would refuse {kinds}",
                count=one.would_deny,
                command=f"vouchgate adopt {one.zone.name} --plan",
            )
    if checkpoints.trouble:
        title = "the newest checkpoint is not cosigned"
        yield Need(kind="witness", severity="soon", subject="log", title=title, detail=checkpoints.trouble)


def _drifts(context: Context) -> Iterator[Need]:
    """Points that enforce otherwise than is meant: one need each."""
    points = {one.point: [other for other in context.drifts if other.point == one.point] for one in context.drifts}
    for point, found in points.items():
        first = found[0]
        yield Need(
            kind="drift",
            severity="act",
            subject=point,
            title=f"the {point} enforces otherwise than is meant: {first.kind} {first.what}",
            detail=first.detail,
            remedy="find out who changed it; restart it if nobody says",
            count=len(found),
            command="vouchgate zones drift",
        )


def _waivers(context: Context) -> Iterator[Need]:
    """What is done without, and for how long."""
    now, found, waiting = context.clock.now(), waive.standing(context), waive.waiting_count(context)
    if waiting:
        title = f"{waiting} waiver{'s wait' if waiting > 1 else ' waits'} for a second person"
        yield Need(kind="waiver", severity="soon", subject="waivers", title=title, count=waiting, command="vouchgate waive list")
    if found:
        ends = min(found, key=lambda one: one.expires_at)
        days = (ends.expires_at - now) // DAY_MS
        yield Need(
            kind="waiver",
            severity="soon" if days < WAIVER_DAYS_LEFT else "note",
            subject=ends.subjects[0].name,
            title=f"{len(found)} waiver{'s stand' if len(found) > 1 else ' stands'}, 1 ends in {f'{days} days' if days > 1 else 'a day'}",
            detail=f"without `{ends.claims['control']}`: {ends.claims['reason']}",
            remedy="have the evidence made, or let two persons renew the waiver",
            count=len(found),
            command="vouchgate waive list",
        )


def _approvals(context: Context) -> Iterator[Need]:
    """Requests that a person has to agree to, before their time is over."""
    waiting = context.facts.approvals.waiting(context.clock.now())
    if waiting:
        title = f"{waiting} request{'s wait' if waiting > 1 else ' waits'} for a person to agree"
        yield Need(kind="approval", severity="soon", subject="approvals", title=title, count=waiting, command="vouchgate approve list")


def _proposed(context: Context) -> Iterator[Need]:
    """A policy that one person proposed."""
    waiting = proposal(context)
    if waiting is not None:
        yield Need(
            kind="policy",
            severity="soon",
            subject="policy",
            title="a policy waits for a second person",
            detail=f"proposed by {waiting.author}, sha256 {waiting.sha256}",
            remedy="read it, compare it with the one in force, and apply the same text as another person",
            command="vouchgate policy history",
        )


def _lasting(context: Context) -> Iterator[Need]:
    """What is so by configuration."""
    if not context.place.isolated:
        yield Need(
            kind="isolation",
            severity="note",
            subject="processes",
            title="processes are not isolated from each other",
            detail="they share one uid",
            remedy="start `vouchgate up` as root",
        )
    yield Need(kind="witness", severity="note", subject="log", title="no outside witness", detail=OWN_MACHINE)
    if context.settings.solo:
        yield Need(
            kind="solo",
            severity="note",
            subject="administration",
            title="one person may author and approve the same change",
            detail="`solo` is set",
            remedy="set `solo = false` and name two administrators",
        )
