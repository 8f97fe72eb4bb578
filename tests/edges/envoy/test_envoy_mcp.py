"""MCP servers behind the gateway: which methods and tools a message may name, for whom, and where its clients learn about tokens."""

from __future__ import annotations

import json
import random

import msgspec
import pytest
from gateway_harness import EXTENSION_TYPE, TD, Harness, spiffe

from vouchgate.edges.envoy.maps import allow_map
from vouchgate.edges.envoy.protected_resource import metadata_uri
from vouchgate.vocabulary.decisions import Grant
from vouchgate.vocabulary.mcp import MCP, METHODS, tool_id
from vouchgate.vocabulary.places import Endpoint, Route, Zone, asks, canonical_uri

TOOLS = f"vg://{TD}/endpoint/tools"
SEARCH, WRITE = f"vg://{TD}/tool/tools.search", f"vg://{TD}/tool/tools.write_file"
PATH = "/t/mcp"
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


def server(**more: object) -> Endpoint:
    values: dict = {
        "id": TOOLS,
        "trust_domain": TD,
        "zone": "serve",
        "upstream": "unix:/none",
        "prefix": "/t",
        "bearer": True,
        "mcp": True,
        "tools": {"search": SEARCH, "write_file": WRITE},
        "routes": (
            Route(method="POST", path="/mcp", action=MCP, streams=True),
            Route(method="GET", path="/mcp", action="describe", streams=True),
            Route(method="DELETE", path="/mcp", action="describe"),
        ),
    }
    return Endpoint(**(values | more))


@pytest.fixture
def mcp(gw: Harness) -> Harness:
    put(gw, server(upstream=f"unix:{gw.upstreams['digits'].path}"))
    return gw


def put(gw: Harness, endpoint: Endpoint) -> None:
    def work() -> None:
        gw.view.set_endpoints([*gw.endpoints(), endpoint])
        grants = [gw.grant("alice", TOOLS, action="describe"), gw.grant("bob", TOOLS, action="describe", kind="jwt")]
        grants += [gw.grant("alice", SEARCH, action="call-tool"), gw.grant("bob", WRITE, action="call-tool", kind="jwt")]
        gw.view.set_grants(TOOLS, grants)

    gw.do(work)
    gw.settled()
    gw.do(gw.ads.wait_acked(EXTENSION_TYPE, [f"map/{slot}" for slot in range(8)], timeout=3))


def message(method: str | None = None, **members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1} | ({"method": method} if method else {}) | members).encode()


def send(gw: Harness, body: bytes, *, who: str | None = "alice", headers: dict | None = None, **more):
    return gw.call("POST", PATH, who=who, body=body, headers=HEADERS if headers is None else headers, **more)


def call(tool: str = "search", **more: object) -> bytes:
    return message("tools/call", params={"name": tool, "arguments": {"q": "x"}} | more)


gateway = pytest.mark.gateway


@gateway
@pytest.mark.parametrize(
    "body",
    [
        message("initialize", params={"protocolVersion": "2025-06-18", "capabilities": {}}),
        message("ping"),
        message("tools/list"),
        message("resources/list", params={"cursor": "x"}),
        message("prompts/list"),
        json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode(),
        message("notifications/cancelled", params={"requestId": 1}),
        message(result={"x": 1}),
        message(error={"code": -1, "message": "no"}),
        call(),
        call(_meta={"progressToken": "x", "name": "write_file"}),
        message("tools/call", params={"arguments": {"name": "write_file", "method": "x", "n\\u0061me": 1}, "name": "search"}),
    ],
)
def test_what_is_granted_goes_straight_through(mcp: Harness, body: bytes):
    answer = send(mcp, body)
    assert (answer.status, answer.json["path"]) == (200, "/mcp")
    assert mcp.upstreams["digits"].seen[-1]["body"] == body
    assert mcp.asked == []


@gateway
def test_the_stream_and_the_end_of_a_session_need_no_body(mcp: Harness):
    headers = {"mcp-session-id": "s-1", "last-event-id": "e-7", "mcp-protocol-version": "2025-06-18"}
    for method in ("GET", "DELETE"):
        answer = mcp.call(method, PATH, who="alice", headers=headers)
        assert answer.status == 200
        assert headers.items() <= dict(answer.json["headers"]).items()
        assert mcp.call(method, PATH, who="mallory").status == 403
    assert [(asked.action, asked.tool) for asked in mcp.asked] == [("describe", "")] * 2


