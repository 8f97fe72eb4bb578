"""What a gateway really enforces, beside what it is meant to: its own configuration dump against what the control plane holds for it.

Rules
1. Every resource that is held must be there with the held content: an equal version proves nothing by itself, and a push of equal content
   leaves the older version standing in the dump. Of a secret only the version is seen; Envoy says no secret.
   Where content differs the first place is named, and of a map whose it is.
2. What is there and not held is drift, whoever put it there: dynamic or static, a filter, a listener, a cluster, a route table, a secret.
3. What the gateway was started with must be the bootstrap that was written for it, and unknown fields must be refused.
4. What is held is looked at too (`unsound`): whatever renders it may be wrong. Leases end, upstreams are the endpoints', every listener
   has each filter of the chain with a default that denies, and TLS is what the listeners' rules say.
5. Content that was found equal is not compared again while neither side changed: `Compared` remembers digests, bounded.
A dump is what Envoy says; an Envoy that lies is found by what it lets through, not here.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from google.protobuf import any_pb2, json_format

from vouchgate.edges.envoy.ads import Key, Resource
from vouchgate.edges.envoy.bootstrap import bootstrap
from vouchgate.edges.envoy.clusters import cluster as cluster_of
from vouchgate.edges.envoy.filters import chain
from vouchgate.edges.envoy.maps import LEASE, MAP_PREFIX, REVOCATIONS
from vouchgate.edges.envoy.messages import CLUSTER_TYPE, EXTENSION_TYPE, LISTENER_TYPE, ROUTE_TYPE, SECRET_TYPE, Message
from vouchgate.edges.envoy.settings import EGRESS_LISTENER, FEDERATED_LISTENER, PLAIN_LISTENER, GatewaySettings
from vouchgate.vocabulary.answers_zones import Drift
from vouchgate.vocabulary.places import MAX_LEASE_SECONDS, Endpoint

KINDS = {LISTENER_TYPE: "listener", ROUTE_TYPE: "routes", CLUSTER_TYPE: "cluster", SECRET_TYPE: "secret", EXTENSION_TYPE: "filter"}
MAX_REMEMBERED = 20_000
"""Resources that were found equal; a gateway has at most a few thousand."""
MAX_DRIFTS = 100
"""Of one reading; beyond it something is wrong as a whole."""
MAX_PATH, MAX_BRIEF = 120, 120
"""Characters of where something differs, and of what is there."""
NOT_READ = (json_format.Error, AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What the parser raises where a dump is none of an Envoy."""
_POOL = (downstream_connections_pb2,)
"""Messages that a bootstrap names: known to the parser once they are imported."""
_OPEN_FIELDS = ("static_listeners", "static_route_configs", "static_secrets")
"""Sections of a dump that are empty in a gateway of ours."""


class Compared:
    """Rule 5."""

    def __init__(self) -> None:
        self._equal: OrderedDict[tuple[str, str], None] = OrderedDict()

    def equal(self, entry: dict[str, Any], resource: Resource) -> bool:
        """Whether a dumped message has the content of a held one."""
        said = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
        key = said, hashlib.sha256(resource.value.value).hexdigest()
        if key in self._equal:
            self._equal.move_to_end(key)
            return True
        if not _same(entry, resource.value):
            return False
        self._equal[key] = None
        if len(self._equal) > MAX_REMEMBERED:
            self._equal.popitem(last=False)
        return True


def drifts(
    point: str, dump: dict[str, Any], info: dict[str, Any], held: Mapping[Key, Resource], settings: GatewaySettings, compared: Compared
) -> tuple[list[Drift], int]:
    """(rules 1 to 3 of one reading, resources compared)."""
    found: list[Drift] = []
    there, rejected = _resources(dump)
    for key, entries in there.items():
        what = f"{KINDS[key[0]]} {key[1]}"
        resource = held.get(key)
        if resource is None:
            found.append(Drift(point=point, kind="extra", what=what, detail="nobody meant it to be there"))
            continue
        for version, entry in entries:
            if key[0] != SECRET_TYPE and compared.equal(entry, resource):
                continue
            if version != resource.version:
                detail = f"version {version or 'none'}, meant is {resource.version}{_whose(key, held)}"
                found.append(Drift(point=point, kind="stale", what=what, detail=detail))
            elif key[0] != SECRET_TYPE:
                where = difference(_spelt(entry), _spelt(resource.value))
                detail = f"other content than version {version} has{_whose(key, held)}: {where}"
                found.append(Drift(point=point, kind="different", what=what, detail=detail))
    found += [
        Drift(point=point, kind="missing", what=f"{KINDS[key[0]]} {key[1]}", detail="it is not there, or its lease has ended")
        for key in sorted(_needed(held) & held.keys())
        if key not in there
    ]
    found += [Drift(point=point, kind="rejected", what=what, detail=words[:300]) for what, words in rejected]
    found += _started(point, dump, info, settings)
    return found[:MAX_DRIFTS], len(held)


