"""Tell the agent what may have changed for whom, so that live streams get it at once; a change is told here right after it is durable.

1. The sequencer never waits: a change only adds to what is due, and what is due coalesces.
2. `check`: connections whose identity, binding or standing may be another now; the agent asks again, and gets the same, something new, or a
   refusal that ends the stream. `rotate`: they get a new credential whatever else holds. `state`: bundles or revocation lists are others.
3. A registration that ends by itself, and evidence that lapses, are changes too; they are looked for once a second.
4. Evidence that falls under a live binding revokes the binding (workload_binding.py) in the same breath.
5. An agent that does not answer is told again until it does; after a start, it is told to check everything.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vouchgate.audit import ocsf
from vouchgate.flows.changes import (
    Change,
    EndpointPut,
    EndpointRemoved,
    KeysPublished,
    RegistrationPut,
    RegistrationRemoved,
    Revoked,
    SourcePut,
    SourceRemoved,
    TrustRootAdopted,
    VouchAdded,
)
from vouchgate.flows.context import Context
from vouchgate.flows.sequence import Sequenced
from vouchgate.flows.workload import Workloads
from vouchgate.flows.workload_binding import fallen
from vouchgate.flows.workload_state import State
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.names import principal, trust_domain
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import Revocation

RETRY_SECONDS = 0.5
"""Pause before an agent is told again that did not answer."""
LOOK_SECONDS = 1.0
"""Seconds between looks at what ended or lapsed by itself."""
MAX_NAMED = 4_096
"""Connections that one message names; with more, everybody is told to check."""

log = logging.getLogger("vouchgate.workload")


class Agent(Protocol):
    """The agent's frames socket."""

    async def call(self, method: str, /, **params: Any) -> Any:
        """One request. Raises the peer's typed error, or `Unavailable`."""


@dataclass
class _Due:
    check: set[str] = field(default_factory=set)
    rotate: set[str] = field(default_factory=set)
    check_all: bool = False
    rotate_all: bool = False
    state: bool = False

    def __bool__(self) -> bool:
        return bool(self.check or self.rotate or self.check_all or self.rotate_all or self.state)

    def add(self, other: _Due) -> None:
        self.check |= other.check
        self.rotate |= other.rotate
        self.check_all |= other.check_all
        self.rotate_all |= other.rotate_all
        self.state |= other.state


class Push:
    """See the module's text. Belongs to one event loop."""

    def __init__(self, context: Context, workloads: Workloads, agent: Agent, state: State) -> None:
        self._context, self._workloads, self._agent, self._state = context, workloads, agent, state
        workloads.on_issuer = self._new_issuer
        self._due = _Due(check_all=True, state=True)
        self._wake = asyncio.Event()
        self._wake.set()
        self._authorities: tuple[bytes, ...] | None = None
        self._falling: set[str] = set()
        self.trouble = ""
        """Why the agent was not told; empty while it is."""

    # -- told by the sequencer

    def tell(self, batch: Sequence[Sequenced]) -> None:
        """Rules 1, 2 and 4 for changes that are durable and applied."""
        for one in batch:
            self._workloads.candidates.take(one.change)
            self._take(one.change)
        if self._due:
            self._wake.set()

    def rotate(self, principal_id: str = "") -> int:
        """New credentials for everybody, or for one principal; how many connections that concerns."""
        live = self._workloads.attached
        if not principal_id:
            self._due.rotate_all = True
        else:
            self._due.rotate |= self._of({principal_id})
        self._wake.set()
        return len(live) if not principal_id else len(self._due.rotate)

    def _take(self, change: Change) -> None:
        match change:
            case RegistrationPut() | RegistrationRemoved():
                self._due.check |= self._workloads.candidates.reached(change, self._workloads.attached)
            case Revoked(revocation=revocation):
                self._revoked(revocation)
            case VouchAdded() | EndpointPut() | EndpointRemoved():
                self._evidence()
            case TrustRootAdopted():
                self._evidence()
            case KeysPublished():
                self._keys()
            case SourcePut() | SourceRemoved():
                self._renew_state()
            case _:
                return

    def _revoked(self, revocation: Revocation) -> None:
        if revocation.target_kind in {"principal", "registration"}:
            self._due.check |= self._of({revocation.target})
        elif revocation.target_kind == "credential":
            self._renew_state()
            struck = {revocation.target, *self._context.facts.struck_credentials(revocation)}
            self._due.rotate |= self._workloads.attached.with_serial(struck)
        else:
            self._evidence()

    def _keys(self) -> None:
        bundle = self._context.facts.bundle
        authorities = bundle.x509_authorities if bundle else ()
        if self._authorities is not None and authorities != self._authorities:
            self._due.rotate_all = True
        self._authorities = authorities
        self._renew_state()

    def _renew_state(self) -> None:
        self._state.changed()
        self._due.state = True

    def _new_issuer(self) -> None:
        """Certificates come from another issuer now, whose revocation list readers will ask for."""
        self._renew_state()
        self._wake.set()

    def _of(self, principals: Iterable[str]) -> set[str]:
        return self._workloads.attached.of(principals)

    def _evidence(self) -> None:
        """Rule 4."""
        serving = self._workloads.candidates.of_endpoint
        self._due.check |= self._of(name for names in serving.values() for name in names)
        now = self._context.clock.now()
        for binding in fallen(self._context.facts, serving, now):
            if binding not in self._falling:
                self._falling.add(binding)
                self._context.spawn(self._revoke(binding))

    async def _revoke(self, binding: str) -> None:
        context, now = self._context, self._context.clock.now()
        made = Revocation(
            id=secrets.token_hex(8),
            trust_domain=trust_domain(context.trust_domain),
            target_kind="credential",
            target=binding,
            reason="the evidence that certificates of this server rest on no longer holds",
            requested_by=principal(context.trust_domain, "system", "control", "control"),
            made_at=now,
        )
        try:
            await context.sequencer.submit(
                "system:control", [Revoked(revocation=made)], [Append(entry=ocsf.revocation(made, now=now), label=made.id)]
            )
        except VouchgateError as error:
            log.error("certificates of a server whose evidence fell could not be revoked: %s", error.reason)
        finally:
            self._falling.discard(binding)

    # -- the loop

    async def run(self) -> None:
        """Rules 3 and 5, until cancelled."""
        while True:
            self._lapsed()
            if self._due:
                await self._send()
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    def _lapsed(self) -> None:
        now = self._context.clock.now()
        ended = self._workloads.candidates.ended(now)
        if ended:
            self._due.check |= self._of(ended)
        if self._state.overdue():
            self._due.state = True
        if self._has_fallen():
            self._evidence()
        if self._workloads.refusals.overdue():
            self._context.spawn(self._workloads.record_refusals())

    def _has_fallen(self) -> bool:
        return bool(fallen(self._context.facts, self._workloads.candidates.of_endpoint, self._context.clock.now()))

    async def _send(self) -> None:
        self._wake.clear()
        due, self._due = self._due, _Due()
        everybody = len(due.check) > MAX_NAMED or len(due.rotate) > MAX_NAMED
        try:
            await self._agent.call(
                "poke",
                check=[] if everybody else sorted(due.check),
                rotate=[] if everybody else sorted(due.rotate),
                check_all=due.check_all or len(due.check) > MAX_NAMED,
                rotate_all=due.rotate_all or len(due.rotate) > MAX_NAMED,
                state=due.state,
            )
            self.trouble = ""
        except VouchgateError as error:
            self.trouble = error.reason
            due.add(self._due)
            self._due = due
            await asyncio.sleep(RETRY_SECONDS)
            self._wake.set()
