"""Plan: which zones there are, where each runs, what listens in it, and which zones may call at all.

Rules
1. A zone that the plan does not name may do nothing.
2. A flow says that callers of one zone may reach the gateway's endpoints of another; whether a caller may is decided by the gateway.
"""

from __future__ import annotations

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.places import Endpoint, Zone
from vouchgate.vocabulary.wire import Noun

MAX_ZONES = 1_000
"""Zones of one plan; a lifecycle has about ten a tenant."""


class Flow(Noun, frozen=True, kw_only=True):
    """Callers in `source` may reach endpoints in `target`, through the gateway."""

    source: str
    target: str


class Gateway(Noun, frozen=True, kw_only=True):
    """Where the gateway runs."""

    namespace: str
    labels: dict[str, str]
    """Of its pods."""
    ports: tuple[int, ...]
    """That callers reach."""


class Plan(Noun, frozen=True, kw_only=True):
    """Everything that an exporter needs."""

    trust_domain: TrustDomain
    zones: tuple[Zone, ...]
    endpoints: tuple[Endpoint, ...]
    flows: tuple[Flow, ...]
    gateway: Gateway
    namespaces: dict[str, str] = {}
    """Zone -> namespace; a zone that is not here runs in the namespace of its own name."""


def check(plan: Plan) -> None:
    """Raise `InvalidInput` for a zone given twice, one that is not there, or a plan over the bound."""
    names = [zone.name for zone in plan.zones]
    if len(names) > MAX_ZONES:
        raise InvalidInput(f"the plan has {len(names)} zones, the bound is {MAX_ZONES}", remedy="split it")
    if len(set(names)) != len(names):
        raise InvalidInput("a zone is given twice", remedy="give each zone once")
    used = [("flow", name) for flow in plan.flows for name in (flow.source, flow.target)]
    used += [("endpoint", endpoint.zone) for endpoint in plan.endpoints] + [("namespace", name) for name in plan.namespaces]
    for what, name in used:
        if name not in names:
            raise InvalidInput(f"a {what} names the zone `{name[:64]}`, which is not in the plan", remedy=f"use one of {', '.join(names)}")
    domains = {zone.trust_domain for zone in plan.zones} | {endpoint.trust_domain for endpoint in plan.endpoints}
    if domains - {plan.trust_domain}:
        raise InvalidInput("a zone or endpoint is of another trust domain", remedy="make a plan for each trust domain")
