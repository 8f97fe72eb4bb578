"""Plan: which zones there are, where each runs, what listens in it, and which zones may call at all.

Rules
1. A zone that the plan does not name may do nothing.
2. A flow says that callers of one zone may reach the gateway's endpoints of another; whether a caller may is decided by the gateway.
3. A service is an endpoint with a sidecar of its own, where callers come without the gateway: there a flow is held by itself, and one
   that asks for what a sidecar cannot check (evidence) is not opened.
"""

from __future__ import annotations

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PrincipalId, TrustDomain
from vouchgate.vocabulary.places import Endpoint, Zone
from vouchgate.vocabulary.wire import Noun

MAX_ZONES = 1_000
"""Zones of one plan; a lifecycle has about ten a tenant."""


class Flow(Noun, frozen=True, kw_only=True):
    """Callers in `source` may reach endpoints in `target`, through the gateway."""

    source: str
    target: str
    actions: tuple[str, ...] = ()
    """What they may do; empty for everything that is listed."""
    kinds: tuple[str, ...] = ("endpoint",)
    """Of what; a sidecar opens flows of endpoints alone."""
    vouches: tuple[str, ...] = ()
    """What must hold of the thing that passes."""


class Gateway(Noun, frozen=True, kw_only=True):
    """Where the gateway runs."""

    namespace: str
    labels: dict[str, str]
    """Of its pods."""
    ports: tuple[int, ...]
    """That callers reach."""
    service_account: str = ""
    """Of its pods, for meshes; empty: everybody of its namespace counts as the gateway."""


class Service(Noun, frozen=True, kw_only=True):
    """Where the sidecar of one endpoint listens, and as whom."""

    endpoint: str
    """Resource id."""
    principal: PrincipalId
    """That the sidecar proves to be, and that callers expect there."""
    listen: str
    """`tcp:host:port` or `unix:/path`; mutual TLS on either."""


class Sidecars(Noun, frozen=True, kw_only=True):
    """What all sidecars of a plan share."""

    services: tuple[Service, ...]
    run_dir: str
    """Folder of the pipes on which a service's calls and the admin socket are; of mode 0700 and the sidecar's own uid."""
    agent_socket: str
    """The agent's Workload API socket, whose SDS gives certificates."""


class Plan(Noun, frozen=True, kw_only=True):
    """Everything that an exporter needs."""

    trust_domain: TrustDomain
    zones: tuple[Zone, ...]
    endpoints: tuple[Endpoint, ...]
    flows: tuple[Flow, ...]
    gateway: Gateway
    namespaces: dict[str, str] = {}
    """Zone -> namespace; a zone that is not here runs in the namespace of its own name."""
    service_accounts: dict[str, tuple[str, ...]] = {}
    """Zone -> service accounts of its workloads, for meshes that name callers by them; none: every one of the zone's namespace."""
    sidecars: Sidecars | None = None
    """For the Envoy exporter alone."""
    direct: bool = False
    """Whether a mesh opens flows between zones past the gateway: there the caller's zone alone counts, and no policy is asked."""
    jwks_uri: str = ""
    """https address of the keys of JWT-SVIDs, for meshes that check tokens; empty for none."""


def check(plan: Plan) -> None:
    """Raise `InvalidInput` for a zone given twice, one that is not there, or a plan over the bound."""
    names = [zone.name for zone in plan.zones]
    if len(names) > MAX_ZONES:
        raise InvalidInput(f"the plan has {len(names)} zones, the bound is {MAX_ZONES}", remedy="split it")
    if len(set(names)) != len(names):
        raise InvalidInput("a zone is given twice", remedy="give each zone once")
    used = [("flow", name) for flow in plan.flows for name in (flow.source, flow.target)]
    used += [("endpoint", endpoint.zone) for endpoint in plan.endpoints] + [("namespace", name) for name in plan.namespaces]
    used += [("service account", name) for name in plan.service_accounts]
    for what, name in used:
        if name not in names:
            raise InvalidInput(f"a {what} names the zone `{name[:64]}`, which is not in the plan", remedy=f"use one of {', '.join(names)}")
    domains = {zone.trust_domain for zone in plan.zones} | {endpoint.trust_domain for endpoint in plan.endpoints}
    if domains - {plan.trust_domain}:
        raise InvalidInput("a zone or endpoint is of another trust domain", remedy="make a plan for each trust domain")
