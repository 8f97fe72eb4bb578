"""What we revoke is told to those who must know: session-revoked for a person, credential-change for a credential, pushed until they have it.

1. A revocation of a person or a credential makes one delivery for each receiver of the settings, except back to whoever told us of it.
2. A delivery is a record before it is tried, and carries one `jti` for all its tries, so that a receiver that took it without our hearing so
   counts it once (RFC 8935, section 2). A start looks for revocations of the last `FORGET_MS` without a record: what was committed just before
   a crash is told too.
3. A try that fails is tried again after `FIRST_PAUSE_MS`, twice as long each time, at most `LONGEST_PAUSE_MS`; after `GIVE_UP_MS`, or where the
   receiver refuses the event itself (RFC 8935, section 2.3), it is given up with an entry.
4. Each receiver has at most `MAX_WAITING` deliveries; over that the oldest is given up with an entry. One slow receiver delays no other.
5. The signer builds and signs each token from named fields at each try.
6. Each start begins with a verification event to each receiver (SSF 1.0, section 8.1.4): a stream that does not work is an entry before it is
   needed.
Left to others: the push itself (edges/processes/outbound.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.changes import Revoked
from vouchgate.flows.context import Context, Remote
from vouchgate.flows.sequence import Sequenced
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.names import principal_parts, resource
from vouchgate.vocabulary.records import Append, DeleteRecord, PutRecord
from vouchgate.vocabulary.settings_people import ReceiverSettings
from vouchgate.vocabulary.vouches import Revocation, UnixMillis
from vouchgate.vocabulary.wire import Noun, decode, encode

QUEUE = "event-out"
"""Record kind of deliveries, done ones included until `FORGET_MS`."""
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 1_000, 600_000
"""Back-off: a restart of the receiver costs seconds, a night's outage no flood."""
GIVE_UP_MS = 7 * 86_400_000
FORGET_MS = 8 * 86_400_000
"""Done deliveries are kept this long, so that a start does not tell the same again."""
MAX_WAITING = 10_000
"""Deliveries that wait for one receiver."""
AT_ONCE = 8
"""Deliveries of one receiver under way together."""
TURN_SECONDS = 0.25
"""Between looks for deliveries that are due; a new one is looked at right away."""
WHO = "system:events"


class Delivery(Noun, frozen=True, kw_only=True):
    """One event for one receiver."""

    receiver: str
    revocation: str
    event: str
    principal: str
    credential: str = ""
    reason: str = ""
    at: UnixMillis
    jti: str
    tries: int = 0
    due_at: UnixMillis
    done_at: UnixMillis = UnixMillis(0)

    @property
    def key(self) -> str:
        """Its record."""
        return f"{self.receiver}/{self.revocation}"


