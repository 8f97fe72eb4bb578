"""Envoy beside each service: a bootstrap for every sidecar, and one for the callers of each zone. Mutual TLS both ways, by SPIFFE id.

Rules
1. A sidecar takes TLS 1.3 alone, with a certificate that the trust domain's own authorities made; sessions are not resumed. Nothing passes that
   is not an id of a zone with an opening (openings.py): looked at in the handshake, for the connection, and for the request.
2. The connection's check compares the whole list of URI names, so that a certificate with a second one is nobody.
3. The request's check admits the opened methods and paths, each for the zones that may; everything else is answered 403.
4. What a caller says about itself in headers is removed first; the service learns who called from `x-forwarded-client-cert`, which is ours.
5. A service's own calls go out of pipes that its uid alone may open, one for each service that its zone may call; the other end must prove to
   be exactly that service.
6. Certificates come by SDS from this machine's agent, by the identity that the sidecar's process earns. No key is in a document.
7. Every request is a line of the access log, those refused in the handshake or by the connection's check included.
8. The admin pipe is read-only, of mode 0600: `zones drift` reads it. `--reject-unknown-dynamic-fields` is to be given at the start.
9. A zone in observe is not held: its services get no sidecar.

What it cannot hold: a service that listens on TCP can be reached beside its sidecar by others of its machine; that is said.
Source: envoyproxy.io/docs/envoy/v1.40.0/api-v3; what was measured of it: envoy RBAC inputs `uri_san`, early header mutation, SDS by gRPC.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from vouchgate.segmentation.exporters import Exported, Exporter
from vouchgate.segmentation.openings import Opening, openings
from vouchgate.segmentation.plan import Plan, Service, Sidecars
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PRINCIPAL_KINDS, principal_parts
from vouchgate.vocabulary.places import Endpoint, Route
from vouchgate.vocabulary.settings import host_port

NAME = "envoy"
TYPE = "type.googleapis.com/"
CERTIFICATE, ROOTS = "default", "ROOTCA"
"""Names under which the agent's SDS gives the certificate and the authorities (edges/spiffe/sds.py)."""
ADMIN_PATHS = ("/ready", "/server_info", "/listeners", "/clusters", "/certs")
ADMIN_PREFIXES = ("/stats", "/config_dump")
REMOVED = ("x-forwarded-client-cert", "x-forwarded-host", "x-forwarded-for", "x-real-ip", "forwarded", "x-request-id")
REMOVED_PREFIXES = ("x-vg-", "x-envoy-")
MAX_HEADERS_KB = 32
MAX_CONNECTION_SECONDS = 600
"""Age at which a connection is drained: a certificate that ended, or whose authority went, is used no longer than this."""
MAX_VERIFY_DEPTH = 4
"""Certificates above a caller's: three intermediates and the authority, as at the gateway."""
MAX_PIPE = 107
"""Bytes of a unix socket's path (unix(7))."""
_SEGMENT = "[a-z0-9._-]{1,64}"
_TEMPLATE = re.compile(r"\{[^/{}]*\}")
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def render(plan: Plan) -> Exported:
    """One document a sidecar. Raises `InvalidInput` without sidecars in the plan, or for one that is not what it should be."""
    told = plan.sidecars
    if told is None:
        raise InvalidInput("the plan names no sidecars", remedy="say where each service's sidecar listens")
    services = _services(plan, told)
    opened, shut = openings(plan)
    opened = tuple(one for one in opened if one.endpoint.id in services)
    left_out = [f"endpoint {one.id} has no sidecar" for one in plan.endpoints if one.id not in services]
    observed = {zone.name for zone in plan.zones if zone.mode == "observe"}
    documents: dict[str, bytes] = {}
    for endpoint in sorted((one for one in plan.endpoints if one.id in services), key=lambda one: one.id):
        if endpoint.zone in observed:
            left_out.append(f"zone {endpoint.zone} is in observe: no sidecar for {endpoint.id}")
            continue
        if endpoint.upstream.startswith("tcp:"):
            left_out.append(f"endpoint {endpoint.id} listens on {endpoint.upstream}: others of its machine reach it beside the sidecar")
        name = f"sidecar-{_short(endpoint.id)}"
        incoming = [one for one in opened if one.endpoint.id == endpoint.id]
        document = _document(plan, told, name)
        _take_calls(document, told, services[endpoint.id], endpoint, incoming, plan.trust_domain)
        _make_calls(document, told, name, services, [one for one in opened if one.source == endpoint.zone])
        documents[f"{name}.json"] = _bytes(document)
    for zone in sorted({one.source for one in opened}):
        name = f"calls-{zone}"
        document = _document(plan, told, name)
        _make_calls(document, told, name, services, [one for one in opened if one.source == zone])
        documents[f"{name}.json"] = _bytes(document)
    return Exported(documents, (*left_out, *shut))


