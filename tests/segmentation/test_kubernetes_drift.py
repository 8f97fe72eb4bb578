"""A cluster's policies beside what was exported: everything that opens more is found, and nothing that is the same in other words."""

from __future__ import annotations

import copy
import json

import msgspec
import pytest
from sidecar_world import plan

from vouchgate.segmentation.catalog import export
from vouchgate.segmentation.kubernetes_drift import compare


@pytest.fixture
def meant(tmp_path):
    one = plan("a.local", tmp_path, {"digits": 1, "lake": 2})
    endpoints = tuple(msgspec.structs.replace(endpoint, upstream="tcp:10.0.0.1:9000") for endpoint in one.endpoints)
    one = msgspec.structs.replace(one, endpoints=endpoints, direct=True)
    found = [
        item for name in ("kubernetes", "istio") for text in export(name, one).documents.values() for item in json.loads(text)["items"]
    ]
    assert len(found) == 13
    return found


def as_served(items: list[dict]) -> list[dict]:
    """As an API server gives them back: its own fields, defaults left out or filled in, lists in another order."""
    served = copy.deepcopy(items)
    for item in served:
        item["metadata"] |= {"uid": "1", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}]}
        item["status"] = {}
        spec = item["spec"]
        for side in ("ingress", "egress"):
            if spec.get(side) == []:
                del spec[side]
            for rule in spec.get(side, []):
                rule["ports"].reverse()
                for port in rule["ports"]:
                    if port["protocol"] == "TCP":
                        del port["protocol"]
        if "rules" in spec:
            spec["rules"].reverse()
            spec.pop("action")
    return served[::-1]


def kinds(live: list[dict], meant: list[dict]) -> list[tuple[str, str]]:
    return [(one.kind, one.what) for one in compare(live, meant)]


def test_the_same_policies_in_the_servers_words_are_no_drift(meant):
    assert kinds(as_served(meant), meant) == [] == kinds(meant, meant)
    noise = [{"kind": "Pod"}, {"kind": "NetworkPolicy"}, {}, {"metadata": 7}, {"kind": "ConfigMap", "spec": 1}]
    assert kinds(meant + noise, meant) == []


def test_every_policy_that_is_gone_is_missing(meant):
    for number in range(len(meant)):
        less = meant[:number] + meant[number + 1 :]
        assert [kind for kind, _ in kinds(less, meant)] == ["missing"]
    assert len(kinds([], meant)) == len(meant)


def edit(items: list[dict], kind: str, name: str, change) -> list[dict]:
    made = copy.deepcopy(items)
    change(next(one for one in made if one["kind"] == kind and one["metadata"]["name"] == name))
    return made


LOOSER = {
    "every peer": ("NetworkPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"]["ingress"][0].pop("from")),
    "every port": ("NetworkPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"]["ingress"][0].pop("ports")),
    "empty peers are every peer": ("NetworkPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"]["ingress"][0].update({"from": []})),
    "a rule more": ("NetworkPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"]["ingress"].append({})),
    "every pod of every namespace": ("NetworkPolicy", "vouchgate-endpoint-digits",
                                     lambda one: one["spec"]["ingress"][0]["from"][0].update({"namespaceSelector": {}, "podSelector": {}})),
    "two peers in place of one": ("NetworkPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"]["ingress"][0].update(
        {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "vouchgate"}}}, {"podSelector": {"matchLabels": {"app": "gateway"}}}]})),
    "egress is not held": ("NetworkPolicy", "vouchgate-zone-serve", lambda one: one["spec"].update({"policyTypes": ["Ingress"]})),
    "other pods": ("NetworkPolicy", "vouchgate-zone-serve", lambda one: one["spec"].update({"podSelector": {"matchLabels": {"a": "b"}}})),
    "another port": ("NetworkPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"]["ingress"][0]["ports"][0].update({"port": 22})),
    "plaintext": ("PeerAuthentication", "vouchgate-zone-serve", lambda one: one["spec"]["mtls"].update({"mode": "PERMISSIVE"})),
    "plaintext on a port": ("PeerAuthentication", "vouchgate-zone-serve",
                            lambda one: one["spec"].update({"portLevelMtls": {"9000": {"mode": "DISABLE"}}})),
    "allow everything": ("AuthorizationPolicy", "vouchgate-zone-serve", lambda one: one["spec"].update({"rules": [{}]})),
    "every path": ("AuthorizationPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"]["rules"][0].pop("to")),
    "every source": ("AuthorizationPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"]["rules"][0].pop("from")),
    "only recorded": ("AuthorizationPolicy", "vouchgate-endpoint-digits", lambda one: one["spec"].update({"action": "AUDIT"})),
    "another zone": ("AuthorizationPolicy", "vouchgate-endpoint-digits",
                     lambda one: one["spec"]["rules"][1]["from"][0]["source"].update({"namespaces": ["data"]})),
    "no spec": ("NetworkPolicy", "vouchgate-zone-serve", lambda one: one.pop("spec")),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOSER)
