"""The log: what a line says, that none is lost, and that a gap is seen."""

from __future__ import annotations

import contextlib
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_harness import CHAT, DIGITS, YES, Harness, spiffe
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.edges.envoy.access_log import Counters, fetch_counters, lost_lines, parse_line, read_counters
from vouchgate.edges.envoy.log_fields import FIELDS, MARK, SEPARATOR, line_of, read_fields
from vouchgate.vocabulary.errors import InvalidInput, Unavailable, VouchgateError
from vouchgate.vocabulary.events import Event

INFER = "/v2/models/digits/infer"
MAX_WAIT = 10.0
"""Seconds for lines that Envoy still has to write."""


def row(**more: object) -> bytes:
    return line_of({"kind": "DownstreamEnd", "start": "1.5", "action": "infer"} | more)


def event(line: bytes) -> Event:
    return parse_line(line, source="gateway-1", inode=7, offset=9, observed_at=3)


def test_the_dedupe_key_is_inode_and_offset():
    made = event(row())
    assert (made.source, made.source_epoch, made.source_seq, made.occurred_at) == ("gateway-1", 7, 9, 1500)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"details": "via_upstream", "upstream": "/u"}, "allowed"),
        ({"kind": "UpstreamPoolReady"}, "allowed"),
        ({"details": "rbac_access_denied_matched_policy[anonymous]"}, "denied"),
        ({"details": "jwt_authn_access_denied{Jwt_is_expired}"}, "denied"),
        ({"details": "ext_authz_denied"}, "denied"),
        ({"details": "lua_response"}, "denied"),
        ({"details": "direct_response"}, "denied"),
        ({"details": "ext_authz_error"}, "failed"),
        ({"details": "http1.codec_error"}, "failed"),
        ({"details": None}, "failed"),
        ({"details": "upstream_reset_before_response_started{connection_failure}", "upstream": "/u"}, "allowed"),
    ],
)
def test_how_it_ended(fields: dict, outcome: str):
    assert event(row(**fields)).outcome == outcome


@pytest.mark.parametrize(
    ("fields", "who", "credential", "known"),
    [
        ({"san": "a", "serial": "f", "fingerprint": "e"}, "a", "f", True),
        ({"sub": "b", "jti": "j"}, "b", "j", True),
        ({"san": "a", "serial": "f", "fingerprint": "e", "sub": "b", "jti": "j"}, "a", "f", True),
        ({}, "", "", False),
        ({"san": "-", "sub": "-"}, "", "", False),
        ({"san": "a,b", "details": "rbac_access_denied_matched_policy[bad-name]"}, "a,b", "", False),
    ],
)
def test_who_it_was(fields: dict, who: str, credential: str, known: bool):
    made = event(row(**fields))
    assert (made.principal, made.credential_id, made.authenticated) == (who, credential, known)


def test_an_upstream_cannot_forge_a_decision():
    made = event(row(details="via_upstream", upstream="/u", denied_decision="forged", map="grant:g1"))
    assert (made.decision_id, made.enforced_by, made.grant_id) == ("", "gateway", "g1")


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{}", b"\n", b"\x1f" * len(FIELDS), b"\x1f" * 50_000, row()[:-1], row()[:-5], row()[1:], row() + b"x", b"\xff" + row()),
        *(row() + row(), row()[:40] + row(), row(path="/a\x1fb"), row() + b"\x1f" + MARK.encode(), row(path="a" * 70_000)),
        *(row(start="soon"), row(start="inf"), row(start="nan"), row(bytes_in="many"), row(bytes_out="1e3"), row(duration_us="x")),
    ],
)
def test_a_line_that_is_not_ours_is_refused(line: bytes):
    with pytest.raises(InvalidInput):
        event(line)


@given(st.binary(max_size=300))
def test_any_bytes_give_an_event_or_a_typed_error(line: bytes):
    with contextlib.suppress(VouchgateError):
        event(line)


