"""Who administers: uids of the unix socket, one-time codes of the console, the first administrator's token.

1. A uid is whoever a registration's selector `unix:uid` names; any other uid is still a caller, whom `decide` refuses.
2. A console code is random, kept as a hash, used once, and ends after `CODE_SECONDS`, or with whom it stands for.
4. Break-glass: a fresh statement of the offline root lets its unix user hold every role for one hour, on the unix socket alone. It is used
   once, is an entry, and stands first on every page while it lasts.
3. The bootstrap token is single use, ends after ten minutes, counts over the unix socket alone, and gives that uid every role.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection

from vouchgate.evidence.breakglass import LIFE_MS, verify_break_glass
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.changes import Change, RegistrationPut, SettingPut
from vouchgate.flows.context import Context
from vouchgate.flows.facts_registrations import UID
from vouchgate.flows.start import owner_registration
from vouchgate.identity.catalog import match
from vouchgate.identity.verify import peer_uid, session
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_identities import CodeIssued
from vouchgate.vocabulary.errors import NotPermitted, Unavailable, Unverified
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, principal, principal_parts
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Principal, Registration, Selector
from vouchgate.vocabulary.settings import ROLES
from vouchgate.vocabulary.vouches import UnixMillis

CODE_SECONDS = 300
"""Life of a console code: long enough to switch windows."""
CODE_BYTES = 16
"""Random bytes of a code: 128 bits cannot be tried."""
MAX_CODES = 100
"""Codes that wait at once."""
GLASS = "break-glass"
"""Name of the identity that break-glass gives, and of the setting that holds its end and reason."""
BOOTSTRAP = "bootstrap"
"""Setting that holds the token's hash and end."""


class Codes:
    """One-time codes that wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Principal, UnixMillis]] = {}

    def make(self, who: Principal, now: UnixMillis) -> str:
        """A new code."""
        self._waiting = {key: value for key, value in self._waiting.items() if value[1] > now}
        while len(self._waiting) >= MAX_CODES:
            self._waiting.pop(next(iter(self._waiting)))
        code = secrets.token_urlsafe(CODE_BYTES)
        self._waiting[_hash(code)] = (who, UnixMillis(now + CODE_SECONDS * 1000))
        return code

    def use(self, code: str, now: UnixMillis) -> Principal:
        """Whom it stands for. Raises `Unverified`."""
        found = self._waiting.pop(_hash(code), None)
        if found is None or found[1] <= now:
            raise Unverified("the code is unknown, used or expired", remedy="ask for a new one: `vouchgate admin login`")
        return found[0]

    def forget(self, names: Collection[str]) -> None:
        """Codes of people who are out: one that was printed before must open nothing after they were let in again."""
        self._waiting = {key: value for key, value in self._waiting.items() if value[0].id not in names}


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def caller_of_uid(context: Context, uid: int, pid: int) -> Caller:
    """Rule 1: the kernel's word on the uid earns an identity, nobody chooses one."""
    found = [one for one in context.facts.of_uid(uid) if not context.facts.revocation_of(one.principal)]
    # a workload of the same user must not come between a person and what they administer
    people = [one for one in found if principal_parts(one.principal).kind == "person"] or found
    glass = principal(context.trust_domain, "person", "admin", GLASS)
    broken = [one for one in people if one.principal == glass and broken_until(context) > context.clock.now()]
    people = broken or [one for one in people if one.principal != glass]
    earned = match([Selector(type=UID, value=str(uid))], people, context.clock.now())
    if isinstance(earned, Denied):
        who = Principal(id=principal(context.trust_domain, "person", "unknown", f"uid-{uid}"))
    else:
        who = Principal(id=earned.principal, groups=earned.groups)
    return Caller(principal=peer_uid(uid, who, context.clock.now()), how="uid", peer=f"uid:{uid} pid:{pid}")


def caller_of_code(context: Context, codes: Codes, code: str, peer: str) -> Caller:
    """Rule 2. Raises `Unverified`."""
    now = context.clock.now()
    who = codes.use(code, now)
    until = UnixMillis(now + context.settings.console.session_minutes * 60_000)
    made = session(who, _hash(code)[:32], until, now)
    if isinstance(made, Denied):
        raise Unverified(made.reason, remedy=made.remedy)
    return Caller(principal=made, how="cookie", peer=peer)


