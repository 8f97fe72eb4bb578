"""The gates before a whole installation: a cluster and a model registry let through what was imported, and nothing that was revoked or never came in."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import MODEL, ROOT, Installation

sys.path.insert(0, str(ROOT / "tests" / "edges" / "kubernetes"))
sys.path.insert(0, str(ROOT / "tests" / "integrations"))

from gate_world import Authority, Cluster, serving
from mlflow_gate_server import THERE, WHY_NOT, running
from test_review import asked, pod

POLICY = """
@id("what-was-imported-may-go-live")
permit (principal, action in [Action::"promote", Action::"deploy"], resource is Artifact)
when { resource.vouches.containsAll(["scan", "structure", "import"]) && context.risk < 60 };
"""
MODEL_FILES = {"MLmodel": b"flavors:\n  onnx:\n    data: model.onnx\n", "model.onnx": MODEL.read_bytes() if MODEL.exists() else b""}
STRANGE = "sha256:" + "0" * 64

pytestmark = [pytest.mark.system, pytest.mark.skipif(not MODEL.exists(), reason="the example model is not trained: run `make example`")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    policy = tmp_path_factory.mktemp("policy") / "gates.cedar"
    policy.write_text(POLICY)
    with Installation(more=f'\n[[policies]]\npath = "{policy}"\n') as made:
        yield made


@pytest.fixture(scope="module")
def cluster(house: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    authority = Authority(tmp_path_factory.mktemp("tls"), "ca")
    with serving(house.layout.api_socket, *authority.issue("gate"), "--client-ca", str(authority.pem)) as port:
        yield Cluster(port, authority.pem, authority.issue("apiserver"))


def allowed(cluster: Cluster, digest: str) -> tuple[bool, str]:
    status, said = cluster.ask(asked(pod(digest)))
    assert status == 200
    return said["response"]["allowed"], said["response"].get("status", {}).get("message", "")


def test_a_cluster_takes_what_was_imported_until_it_is_revoked(house: Installation, cluster: Cluster) -> None:
    taken = house.take_in(MODEL)
    assert allowed(cluster, taken.digest) == (True, "")
    assert any("Pod shop/web-1" in str(entry) for entry in house.entries())
    yes, why = allowed(cluster, STRANGE)
    assert not yes
    assert "vouchgate import" in why
    revocation = house.revoke(taken.digest, "digest")
    house.until(lambda: not allowed(cluster, taken.digest)[0], 3, "a revoked model was still taken")
    assert "was revoked" in allowed(cluster, taken.digest)[1]
    assert revocation.revocation is not None
    house.undo(revocation.revocation.id)
    house.until(lambda: allowed(cluster, taken.digest)[0], 5, "an undone revocation still held")


def test_a_cluster_takes_nothing_while_the_control_plane_stands_still(house: Installation, cluster: Cluster) -> None:
    digest = house.take_in(MODEL).digest
    house.send("control", signal.SIGSTOP)
    try:
        time.sleep(1.1)
        began = time.monotonic()
        yes, why = allowed(cluster, digest)
        assert not yes
        assert "in time" in why
        assert time.monotonic() - began < 10
    finally:
        house.send("control", signal.SIGCONT)
    house.until(lambda: allowed(cluster, digest)[0], 30, "the gate did not come back")


@pytest.mark.skipif(not THERE, reason=WHY_NOT)
def test_a_registry_lets_go_live_what_was_imported_until_it_is_revoked(house: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    for name, data in MODEL_FILES.items():
        (folder / name).write_bytes(data)
    with running(workers=1, SOCKET=str(house.layout.api_socket)) as server:
        version, _ = server.version("digits", MODEL_FILES)
        status, why = server.alias("digits", "champion", version)
        assert status == 403
        assert "vouchgate import" in why
        done = house.cli("import", str(folder), "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert server.alias("digits", "champion", version) == (200, "")
        assert server.resolved("digits", "champion")[0] == 200
        other, _ = server.version("digits", MODEL_FILES | {"more.txt": b"one file more"})
        assert server.alias("digits", "champion", other)[0] == 403
        digest = why.partition("(sha256-tree:")[2].partition(")")[0]
        house.revoke(f"sha256-tree:{digest}", "digest")
        house.until(lambda: server.resolved("digits", "champion")[0] == 403, 3, "a revoked version was still handed out")
        assert server.alias("digits", "next", version)[0] == 403
