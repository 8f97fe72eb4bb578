"""Which cells (endpoint x caller) a change may alter; the part of `Facts` that only reads.

Rule: `touched` errs on the side of too many cells, and a change of one caller never names another's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from vouchgate.flows.changes import (
    AssetPut,
    AssetRemoved,
    Change,
    CrossingsPut,
    EndpointPut,
    EndpointRemoved,
    KeysPublished,
    PolicyActivated,
    RegistrationPut,
    RegistrationRemoved,
    Revoked,
    RiskSet,
    TrustRootAdopted,
    VouchAdded,
    ZonePut,
)
from vouchgate.flows.facts_world import Derived
from vouchgate.policy import facts as world_facts
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.vouches import Revocation

Cell = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Touched:
    """What a change may alter: whole endpoints (every caller), whole principals (every endpoint)."""

    endpoints: frozenset[str] = frozenset()
    principals: frozenset[str] = frozenset()
    everything: bool = False


class Cells(Derived):
    """See the module's text."""

    def touched(self, change: Change) -> Touched:
        """What a change may alter."""
        match change:
            case TrustRootAdopted() | PolicyActivated() | KeysPublished() | CrossingsPut():
                return Touched(everything=True)
            case ZonePut(zone=zone):
                return Touched(endpoints=frozenset(one.id for one in self.endpoints.values() if one.zone == zone.name))
            case EndpointPut(endpoint=endpoint):
                return Touched(endpoints=frozenset({endpoint.id}))
            case EndpointRemoved(id=endpoint_id):
                return Touched(endpoints=frozenset({endpoint_id}))
            case AssetPut(asset=asset):
                return self._touched_names({asset.id})
            case AssetRemoved(id=asset_id):
                return self._touched_names({asset_id})
            case RegistrationPut(registration=registration):
                return Touched(principals=frozenset({registration.principal}))
            case RegistrationRemoved(principal=principal):
                return Touched(principals=frozenset({principal}))
            case RiskSet(subject=subject):
                return self._touched_names({subject})
            case VouchAdded(id=vouch_id):
                vouch = self.lineage.vouches.get(vouch_id)
                return self._touched_names({subject.name for subject in vouch.subjects}) if vouch else Touched()
            case Revoked(revocation=revocation):
                return self._touched_by_revocation(revocation)
            case _:
                return Touched()

    def _touched_by_revocation(self, revocation: Revocation) -> Touched:
        affected = self.lineage.affected(revocation)
        names = set(affected.subjects) | {resource(self.trust_domain, "artifact", digest) for digest in affected.digests}
        if revocation.target_kind in {"principal", "registration"}:
            names.add(revocation.target)
        if revocation.target_kind == "digest":
            names.add(resource(self.trust_domain, "artifact", revocation.target))
        return self._touched_names(names)

    def _touched_names(self, names: Iterable[str]) -> Touched:
        uids = set()
        principals = set()
        for name in names:
            if name.startswith("spiffe://"):
                principals.add(name)
            else:
                try:
                    uids.add(world_facts.resource_uid(name))
                except InvalidInput:
                    continue
        found = self._touched_by(uids)
        return Touched(endpoints=found.endpoints, principals=found.principals | principals)

    def _touched_by(self, uids: Iterable[Any]) -> Touched:
        reached = {name for uid in uids for name in self.world.touched_by(uid)}
        behind = {endpoint.id for uid in reached if uid.type == "Tool" for endpoint in self.endpoints_with(uid.id)}
        things = {uid.id for uid in reached}
        behind |= {endpoint.id for endpoint in self.endpoints.values() if endpoint.asset in things}
        return Touched(
            endpoints=frozenset(uid.id for uid in reached if uid.type == "Endpoint") | behind,
            principals=frozenset(uid.id for uid in reached if uid.type == "Principal"),
        )

    def cells(self, touched: Touched) -> list[Cell]:
        """The cells behind what was touched. An endpoint whose body names the model is touched with each of its models."""
        if touched.everything:
            return self.all_cells()
        endpoints = self.endpoints_of(touched)
        found = [(endpoint_id, caller) for endpoint_id in endpoints for caller in self.registrations]
        callers = [one for one in touched.principals if one in self.registrations]
        return found + [(endpoint_id, caller) for caller in callers for endpoint_id in self.endpoints if endpoint_id not in endpoints]

    def endpoints_of(self, touched: Touched) -> set[str]:
        """The endpoints whose every cell was touched."""
        found: set[str] = {one for one in touched.endpoints if one in self.endpoints}
        return found | {one.id for one in self.endpoints.values() if not touched.endpoints.isdisjoint(one.models.values())}

    def all_cells(self) -> list[Cell]:
        """Every endpoint x every caller."""
        return [(endpoint_id, caller) for endpoint_id in self.endpoints for caller in self.registrations]