@gateway
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_message_that_is_not_read_is_not_passed_on(mcp: Harness, method: str):
    """A server that takes the body of any method would call a tool that only `describe` was asked for."""
    before = len(mcp.upstreams["digits"].seen)
    for more in ({}, {"transfer-encoding": "chunked"}):
        body = call("write_file")
        if more:
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        sized = more or {"content-length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in (HEADERS | sized | {"host": "localhost"}).items())
        got = mcp.raw(f"{method} {PATH} HTTP/1.1\r\n{head}\r\n".encode() + body)
        assert got.startswith(b"HTTP/1.1 400"), got[:200]
        assert b"unread-body" in got
    assert len(mcp.upstreams["digits"].seen) == before


@gateway
@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS"])
def test_no_other_http_method_exists(mcp: Harness, method: str):
    assert mcp.call(method, PATH, who="alice").status == 404


@gateway
@pytest.mark.parametrize("path", ["/t/mcp/", "/t/mcp/x", "/mcp", "/t/sse", "/t//mcp/../mcp/x"])
def test_no_other_path_exists(mcp: Harness, path: str):
    assert mcp.call("POST", path, who="alice", body=call(), headers=HEADERS).status == 404


@gateway
def test_each_tool_is_granted_by_itself(mcp: Harness):
    bob = mcp.ca.token(spiffe("bob"), aud=TOOLS)
    assert (send(mcp, call("search")).status, send(mcp, call("write_file")).status) == (200, 403)
    assert [send(mcp, call(tool), who=None, token=bob).status for tool in ("search", "write_file")] == [403, 200]
    assert [(asked.endpoint, asked.action, asked.tool, asked.model) for asked in mcp.asked] == [
        (TOOLS, "call-tool", "write_file", ""),
        (TOOLS, "call-tool", "search", ""),
    ]


@gateway
@pytest.mark.parametrize("method", ["resources/read", "prompts/get", "completion/complete", "resources/subscribe"])
def test_actions_of_their_own_are_asked(mcp: Harness, method: str):
    assert send(mcp, message(method, params={"uri": "x", "name": "search"})).status == 403
    assert [(asked.action, asked.tool) for asked in mcp.asked] == [(METHODS[method], "")]


@gateway
@pytest.mark.parametrize(
    "body", [message("tools/unknown"), message("x"), message("Tools/call"), message("sampling/createMessage"), call("delete")]
)
def test_what_is_not_offered_is_refused_and_never_asked(mcp: Harness, body: bytes):
    answer = send(mcp, body)
    assert (answer.status, answer.json["title"]) == (403, "not offered")
    assert mcp.asked == []
    assert mcp.upstreams["digits"].seen == []


BAD = [
    b"",
    b"[]",
    b"[" + call() + b"]",
    b'"ping"',
    b"null",
    b"{}",
    b"{",
    call() + call(),
    call() + b"x",
    call()[:-1],
    b'{"jsonrpc":"2.0","id":1}',
    b'{"jsonrpc":"2.0","id":1,"result":1,"error":1}',
    b'{"jsonrpc":"2.0","result":1}',
    b'{"jsonrpc":"2.0","id":1,"result":1,"params":{}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","result":1}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","error":1}',
    b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
    b'{"jsonrpc":2.0,"id":1,"method":"ping"}',
    b'{"id":1,"method":"ping"}',
    b'{"jsonrpc":"2.0","jsonrpc":"2.0","method":"ping"}',
    b'{"jsonrpc":"2.0","method":"ping","method":"tools/call"}',
    b'{"jsonrpc":"2.0","method":"ping","Method":"tools/call"}',
    b'{"jsonrpc":"2.0","METHOD":"ping"}',
    b'{"jsonrpc":"2.0","method":"ping","meth\\u006fd":"tools/call"}',
    b'{"jsonrpc":"2.0","method":"ping","m\xc3\xa9thod":"tools/call"}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search"},"param\xc5\xbf":{"name":"write_file"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search"},"Params":{"name":"write_file"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search","name":"write_file"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search","Name":"write_file"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search","n\\u0061me":"write_file"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"sea\\u0072ch"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":["search"]}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":null}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"Name":"search"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search|-"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search/-"}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":""}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"arguments":{"name":"search"}}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":["search"]}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":null}',
    b'{"jsonrpc":"2.0","method":"tools/call"}',
    b'{"jsonrpc":"2.0","method":"tools\\/call","params":{"name":"search"}}',
    b'{"jsonrpc":"2.0","method":null}',
    b'{"jsonrpc":"2.0","method":"ping","extra":1}',
    b'{"jsonrpc":"2.0","method":"ping","model":"tiny"}',
    b'{"jsonrpc":"2.0","method":"ping","params":{"x":"\xff"}}',
    b'{"jsonrpc":"2.0","method":"ping","params":{"x":NaN}}',
    b'{"jsonrpc":"2.0","method":"ping","params":' + b"[" * 70 + b"]" * 70 + b"}",
    b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"ping"}',
    b'{"jsonrpc":"2.0","method":"' + b"a" * 65 + b'"}',
]


