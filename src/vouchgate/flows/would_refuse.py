"""What enforcing a zone would refuse, of the calls that were seen in observe."""

from __future__ import annotations

from vouchgate.flows.context import Context
from vouchgate.vocabulary.answers import WouldRefuse


def would_refuse(context: Context, zone_name: str) -> tuple[tuple[WouldRefuse, ...], int]:
    """(cells that were called in observe and that enforcing refuses, calls seen in the zone)."""
    endpoints = {one.id for one in context.facts.endpoints.values() if one.zone == zone_name}
    rows = []
    for (who, action, name), count in context.traffic.cells.items():
        if name in endpoints and count.would_deny:
            rows.append(
                WouldRefuse(
                    principal=who,
                    authenticated=count.authenticated,
                    action=action,
                    resource=name,
                    count=count.would_deny,
                    last_at=count.last_at,
                    reason=count.reason,
                    remedy=count.remedy,
                )
            )
    calls = sum(count.allowed + count.denied for name, count in context.traffic.endpoints.items() if name in endpoints)
    return tuple(sorted(rows, key=lambda row: -row.count)), calls