class Telling:
    """See the module's text."""

    def __init__(self, context: Context, outbound: Remote) -> None:
        self._context, self._outbound = context, outbound
        self._waiting: dict[str, Delivery] = {}
        self._known: set[str] = set()
        self._under_way: dict[str, int] = {}
        self._fresh: list[Revocation] = []
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Deliveries that are not done."""
        return len(self._waiting)

    def tell(self, batch: Sequence[Sequenced]) -> None:
        """Changes that were committed."""
        fresh = [one.change.revocation for one in batch if isinstance(one.change, Revoked) and not one.change.revocation.withdrawn_by]
        if fresh and self._context.settings.ssf.receivers:
            self._fresh += fresh
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        started = False
        while True:
            try:
                if not started:
                    await self.start()
                    started = True
                    for receiver in self._context.settings.ssf.receivers:
                        self._context.spawn(self.verify(receiver))
                await self.turn()
            except VouchgateError:
                # the store is away; what waits is still recorded or among `_fresh`
                await asyncio.sleep(TURN_SECONDS)
            self._wake.clear()
            if not self._fresh:
                try:
                    await asyncio.wait_for(self._wake.wait(), TURN_SECONDS if self._waiting else None)
                except TimeoutError:
                    continue

    async def start(self) -> None:
        """Rule 2: read the queue back, and find what a crash left out."""
        now = self._context.clock.now()
        gone = []
        for delivery in self._records():
            if delivery.done_at and now - delivery.done_at > FORGET_MS:
                gone.append(DeleteRecord(kind=QUEUE, key=delivery.key))
                continue
            self._known.add(delivery.key)
            if not delivery.done_at:
                self._waiting[delivery.key] = delivery
        for first in range(0, len(gone), 500):
            await self._context.sequencer.append(WHO, (), steps=gone[first : first + 500])
        recent = [one for one in self._context.facts.standing_revocations() if now - one.made_at < GIVE_UP_MS]
        self._fresh = [*sorted(recent, key=lambda one: one.made_at), *self._fresh]

    async def turn(self) -> None:
        """Record what is new, and try what is due."""
        fresh, self._fresh = self._fresh, []
        try:
            await self._record([one for revocation in fresh for one in self._deliveries(revocation)])
        except VouchgateError:
            self._fresh = [*fresh, *self._fresh]
            raise
        now, receivers = self._context.clock.now(), {one.name: one for one in self._context.settings.ssf.receivers}
        for delivery in [one for one in self._waiting.values() if one.due_at <= now]:
            receiver = receivers.get(delivery.receiver)
            if receiver is None:
                await self._end(delivery, "denied", "the receiver is not in the settings any more")
            elif self._under_way.get(receiver.name, 0) < AT_ONCE and delivery.key in self._waiting:
                self._under_way[receiver.name] = self._under_way.get(receiver.name, 0) + 1
                # not due again while it is under way
                self._waiting[delivery.key] = msgspec.structs.replace(delivery, due_at=UnixMillis(now + LONGEST_PAUSE_MS))
                self._context.spawn(self._try(receiver, delivery))

    async def verify(self, receiver: ReceiverSettings) -> None:
        """Rule 6; what came of it is an entry."""
        now, state = self._context.clock.now(), secrets.token_hex(16)
        made = Delivery(
            receiver=receiver.name,
            revocation="",
            event="verification",
            principal="",
            reason=state,
            at=now,
            jti=secrets.token_hex(16),
            due_at=now,
        )
        try:
            why = await self._push(receiver, made)
        except VouchgateError as error:
            why = error.reason
        detail = {"receiver": receiver.name, "event": "verification", "jti": made.jti, "state": state, "why": why}
        with contextlib.suppress(VouchgateError):
            await self._context.sequencer.append(WHO, [_entry(self._context, "denied" if why else "done", detail)])

    def _deliveries(self, revocation: Revocation) -> list[Delivery]:
        """Rule 1."""
        event, name, credential = _told(self._context, revocation)
        if not event:
            return []
        transmitters = {one.name: one for one in self._context.settings.ssf.transmitters}
        by = transmitters.get(revocation.requested_by.removeprefix("system:ssf:"))
        return [
            Delivery(
                receiver=one.name,
                revocation=revocation.id,
                event=event,
                principal=name,
                credential=credential,
                reason=revocation.reason,
                at=revocation.made_at,
                jti=secrets.token_hex(16),
                due_at=self._context.clock.now(),
            )
            for one in self._context.settings.ssf.receivers
            if (by is None or by.name != one.name) and f"{one.name}/{revocation.id}" not in self._known
        ]

    async def _record(self, deliveries: list[Delivery]) -> None:
        for first in range(0, len(deliveries), 256):
            part = deliveries[first : first + 256]
            await self._context.sequencer.append(WHO, (), steps=[PutRecord(kind=QUEUE, key=one.key, value=encode(one)) for one in part])
            for one in part:
                self._known.add(one.key)
                self._waiting[one.key] = one
        for receiver in {one.receiver for one in deliveries}:
            own = [one for one in self._waiting.values() if one.receiver == receiver]
            for one in own[: max(0, len(own) - MAX_WAITING)]:
                await self._end(one, "denied", f"more than {MAX_WAITING} deliveries wait for the receiver")

    async def _try(self, receiver: ReceiverSettings, delivery: Delivery) -> None:
        """Rule 3."""
        try:
            why = await self._push(receiver, delivery)
            if why:
                await self._end(delivery, "denied", why)
            else:
                await self._end(delivery, "done", "")
        except VouchgateError as error:
            await self._later(delivery, error)
        finally:
            self._under_way[receiver.name] -= 1
            self._wake.set()

    async def _push(self, receiver: ReceiverSettings, delivery: Delivery) -> str:
        """One try; why the receiver refuses the event itself, or nothing. Raises where trying again may help."""
        settings = self._context.settings
        sub, sub_issuer = "", ""
        alias = principal_parts(delivery.principal).zone if delivery.principal else ""
        provider = next((one for one in settings.oidc if one.name == alias), None)
        if provider is not None and not principal_parts(delivery.principal).name.startswith("u-"):
            sub, sub_issuer = principal_parts(delivery.principal).name, provider.issuer
        signed = await self._context.signer.call(
            "event_token",
            event=delivery.event,
            issuer=settings.ssf.issuer or settings.sts.url,
            audience=receiver.audience,
            jti=delivery.jti,
            principal=delivery.principal,
            sub=sub,
            sub_issuer=sub_issuer,
            credential=delivery.credential,
            reason="" if delivery.event == "verification" else delivery.reason,
            at=delivery.at,
            state=delivery.reason if delivery.event == "verification" else "",
        )
        answer = await self._outbound.call("out.push", to=f"ssf-receiver:{receiver.name}", body=signed["token"].encode())
        if answer["status"] in {200, 202}:
            return ""
        if answer["status"] == 400:
            return f"the receiver refused the event: {_printable(bytes(answer['body']))}"
        raise VouchgateError(f"the receiver answered {answer['status']}", remedy="see its log")

    async def _later(self, delivery: Delivery, error: VouchgateError) -> None:
        now = self._context.clock.now()
        if now - delivery.at > GIVE_UP_MS:
            await self._end(delivery, "denied", error.reason)
            return
        pause = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** min(delivery.tries, 20))
        self._waiting[delivery.key] = msgspec.structs.replace(delivery, tries=delivery.tries + 1, due_at=UnixMillis(now + pause))

    async def _end(self, delivery: Delivery, outcome: str, why: str) -> None:
        now = self._context.clock.now()
        done = msgspec.structs.replace(delivery, done_at=now)
        detail = {
            "receiver": delivery.receiver, "revocation": delivery.revocation, "event": delivery.event, "jti": delivery.jti,
            "tries": delivery.tries + 1, "why": why,
        }  # fmt: skip
        try:
            step = PutRecord(kind=QUEUE, key=done.key, value=encode(done))
            await self._context.sequencer.append(WHO, [_entry(self._context, outcome, detail)], steps=[step])
        except VouchgateError:
            # not recorded as done: it is told once more, under the same id, and not before the store has had a moment
            self._waiting[delivery.key] = msgspec.structs.replace(delivery, due_at=UnixMillis(now + FIRST_PAUSE_MS))
            return
        self._waiting.pop(delivery.key, None)

    def _records(self) -> list[Delivery]:
        found: list[Delivery] = []
        after = ""
        while True:
            page = self._context.store.scan(QUEUE, after=after, limit=1_000)
            found += [decode(Delivery, record.value, what="delivery") for record in page]
            if len(page) < 1_000:
                return found
            after = page[-1].key


def _told(context: Context, revocation: Revocation) -> tuple[str, str, str]:
    """(event, principal, credential) of a revocation, or nothing where nobody outside needs to know."""
    if revocation.target_kind in {"principal", "registration"}:
        if principal_parts(revocation.target).kind != "person":
            return "", "", ""
        return "session-revoked", revocation.target, ""
    if revocation.target_kind == "credential":
        record = context.store.get("credential", revocation.target)
        name = msgspec.json.decode(record).get("principal", "") if record else ""
        return ("credential-change", name, revocation.target) if name else ("", "", "")
    return "", "", ""


def _entry(context: Context, outcome: str, detail: dict[str, Any]) -> Append:
    return Append(
        entry=ocsf.act(
            context.trust_domain,
            uid=secrets.token_hex(16),
            who=WHO,
            verb="tell-receiver",
            resource=resource(context.trust_domain, "system", "control"),
            outcome=outcome,
            detail=detail,
            now=context.clock.now(),
        )
    )


def _printable(body: bytes) -> str:
    return "".join(one for one in body[:400].decode("utf-8", "replace") if one.isprintable())
