"""The control plane's side of an in-process point: hands an endpoint's own server its map and lease, and takes its calls into the log.

Rules
1. A server gets the map of the endpoint that it was started for, and of no other; the kernel says whose uid asks.
2. The map holds what the gateway's map holds; grants bound to the request or with obligations are left out. Its grants name the point
   `in_process`, so that nothing that must come through the gateway rests on them.
3. While leases are held back for the gateway, they are held back here: the map's lease is 0.
4. A call is logged once: a number that is not above the last one of its process and phase is a repetition.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.context import Context
from vouchgate.flows.shape import shape
from vouchgate.identity.bundle import write_jwks
from vouchgate.vocabulary.errors import NotFound, Unavailable
from vouchgate.vocabulary.events import Event
from vouchgate.vocabulary.leased import InProcessCall, LeasedMap
from vouchgate.vocabulary.places import DEFAULT_LEASE_SECONDS, Endpoint
from vouchgate.vocabulary.records import Append

MAX_WAIT_MS = 30_000
"""Milliseconds that a question may wait for a change."""
MAX_PROCESSES = 1_000
"""Processes whose last number is remembered."""


class InProcess:
    """See the module's text."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def pull(self, endpoint_id: str, epoch: int, wait_ms: int) -> LeasedMap:
        """The map, as soon as the epoch differs or the wait is over. Raises `NotFound`, `Unavailable`."""
        facts = self._context.facts
        if epoch == facts.epoch and not self._context.publisher.holding:
            try:
                async with asyncio.timeout(min(wait_ms, MAX_WAIT_MS) / 1000):
                    await self._context.publisher.changed.wait()
            except TimeoutError:
                pass
        endpoint = facts.endpoints.get(endpoint_id)
        if endpoint is None:
            raise NotFound(f"there is no endpoint `{endpoint_id[:160]}`", remedy="name it in vouchgate.toml")
        if facts.bundle is None:
            raise Unavailable("the trust bundle is not there yet", remedy="ask again in a moment")
        return self._map(endpoint)

    def _map(self, endpoint: Endpoint) -> LeasedMap:
        facts, now = self._context.facts, self._context.clock.now()
        zone = facts.zones.get(endpoint.zone)
        lease = 1000 * (zone.lease_seconds if zone else DEFAULT_LEASE_SECONDS)
        grants = [one for one in self._context.publisher.grants(endpoint.id) if one.condition == "none" and not one.obligations]
        kinds = {"principal", "registration", "credential"}
        assert facts.bundle is not None
        return LeasedMap(
            trust_domain=endpoint.trust_domain,
            endpoint=endpoint.id,
            epoch=facts.epoch,
            now=now,
            lease_ms=0 if self._context.publisher.holding else lease,
            mode="enforce" if facts.has_refused_evidence(endpoint.id, now) else facts.mode_of(endpoint.zone, now),
            bearer=endpoint.bearer,
            routes=endpoint.routes,
            grants=tuple(msgspec.structs.replace(one, pep="in_process") for one in grants),
            revoked=tuple(one.target for one in facts.standing_revocations() if one.target_kind in kinds),
            bundle=write_jwks(facts.bundle),
        )

    async def record(self, endpoint_id: str, calls: Sequence[InProcessCall], lost: int) -> None:
        """Step 4, in one commit. `lost` calls that the process could not keep are a gap."""
        now = self._context.clock.now()
        fresh = [call for call in calls if self._is_new(call)]
        events = [self._event(endpoint_id, call) for call in fresh]
        entries = [Append(entry=ocsf.request(self._context.trust_domain, event), label=event.request_id) for event in events]
        if lost > 0:
            gap = ocsf.gap(self._context.trust_domain, source=f"in-process {endpoint_id}", missing=lost, since=now, until=now, now=now)
            entries.append(Append(entry=gap))
        if entries:
            await self._context.sequencer.submit("system:in-process", (), entries)
        for event in events:
            if event.phase == "end":
                line = shape(event, self._context.trust_domain).line
                would = "deny" if event.detail.get("would_deny") else line.would_be
                self._context.traffic.add(msgspec.structs.replace(line, seq=self._context.store.size(), would_be=would))

    def _is_new(self, call: InProcessCall) -> bool:
        key = (call.instance, call.phase)
        if call.seq <= self._last.get(key, 0):
            return False
        self._last[key] = call.seq
        self._last.move_to_end(key)
        if len(self._last) > MAX_PROCESSES:
            self._last.popitem(last=False)
        return True

    def _event(self, endpoint_id: str, call: InProcessCall) -> Event:
        return Event(
            source=f"in-process:{call.instance[:64]}",
            source_epoch=0,
            source_seq=call.seq,
            occurred_at=call.at,
            observed_at=self._context.clock.now(),
            principal=call.principal,
            authenticated=call.authenticated,
            credential_id=call.credential_id,
            action=call.action,
            resource=endpoint_id,
            decision_id=call.decision_id,
            grant_id=call.grant_id,
            enforced_by="in_process",
            phase=call.phase,
            outcome="allowed" if call.allowed else "denied",
            request_id=call.request_id,
            duration_ms=call.duration_us / 1000,
            detail={"status": call.status, "method": call.method, "path": call.path, "code": call.code, "would_deny": call.would_deny},
        )
