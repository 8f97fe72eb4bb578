"""What lets the callers of a zone go on once it is enforced: for each the ready Cedar line, or the commands that come before it.

1. A line names one caller, one action and one thing: least privilege by construction. Whoever approves it may widen it.
2. What a line cannot mend stands before it as commands: an identity for who proved none, evidence for what nobody vouched for, a crossing.
   A line opens nothing past a `forbid`: then the reason of the `forbid` is the remedy.
3. Each line is tried: the policies with it are compiled, and the call decided again. `proved` says that it passes with the line, in enforce, as the
   facts are now; whoever needs a command first is not proved.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vouchgate.flows.context import Context
from vouchgate.flows.facts import Facts
from vouchgate.identity.verify import registered
from vouchgate.policy import facts as world_facts
from vouchgate.policy.compile import CompiledPolicies
from vouchgate.policy.decide import decide
from vouchgate.vocabulary.answers import WouldRefuse
from vouchgate.vocabulary.answers_zones import ReadyLine
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.names import principal_parts, resource_parts
from vouchgate.vocabulary.vouches import UnixMillis

MAX_LINES = 500
"""Callers of one plan; each is decided twice."""
SOURCE = "adopt.cedar"


def ready_lines(context: Context, refused: Sequence[WouldRefuse], zone: str) -> tuple[ReadyLine, ...]:
    """Rules 1 to 3, for each call that enforcing refuses."""
    facts, now = context.facts, context.clock.now()
    made = [_line(context, one, zone, number) for number, one in enumerate(refused[:MAX_LINES])]
    lines = "\n".join(one.cedar for one in made if one.cedar)
    try:
        policies = compiled_with(facts, lines)
    except VouchgateError:
        return tuple(made)
    return tuple(_tried(facts, policies, one, now) for one in made)


def compiled_with(facts: Facts, text: str) -> CompiledPolicies:
    """The policy in force and a few lines more. Raises `InvalidPolicy`."""
    sources = facts.policy.sources if facts.policy else ()
    return facts.compiled((*sources, (SOURCE, text)), version=facts.policy.version if facts.policy else 0)


def decided(facts: Facts, policies: CompiledPolicies, who: str, action: str, name: str, now: UnixMillis) -> Decision | None:
    """The call as it would be decided in enforce; none for who is not registered."""
    registration = facts.registration_of(who, now)
    if registration is None:
        return None
    caller = registered(registration, now)
    made = decide(
        caller,
        action,
        name,
        facts.world,
        {},
        policies=policies,
        risk=facts.risk_of(who, name),
        unknown=world_facts.REQUEST_FACTS,
        now=now,
        mode="enforce",
        evidence_epoch=facts.epoch,
    )
    struck = facts.revocation_of(who, caller.credential_id)
    if struck is None:
        return made
    # no policy lets a revoked caller through
    return msgspec.structs.replace(
        made, effect="deny", would_be="deny", residual=False, missing=(), reason=f"it was revoked: {struck.reason}", remedy=""
    )


def _line(context: Context, one: WouldRefuse, zone: str, number: int) -> ReadyLine:
    facts, now = context.facts, context.clock.now()
    if facts.registration_of(one.principal, now) is None or not one.authenticated:
        return _stranger(one, zone, number)
    decision = decided(facts, facts.policies, one.principal, one.action, one.resource, now) if facts.policies else None
    commands = tuple(dict.fromkeys(missing.remedy for missing in decision.missing if missing.remedy)) if decision else ()
    permitted = decision is not None and decision.would_be == "allow"
    needs = () if permitted else commands
    said = "the caller has what it needs by now" if permitted else (decision.reason if decision else one.reason)
    return ReadyLine(
        principal=one.principal,
        action=one.action,
        resource=one.resource,
        count=one.count,
        cedar="" if permitted else cedar_line(one.principal, one.action, one.resource, zone, number),
        commands=needs,
        why=said,
    )


def _stranger(one: WouldRefuse, zone: str, number: int) -> ReadyLine:
    """Rule 2, for who proved nothing: an identity first; the line is for it."""
    name = one.principal.rpartition("/")[2]
    try:
        td = resource_parts(one.resource).trust_domain
    except VouchgateError:
        td = principal_parts(one.principal).trust_domain
    who = f"spiffe://{td}/service/{zone}/{name}"[:2048]
    return ReadyLine(
        principal=one.principal,
        action=one.action,
        resource=one.resource,
        count=one.count,
        cedar=cedar_line(who, one.action, one.resource, zone, number),
        commands=(f"vouchgate identity register service {zone} {name} --selector unix:uid=UID",),
        why=f"it proves no identity: give it one, `{who}`",
    )


def cedar_line(who: str, action: str, name: str, zone: str, number: int) -> str:
    """Rule 1."""
    kind = resource_parts(name).kind.capitalize()
    title = f"adopt-{zone}-{number + 1}"
    return f'@id("{title}")\npermit (principal == Principal::"{who}", action == Action::"{action}", resource == {kind}::"{name}");'


def _tried(facts: Facts, policies: CompiledPolicies, line: ReadyLine, now: UnixMillis) -> ReadyLine:
    """Rule 3."""
    if not line.cedar:
        return msgspec.structs.replace(line, proved=not line.commands)
    made = decided(facts, policies, line.principal, line.action, line.resource, now)
    passes = made is not None and made.would_be == "allow"
    if made is not None and not passes:
        more = tuple(one.remedy for one in made.missing if one.remedy) or ((made.remedy,) if made.remedy else ())
        return msgspec.structs.replace(line, commands=tuple(dict.fromkeys((*line.commands, *more))), why=made.reason)
    return msgspec.structs.replace(line, proved=passes, commands=() if passes else line.commands)