# --- what is checked of the plan --------------------------------------------------------------------------------------------------


def _services(plan: Plan, told: Sidecars) -> dict[str, Service]:
    endpoints = {str(one.id): one for one in plan.endpoints}
    services: dict[str, Service] = {}
    for one in told.services:
        if one.endpoint not in endpoints or one.endpoint in services:
            raise InvalidInput(f"a sidecar is for `{one.endpoint[:160]}`, which is no endpoint or has one", remedy="give each endpoint one")
        parts = principal_parts(one.principal)
        if (parts.trust_domain, parts.zone) != (plan.trust_domain, endpoints[one.endpoint].zone):
            raise InvalidInput(f"`{one.principal}` is not of the zone of {one.endpoint}", remedy="give the sidecar an id of that zone")
        services[one.endpoint] = one
    return services


def _pipe(told: Sidecars, name: str) -> str:
    path = f"{told.run_dir}/{name}"
    if not path.startswith("/") or told.run_dir.strip("/") == "" or len(path.encode()) > MAX_PIPE or "\0" in path:
        raise InvalidInput(f"`{path[:160]}` is no path of a unix socket", remedy=f"an absolute one of at most {MAX_PIPE} bytes")
    return path


def _short(endpoint_id: str) -> str:
    return endpoint_id.rpartition("/")[2]


# --- one document -----------------------------------------------------------------------------------------------------------------


def _document(plan: Plan, told: Sidecars, name: str) -> dict[str, Any]:
    """Rules 6 and 8; listeners and clusters are put in after."""
    allowed = [{"exact": path} for path in ADMIN_PATHS] + [{"prefix": path} for path in ADMIN_PREFIXES]
    agent = _cluster("agent", f"unix:{told.agent_socket}")
    agent["typed_extension_protocol_options"] = {_HTTP: _typed(_HTTP, explicit_http_config={"http2_protocol_options": {}})}
    return {
        "node": {"id": name, "cluster": plan.trust_domain},
        "admin": {"address": {"pipe": {"path": _pipe(told, f"{name}.admin"), "mode": 0o600}}, "allow_paths": allowed},
        "static_resources": {"listeners": [], "clusters": [agent]},
        # a path template's bounded segments compile to more than the default of 100
        "layered_runtime": {"layers": [{"name": "bounds", "static_layer": {"re2.max_program_size.error_level": 16384}}]},
    }


def _take_calls(
    document: dict[str, Any], told: Sidecars, service: Service, endpoint: Endpoint, incoming: Sequence[Opening], td: str
) -> None:
    """Rules 1 to 4."""
    who = [zone_pattern(td, one.source) for one in incoming]
    listener = _listener("in", _address(service.listen), _log(told, f"sidecar-{_short(endpoint.id)}"))
    chain = listener["filter_chains"][0]
    chain["transport_socket"] = _tls("DownstreamTlsContext", who, require_client_certificate=True)
    chain["transport_socket_connect_timeout"] = "5s"
    manager = _manager("in", _log(told, f"sidecar-{_short(endpoint.id)}"), "local")
    manager["http_filters"].insert(0, _request_check(incoming, td))
    manager["forward_client_cert_details"] = "SANITIZE_SET"
    manager["set_current_client_cert_details"] = {"uri": True}
    chain["filters"] = [_connection_check(who), _filter("envoy.filters.network.http_connection_manager", _HCM, manager)]
    document["static_resources"]["listeners"].append(listener)
    document["static_resources"]["clusters"].append(_cluster("local", endpoint.upstream))


