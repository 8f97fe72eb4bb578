"""Read back from a real Envoy: what it enforces is what is held, and every way in which it does not is found."""

from __future__ import annotations

import copy
import dataclasses
import json
import time

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from gateway_harness import CHAT, DIGITS, Harness

from vouchgate.edges.envoy.admin import DUMP, INFO, fetch, parsed
from vouchgate.edges.envoy.ads import Resource
from vouchgate.edges.envoy.bootstrap import bootstrap
from vouchgate.edges.envoy.messages import CLUSTER_TYPE, EXTENSION_TYPE, LISTENER_TYPE, ROUTE_TYPE, SECRET_TYPE, packed
from vouchgate.edges.envoy.readback import Compared, drifts, unsound
from vouchgate.vocabulary.errors import InvalidInput, Unavailable

pytestmark = pytest.mark.gateway


async def _read(gw: Harness) -> tuple[dict, dict]:
    return parsed(await fetch(gw.settings.admin_socket, DUMP), "dump"), parsed(await fetch(gw.settings.admin_socket, INFO), "info")


@pytest.fixture
def read(gw):
    """(dump, info, held) once the gateway has what is held."""
    end = time.monotonic() + 3
    while True:
        dump, info = gw.do(_read(gw))
        held = gw.do(gw.ads.held)
        if not drifts("gateway", dump, info, held, gw.settings, Compared())[0]:
            return dump, info, held
        assert time.monotonic() < end, drifts("gateway", dump, info, held, gw.settings, Compared())[0]
        time.sleep(0.05)


def found(gw, dump, info, held) -> set[tuple[str, str]]:
    return {(one.kind, one.what) for one in drifts("gateway", dump, info, held, gw.settings, Compared())[0]}


def section(dump: dict, field: str) -> list:
    return next(one[field] for one in dump["configs"] if field in one)


def _all(dump: dict, field: str) -> list:
    return [one for section in dump["configs"] for one in section.get(field, [])]


def test_a_gateway_as_it_should_be_has_no_drift(gw, read):
    dump, info, held = read
    said, count = drifts("gateway", dump, info, held, gw.settings, Compared())
    assert said == [] and count == len(held) > 10
    assert unsound("gateway", held, gw.view._endpoints.values(), gw.settings) == []


def test_what_was_compared_is_not_compared_again(gw, read):
    dump, info, held = read
    compared = Compared()
    drifts("gateway", dump, info, held, gw.settings, compared)
    known = len(compared._equal)
    drifts("gateway", dump, info, held, gw.settings, compared)
    assert known == len(compared._equal) > 5


def test_whatever_is_missing_is_found(gw, read):
    dump, info, held = read
    for field, kind in (("dynamic_listeners", "listener"), ("dynamic_active_clusters", "cluster"), ("dynamic_route_configs", "routes"),
                        ("ecds_filters", "filter"), ("dynamic_active_secrets", "secret")):  # fmt: skip
        for number in range(len(section(dump, field))):
            less = copy.deepcopy(dump)
            del section(less, field)[number]
            assert {(one[0], one[1].split(" ")[0]) for one in found(gw, less, info, held)} == {("missing", kind)}, (field, number)


def test_whatever_is_extra_is_found(gw, read):
    dump, info, held = read
    for field in ("dynamic_listeners", "dynamic_active_clusters", "dynamic_route_configs", "ecds_filters", "dynamic_active_secrets"):
        more = copy.deepcopy(dump)
        one = copy.deepcopy(section(more, field)[0])
        inner = next((one[name] for name in ("cluster", "route_config", "ecds_filter") if name in one), one)
        inner["name"] = "another"
        section(more, field).append(one)
        assert [kind for kind, _ in found(gw, more, info, held)] == ["extra"], field
    for field, row in (
        ("static_listeners", {"listener": {"name": "x"}}),
        ("static_route_configs", {"route_config": {}}),
        ("static_secrets", {"name": "x"}),
    ):
        more = copy.deepcopy(dump)
        more["configs"].append({field: [row]})
        assert [kind for kind, _ in found(gw, more, info, held)] == ["extra"], field
    more = copy.deepcopy(dump)
    section(more, "static_clusters").append({"cluster": {"name": "way-around"}})
    assert ("extra", "cluster way-around") in found(gw, more, info, held)


