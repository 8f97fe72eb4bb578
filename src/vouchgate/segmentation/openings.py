"""Openings: which routes of which endpoint the callers of a zone may reach without the gateway, and what stays shut.

Rules
1. Only what a point between two zones sees by itself is opened: the caller's zone, the method, the path. A flow that asks for evidence stays
   shut, and so does an endpoint whose requests say in their body what they ask for: the gateway alone can hold those.
2. An opening names routes, never "everything": an endpoint that lists no route opens nothing. A flow opens the routes of its actions.
3. A zone in observe is not held at all (contracts, "Deciding and pushing"), so nothing is opened there either.
4. Whatever stays shut is said, with why.
"""

from __future__ import annotations

from collections.abc import Iterator

from vouchgate.segmentation.plan import Flow, Plan
from vouchgate.vocabulary.places import Endpoint, Route
from vouchgate.vocabulary.wire import Noun


class Opening(Noun, frozen=True, kw_only=True):
    """Callers of `source` may reach these routes of `endpoint`."""

    source: str
    endpoint: Endpoint
    routes: tuple[Route, ...]


def openings(plan: Plan) -> tuple[tuple[Opening, ...], tuple[str, ...]]:
    """(what is opened, what stays shut and why), by endpoint and zone. The plan was checked."""
    made: list[Opening] = []
    shut: list[str] = []
    observed = {zone.name for zone in plan.zones if zone.mode == "observe"}
    for endpoint in sorted(plan.endpoints, key=lambda one: one.id):
        why = _why_shut(endpoint)
        flows = [flow for flow in plan.flows if flow.target == endpoint.zone and "endpoint" in flow.kinds]
        if endpoint.zone in observed or not flows:
            continue
        if why:
            shut.append(f"endpoint {endpoint.id} {why}: reached through the gateway alone")
            continue
        open_flows = [flow for flow in flows if not flow.vouches]
        shut += [_asks(flow, endpoint) for flow in flows if flow.vouches]
        for source in sorted({flow.source for flow in open_flows}):
            routes = tuple(_routes(endpoint, [flow for flow in open_flows if flow.source == source]))
            if routes:
                made.append(Opening(source=source, endpoint=endpoint, routes=routes))
    return tuple(made), tuple(shut)


def _routes(endpoint: Endpoint, flows: list[Flow]) -> Iterator[Route]:
    """Rule 2."""
    for route in endpoint.routes:
        if any(not flow.actions or route.action in flow.actions for flow in flows):
            yield route


def _why_shut(endpoint: Endpoint) -> str:
    """Rule 1, of the endpoint."""
    if endpoint.egress is not None:
        return "is outside, and its key is put in by the gateway"
    if endpoint.mcp or endpoint.model_in_body:
        return "says in each body what is asked for"
    return "" if endpoint.routes else "lists no route"


def _asks(flow: Flow, endpoint: Endpoint) -> str:
    """Rule 1, of the flow."""
    return f"{flow.source} -> {flow.target} asks for {', '.join(flow.vouches)} on {endpoint.id}: reached through the gateway alone"
