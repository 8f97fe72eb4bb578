"""slurmrestd over a unix socket and over HTTP: a real server that plays recorded answers, and one that lies, drips, floods or is gone."""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vouchgate.identity.attestors import Attested
from vouchgate.identity.catalog import attest
from vouchgate.ports import slurm as port
from vouchgate.ports.slurm import Slurm
from vouchgate.vocabulary.errors import InvalidSettings, Unavailable
from vouchgate.vocabulary.outcomes import Denied

RECORDED = Path(__file__).parent / "recorded_slurmrestd.json"
STEP = ["0::/system.slice/slurmstepd.scope/job_1618871/step_0/user/task_2"]


def answers() -> dict[str, dict[str, Any]]:
    said: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text("utf-8"))
    return said


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """`http.server` on a unix socket."""

    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        return super().get_request()[0], ("local", 0)


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True


Play = Callable[[http.server.BaseHTTPRequestHandler], None]


def handler(play: Play, seen: list[Any]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append((self.path, dict(self.headers)))
            play(self)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def reply(status: int, body: bytes, *, chunked: bool = False) -> Play:
    def play(to: http.server.BaseHTTPRequestHandler) -> None:
        to.send_response(status)
        to.send_header("Content-Type", "application/json")
        to.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))))
        to.end_headers()
        if chunked:
            for at in range(0, len(body), 1000):
                part = body[at : at + 1000]
                to.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            to.wfile.write(b"0\r\n\r\n")
        else:
            to.wfile.write(body)

    return play


@pytest.fixture
def serve(tmp_path) -> Iterator[Callable[..., tuple[str, list[Any]]]]:
    """Serves one answer; the address, and the requests that came."""
    servers: list[socketserver.BaseServer] = []

    def go(play: Play, *, tcp: bool = False) -> tuple[str, list[Any]]:
        seen: list[Any] = []
        path = tmp_path / f"s{len(servers)}"
        server = TcpServer(("127.0.0.1", 0), handler(play, seen)) if tcp else Server(str(path), handler(play, seen))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return (f"http://127.0.0.1:{server.server_address[1]}" if tcp else f"unix:{path}"), seen

    yield go
    for server in servers:
        server.shutdown()
        server.server_close()


def recorded(name: str, **changes: Any) -> Play:
    said = answers()[name]
    body = said["body"]
    if changes:
        body = {**body, "jobs": [{**body["jobs"][0], **changes}, *body["jobs"][1:]]}
    return reply(said["status"], json.dumps(body).encode(), chunked=name == "array")


def process(**more: Any) -> dict[str, Any]:
    return {"uid": 1000, "cgroups": STEP, "started_at": 1_900_000_000_000} | more


@pytest.mark.parametrize("tcp", [False, True])
def test_a_running_job_is_told_as_the_controller_has_it(serve, tcp):
    target, seen = serve(recorded("running"), tcp=tcp)
    facts = Slurm(target, "gpu02", user="vouchgate" if tcp else "", token="secret.token" if tcp else "").facts(STEP)
    assert facts == {
        "node": "gpu02", "job_id": 1618871, "job_state": ["RUNNING"], "job_uid": 1000, "job_user": "alice", "job_account": "proj@gpu",
        "job_partition": "gpu", "job_qos": "normal", "job_cluster": "hpc", "job_nodes": "gpu[01-03]", "job_restarts": 1,
        "job_started_at": 1_701_983_394_000,
    }  # fmt: skip
    path, headers = seen[0]
    assert path == "/slurm/v0.0.40/job/1618871"
    assert (headers.get("X-SLURM-USER-TOKEN"), headers.get("X-SLURM-USER-NAME")) == (("secret.token", "vouchgate") if tcp else (None, None))
    answer = attest("slurm", process() | facts)
    assert isinstance(answer, Attested) and {one.type: one.value for one in answer.selectors}["slurm:restart"] == "1"


def test_of_an_array_or_a_heterogeneous_job_the_processs_own_part_is_taken(serve):
    target, _ = serve(recorded("array"))
    facts = Slurm(target, "gpu07").facts(["0::/system.slice/slurmstepd.scope/job_52/step_batch/user/task_0"])
    assert (facts["job_id"], facts["job_array"], facts["job_array_task"], facts["job_nodes"]) == (52, 50, 2, "gpu07")
    target, _ = serve(recorded("heterogeneous"))
    facts = Slurm(target, "cpu01").facts(["0::/system.slice/slurmstepd.scope/job_61/step_0/user/task_0"])
    assert (facts["job_het"], facts["job_het_offset"], facts["job_nodes"]) == (60, 1, "cpu01") and "job_array" not in facts


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("unknown", {}, "slurm-unknown-job"), ("running", {"job_id": 7}, "slurm-unknown-job"), ("running", {"job_state": ["COMPLETED"]}, "slurm-not-running"),
        ("running", {"job_state": ["RUNNING", "COMPLETING"]}, "slurm-not-running"), ("running", {"job_state": ["PENDING", "REQUEUED"]}, "slurm-not-running"),
        ("running", {"user_id": 0}, "slurm-other-user"), ("running", {"nodes": "gpu[03-09]"}, "slurm-other-node"), ("running", {"nodes": ""}, "slurm-unknown-job"),
        ("running", {"start_time": {"set": True, "infinite": False, "number": 1_900_000_100}}, "slurm-earlier-run"), ("running", {"start_time": {"set": False}}, "slurm-unknown-job"),
        ("running", {"account": None}, "slurm-unknown-job"), ("running", {"restart_cnt": {"set": False, "infinite": True, "number": 0}}, "slurm-unknown-job"),
    ],
)  # fmt: skip
def test_a_job_that_does_not_fit_is_refused(serve, name, changes, code):
    target, _ = serve(recorded(name, **changes))
    facts = Slurm(target, "gpu02").facts(STEP)
    answer = attest("slurm", process() | facts | ({"node": "gpu02"} if not facts else {}))
    assert isinstance(answer, Denied) and answer.code == code


