"""What the zones are meant to be, as a `Plan` that exporters render: the facts in force, and where the gateway runs.

Rules
1. With crossings declared a flow is one of them that lets calls pass (kinds `endpoint` or `tool`), or a zone that calls into itself.
2. Without crossings zones hold nobody: every zone may reach every zone in which something answers, and the plan says just that.
3. Only zones that are put count; a crossing of a zone that is not (administrators, partners) is no flow between zones of the network.
"""

from __future__ import annotations

from typing import Protocol

from vouchgate.flows.facts import Facts
from vouchgate.segmentation.plan import Flow, Gateway, Plan
from vouchgate.vocabulary.crossing_words import expanded
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.places import Crossing
from vouchgate.vocabulary.settings import host_port

CALLED = frozenset({"endpoint", "tool"})
"""Kinds of things that are reached over the network, through the gateway."""
NAMESPACE = "vouchgate"
LABELS = {"app.kubernetes.io/name": "vouchgate-gateway"}
"""Where the gateway runs, unless somebody says otherwise."""


class Placed(Protocol):
    """What the supervisor knows of the gateway's place (flows/context.py)."""

    @property
    def gateway(self) -> str:
        """`host:port` of its listener."""


def plan_of(
    facts: Facts,
    place: Placed,
    *,
    namespace: str = NAMESPACE,
    labels: dict[str, str] | None = None,
    namespaces: dict[str, str] | None = None,
) -> Plan:
    """The plan in force; `namespaces` is zone -> namespace where they differ. Raises `InvalidInput` where the gateway has no address."""
    _, port = host_port(place.gateway)
    return Plan(
        trust_domain=TrustDomain(facts.trust_domain),
        zones=tuple(facts.zones[name] for name in sorted(facts.zones)),
        endpoints=tuple(facts.endpoints[name] for name in sorted(facts.endpoints)),
        flows=flows_of(facts),
        gateway=Gateway(namespace=namespace, labels=labels or LABELS, ports=(port,)),
        namespaces=namespaces or {},
    )


def flows_of(facts: Facts) -> tuple[Flow, ...]:
    """Rules 1 to 3, sorted."""
    answering = {endpoint.zone for endpoint in facts.endpoints.values()}
    if facts.crossings:
        called = [one for one in facts.crossings if not CALLED.isdisjoint(one.kinds)]
        flows = [Flow(source=one.source, target=one.target, actions=_single(one), kinds=one.kinds, vouches=one.vouches) for one in called]
        flows += [Flow(source=zone, target=zone) for zone in answering]
    else:
        flows = [Flow(source=source, target=target) for source in facts.zones for target in answering]
    known = [one for one in flows if one.source in facts.zones and one.target in facts.zones]
    return tuple(sorted(known, key=lambda one: (one.source, one.target, one.actions, one.vouches)))


def _single(one: Crossing) -> tuple[str, ...]:
    """Its actions, those of a group one by one."""
    return tuple(sorted(expanded(one.actions)))
