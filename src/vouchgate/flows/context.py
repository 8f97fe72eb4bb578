"""What every story of the control plane works with: the facts, the sequence, and the ports that wiring plugged in."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

from vouchgate.flows.facts import Facts
from vouchgate.flows.publish import Publisher
from vouchgate.flows.sequence import Sequencer
from vouchgate.flows.traffic import Traffic
from vouchgate.vocabulary.answers_zones import Drift
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.vouches import UnixMillis

MAX_BUCKETS = 10_000
"""Names with a bucket of their own."""


class Reads(Protocol):
    """The store, for reading (storage/contract.py)."""

    def get(self, kind: str, key: str) -> bytes | None: ...
    def scan(self, kind: str, *, index: str = "", equals: str = "", after: str = "", limit: int = 1_000) -> list[Any]: ...
    def epoch(self) -> int: ...
    def offset(self, source: str) -> Any: ...
    def size(self) -> int: ...
    def root(self) -> tuple[int, bytes]: ...
    def entries(self, start: int, count: int) -> list[bytes]: ...
    def find_entries(self, label: str) -> list[int]: ...
    def tile(self, level: int, index: int, width: int) -> bytes: ...
    def latest_checkpoint(self) -> bytes | None: ...
    def put_checkpoint(self, note: bytes) -> None: ...


class Remote(Protocol):
    """Another of our processes."""

    async def call(self, method: str, /, **params: Any) -> Any:
        """One request. Raises the peer's typed error, or `Unavailable`."""


class Clock(Protocol):
    """Time, by the rules of ports/clock.py."""

    trouble: str

    def now(self) -> UnixMillis: ...
    def accept(self) -> None: ...


@dataclass
class Place:
    """What only the supervisor knows."""

    gateway: str
    plain: str
    console: str
    isolated: bool
    own_uid: int
    sts: str = ""


class Buckets:
    """A token bucket for each name: `per_minute` on average, as many at once. Bounded; the least recent names are forgotten full."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> bool:
        """Whether one more is within the bound."""
        now = time.monotonic()
        left, at = self._left.pop(name, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
        self._left[name] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MAX_BUCKETS:
            self._left.popitem(last=False)
        return left >= 1


@dataclass
class Context:
    """One control plane."""

    settings: Settings
    place: Place
    facts: Facts
    store: Reads
    sequencer: Sequencer
    publisher: Publisher
    points: Any
    pdp: Any
    signer: Remote
    witness: Remote
    supervisor: Remote
    clock: Clock
    traffic: Traffic
    registering: Buckets
    once: set[str] = field(default_factory=set)
    """Tokens and nonces that are being used up right now; what is recorded as used is among the facts."""
    drifts: tuple[Drift, ...] = ()
    """What enforcement points were last seen to enforce otherwise than meant (flows/drift.py)."""
    validator: Any = None
    """Validates policies in a process of its own (flows/prevalidate.py); without one they are validated in this one."""
    started_at: UnixMillis = UnixMillis(0)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def trust_domain(self) -> str:
        """The tenant."""
        return self.settings.trust_domain

    def spawn(self, work: Any) -> None:
        """Run something beside, and keep it alive until it ends."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