def test_two_records_of_one_job_are_no_answer(serve):
    body = answers()["running"]["body"]
    target, _ = serve(reply(200, json.dumps(body | {"jobs": body["jobs"] * 2}).encode()))
    assert set(Slurm(target, "gpu02").facts(STEP)) == {"node"}


def test_a_process_in_no_step_asks_nobody(tmp_path):
    slurm = Slurm(f"unix:{tmp_path}/nobody", "gpu02")
    assert slurm.facts(["0::/user.slice"]) == slurm.facts(["0::/../x"]) == {}
    with pytest.raises(Unavailable):
        slurm.facts(STEP)


@pytest.mark.parametrize(
    "play",
    [
        reply(200, b"not json"), reply(200, b"[]"), reply(200, b'{"jobs":[{"job_id":"1618871"}]}'), reply(500, b'{"errors":[{"error_number":1}]}'), reply(401, b"{}"),
        reply(200, b'{"errors":[{"error_number":9}],"jobs":[]}'), reply(200, b"\xff\xfe"), reply(200, b"[" * 100_000), lambda to: None,
        lambda to: to.wfile.write(b"nonsense\r\n\r\n"), lambda to: to.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        lambda to: to.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n"), lambda to: to.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"),
    ],
)  # fmt: skip
def test_nonsense_is_no_answer(serve, play):
    def ends(to: http.server.BaseHTTPRequestHandler) -> None:
        play(to)
        to.close_connection = True

    target, _ = serve(ends)
    with pytest.raises(Unavailable):
        Slurm(target, "gpu02").facts(STEP)


def test_one_that_drips_or_floods_or_hangs_is_left(serve, monkeypatch):
    monkeypatch.setattr(port, "TIMEOUT_SECONDS", 0.3)
    stop = threading.Event()

    def drip(to: http.server.BaseHTTPRequestHandler) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b" " * 50:
            if stop.wait(0.02):
                return
            to.wfile.write(bytes([byte]))

    def hang(_: http.server.BaseHTTPRequestHandler) -> None:
        stop.wait(5)

    def flood(to: http.server.BaseHTTPRequestHandler) -> None:
        while not stop.is_set():
            to.wfile.write(b"x" * 65_536)

    for play in (drip, hang, flood):

        def quiet(to: http.server.BaseHTTPRequestHandler, play: Play = play) -> None:
            try:
                play(to)
            except OSError:
                to.close_connection = True

        target, _ = serve(quiet)
        if play is flood:
            monkeypatch.setattr(port, "TIMEOUT_SECONDS", 5.0)
            monkeypatch.setattr(port, "MAX_ANSWER_BYTES", 1_000_000)
        with pytest.raises(Unavailable):
            Slurm(target, "gpu02").facts(STEP)
    stop.set()


def test_a_job_is_asked_for_once_a_second_and_a_controller_that_failed_is_left_alone(serve):
    now = [0.0]
    plays = iter([recorded("running"), recorded("running", job_state=["COMPLETED"]), reply(500, b"{}"), recorded("running")])

    def play(to: http.server.BaseHTTPRequestHandler) -> None:
        next(plays)(to)

    target, seen = serve(play)
    slurm = Slurm(target, "gpu02", steady=lambda: now[0])
    for at, asked, state in ((0.0, 1, "RUNNING"), (0.9, 1, "RUNNING"), (1.0, 2, "COMPLETED")):
        now[0] = at
        assert slurm.facts(STEP)["job_state"] == [state] and len(seen) == asked
    for at in (2.0, 6.9):
        now[0] = at
        with pytest.raises(Unavailable):
            slurm.facts(STEP)
        assert len(seen) == 3
    now[0] = 7.0
    assert slurm.facts(STEP)["job_state"] == ["RUNNING"] and len(seen) == 4


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("", {}), ("unix:relative", {}), ("ftp://h:1", {}), ("http://h", {}), ("http://h:1/path", {}), ("unix:/" + "x" * 200, {}), ("http://a b:1", {}),
        ("http://10.0.0.1:6820", {"token": "t"}), ("http://127.0.0.1.evil.example:6820", {"token": "t"}), ("http://localhost:6820", {"token": "t"}),
        ("unix:/s", {"token": "a\r\nX: y"}), ("unix:/s", {"user": "a b"}), ("unix:/s", {"version": "v0.0.39"}), ("unix:/s", {"version": "../x"}), ("unix:/s", {"node": ""}),
        ("http://u:p@127.0.0.1:1", {}),
    ],
)  # fmt: skip
def test_an_address_or_a_token_that_cannot_be_used_is_refused(target, more):
    with pytest.raises(InvalidSettings):
        Slurm(target, **({"node": "n"} | more))