def _resources(dump: dict[str, Any]) -> tuple[dict[Key, list[tuple[str, dict[str, Any]]]], list[tuple[str, str]]]:
    """(every dynamic resource, what was refused) as the dump tells them."""
    there: dict[Key, list[tuple[str, dict[str, Any]]]] = {}
    rejected: list[tuple[str, str]] = []

    def add(kind: str, name: str, version: str, entry: Any) -> None:
        there.setdefault((kind, name), []).append((version, entry if isinstance(entry, dict) else {}))

    for section in _list(dump, "configs"):
        for one in _list(section, "dynamic_listeners"):
            state = one.get("active_state") or one.get("warming_state") or {}
            add(LISTENER_TYPE, str(one.get("name")), str(state.get("version_info", "")), state.get("listener"))
            if one.get("error_state"):
                rejected.append((f"listener {one.get('name')}", str(one["error_state"].get("details", ""))))
        for one in (*_list(section, "dynamic_active_clusters"), *_list(section, "dynamic_warming_clusters")):
            add(CLUSTER_TYPE, str(one.get("cluster", {}).get("name")), str(one.get("version_info", "")), one.get("cluster"))
        for one in _list(section, "dynamic_route_configs"):
            add(ROUTE_TYPE, str(one.get("route_config", {}).get("name")), str(one.get("version_info", "")), one.get("route_config"))
        for one in _list(section, "ecds_filters"):
            add(EXTENSION_TYPE, str(one.get("ecds_filter", {}).get("name")), str(one.get("version_info", "")), one.get("ecds_filter"))
        for one in (*_list(section, "dynamic_active_secrets"), *_list(section, "dynamic_warming_secrets")):
            add(SECRET_TYPE, str(one.get("name")), str(one.get("version_info", "")), one.get("secret"))
    return there, rejected


def _needed(held: Mapping[Key, Resource]) -> set[Key]:
    """What a gateway fetches: every listener and cluster, and the routes, filters and secrets that its listeners name."""
    found = {key for key in held if key[0] in (LISTENER_TYPE, CLUSTER_TYPE)}
    for (kind, _), resource in held.items():
        if kind == LISTENER_TYPE:
            for only in listener_pb2.Listener.FromString(resource.value.value).filter_chains:
                found |= {(SECRET_TYPE, name) for name in _secrets(only)}
                manager = hcm_pb2.HttpConnectionManager.FromString(only.filters[0].typed_config.value)
                found.add((ROUTE_TYPE, manager.rds.route_config_name))
                found |= {(EXTENSION_TYPE, one.name) for one in manager.http_filters if one.HasField("config_discovery")}
    return found


def _secrets(only: Message) -> Iterator[str]:
    common = tls_pb2.DownstreamTlsContext.FromString(only.transport_socket.typed_config.value).common_tls_context
    yield from (one.name for one in common.tls_certificate_sds_secret_configs)
    yield common.validation_context_sds_secret_config.name


def _started(point: str, dump: dict[str, Any], info: dict[str, Any], settings: GatewaySettings) -> Iterator[Drift]:
    """Rules 2 and 3: what stands still."""
    said = [section["bootstrap"] for section in _list(dump, "configs") if isinstance(section.get("bootstrap"), dict)]
    meant = bootstrap(settings)
    if len(said) != 1:
        yield Drift(point=point, kind="unreadable", what="bootstrap", detail=f"the dump has {len(said)}")
    for one in said:
        for part in sorted({*one, *meant}):
            if part != "node" and not _same_part(part, one, meant):
                yield Drift(point=point, kind="different", what=f"bootstrap {part}", detail="it was started with another than was written")
    names = {row["name"] for row in meant["static_resources"]["clusters"]}
    for section in _list(dump, "configs"):
        for field in _OPEN_FIELDS:
            for _ in _list(section, field):
                yield Drift(point=point, kind="extra", what=field.replace("_", " "), detail="nothing static is meant to be there")
        for row in _list(section, "static_clusters"):
            if row.get("cluster", {}).get("name") not in names:
                yield Drift(point=point, kind="extra", what=f"cluster {row.get('cluster', {}).get('name')}", detail="static, and not meant")
    options = info.get("command_line_options", {})
    if options.get("reject_unknown_dynamic_fields") is not True or options.get("allow_unknown_static_fields"):
        yield Drift(
            point=point, kind="different", what="command line", detail="unknown fields are not refused: a misspelt rule would be none"
        )
    if options.get("config_yaml"):
        yield Drift(point=point, kind="different", what="command line", detail="more configuration was given on the command line")


