"""The exporter to Kubernetes: every document is a NetworkPolicy, and read as Kubernetes reads it nothing goes round the gateway."""

from __future__ import annotations

import json

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.segmentation.catalog import export
from vouchgate.segmentation.exporters.kubernetes import FILE
from vouchgate.segmentation.plan import Flow, Gateway, Plan
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.places import Endpoint, Zone

TD = "test.local"
LABELS = {
    "type": "object",
    "additionalProperties": {"type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"},
}
SELECTOR = {"type": "object", "additionalProperties": False, "properties": {"matchLabels": LABELS}}
PEERS = {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": False, "minProperties": 1,
         "properties": {"namespaceSelector": SELECTOR, "podSelector": SELECTOR}}}  # fmt: skip
PORTS = {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": False, "required": ["port"],
         "properties": {"protocol": {"enum": ["TCP", "UDP", "SCTP"]}, "port": {"type": "integer", "minimum": 1, "maximum": 65535}}}}  # fmt: skip
DNS_NAME = {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}


def rules(peers: str) -> dict:
    return {"type": "array", "items": {"type": "object", "additionalProperties": False, "required": [peers, "ports"],
            "properties": {peers: PEERS, "ports": PORTS}}}  # fmt: skip


POLICY = jsonschema_rs.validator_for({
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "networking.k8s.io/v1"}, "kind": {"const": "NetworkPolicy"},
        "metadata": {"type": "object", "additionalProperties": False, "required": ["name", "namespace"],
                     "properties": {"name": DNS_NAME, "namespace": DNS_NAME, "labels": LABELS}},
        "spec": {"type": "object", "additionalProperties": False, "required": ["podSelector", "policyTypes"],
                 "properties": {"podSelector": SELECTOR, "ingress": rules("from"), "egress": rules("to"),
                                "policyTypes": {"type": "array", "items": {"enum": ["Ingress", "Egress"]}}}},
    },
})  # fmt: skip
"""The part of the public API that is used, closed: a field that Kubernetes would drop in silence fails here."""


def zone(name: str, mode: str = "enforce") -> Zone:
    return Zone(name=name, trust_domain=TD, mode=mode)


def endpoint(name: str, where: str, upstream: str = "tcp:10.1.2.3:9000") -> Endpoint:
    return Endpoint(id=f"vg://{TD}/endpoint/{name}", trust_domain=TD, zone=where, upstream=upstream, routes=())


PLAN = Plan(
    trust_domain=TD,
    zones=(zone("train"), zone("serve"), zone("data")),
    endpoints=(endpoint("digits", "serve"), endpoint("chat", "serve", "unix:/run/chat.sock")),
    flows=(Flow(source="train", target="serve"),),
    gateway=Gateway(namespace="vouchgate", labels={"app": "gateway"}, ports=(8443,)),
)


def items(plan: Plan) -> list[dict]:
    listed = json.loads(export("kubernetes", plan).documents[FILE])
    assert listed["kind"] == "List" and listed["apiVersion"] == "v1"
    for one in listed["items"]:
        POLICY.validate(one)
    return listed["items"]


def may(policies: list[dict], source: tuple[str, dict], target: tuple[str, dict], port: int) -> bool:
    """Whether TCP goes through, read as the API's documentation says: a pod is closed in a direction that any policy selecting it lists,
    and open to what any of those allows."""

    def selects(selector: dict, labels: dict) -> bool:
        return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())

    def side(direction: str, key: str, me: tuple[str, dict], other: tuple[str, dict]) -> bool:
        mine = [one["spec"] for one in policies if one["metadata"]["namespace"] == me[0] and selects(one["spec"]["podSelector"], me[1])]
        closing = [spec for spec in mine if direction in spec["policyTypes"]]
        allowed = any(
            {"protocol": "TCP", "port": port} in rule["ports"]
            and any(
                selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other[0]}) and selects(peer["podSelector"], other[1])
                for peer in rule[key]
            )
            for spec in closing
            for rule in spec.get(direction.lower(), [])
        )
        return not closing or allowed

    return side("Egress", "to", source, target) and side("Ingress", "from", target, source)


GATEWAY = ("vouchgate", {"app": "gateway"})
DIGITS = ("serve", {"vouchgate.dev/endpoint": "digits"})
TRAINER, READER, STRANGER = ("train", {"app": "trainer"}), ("data", {}), ("default", {})


@pytest.mark.parametrize(
    ("source", "target", "port", "expected"),
    [
        (TRAINER, GATEWAY, 8443, True),
        (GATEWAY, DIGITS, 9000, True),
        (TRAINER, GATEWAY, 9901, False),
        (TRAINER, DIGITS, 9000, False),
        (STRANGER, DIGITS, 9000, False),
        (("vouchgate", {"app": "other"}), DIGITS, 9000, False),
        (("default", {"app": "gateway"}), DIGITS, 9000, False),
        (GATEWAY, DIGITS, 22, False),
        (GATEWAY, ("serve", {"app": "x"}), 9000, False),
        (("serve", {"app": "x"}), DIGITS, 9000, False),
        (READER, GATEWAY, 8443, False),
        (DIGITS, STRANGER, 443, False),
        (TRAINER, STRANGER, 443, False),
        (TRAINER, ("kube-system", {"k8s-app": "kube-dns"}), 53, True),
        (READER, ("kube-system", {"k8s-app": "kube-dns"}), 53, False),
    ],
)
def test_nothing_goes_round_the_gateway(source, target, port, expected):
    assert may(items(PLAN), source, target, port) is expected


