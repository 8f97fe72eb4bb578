"""Withdraw a target, and everything that rests on it, everywhere, now.

1. What is meant: the target's kind is told from its form where it is not given; a short name is looked up.
2. The plan: which vouches, endpoints and callers fall. With `plan` that is the answer.
3. One change: durable, then pushed before anything is decided again (publish.py).
4. The answer says for each enforcement point `enforced` when it acknowledged, or until when its lease still runs.
Undo is a new signed statement by another person (with `solo` the same one); afterwards decisions equal those that would hold without either.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.allowances_standing import REVOKER as FORFEITED
from vouchgate.flows.changes import Revoked
from vouchgate.flows.context import Context
from vouchgate.flows.seats import GATEWAY
from vouchgate.flows.vouch_states import state_of
from vouchgate.vocabulary.answers import Approved, Caller, PointOutcome, RevokeOutcome, RevokeRequest
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import InvalidInput, NotFound, NotPermitted
from vouchgate.vocabulary.names import principal_id
from vouchgate.vocabulary.places import DEFAULT_LEASE_SECONDS
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import Revocation, TargetKind, UnixMillis

LOOK_SECONDS = 0.01
"""Between two looks at whether maps were pushed."""
ACKNOWLEDGE_SECONDS = 2.0
"""How long an answer waits for the points; after that their leases bound it."""
MIN_SERIAL_DIGITS, MAX_SERIAL_DIGITS = 24, 42
"""A serial number of ours has 159 random bits, at most 20 bytes and a sign (RFC 5280, section 4.1.2.2); a token's id has 22 characters."""
_HEX = frozenset("0123456789abcdef")


def meant(context: Context, kind: str, target: str) -> tuple[TargetKind, str]:
    """Step 1. Raises `InvalidInput` or `NotFound`."""
    facts = context.facts
    if not kind:
        if target.startswith("spiffe://"):
            kind = "principal"
        elif target.startswith("sha256"):
            kind = "digest"
        elif target.startswith("vg://") and "/artifact/" in target:
            kind, target = "digest", target.rpartition("/")[2]
        elif target in facts.lineage.vouches:
            kind = "vouch"
        elif any(key.key_id == target for key in (facts.trust_root.keys if facts.trust_root else ())):
            kind = "key"
        else:
            return _short(context, target)
    if kind in {"principal", "registration"}:
        target = _whole_principal(context, target) if target.startswith("spiffe://") else _short_principal(context, target)
    if kind == "digest":
        target = parse_digest(target).text
    if kind == "credential":
        target = _credential(target)
    if kind in {"vouch", "key"} and (len(target) != 64 or not set(target) <= _HEX):
        raise InvalidInput(f"`{target[:80]}` is not an id", remedy="give the 64 hexadecimal digits")
    return kind, target  # type: ignore[return-value]


def _credential(text: str) -> str:
    """A token's id as it is; a certificate's serial number in the spelling that the gateway compares, however a tool showed it."""
    digits = text.replace(":", "").lower()
    if len(digits) < MIN_SERIAL_DIGITS or not set(digits) <= _HEX:
        return text
    if len(digits) > MAX_SERIAL_DIGITS:
        raise InvalidInput(
            f"`{text[:80]}` is a fingerprint, and a certificate is revoked by its serial number: the holder can respell what a fingerprint covers",
            remedy="give the serial number: `openssl x509 -noout -serial -in FILE`",
        )
    digits = digits.lstrip("0")
    return digits.zfill(len(digits) + len(digits) % 2)


def _whole_principal(context: Context, text: str) -> str:
    """A partner's caller is struck by our name for it: its own name is in no map, and revoking that would withdraw nothing."""
    if text.startswith(f"spiffe://{context.trust_domain}/"):
        return principal_id(text)
    alias = context.facts.alias_of(text, context.clock.now())
    if alias is None:
        raise NotFound(
            f"`{text[:160]}` is not of this trust domain, and nothing stands for it here",
            remedy="`vouchgate identity list` shows who is registered; whoever is not is refused already",
        )
    return alias.principal


def _short_principal(context: Context, text: str) -> str:
    kind, target = _short(context, text)
    if kind != "principal":
        raise NotFound(f"`{text[:80]}` is no principal but a {kind}", remedy="leave out `--kind`, or give the whole name")
    return target


def _short(context: Context, text: str) -> tuple[TargetKind, str]:
    callers = [one for one in context.facts.registrations if one.rpartition("/")[2] == text]
    endpoints = [one for one in context.facts.endpoints.values() if one.id.rpartition("/")[2] == text and one.model_digest]
    vouches = [one for one in context.facts.lineage.vouches if len(text) >= 8 and one.startswith(text)]
    if len(callers) + len(endpoints) + len(vouches) > 1:
        raise InvalidInput(f"`{text[:80]}` is ambiguous", remedy="give the whole name, or `--kind`")
    if callers:
        return "principal", callers[0]
    if endpoints:
        return "digest", endpoints[0].model_digest
    if vouches:
        return "vouch", vouches[0]
    raise NotFound(
        f"nothing is known of `{text[:80]}`", remedy="give a principal, a digest, a vouch's or a key's id; `vouchgate status` lists them"
    )