def test_counters_are_read_from_the_admin_s_text():
    text = "http.tls.downstream_rq_total: 5\nhttp.tls.downstream_rq_completed: 4\nhttp.plain.downstream_rq_completed: 2\nhttp.tls.rbac.map_.denied: 3\nx\n"
    assert read_counters(text) == Counters(requests=5, completed=6, denied_by={"map": 3})
    assert lost_lines(read_counters(text), 4) == 2
    assert lost_lines(read_counters(text), 9) == 0


@pytest.mark.gateway
def test_a_line_names_caller_credential_action_and_word(gw: Harness):
    gw.verdict = YES
    by_token = gw.call("POST", INFER, token=gw.ca.token(spiffe("bob"), jti="j-1"))
    by_word = gw.call("POST", INFER, who="mallory")
    time.sleep(0.3)
    events = {made.request_id: made for line in Path(gw.settings.access_log).read_bytes().splitlines() if (made := event(line))}
    made = events[by_token.headers["x-request-id"]]
    assert (made.principal, made.credential_id, made.authenticated) == (spiffe("bob"), "j-1", True)
    assert (made.resource, made.action, made.grant_id, made.enforced_by, made.outcome) == (
        DIGITS,
        "infer",
        "g-bob-jwt",
        "gateway",
        "allowed",
    )
    assert (made.phase, made.bytes_out, made.detail["status"]) == ("end", len(by_token.body), "200")
    assert 0 < made.duration_ms < 1000
    assert abs(made.occurred_at - time.time() * 1000) < 5000
    made = events[by_word.headers["x-request-id"]]
    assert (made.decision_id, made.enforced_by, made.outcome, made.grant_id) == ("d-yes", "ext_authz", "allowed", "")


