"""Say which facts earn which identity: register, unregister, and hand out join tokens.

1. The act is decided. 2. What vouchgate.toml names is changed there alone. 3. A role is given, taken, or put within reach of other facts only
by who holds it. 4. One registrar makes a bounded number a minute. 5. The change and its entry are one transaction; whoever waits for the
identity is told at once (flows/workload.py).
Join tokens: 256 random bits, shown once, kept as a hash, used once, ended by time; one earns the one registration it was made for, which has
no other way to be earned. `JOIN + hash` among the settings says until when; an empty value says that it was used.
"""

from __future__ import annotations

import re
import secrets

import msgspec

from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.changes import Change, RegistrationPut, RegistrationRemoved, SettingPut
from vouchgate.flows.context import Context
from vouchgate.identity.catalog import can_earn
from vouchgate.identity.join_tokens import RANDOM_BYTES, make_join_token
from vouchgate.identity.x509svid import check_dns
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_identities import JoinToken, JoinTokenRequest, RegistrationRequest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotFound, NotPermitted
from vouchgate.vocabulary.habits import check_networks, hours_of
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, principal
from vouchgate.vocabulary.names import trust_domain as checked_trust_domain
from vouchgate.vocabulary.principals import ALIAS_ZONE, FOREIGN_ID, Registration, Selector, svid_seconds
from vouchgate.vocabulary.vouches import UnixMillis

NOT_REGISTERED_KINDS = frozenset({"system", "declared"})
"""Kinds of principal that nobody can be registered as."""
MAX_SELECTORS = 32
"""Selectors of one registration; real ones have one to five."""
MAX_SELECTOR_VALUE = 1_024
"""Characters of a selector's value: a path, a repository, a certificate's subject."""
MAX_GROUPS = 64
"""Groups of one registration; the policy world takes 256 and refuses to be built over more."""
MAX_FEDERATED = 64
"""Foreign trust domains whose bundles one workload is given."""
MAX_SVID_SECONDS, MIN_SVID_SECONDS = 86_400, 60
"""Seconds a certificate may live."""
MAX_JWT_SECONDS, MIN_JWT_SECONDS = 300, 10
"""Seconds a token may live."""
JOIN_SELECTOR = "join:token"
JOIN = "join/"
"""Setting of a join token, followed by its hash."""
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}\Z")
_SELECTOR = re.compile(r"[a-z0-9]{2,24}(?:\.[a-z0-9][a-z0-9._-]{0,63})?(?::[A-Za-z0-9._/-]{1,96}){1,3}\Z")


async def register(context: Context, caller: Caller, request: RegistrationRequest) -> Registration:
    """Make or change a registration. Raises `NotPermitted`, `InvalidInput`, `Conflict`, `LimitExceeded`."""
    await authorise(context, caller, "register")
    if request.kind in NOT_REGISTERED_KINDS:
        raise InvalidInput(f"nobody is registered as `{request.kind}`", remedy="use person, service, job, step, server, notebook or agent")
    name = principal(context.trust_domain, request.kind, request.zone, request.name)
    old = context.facts.registrations.get(name)
    _not_from_settings(old)
    require_roles(context, caller, (*request.groups, *(old.groups if old else ())), "give or move it")
    made = Registration(
        principal=name,
        trust_domain=TrustDomain(context.trust_domain),
        selectors=_checked_selectors(request.selectors),
        groups=checked_groups(request.groups),
        svid_ttl_seconds=_within(
            request.svid_seconds or svid_seconds(request.kind), MIN_SVID_SECONDS, MAX_SVID_SECONDS, "a certificate's life"
        ),
        jwt_ttl_seconds=_within(request.jwt_seconds or MAX_JWT_SECONDS, MIN_JWT_SECONDS, MAX_JWT_SECONDS, "a token's life"),
        dns=_not_our_hosts(context, request.dns),
        endpoint=_not_another_server(context, _endpoint_of(context, request.endpoint), name),
        federates_with=_checked_domains(request.federates_with),
        networks=check_networks(request.networks),
        hours=request.hours if hours_of(request.hours) else "",
        source="api",
        created_at=old.created_at if old else context.clock.now(),
        expires_at=_end(context, request.expires_at),
    )
    _check_alias(made, request.zone)
    tied = context.facts.tied(made)
    if tied is not None:
        raise Conflict(f"the same facts earn `{tied.principal}`, so neither would be earned", remedy="add a selector to one of them")
    await commit(context, caller, [RegistrationPut(registration=made)], "register", made.principal, {"groups": list(made.groups)})
    return made