def test_without_policies_everything_goes_through_so_the_reading_can_tell():
    assert may([], TRAINER, DIGITS, 9000)


def test_a_zone_in_observe_gets_no_policy_and_that_is_said():
    plan = msgspec.structs.replace(PLAN, zones=(zone("train"), zone("serve", "observe"), zone("data")))
    assert {one["metadata"]["namespace"] for one in items(plan)} == {"train", "data"}
    assert any("serve is in observe" in one for one in export("kubernetes", plan).left_out)


@pytest.mark.parametrize("upstream", ["unix:/run/x.sock", "tcp:127.0.0.1:9000", "tcp:[::1]:9000", "tcp:localhost:9000", "tcp:10.0.0.1:0"])
def test_an_endpoint_that_no_network_reaches_gets_no_policy_and_that_is_said(upstream):
    plan = msgspec.structs.replace(PLAN, endpoints=(endpoint("x", "serve", upstream),))
    exported = export("kubernetes", plan)
    assert len(items(plan)) == 3 and any("/endpoint/x " in one for one in exported.left_out)


def test_the_first_and_the_last_port_are_ports():
    plan = msgspec.structs.replace(PLAN, gateway=msgspec.structs.replace(PLAN.gateway, ports=(1, 65535)))
    assert may(items(plan), TRAINER, GATEWAY, 1) and may(items(plan), TRAINER, GATEWAY, 65535)


def test_the_same_plan_in_another_order_gives_the_same_bytes():
    turned = msgspec.structs.replace(PLAN, zones=PLAN.zones[::-1], endpoints=PLAN.endpoints[::-1])
    assert export("kubernetes", PLAN) == export("kubernetes", turned)


GOOD_GATEWAY = PLAN.gateway


@pytest.mark.parametrize(
    "change",
    [
        {"flows": (Flow(source="train", target="nowhere"),)}, {"flows": (Flow(source="", target="serve"),)}, {"zones": (*PLAN.zones, zone("train"))},
        {"endpoints": (endpoint("x", "elsewhere"),)}, {"namespaces": {"elsewhere": "x"}}, {"trust_domain": "other.local"},
        {"namespaces": {"serve": "train"}},
        {"zones": (zone("train"), zone("serve", "observe"), zone("data")), "namespaces": {"serve": "train"}}, {"namespaces": {"serve": "Serve"}}, {"namespaces": {"serve": "a/b"}}, {"namespaces": {"serve": ""}},
        {"namespaces": {"serve": "vouchgate"}}, {"namespaces": {"serve": "x" * 64}}, {"namespaces": {"serve": "-x"}},
        {"zones": (*PLAN.zones, zone("my_zone"))}, {"zones": (*PLAN.zones, zone("v1.2"))}, {"endpoints": (endpoint("a_b", "serve"),)},
        {"endpoints": (endpoint("x" * 41, "serve"),)}, {"zones": tuple(zone(f"z{n}") for n in range(1001)), "endpoints": (), "flows": ()},
        {"endpoints": (endpoint("x", "serve", "tcp:nowhere"),)},
        *({"gateway": msgspec.structs.replace(GOOD_GATEWAY, **one)} for one in (
            {"labels": {}}, {"labels": {"": "x"}}, {"labels": {"app": "a b"}}, {"labels": {"app": ""}}, {"ports": ()}, {"ports": (0,)}, {"ports": (65536,)}, {"ports": (8443, 0)},
            {"namespace": ""}, {"namespace": "A"},
        )),
    ],
)  # fmt: skip
def test_a_plan_that_a_cluster_would_read_otherwise_is_refused(change):
    with pytest.raises(InvalidInput) as caught:
        export("kubernetes", msgspec.structs.replace(PLAN, **change))
    assert caught.value.remedy


def test_a_zone_whose_name_is_no_namespace_can_be_given_one():
    plan = msgspec.structs.replace(PLAN, zones=(*PLAN.zones, zone("my_zone")), namespaces={"my_zone": "my-zone"})
    (one,) = [one for one in items(plan) if one["metadata"]["namespace"] == "my-zone"]
    assert one["metadata"]["labels"]["vouchgate.dev/zone"] == "my_zone"


names = st.text("abc01-", min_size=1, max_size=6).filter(lambda name: name[0] != "-" != name[-1] and name != "vouchgate")


@given(st.lists(names, unique=True, min_size=1, max_size=6), st.data())
def test_whatever_the_plan_a_pod_of_a_zone_reaches_only_the_gateway_and_dns(zones, data):
    some = st.sampled_from(zones)
    flows = data.draw(st.lists(st.builds(Flow, source=some, target=some), max_size=6))
    endpoints = data.draw(st.lists(st.builds(endpoint, names, some), max_size=4, unique_by=lambda one: one.id))
    plan = msgspec.structs.replace(PLAN, zones=tuple(map(zone, zones)), flows=tuple(flows), endpoints=tuple(endpoints))
    policies = items(plan)
    assert len({(one["metadata"]["namespace"], one["metadata"]["name"]) for one in policies}) == len(policies)
    for source in zones:
        assert may(policies, (source, {}), GATEWAY, 8443) is (source in {flow.source for flow in flows})
        for one in endpoints:
            assert not may(policies, (source, {}), (one.zone, {"vouchgate.dev/endpoint": one.id.rpartition("/")[2]}), 9000)


def test_the_catalog_refuses_unknown_names():
    with pytest.raises(NotFound):
        export("openshift", PLAN)