@pytest.mark.gateway
def test_a_streaming_request_is_logged_at_its_start_and_with_the_asked_path(gw: Harness):
    answer = gw.call(
        "POST", "/chat/v1/chat/completions?secret=1", who="alice", body=b'{"model":"tiny"}', headers={"content-type": "application/json"}
    )
    until = time.monotonic() + MAX_WAIT
    while Path(gw.settings.access_log).read_bytes().count(answer.headers["x-request-id"].encode()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    lines = [event(line) for line in Path(gw.settings.access_log).read_bytes().splitlines()]
    start, end = [made for made in lines if made.request_id == answer.headers["x-request-id"]]
    assert (start.phase, start.resource, start.outcome) == ("start", CHAT, "allowed")
    assert (end.phase, end.detail["path"], end.detail["model"]) == ("end", "/chat/v1/chat/completions", "tiny")


@pytest.mark.gateway
def test_no_secret_is_in_the_log(gw: Harness):
    token = gw.ca.token(spiffe("bob"))
    gw.call("POST", INFER + "?key=s3cret-1", token=token, headers={"cookie": "s3cret-2", "x-api-key": "s3cret-3"}, body=b"s3cret-4")
    time.sleep(0.3)
    text = Path(gw.settings.access_log).read_text()
    assert token not in text
    assert "s3cret" not in text


@pytest.mark.gateway
def test_a_quote_in_a_path_stays_one_line(gw: Harness):
    gw.raw(b'GET /"},{"id":"forged"} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n')
    assert not [line for line in gw.lines() if line["id"] == "forged"]


def _written(log: Path, start: int, lines: int) -> list[bytes]:
    """The lines beyond `start`, once there are so many, and a moment later in case there are more; what there is after `MAX_WAIT`."""
    until = time.monotonic() + MAX_WAIT
    while log.read_bytes()[start:].count(b"\n") < lines and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    return [line for line in log.read_bytes()[start:].split(b"\n") if line]


@pytest.mark.gateway
@pytest.mark.parametrize(
    "where",
    [
        b"POST /a%bb HTTP/1.1\r\nhost: localhost\r\n",
        b"POST /a?q=%bb HTTP/1.1\r\nhost: localhost\r\n",
        b"PO%bST /a HTTP/1.1\r\nhost: localhost\r\n",
        b"POST /a HTTP/1.1\r\nhost: local%bhost\r\n",
        b"POST /a HTTP/1.1\r\nhost: localhost\r\ntraceparent: a%bb\r\n",
        b"POST /a HTTP/1.1\r\nhost: localhost\r\nx-request-id: a%bb\r\n",
        b"POST /a HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer a%bb\r\n",
    ],
)
def test_no_byte_of_a_client_makes_its_line_unreadable_or_two(gw: Harness, where: bytes):
    log = Path(gw.settings.access_log)
    start = log.stat().st_size
    tried = [*(bytes([code]) for code in (0, 9, 10, 11, 13, 0x1E, 0x1F, 0x22, 0x5C, 0x7F, 0x85, 0xFF)), b"\x1f\n", "\u2028".encode()]
    for byte in tried:
        gw.raw(where.replace(b"%b", byte) + b"connection: close\r\ncontent-length: 0\r\n\r\n", seconds=1)
    found = _written(log, start, len(tried))
    assert len(found) == len(tried)
    for line in found:
        assert line.count(SEPARATOR.encode()) == len(FIELDS) + 1
        assert event(line).phase == "end"


@pytest.mark.gateway
def test_no_byte_of_an_upstream_makes_its_line_unreadable_or_two(gw: Harness):
    log = Path(gw.settings.access_log)
    start = log.stat().st_size
    answers = {}
    for byte in (b"x", b"\t", b"\x85", b"\x1f", b"\x01", b"\x7f", b"\x00", b"\n"):
        gw.upstreams["digits"].extra = b"x-vg-decision-id: a" + byte + b"b\r\n"
        answers[byte] = gw.call("POST", INFER, who="alice").status
    assert {byte for byte, status in answers.items() if status == 200} == {b"x", b"\t", b"\x85"}
    found = _written(log, start, len(answers))
    assert [event(line).decision_id for line in found] == [""] * len(answers)


@pytest.mark.gateway
def test_lines_and_counters_agree(gw: Harness):
    for who in ("alice", "mallory", None):
        gw.call("POST", INFER, who=who)
    gw.raw(b"garbage\r\n\r\n")
    gw.call("GET", "/x", plain=True, headers={"host": "legacy.test"})
    counters = gw.do(fetch_counters(gw.settings.admin_socket))
    ends = [line for line in gw.lines() if line["kind"] == "DownstreamEnd"]
    assert counters.completed == len(ends)
    assert lost_lines(counters, len(ends)) == 0
    assert lost_lines(counters, len(ends) - 1) == 1


@pytest.mark.gateway
def test_no_admin_pipe_is_told(gw: Harness):
    with pytest.raises(Unavailable):
        gw.do(fetch_counters(str(gw.dir / "none.sock")))


@pytest.mark.gateway
def test_admin_is_private_and_reads_only(gw: Harness):
    assert stat.S_IMODE(Path(gw.settings.admin_socket).stat().st_mode) == 0o600
    assert "200 OK" in gw.admin("/ready")
    for path in ("/quitquitquit", "/logging?level=trace", "/runtime_modify?x=1", "/drain_listeners", "/"):
        assert "403 Forbidden" in gw.admin(path), path
    assert "PRIVATE KEY" not in gw.admin("/config_dump")


@pytest.mark.gateway
def test_a_killed_gateway_has_written_what_is_older_than_the_flush(own: Callable[..., Harness]):
    gw = own()
    done: list[str] = []
    stop = threading.Event()

    def caller() -> None:
        connection = gw.connect("alice")
        while not stop.is_set():
            try:
                answer = gw.call("POST", INFER, on=connection)
            except OSError:
                return
            done.append(answer.headers["x-request-id"])

    thread = threading.Thread(target=caller)
    thread.start()
    time.sleep(1)
    stop.set()
    thread.join()
    time.sleep(0.15)
    gw.envoy.send_signal(signal.SIGKILL)
    gw.envoy.wait()
    logged = {read_fields(line)["id"] for line in Path(gw.settings.access_log).read_bytes().splitlines()}
    assert len(done) > 50
    assert set(done) <= logged
