"""Somebody's provider says that they are out: within the same second nothing that they, or anybody on their behalf, hold is good for anything.

1. The event token is verified here, against the transmitter's recorded keys; the token service only carried it. A refusal has the code of
   RFC 8935, section 2.4, and is an entry.
2. A transmitter speaks of its own provider's people alone, by (iss, sub).
3. A token counts once: its `jti` is taken in the same commit as what it does, and remembered longer than a token may be old. A repeated one is
   acknowledged, since the transmitter may not have heard us, and does nothing.
4. An event makes a revocation of the person. `until-login` ones end what was and are lifted by a fresh login (flows/login_oidc.py); after
   `until-undone` ones a responder has to let the person in again. Publishing the revocation and ending sessions follow from the change itself.
5. Nobody is revoked twice for the same: where a standing revocation says as much, the event is only noted.
6. Events of a transmitter have a rate; over it the transmitter is told to try again, and nothing is lost. Only what it signed is counted:
   a stranger's flood delays nobody's dismissal. Refusals are entries up to `REFUSALS_PER_MINUTE`; of more, the next entry tells how many.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Any

from vouchgate.audit import ocsf
from vouchgate.flows.changes import Change, Revoked
from vouchgate.flows.context import Buckets, Context
from vouchgate.flows.login_oidc import UNTIL_LOGIN
from vouchgate.flows.sources import Sources
from vouchgate.identity.foreign import named_key
from vouchgate.identity.oidc import person_name
from vouchgate.identity.sets import MAX_AGE_DAYS, ReadSet, Told, read_set
from vouchgate.vocabulary.errors import Conflict, LimitExceeded, NotFound, VouchgateError
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, resource
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.records import Append, DeleteRecord, PutRecord
from vouchgate.vocabulary.settings_people import TransmitterSettings
from vouchgate.vocabulary.vouches import Revocation
from vouchgate.vocabulary.wire import Noun, encode

SEEN = "event-seen"
"""Record kind of the ids of tokens that were taken."""
SEEN_MS = (MAX_AGE_DAYS + 1) * 86_400_000
"""How long they are remembered: a day longer than a token may be old."""
REFUSALS_PER_MINUTE = 60
"""Entries about refused deliveries to one transmitter's path: enough to see an attack, too few to fill a disk."""
SWEEP_AT_ONCE = 500
"""Remembered ids that one sweep forgets."""


class Taken(Noun, frozen=True, kw_only=True):
    """The answer to a delivery (RFC 8935, sections 2.2 to 2.4)."""

    status: int
    err: str = ""
    description: str = ""


