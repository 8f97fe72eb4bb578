"""The plain hop: the same Envoy binary, one worker, keep-alive, router filter only, no access log; once without and once with TLS.

This is what any proxy costs. The variant with TLS asks for no client certificate's meaning, only for one signed by the CA, so that what
the protected rows add beyond it is checking, deciding and logging.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.load.credentials import Credentials


def command(binary: str, bootstrap: Path, base_id: int) -> list[str]:
    """The command line."""
    options = ["--concurrency", "1", "--log-level", "error", "--base-id", str(base_id), "--disable-hot-restart"]
    return [binary, "-c", str(bootstrap), *options]


def bootstrap(upstreams: Mapping[str, str], *, plain_port: int, tls_port: int, credentials: Credentials) -> dict[str, Any]:
    """`upstreams`: path prefix -> unix socket path. The prefix is stripped before the upstream sees it, as the product does."""
    routes = [
        {"match": {"prefix": f"{prefix}/"}, "route": {"cluster": prefix.strip("/"), "prefix_rewrite": "/", "timeout": "0s"}}
        for prefix in upstreams
    ]
    clusters = [_cluster(prefix.strip("/"), path) for prefix, path in upstreams.items()]
    listeners = [_listener("plain", plain_port, routes, None), _listener("tls", tls_port, routes, _tls(credentials))]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def write(path: Path, document: dict[str, Any]) -> Path:
    """Write the bootstrap as JSON."""
    path.write_text(json.dumps(document))
    return path


def _listener(name: str, port: int, routes: list[dict[str, Any]], tls: dict[str, Any] | None) -> dict[str, Any]:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain: dict[str, Any] = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if tls is not None:
        chain["transport_socket"] = tls
    return {"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "filter_chains": [chain]}


def _tls(credentials: Credentials) -> dict[str, Any]:
    context = {
        "tls_certificates": [
            {"certificate_chain": {"filename": credentials.file("server.pem")}, "private_key": {"filename": credentials.file("server.key")}}
        ],
        "validation_context": {"trusted_ca": {"filename": credentials.file("ca.pem")}},
        "alpn_protocols": ["http/1.1"],
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": context,
        },
    }


def _cluster(name: str, path: str) -> dict[str, Any]:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": path}}}}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": name, "endpoints": [endpoint]}}
