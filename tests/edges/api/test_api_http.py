"""The API through real sockets: who may ask, what may be asked, and how a no is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from surface_memory import NOBODY_UID, MemorySurface
from surface_served import Served

from vouchgate.edges.api import server
from vouchgate.edges.api.app import ACTS, READS, build_app
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


def ask(api: Served, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Over the unix socket."""
    return _send(UnixConnection(api.socket), method, path, body, headers)


def browse(api: Served, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Over TCP."""
    return _send(http.client.HTTPConnection("127.0.0.1", api.port, timeout=10), method, path, body, headers)


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]
) -> tuple[int, Any, dict[str, str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, bytes):
        data: bytes | None = body
    else:
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
    connection.request(method, path, data, sent)
    answer = connection.getresponse()
    raw = answer.read()
    got = {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return answer.status, json.loads(raw) if "json" in got.get("content-type", "") else raw, got


def log_in(api: Served) -> tuple[str, str, str]:
    """(cookie, csrf, origin)"""
    origin = f"http://127.0.0.1:{api.port}"
    _, code, _ = ask(api, "POST", "/api/v1/login-code", {})
    status, session, headers = browse(api, "POST", "/api/v1/session", {"code": code["code"]}, origin=origin)
    assert status == 200
    return headers["set-cookie"].split(";")[0], session["csrf"], origin


# --- reading and acting over the unix socket


ASKED = ("/api/v1/why", "/api/v1/audit/proof", "/api/v1/vouches", "/api/v1/zones/proof", "/api/v1/zones/blast")
"""Resources that answer a question, and none without it."""


@pytest.mark.parametrize("path", [path for path, *_ in READS if path not in ASKED])
def test_every_resource_answers(api: Served, path: str) -> None:
    status, body, headers = ask(api, "GET", path)
    assert status == 200
    assert body
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"


def test_an_act_reaches_the_surface_with_the_kernels_word(api: Served) -> None:
    status, body, _ = ask(api, "POST", "/api/v1/revoke", {"target": "sha256:" + "4e" * 32, "reason": "leaked"})
    assert status == 200
    assert [point["outcome"] for point in body["points"]] == ["enforced", "expires-by-lease"]
    assert body["revocation"]["requested_by"].endswith("/admin")
    assert api.surface.asked[-1][0] == "revoke"


@pytest.mark.parametrize("path", [path for path, *_ in ACTS])
def test_an_unknown_field_is_refused(api: Served, path: str) -> None:
    status, body, headers = ask(api, "POST", path, {"surprise": 1})
    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    assert body["type"] == "https://vouchgate.dev/problem/invalid-input"
    assert body["remedy"]
    assert api.surface.asked == []


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {"content_type": "application/json"}, 400),
        (b"{", {"content_type": "application/json"}, 400),
        (b"[]", {"content_type": "application/json"}, 400),
        (b'{"target":"x","reason":"y","target":1}', {"content_type": "application/json"}, 400),
        (b"\xff\xfe", {"content_type": "application/json"}, 400),
        (b"[" * 200_000, {"content_type": "application/json"}, 400),
        (b'{"target":"x","reason":"y"}', {"content_type": "text/plain"}, 400),
        (b'{"target":"x","reason":"y"}', {}, 400),
        (b'{"target":"x","reason":"y"}', {"content_type": "application/x-www-form-urlencoded"}, 400),
        (b'{"target":"x","reason":"' + b"y" * 1_100_000 + b'"}', {"content_type": "application/json"}, 429),
        (b'{"target":"x","reason":"y","kind":"everything"}', {"content_type": "application/json"}, 400),
    ],
)
def test_a_bad_body_is_refused_before_the_surface(api: Served, body: bytes, headers: dict[str, str], status: int) -> None:
    got, problem, _ = ask(api, "POST", "/api/v1/revoke", body, **headers)
    assert got == status
    assert problem["status"] == status
    assert api.surface.asked == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "limit=1&limit=2", "before=-1", "effect=maybe", "surprise=1", "limit=1.5", "limit=" + "9" * 40],
)
def test_a_bad_query_is_refused(api: Served, query: str) -> None:
    assert ask(api, "GET", f"/api/v1/decisions?{query}")[0] == 400


@pytest.mark.parametrize("query", ["", "decision=1&principal=alice", "principal=alice", "resource=digits", "decision="])
def test_why_wants_one_question(api: Served, query: str) -> None:
    assert ask(api, "GET", f"/api/v1/why?{query}")[0] == 400


def test_why_answers_both_ways(api: Served) -> None:
    api.add(effect="deny", would_be="deny", decision_id="abc", principal="spiffe://test.local/person/office/bob")
    assert ask(api, "GET", "/api/v1/why?decision=abc")[1]["log_index"] == 1
    assert ask(api, "GET", "/api/v1/why?principal=bob&resource=digits")[1]["decision"]["action"] == "infer"
    assert ask(api, "GET", "/api/v1/why?decision=none")[0] == 404


def test_decisions_come_page_by_page(api: Served) -> None:
    for _ in range(5):
        api.add()
    _, page, _ = ask(api, "GET", "/api/v1/decisions?limit=3")
    assert [line["seq"] for line in page["decisions"]] == [5, 4, 3]
    _, page, _ = ask(api, "GET", f"/api/v1/decisions?limit=3&before={page['before']}")
    assert [line["seq"] for line in page["decisions"]] == [2, 1]
    assert page["before"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/v1/nothing", 404), ("POST", "/api/v1/status", 405), ("GET", "/api/v1/revoke", 405), ("TRACE", "/", 405)],
)
def test_what_is_not_listed_does_not_exist(api: Served, method: str, path: str, status: int) -> None:
    got, body, headers = ask(api, method, path)
    assert got == status
    assert headers["content-type"] == "application/problem+json"
    assert body["status"] in (404, 405)


def test_an_unexpected_error_keeps_its_text_inside(api: Served, caplog: pytest.LogCaptureFixture) -> None:
    api.surface.fail_with = ValueError("the secret is swordfish")
    status, body, _ = ask(api, "GET", "/api/v1/status")
    assert status == 500
    assert "swordfish" not in json.dumps(body)
    assert "swordfish" not in caplog.text
    assert "ValueError at surface_memory.py:" in caplog.text


def test_a_typed_error_is_told_whole(api: Served) -> None:
    api.surface.fail_with = InvalidInput("`x` is not a zone", remedy="name one")
    _, body, _ = ask(api, "GET", "/api/v1/status")
    assert body["detail"] == "`x` is not a zone"
    assert body["remedy"] == "name one"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to ask as another uid")
def test_another_uid_is_another_caller(api: Served) -> None:
    api.folder.chmod(0o711)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(NOBODY_UID)
        os.setuid(NOBODY_UID)
        os.write(write, str(ask(api, "POST", "/api/v1/revoke", {"target": "x", "reason": "y"})[0]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"403"


# --- health


def test_health_and_readiness(api: Served) -> None:
    assert browse(api, "GET", "/healthz")[0] == 200
    assert ask(api, "GET", "/readyz")[0] == 200
    api.surface.not_ready = "signer"
    status, body, _ = ask(api, "GET", "/readyz")
    assert status == 503
    assert [part["name"] for part in body["parts"] if not part["ok"]] == ["signer"]


def test_metrics_escape_their_labels(api: Served) -> None:
    text = ask(api, "GET", "/metrics")[1].decode()
    assert '{effect="allow",endpoint="a\\"b\\\\c\\nd"} 3\n' in text
    assert "vouchgate_decisions_total 1.5\n" in text


# --- the console's side: TCP


@pytest.mark.parametrize("path", [path for path, *_ in READS] + ["/metrics", "/readyz", "/api/v1/decisions/live", "/api/v1/nothing"])
def test_without_a_session_nothing_is_told(api: Served, path: str) -> None:
    status, body, _ = browse(api, "GET", path)
    assert status == 401
    assert body["type"].endswith("not-logged-in")
    assert api.surface.asked == []


def test_without_a_session_the_page_is_the_login(api: Served) -> None:
    status, _, headers = browse(api, "GET", "/")
    assert (status, headers["location"]) == (303, "/login")
    assert browse(api, "GET", "/login")[0] == 200


def test_a_session_reads_and_acts(api: Served) -> None:
    cookie, csrf, origin = log_in(api)
    assert browse(api, "GET", "/api/v1/status", cookie=cookie)[0] == 200
    status, _, _ = browse(api, "POST", "/api/v1/adopt", {"zone": "lab", "to": "plan"}, cookie=cookie, origin=origin, x_csrf_token=csrf)
    assert status == 200


def test_the_cookie_is_out_of_reach(api: Served) -> None:
    _, code, _ = ask(api, "POST", "/api/v1/login-code", {})
    _, _, headers = browse(
        api, "POST", "/api/v1/session", {"code": code["code"]}, origin=f"http://localhost:{api.port}", host=f"localhost:{api.port}"
    )
    attributes = headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=strict" in attributes


def test_a_code_works_once_and_not_late(api: Served) -> None:
    origin = f"http://127.0.0.1:{api.port}"
    _, code, _ = ask(api, "POST", "/api/v1/login-code", {})
    assert browse(api, "POST", "/api/v1/session", {"code": code["code"]}, origin=origin)[0] == 200
    assert browse(api, "POST", "/api/v1/session", {"code": code["code"]}, origin=origin)[0] == 403
    _, late, _ = ask(api, "POST", "/api/v1/login-code", {})
    api.surface.now += 121_000
    assert browse(api, "POST", "/api/v1/session", {"code": late["code"]}, origin=origin)[0] == 403


def test_two_browsers_race_for_one_code(api: Served) -> None:
    origin = f"http://127.0.0.1:{api.port}"
    _, code, _ = ask(api, "POST", "/api/v1/login-code", {})
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda: got.append(browse(api, "POST", "/api/v1/session", {"code": code["code"]}, origin=origin)[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got)[:1] == [200]
    assert got.count(200) == 1


def test_codes_cannot_be_tried_out() -> None:
    with Served(hurry=1.0) as api:
        origin = f"http://127.0.0.1:{api.port}"
        tried = [browse(api, "POST", "/api/v1/session", {"code": f"guess-{number}"}, origin=origin)[0] for number in range(14)]
        assert tried[0] == 403
        assert tried[-1] == 429


def test_a_session_ends(api: Served) -> None:
    cookie, csrf, origin = log_in(api)
    api.surface.now += 481 * 60_000
    assert browse(api, "GET", "/api/v1/status", cookie=cookie)[0] == 401
    cookie, csrf, origin = log_in(api)
    assert browse(api, "DELETE", "/api/v1/session", cookie=cookie, origin=origin, x_csrf_token=csrf)[0] == 200
    assert browse(api, "GET", "/api/v1/status", cookie=cookie)[0] == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "[::2]:{port}", ""]
)
def test_a_rebound_name_is_refused(api: Served, host: str) -> None:
    assert browse(api, "GET", "/healthz", host=host.format(port=api.port))[0] == 400


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "https://127.0.0.1:{port}"},
        {"origin": "http://127.0.0.1:1"},
        {"x_csrf_token": "wrong"},
        {"x_csrf_token": ""},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
def test_another_page_changes_nothing(api: Served, change: dict[str, str]) -> None:
    cookie, csrf, origin = log_in(api)
    api.surface.asked.clear()
    headers = {
        "cookie": cookie,
        "x_csrf_token": csrf,
        "origin": origin,
        **{name: value.format(port=api.port) for name, value in change.items()},
    }
    assert browse(api, "POST", "/api/v1/revoke", {"target": "x", "reason": "y"}, **headers)[0] == 403
    assert api.surface.asked == []


def test_another_sessions_token_is_wrong(api: Served) -> None:
    cookie, _, origin = log_in(api)
    _, other, _ = log_in(api)
    assert browse(api, "POST", "/api/v1/revoke", {"target": "x", "reason": "y"}, cookie=cookie, x_csrf_token=other, origin=origin)[0] == 403


@pytest.mark.parametrize(
    "cookie",
    ["vg_session=", "vg_session=x", "vg_session", "{cookie}; {cookie}", "vg_session=a; {cookie}", "x=" + "y" * 5000 + "; {cookie}"],
)
def test_a_doubtful_cookie_is_none(api: Served, cookie: str) -> None:
    good, _, _ = log_in(api)
    assert browse(api, "GET", "/api/v1/status", cookie=cookie.format(cookie=good))[0] == 401


def test_the_browser_takes_no_backup_and_no_bootstrap(api: Served) -> None:
    cookie, csrf, origin = log_in(api)
    headers = {"cookie": cookie, "x_csrf_token": csrf, "origin": origin}
    assert browse(api, "POST", "/api/v1/backup", {}, **headers)[0] == 403
    assert browse(api, "POST", "/api/v1/bootstrap", {"token": "bootstrap-token"}, **headers)[0] == 403
    assert api.surface.bootstrap


@pytest.mark.parametrize(
    "path", ["/login", "/healthz", "/api/v1/status", "/assets/nothing.js", "/assets/%2e%2e%2fassets.py", "/assets/login.html"]
)
def test_every_answer_is_hardened(api: Served, path: str) -> None:
    _, _, headers = browse(api, "GET", path)
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


# --- files


def test_a_file_goes_in_whole_and_nothing_stays(api: Served) -> None:
    data = os.urandom(3_000_000)
    status, body, _ = ask(api, "PUT", "/api/v1/artifacts?name=digits.onnx&zone=serve", data)
    assert (status, body["admitted"], body["size"]) == (200, True, len(data))
    assert api.surface.asked[-1][1][1] == data
    assert list(api.spool.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 700_000])
def test_bundles_come_before_the_file_and_are_no_part_of_it(api: Served, size: int) -> None:
    signature, provenance, data = os.urandom(size), os.urandom(300_001), os.urandom(1_000_003)
    query = f"name=m&zone=serve&signature_bytes={len(signature)}&provenance_bytes={len(provenance)}"
    assert ask(api, "PUT", f"/api/v1/artifacts?{query}", signature + provenance + data)[0] == 200
    request, content = api.surface.asked[-1][1]
    assert (request.signature, request.provenance, content) == (signature, provenance, data)
    assert list(api.spool.iterdir()) == []


@pytest.mark.parametrize(
    "query", ["signature_bytes=720001", "signature_bytes=-1", "provenance_bytes=9", "signature_bytes=4&provenance_bytes=5"]
)
def test_a_body_that_is_shorter_than_its_bundles_is_refused(api: Served, query: str) -> None:
    before = len(api.surface.asked)
    assert ask(api, "PUT", f"/api/v1/artifacts?name=m&zone=serve&{query}", b"x" * 8)[0] == 400
    assert not [one for one in api.surface.asked[before:] if one[0] == "import"]
    assert list(api.spool.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "status"), [("zone=serve", 400), ("name=x", 400), ("name=&zone=serve", 400), ("name=x&zone=serve&path=/etc/shadow", 400)]
)
def test_a_file_needs_name_and_zone(api: Served, query: str, status: int) -> None:
    assert ask(api, "PUT", f"/api/v1/artifacts?{query}", b"x")[0] == status


def test_a_name_is_only_a_name(api: Served) -> None:
    assert ask(api, "PUT", "/api/v1/artifacts?name=..%2F..%2Fetc%2Fpasswd&zone=serve", b"x")[0] == 200
    assert api.surface.asked[-1][1][0].name == "passwd"


def test_a_file_that_breaks_off_leaves_nothing(api: Served) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(api.socket))
        sock.sendall(b"PUT /api/v1/artifacts?name=x&zone=serve HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nhalf")
        time.sleep(0.1)
    deadline = time.monotonic() + 5
    while list(api.spool.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(api.spool.iterdir()) == []
    assert [verb for verb, _ in api.surface.asked if verb == "import"] == []


def test_a_file_over_the_bound_is_refused_unread() -> None:
    with Served(max_import_bytes=1000) as api:
        assert ask(api, "PUT", "/api/v1/artifacts?name=x&zone=serve", b"x" * 1001)[0] == 429
        assert list(api.spool.iterdir()) == []


def test_a_file_that_would_eat_the_reserve_is_refused_unread() -> None:
    with Served(disk_reserve_bytes=1 << 60) as api:
        assert ask(api, "PUT", "/api/v1/artifacts?name=x&zone=serve", b"x")[0] == 429
        assert list(api.spool.iterdir()) == []


def test_nothing_is_taken_in_from_who_may_not(api: Served) -> None:
    api.surface.fail_with = NotPermitted("no", remedy="ask")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(api.socket))
        sock.sendall(b"PUT /api/v1/artifacts?name=x&zone=serve HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nhalf")
        assert sock.recv(4096).startswith(b"HTTP/1.1 403")
        assert list(api.spool.iterdir()) == []
    assert ask(api, "GET", "/api/v1/decisions/live")[0] == 403


def test_uploads_are_bounded(api: Served) -> None:
    open_now = []
    for _ in range(5):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(5)
        sock.connect(str(api.socket))
        sock.sendall(b"PUT /api/v1/artifacts?name=x&zone=serve HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nhalf")
        open_now.append(sock)
    ready = select.select(open_now, [], [], 5)[0]
    assert len(ready) == 1
    assert ready[0].recv(4096).startswith(b"HTTP/1.1 429")
    for sock in open_now:
        sock.close()
    deadline, status = time.monotonic() + 5, 0
    while status != 200 and time.monotonic() < deadline:
        status = ask(api, "PUT", "/api/v1/artifacts?name=x&zone=serve", b"x")[0]
    assert status == 200


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "import-1").write_bytes(b"x")
    (tmp_path / "keep").write_bytes(b"x")
    build_app(MemorySurface(), spool=tmp_path, now=lambda: 0, monotonic=lambda: 0.0, console_hosts=frozenset)
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_a_backup_comes_out_and_nothing_stays(api: Served) -> None:
    status, body, headers = ask(api, "POST", "/api/v1/backup", {})
    assert (status, len(body)) == (200, 7000)
    assert json.loads(headers["vouchgate-outcome"])["log_size"] == 18_211
    assert headers["vouchgate-now"] == str(api.surface.now)
    deadline = time.monotonic() + 5
    while list(api.spool.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(api.spool.iterdir()) == []


# --- bounds of the connection


def test_a_caller_has_a_rate() -> None:
    with Served(requests_per_second=5.0, hurry=1.0) as api:
        got = [ask(api, "GET", "/api/v1/zones")[0] for _ in range(14)]
        assert got[:10] == [200] * 10
        assert 429 in got[10:]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % number for number in range(5000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /api/v1/revoke HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_cut_off(api: Served, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=5) as sock:
        sock.sendall(raw)
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 4") or answer == b""
    assert browse(api, "GET", "/healthz")[0] == 200
    assert api.surface.asked == []


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n"])
@pytest.mark.parametrize("drip", [b"", b"x"])
def test_a_head_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch, first: bytes, drip: bytes) -> None:
    """A first request, or one on a connection that was used before."""
    monkeypatch.setattr(server._Protocol, "head_seconds", 0.5)
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.5)
    with Served() as api, socket.create_connection(("127.0.0.1", api.port), timeout=5) as sock:
        if first:
            sock.sendall(first % api.port)
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += sock.recv(4096)
        began = time.monotonic()
        sock.sendall(b"GET / HTTP/1.1\r\nh: ")
        ended = False
        while not ended and time.monotonic() - began < 5:
            with contextlib.suppress(OSError):
                sock.sendall(drip)
            sock.settimeout(0.1)
            try:
                ended = sock.recv(4096) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
        assert ended
        assert time.monotonic() - began < 2


def test_a_request_that_takes_long_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._Protocol, "head_seconds", 0.2)
    with Served() as api, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(api.socket))
        sock.sendall(b"PUT /api/v1/artifacts?name=x.onnx&zone=serve HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
        time.sleep(0.6)
        sock.sendall(b"b")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")


def test_the_scope_cannot_be_forged_by_headers(api: Served) -> None:
    headers = {"vouchgate_peer": "0", "x_forwarded_for": "127.0.0.1", "forwarded": "for=unix", "x_real_ip": "unix:"}
    assert browse(api, "GET", "/api/v1/status", **headers)[0] == 401


# --- live decisions


def read_events(connection: http.client.HTTPConnection, count: int) -> list[dict[str, Any]]:
    answer = connection.getresponse()
    assert answer.getheader("content-type", "").startswith("text/event-stream")
    found: list[dict[str, Any]] = []
    while len(found) < count:
        line = answer.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            found.append(json.loads(line[6:]))
    return found


def test_decisions_arrive_live(api: Served) -> None:
    connection = UnixConnection(api.socket)
    connection.request("GET", "/api/v1/decisions/live")
    deadline = time.monotonic() + 5
    while not api.surface.listeners and time.monotonic() < deadline:
        time.sleep(0.01)
    api.add(path="/a\n\ndata: forged\n\n")
    api.add(effect="deny", would_be="deny")
    first, second = read_events(connection, 2)
    assert first["path"] == "/a\n\ndata: forged\n\n"
    assert second["effect"] == "deny"
    connection.close()
    deadline = time.monotonic() + 5
    while api.surface.listeners and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not api.surface.listeners, "a reader that left is still served"


def test_streams_are_bounded_and_given_back() -> None:
    with Served() as api:
        connections = []
        for _ in range(8):
            connection = UnixConnection(api.socket)
            connection.request("GET", "/api/v1/decisions/live")
            assert connection.getresponse().status == 200
            connections.append(connection)
        assert ask(api, "GET", "/api/v1/decisions/live")[0] == 429
        for connection in connections:
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
        deadline, status = time.monotonic() + 5, 429
        while status == 429 and time.monotonic() < deadline:
            time.sleep(0.05)
            last = UnixConnection(api.socket)
            last.request("GET", "/api/v1/decisions/live")
            status = last.getresponse().status
            last.sock.shutdown(socket.SHUT_RDWR)
            last.close()
        assert status == 200


def test_closing_ends_live_streams() -> None:
    with Served(MemorySurface()) as api:
        connection = UnixConnection(api.socket)
        connection.request("GET", "/api/v1/decisions/live")
        connection.getresponse()
        began = time.monotonic()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/zones/proof",
        "/api/v1/zones/proof?source=a",
        "/api/v1/zones/proof?source=a&target=",
        "/api/v1/zones/blast",
        "/api/v1/zones/map?x=1",
    ],
)
def test_a_question_about_zones_that_says_too_little_is_refused(api: Served, path: str) -> None:
    assert ask(api, "GET", path)[0] == 400


def test_questions_about_zones_are_answered(api: Served) -> None:
    assert ask(api, "GET", "/api/v1/zones/proof?source=agents&target=serve")[0] == 200
    assert ask(api, "GET", "/api/v1/zones/blast?of=alice")[0] == 200


def test_a_gate_asks_and_a_refusal_is_an_answer_with_what_is_missing(api: Served) -> None:
    asked = {"digest": "sha256:" + "ab" * 32, "act": "promote", "subject": "models:/digits/3 alias champion"}
    status, said, _ = ask(api, "POST", "/api/v1/gates", asked)
    assert (status, said["allowed"], said["missing"][0]["predicate"]) == (200, False, "approval")
    assert ask(api, "POST", "/api/v1/gates", asked | {"act": "approve"})[0] == 400
    assert ask(api, "POST", "/api/v1/gates", asked | {"principal": "somebody"})[0] == 400


def test_a_load_is_asked_and_a_refusal_is_an_answer_with_what_is_missing(api: Served) -> None:
    digest = "sha256:" + "ab" * 32
    status, said, _ = ask(api, "POST", "/api/v1/loads", {"digest": digest, "library": "torch"})
    assert (status, said["allowed"], said["missing"][0]["predicate"]) == (200, False, "scan")
    assert ask(api, "POST", "/api/v1/loads", {"digest": digest, "path": "/etc/passwd"})[0] == 400
    status, said, _ = ask(api, "POST", "/api/v1/serving", {"digest": digest, "endpoint": "digits"})
    assert (status, said["tier"]) == (200, "cooperative")