@gateway
@pytest.mark.parametrize("body", BAD)
def test_a_message_that_two_readers_could_read_in_two_ways_is_refused(mcp: Harness, body: bytes):
    answer = send(mcp, body)
    assert answer.status in {400, 411}
    assert answer.headers["content-type"] == "application/problem+json"
    assert mcp.asked == []
    assert mcp.upstreams["digits"].seen == []


@gateway
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": "application/json-rpc"},
    ],
)
def test_another_type_or_encoding_is_415(mcp: Harness, headers: dict):
    assert send(mcp, call(), headers=headers).status == 415


@gateway
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"mcp-method": "tools/call", "mcp-name": "search"}, 200),
        ({"mcp-method": "ping"}, 400),
        ({"mcp-name": "write_file"}, 400),
        ({"mcp-method": "tools/call", "mcp-name": "Search"}, 400),
    ],
)
def test_headers_that_name_another_thing_are_refused(mcp: Harness, headers: dict, status: int):
    assert send(mcp, call(), headers=HEADERS | headers).status == status


@gateway
def test_a_body_over_the_bound_is_413(mcp: Harness):
    assert send(mcp, call(x="a" * mcp.settings.max_body_bytes)).status == 413


@gateway
def test_settings_add_and_replace_methods(mcp: Harness):
    made = server(upstream=f"unix:{mcp.upstreams['digits'].path}", methods={"tasks/get": "describe", "tools/list": "list"})
    put(mcp, made)
    assert send(mcp, message("tasks/get")).status == 200
    assert send(mcp, message("tools/list")).status == 403
    assert mcp.asked[-1].action == "list"


@gateway
def test_a_caller_without_identity_is_shown_where_to_get_one(mcp: Harness):
    answer = send(mcp, call(), who=None)
    where = f"https://{mcp.settings.authority}/.well-known/oauth-protected-resource/t/mcp"
    connection = mcp.connect()
    connection.request("POST", PATH, body=call(), headers=HEADERS)
    found = [value for name, value in connection.getresponse().getheaders() if name == "www-authenticate"]
    assert answer.status == 401
    assert f'Bearer realm="{TOOLS}", resource_metadata="{where}"' in found


@gateway
def test_the_metadata_is_public_and_says_where_tokens_come_from(mcp: Harness):
    for path in ("/.well-known/oauth-protected-resource/t/mcp", "/.well-known/oauth-protected-resource"):
        answer = mcp.call("GET", path)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json["resource"] == f"https://{mcp.settings.authority}/t/mcp"
        assert answer.json["scopes_supported"] == [
            "call-tool:tools/search",
            "call-tool:tools/write_file",
            *(f"{action}:tools" for action in ("complete", "describe", "get-prompt", "read-resource")),
        ]
    assert mcp.call("POST", "/.well-known/oauth-protected-resource/t/mcp").status == 404
    assert mcp.call("GET", "/.well-known/oauth-protected-resource/other").status == 404
    assert mcp.call("GET", "/.well-known/oauth-protected-resource", plain=True).status == 404
    assert mcp.asked == []
    assert mcp.upstreams["digits"].seen == []


@gateway
def test_a_token_for_the_uri_is_none_for_the_endpoint(mcp: Harness):
    token = mcp.ca.token(spiffe("bob"), aud=f"https://{mcp.settings.authority}/t/mcp")
    assert send(mcp, call("write_file"), who=None, token=token).status == 401


@gateway
def test_the_log_says_action_and_tool(mcp: Harness):
    from vouchgate.edges.envoy.access_log import parse_line
    from vouchgate.edges.envoy.log_fields import line_of

    line = mcp.end_line(send(mcp, call()))
    event = parse_line(line_of(line), source="g", inode=1, offset=0, observed_at=0)
    assert (event.action, event.resource, event.detail["tool"]) == ("call-tool", TOOLS, "search")
    assert event.grant_id


@gateway
def test_an_observed_server_s_messages_are_not_judged(mcp: Harness):
    put(mcp, server(upstream=f"unix:{mcp.upstreams['digits'].path}", zone="old"))
    assert send(mcp, b"anything", who=None, headers={}).status == 200
    mcp.do(lambda: mcp.view.set_zones([mcp.zone, Zone(name="old", trust_domain=TD)]))
    mcp.settled()
    assert send(mcp, b"anything", headers={}).status == 415


