"""Kubernetes NetworkPolicy (networking.k8s.io/v1): in each zone's namespace nothing is reachable but by the gateway, and nothing is reached
but the gateway.

Rules
1. One policy a zone selects every pod and lists both directions, so that what no other policy allows is denied ("default deny").
2. An endpoint that listens on TCP may be reached from the gateway's pods at its port alone. Its pods carry the label ENDPOINT_LABEL.
3. A zone with an outgoing flow may reach the gateway at its ports, and the cluster's DNS; one without reaches nothing.
4. Policies add up and never forbid: a policy of somebody else in the namespace may open more. What was left out is said.
5. A zone in observe gets no policy: putting vouchgate in front must break nothing (contracts, "Deciding and pushing").

What it cannot hold: pods on the host's network, and the node itself, are selected by no policy.
The API server takes JSON as it takes YAML; one List a file. Whether a network plug-in of the cluster enforces it is for the cluster to say.
Source: kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1; names: RFC 1123; labels: "Labels and Selectors".
"""

from __future__ import annotations

import json
from typing import Any

from vouchgate.segmentation.exporters import Exported, Exporter
from vouchgate.segmentation.kubernetes_names import ENDPOINT_LABEL, MANAGED_LABEL, ZONE_LABEL, check_gateway, namespace_of, object_name
from vouchgate.segmentation.plan import Gateway, Plan
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.settings import host_port, is_loopback

NAME = "kubernetes"
FILE = "network-policies.json"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""Set on every namespace by the API server since 1.22; nobody else can set it otherwise."""
DNS_NAMESPACE, DNS_LABELS, DNS_PORT = "kube-system", {"k8s-app": "kube-dns"}, 53


def render(plan: Plan) -> Exported:
    """The policies of all zones. Raises `InvalidInput` where a name is none that Kubernetes takes."""
    check_gateway(plan.gateway)
    items: list[dict[str, Any]] = []
    left_out: list[str] = []
    taken: dict[str, str] = {}
    for zone in sorted(plan.zones, key=lambda one: one.name):
        namespace = namespace_of(plan, zone.name, taken)
        if zone.mode == "observe":
            left_out.append(f"zone {zone.name} is in observe: no policy")
            continue
        items.append(_zone_policy(plan, zone.name, namespace))
        for endpoint in sorted((one for one in plan.endpoints if one.zone == zone.name), key=lambda one: one.id):
            port, why_not = _port(endpoint)
            if why_not:
                left_out.append(f"endpoint {endpoint.id} {why_not}")
            else:
                items.append(_endpoint_policy(plan, endpoint, namespace, port))
    listed = {"apiVersion": "v1", "kind": "List", "items": items}
    return Exported({FILE: (json.dumps(listed, indent=2, sort_keys=True) + "\n").encode()}, tuple(left_out))


def _zone_policy(plan: Plan, zone: str, namespace: str) -> dict[str, Any]:
    """Rules 1 and 3."""
    calls = any(flow.source == zone for flow in plan.flows)
    egress: list[dict[str, Any]] = []
    if calls:
        dns = {"protocol": "UDP", "port": DNS_PORT}
        egress = [
            {"to": [_gateway(plan.gateway)], "ports": [{"protocol": "TCP", "port": port} for port in plan.gateway.ports]},
            {"to": [_peer(DNS_NAMESPACE, DNS_LABELS)], "ports": [dns, {**dns, "protocol": "TCP"}]},
        ]
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": egress}
    return _policy(f"vouchgate-zone-{namespace}"[:63].rstrip("-"), zone, namespace, spec)


def _endpoint_policy(plan: Plan, endpoint: Endpoint, namespace: str, port: int) -> dict[str, Any]:
    """Rule 2."""
    name = object_name(endpoint)
    ingress = [{"from": [_gateway(plan.gateway)], "ports": [{"protocol": "TCP", "port": port}]}]
    spec = {"podSelector": {"matchLabels": {ENDPOINT_LABEL: name}}, "policyTypes": ["Ingress"], "ingress": ingress}
    return _policy(f"vouchgate-endpoint-{name}", endpoint.zone, namespace, spec)


def _policy(name: str, zone: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_LABEL: "vouchgate", ZONE_LABEL: zone}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _gateway(gateway: Gateway) -> dict[str, Any]:
    return _peer(gateway.namespace, gateway.labels)


def _peer(namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    """Both selectors in one peer: pods with these labels in that namespace. In two peers either would do."""
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: namespace}}, "podSelector": {"matchLabels": labels}}


def _port(endpoint: Endpoint) -> tuple[int, str]:
    """The port, or why there is none to be held by a network."""
    scheme, _, rest = endpoint.upstream.partition(":")
    if scheme != "tcp":
        return 0, "does not listen on TCP: no network reaches it"
    host, port = host_port(rest)
    if port == 0:
        return 0, "has no fixed port"
    return (0, "listens on loopback beside the gateway: no network reaches it") if is_loopback(host) else (port, "")


EXPORTER = Exporter(
    name=NAME,
    version=1,
    render=render,
    summary="Kubernetes NetworkPolicy: each zone denies by default, endpoints are reached from the gateway",
)
