"""Where an endpoint's requests go: one cluster an endpoint, on a unix socket, on loopback, or at a provider outside (egress.py)."""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from vouchgate.edges.envoy.egress import host_of, injecting, kind_of, tls_to
from vouchgate.edges.envoy.messages import Message, address, packed, seconds
from vouchgate.vocabulary.places import Endpoint

CONNECT_SECONDS = 2.0
PROVIDER_CONNECT_SECONDS = 5.0
"""With a TLS handshake across the internet in it."""
UPSTREAM_IDLE_SECONDS = 4.0
"""Below the 5 s after which uvicorn and others close an idle connection, so that no request is sent into a closing one."""
MAX_CONNECTIONS = 1024
MAX_PENDING = 1024
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(endpoint: Endpoint, *, system_ca: str = "") -> Message:
    """The cluster, named by the endpoint's id. Raises `InvalidInput`."""
    made = cluster_pb2.Cluster(name=endpoint.id, type=cluster_pb2.Cluster.STATIC, connect_timeout=seconds(CONNECT_SECONDS))
    if endpoint.upstream.startswith("tcp:") and not _is_literal(endpoint.upstream):
        made.type = cluster_pb2.Cluster.STRICT_DNS
    where = endpoint.upstream
    if endpoint.egress is not None:
        host, port = host_of(endpoint)
        where = f"tcp:{host}:{port}"
        made.type, made.dns_lookup_family = kind_of(endpoint), cluster_pb2.Cluster.V4_PREFERRED
        made.transport_socket.CopyFrom(tls_to(endpoint, system_ca))
        made.connect_timeout.CopyFrom(seconds(PROVIDER_CONNECT_SECONDS))
    made.load_assignment.cluster_name = endpoint.id
    made.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.CopyFrom(address(where))
    made.circuit_breakers.thresholds.add(
        max_connections={"value": MAX_CONNECTIONS}, max_pending_requests={"value": MAX_PENDING}, max_requests={"value": MAX_CONNECTIONS}
    )
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.common_http_protocol_options.idle_timeout.CopyFrom(seconds(UPSTREAM_IDLE_SECONDS))
    options.explicit_http_config.http_protocol_options.SetInParent()
    if endpoint.egress is not None:
        options.http_filters.extend(injecting(endpoint))
    made.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))
    return made


def _is_literal(upstream: str) -> bool:
    host = upstream.removeprefix("tcp:").rpartition(":")[0]
    return host.startswith("[") or host.replace(".", "").isdecimal()
