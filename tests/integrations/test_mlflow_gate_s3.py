"""The gate where MLflow's artifacts lie in an S3 store (moto): what is measured is what is fetched, and no way leads past the server."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow_gate_server import PACKS, THERE, Mlflow, running

from vouchgate.vocabulary.digests import file_digest, tree_digest

MOTO = PACKS / "bin" / "moto_server"
FILES = {"MLmodel": b"flavors: {}\n", "data/model.onnx": b"a model"}
DIGEST = tree_digest((path.encode(), file_digest(data)) for path, data in FILES.items()).text

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not (THERE and MOTO.exists()), reason="MLflow, moto and vouchgate are not installed for tests: run `make test-packs`"
    ),
]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    moto = subprocess.Popen([str(MOTO), "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/models", method="PUT"), timeout=5).close()
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        moto.terminate()
        moto.wait(20)


@pytest.fixture(scope="module")
def server(store: str) -> Iterator[Mlflow]:
    more = {"MLFLOW_S3_ENDPOINT_URL": store, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    options = ("--artifacts-destination", "s3://models/proxied")
    with running(workers=1, options=options, more=more, SOURCES="s3://models/direct") as made:
        yield made


def test_what_is_fetched_is_what_is_asked_about_and_stays(server: Mlflow) -> None:
    version, folder = server.version("m", FILES)
    assert server.alias("m", "champion", version)[0] == 403
    assert server.control.asked[-1]["digest"] == DIGEST
    # before it is live, parts may be uploaded by the store's own addresses
    create = f"/api/2.0/mlflow-artifacts/mpu/create/{folder}/data"
    status, begun = server.ask("POST", create, {"path": "model.onnx", "num_parts": 1})
    assert status == 200, begun
    server.control.allowed = {DIGEST}
    assert server.alias("m", "champion", version) == (200, "")
    complete = f"/api/2.0/mlflow-artifacts/mpu/complete/{folder}/data"
    part = {"part_number": 1, "etag": "x", "url": ""}
    assert server.ask("POST", complete, {"path": "model.onnx", "upload_id": begun["upload_id"], "parts": [part]})[0] == 403
    assert server.ask("POST", create, {"path": "model.onnx", "num_parts": 1})[0] == 403
    for prefix in ("/api", "/ajax-api"):
        assert server.upload(f"{folder}/data/model.onnx", b"other bytes", prefix)[0] == 403
        assert server.ask("DELETE", f"{prefix}/2.0/mlflow-artifacts/artifacts/{folder}")[0] == 403
    assert server.ask("GET", f"/api/2.0/mlflow-artifacts/artifacts/{folder}/data/model.onnx") == (200, FILES["data/model.onnx"].decode())


def direct(server: Mlflow, root: str) -> dict[str, Any]:
    """A run whose artifacts lie in the store itself, without the proxy."""
    name = root.replace("/", "-").replace(":", "")
    experiment = server.do("experiments/create", {"name": name, "artifact_location": root})["experiment_id"]
    run: dict[str, Any] = server.do("runs/create", {"experiment_id": experiment})["run"]["info"]
    for path, data in FILES.items():
        url = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run['run_id']}&path=model/{path}"
        assert server.ask("POST", url, raw=data)[0] == 200
    return run


@pytest.mark.parametrize(
    ("root", "named"), [("s3://models/direct/x", True), ("s3://models/directory", False), ("s3://models/direct/../y", False)]
)
def test_beside_the_proxy_only_places_that_were_named_count(server: Mlflow, root: str, named: bool) -> None:
    server.control.allowed = {DIGEST}
    if ".." in root:
        status, said = server.ask("POST", "/api/2.0/mlflow/model-versions/create", {"name": "m", "source": root})
        if status == 200:
            assert server.alias("m", "next", said["model_version"]["version"])[0] == 403
        return
    run = direct(server, root)
    source = {"name": "m", "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
    version = server.do("model-versions/create", source)["model_version"]["version"]
    status, why = server.alias("m", "direct", version)
    assert status == (200 if named else 403), why
    change = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run['run_id']}&path=model/data/model.onnx"
    assert server.ask("POST", change, raw=b"other bytes")[0] == (403 if named else 200)


def test_no_address_that_writes_past_the_server_is_handed_out(server: Mlflow) -> None:
    run = direct(server, "s3://models/direct/z")
    status, said = server.ask(
        "POST", "/api/2.0/mlflow/artifacts/presigned-upload-url", {"run_id": run["run_id"], "path": "model/data/model.onnx"}
    )
    assert status == 403, said
    assert "past this server" in said["message"]
