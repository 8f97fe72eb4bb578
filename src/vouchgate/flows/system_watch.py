"""The part of the control plane's surface that looks at enforcement points from outside, and ahead: export, drift, forecast, what to adopt
next. Nothing happens here but naming the verb and handing over."""

from __future__ import annotations

from pathlib import Path

from vouchgate.flows import adopt_rank, export_zones
from vouchgate.flows import forecast as ahead
from vouchgate.flows.administer import authorise
from vouchgate.flows.context import Context
from vouchgate.flows.drift import DriftWatch
from vouchgate.flows.federate import Federation
from vouchgate.vocabulary import answers_zones
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.layout import Layout


class WatchSystem:
    """See the module's text."""

    context: Context
    federation: Federation
    drift: DriftWatch | None = None
    """Once there is something to be read back."""

    async def export_zones(self, caller: Caller, request: answers_zones.ExportRequest) -> answers_zones.ExportOutcome:
        await authorise(self.context, caller, "read")
        return export_zones.rendered(self.context, request, layout=Layout(Path(self.context.settings.data_dir)))

    async def zones_drift(self, caller: Caller, fresh: bool) -> answers_zones.DriftReport:
        await authorise(self.context, caller, "read")
        if self.drift is None:
            raise Unavailable("nothing is read back yet", remedy="try again shortly")
        return await self.drift.look() if fresh else self.drift.report()

    async def forecast(self, caller: Caller) -> answers_zones.Forecast:
        await authorise(self.context, caller, "read")
        return await ahead.forecast(self.context, self.federation.listed())

    async def adopt_next(self, caller: Caller) -> answers_zones.AdoptRanking:
        await authorise(self.context, caller, "explain")
        return adopt_rank.ranked(self.context)
