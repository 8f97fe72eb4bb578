"""The zones in force as documents of an enforcement point that is not ours.

1. The plan is what facts and crossings say (zones_plan.py); who asks says where things run.
2. Where zones are to reach each other past the gateway (sidecars, a mesh told `direct`), crossings must be declared: without any, zones
   hold nobody, and such an export would open everything to everybody.
3. Sidecars listen one port above the other, by the endpoints' names; only endpoints that a sidecar can hold get one.
"""

from __future__ import annotations

import msgspec

from vouchgate.flows.context import Context
from vouchgate.flows.zones_plan import plan_of
from vouchgate.segmentation.catalog import export
from vouchgate.segmentation.plan import Plan, Service, Sidecars
from vouchgate.vocabulary.answers_zones import ExportOutcome, ExportRequest
from vouchgate.vocabulary.errors import Conflict, InvalidInput
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.settings import host_port

SERVER = "server"
"""Kind of a sidecar's identity: it is the server to everybody outside."""


def rendered(context: Context, request: ExportRequest, *, layout: Layout) -> ExportOutcome:
    """Rules 1 to 3. Raises `Conflict`, `InvalidInput`."""
    plan = plan_of(context.facts, context.place, namespace=request.namespace, labels=request.labels or None, namespaces=request.namespaces)
    if (request.to == "envoy" or request.direct) and not context.facts.crossings:
        raise Conflict(
            "no crossing is declared: everybody would reach everything past the gateway",
            remedy="declare [[crossings]] in vouchgate.toml first",
        )
    gateway = msgspec.structs.replace(plan.gateway, service_account=request.service_account)
    plan = msgspec.structs.replace(
        plan, gateway=gateway, service_accounts=request.service_accounts, direct=request.direct, jwks_uri=request.jwks_uri
    )
    if request.to == "envoy":
        plan = msgspec.structs.replace(plan, sidecars=_sidecars(plan, request, layout))
    made = export(request.to, plan)
    documents = {name: content.decode() for name, content in sorted(made.documents.items())}
    return ExportOutcome(documents=documents, left_out=made.left_out)


def _sidecars(plan: Plan, request: ExportRequest, layout: Layout) -> Sidecars:
    """Rule 3."""
    host, port = host_port(request.listen)
    held = [one for one in plan.endpoints if one.routes and one.egress is None]
    if not 0 < port <= 65535 - len(held):
        raise InvalidInput(f"`{request.listen[:64]}` leaves no port for {len(held)} sidecars", remedy="give a lower first port")
    services = tuple(
        Service(
            endpoint=str(one.id),
            principal=principal(plan.trust_domain, SERVER, one.zone, one.id.rpartition("/")[2]),
            listen=f"tcp:{host}:{port + number}",
        )
        for number, one in enumerate(sorted(held, key=lambda one: one.id))
    )
    return Sidecars(services=services, run_dir=request.run_dir, agent_socket=str(layout.workload_socket))