def _make_calls(document: dict[str, Any], told: Sidecars, name: str, services: dict[str, Service], outgoing: Iterable[Opening]) -> None:
    """Rule 5."""
    for one in outgoing:
        target, service = _short(one.endpoint.id), services[one.endpoint.id]
        if f"sidecar-{target}" == name:
            continue
        listener = _listener(f"to-{target}", {"pipe": {"path": _pipe(told, f"{name}.to.{target}"), "mode": 0o600}}, _log(told, name))
        manager = _manager(f"to-{target}", _log(told, name), f"to-{target}") | {"codec_type": "HTTP1"}
        listener["filter_chains"][0]["filters"] = [_filter("envoy.filters.network.http_connection_manager", _HCM, manager)]
        cluster = _cluster(f"to-{target}", service.listen)
        cluster["transport_socket"] = _tls("UpstreamTlsContext", [re.escape(service.principal)])
        document["static_resources"]["listeners"].append(listener)
        document["static_resources"]["clusters"].append(cluster)


_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def _manager(name: str, log: dict[str, Any], cluster: str) -> dict[str, Any]:
    """Rules 3, 4 and 7 of either direction; paths and bounds as at the gateway."""
    early: dict[str, Any] = {"mutations": [{"remove": header} for header in REMOVED]}
    early["mutations"] += [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in REMOVED_PREFIXES]
    mutation = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "120s"}}
    return {
        "stat_prefix": name,
        "codec_type": "AUTO",
        "access_log": [log],
        "early_header_mutation_extensions": [_filter("envoy.http.early_header_mutation.header_mutation", mutation, early)],
        "forward_client_cert_details": "SANITIZE",
        "use_remote_address": True,
        "generate_request_id": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "strip_any_host_port": True,
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_connection_duration": f"{MAX_CONNECTION_SECONDS}s",
            "idle_timeout": "120s",
        },
        "max_request_headers_kb": MAX_HEADERS_KB,
        "request_headers_timeout": "10s",
        "request_timeout": "60s",
        "stream_idle_timeout": "120s",
        "http2_protocol_options": {"max_concurrent_streams": 100},
        "http_filters": [_filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", {})],
        "route_config": {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }


# --- who may ----------------------------------------------------------------------------------------------------------------------


def zone_pattern(td: str, zone: str) -> str:
    """Every id of a zone, as an RE2 expression that is matched as a whole."""
    kinds = "|".join(sorted(PRINCIPAL_KINDS - {"declared"}))
    return f"spiffe://{re.escape(td)}/(?:{kinds})/{re.escape(zone)}/{_SEGMENT}"


def _connection_check(who: Sequence[str]) -> dict[str, Any]:
    """Rule 2: the input is all URI names, joined by a comma, which no pattern takes. No match denies."""
    rbac = "envoy.extensions.filters.network.rbac.v3.RBAC"
    allow = _filter("allow", "envoy.config.rbac.v3.Action", {"name": "zone", "action": "ALLOW"})
    uri = _filter("envoy.matching.inputs.uri_san", "envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput", {})
    matchers = [
        {
            "predicate": {"single_predicate": {"input": uri, "value_match": {"safe_regex": {"google_re2": {}, "regex": one}}}},
            "on_match": {"action": allow},
        }
        for one in who
    ]
    # an RBAC without rules would admit everybody; a matcher without an entry cannot be said, and empty rules match nobody
    held = {"matcher": {"matcher_list": {"matchers": matchers}}} if matchers else {"rules": {"action": "ALLOW"}}
    return _filter("envoy.filters.network.rbac", rbac, {"stat_prefix": "connection.", **held})


def _request_check(incoming: Sequence[Opening], td: str) -> dict[str, Any]:
    """Rule 3. Without a policy RBAC's ALLOW matches nothing: everything is refused."""
    policies = {
        f"from-{one.source}": {
            "permissions": [_permission(route) for route in one.routes],
            "principals": [{"authenticated": {"principal_name": {"safe_regex": {"regex": zone_pattern(td, one.source)}}}}],
        }
        for one in incoming
    }
    rules: dict[str, Any] = {"action": "ALLOW", "policies": policies} if policies else {"action": "ALLOW"}
    return _filter("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", {"rules": rules})


def _permission(route: Route) -> dict[str, Any]:
    if route.path == "/*":
        path: dict[str, Any] = {"prefix": "/"}
    elif _TEMPLATE.search(route.path):
        pieces = _TEMPLATE.split(route.path)
        path = {"safe_regex": {"regex": "[A-Za-z0-9._-]{1,64}".join(re.escape(piece) for piece in pieces)}}
    else:
        path = {"exact": route.path}
    rules: list[dict[str, Any]] = [{"url_path": {"path": path}}]
    if route.method != "*":
        rules.append({"header": {"name": ":method", "string_match": {"exact": route.method}}})
    return {"and_rules": {"rules": rules}}


def _tls(kind: str, who: Sequence[str], **more: Any) -> dict[str, Any]:
    """Rules 1, 5 and 6. Nobody to admit is said as a pattern that no id matches: an empty list would admit all."""
    message = f"envoy.extensions.transport_sockets.tls.v3.{kind}"
    if kind == "DownstreamTlsContext":
        more |= {"disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True}
    names = [{"san_type": "URI", "matcher": {"safe_regex": {"regex": one}}} for one in who or ["nobody"]]
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2", "http/1.1"] if kind == "DownstreamTlsContext" else ["http/1.1"],
        "tls_certificate_sds_secret_configs": [{"name": CERTIFICATE, "sds_config": _sds()}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names, "max_verify_depth": MAX_VERIFY_DEPTH},
            "validation_context_sds_secret_config": {"name": ROOTS, "sds_config": _sds()},
        },
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": _typed(message, common_tls_context=common, **more)}


def _sds() -> dict[str, Any]:
    service = {"envoy_grpc": {"cluster_name": "agent"}}
    return {"resource_api_version": "V3", "api_config_source": {
        "api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]}}  # fmt: skip


# --- small parts ------------------------------------------------------------------------------------------------------------------


def _listener(name: str, address: dict[str, Any], log: dict[str, Any]) -> dict[str, Any]:
    """Rule 7: a connection that ends before a request is a line too."""
    return {"name": name, "address": address, "access_log": [log], "per_connection_buffer_limit_bytes": 1048576, "filter_chains": [{}]}


def _log(told: Sidecars, name: str) -> dict[str, Any]:
    fields = {
        "time": "%START_TIME%", "caller": "%DOWNSTREAM_PEER_URI_SAN%", "method": "%REQ(:METHOD)%", "path": "%PATH(NQ:PATH)%",
        "status": "%RESPONSE_CODE%", "why": "%RESPONSE_CODE_DETAILS%", "closed": "%CONNECTION_TERMINATION_DETAILS%",
        "tls": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%", "request_id": "%STREAM_ID%",
    }  # fmt: skip
    message = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
    return _filter("envoy.access_loggers.file", message, {"path": _pipe(told, f"{name}.log"), "log_format": {"json_format": fields}})


def _cluster(name: str, where: str) -> dict[str, Any]:
    literal = where.startswith("unix:") or where.removeprefix("tcp:").rpartition(":")[0].replace(".", "").isdecimal() or "[" in where
    load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(where)}}]}]}
    return {"name": name, "type": "STATIC" if literal else "STRICT_DNS", "connect_timeout": "2s", "load_assignment": load}


def _address(where: str) -> dict[str, Any]:
    if where.startswith("unix:"):
        return {"pipe": {"path": where.removeprefix("unix:")}}
    if not where.startswith("tcp:"):
        raise InvalidInput(f"`{where[:160]}` is no address", remedy="write tcp:host:port or unix:/path")
    host, port = host_port(where.removeprefix("tcp:"))
    return {"socket_address": {"address": host.strip("[]"), "port_value": port}}


def _filter(name: str, message: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": _typed(message, **fields)}


def _typed(message: str, **fields: Any) -> dict[str, Any]:
    return {"@type": TYPE + message, **fields}


def _bytes(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


EXPORTER = Exporter(
    name=NAME,
    version=1,
    render=render,
    summary="Envoy sidecars: mutual TLS by SPIFFE id, each zone's callers at the opened methods and paths, nothing else",
)