async def unregister(context: Context, caller: Caller, name: str, reason: str) -> Registration:
    """Take a registration away: nothing is issued for it, and its grants end. Raises `NotFound`, `NotPermitted`, `Conflict`."""
    await authorise(context, caller, "unregister")
    old = context.facts.registrations.get(PrincipalId(name))
    if old is None:
        raise NotFound(f"`{name[:160]}` is not registered", remedy="list them: `vouchgate identity list`")
    _not_from_settings(old)
    require_roles(context, caller, old.groups, "take it")
    await commit(context, caller, [RegistrationRemoved(principal=name)], "unregister", name, {"reason": reason[:500]})
    return old


async def join_token(context: Context, caller: Caller, request: JoinTokenRequest) -> JoinToken:
    """A token that lets one workload earn a registration once. Raises `NotFound`, `NotPermitted`."""
    await authorise(context, caller, "join-token")
    old = context.facts.registration_of(PrincipalId(request.principal), context.clock.now())
    if old is None:
        raise NotFound(f"`{request.principal[:160]}` is not registered", remedy="register it first: `vouchgate identity register`")
    _not_from_settings(old)
    require_roles(context, caller, old.groups, "hand it on")
    if any(one.type != JOIN_SELECTOR for one in old.selectors):
        raise Conflict(f"`{old.principal}` is earned by other facts", remedy="register another identity without selectors for the token")
    token, made_token = make_join_token(secrets.token_bytes(RANDOM_BYTES), context.clock.now(), request.ttl_seconds)
    kept, until = made_token.sha256, made_token.expires_at
    made = msgspec.structs.replace(old, selectors=(Selector(type=JOIN_SELECTOR, value=kept),))
    changes: list[Change] = [RegistrationPut(registration=made), SettingPut(key=JOIN + kept, value=str(until))]
    changes += [SettingPut(key=JOIN + one.value, value="") for one in old.selectors if context.facts.settings.get(JOIN + one.value)]
    await commit(context, caller, changes, "join-token", old.principal, {"until": until})
    return JoinToken(token=token, principal=old.principal, expires_at=until)


async def commit(context: Context, caller: Caller, changes: list[Change], verb: str, name: str, detail: dict[str, object]) -> None:
    """Step 5, within the bound of step 4."""
    who = caller.principal.principal.id
    if not context.registering.take(who):
        raise LimitExceeded(
            f"more than {context.settings.limits.registrations_per_minute} registrations a minute",
            remedy="register more slowly, or raise `[limits] registrations_per_minute`",
        )
    await context.sequencer.submit(who, changes, [act_entry(context, caller, verb, "", "done", {"principal": name, **detail})])


def require_roles(context: Context, caller: Caller, groups: tuple[str, ...], what: str) -> None:
    """A role is given, taken or impersonated only by who holds it. Raises `NotPermitted`."""
    held = context.facts.groups_of(caller.principal.principal.id)
    roles = sorted(group for group in groups if group.startswith("role:") and group not in held)
    if roles:
        raise NotPermitted(f"you do not hold `{roles[0]}` and cannot {what}", remedy="ask somebody who holds it")


def checked_groups(groups: tuple[str, ...]) -> tuple[str, ...]:
    """Groups that policies can name; more than the policy world takes would be committed and then keep it from starting. Raises `InvalidInput`."""
    wrong = next((one for one in groups if not _GROUP.match(one)), None)
    if wrong is not None:
        raise InvalidInput(f"`{wrong[:80]!a}` is not a group", remedy="use letters, digits and `._:@/-`, at most 128")
    if len(groups) > MAX_GROUPS or len(set(groups)) != len(groups):
        raise InvalidInput("there are too many groups, or one stands twice", remedy=f"give at most {MAX_GROUPS}, each once")
    return groups


