"""Two persons let one missing piece of evidence about one subject pass for a time; a signed vouch says so.

1. Ask: a person who authors policy, approves, or may waive names one control, one subject that is known, an end at most `MAX_DAYS` away, and
   why. What failed or was revoked is not waived, and what is there needs no waiver.
2. Agree: another person whom policy lets `waive` that subject. Everything of step 1 is looked at again, the first person's right to ask
   included; a request is used up by the transaction that records the waiver, and lapses after `OPEN_HOURS`.
3. From then on it counts (facts_waivers.py) until its end or its revocation, whatever happened to either person's roles since.
4. A renewal is a new waiver: two persons again, counted. With `solo` one person asks and agrees, and the waiver says so.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator

from vouchgate.audit import ocsf
from vouchgate.evidence.catalog import predicates
from vouchgate.evidence.statement import read_vouch
from vouchgate.evidence.waivers import WAIVER, check_control, check_subject
from vouchgate.flows.administer import act_entry, authorise, system_of
from vouchgate.flows.changes import VouchAdded
from vouchgate.flows.context import Context
from vouchgate.flows.facts_waivers import in_force
from vouchgate.flows.revoke import enforced
from vouchgate.identity.verify import registered
from vouchgate.policy.facts import resource_uid
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers import Caller, PointOutcome
from vouchgate.vocabulary.answers_approvals import Waiver, WaiveRequest
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotFound, NotPermitted
from vouchgate.vocabulary.names import PrincipalId, principal_id, principal_parts, resource, resource_id, resource_parts
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.records import Append, DeleteRecord, PutRecord
from vouchgate.vocabulary.records import Change as Step
from vouchgate.vocabulary.vouches import Method, Subject, UnixMillis, Vouch
from vouchgate.vocabulary.wire import to_plain

MAX_DAYS = 90
"""Days from now at which a waiver ends at the latest."""
OPEN_HOURS = 24
"""Hours within which the second person must agree."""
MAX_WAITING = 128
"""Requests that wait at once; a second person reads each."""
MAX_STANDING = 1_000
"""Waivers that stand at once; with more, the policy is what needs to change."""
SHOWN_DAYS = 30
"""Days for which an ended waiver is still listed."""
MAX_SHOWN = 500
"""Waivers of one list, the newest; each is compared with all that were."""
KIND = "waiver-request"
"""Kind of the record that holds a request."""
SUBJECTS = frozenset({"artifact", "dataset", "model", "adapter", "endpoint"})
"""Kinds of things whose evidence can be waived; a caller's can be too."""
ASKING: tuple[tuple[str, bool], ...] = (("administer:author-policy", True), ("approve", False), ("waive", False))
"""Actions of which one lets a person ask for a waiver, and whether it is asked of the control plane as a whole."""
DAY_MS, HOUR_MS = 86_400_000, 3_600_000


class Asked(wire.Noun, frozen=True, kw_only=True):
    """A request that waits."""

    id: str
    control: str
    subject: Subject
    until: UnixMillis
    why: str
    requester: str
    asked_at: UnixMillis
    waits_until: UnixMillis


async def ask(context: Context, caller: Caller, request: WaiveRequest) -> Waiver:
    """Step 1; with `solo` step 2 at once. Raises `NotPermitted`, `InvalidInput`, `NotFound`, `Conflict`, `LimitExceeded`."""
    check_control(request.control, predicates())
    subject = subject_of(context, request.subject)
    await _authorise_asking(context, caller, subject)
    now, who = context.clock.now(), caller.principal.principal.id
    asked = Asked(
        id=f"w-{secrets.token_hex(8)}",
        control=request.control,
        subject=subject,
        until=request.until,
        why=request.why,
        requester=_person(who),
        asked_at=now,
        waits_until=UnixMillis(min(request.until, now + OPEN_HOURS * HOUR_MS)),
    )
    _check(context, asked, now)
    if context.settings.solo:
        await authorise(context, caller, "waive", _target(context, subject))
        return await _agreed(context, caller, asked, [])
    waiting = _waiting(context)
    lapsed = [DeleteRecord(kind=KIND, key=one.id) for one in waiting if one.waits_until <= now]
    if len(waiting) - len(lapsed) >= MAX_WAITING:
        raise LimitExceeded(f"{MAX_WAITING} requests wait for a second person", remedy="agree to some, or withdraw them")
    steps: list[Step] = [*lapsed, PutRecord(kind=KIND, key=asked.id, value=wire.encode(asked), must_be_new=True)]
    entry = act_entry(context, caller, "ask-waiver", subject.name, "done", _detail(asked))
    await context.sequencer.append(who, [entry], steps=steps)
    return _line_of_asked(context, asked)


