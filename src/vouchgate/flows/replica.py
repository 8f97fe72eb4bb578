"""The PDP worker's side: a replica of the facts, fed by the control plane, asked for cells and for single requests.

Rules
1. Changes are applied in the control plane's order; a gap (the feed's `since` is not our epoch) is refused, and the whole state is sent anew.
2. The replica verifies every signature itself (`Facts`), so a changed feed adds no trust.
3. Without word from the control plane within the lease, single requests are refused.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from vouchgate.flows.admit_request import Admission, admit
from vouchgate.flows.delegation import Proofs
from vouchgate.flows.facts import Facts
from vouchgate.flows.facts_cells import Cell
from vouchgate.flows.prevalidate import Validator, prepare
from vouchgate.flows.sequence import Sequenced
from vouchgate.identity.dpop import Seen
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import Conflict, InvalidInput
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis

PIECE_SECONDS = 0.003
"""For so long cells are decided at a stretch: a single request waits no longer for them."""
LOAD_AT_ONCE = 32
"""Changes of a load that are applied at a stretch; a vouch's signatures take 0.3 ms."""


def _read(one: bytes | Sequenced) -> Sequenced:
    return one if isinstance(one, Sequenced) else wire.decode(Sequenced, one, what="change")


class Replica:
    """Facts of the PDP worker."""

    def __init__(self, trust_domain: str, fingerprint: str, clock: Callable[[], UnixMillis], *, origins: tuple[str, ...] = ()) -> None:
        self._trust_domain, self._fingerprint, self._clock = trust_domain, fingerprint, clock
        self.facts = Facts(trust_domain, fingerprint)
        self.loading: Facts | None = None
        self.instance = secrets.token_hex(8)
        self.proofs = Proofs(Seen(clock()), origins)
        """Proofs of possession that were used since this worker started."""
        self.lease_until = UnixMillis(0)
        self.alarm = ""
        """Why this worker no longer decides (the compiled policies and Cedar disagreed); a new policy version or a restart clears it."""

    def hello(self) -> dict[str, Any]:
        """Who this is, and how far it is."""
        return {"instance": self.instance, "epoch": self.facts.epoch, "alarm": self.alarm}

    def now(self) -> UnixMillis:
        """The worker's clock."""
        return self._clock()

    def begin(self) -> None:
        """The whole state follows; until `end` the old facts answer."""
        self.loading = Facts(self._trust_domain, self._fingerprint)

    async def prepare(self, changes: Sequence[bytes], validator: Validator | None, *, loading: bool = False) -> list[Sequenced]:
        """The changes, decoded, after the policies that they bring into force were validated beside the loop (flows/prevalidate.py).

        Changes behind them wait, and single requests go on being answered from what was in force. A revocation that waits is enforced
        nevertheless: gateways get the list of what is revoked from the control plane itself, and look there before they ask.
        """
        read = [wire.decode(Sequenced, data, what="change") for data in changes]
        await prepare(self.loading if loading and self.loading is not None else self.facts, read, validator)
        return read

    def load(self, changes: Sequence[bytes | Sequenced]) -> None:
        """A part of the state, in replay order. Raises `InvalidInput` outside of `begin` and `end`."""
        if self.loading is None:
            raise InvalidInput("no load has begun", remedy="begin one")
        now = self._clock()
        for one in changes:
            self.loading.apply(_read(one), now)

    def end(self, epoch: int) -> dict[str, Any]:
        """The state is complete as of `epoch`."""
        if self.loading is None:
            raise InvalidInput("no load has begun", remedy="begin one")
        self.facts, self.loading = self.loading, None
        self.facts.epoch = epoch
        return self.hello()

    def apply(self, since: int, changes: Sequence[bytes | Sequenced]) -> dict[str, Any]:
        """Changes that follow epoch `since`. Raises `Conflict` on a gap."""
        if since != self.facts.epoch:
            raise Conflict(f"the feed continues epoch {since}, this replica is at {self.facts.epoch}", remedy="send the whole state")
        now = self._clock()
        for one in changes:
            self.facts.apply(_read(one), now)
        return self.hello()

    def lease(self, milliseconds: int) -> None:
        """The control plane is there; single requests may be answered for so long."""
        self.lease_until = UnixMillis(self._clock() + milliseconds)

    def cells(self, cells: Sequence[Cell]) -> dict[str, Any]:
        """Standing decisions of cells, encoded."""
        return {"epoch": self.facts.epoch, "cells": [self._cell(cell) for cell in cells]}

    async def cells_in_turn(self, cells: Sequence[Cell]) -> dict[str, Any]:
        """The same in pieces of PIECE_SECONDS, between which single requests are answered.

        The epoch is the one at the beginning: a change that came between counts as not seen, and whoever asked decides its cells again.
        """
        epoch, made, began = self.facts.epoch, [], time.monotonic()
        for cell in cells:
            made.append(self._cell(cell))
            if time.monotonic() - began >= PIECE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()
        return {"epoch": epoch, "cells": made}

    def _cell(self, cell: Cell) -> list[bytes]:
        return [wire.encode(decision) for decision in self.facts.standing((cell[0], cell[1]), self._clock())]

    def admit(self, request: Request) -> Admission:
        """One request."""
        until = UnixMillis(0) if self.alarm else self.lease_until
        admission = admit(request, self.facts, self._clock(), lease_until=until, proofs=self.proofs)
        self.alarm = self.alarm or admission.alarm
        return admission
