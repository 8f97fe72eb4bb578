"""Istio (security.istio.io): in each zone's namespace mutual TLS is a must, nothing is allowed but what is listed, and callers are named by
the mesh's own certificates.

Rules
1. One PeerAuthentication a zone, STRICT: a workload takes no plaintext.
2. One AuthorizationPolicy a zone without a rule: it matches nothing, so that what no other policy allows is denied ("allow nothing").
3. An endpoint may be reached by the gateway, at its listed methods and paths. Its pods carry the label ENDPOINT_LABEL.
4. Zones reach each other past the gateway only where the plan says `direct`: then the zone alone counts, and no policy is asked. What a mesh
   cannot see (openings.py) stays shut even so.
5. A zone's callers are its service accounts where the plan names them, by SPIFFE id without its scheme; else everybody of its namespace.
6. A bearer token is checked by a RequestAuthentication where the plan says where the keys are. It names nobody by itself: rules ask for the
   certificate.
7. A zone in observe gets no policy. ALLOW policies add up: one of somebody else in the namespace may open more (`zones drift` finds it).

Path templates `{*}` need Istio 1.22. Names are checked as in kubernetes.py.
Source: istio.io/latest/docs/reference/config/security: authorization-policy, peer_authentication, request_authentication, conditions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from vouchgate.segmentation.exporters import Exported, Exporter
from vouchgate.segmentation.kubernetes_names import ENDPOINT_LABEL, MANAGED_LABEL, ZONE_LABEL, check_gateway, namespace_of, object_name
from vouchgate.segmentation.openings import openings
from vouchgate.segmentation.plan import Plan
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.places import Endpoint, Route

NAME = "istio"
FILE = "istio-security.json"
API = "security.istio.io/v1"
_TEMPLATE = re.compile(r"\{[^/{}]*\}")
_ACCOUNT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\Z")


def render(plan: Plan) -> Exported:
    """The policies of all zones. Raises `InvalidInput` where a name is none that Kubernetes takes."""
    check_gateway(plan.gateway)
    taken: dict[str, str] = {}
    spaces = {zone.name: namespace_of(plan, zone.name, taken) for zone in sorted(plan.zones, key=lambda one: one.name)}
    items: list[dict[str, Any]] = []
    left_out: list[str] = []
    for zone in sorted(plan.zones, key=lambda one: one.name):
        if zone.mode == "observe":
            left_out.append(f"zone {zone.name} is in observe: no policy")
            continue
        items += _zone(zone.name, spaces[zone.name])
    opened, shut = openings(plan) if plan.direct else ((), ())
    held = {zone.name for zone in plan.zones if zone.mode != "observe"}
    for endpoint in sorted((one for one in plan.endpoints if one.zone in held and one.routes), key=lambda one: one.id):
        rules = [_rule(plan, [_gateway_source(plan)], endpoint.routes)]
        rules += [_rule(plan, [_source(plan, one.source, spaces)], one.routes) for one in opened if one.endpoint.id == endpoint.id]
        items.append(_endpoint(endpoint, spaces[endpoint.zone], rules))
        if endpoint.bearer:
            items += _tokens(plan, endpoint, spaces[endpoint.zone], left_out)
    listed = {"apiVersion": "v1", "kind": "List", "items": items}
    return Exported({FILE: (json.dumps(listed, indent=2, sort_keys=True) + "\n").encode()}, (*left_out, *shut))


def _zone(zone: str, namespace: str) -> list[dict[str, Any]]:
    """Rules 1 and 2."""
    name = f"vouchgate-zone-{namespace}"[:63].rstrip("-")
    return [
        _object("PeerAuthentication", name, zone, namespace, {"mtls": {"mode": "STRICT"}}),
        _object("AuthorizationPolicy", name, zone, namespace, {}),
    ]


def _endpoint(endpoint: Endpoint, namespace: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """Rule 3."""
    name = object_name(endpoint)
    spec = {"action": "ALLOW", "selector": {"matchLabels": {ENDPOINT_LABEL: name}}, "rules": rules}
    return _object("AuthorizationPolicy", f"vouchgate-endpoint-{name}", endpoint.zone, namespace, spec)


def _rule(plan: Plan, sources: list[dict[str, Any]], routes: Iterable[Route]) -> dict[str, Any]:
    """One rule: these sources at these routes. Routes of one path share an operation."""
    by_path: dict[str, set[str]] = {}
    for route in routes:
        by_path.setdefault(_path(route.path), set()).add(route.method)
    operations = []
    for path, methods in sorted(by_path.items()):
        operation: dict[str, Any] = {"paths": [path]}
        if "*" not in methods:
            operation["methods"] = sorted(methods)
        operations.append({"operation": operation})
    return {"from": [{"source": source} for source in sources], "to": operations}


def _path(path: str) -> str:
    """Our templates as Istio's: one segment is `{*}`; `/*` at the end is everything below."""
    return _TEMPLATE.sub("{*}", path)


def _gateway_source(plan: Plan) -> dict[str, Any]:
    """The gateway's service account where it is known, which others of its namespace do not have."""
    where = plan.gateway
    if not where.service_account:
        return {"namespaces": [where.namespace]}
    return {"principals": [f"{plan.trust_domain}/ns/{where.namespace}/sa/{_account(where.service_account)}"]}


def _source(plan: Plan, zone: str, spaces: dict[str, str]) -> dict[str, Any]:
    """Rule 5."""
    accounts = plan.service_accounts.get(zone, ())
    if accounts:
        return {"principals": [f"{plan.trust_domain}/ns/{spaces[zone]}/sa/{_account(account)}" for account in sorted(set(accounts))]}
    return {"namespaces": [spaces[zone]]}


def _account(name: str) -> str:
    """A wildcard in a name would let others in."""
    if not _ACCOUNT.match(name):
        raise InvalidInput(f"`{name[:64]}` is no service account", remedy="use lower-case letters, digits, `.` and `-`")
    return name


def _tokens(plan: Plan, endpoint: Endpoint, namespace: str, left_out: list[str]) -> list[dict[str, Any]]:
    """Rule 6."""
    if not plan.jwks_uri:
        left_out.append(f"endpoint {endpoint.id} takes bearer tokens: checked by the gateway alone")
        return []
    name = object_name(endpoint)
    keys = {"issuer": f"spiffe://{plan.trust_domain}", "audiences": [str(endpoint.id)], "jwksUri": plan.jwks_uri}
    spec = {"selector": {"matchLabels": {ENDPOINT_LABEL: name}}, "jwtRules": [keys]}
    return [_object("RequestAuthentication", f"vouchgate-endpoint-{name}", endpoint.zone, namespace, spec)]


def _object(kind: str, name: str, zone: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_LABEL: "vouchgate", ZONE_LABEL: zone}}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


EXPORTER = Exporter(
    name=NAME,
    version=1,
    render=render,
    summary="Istio AuthorizationPolicy: each zone allows nothing by default and takes mutual TLS alone",
)