async def agree(context: Context, caller: Caller, request_id: str) -> Waiver:
    """Step 2. Raises `NotPermitted`, `NotFound`, `Conflict`."""
    asked = _find(context, request_id)
    await authorise(context, caller, "waive", _target(context, asked.subject))
    who, now = _person(caller.principal.principal.id), context.clock.now()
    if who == asked.requester and not context.settings.solo:
        raise NotPermitted("whoever asks for a waiver does not agree to it", remedy="let another person whom policy lets `waive` agree")
    registration = context.facts.registration_of(PrincipalId(asked.requester), now)
    if registration is None or not _may_ask(context, registered(registration, now), asked.subject):
        raise Conflict(f"`{asked.requester}` may no longer ask for a waiver", remedy="let somebody who may ask for it anew")
    if asked.waits_until <= now:
        raise Conflict("the request has lapsed", remedy="ask for it anew")
    _check(context, asked, now)
    with _alone(context, asked.id):
        return await _agreed(context, caller, asked, [DeleteRecord(kind=KIND, key=asked.id, must_exist=True)])


async def withdraw(context: Context, caller: Caller, request_id: str) -> Waiver:
    """Take a request back, or refuse it: by who asked, or by who could have agreed. Raises `NotPermitted`, `NotFound`."""
    asked = _find(context, request_id)
    if caller.principal.principal.id != asked.requester:
        await authorise(context, caller, "waive", _target(context, asked.subject))
    entry = act_entry(context, caller, "withdraw-waiver", asked.subject.name, "done", _detail(asked))
    with _alone(context, asked.id):
        step = DeleteRecord(kind=KIND, key=asked.id, must_exist=True)
        await context.sequencer.append(caller.principal.principal.id, [entry], steps=[step])
    return _line_of_asked(context, asked, state="ended")


async def look(context: Context, caller: Caller) -> tuple[Waiver, ...]:
    """The list, for whoever may read or may have a part in it. Raises `NotPermitted`."""
    if not any(context.facts.decide(caller.principal, one, system_of(context), context.clock.now()).effect == "allow" for one, _ in ASKING):
        await authorise(context, caller, "read")
    return listed(context)


def listed(context: Context) -> tuple[Waiver, ...]:
    """Requests that wait, what stands, and what ended lately, in this order."""
    now = context.clock.now()
    waiting = [_line_of_asked(context, one) for one in _waiting(context) if one.waits_until > now]
    shown = [one for one in context.facts.waivers.values() if one.expires_at > now - SHOWN_DAYS * DAY_MS][-MAX_SHOWN:]
    made = [_line_of(context, one, now) for one in shown]
    rank = {"in-force": 0, "held-back": 1, "not-needed": 2, "revoked": 3, "ended": 4}
    return (*waiting, *sorted(made, key=lambda one: (rank[one.state], one.until, one.id)))


def standing(context: Context) -> list[Vouch]:
    """Waivers that have neither ended nor been revoked."""
    now, lineage = context.clock.now(), context.facts.lineage
    return [one for one in context.facts.waivers.values() if one.not_before <= now < one.expires_at and not lineage.revoked(one)]


def waiting_count(context: Context) -> int:
    """Requests that wait for a second person."""
    now = context.clock.now()
    return sum(one.waits_until > now for one in _waiting(context))