def _checked_domains(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > MAX_FEDERATED:
        raise InvalidInput("there are too many foreign trust domains", remedy=f"give at most {MAX_FEDERATED}")
    return tuple(checked_trust_domain(one) for one in names)


def _not_from_settings(old: Registration | None) -> None:
    if old is not None and old.source == "settings":
        raise Conflict(
            f"`{old.principal}` is named in vouchgate.toml", remedy="change it there; `kill -HUP` of `vouchgate up` reads it anew"
        )


def _checked_selectors(selectors: tuple[Selector, ...]) -> tuple[Selector, ...]:
    if len(selectors) > MAX_SELECTORS or len(set(selectors)) != len(selectors):
        raise InvalidInput("there are too many selectors, or one stands twice", remedy=f"give at most {MAX_SELECTORS}, each once")
    for one in selectors:
        if not _SELECTOR.match(one.type) or not 1 <= len(one.value) <= MAX_SELECTOR_VALUE or not one.value.isprintable():
            raise InvalidInput(
                f"`{one.type[:64]}` = `{one.value[:64]}` is not a selector", remedy="write type=value, for example unix:uid=1000"
            )
        if one.type == JOIN_SELECTOR:
            raise InvalidInput("a join token is made, not chosen", remedy="run `vouchgate identity join-token`")
    if selectors and not can_earn(selectors):
        raise InvalidInput(
            "these selectors only narrow others: every user can run a program, and an image chooses its users",
            remedy="add one that the workload cannot choose, for example unix:uid or container:id",
        )
    return tuple(sorted(selectors, key=lambda one: (one.type, one.value)))


def _check_alias(made: Registration, zone: str) -> None:
    """A partner's caller acts under a name that says so, by its id alone, and never has a credential of ours. Raises `InvalidInput`."""
    foreign = [one.value for one in made.selectors if one.type == FOREIGN_ID]
    if not foreign:
        return
    if len(made.selectors) != 1:
        raise InvalidInput(f"beside `{FOREIGN_ID}` stands another selector", remedy="a partner's caller is known by its SPIFFE id alone")
    if not zone.startswith(ALIAS_ZONE):
        raise InvalidInput(
            f"a partner's caller is not registered in the zone `{zone[:64]}`",
            remedy=f"register it in `{ALIAS_ZONE}` and the partner's name",
        )
    domain, slash, path = foreign[0].removeprefix("spiffe://").partition("/")
    if not foreign[0].startswith("spiffe://") or not slash or not path or checked_trust_domain(domain) == made.trust_domain:
        raise InvalidInput(f"`{foreign[0][:160]}` is no SPIFFE id of a partner", remedy="write spiffe://partner's trust domain/path")


def _not_our_hosts(context: Context, names: tuple[str, ...]) -> tuple[str, ...]:
    """A certificate with the gateway's own host name would let its holder stand in for the gateway. Raises `Conflict`, `InvalidInput`."""
    ours = {host.lower() for host in (*context.settings.gateway.hosts, *context.settings.sts.hosts)}
    taken = sorted(ours & {name.lower() for name in names})
    if taken:
        raise Conflict(f"`{taken[0]}` is a host name of vouchgate itself", remedy="give the server a name of its own")
    check_dns(names)
    return names


def _within(value: int, least: int, most: int, what: str) -> int:
    if not least <= value <= most:
        raise InvalidInput(f"{what} of {value} s is out of bounds", remedy=f"choose {least} to {most} s")
    return value


def _endpoint_of(context: Context, name: str) -> str:
    """The endpoint's id, given so or by its name. Raises `NotFound`."""
    if not name:
        return ""
    for one in context.facts.endpoints:
        if name in {one, one.rpartition("/")[2]}:
            return one
    raise NotFound(f"there is no endpoint `{name[:160]}`", remedy="list them: `vouchgate status`")


def _not_another_server(context: Context, endpoint: str, name: str) -> str:
    """A server that vouchgate started itself answers for its endpoint alone: who else carries its model's digest is not it. Raises `Conflict`."""
    for one in context.facts.registrations.values() if endpoint else ():
        if one.endpoint == endpoint and one.source == "settings" and one.principal != name:
            raise Conflict(f"`{one.principal}` answers for `{endpoint}`", remedy="register an identity without `endpoint`")
    return endpoint


def _end(context: Context, at: UnixMillis) -> UnixMillis:
    if at and at <= context.clock.now():
        raise InvalidInput("the registration would have ended already", remedy="give a time in the future, or none")
    return at