class Deprovisioning:
    """See the module's text."""

    def __init__(self, context: Context, sources: Sources) -> None:
        self._context, self._sources = context, sources
        self._rates: dict[str, Buckets] = {}
        self._refusals = Buckets(REFUSALS_PER_MINUTE)
        self._untold: dict[str, int] = {}

    async def take(self, name: str, token: str, *, peer: str) -> Taken:
        """A delivery to `/ssf/events/<name>`. Raises `NotFound`, `LimitExceeded`, `Unavailable`: the transmitter tries those again."""
        transmitter = self._transmitter(name)
        try:
            read = await self._read(transmitter, token)
        except VouchgateError as error:
            await self._refused(transmitter, "", error.reason, peer)
            raise
        if isinstance(read, Denied):
            await self._refused(transmitter, read.code, read.reason, peer)
            return Taken(status=400, err=read.code, description=read.reason)
        rate = self._rates.setdefault(f"{name}/{transmitter.events_per_minute}", Buckets(transmitter.events_per_minute))
        if not rate.take(name):
            raise LimitExceeded(f"`{name}` sends more than {transmitter.events_per_minute} events a minute", remedy="send them more slowly")
        try:
            await self._apply(transmitter, read, peer)
        except Conflict:
            await self._note(transmitter, "done", {"jti": read.jti, "repeated": True})
        return Taken(status=202)

    async def sweep(self) -> int:
        """Forget ids that no token that is still taken could have; how many went."""
        before = str((self._context.clock.now() - SEEN_MS) // 86_400_000)
        gone = [
            DeleteRecord(kind=SEEN, key=record.key)
            for record in self._context.store.scan(SEEN, limit=SWEEP_AT_ONCE)
            if int(record.key.partition("/")[0]) < int(before)
        ]
        if gone:
            await self._context.sequencer.append("system:ssf", (), steps=gone)
        return len(gone)

    def _transmitter(self, name: str) -> TransmitterSettings:
        for one in self._context.settings.ssf.transmitters:
            if one.name == name:
                return one
        raise NotFound(f"there is no transmitter `{name[:64]}`", remedy="name it in [[ssf.transmitters]]")

    async def _read(self, transmitter: TransmitterSettings, token: str) -> ReadSet | Denied:
        keys = await self._sources.transmitter_keys(transmitter, named_key(token))
        return read_set(
            token,
            keys,
            issuer=transmitter.issuer,
            audience=transmitter.audience,
            now=self._context.clock.now(),
            algorithms=transmitter.algorithms,
        )

    async def _apply(self, transmitter: TransmitterSettings, read: ReadSet, peer: str) -> None:
        """Rules 2 to 5, one commit. Raises `Conflict` for a token that was taken before."""
        context = self._context
        changes: list[Change] = []
        made: list[Append] = []
        noted: list[Append] = []
        for told in read.events:
            name = self._whom(transmitter, told)
            revocation = self._revocation(transmitter, read, told, name) if name else None
            if revocation is not None:
                changes.append(Revoked(revocation=revocation))
                made.append(Append(entry=ocsf.revocation(revocation, now=context.clock.now()), label=revocation.id))
            detail = {
                "jti": read.jti, "event": told.event, "principal": name or "", "effect": told.effect, "state": told.state, "reason": told.reason,
                "revoked": revocation.id if revocation else "", "peer": peer,
            }  # fmt: skip
            noted.append(self._entry(transmitter, "done", detail))
        await context.sequencer.submit(self._who(transmitter), changes, [*made, *noted], steps=[self._once(transmitter, read)])

    def _whom(self, transmitter: TransmitterSettings, told: Told) -> PrincipalId | None:
        """Rule 2."""
        provider = self._sources.settings_of(transmitter.provider)
        if not told.sub or told.issuer != provider.issuer:
            return None
        return person_name(self._context.trust_domain, provider.name, provider.issuer, told.sub)

    def _revocation(self, transmitter: TransmitterSettings, read: ReadSet, told: Told, name: PrincipalId) -> Revocation | None:
        """Rules 4 and 5."""
        facts, lasting = self._context.facts, told.effect == "until-undone"
        if told.effect not in {"until-login", "until-undone"} or (not lasting and name not in facts.registrations):
            return None
        standing = [one for one in facts.standing_revocations() if one.target == name and one.target_kind in {"principal", "registration"}]
        if any(not one.id.startswith(UNTIL_LOGIN) for one in standing):
            return None
        word = told.event.rpartition("/")[2]
        return Revocation(
            id=("" if lasting else UNTIL_LOGIN) + secrets.token_hex(8),
            trust_domain=TrustDomain(self._context.trust_domain),
            target_kind="principal",
            target=name,
            reason=f"{word} told by {transmitter.name}, event {read.jti[:64]}{': ' + told.reason if told.reason else ''}"[:500],
            requested_by=self._who(transmitter),
            made_at=self._context.clock.now(),
        )

    def _once(self, transmitter: TransmitterSettings, read: ReadSet) -> PutRecord:
        """Rule 3. The key begins with the day of the token, so that a sweep reads the oldest first."""
        name = hashlib.sha256(encode([transmitter.issuer, read.jti])).hexdigest()
        return PutRecord(kind=SEEN, key=f"{read.issued_at // 86_400_000:08d}/{name}", value=b"{}", must_be_new=True)

    async def _refused(self, transmitter: TransmitterSettings, err: str, reason: str, peer: str) -> None:
        """Rule 6, second half."""
        if not self._refusals.take(transmitter.name):
            self._untold[transmitter.name] = self._untold.get(transmitter.name, 0) + 1
            return
        more = self._untold.pop(transmitter.name, 0)
        await self._note(transmitter, "denied", {"err": err, "reason": reason, "peer": peer, "more": more})

    async def _note(self, transmitter: TransmitterSettings, outcome: str, detail: dict[str, Any]) -> None:
        await self._context.sequencer.submit(self._who(transmitter), (), [self._entry(transmitter, outcome, detail)])

    def _who(self, transmitter: TransmitterSettings) -> str:
        return f"system:ssf:{transmitter.name}"

    def _entry(self, transmitter: TransmitterSettings, outcome: str, detail: dict[str, Any]) -> Append:
        return Append(
            entry=ocsf.act(
                self._context.trust_domain,
                uid=secrets.token_hex(16),
                who=self._who(transmitter),
                verb="security-event",
                resource=resource(self._context.trust_domain, "system", "control"),
                outcome=outcome,
                detail=detail,
                now=self._context.clock.now(),
            )
        )


def ended_by(changes: Iterable[Change]) -> frozenset[str]:
    """Whose sessions a batch of changes ends. One that withdraws a revocation ends none: those of before ended with the revocation."""
    return frozenset(
        change.revocation.target
        for change in changes
        if isinstance(change, Revoked)
        and change.revocation.target_kind in {"principal", "registration"}
        and not change.revocation.withdrawn_by
    )
