"""What an exported sidecar really enforces: the dump on its admin pipe, or the file it is started with, beside the document that is meant.

A sidecar is static: it was started with exactly its document, or it drifted. Nothing dynamic is meant to be there but the two secrets that the
agent gives.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format

from vouchgate.vocabulary.answers_zones import Drift

MESSAGES = (
    "envoy.extensions.filters.network.rbac.v3.rbac_pb2",
    "envoy.extensions.filters.http.rbac.v3.rbac_pb2",
    "envoy.extensions.filters.http.router.v3.router_pb2",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2",
    "envoy.extensions.access_loggers.file.v3.file_pb2",
    "envoy.extensions.matching.common_inputs.ssl.v3.ssl_inputs_pb2",
    "envoy.extensions.transport_sockets.tls.v3.tls_pb2",
    "envoy.extensions.upstreams.http.v3.http_protocol_options_pb2",
    "envoy.config.rbac.v3.rbac_pb2",
)
"""Whatever a sidecar's document names; the parser knows a message once it is imported."""
DYNAMIC = ("dynamic_listeners", "dynamic_active_clusters", "dynamic_warming_clusters", "dynamic_route_configs", "ecds_filters")


def of_document(point: str, said: dict[str, Any], meant: dict[str, Any]) -> list[Drift]:
    """A bootstrap beside the meant one, part by part."""
    found = []
    for part in sorted({*said, *meant} - {"node"}):
        if canonical(part, said) != canonical(part, meant):
            kind = "extra" if part not in meant else "missing" if part not in said else "different"
            found.append(Drift(point=point, kind=kind, what=_where(part, said, meant), detail="it is not what was exported"))  # type: ignore[arg-type]
    return found


def of_dump(point: str, dump: dict[str, Any], meant: dict[str, Any]) -> list[Drift]:
    """A running sidecar."""
    sections = [one for one in dump.get("configs", []) if isinstance(one, dict)]
    bootstraps = [one["bootstrap"] for one in sections if isinstance(one.get("bootstrap"), dict)]
    if len(bootstraps) != 1:
        return [Drift(point=point, kind="unreadable", what="bootstrap", detail=f"the dump has {len(bootstraps)}")]
    found = of_document(point, bootstraps[0], meant)
    for section in sections:
        for field in DYNAMIC:
            found += [
                Drift(point=point, kind="extra", what=field.replace("_", " "), detail="nothing dynamic is meant")
                for _ in section.get(field, [])
            ]
    return found


def canonical(part: str, document: dict[str, Any]) -> Any:
    """One part in one spelling; as it is where it cannot be read."""
    for name in MESSAGES:
        import_module(name)
    if part not in document:
        return None
    try:
        return json_format.MessageToDict(json_format.ParseDict({part: document[part]}, bootstrap_pb2.Bootstrap()))
    except (json_format.Error, AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return document[part]


def _where(part: str, said: dict[str, Any], meant: dict[str, Any]) -> str:
    """Which listeners and clusters, where that can be told."""
    if part != "static_resources":
        return f"bootstrap {part}"
    names = set()
    for kind in ("listeners", "clusters"):
        left, right = _named(said, kind), _named(meant, kind)
        names |= {f"{kind[:-1]} {name}" for name in {*left, *right} if left.get(name) != right.get(name)}
    return ", ".join(sorted(names)[:5]) or "static resources"


def _named(document: dict[str, Any], kind: str) -> dict[str, str]:
    listed = document.get("static_resources", {}).get(kind, [])
    return {
        str(one.get("name")): json.dumps(canonical("static_resources", {"static_resources": {kind: [one]}}), sort_keys=True)
        for one in listed
    }
