"""The part of the control plane's surface that is about zones and what lies in them: assets, loads, gates, the map, proofs. Nothing happens here but naming the verb and handing over."""

from __future__ import annotations

from vouchgate.flows import assets, gates, loads, zones
from vouchgate.flows.administer import authorise
from vouchgate.flows.context import Context
from vouchgate.vocabulary import answers_gates, answers_loads, answers_zones
from vouchgate.vocabulary.answers import Caller


class ZonesSystem:
    """See the module's text."""

    context: Context

    async def assets(self, caller: Caller) -> tuple[answers_zones.AssetState, ...]:
        await authorise(self.context, caller, "read")
        return assets.listed(self.context)

    async def put_asset(self, caller: Caller, request: answers_zones.AssetRequest) -> answers_zones.AssetState:
        return await assets.put(self.context, caller, request)

    async def remove_asset(self, caller: Caller, name: str, reason: str) -> answers_zones.AssetState:
        return await assets.remove(self.context, caller, name, reason)

    async def move_asset(self, caller: Caller, request: answers_zones.AssetMove) -> answers_zones.MoveOutcome:
        return await assets.move(self.context, caller, request)

    async def load(self, caller: Caller, request: answers_loads.LoadRequest) -> answers_loads.LoadOutcome:
        return await loads.load(self.context, caller, request)

    async def gate(self, caller: Caller, request: answers_gates.GateRequest) -> answers_gates.GateOutcome:
        return await gates.ask(self.context, caller, request)

    async def serving(self, caller: Caller, request: answers_loads.ServingRequest) -> answers_loads.ServingOutcome:
        return await loads.serving(self.context, caller, request)

    async def zone_map(self, caller: Caller) -> answers_zones.ZoneMap:
        return await zones.show_map(self.context, caller)

    async def prove_zones(self, caller: Caller, source: str, target: str) -> answers_zones.ZoneProof:
        return await zones.prove(self.context, caller, source, target)

    async def blast(self, caller: Caller, origin: str) -> answers_zones.BlastRadius:
        return await zones.blast(self.context, caller, origin)

    async def attack_surface(self, caller: Caller) -> answers_zones.AttackSurface:
        return await zones.show_surface(self.context, caller)