def _same_part(part: str, said: dict[str, Any], meant: dict[str, Any]) -> bool:
    return bool(_canonical({part: said[part]} if part in said else {}) == _canonical({part: meant[part]} if part in meant else {}))


def _canonical(document: dict[str, Any]) -> Any:
    """A bootstrap in one spelling; as it is where it cannot be read."""
    try:
        return json_format.MessageToDict(json_format.ParseDict(document, bootstrap_pb2.Bootstrap()))
    except NOT_READ:
        return document


def _same(entry: dict[str, Any], value: Message) -> bool:
    """Whether a dumped message is the held one, in whatever order its maps are."""
    try:
        meant = json_format.MessageToDict(value, preserving_proto_field_name=True)
        return bool(entry == meant) or (
            json_format.MessageToDict(json_format.ParseDict(entry, any_pb2.Any()), preserving_proto_field_name=True) == meant
        )
    except NOT_READ:
        return False


def _spelt(content: Any) -> Any:
    """A dumped or held message as plain values in one spelling; as it is where it cannot be read."""
    try:
        made = json_format.ParseDict(content, any_pb2.Any()) if isinstance(content, dict) else content
        return json_format.MessageToDict(made, preserving_proto_field_name=True)
    except NOT_READ:
        return content


def difference(said: Any, meant: Any, path: str = "") -> str:
    """The first place where they differ, and how, in at most a few hundred characters."""
    at = path.lstrip(".")[-MAX_PATH:] or "content"
    if isinstance(said, dict) and isinstance(meant, dict):
        for field in sorted({*said, *meant}):
            if field not in said or field not in meant:
                return f"{at} {'lacks' if field in meant else 'has'} {field} {_brief(meant.get(field, said.get(field)))}"
            if said[field] != meant[field]:
                return difference(said[field], meant[field], f"{path}.{field}")
    if isinstance(said, list) and isinstance(meant, list):
        more, fewer = [one for one in said if one not in meant], [one for one in meant if one not in said]
        if len(more) == len(fewer) and more:
            return difference(more[0], fewer[0], f"{path}.{said.index(more[0])}")
        if not more and not fewer:
            return f"{at} is in another order"
        return f"{at} has {_brief(more[0])}" if len(more) > len(fewer) else f"{at} lacks {_brief(fewer[0])}"
    return f"{at} is {_brief(said)}, meant is {_brief(meant)}"


