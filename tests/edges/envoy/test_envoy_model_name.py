"""Which model a body names: every way in which two readers could see two names."""

from __future__ import annotations

import json

import pytest
from gateway_harness import Harness, spiffe

pytestmark = pytest.mark.gateway
PATH = "/chat/v1/chat/completions"
JSON = {"content-type": "application/json"}


def send(gw: Harness, body: bytes, headers: dict | None = None):
    return gw.call("POST", PATH, who="alice", body=body, headers=JSON if headers is None else headers)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"tiny"}',
        b' \t\r\n{ "model" : "tiny" } \n',
        b'{"messages":[{"role":"user","content":"\\u00e9 \\"model\\": \\\\ \xc3\xa9 \xf0\x9f\x98\x80"}],"model":"tiny","n":-1.5e+3,"s":true,"t":null,"u":false,"v":[],"w":{}}',
        json.dumps({"x": {"model": "other", "y": [{"model": 1}]}, "model": "tiny"}).encode(),
    ],
)
def test_one_plain_name_is_the_model(gw: Harness, body: bytes):
    assert send(gw, body).status == 200
    assert gw.upstreams["chat"].seen[-1]["body"] == body
    assert gw.asked == []


def test_another_model_is_asked(gw: Harness):
    assert send(gw, b'{"model":"other"}').status == 403
    assert gw.asked[0].model == "other"
    assert gw.upstreams["chat"].seen == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'"model"',
        b"null",
        b"{",
        b'{"model":"tiny"',
        b'{"model":"tiny",}',
        b'{"model":"tiny"}}',
        b'{"model":"tiny"}{"model":"other"}',
        b'{"model":"tiny"} x',
        b'{"model":"tiny"}\x00',
        b'{"model":"tiny","model":"tiny"}',
        b'{"model":"other","model":"tiny"}',
        b'{"model":"tiny","mod\\u0065l":"other"}',
        b'{"mod\\u0065l":"tiny"}',
        b'{"model":"tiny","\\u006dodel":"other"}',
        b'{"model":"tiny","a\\nb":1}',
        b'{"model":"tiny","Model":"other"}',
        b'{"MODEL":"tiny"}',
        b'{"model":1}',
        b'{"model":true}',
        b'{"model":null}',
        b'{"model":["tiny"]}',
        b'{"model":{"model":"tiny"}}',
        b'{"x":{"model":"tiny"}}',
        b'{"model":""}',
        b'{"model":"ti\\u006ey"}',
        b'{"model":"tiny "}',
        b'{"model":"tiny|-"}',
        b'{"model":"' + b"a" * 129 + b'"}',
        b'{"model":"t\xc3\xafny"}',
        b'{"model":"tiny","x":"\xff"}',
        b'{"model":"tiny","x":"\xc0\xaf"}',
        b'{"model":"tiny","x":"\xed\xa0\x80"}',
        b'{"model":"tiny","x":"\xf4\x90\x80\x80"}',
        b'{"model":"tiny","x":"a\nb"}',
        b'{"model":"tiny","x":"\\x41"}',
        b'{"model":"tiny","x":"\\u12"}',
        b'{"model":"tiny","x":01}',
        b'{"model":"tiny","x":+1}',
        b'{"model":"tiny","x":1.}',
        b'{"model":"tiny","x":.5}',
        b'{"model":"tiny","x":1e}',
        b'{"model":"tiny","x":NaN}',
        b'{"model":"tiny","x":Infinity}',
        b'{"model":"tiny","x":tru}',
        b'{"model":"tiny","x":nul}',
        b'{"model":"tiny" "x":1}',
        b'{"model" "tiny"}',
        b"{'model':'tiny'}",
        b'{model:"tiny"}',
        b'{"model":"tiny"/**/}',
        b'// x\n{"model":"tiny"}',
        b'\xef\xbb\xbf{"model":"tiny"}',
        b'\xff\xfe{\x00"\x00m\x00',
        b'{"model":"tiny","x":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"model":"tiny","x":' + b"[" * 100_000,
    ],
)
def test_anything_else_is_refused_and_never_asked(gw: Harness, body: bytes):
    answer = send(gw, body)
    assert answer.status in {400, 411}
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert gw.asked == []
    assert gw.upstreams["chat"].seen == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json, text/plain"},
        {"content-type": "application/jsonx"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": "application/json", "content-encoding": "br"},
        {"content-type": "application/json", "content-encoding": "identity"},
        {"content-type": "application/json", "content-encoding": ""},
    ],
)
def test_another_type_or_encoding_is_415(gw: Harness, headers: dict):
    assert send(gw, b'{"model":"tiny"}', headers).status == 415
    assert gw.upstreams["chat"].seen == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON"])
def test_ways_to_write_the_type(gw: Harness, kind: str):
    assert send(gw, b'{"model":"tiny"}', {"content-type": kind}).status == 200


def test_a_body_over_the_bound_is_413(gw: Harness):
    answer = send(gw, b'{"model":"tiny","x":"' + b"a" * gw.settings.max_body_bytes + b'"}')
    assert (answer.status, answer.json["type"]) == (413, "https://vouchgate.dev/problem/too-large")
    assert gw.upstreams["chat"].seen == []


def test_a_large_body_within_the_bound_passes(gw: Harness):
    body = json.dumps({"model": "tiny", "messages": [{"content": "x\u00e9\n" * 100_000}]}, ensure_ascii=False).encode()
    assert send(gw, body).status == 200


def test_a_model_named_in_a_header_or_query_counts_for_nothing(gw: Harness):
    answer = gw.call(
        "POST", PATH + "?model=tiny", who="alice", body=b'{"model":"other"}', headers=JSON | {"model": "tiny", "x-vg-model": "tiny"}
    )
    assert answer.status == 403
    assert gw.asked[0].model == "other"


def test_the_token_s_caller_gets_its_models_alone(gw: Harness):
    token = gw.ca.token(spiffe("bob"), aud=f"vg://{gw.settings.trust_domain}/endpoint/chat")
    assert gw.call("POST", PATH, token=token, body=b'{"model":"tiny"}', headers=JSON).status == 200
    assert gw.call("POST", PATH, token=token, body=b'{"model":"other"}', headers=JSON).status == 403


def test_a_body_without_a_caller_is_not_read(gw: Harness):
    answer = gw.call("POST", PATH, body=b"[" * 1000, headers=JSON)
    assert (answer.status, answer.json["type"]) == (401, "https://vouchgate.dev/problem/anonymous")


def test_a_route_without_a_body_needs_no_model(gw: Harness):
    assert gw.call("GET", "/chat/v1/models", who="alice").status == 200
    assert gw.call("GET", "/chat/v1/models", who="erin").status == 403


def test_an_observed_endpoint_s_bodies_are_not_judged(gw: Harness):
    import msgspec

    from vouchgate.vocabulary.places import Zone

    observed = [msgspec.structs.replace(made, zone="old") if made.id.endswith("chat") else made for made in gw.endpoints()]
    gw.do(lambda: gw.view.set_endpoints(observed))
    gw.settled()
    assert gw.call("POST", PATH, body=b"anything", headers={}).status == 200
    gw.do(lambda: gw.view.set_zones([gw.zone, Zone(name="old", trust_domain="test.local")]))
    gw.settled()
    assert send(gw, b"anything").status == 400
