"""A person logs in with their organisation's provider: `begin` sends them there, `finish` takes them back.

1. `begin`: state, nonce and code verifier are 256 random bits each, kept here alone; what the browser or command line keeps (`binding`) is
   another, of which only the hash is kept. A login waits `WAITS_MS`, and each owner has a bounded number of them.
2. `finish` belongs to the one login that the state names, by the same owner with the same binding, once: so no page, message or other person
   can put somebody else's login into a browser (RFC 6749, section 10.12; RFC 9700, section 4.7).
3. The answer is the asked provider's (RFC 9207); its error ends the login.
4. The code is exchanged by the token service; the ID token is verified here, against recorded keys; where it names a key that is not recorded,
   the keys are looked at once more.
5. Groups are mapped anew, and replace what the registration had: who lost a group loses it now. A registration that is not a login's is never
   touched, so no provider can speak for an administrator of vouchgate.toml.
6. A revoked person is refused, but one of the provider's own events that only ended what was (`until-login`) is lifted by a login that began
   after it; what was issued before stays revoked, each credential by itself, in the same commit.
7. Every refusal is an entry, up to `REFUSALS_PER_MINUTE`; of more, the next entry tells how many. Nothing is issued while the clock is in
   trouble.
Left to others: cookies and tokens of our own (edges/api/sessions.py), the session's end (flows/people.py).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.changes import CredentialIssued, RegistrationPut, Revoked, decode_record
from vouchgate.flows.context import Buckets, Context, Remote
from vouchgate.flows.sources import Sources
from vouchgate.identity.foreign import named_key
from vouchgate.identity.oidc import (
    Expected,
    Provider,
    Tokens,
    Told,
    authorization_url,
    check_issuer,
    mapped_groups,
    person_name,
    read_id_token,
    read_tokens,
    read_userinfo,
    shown_name,
)
from vouchgate.vocabulary.answers_identities import LoginBegun, LoginProvider
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotFound, Unavailable, Unverified, VouchgateError
from vouchgate.vocabulary.names import PrincipalId, TrustDomain
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.settings_people import OidcSettings
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

WAITS_MS = 600_000
"""Ten minutes: a person finds their second factor."""
MAX_WAITING_OF_A_KIND = 2_000
"""Logins that wait for browsers, for users of this machine, or for clients of the token service; a flood of one kind ends no other's."""
MAX_WAITING_OF_ONE = 128
"""Logins that wait for one owner; the browsers without a session are one, and their rate is bounded before (edges/api)."""
MAX_WAITING_OF_A_CLIENT = 2
"""Logins that wait for one wish of the token service's client: as many wishes as may wait then end nobody else's."""
REFUSALS_PER_MINUTE = 120
"""Entries about refused logins of one kind of owner: enough to see an attack, too few to fill a disk."""
MAX_CODE = 4_096
"""Characters of a code, a state or an error: a provider's code may be an encrypted token."""
MAX_TOKENS_BYTES = 128 * 1024
MAX_CREDENTIALS = 2_000
"""Live credentials of one person that one login may strike."""
UNTIL_LOGIN = "until-login-"
"""Beginning of the id of a revocation that a fresh login lifts (flows/deprovision.py)."""
WHO = "system:login"
T = TypeVar("T")


@dataclass(frozen=True)
class Waiting:
    """A login that was begun."""

    provider: str
    owner: str
    binding: str
    """Its hash."""
    nonce: str
    verifier: str
    redirect_uri: str
    begun_at: UnixMillis


@dataclass(frozen=True)
class CallBack:
    """What the provider's redirect carried."""

    state: str
    code: str = ""
    iss: str = ""
    error: str = ""


@dataclass(frozen=True)
class Person:
    """Somebody who logged in."""

    registration: Registration
    provider: str
    shown: str
    """Their name, for people to read."""
    at: UnixMillis
    until: UnixMillis
    """When this login ends."""


