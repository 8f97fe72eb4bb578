"""The gate as a process of its own: TLS, client certificates, bounds, what it holds, and that a control plane which is gone lets nothing in."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
from gate_world import Authority, Cluster, serving
from surface_served import Served
from test_review import ONE, TWO, asked, pod

from vouchgate.edges.cli.main import main
from vouchgate.edges.kubernetes import webhook
from vouchgate.edges.kubernetes.webhook import Asker
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.errors import Unavailable


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ca")


@pytest.fixture(scope="module")
def plane() -> Iterator[Served]:
    with Served() as served:
        served.surface.allowed = set[str]()  # type: ignore[attr-defined]
        served.surface.gates = []  # type: ignore[attr-defined]

        async def gate(caller: Caller, request: GateRequest) -> GateOutcome:
            served.surface.gates.append(request)  # type: ignore[attr-defined]
            allowed = request.digest in served.surface.allowed  # type: ignore[attr-defined]
            reason = "" if allowed else "nobody approved it"
            return GateOutcome(
                allowed=allowed, digest=request.digest, resource="r", decision_id="d", reason=reason, hold_ms=1_000 if allowed else 0
            )

        served.surface.gate = gate  # type: ignore[method-assign]
        yield served


@pytest.fixture(scope="module")
def cluster(authority: Authority, plane: Served) -> Iterator[Cluster]:
    with serving(plane.socket, *authority.issue("gate"), "--client-ca", str(authority.pem), "--zone-namespace", "serve=shop") as port:
        yield Cluster(port, authority.pem, authority.issue("apiserver"))


def test_a_review_is_asked_of_the_control_plane(cluster: Cluster, plane: Served) -> None:
    status, said = cluster.ask(asked(pod(ONE)))
    assert (status, said["response"]["allowed"]) == (200, False)
    assert "nobody approved it" in said["response"]["status"]["message"]
    plane.surface.allowed = {ONE}  # type: ignore[attr-defined]
    assert cluster.ask(asked(pod(ONE)))[1]["response"]["allowed"] is True
    request = plane.surface.gates[-1]  # type: ignore[attr-defined]
    assert (request.digest, request.act, request.subject, request.target) == (ONE, "deploy", "Pod shop/web-1", "serve")


def test_an_allow_is_held_for_its_second_and_a_refusal_never(cluster: Cluster, plane: Served) -> None:
    plane.surface.allowed = {TWO}  # type: ignore[attr-defined]
    assert cluster.ask(asked(pod(TWO)))[1]["response"]["allowed"]
    plane.surface.allowed = set()  # type: ignore[attr-defined]
    end = time.monotonic() + 10
    while cluster.ask(asked(pod(TWO)))[1]["response"]["allowed"] and time.monotonic() < end:
        time.sleep(0.05)
    assert not cluster.ask(asked(pod(TWO)))[1]["response"]["allowed"]
    plane.surface.allowed = {TWO}  # type: ignore[attr-defined]
    assert cluster.ask(asked(pod(TWO)))[1]["response"]["allowed"]


def test_who_has_no_certificate_of_the_client_ca_is_not_heard(cluster: Cluster, authority: Authority, tmp_path: Path) -> None:
    for client in (None, Authority(tmp_path, "other").issue("apiserver")):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            Cluster(cluster.port, authority.pem, client).ask(asked(pod(ONE)))
    plain = http.client.HTTPConnection("localhost", cluster.port, timeout=10)
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.request("POST", "/admit", b"{}", {"content-type": "application/json"})
        plain.getresponse()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(cluster: Cluster, authority: Authority) -> None:
    old = Cluster(cluster.port, authority.pem, authority.issue("old"))
    assert old.ask(asked(pod()))[0] == 200
    old.context.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.context.minimum_version, old.context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        old.ask(asked(pod()))


@pytest.mark.parametrize(
    ("data", "path", "media", "status"),
    [
        (b"{}", "/admit", "application/json", 400),
        (asked(pod(ONE)), "/admit", "text/plain", 400),
        (b" " * (webhook.MAX_BODY_BYTES + 1), "/admit", "application/json", 413),
        (asked(pod(ONE)), "/", "application/json", 404),
        (asked(pod(ONE)), "/admit/", "application/json", 404),
        (asked(pod(ONE)), "/healthz", "application/json", 405),
    ],
)
def test_what_is_no_review_gets_no_answer_that_allows(cluster: Cluster, data: bytes, path: str, media: str, status: int) -> None:
    assert cluster.ask(data, path, media)[0] == status


def test_an_object_as_large_as_a_cluster_takes_is_answered(cluster: Cluster) -> None:
    large = pod(ONE)
    large["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "x" * 1_500_000
    assert cluster.ask(asked(large, oldObject=large))[0] == 200


def test_a_client_that_says_nothing_does_not_hold_the_gate(cluster: Cluster) -> None:
    silent = [socket.create_connection(("127.0.0.1", cluster.port)) for _ in range(32)]
    half = cluster.connect()
    half.connect()
    half.sock.sendall(b"POST /admit HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
    try:
        assert cluster.ask(asked(pod(TWO)))[0] == 200
    finally:
        half.close()
        for one in silent:
            one.close()


def test_many_at_once_are_each_answered_for_themselves(cluster: Cluster, plane: Served) -> None:
    plane.surface.allowed = {ONE}  # type: ignore[attr-defined]
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        found[number] = cluster.ask(asked(pod(ONE if number % 2 else f"sha256:{number:064x}"), uid=f"u{number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert {number: (said["response"]["uid"], said["response"]["allowed"]) for number, (_, said) in found.items()} == {
        number: (f"u{number}", bool(number % 2)) for number in range(24)
    }


def test_a_renewed_certificate_holds_from_the_next_handshake_on(authority: Authority, plane: Served, tmp_path: Path) -> None:
    certificate, key = authority.issue("turning")
    with serving(plane.socket, certificate, key) as port:
        cluster = Cluster(port, authority.pem, None)
        assert cluster.ask(asked(pod()))[0] == 200
        other = Authority(tmp_path, "second")
        key.write_bytes(b"half a file")
        time.sleep(1.2)
        assert cluster.ask(asked(pod()))[0] == 200
        new = other.issue("turning")
        key.write_bytes(new[1].read_bytes())
        certificate.write_bytes(new[0].read_bytes())
        time.sleep(1.2)
        assert Cluster(port, other.pem, None).ask(asked(pod()))[0] == 200
        with pytest.raises(ssl.SSLError):
            cluster.ask(asked(pod()))


@pytest.mark.parametrize("how", ["nothing there", "nobody listens", "silence"])
def test_without_a_control_plane_no_model_is_taken(authority: Authority, tmp_path: Path, how: str) -> None:
    path = tmp_path / "api.sock"
    listener = socket.socket(socket.AF_UNIX)
    if how != "nothing there":
        listener.bind(str(path))
    if how == "silence":
        listener.listen(8)
    with serving(path, *authority.issue("lonely")) as port:
        cluster = Cluster(port, authority.pem, None)
        status, said = cluster.ask(asked(pod(ONE)))
        assert (status, said["response"]["allowed"]) == (200, False)
        assert "control plane" in said["response"]["status"]["message"]
        assert cluster.ask(asked(pod()))[1]["response"]["allowed"]
    listener.close()


def test_a_dry_runs_answer_is_not_taken_for_a_real_one() -> None:
    asked_for: list[GateRequest] = []

    def post(request: GateRequest) -> GateOutcome:
        asked_for.append(request)
        if request.purpose == "gone":
            raise Unavailable("gone", remedy="")
        return GateOutcome(allowed=True, digest=request.digest, resource="r", decision_id="", reason="", hold_ms=60_000)

    async def tell() -> None:
        asker = Asker(post)
        base = GateRequest(digest=ONE, act="deploy", target="serve")
        for changed in ({}, {"dry_run": True}, {"target": "train"}, {"purpose": "x"}, {"digest": TWO}, {"subject": "another pod"}):
            await asker(msgspec.structs.replace(base, **changed))
        assert len(asked_for) == 5
        with pytest.raises(Unavailable):
            await asker(msgspec.structs.replace(base, purpose="gone"))
        asker.close()

    asyncio.run(tell())


@pytest.mark.parametrize("which", ["labelled", "all"])
def test_the_manifests_are_valid_and_fail_closed(authority: Authority, which: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", "kubernetes", "manifests", "--ca", str(authority.pem), "--namespace", "trust", "--namespaces", which]) == 0
    service, configuration = json.loads(capsys.readouterr().out)["items"]
    for one in (service, configuration):
        kubernetes_validate.validate(one, "1.37", strict=True)
    (hook,) = configuration["webhooks"]
    assert (hook["failurePolicy"], hook["sideEffects"], hook["matchPolicy"], hook["timeoutSeconds"]) == (
        "Fail",
        "NoneOnDryRun",
        "Equivalent",
        10,
    )
    assert hook["clientConfig"]["service"] == {"namespace": "trust", "name": service["metadata"]["name"], "path": webhook.PATH, "port": 443}
    (selected,) = hook["namespaceSelector"]["matchExpressions"]
    assert ("trust" in selected["values"]) is (which == "all")
    asked_about = {(group, name) for rule in hook["rules"] for group in rule["apiGroups"] for name in rule["resources"]}
    assert {
        ("", "pods"),
        ("", "pods/ephemeralcontainers"),
        ("batch", "cronjobs"),
        ("serving.kserve.io", "inferenceservices"),
    } <= asked_about
    assert all(set(rule["operations"]) == {"CREATE", "UPDATE"} for rule in hook["rules"])


@pytest.mark.parametrize(
    "line",
    [
        ["manifests"],
        ["manifests", "--ca", "/etc/hostname"],
        ["manifests", "--ca", "CA", "--namespace", "Not A Name"],
        ["serve"],
        ["serve", "--certificate", "CA", "--key", "CA"],
        ["serve", "--certificate", "/none", "--key", "/none"],
        ["serve", "--certificate", "CA", "--key", "CA", "--listen", "8443"],
        ["serve", "--certificate", "CA", "--key", "CA", "--zone-namespace", "a=b", "--zone-namespace", "c=b"],
    ],
)
def test_lines_that_say_too_little_end_with_a_reason(authority: Authority, line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", "kubernetes", *(str(authority.pem) if one == "CA" else one for one in line)]) in (2, 3)
    assert capsys.readouterr().err
