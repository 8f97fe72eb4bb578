"""The Open Inference Protocol (KServe V2, HTTP/REST), against the real server process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_servers import DIGITS, Server, UnixConnection
from sklearn.datasets import load_digits

PIXELS = load_digits().data
TARGETS = load_digits().target


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], trained: Path) -> Server:
    descriptor = os.open(trained / "model.onnx", os.O_RDONLY)
    try:
        return start("model_server.py", "--model", f"/dev/fd/{descriptor}", "--allow-uid", str(os.getuid()), pass_fds=(descriptor,))
    finally:
        os.close(descriptor)


def body(rows: int = 1, **more: Any) -> dict[str, Any]:
    tensor = {"name": "X", "shape": [rows, 64], "datatype": "FP32", "data": PIXELS[:rows].ravel().tolist()}
    return {"inputs": [{**tensor, **more}]}


INFER = "/v2/models/digits/infer"


def test_health_and_metadata(server: Server) -> None:
    assert server.call("GET", "/v2/health/live") == (200, {"live": True})
    assert server.call("GET", "/v2/health/ready") == (200, {"ready": True})
    assert server.call("GET", "/v2") == (200, {"name": "digits-server", "version": "1", "extensions": []})
    assert server.call("GET", "/v2/models/digits/ready") == (200, {"name": "digits", "ready": True})
    status, metadata = server.call("GET", "/v2/models/digits")
    assert status == 200
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("digits", ["1"], "onnx_onnxv1")
    assert metadata["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 64]}]
    assert {output["name"]: output["datatype"] for output in metadata["outputs"]} == {"label": "INT64", "probabilities": "FP32"}
    assert "digest" not in json.dumps(metadata)


def test_versions_are_routes_of_their_own(server: Server) -> None:
    assert server.call("GET", "/v2/models/digits/versions/1")[1] == server.call("GET", "/v2/models/digits")[1]
    assert server.call("GET", "/v2/models/digits/versions/1/ready")[0] == 200
    assert server.call("POST", "/v2/models/digits/versions/1/infer", body())[0] == 200
    for path in ("/v2/models/digits/versions/2", "/v2/models/digits/versions/2/ready"):
        assert server.call("GET", path)[0] == 404
    assert server.call("POST", "/v2/models/digits/versions/2/infer", body())[0] == 404


def test_inference_is_right_and_echoes_the_id(server: Server) -> None:
    status, answer = server.call("POST", INFER, {**body(300), "id": "r-1"})
    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", "1", "r-1")
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["label"]["shape"] == [300]
    assert sum(int(a == b) for a, b in zip(outputs["label"]["data"], TARGETS, strict=False)) > 285
    assert outputs["probabilities"]["shape"] == [300, 10]
    assert len(outputs["probabilities"]["data"]) == 3000


def test_nested_data_is_the_same_as_flat_data_and_outputs_can_be_chosen(server: Server) -> None:
    flat = server.call("POST", INFER, {**body(3), "outputs": [{"name": "label"}]})[1]
    nested = server.call("POST", INFER, {**body(3, data=PIXELS[:3].tolist()), "outputs": [{"name": "label"}]})[1]
    assert flat == nested
    assert [output["name"] for output in flat["outputs"]] == ["label"]
    assert "id" not in flat


BAD: list[tuple[str, Any]] = [
    ("no JSON", b"{"),
    ("not an object", b"[]"),
    ("no inputs", {}),
    ("inputs of another kind", {"inputs": {}}),
    ("no input", {"inputs": []}),
    ("an unknown input", body(name="Y")),
    ("an input twice", {"inputs": body()["inputs"] * 2}),
    ("another datatype", body(datatype="FP64")),
    ("an unknown datatype", body(datatype="FP33")),
    ("another shape", body(shape=[1, 63])),
    ("another rank", body(shape=[64])),
    ("a negative size", body(shape=[-1, 64])),
    ("too little data", body(data=[1.0] * 63)),
    ("too much data", body(data=[1.0] * 65)),
    ("a huge shape", body(shape=[2**40, 64])),
    ("ragged data", body(data=[[1.0] * 63, [1.0]])),
    ("strings", body(data=["1"] * 64)),
    ("truths", body(data=[True] * 64)),
    ("nothing", body(data=[None] * 64)),
    ("objects", body(data=[{}] * 64)),
    ("beyond the range", body(data=[1e300] * 64)),
    ("no rows, which this model cannot be run on", body(shape=[0, 64], data=[])),
    ("no data", {"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32"}]}),
    ("binary data", body(parameters={"binary_data_size": 256})),
    ("binary outputs", {**body(), "parameters": {"binary_data_output": True}}),
    ("an unknown output", {**body(), "outputs": [{"name": "secret"}]}),
    ("NaN", json.dumps(body()).replace("0.0", "NaN", 1).encode()),
    ("not UTF-8", b"\xff\xfe"),
    ("nesting", b'{"inputs":' + b"[" * 100_000),
]


@pytest.mark.parametrize(("what", "content"), BAD, ids=[what for what, _ in BAD])
def test_a_bad_request_is_told_in_the_protocols_way(what: str, content: Any, server: Server) -> None:
    status, answer = server.call("POST", INFER, content)
    assert status in (400, 413)
    assert set(answer) == {"error"}
    assert answer["error"]
    assert server.call("POST", INFER, body())[0] == 200


def test_wrong_paths_methods_and_types(server: Server) -> None:
    assert server.call("GET", "/")[0] == 404
    assert server.call("GET", "/v2/models/other")[0] == 404
    assert server.call("POST", "/v2/models/other/infer", body())[0] == 404
    assert server.call("GET", "/v2/models/digits/%69nfer")[0] == 404
    assert server.call("GET", INFER)[0] == 405
    assert server.call("DELETE", "/v2")[0] == 405
    assert server.call("POST", INFER, json.dumps(body()), {"content-type": "text/plain"})[0] == 415
    assert server.call("POST", INFER, json.dumps(body()), {"inference-header-content-length": "10"})[0] == 400
    assert server.call("GET", "/v2/models/digits?x=1")[0] == 200


RAW: list[tuple[str, bytes, bytes]] = [
    ("no HTTP", b"hello\r\n\r\n", b" 400 "),
    ("a head over the bound", b"GET /v2 HTTP/1.1\r\nx: " + b"a" * 40_000 + b"\r\n\r\n", b" 431 "),
    ("a path over the bound", b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", b" 431 "),
    ("two lengths", b"POST /v2 HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", b" 400 "),
    ("length and chunks", b"POST /v2 HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b" 400 "),
    ("a bad chunk", b"POST /v2 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b" 400 "),
    ("an upgrade", b"GET /v2 HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", b" 400 "),
    ("CONNECT", b"CONNECT x:1 HTTP/1.1\r\n\r\n", b" 4"),
]


@pytest.mark.parametrize(("what", "data", "wanted"), RAW, ids=[what for what, _, _ in RAW])
def test_what_is_not_proper_http_is_refused_and_the_server_lives(what: str, data: bytes, wanted: bytes, server: Server) -> None:
    got = server.raw(data)
    assert wanted in got.split(b"\r\n", 1)[0] + b" "
    assert got.count(b"HTTP/1.1 ") == 1
    assert server.call("GET", "/v2/health/ready")[0] == 200


def test_a_body_over_the_bound_is_refused(server: Server) -> None:
    head = b"POST /v2/models/digits/infer HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n"
    assert b" 413 " in server.raw(head + b" " * 9_000_000)


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    requests = b"".join(b"GET /v2/models/%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(100))
    got = server.raw(requests, end=False)
    assert got.count(b"HTTP/1.1 404") == 100
    places = [got.index(b"`%d`" % number) for number in range(100)]
    assert places == sorted(places)


def test_connections_stay_open_and_close_when_asked(server: Server) -> None:
    link = UnixConnection(server.path)
    for _ in range(3):
        link.request("GET", "/v2")
        assert link.getresponse().read()
    link.close()
    assert b"connection: close" in server.raw(b"GET /v2 HTTP/1.1\r\nconnection: close\r\n\r\n", end=False)
    assert server.raw(b"HEAD /v2 HTTP/1.1\r\nconnection: close\r\n\r\n", end=False).endswith(b"\r\n\r\n")


def test_a_delay_is_waited_for_on_inference_alone(start: Callable[..., Server], trained: Path) -> None:
    slow = start("model_server.py", "--model", str(trained / "model.onnx"), "--delay-ms", "150")
    begin = time.monotonic()
    assert slow.call("POST", INFER, body())[0] == 200
    assert time.monotonic() - begin >= 0.15
    begin = time.monotonic()
    links = [UnixConnection(slow.path) for _ in range(8)]
    for link in links:
        link.request("POST", INFER, json.dumps(body()), {"content-type": "application/json"})
    assert all(link.getresponse().status == 200 for link in links)
    assert time.monotonic() - begin < 8 * 0.15


def test_another_uid_is_turned_away_before_a_byte_is_read(start: Callable[..., Server], trained: Path) -> None:
    closed = start("model_server.py", "--model", str(trained / "model.onnx"), "--allow-uid", str(os.getuid() + 1))
    got = closed.raw(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n", end=False)
    assert got.startswith(b"HTTP/1.1 403 ")
    assert b"digits" not in got


def refused_start(*arguments: str) -> str:
    done = subprocess.run([sys.executable, DIGITS / "model_server.py", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    return done.stderr


def test_it_does_not_start_where_it_should_not(trained: Path, tmp_path: Path) -> None:
    model = str(trained / "model.onnx")
    assert "loopback" in refused_start("--model", model, "--tcp", "0.0.0.0:0")
    assert "unix socket" in refused_start("--model", model, "--tcp", "127.0.0.1:0", "--allow-uid", "1")
    assert "regular file" in refused_start("--model", "/dev/zero", "--tcp", "127.0.0.1:0")
    (tmp_path / "link").symlink_to(model)
    assert refused_start("--model", str(tmp_path / "link"), "--tcp", "127.0.0.1:0")
    assert refused_start("--model", model)


def test_it_ends_on_a_signal(start: Callable[..., Server], trained: Path) -> None:
    ending = start("model_server.py", "--model", str(trained / "model.onnx"))
    idle = UnixConnection(ending.path)
    idle.request("GET", "/v2")
    idle.getresponse().read()
    ending.process.terminate()
    assert ending.process.wait(timeout=5) == 0
