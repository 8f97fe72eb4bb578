"""Paths, hosts, methods and bytes that try to be read in two ways."""

from __future__ import annotations

import pytest
from gateway_harness import Harness

pytestmark = pytest.mark.gateway


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def ask(gw: Harness, target: str, *, method: str = "GET", host: str = "localhost", more: str = "") -> int:
    return status(gw.raw(f"{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n".encode("latin-1")))


@pytest.mark.parametrize("target", ["/d5/x", "/d5//x", "/d5/./x", "/d5/y/../x", "/d5/x?q=1", "/d5/%78", "/d5\\x"])
def test_ways_to_write_a_listed_path(gw: Harness, target: str):
    assert ask(gw, target) == 200
    assert gw.upstreams["digits"].seen[-1]["path"].split("?")[0] in {"/d5/x", "/d5/%78"}


@pytest.mark.parametrize(
    "target",
    [
        "/d5/%2e%2e/g0/x",
        "/d5/..%2fg0/x",
        "/d5/..%5cg0/x",
        "/d5/%252e%252e/x",
        "/d5/%2578",
        "/d5/x;y=1",
        "/d5;/x",
        "/d5/x/",
        "/d5/x.",
        "/D5/x",
        "/d5/X",
        "/d5/x%00",
        "/d5/x%0a",
        "/d5/x%20",
        "/d5/x#f",
        "/../d5/x/..",
        "//d5/x/y",
        "/v2/models/a/b/versions/1",
        "/v2/models/a%2fb/versions/1",
        "/v2/models/a;b/versions/1",
        "/v2/models//versions/1",
        "/v2/models/" + "a" * 65 + "/versions/1",
        "/v2/models/a/versions/1/",
        "*",
        "",
    ],
)
def test_no_other_way_is_served(gw: Harness, target: str):
    before = len(gw.upstreams["digits"].seen)
    assert ask(gw, target) in {0, 400, 404}
    assert len(gw.upstreams["digits"].seen) == before
    assert gw.asked == []


def test_a_template_takes_one_segment(gw: Harness):
    assert ask(gw, "/v2/models/digits/versions/1") == 403
    assert gw.asked[0].action == "describe"


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "TRACE", "post", "PROPFIND", "CONNECT"])
def test_another_method_does_not_exist(gw: Harness, method: str):
    assert ask(gw, "/v2/models/digits/infer", method=method) in {0, 400, 403, 404, 405}
    assert gw.upstreams["digits"].seen == []


@pytest.mark.parametrize("host", ["other", "localhost.evil", "", "legacy.test", "legacy.test.", "[::1]", "digits"])
def test_a_host_that_is_not_listed_leads_nowhere(gw: Harness, host: str):
    assert ask(gw, "/d5/x", host=host) in {0, 400, 404} or host.startswith("legacy.test")
    assert gw.upstreams["digits"].seen == []


@pytest.mark.parametrize("host", ["localhost:8443", "localhost.", "LOCALHOST", "127.0.0.1:1"])
def test_a_listed_host_in_another_spelling(gw: Harness, host: str):
    assert ask(gw, "/d5/x", host=host) == 200


def test_an_absolute_target_names_the_host_for_everyone(gw: Harness):
    assert ask(gw, "http://other/d5/x") == 404
    assert ask(gw, "https://localhost/d5/x", host="other") == 200
    assert dict(gw.upstreams["digits"].seen[-1]["headers"])["host"] == "localhost"


def test_two_hosts_are_refused(gw: Harness):
    assert ask(gw, "/d5/x", more="host: other\r\n") in {0, 400, 404}
    assert gw.upstreams["digits"].seen == []


@pytest.mark.parametrize("more", ["x_vg_san: a\r\n", "content_length: 3\r\n", "X_Request_Id: a\r\n"])
def test_header_names_with_an_underscore_are_refused(gw: Harness, more: str):
    assert ask(gw, "/d5/x", more=more) == 400


@pytest.mark.parametrize(
    "more",
    [
        "upgrade: websocket\r\nconnection: upgrade\r\n",
        "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "upgrade: foo\r\nconnection: upgrade\r\n",
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_no_upgrade_is_made(gw: Harness, more: str, plain: bool):
    target, host = ("/x", "legacy.test") if plain else ("/d5/x", "localhost")
    answer = gw.raw(f"GET {target} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n".encode(), plain=plain)
    assert status(answer) in {0, 200, 400, 403, 404}
    assert b" 101 " not in answer[:20]
    for upstream in gw.upstreams.values():
        assert not [name for seen in upstream.seen for name, _ in seen["headers"] if name in {"upgrade", "http2-settings"}]


def test_http2_without_tls_is_refused(gw: Harness):
    answer = gw.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", plain=True)
    assert status(answer) in {0, 400, 426}


BODY = "POST /v2/models/digits/infer HTTP/1.1\r\nhost: localhost\r\n"
INNER = "GET /d5/x HTTP/1.1\r\nhost: localhost\r\nx-inner: 1\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        BODY + "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
        BODY + f"content-length: {len(INNER)}\r\ncontent-length: 0\r\n\r\n" + INNER,
        BODY + "content-length: +5\r\n\r\nhello",
        BODY + "content-length: 0x5\r\n\r\nhello",
        BODY + "content-length: -1\r\n\r\n",
        BODY + "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + INNER,
        BODY + "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
        BODY + "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n" + INNER,
        BODY + "transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + INNER,
        BODY + "transfer-encoding: chunked\r\n\r\n5;a\r\nhello\r\nZ\r\n\r\n",
        BODY + "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
        BODY + "foo\r\n\r\n",
        "POST /v2/models/digits/infer HTTP/1.0\r\nhost: localhost\r\n\r\n",
        "POST /v2/models/digits/infer\r\n\r\n",
        "POST /v2/models/digits/infer HTTP/9.9\r\nhost: localhost\r\n\r\n",
        "\x00\x01\x02\x03" * 20,
        BODY + "x: " + "a" * 40_000 + "\r\n\r\n",
        BODY + "".join(f"x-{number}: 1\r\n" for number in range(200)) + "\r\n",
    ],
)
def test_malformed_and_smuggled_requests_reach_no_upstream(gw: Harness, data: str):
    answer = gw.raw(data.encode("latin-1"), seconds=1.5)
    assert status(answer) in {0, 400, 404, 426, 431, 501}, answer[:200]
    assert not [seen for seen in gw.upstreams["digits"].seen if ("x-inner", "1") in seen["headers"]]


def test_a_pipelined_request_is_judged_by_itself(gw: Harness):
    answer = gw.raw(b"GET /d5/x HTTP/1.1\r\nhost: localhost\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 404" in answer


def test_every_malformed_request_is_recorded(gw: Harness):
    before = len(gw.lines())
    gw.raw(b"garbage\r\n\r\n")
    ask(gw, "/d5/x", more="a_b: c\r\n")
    lines = gw.lines()[before:]
    assert sorted(line["details"] for line in lines) == ["http1.codec_error", "http1.unexpected_underscore"]
