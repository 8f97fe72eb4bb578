"""Whom the publisher tells and asks: the enforcement points and the PDP worker, as it needs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from vouchgate.flows.facts_cells import Cell
from vouchgate.vocabulary.decisions import Decision, Grant
from vouchgate.vocabulary.places import Endpoint, Zone
from vouchgate.vocabulary.vouches import Revocation


class Points(Protocol):
    """The enforcement points, as edges/envoy/publisher.py offers them."""

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """All endpoints."""

    def set_zones(self, zones: Iterable[Zone]) -> None:
        """All zones."""

    def set_refused(self, endpoint_ids: Iterable[str]) -> None:
        """All endpoints with refused evidence: enforced in observe too."""

    def set_grants(self, endpoint_id: str, grants: Iterable[Grant]) -> None:
        """All grants of one endpoint."""

    def set_revocations(self, revocations: Iterable[Revocation], *, epoch: int) -> None:
        """All standing revocations; pushed at once."""

    def pause(self, why: str) -> None:
        """Renew no lease."""

    def resume(self) -> None:
        """Renew leases again."""

    def withhold(self) -> None:
        """Say nothing of maps and routes to a gateway that has some."""

    def release(self) -> None:
        """Say it now."""


class Decider(Protocol):
    """The PDP worker."""

    async def decide_cells(self, cells: Sequence[Cell]) -> tuple[int, list[list[Decision]]]:
        """(epoch of the facts it used, for each cell one decision for each action and model)."""