def subject_of(context: Context, text: str) -> Subject:
    """What is meant, in the one spelling that vouches use. Raises `InvalidInput`, `NotFound`."""
    facts = context.facts
    if text.startswith("sha256"):
        digest = parse_digest(text)
        return Subject(name=resource(context.trust_domain, "artifact", digest.text), digest=digest)
    name = text if "://" in text else _short(context, text)
    if name.startswith("spiffe://"):
        if facts.registration_of(principal_id(name), context.clock.now()) is None:
            raise NotFound(f"`{name[:160]}` is not registered", remedy="list them: `vouchgate identity list`")
        return Subject(name=name)
    parts = resource_parts(resource_id(name))
    if parts.trust_domain != context.trust_domain or parts.kind not in SUBJECTS:
        raise InvalidInput(
            f"evidence about `{name[:160]}` cannot be waived",
            remedy=f"name one caller of this trust domain, or one {', '.join(sorted(SUBJECTS))}",
        )
    return Subject(name=name, digest=parse_digest(parts.name) if parts.kind == "artifact" else None)


def _short(context: Context, text: str) -> str:
    facts = context.facts
    names = {*facts.registrations, *facts.endpoints, *facts.assets}
    found = sorted(one for one in names if one.rpartition("/")[2] == text)
    if len(found) > 1:
        raise InvalidInput(f"`{text[:80]}` is ambiguous", remedy=f"give the whole name: {', '.join(found[:4])}")
    if not found:
        raise NotFound(f"nothing is known of `{text[:80]}`", remedy="give a digest, or a whole name; `vouchgate status` lists them")
    return found[0]


def _target(context: Context, subject: Subject) -> str:
    """What the act is decided on: the thing itself; for a caller, the control plane."""
    return system_of(context) if subject.name.startswith("spiffe://") else subject.name


def _may_ask(context: Context, who: VerifiedPrincipal, subject: Subject) -> bool:
    now = context.clock.now()
    asked = ((action, system_of(context) if whole else _target(context, subject)) for action, whole in ASKING)
    return any(context.facts.decide(who, action, target, now).effect == "allow" for action, target in asked)


async def _authorise_asking(context: Context, caller: Caller, subject: Subject) -> None:
    if not _may_ask(context, caller.principal, subject):
        await authorise(context, caller, "waive", _target(context, subject))


def _person(name: str) -> str:
    if principal_parts(name).kind != "person":
        raise NotPermitted(f"`{name}` is no person, and a waiver is an agreement of two", remedy="let a person ask, and another one agree")
    return name


def _check(context: Context, asked: Asked, now: UnixMillis) -> None:
    """What must hold when it is asked for and when it is agreed to."""
    facts, name, control = context.facts, asked.subject.name, asked.control
    check_subject(control, asked.subject, predicates())
    if not name.startswith("spiffe://") and resource_uid(name) not in facts.world:
        raise NotFound(f"nothing is known of `{name[:160]}`", remedy="check the name, or take it in first: `vouchgate import FILE`")
    if not now < asked.until <= now + MAX_DAYS * DAY_MS:
        raise InvalidInput(f"a waiver ends in the future, within {MAX_DAYS} days", remedy="choose an earlier end, and renew it then")
    known = facts.known_of(name, now)
    digests = [one.rpartition("/")[2] for one in (name, *(part.name for part in _content(context, name))) if "/artifact/" in one]
    struck = facts.revocation_of(name) if name.startswith("spiffe://") else None
    predicate = control.partition("@")[0]
    if struck is not None or any(facts.lineage.tainted(one) for one in digests) or any(predicate in part.against for part in known):
        raise Conflict(
            f"something about `{name.rpartition('/')[2][:80]}` failed or was revoked, and no waiver stands over that",
            remedy="look at it: `vouchgate evidence show`; replace what failed, or have the revocation withdrawn",
        )
    if any(control in one.strings for part in known for one in part.held):
        raise Conflict(f"`{control}` holds, so there is nothing to waive", remedy="ask again if it lapses")
    if len(standing(context)) >= MAX_STANDING:
        raise LimitExceeded(f"{MAX_STANDING} waivers stand", remedy="revoke those that are no longer needed, or change the policy")


def _content(context: Context, name: str) -> list[Subject]:
    asset = context.facts.assets.get(name)
    return [Subject(name=resource(context.trust_domain, "artifact", asset.digest))] if asset is not None and asset.digest else []


