"""Sidecars that the exporter wrote, as real Envoys between services of two tenants: declared flows pass, everything else is refused."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
from collections.abc import Iterator

import pytest
from sidecar_world import DECLARED, INFER, SERVICES, ZONES, Authority, Tenant, by_pipe, free_port, listens, request, until

from vouchgate.segmentation.catalog import export

pytestmark = pytest.mark.gateway


@pytest.fixture(scope="module")
def one() -> Iterator[Tenant]:
    with Tenant("a.local") as running:
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[Tenant]:
    with Tenant("b.local") as running:
        yield running


def test_declared_flows_pass_and_every_other_pair_is_refused(one, other):
    for mine, theirs, zone, name in itertools.product((one, other), (one, other), ZONES, SERVICES):
        status = request(theirs.ports[name], mine.context(mine.caller(zone)))
        expected = mine is theirs and (zone, name) in DECLARED
        assert (status == 200) is expected, (mine.td, zone, theirs.td, name, status)


def test_a_callers_pipe_leads_to_its_services_alone(one):
    until(lambda: by_pipe(one.folder / "calls-train.to.digits"))
    assert by_pipe(one.folder / "calls-train.to.digits") == 200
    assert by_pipe(one.folder / "sidecar-digits.to.lake") == 200
    assert not (one.folder / "calls-train.to.lake").exists()
    assert (one.folder / "calls-train.to.digits").stat().st_mode & 0o777 == 0o600


def test_the_other_end_of_a_pipe_must_be_exactly_that_service(one, other):
    """A calls document that is led to another service of the same tenant, and to the other tenant's, gets nothing."""
    content = json.loads(export("envoy", one.plan).documents["calls-train.json"])
    for number, port in enumerate((one.ports["lake"], other.ports["digits"])):
        text = json.dumps(content).replace(str(one.ports["digits"]), str(port)).replace("calls-train", f"led-{number}")
        path = one.folder / f"led-{number}.to.digits"
        one.start("calls-train", json.loads(text))
        until(lambda path=path: by_pipe(path) == 503)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/models/digits"), ("DELETE", INFER), ("GET", INFER), ("POST", "/v2/models/a/b/infer"), ("POST", "/"), ("POST", f"{INFER}/"),
     ("POST", "/v2/models/digits/INFER"), ("POST", "/admin"), ("POST", "/v2/models/%2e%2e/infer")],
)  # fmt: skip
def test_a_flow_opens_its_actions_alone(one, method, path):
    assert request(one.ports["digits"], one.context(one.caller("train")), method=method, path=path) in (400, 403)


def test_a_query_and_a_dotted_path_change_nothing(one):
    tls = one.context(one.caller("train"))
    assert request(one.ports["digits"], tls, path=f"{INFER}?x=/admin") == 200
    assert request(one.ports["digits"], tls, path=f"/admin/..{INFER}") == 200
    assert request(one.ports["digits"], tls, path=f"{INFER}/../../../../admin") == 403


@pytest.mark.parametrize(
    "names",
    [
        ("spiffe://a.local/job/trainx/someone",),
        ("spiffe://a.local/job/train",),
        ("spiffe://a.local/job/train/x/y",),
        ("spiffe://a.local.evil/job/train/x",),
        ("spiffe://axlocal/job/train/x",),
        ("spiffe://A.local/job/train/x",),
        ("spiffe://a.local/JOB/train/x",),
        ("spiffe://a.local/declared/train/x",),
        ("spiffe://a.local/job/train/x,spiffe://a.local/job/train/y",),
        ("spiffe://a.local/job/data/x", "spiffe://a.local/job/train/x"),
        ("spiffe://a.local/job/train/x", "spiffe://a.local/job/data/x"),
        ("https://a.local/job/train/x",),
    ],
)
def test_nobody_else_s_name_is_let_in(one, names):
    assert request(one.ports["digits"], one.context(*names)) == 0


def test_without_a_valid_certificate_nothing_passes(one, other):
    port, who = one.ports["digits"], one.caller("train")
    assert request(port, None) == 0, "plaintext"
    assert request(port, one.context()) == 0, "no certificate"
    assert request(port, one.context(who, seconds=-1)) == 0, "expired"
    assert request(port, one.context(who, ca=Authority("a.local"))) == 0, "another authority under our name"
    assert request(port, one.context(who, ca=other.ca)) == 0, "the other tenant's authority"
    old = one.context(who)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert request(port, old) == 0, "TLS 1.2"
    assert request(port, one.context(who)) == 200


def test_headers_name_nobody(one):
    spoofed = {
        "x-forwarded-client-cert": f"URI={one.caller('train')}",
        "x-vg-principal": one.caller("train"),
        "x-envoy-original-path": "/admin",
        "x-forwarded-for": "10.0.0.1",
    }
    assert request(one.ports["digits"], one.context(one.caller("data")), headers=spoofed) == 0
    assert (
        request(
            one.ports["digits"],
            one.context(one.caller("train")),
            headers=spoofed | {"x-forwarded-client-cert": "URI=spiffe://a.local/person/admin/root"},
        )
        == 200
    )
    seen = dict(one.upstreams["digits"].seen[-1]["headers"])
    by, _, who = seen["x-forwarded-client-cert"].split(";")
    assert (by, who) == ("By=spiffe://a.local/server/serve/digits", f"URI={one.caller('train')}")
    assert "x-vg-principal" not in seen and "x-envoy-original-path" not in seen and "10.0.0.1" not in seen.get("x-forwarded-for", "")


def test_every_answer_is_a_line_of_the_log(one):
    request(one.ports["lake"], one.context(one.caller("train")))
    request(one.ports["lake"], one.context(one.caller("serve")), path="/admin")
    log = one.folder / "sidecar-lake.log"

    def lines() -> list[dict]:
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    until(lambda: any(line.get("path") == "/admin" and line["caller"] == one.caller("serve") for line in lines()))
    until(lambda: any(line.get("tls") for line in lines()))


def test_the_admin_pipe_changes_nothing(one):
    for method, path in (("POST", "/quitquitquit"), ("POST", "/runtime_modify?x=1"), ("POST", "/logging?level=trace"), ("GET", "/runtime")):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(one.folder / "sidecar-digits.admin"))
            link.sendall(f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
            assert link.recv(64).startswith(b"HTTP/1.1 403")
    assert request(one.ports["digits"], one.context(one.caller("train"))) == 200


def test_with_the_checks_taken_out_the_same_callers_pass(one):
    """The twin: it is the exported checks that refuse, and these tests can tell."""
    document = json.loads(export("envoy", one.plan).documents["sidecar-lake.json"])
    (listener,) = [row for row in document["static_resources"]["listeners"] if row["name"] == "in"]
    chain, port = listener["filter_chains"][0], free_port()
    listener["address"]["socket_address"]["port_value"] = port
    common = chain["transport_socket"]["typed_config"]["common_tls_context"]
    del common["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"]
    chain["filters"] = chain["filters"][1:]
    chain["filters"][0]["typed_config"]["http_filters"] = chain["filters"][0]["typed_config"]["http_filters"][1:]
    one.start("sidecar-lake", json.loads(json.dumps(document).replace("sidecar-lake", "twin-lake")))
    until(lambda: listens(port))
    assert request(port, one.context(one.caller("train"))) == 200
    assert request(port, one.context("spiffe://a.local/job/data/x", "spiffe://a.local/job/train/x"), path="/admin") == 200
