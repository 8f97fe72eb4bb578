"""Run: one execution of a job or step, to which credentials are bound and with which they die."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from vouchgate.vocabulary.names import PrincipalId, TrustDomain
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

MAX_RUN_SECONDS = 30 * 24 * 3600
"""Longest life of a run: a month of training; a longer one begins anew."""
MAX_RUN_INPUTS = 1_024
"""Declared inputs of one run: a sharded dataset names its manifest."""
RUN_PATTERN = r"run-[0-9a-f]{16}"


class Run(Noun, frozen=True, kw_only=True):
    """A run and what it declared before it began."""

    id: str
    """`run-` and 16 lower-case hexadecimal digits."""
    trust_domain: TrustDomain
    principal: PrincipalId
    zone: str
    stage: str
    """What it does: `ingest`, `train`, `evaluate`, ..."""
    purpose: str = ""
    """What it was begun for, for policies; empty where nobody said."""
    inputs: tuple[str, ...] = ()
    """Digest texts of what it may read, sorted."""
    started_at: UnixMillis
    not_after: UnixMillis
    ended_at: UnixMillis = UnixMillis(0)
    """0 while it goes on."""
    ended_by: str = ""
    reason: str = ""

    def alive(self, now: UnixMillis) -> bool:
        """Whether it goes on at `now`."""
        return not self.ended_at and self.started_at <= now < self.not_after


def inputs_digest(inputs: Iterable[str]) -> str:
    """What a credential carries for a run's declared inputs; empty for none."""
    listed = sorted(set(inputs))
    return hashlib.sha256("\n".join(listed).encode()).hexdigest() if listed else ""
