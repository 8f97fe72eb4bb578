"""People of this control plane, put together: who logged in, whether they still are, and what ends it.

1. A session carries who somebody is, never what they may do. Each request asks `check`: a person who is revoked, whose registration ended, or of
   whom something was revoked since they logged in, is out, whatever cookie or token they show.
2. `tell` is given every committed change, so the first request after a revocation is refused already.
3. Sessions live in memory: a restart ends them all, so only what happened since the start has to be remembered here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence

from vouchgate.flows.changes import RegistrationRemoved
from vouchgate.flows.context import Context, Remote
from vouchgate.flows.deprovision import Deprovisioning, ended_by
from vouchgate.flows.login_oidc import CallBack, Logins, Person
from vouchgate.flows.sequence import Sequenced
from vouchgate.flows.sources import Sources
from vouchgate.flows.tell_receivers import Telling
from vouchgate.identity.verify import session
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_identities import LoginBegun, LoginProvider
from vouchgate.vocabulary.errors import NotLoggedIn, Unverified, VouchgateError
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.vouches import UnixMillis

LONGEST_SESSION_MS = 1_440 * 60_000
"""No session is longer ([console] session_minutes, [[oidc]] session_minutes); an end is remembered as long."""
SWEEP_SECONDS = 3_600.0
"""Between sweeps of remembered event ids."""
_LOG_IN = "log in again"


class People:
    """See the module's text."""

    def __init__(self, context: Context, outbound: Remote) -> None:
        self._context = context
        self.sources = Sources(context, outbound)
        self.logins = Logins(context, self.sources, outbound)
        self.events = Deprovisioning(context, self.sources)
        self.telling = Telling(context, outbound)
        self._ended: dict[str, UnixMillis] = {}
        self._ends_too: list[Callable[[Collection[str]], None]] = []

    def providers(self) -> tuple[LoginProvider, ...]:
        """Whom one can log in with."""
        return self.logins.providers()

    async def begin(self, provider: str, *, redirect_uri: str, owner: str) -> LoginBegun:
        """Send somebody to their provider. Raises `NotFound`, `Unavailable`, `LimitExceeded`."""
        return await self.logins.begin(provider, redirect_uri=redirect_uri, owner=owner)

    async def finish(self, binding: str, owner: str, back: CallBack, *, peer: str) -> tuple[Caller, str]:
        """Who came back, and their name for people to read. Raises `Unverified`, `Conflict`, `Unavailable`; each is recorded."""
        person = await self.logins.finish(binding, owner, back, peer=peer)
        return self._caller(person, binding, owner, peer), person.shown

    def _caller(self, person: Person, binding: str, owner: str, peer: str) -> Caller:
        who = Principal(id=person.registration.principal, groups=person.registration.groups)
        browser = owner == BROWSER
        until = min(person.until, person.at + self._context.settings.console.session_minutes * 60_000) if browser else person.until
        name = hashlib.sha256(f"session {binding}".encode()).hexdigest()[:32]
        made = session(who, name, UnixMillis(until), person.at, kind="cookie" if browser else "session")
        if isinstance(made, Denied):
            raise Unverified(made.reason, remedy=made.remedy)
        return Caller(principal=made, how="cookie" if browser else "session", peer=peer)

    def check(self, caller: Caller) -> None:
        """Rule 1. Raises `NotLoggedIn`."""
        who, now = caller.principal, self._context.clock.now()
        name = who.principal.id
        standing = self._context.facts.revocation_of(name)
        if standing is not None:
            raise NotLoggedIn(f"`{name}` is revoked: {standing.reason}", remedy="ask a responder")
        if caller.how == "uid":
            # the kernel says anew at each request who that is
            return
        if now >= who.not_after or self._ended.get(name, UnixMillis(-1)) >= who.verified_at:
            raise NotLoggedIn("the session has ended", remedy=_LOG_IN)
        if self._context.facts.registration_of(name, now) is None:
            raise NotLoggedIn(f"`{name}` is not registered any more", remedy=_LOG_IN)

    def ends_too(self, end: Callable[[Collection[str]], None]) -> None:
        """Something else that ends with people: it is given their names."""
        self._ends_too.append(end)

    def tell(self, batch: Sequence[Sequenced]) -> None:
        """Rule 2."""
        changes = [one.change for one in batch]
        now = self._context.clock.now()
        gone = {change.principal for change in changes if isinstance(change, RegistrationRemoved)}
        # as of when it is told, not of when it was asked for: a login that was committed in between ends too
        out = gone | ended_by(changes)
        self._ended |= dict.fromkeys(out, now)
        for end in self._ends_too if out else ():
            end(out)
        if len(self._ended) > 1_000:
            self._ended = {name: at for name, at in self._ended.items() if now - at <= LONGEST_SESSION_MS}
        self.telling.tell(batch)

    async def run(self) -> None:
        """Tell receivers, and forget what is too old to matter, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.telling.run())
            group.create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            try:
                while await self.events.sweep():
                    pass
            except VouchgateError:
                pass
            await asyncio.sleep(SWEEP_SECONDS)


BROWSER = "browser"
"""Owner of logins that browsers begin; each is held apart by its own cookie."""