def test_a_policy_that_says_something_else_is_found(meant, name):
    kind, policy_name, change = LOOSER[name]
    assert kinds(edit(meant, kind, policy_name, change), meant) == [("different", f"{kind} serve/{policy_name}")]


def policy(kind: str, namespace: str, spec: object) -> dict:
    return {"kind": kind, "metadata": {"name": "theirs", "namespace": namespace}, "spec": spec}


@pytest.mark.parametrize(
    "one",
    [
        policy("NetworkPolicy", "serve", {"podSelector": {}, "ingress": [{}]}),
        policy("NetworkPolicy", "serve", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": []}]}),
        policy("AdminNetworkPolicy", "", {"ingress": [{"action": "Allow", "from": []}]}),
        policy("BaselineAdminNetworkPolicy", "", {"egress": [{"action": "Allow"}]}),
        policy("AuthorizationPolicy", "serve", {"rules": [{}]}),
        policy("AuthorizationPolicy", "istio-system", {"action": "ALLOW", "rules": [{}]}),
        policy("PeerAuthentication", "data", {"mtls": {"mode": "DISABLE"}}),
        policy("PeerAuthentication", "serve", {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"80": {"mode": "PERMISSIVE"}}}),
    ],
)
def test_a_policy_of_somebody_else_that_opens_more_is_found(meant, one):
    (found,) = compare([*meant, one], meant)
    assert found.kind in ("extra", "loosened") and "theirs" in found.what


@pytest.mark.parametrize(
    "one",
    [
        policy("NetworkPolicy", "serve", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        policy("NetworkPolicy", "elsewhere", {"podSelector": {}, "ingress": [{}]}),
        policy("AdminNetworkPolicy", "", {"ingress": [{"action": "Deny"}]}),
        policy("AuthorizationPolicy", "serve", {"action": "DENY", "rules": [{}]}),
        policy("AuthorizationPolicy", "serve", {}),
        policy("AuthorizationPolicy", "elsewhere", {"rules": [{}]}),
        policy("PeerAuthentication", "serve", {"selector": {}, "mtls": {"mode": "STRICT"}}),
    ],
)
def test_a_policy_that_only_closes_is_none_of_ours(meant, one):
    assert compare([*meant, one], meant) == []


@pytest.mark.parametrize("spec", [None, 7, [], {"ingress": 7}, {"ingress": [7]}, {"rules": "x"}, {"mtls": 7, "portLevelMtls": 3}])
def test_nonsense_is_no_crash(meant, spec):
    for kind in ("NetworkPolicy", "AuthorizationPolicy", "PeerAuthentication", "AdminNetworkPolicy"):
        compare([*meant, policy(kind, "serve", spec)], meant)
        broken = [one | {"spec": spec} for one in meant]
        assert "different" in {one.kind for one in compare(broken, meant)}