class Logins:
    """See the module's text."""

    def __init__(self, context: Context, sources: Sources, outbound: Remote) -> None:
        self._context, self._sources, self._outbound = context, sources, outbound
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._refusals = Buckets(REFUSALS_PER_MINUTE)
        self._untold: dict[str, int] = {}

    def providers(self) -> tuple[LoginProvider, ...]:
        """Whom one can log in with."""
        return tuple(LoginProvider(name=one.name, title=one.title or one.name) for one in self._context.settings.oidc)

    async def begin(self, alias: str, *, redirect_uri: str, owner: str) -> LoginBegun:
        """Rule 1. `redirect_uri` was checked by whoever serves it. Raises `NotFound`, `Unavailable`, and what a description lacks."""
        settings = self._sources.settings_of(alias)
        provider = await self._sources.provider(alias)
        now = self._context.clock.now()
        self._make_room(owner, now)
        state, binding, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
        self._waiting[_hash(state)] = Waiting(alias, owner, _hash(binding), nonce, verifier, redirect_uri, now)
        url = authorization_url(
            provider,
            client_id=settings.client_id,
            redirect_uri=redirect_uri,
            scopes=settings.scopes,
            state=state,
            nonce=nonce,
            verifier=verifier,
            max_age=settings.max_age_seconds,
        )
        return LoginBegun(url=url, state=state, binding=binding, expires_at=UnixMillis(now + WAITS_MS))

    async def finish(self, binding: str, owner: str, back: CallBack, *, peer: str) -> Person:
        """Rules 2 to 7. Raises `Unverified`, `Conflict`, `Unavailable`; each is recorded."""
        alias = ""
        try:
            waiting = self._take(binding, owner, back)
            alias = waiting.provider
            return await self._finish(waiting, back, peer)
        except VouchgateError as error:
            await self._refused(alias, owner, error, peer)
            raise

    async def _finish(self, waiting: Waiting, back: CallBack, peer: str) -> Person:
        settings, provider = self._sources.settings_of(waiting.provider), await self._sources.provider(waiting.provider)
        _held(check_issuer(provider, back.iss))
        if back.error or not back.code:
            said = "".join(one for one in back.error if one.isalnum() or one in "_-. ")[:64]
            raise Unverified(f"the provider ended the login: {said or 'no code'}", remedy="log in again")
        tokens = await self._exchange(settings, provider, waiting, back.code)
        told = await self._verify(settings, waiting, tokens)
        claims = await self._claims(settings, provider, told, tokens)
        groups = _held(mapped_groups(claims, settings.groups_claim, settings.groups))
        return await self._register(settings, waiting, told, groups, shown_name(claims, settings.name_claim), peer)

    async def _exchange(self, settings: OidcSettings, provider: Provider, waiting: Waiting, code: str) -> Tokens:
        """Rule 4, first half (RFC 6749, section 4.1.3)."""
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": waiting.redirect_uri, "client_id": settings.client_id,
            "code_verifier": waiting.verifier,
        }  # fmt: skip
        answer = await self._outbound.call("out.token", to=f"oidc:{settings.name}", url=provider.token_endpoint, form=form)
        if answer["status"] != 200:
            raise Unverified(f"the provider did not take the code (it answered {answer['status']})", remedy="log in again")
        return _held(read_tokens(bytes(answer["body"])))

    async def _verify(self, settings: OidcSettings, waiting: Waiting, tokens: Tokens) -> Told:
        """Rule 4, second half."""
        keys = await self._sources.provider_keys(settings.name, named_key(tokens.id_token))
        expected = Expected(settings.issuer, settings.client_id, waiting.nonce, settings.max_age_seconds)
        return _held(
            read_id_token(
                tokens.id_token,
                keys,
                expected,
                self._context.clock.now(),
                algorithms=settings.algorithms,
                access_token=tokens.access_token,
            )
        )

    async def _claims(self, settings: OidcSettings, provider: Provider, told: Told, tokens: Tokens) -> Mapping[str, Any]:
        if not settings.userinfo:
            return told.claims
        if not provider.userinfo_endpoint or not tokens.access_token:
            raise Unavailable("the provider gives no userinfo", remedy=f"set `userinfo = false` of [[oidc]] `{settings.name}`")
        answer = await self._outbound.call(
            "out.get",
            to=f"oidc:{settings.name}",
            url=provider.userinfo_endpoint,
            accept="application/json",
            max_bytes=MAX_TOKENS_BYTES,
            bearer=tokens.access_token,
        )
        if answer["status"] != 200:
            raise Unverified(f"the provider's userinfo answered {answer['status']}", remedy="log in again")
        return {**_held(read_userinfo(bytes(answer["body"]), told)), **told.claims}

    async def _register(
        self, settings: OidcSettings, waiting: Waiting, told: Told, groups: tuple[str, ...], shown: str, peer: str
    ) -> Person:
        """Rules 5 and 6."""
        context, now = self._context, self._context.clock.now()
        if context.clock.trouble:
            raise Unavailable(
                f"nothing is issued: {context.clock.trouble}", remedy="set the clock right, then `vouchgate admin accept-clock`"
            )
        name = person_name(context.trust_domain, settings.name, settings.issuer, told.sub)
        known = context.facts.registrations.get(name)
        if known is not None and known.source != "login":
            raise Conflict(f"`{name}` is registered otherwise", remedy="take that registration away, or name the provider differently")
        made = Registration(
            principal=name,
            trust_domain=TrustDomain(context.trust_domain),
            groups=groups,
            source="login",
            created_at=known.created_at if known else now,
            expires_at=UnixMillis(now + settings.session_minutes * 60_000),
        )
        entry = self._entry(settings.name, name, told.kid, peer, f"groups {', '.join(groups) or 'none'}", ok=True)
        try:
            await self._commit(made, waiting.begun_at, entry)
        except NotFound:
            # somebody else, or the same person elsewhere, lifted the revocation meanwhile
            await self._commit(made, waiting.begun_at, entry)
        # a revocation that came while this was committed stands against the person: they are not in
        standing = context.facts.revocation_of(name)
        if standing is not None:
            raise _revoked(name, standing)
        return Person(made, settings.name, shown, UnixMillis(context.clock.now()), made.expires_at)

    async def _commit(self, made: Registration, begun_at: UnixMillis, entry: Append) -> None:
        """Rules 5 and 6 as one commit. Raises `NotFound` where a revocation was lifted meanwhile."""
        now = self._context.clock.now()
        lifted = self._lifted(made.principal, begun_at)
        told = [Append(entry=ocsf.revocation(one.revocation, now=now), label=one.revocation.id) for one in lifted]
        await self._context.sequencer.submit(WHO, [*lifted, RegistrationPut(registration=made)], [*told, entry])

    def _lifted(self, name: PrincipalId, begun_at: UnixMillis) -> list[Revoked]:
        """Rule 6. Raises `Unverified` where something stands that no login lifts."""
        context, now = self._context, self._context.clock.now()
        standing = [
            one for one in context.facts.standing_revocations() if one.target == name and one.target_kind in {"principal", "registration"}
        ]
        for one in standing:
            if not one.id.startswith(UNTIL_LOGIN) or one.made_at >= begun_at:
                raise _revoked(name, one)
        if not standing:
            return []
        struck = [
            Revoked(
                revocation=Revocation(
                    id=secrets.token_hex(8),
                    trust_domain=TrustDomain(context.trust_domain),
                    target_kind="credential",
                    target=credential,
                    reason=f"issued before {standing[0].reason}"[:500],
                    requested_by=WHO,
                    made_at=now,
                )
            )
            for credential in self._live(name, now)
            if context.facts.revocation_of("", credential) is None
        ]
        login = secrets.token_hex(8)
        lifts = [Revoked(revocation=msgspec.structs.replace(one, withdrawn_by=login, approved_by=WHO)) for one in standing]
        return [*struck, *lifts]

    def _live(self, name: PrincipalId, now: UnixMillis) -> list[str]:
        """Ids of what was issued to the person, or to others on their behalf, and has not expired."""
        found: list[str] = []
        after = ""
        while True:
            page = self._context.store.scan("credential", index="principal", equals=name, after=after)
            for record in page:
                change = decode_record("credential", record.value)
                if isinstance(change, CredentialIssued) and change.not_after > now:
                    found.append(change.id)
            if len(found) > MAX_CREDENTIALS:
                raise LimitExceeded(f"`{name}` holds more than {MAX_CREDENTIALS} live credentials", remedy="wait until they have expired")
            if len(page) < 1_000:
                return found
            after = page[-1].key

    def _take(self, binding: str, owner: str, back: CallBack) -> Waiting:
        """Rule 2: used up before anything else happens; a stranger's try uses nothing up."""
        if max(len(back.state), len(back.code), len(back.iss), len(back.error)) > MAX_CODE:
            raise InvalidInput("the provider's answer is too long", remedy="log in again")
        key = _hash(back.state)
        waiting = self._waiting.get(key)
        mine = waiting is not None and waiting.owner == owner and hmac.compare_digest(waiting.binding, _hash(binding))
        if waiting is None or not mine:
            raise Unverified("this login was not begun here, or was finished before", remedy="begin again, and finish it in the same place")
        del self._waiting[key]
        if self._context.clock.now() > waiting.begun_at + WAITS_MS:
            raise Unverified("the login took too long", remedy="begin again")
        return waiting

    def _make_room(self, owner: str, now: UnixMillis) -> None:
        """Rule 1: an owner's oldest gives way to their newest, and a kind's to the kind's."""
        for key in [key for key, one in self._waiting.items() if now > one.begun_at + WAITS_MS]:
            del self._waiting[key]
        kind = [(key, one.owner) for key, one in self._waiting.items() if _kind(one.owner) == _kind(owner)]
        own = [key for key, who in kind if who == owner]
        if len(own) >= (MAX_WAITING_OF_A_CLIENT if _kind(owner) == "authorize" else MAX_WAITING_OF_ONE):
            del self._waiting[own[0]]
        elif len(kind) >= MAX_WAITING_OF_A_KIND:
            del self._waiting[kind[0][0]]

    async def _refused(self, alias: str, owner: str, error: VouchgateError, peer: str) -> None:
        """Rule 7."""
        kind = _kind(owner)
        if not self._refusals.take(kind):
            self._untold[kind] = self._untold.get(kind, 0) + 1
            return
        more = self._untold.pop(kind, 0)
        entry = self._entry(alias, "", "", peer, error.reason + (f" ({more} more were refused since)" if more else ""), ok=False)
        await self._context.sequencer.submit(f"{WHO}:refused", (), [entry])

    def _entry(self, alias: str, name: str, kid: str, peer: str, reason: str, *, ok: bool) -> Append:
        entry = ocsf.authentication(
            self._context.trust_domain,
            uid=secrets.token_hex(16),
            principal=name,
            credential_kind="oidc",
            credential_id=kid,
            service=f"login:{alias}",
            ok=ok,
            reason=reason,
            peer=peer,
            now=self._context.clock.now(),
        )
        return Append(entry=entry)


def _held(said: T | Denied) -> T:
    """A value, or its refusal raised."""
    if isinstance(said, Denied):
        raise Unverified(said.reason, remedy=said.remedy)
    return said


def _revoked(name: str, by: Revocation) -> Unverified:
    return Unverified(f"`{name}` is revoked: {by.reason}", remedy="ask a responder; `vouchgate revoke --undo` lets you in again")


def _kind(owner: str) -> str:
    """`browser`, `uid` or `authorize`."""
    return owner.partition(":")[0]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