def test_an_older_version_is_stale_and_the_same_version_with_other_content_is_different(gw, read):
    dump, info, held = read
    fetched = {one["name"] for field in ("dynamic_active_secrets", "dynamic_warming_secrets") for one in _all(dump, field)}
    for key, resource in held.items():
        if (key[0] == ROUTE_TYPE and key[1] not in {"tls", "plain"}) or (key[0] == SECRET_TYPE and key[1] not in fetched):
            continue
        assert found(gw, dump, info, held | {key: dataclasses.replace(resource, version="newer")}) <= {("stale", f"secret {key[1]}")}
        other = next(one for one in held if one[0] == key[0] and held[one].value != resource.value)
        newer = held | {key: Resource(held[other].value, "newer", ttl=resource.ttl)}
        assert [kind for kind, _ in found(gw, dump, info, newer)] in (["stale"], ["stale", "missing"]), key
    for kind, field, inner in (("cluster", "dynamic_active_clusters", "cluster"), ("routes", "dynamic_route_configs", "route_config")):
        other = copy.deepcopy(dump)
        section(other, field)[0][inner].setdefault("name", "")
        section(other, field)[0][inner].update(
            {"connect_timeout": "9s"} if kind == "cluster" else {"max_direct_response_body_size_bytes": 7}
        )
        assert [one for one, _ in found(gw, other, info, held)] == ["different"], kind
    other = copy.deepcopy(dump)
    for one in section(other, "ecds_filters"):
        if one["ecds_filter"]["name"] == "revocations":
            one["ecds_filter"]["typed_config"] = {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"}
    assert {what for _, what in found(gw, other, info, held)} == {"filter revocations"}


def test_a_grant_more_in_a_map_is_different(gw, read):
    """The map as somebody else would push it under the version that is meant."""
    dump, info, held = read
    key = (EXTENSION_TYPE, "map/0")
    wider = packed(rbac_pb2.RBAC())
    assert found(gw, dump, info, held | {key: Resource(wider, held[key].version, ttl=10.0)}) == {("different", "filter map/0")}


def test_a_message_that_nobody_knows_is_different_and_no_crash(gw, read):
    dump, info, held = read
    for wrong in ({"@type": "type.googleapis.com/no.such.Message"}, {"nonsense": 1}, {}, {"@type": 7}):
        other = copy.deepcopy(dump)
        section(other, "ecds_filters")[0]["ecds_filter"]["typed_config"] = wrong
        # a push of equal content leaves the older version standing in the dump
        assert [one for one, _ in found(gw, other, info, held)] in (["different"], ["stale"])
    for wrong in ({}, {"configs": 7}, {"configs": [1, None, {"dynamic_listeners": 3, "bootstrap": 4}]}):
        assert "unreadable" in [one for one, _ in found(gw, wrong, info, held)]


def test_a_gateway_that_was_started_otherwise_is_found(own):
    """Real ones: with a way around, with an admin that takes everything, and without refusing unknown fields."""
    gw = own()
    meant = bootstrap(gw.settings)
    cases = {
        "bootstrap static_resources": lambda made: made["static_resources"]["clusters"].append(
            {"name": "around", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": "around", "endpoints": []}}
        ),
        "bootstrap admin": lambda made: made["admin"].pop("allow_paths"),
        "bootstrap overload_manager": lambda made: made.pop("overload_manager"),
        "bootstrap layered_runtime": lambda made: made["layered_runtime"]["layers"].append({"name": "admin", "admin_layer": {}}),
    }
    dump, info = gw.do(_read(gw))
    held = gw.do(gw.ads.held)
    for what, change in cases.items():
        made = json.loads(json.dumps(meant))
        change(made)
        other = copy.deepcopy(dump)
        said = next(one for one in other["configs"] if "bootstrap" in one)
        said["bootstrap"] = {"node": said["bootstrap"]["node"]} | made
        assert ("different", what) in found(gw, other, info, held)
    for option in ({"reject_unknown_dynamic_fields": False}, {"allow_unknown_static_fields": True}, {"config_yaml": "admin: {}"}):
        other = copy.deepcopy(info)
        other["command_line_options"] |= option
        assert found(gw, dump, other, held) >= {("different", "command line")}


# --- what is held may itself be wrong ---------------------------------------------------------------------------------------------


def wrong(gw, held) -> set[tuple[str, str]]:
    return {(one.kind, one.what) for one in unsound("gateway", held, gw.view._endpoints.values(), gw.settings)}


@pytest.mark.parametrize("name", ["map/0", "lease", "revocations"])
@pytest.mark.parametrize("ttl", [None, 0, 86_400.0])
def test_a_lease_without_an_end_is_found(gw, read, name, ttl):
    held = read[2]
    key = (EXTENSION_TYPE, name)
    assert wrong(gw, held | {key: dataclasses.replace(held[key], ttl=ttl)}) == {("unleased", f"filter {name}")}


@pytest.mark.parametrize("name", ["lease", "revocations"])
def test_a_filter_that_nobody_holds_is_found(gw, read, name):
    held = {key: one for key, one in read[2].items() if key != (EXTENSION_TYPE, name)}
    assert wrong(gw, held) == {("missing", f"filter {name}")}


def test_a_cluster_that_leads_elsewhere_is_found(gw, read):
    held = read[2]
    key = (CLUSTER_TYPE, DIGITS)
    assert wrong(gw, held | {key: held[CLUSTER_TYPE, CHAT]}) == {("loosened", f"cluster {DIGITS}")}
    made = cluster_pb2.Cluster.FromString(held[key].value.value)
    made.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path = "/tmp/other.sock"
    assert wrong(gw, held | {key: Resource(packed(made), "x")}) == {("loosened", f"cluster {DIGITS}")}
    assert wrong(gw, {other: one for other, one in held.items() if other != key}) == {("missing", f"cluster {DIGITS}")}


@pytest.mark.parametrize(("field", "value"), [("zone", "elsewhere"), ("endpoint", CHAT), ("zone", "")])
def test_a_route_of_another_zone_or_endpoint_is_found(gw, read, field, value):
    held, key = read[2], (ROUTE_TYPE, "tls")
    made = route_pb2.RouteConfiguration.FromString(held[key].value.value)
    routes = [one for host in made.virtual_hosts for one in host.routes if "vg" in one.metadata.filter_metadata]
    routes = [one for one in routes if one.metadata.filter_metadata["vg"].fields["endpoint"].string_value == DIGITS]
    routes[0].metadata.filter_metadata["vg"].fields[field].string_value = value
    assert wrong(gw, held | {key: Resource(packed(made), "x")}) == {("loosened", "routes tls")}
    made = route_pb2.RouteConfiguration.FromString(held[key].value.value)
    next(one for host in made.virtual_hosts for one in host.routes if one.HasField("route")).route.cluster = "around"
    assert wrong(gw, held | {key: Resource(packed(made), "x")}) == {("loosened", "routes tls")}


def _listener(held, change) -> dict:
    key = (LISTENER_TYPE, "tls")
    made = listener_pb2.Listener.FromString(held[key].value.value)
    manager = hcm_pb2.HttpConnectionManager.FromString(made.filter_chains[0].filters[0].typed_config.value)
    tls = tls_pb2.DownstreamTlsContext.FromString(made.filter_chains[0].transport_socket.typed_config.value)
    change(made, manager, tls)
    made.filter_chains[0].filters[0].typed_config.CopyFrom(packed(manager))
    made.filter_chains[0].transport_socket.typed_config.CopyFrom(packed(tls))
    return held | {key: Resource(packed(made), "x")}


def _without(name):
    def change(_, manager, __):
        kept = [one for one in manager.http_filters if one.name != name]
        del manager.http_filters[:]
        manager.http_filters.extend(kept)

    return change


def _allowing(_, manager, __):
    for one in manager.http_filters:
        if one.name == "revocations":
            one.config_discovery.default_config.CopyFrom(packed(rbac_pb2.RBAC()))


def _late(_, manager, __):
    for one in manager.http_filters:
        if one.name == "map/0":
            one.config_discovery.apply_default_config_without_warming = False


def _static_routes(_, manager, __):
    manager.route_config.name = "mine"


def _second_chain(made, _, __):
    made.filter_chains.add()


LOOSE = {
    "no lease filter": _without("lease"),
    "no revocations": _without("revocations"),
    "no question": _without("ask"),
    "no token check": _without("jwt"),
    "no strip": _without("strip"),
    "one map less": _without("map/0"),
    "a default that allows": _allowing,
    "a map that comes late": _late,
    "routes of its own": _static_routes,
    "a second way through": _second_chain,
    "older TLS": lambda _, __, tls: setattr(tls.common_tls_context.tls_params, "tls_minimum_protocol_version", 3),
    "resumed sessions": lambda _, __, tls: setattr(tls, "disable_stateless_session_resumption", False),
    "no check of certificates": lambda _, __, tls: tls.common_tls_context.ClearField("validation_context_sds_secret_config"),
}


@pytest.mark.parametrize("name", LOOSE)
def test_a_listener_that_would_let_more_through_is_found(gw, read, name):
    assert wrong(gw, _listener(read[2], LOOSE[name])) == {("loosened", "listener tls")}


# --- asking -----------------------------------------------------------------------------------------------------------------------


def test_a_pipe_that_does_not_answer_is_said(gw, tmp_path):
    with pytest.raises(Unavailable):
        gw.do(fetch(str(tmp_path / "none.sock"), DUMP))
    with pytest.raises(Unavailable):
        gw.do(fetch(gw.settings.admin_socket, "/quitquitquit"))
    for wrong_body in (b"", b"[]", b"{", b"[" * 100_000):
        with pytest.raises(InvalidInput):
            parsed(wrong_body, "dump")


def test_no_secret_is_in_a_dump(gw, read):
    text = json.dumps(read[0])
    assert "PRIVATE KEY" not in text and (SECRET_TYPE, "gateway-svid") in read[2]
