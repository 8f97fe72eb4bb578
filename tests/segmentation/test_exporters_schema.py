"""What the exporters write is valid where it is read: Kubernetes' published JSON schema, Istio's published CRD schema, Envoy itself and its
protobuf messages; and a plan that is wrong is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import msgspec
import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import descriptor_pool, json_format
from sidecar_world import plan

from vouchgate.edges.envoy.bootstrap import envoy_binary
from vouchgate.segmentation.catalog import export
from vouchgate.segmentation.exporters.istio import FILE as ISTIO
from vouchgate.segmentation.exporters.kubernetes import FILE as KUBERNETES
from vouchgate.segmentation.openings import openings
from vouchgate.segmentation.plan import Flow, Plan, Service, Sidecars
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.places import Endpoint, Route, Zone

TD = "a.local"
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
NODE = Path(__file__).parents[1] / "node"
CHECK = """
const api = require("@kubernetes-models/istio/security.istio.io/v1"), old = require("@kubernetes-models/istio/security.istio.io/v1beta1");
for (const one of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
  const Kind = api[one.kind] || old[one.kind];
  const made = new Kind(one);
  if (!api[one.kind]) made.apiVersion = "security.istio.io/v1beta1";
  made.validate();
}
console.log("valid");
"""
"""PeerAuthentication is published for v1beta1 alone there; its fields are those of v1."""

# closed: a field that the API server would prune in silence fails here
TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
PLAIN = {"matchLabels": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string", "maxLength": 63}}}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


SELECTOR = closed(PLAIN, "matchLabels")
SOURCE = closed({"source": closed({"namespaces": TEXTS, "principals": TEXTS})}, "source") | {"minProperties": 1}
RULE = closed({
    "from": {"type": "array", "minItems": 1, "items": SOURCE},
    "to": {"type": "array", "minItems": 1, "items": closed({"operation": closed({"paths": TEXTS, "methods": TEXTS}, "paths")}, "operation")},
}, "from", "to")  # fmt: skip
JWT = closed({"issuer": {"type": "string"}, "audiences": TEXTS, "jwksUri": {"type": "string", "pattern": "^https://"}}, "issuer", "jwksUri")
SPECS = {
    "PeerAuthentication": closed({"mtls": closed({"mode": {"const": "STRICT"}}, "mode")}, "mtls"),
    "AuthorizationPolicy": {"oneOf": [closed({}), closed({"action": {"const": "ALLOW"}, "selector": SELECTOR, "rules": {
        "type": "array", "minItems": 1, "items": RULE}}, "action", "selector", "rules")]},
    "RequestAuthentication": closed({"selector": SELECTOR, "jwtRules": {"type": "array", "minItems": 1, "items": JWT}}, "selector", "jwtRules"),
}  # fmt: skip


def made(tmp_path: Path, **more: Any) -> Plan:
    return plan(TD, tmp_path, {"digits": 15443, "lake": 15444}, **more)


def bearer(tmp_path: Path) -> tuple[Endpoint, ...]:
    return tuple(msgspec.structs.replace(one, bearer=True, upstream="tcp:10.0.0.1:9000") for one in made(tmp_path).endpoints)


def istio(one: Plan) -> list[dict[str, Any]]:
    return json.loads(export("istio", one).documents[ISTIO])["items"]


def variants(tmp_path: Path) -> list[Plan]:
    base = made(tmp_path, endpoints=bearer(tmp_path))
    accounts = {"train": ("trainer",), "serve": ("server", "other")}
    direct = msgspec.structs.replace(base, direct=True, service_accounts=accounts, jwks_uri="https://keys.example/jwks")
    return [
        made(tmp_path),
        base,
        direct,
        msgspec.structs.replace(direct, zones=(*base.zones[:2], Zone(name="data", trust_domain=TD, mode="observe"))),
    ]


def test_kubernetes_documents_hold_to_the_published_schema(tmp_path):
    for one in variants(tmp_path):
        for item in json.loads(export("kubernetes", one).documents[KUBERNETES])["items"]:
            kubernetes_validate.validate(item, "1.37", strict=True)
            wrong = json.loads(json.dumps(item).replace("podSelector", "podSelectors"))
            with pytest.raises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_istio_documents_hold_to_the_published_schema(tmp_path):
    if shutil.which("node") is None or not (NODE / "node_modules" / "@kubernetes-models" / "istio").exists():
        pytest.skip("node or @kubernetes-models/istio is not there: run `npm install` in tests/node")
    items = [item for one in variants(tmp_path) for item in istio(one)]

    def check(items: list[dict[str, Any]]) -> str:
        return subprocess.run(
            ["node", "-e", CHECK], check=False, input=json.dumps(items), cwd=NODE, capture_output=True, text=True, timeout=60
        ).stdout

    assert check(items) == "valid\n"
    for wrong in ('"ALLOW"->"PERMIT"', '"STRICT"->"ALWAYS"', '"from"->"form"'):
        old, _, new = wrong.partition("->")
        broken = [json.loads(json.dumps(item).replace(old, new)) for item in items]
        assert broken != items
        if old != '"from"':
            assert check(broken) == ""


def test_istio_documents_have_no_field_that_would_be_pruned(tmp_path):
    for one in variants(tmp_path):
        names = set()
        for item in istio(one):
            assert item["apiVersion"] == "security.istio.io/v1"
            jsonschema_rs.validator_for(SPECS[item["kind"]]).validate(item["spec"])
            names.add((item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]))
        assert len(names) == len(istio(one))


def test_istio_denies_by_default_and_opens_zones_only_when_told_to(tmp_path):
    def sources(one: Plan) -> list[str]:
        found = [rule["from"] for item in istio(one) for rule in item["spec"].get("rules", [])]
        return sorted({json.dumps(source["source"]) for sides in found for source in sides})

    assert sources(made(tmp_path)) == ['{"namespaces": ["vouchgate"]}']
    direct = msgspec.structs.replace(made(tmp_path), direct=True)
    assert sources(direct) == ['{"namespaces": ["serve"]}', '{"namespaces": ["train"]}', '{"namespaces": ["vouchgate"]}']
    for namespace in ("train", "serve", "data"):
        mine = [item for item in istio(direct) if item["metadata"]["namespace"] == namespace]
        assert [item["spec"] for item in mine if item["kind"] == "AuthorizationPolicy" and "rules" not in item["spec"]] == [{}]
        assert [item["spec"]["mtls"]["mode"] for item in mine if item["kind"] == "PeerAuthentication"] == ["STRICT"]


@pytest.mark.parametrize("account", ["*", "a*", "a/b", "", "A", "a b"])
def test_a_service_account_that_would_match_others_is_refused(tmp_path, account):
    with pytest.raises(InvalidInput):
        istio(made(tmp_path, direct=True, service_accounts={"train": (account,)}))


@pytest.mark.gateway
def test_envoy_takes_the_sidecars_and_so_do_its_messages(tmp_path):
    documents = export("envoy", made(tmp_path)).documents
    assert set(documents) == {"sidecar-digits.json", "sidecar-lake.json", "calls-serve.json", "calls-train.json"}
    for name, content in documents.items():
        json_format.ParseDict(json.loads(content), bootstrap_pb2.Bootstrap(), descriptor_pool=_pool())
        (tmp_path / name).write_bytes(content)
        command = [str(envoy_binary()), "--mode", "validate", "--reject-unknown-dynamic-fields", "-c", str(tmp_path / name)]
        assert subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0, name
    broken = tmp_path / "broken.json"
    broken.write_bytes(documents["sidecar-lake.json"].replace(b'"rules"', b'"rulez"'))
    assert subprocess.run(
        [str(envoy_binary()), "--mode", "validate", "-c", str(broken)], check=False, capture_output=True, timeout=30
    ).returncode


def _pool() -> Any:
    """The default pool, with every message that a sidecar's document names."""
    for name in MESSAGES:
        import_module(name)
    return descriptor_pool.Default()