def _brief(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return f"`{value['name'][:MAX_BRIEF]}`"
    return f"`{json.dumps(value, sort_keys=True)[:MAX_BRIEF]}`"


def _whose(key: Key, held: Mapping[Key, Resource]) -> str:
    """Of a map: whose it is, by the routes that go by it."""
    if key[0] != EXTENSION_TYPE or not key[1].startswith(MAP_PREFIX):
        return ""
    slot = key[1].removeprefix(MAP_PREFIX)
    for (kind, _), resource in held.items():
        if kind == ROUTE_TYPE:
            for host in route_pb2.RouteConfiguration.FromString(resource.value.value).virtual_hosts:
                for route in host.routes:
                    said = route.metadata.filter_metadata["vg"].fields if "vg" in route.metadata.filter_metadata else {}
                    if "slot" in said and said["slot"].string_value == slot:
                        return f", of {said['endpoint'].string_value}"
    return ""


def _list(section: Any, field: str) -> list[dict[str, Any]]:
    found = section.get(field) if isinstance(section, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


# --- what is held ----------------------------------------------------------------------------------------------------------------


def unsound(point: str, held: Mapping[Key, Resource], endpoints: Iterable[Endpoint], settings: GatewaySettings) -> list[Drift]:
    """Rule 4."""
    listed = list(endpoints)
    found = [
        Drift(point=point, kind="unleased", what=f"filter {name}", detail="it would outlive the control plane")
        for (kind, name), resource in held.items()
        if kind == EXTENSION_TYPE and (name in (LEASE, REVOCATIONS) or name.startswith(MAP_PREFIX)) and not _leased(resource)
    ]
    found += [
        Drift(point=point, kind="missing", what=f"filter {name}", detail="nothing is held under this name")
        for name in (LEASE, REVOCATIONS)
        if held and (EXTENSION_TYPE, name) not in held
    ]
    found += _upstreams(point, held, listed, settings)
    found += _zones(point, held, listed)
    for (kind, name), resource in held.items():
        if kind == LISTENER_TYPE:
            found += [Drift(point=point, kind="loosened", what=f"listener {name}", detail=why) for why in _loose(name, resource, settings)]
    return found


def _leased(resource: Resource) -> bool:
    return resource.ttl is not None and 0 < resource.ttl <= MAX_LEASE_SECONDS


def _upstreams(point: str, held: Mapping[Key, Resource], endpoints: list[Endpoint], settings: GatewaySettings) -> Iterator[Drift]:
    for endpoint in endpoints:
        resource = held.get((CLUSTER_TYPE, str(endpoint.id)))
        if resource is None:
            if endpoint.egress is None and held:
                yield Drift(point=point, kind="missing", what=f"cluster {endpoint.id}", detail="the endpoint has no upstream")
            continue
        made, meant = cluster_pb2.Cluster.FromString(resource.value.value), cluster_of(endpoint, system_ca=settings.system_ca)
        if made.load_assignment != meant.load_assignment or made.transport_socket != meant.transport_socket:
            yield Drift(
                point=point, kind="loosened", what=f"cluster {endpoint.id}", detail=f"it leads elsewhere than to {endpoint.upstream}"
            )


def _zones(point: str, held: Mapping[Key, Resource], endpoints: list[Endpoint]) -> Iterator[Drift]:
    """Whether each route says the zone of its endpoint, and leads to it: decisions and leases go by both."""
    zones = {str(endpoint.id): endpoint.zone for endpoint in endpoints}
    for (kind, name), resource in held.items():
        if kind == ROUTE_TYPE:
            for host in route_pb2.RouteConfiguration.FromString(resource.value.value).virtual_hosts:
                for route in host.routes:
                    said = route.metadata.filter_metadata["vg"].fields if "vg" in route.metadata.filter_metadata else {}
                    endpoint, zone = (said[field].string_value if field in said else "" for field in ("endpoint", "zone"))
                    leads = route.route.cluster if route.HasField("route") else endpoint
                    if leads and (leads != endpoint or zones.get(endpoint, "") != zone):
                        yield Drift(
                            point=point, kind="loosened", what=f"routes {name}", detail=f"one leads to {leads} as {endpoint} in zone {zone}"
                        )


def _loose(name: str, resource: Resource, settings: GatewaySettings) -> Iterator[str]:
    listener = listener_pb2.Listener.FromString(resource.value.value)
    if len(listener.filter_chains) != 1 or len(listener.filter_chains[0].filters) != 1:
        yield "it has more than one way through"
        return
    only = listener.filter_chains[0]
    manager = hcm_pb2.HttpConnectionManager.FromString(only.filters[0].typed_config.value)
    slots = sum(one.name.startswith(MAP_PREFIX) for one in manager.http_filters)
    meant = chain(settings, slots, federated=name == FEDERATED_LISTENER)
    if [one.name for one in manager.http_filters] != [one.name for one in meant]:
        yield "its filters are not those of the chain, or not in its order"
    for one in manager.http_filters:
        if one.name in {LEASE, REVOCATIONS} or one.name.startswith(MAP_PREFIX):
            yield from _default(one, {made.name: made for made in meant})
    if manager.WhichOneof("route_specifier") != "rds":
        yield "its routes do not come from the control plane"
    if name != PLAIN_LISTENER:
        yield from _tls(name, only)


def _default(one: Message, meant: Mapping[str, Message]) -> Iterator[str]:
    if not one.HasField("config_discovery") or not one.config_discovery.apply_default_config_without_warming:
        yield f"its filter {one.name} is not there from the first moment"
    elif one.name in meant and one.config_discovery.default_config != meant[one.name].config_discovery.default_config:
        yield f"its filter {one.name} does not deny by default"


def _tls(name: str, only: Message) -> Iterator[str]:
    context = tls_pb2.DownstreamTlsContext.FromString(only.transport_socket.typed_config.value)
    if (
        not only.HasField("transport_socket")
        or context.common_tls_context.tls_params.tls_minimum_protocol_version != common_pb2.TlsParameters.TLSv1_3
    ):
        yield "it takes less than TLS 1.3"
    if not (context.disable_stateless_session_resumption and context.disable_stateful_session_resumption):
        yield "it resumes sessions, past today's authorities"
    if name in (FEDERATED_LISTENER, EGRESS_LISTENER) and not context.require_client_certificate.value:
        yield "it asks for no certificate"
    if not context.common_tls_context.HasField("validation_context_sds_secret_config"):
        yield "it checks no certificate"