async def _agreed(context: Context, caller: Caller, asked: Asked, steps: list[DeleteRecord]) -> Waiver:
    """Sign, record, push."""
    started, now, who = time.monotonic(), context.clock.now(), caller.principal.principal.id
    signed = await context.signer.call(
        "vouch",
        role="approver",
        predicate_type=WAIVER,
        predicate_version=1,
        subjects=[to_plain(asked.subject)],
        outcome="pass",
        not_before=now,
        expires_at=asked.until,
        tier="declared",
        method=to_plain(Method(tool="vouchgate-waive", version="1")),
        claims={"control": asked.control, "reason": asked.why, "requester": asked.requester, "approver": who},
    )
    vouch = read_vouch(signed["envelope"]).vouch
    # while it was signed, something may have failed or been revoked
    _check(context, asked, context.clock.now())
    entries = [
        Append(entry=ocsf.vouch(vouch, now=now), label=vouch.id),
        act_entry(context, caller, "waive", asked.subject.name, "done", _detail(asked) | {"vouch": vouch.id}),
    ]
    await context.sequencer.submit(who, [VouchAdded(id=vouch.id, envelope=signed["envelope"])], entries, steps=steps)
    return _line_of(context, vouch, context.clock.now(), points=await enforced(context, started))


@contextlib.contextmanager
def _alone(context: Context, request_id: str) -> Iterator[None]:
    """One agreement or withdrawal of a request at a time."""
    token = f"{KIND}/{request_id}"
    if token in context.once:
        raise Conflict("somebody is deciding on this request right now", remedy="look again in a second: `vouchgate waive list`")
    context.once.add(token)
    try:
        yield
    finally:
        context.once.discard(token)


def _waiting(context: Context) -> list[Asked]:
    rows = context.store.scan(KIND, limit=4 * MAX_WAITING)
    return [wire.decode(Asked, row.value, what="waiver request") for row in rows]


def _find(context: Context, request_id: str) -> Asked:
    known = context.store.get(KIND, request_id[:64]) if request_id else None
    if known is None:
        raise NotFound(f"no request `{request_id[:64]}` waits", remedy="list them: `vouchgate waive list`")
    return wire.decode(Asked, known, what="waiver request")


def _detail(asked: Asked) -> dict[str, str | int]:
    return {"request": asked.id, "control": asked.control, "until": asked.until, "reason": asked.why, "requester": asked.requester}


def _line_of_asked(context: Context, asked: Asked, *, state: str = "waits") -> Waiver:
    return Waiver(
        id=asked.id,
        state=state,  # type: ignore[arg-type]
        control=asked.control,
        subject=asked.subject.name,
        until=asked.until,
        why=asked.why,
        requester=asked.requester,
        waits_until=asked.waits_until,
        renewals=_earlier(context, asked.control, asked.subject.name, context.clock.now()),
    )


def _line_of(context: Context, vouch: Vouch, now: UnixMillis, *, points: tuple[PointOutcome, ...] = ()) -> Waiver:
    claims, name = vouch.claims, vouch.subjects[0].name
    return Waiver(
        id=vouch.id,
        state=_state(context, vouch, now),  # type: ignore[arg-type]
        control=claims["control"],
        subject=name,
        until=vouch.expires_at,
        why=claims["reason"],
        requester=claims["requester"],
        approver=claims["approver"],
        agreed_at=vouch.issued_at,
        renewals=_earlier(context, claims["control"], name, vouch.issued_at),
        solo=claims["requester"] == claims["approver"],
        points=points,
    )


def _state(context: Context, vouch: Vouch, now: UnixMillis) -> str:
    if context.facts.lineage.revoked(vouch):
        return "revoked"
    if vouch.expires_at <= now:
        return "ended"
    known, control = context.facts.known_of(vouch.subjects[0].name, now), str(vouch.claims["control"])
    if any(one.vouch_id == vouch.id for one in in_force(known)):
        return "in-force"
    return "held-back" if any(control.partition("@")[0] in part.against for part in known) else "not-needed"


def _earlier(context: Context, control: str, name: str, at: UnixMillis) -> int:
    same = (one for one in context.facts.waivers.values() if one.claims["control"] == control and one.subjects[0].name == name)
    return sum(one.issued_at < at for one in same)