# --- what stays shut --------------------------------------------------------------------------------------------------------------


def test_a_flow_that_asks_for_evidence_is_not_opened_by_a_sidecar(tmp_path):
    flows = (
        Flow(source="train", target="serve", actions=("infer",), vouches=("scan",)),
        Flow(source="data", target="serve", kinds=("model",)),
    )
    exported = export("envoy", made(tmp_path, flows=flows))
    assert set(exported.documents) == {"sidecar-digits.json", "sidecar-lake.json"}
    assert b"nobody" in exported.documents["sidecar-digits.json"] and b"/train/" not in exported.documents["sidecar-digits.json"]
    assert any("asks for scan" in one for one in exported.left_out)


@pytest.mark.parametrize("field", [{"mcp": True}, {"model_in_body": True}, {"routes": ()}])
def test_what_only_the_gateway_can_see_is_not_opened(tmp_path, field):
    base = made(tmp_path)
    changed = tuple(msgspec.structs.replace(one, **field) for one in base.endpoints)
    opened, shut = openings(msgspec.structs.replace(base, endpoints=changed))
    assert opened == () and len(shut) == 2


def test_an_action_that_no_route_has_opens_nothing(tmp_path):
    assert openings(made(tmp_path, flows=(Flow(source="train", target="serve", actions=("train",)),)))[0] == ()