async def revoke(context: Context, caller: Caller, request: RevokeRequest) -> RevokeOutcome:
    """Steps 1 to 4. Raises `NotPermitted`, `InvalidInput`, `NotFound`."""
    started = time.monotonic()
    await authorise(context, caller, "explain" if request.plan else "revoke")
    kind, target = meant(context, request.kind, request.target)
    now = context.clock.now()
    revocation = Revocation(
        id=secrets.token_hex(8),
        trust_domain=context.facts.trust_domain,  # type: ignore[arg-type]
        target_kind=kind,
        target=target,
        cascade=request.cascade,
        as_of_index=0,
        reason=request.reason[:500],
        requested_by=caller.principal.principal.id,
        made_at=now,
    )
    fallen, endpoints, callers, grants = plan(context, revocation)
    outcome = RevokeOutcome(
        planned=request.plan,
        target_kind=kind,
        target=target,
        vouches=fallen,
        endpoints=endpoints,
        callers=callers,
        grants=grants,
    )
    if request.plan:
        return outcome
    entries = [Append(entry=ocsf.revocation(revocation, now=now), label=revocation.id)]
    made = await context.sequencer.submit(caller.principal.principal.id, [Revoked(revocation=revocation)], entries)
    points = await enforced(context, started)
    return msgspec.structs.replace(
        outcome,
        revocation=revocation,
        points=points,
        epoch=made[0].epoch,
        undo=f"vouchgate revoke --undo {revocation.id}",
    )


def plan(context: Context, revocation: Revocation) -> tuple[tuple, tuple[str, ...], tuple[str, ...], int]:  # type: ignore[type-arg]
    """Step 2: (vouches, endpoints that nobody may call, callers that lose a grant, grants)."""
    facts, now = context.facts, context.clock.now()
    affected = facts.lineage.affected(revocation)
    vouches = tuple(state_of(facts, facts.lineage.vouches[one], now, "revoked") for one in sorted(affected.vouches))
    endpoints = {one.id for one in facts.endpoints.values() if one.model_digest in affected.digests or one.id in affected.subjects}
    if revocation.target_kind == "digest":
        endpoints |= {one.id for one in facts.endpoints.values() if one.model_digest == revocation.target}
    publisher = context.publisher
    lost = [caller for caller, said in (publisher.said(endpoints) if endpoints else ()) if said.would_be == "allow"]
    lost += [
        revocation.target for said in publisher.said_of(revocation.target) if said.would_be == "allow" and said.resource not in endpoints
    ]
    return vouches, tuple(sorted(endpoints)), tuple(sorted(set(lost))), len(lost)


async def enforced(context: Context, started: float, *, maps: bool = False) -> tuple[PointOutcome, ...]:
    """Step 4. `maps`: what was done is enforced by the maps alone, each of which has to be decided and pushed anew."""
    pushed = await _maps_pushed(context) if maps else True
    # a gateway that is not connected (a control plane that just started has heard of none) goes on by its lease
    acknowledged = {GATEWAY: False, **await context.points.wait_enforced(timeout=ACKNOWLEDGE_SECONDS)}
    after = round((time.monotonic() - started) * 1000, 2)
    now = context.clock.now()
    lease = max((zone.lease_seconds for zone in context.facts.zones.values()), default=DEFAULT_LEASE_SECONDS)
    return tuple(
        PointOutcome(point=point, outcome="enforced", at=now, after_ms=after)
        if did and pushed
        else PointOutcome(point=point, outcome="expires-by-lease", at=UnixMillis(now + 1000 * lease))
        for point, did in sorted(acknowledged.items())
    )


async def _maps_pushed(context: Context) -> bool:
    """Whether, in time, nothing waits to be decided and every connected point holds the newest maps."""
    until = time.monotonic() + ACKNOWLEDGE_SECONDS
    while context.publisher.undecided or any(one.maps_behind for one in context.points.status().points):
        if time.monotonic() >= until:
            return False
        await asyncio.sleep(LOOK_SECONDS)
    return True


async def unrevoke(context: Context, caller: Caller, revocation_id: str, reason: str) -> Approved:
    """Undo. Raises `NotPermitted` for the person who made the revocation, `NotFound`."""
    started = time.monotonic()
    await authorise(context, caller, "unrevoke")
    standing = context.facts.revocations.get(revocation_id)
    if standing is None or standing.withdrawn_by:
        raise NotFound(f"no standing revocation has the id `{revocation_id[:64]}`", remedy="list them: `vouchgate status`")
    who = caller.principal.principal.id
    if standing.requested_by == FORFEITED:
        raise NotPermitted("an author of the artifact answered for it, and nobody undoes that", remedy="let somebody else answer for it")
    if who == standing.requested_by and not context.settings.solo:
        raise NotPermitted("whoever made a revocation does not undo it", remedy="ask another responder")
    now = context.clock.now()
    withdrawn = msgspec.structs.replace(standing, withdrawn_by=secrets.token_hex(8), approved_by=who)
    entries = [
        Append(entry=ocsf.revocation(withdrawn, now=now), label=revocation_id),
        act_entry(context, caller, "withdraw-revocation", "", "done", {"revocation": revocation_id, "reason": reason[:500]}),
    ]
    made = await context.sequencer.submit(who, [Revoked(revocation=withdrawn)], entries)
    return Approved(
        id=revocation_id, done=True, detail="the revocation no longer stands", epoch=made[0].epoch, points=await enforced(context, started)
    )