async def login_code(context: Context, codes: Codes, caller: Caller) -> CodeIssued:
    """A code for the caller's own console session."""
    await authorise(context, caller, "login")
    if not context.place.console:
        raise NotPermitted("there is no console", remedy="set `[console] listen` in vouchgate.toml")
    now = context.clock.now()
    code = codes.make(caller.principal.principal, now)
    entry = act_entry(context, caller, "login-code", "", "done", {})
    await context.sequencer.submit(caller.principal.principal.id, (), [entry])
    return CodeIssued(code=code, url=f"http://{context.place.console}/login#{code}", expires_at=UnixMillis(now + CODE_SECONDS * 1000))


async def claim(context: Context, caller: Caller, token: str) -> Registration:
    """Rule 3. Raises `Unverified`, `NotPermitted`."""
    kept, _, until = context.facts.settings.get(BOOTSTRAP, "").partition(" ")
    now = context.clock.now()
    if caller.how != "uid":
        raise NotPermitted("the bootstrap token counts on the unix socket alone", remedy="run `vouchgate admin claim` on this machine")
    right = bool(kept) and until.isdigit() and now < int(until) and hmac.compare_digest(kept, _hash(token)) and kept not in context.once
    if not right:
        entry = act_entry(context, caller, "bootstrap", "", "denied", {})
        await context.sequencer.submit(caller.principal.principal.id, (), [entry])
        raise Unverified("the bootstrap token is wrong, used or expired", remedy="name administrators in vouchgate.toml, and start again")
    context.once.add(kept)
    uid = int(caller.principal.credential_id.removeprefix("uid:"))
    made = owner_registration(context.settings, uid, now)
    entries = [act_entry(context, caller, "bootstrap", "", "done", {"uid": uid}), act_entry(context, caller, "use-token", "", "done", {})]
    await context.sequencer.submit(
        PrincipalId("bootstrap"), [SettingPut(key=BOOTSTRAP, value=""), RegistrationPut(registration=made)], entries
    )
    return made


def broken_until(context: Context) -> UnixMillis:
    """Until when break-glass stands open; in the past where it does not."""
    until = context.facts.settings.get(GLASS, "").partition(" ")[0]
    return UnixMillis(int(until) if until.isdigit() else 0)


async def break_glass(context: Context, caller: Caller, envelope: bytes) -> Registration:
    """Rule 4. Raises `NotPermitted`, `Unverified`, `Unavailable`."""
    if caller.how != "uid":
        raise NotPermitted("break-glass counts on the unix socket alone", remedy="run `vouchgate admin break-glass` on this machine")
    if context.facts.trust_root is None:
        raise Unavailable("there is no TrustRoot yet", remedy="wait until the control plane is ready")
    now, who = context.clock.now(), caller.principal.principal.id
    try:
        statement = verify_break_glass(envelope, context.facts.trust_root, now)
        used = f"{GLASS}/{statement.nonce}"
        if used in context.facts.settings or used in context.once:
            raise Unverified("this break-glass statement was used before", remedy="sign a new one with the root keys")
        if caller.principal.credential_id != f"uid:{statement.uid}":
            raise Unverified(f"this statement is for uid {statement.uid}", remedy="run the command as that user")
    except Unverified as error:
        await context.sequencer.submit(who, (), [act_entry(context, caller, GLASS, "", "denied", {"reason": error.reason})])
        raise
    context.once.add(used)
    until = UnixMillis(now + LIFE_MS)
    made = Registration(
        principal=principal(context.trust_domain, "person", "admin", GLASS),
        trust_domain=TrustDomain(context.trust_domain),
        selectors=(Selector(type="unix:uid", value=str(statement.uid)),),
        groups=(*(f"role:{role}" for role in ROLES), "importers"),
        created_at=now,
    )
    changes: list[Change] = [
        SettingPut(key=used, value=str(now)),
        SettingPut(key=GLASS, value=f"{until} {statement.reason}"),
        RegistrationPut(registration=made),
    ]
    detail = {"uid": statement.uid, "reason": statement.reason, "until": until, "nonce": statement.nonce}
    entries = [act_entry(context, caller, GLASS, "", "done", detail) for _ in changes]
    await context.sequencer.submit(who, changes, entries)
    return made