def test_an_observed_zone_has_no_sidecar_and_that_is_said(tmp_path):
    zones = tuple(Zone(name=zone, trust_domain=TD, mode="observe" if zone == "data" else "enforce") for zone in ("train", "serve", "data"))
    exported = export("envoy", made(tmp_path, zones=zones))
    assert "sidecar-lake.json" not in exported.documents and "calls-serve.json" not in exported.documents
    assert any("in observe" in one for one in exported.left_out)


def test_a_service_on_tcp_is_said_to_have_a_way_around(tmp_path):
    assert any("beside the sidecar" in one for one in export("envoy", made(tmp_path, endpoints=bearer(tmp_path))).left_out)


@pytest.mark.parametrize(
    "services",
    [
        (Service(endpoint=f"vg://{TD}/endpoint/none", principal=f"spiffe://{TD}/server/serve/x", listen="tcp:127.0.0.1:1"),),
        (Service(endpoint=f"vg://{TD}/endpoint/digits", principal=f"spiffe://{TD}/server/data/digits", listen="tcp:127.0.0.1:1"),),
        (Service(endpoint=f"vg://{TD}/endpoint/digits", principal="spiffe://b.local/server/serve/digits", listen="tcp:127.0.0.1:1"),),
        (Service(endpoint=f"vg://{TD}/endpoint/digits", principal=f"spiffe://{TD}/server/serve/digits", listen="http://x"),),
        (Service(endpoint=f"vg://{TD}/endpoint/digits", principal=f"spiffe://{TD}/server/serve/digits", listen="tcp:127.0.0.1:1"),) * 2,
    ],
)
def test_a_sidecar_that_is_not_the_endpoints_own_is_refused(tmp_path, services):
    with pytest.raises(InvalidInput):
        export("envoy", made(tmp_path, sidecars=Sidecars(services=services, run_dir=str(tmp_path), agent_socket="/run/agent.sock")))


@pytest.mark.parametrize("run_dir", ["", "relative", "/" + "x" * 120])
def test_a_folder_that_holds_no_socket_is_refused(tmp_path, run_dir):
    told = made(tmp_path).sidecars
    with pytest.raises(InvalidInput):
        export("envoy", made(tmp_path, sidecars=msgspec.structs.replace(told, run_dir=run_dir)))


def test_without_sidecars_there_is_nothing_to_write(tmp_path):
    with pytest.raises(InvalidInput):
        export("envoy", made(tmp_path, sidecars=None))


@pytest.mark.parametrize("path", ["/v1/{a}/x", "/v1/(x)", "/v1/a.b", "/v1/a+b", "/*"])
def test_a_path_is_matched_as_it_is_written(tmp_path, path):
    import re

    route = (Route(method="POST", path=path, action="infer"),)
    changed = tuple(msgspec.structs.replace(one, routes=route) for one in made(tmp_path).endpoints)
    text = export("envoy", made(tmp_path, endpoints=changed)).documents["sidecar-digits.json"]
    found = re.findall(r'"path": \{\s*"(exact|prefix|safe_regex)": (?:\{\s*"regex": )?"((?:[^"\\]|\\.)*)"', text.decode())
    kind, value = found[0]
    value = json.loads(f'"{value}"')
    match = {"exact": lambda text: text == value, "prefix": lambda text: text.startswith(value), "safe_regex": re.compile(value).fullmatch}[
        kind
    ]
    assert match(path.replace("{a}", "b").replace("*", "anything"))
    assert path == "/*" or not match(path.replace("{a}", "b") + "x" if "{" not in path else "/v1/b/c/x")