SPLINTERS = [
    b'"name":"write_file"', b'"Name":"write_file"', b'"method":"ping"', b',"params":{"name":"write_file"}', b"{", b"}", b"[", b"]", b",", b":",
    b'"', b"\\", b"\\u006e", b"\x00", b"\xff", b"\xc3\xa9", b" ", b"\n", b"null", b"1e9", b'"arguments":{"name":"write_file"}', b"/**/",
    b'"write_file"', b'"search"', b'"jsonrpc":"2.0"', b'"id":2',
]  # fmt: skip


def one_reading(body: bytes) -> object:
    """What a strict reader sees; a name that is there twice, in whatever case, is a failure."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name.lower() for name, _ in pairs]
        assert len(set(names)) == len(names) or not {"method", "params", "name", "jsonrpc"} & set(names), body
        return dict(pairs)

    return json.loads(body.decode(), object_pairs_hook=once, parse_constant=pytest.fail)


@gateway
def test_whatever_is_let_through_reads_in_one_way_only(mcp: Harness):
    chance = random.Random(7)
    passed = 0
    connection = mcp.connect("alice")
    for _ in range(600):
        body = bytearray(call())
        for _ in range(chance.randint(1, 3)):
            at, until = sorted((chance.randrange(len(body) + 1), chance.randrange(len(body) + 1)))
            cut = until if chance.random() < 0.3 else at
            body[at:cut] = chance.choice(SPLINTERS) if chance.random() < 0.8 else b""
        mcp.asked.clear()
        status = send(mcp, bytes(body), on=connection).status if body else 411
        if status == 200:
            passed += 1
            said = one_reading(bytes(body))
            assert isinstance(said, dict)
            assert (said["method"], said["params"]["name"]) == ("tools/call", "search") or said["method"] in METHODS, body
        else:
            assert status in {400, 403, 411}, body
            assert status != 403 or not mcp.asked or mcp.asked[0].tool == "write_file", body
    connection.close()
    assert passed > 20


# -- without an Envoy


def grant(action: str, resource: str) -> Grant:
    values: dict = {
        "id": "g",
        "decision_id": "d",
        "principal": spiffe("a"),
        "credential_kind": "x509",
        "pep": "g",
        "epoch": 1,
        "not_after": 9,
    }
    return Grant(action=action, resource=resource, **values)


@pytest.mark.parametrize(
    ("action", "resource", "fields"),
    [
        ("call-tool", SEARCH, {"mcp|call-tool/search"}),
        ("call-tool", TOOLS, set()),
        ("call-tool", f"vg://{TD}/tool/tools.other", set()),
        ("describe", TOOLS, {"mcp|describe/-", "describe|-"}),
        ("describe", SEARCH, set()),
        ("mcp", TOOLS, {"mcp|mcp/-", "mcp|-"}),
    ],
)
def test_entries_of_a_map(action: str, resource: str, fields: set[str]):
    entries = allow_map(server(), [grant(action, resource)], observe=False)[0].matcher.matcher_tree.exact_match_map.map
    assert {"|".join(key.split("|")[1:3]) for key in entries if key != "-"} == fields


def test_what_an_endpoint_can_be_asked():
    assert ("call-tool", SEARCH) in asks(server())
    assert {action for action, name in asks(server()) if name == TOOLS} == {"complete", "describe", "get-prompt", "read-resource"}
    assert not [pair for pair in asks(server()) if pair[0] == MCP]


@pytest.mark.parametrize(
    ("change", "uri", "document"),
    [
        ({}, "https://gw:8443/t/mcp", "https://gw:8443/.well-known/oauth-protected-resource/t/mcp"),
        (
            {"host": "tools.example"},
            "https://tools.example:8443/t/mcp",
            "https://tools.example:8443/.well-known/oauth-protected-resource/t/mcp",
        ),
        ({"resource_uri": "https://x.example/"}, "https://x.example/", "https://x.example/.well-known/oauth-protected-resource"),
    ],
)
def test_canonical_uris(change: dict, uri: str, document: str):
    made = msgspec.structs.replace(server(), **change)
    assert canonical_uri(made, "gw:8443") == uri
    assert metadata_uri(uri) == document


def test_a_tool_s_name_is_a_resource():
    assert tool_id(TOOLS, "searchDocs") == f"vg://{TD}/tool/tools.searchdocs"
