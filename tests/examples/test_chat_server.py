"""OpenAI-compatible chat completions, against the real server process."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from example_servers import Server
from httpx_sse import connect_sse

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(start: Callable[..., Server]) -> Server:
    return start("chat_server.py", "--pace-ms", "1")


def body(**more: Any) -> dict[str, Any]:
    return {"model": "tiny-2", "messages": [{"role": "user", "content": "tell me about the gate"}], **more}


def events(server: Server, asked: dict[str, Any]) -> list[str]:
    with (
        httpx.Client(transport=httpx.HTTPTransport(uds=server.path)) as client,
        connect_sse(client, "POST", f"http://chat{CHAT}", json=asked) as source,
    ):
        assert source.response.status_code == 200
        return [event.data for event in source.iter_sse()]


def test_models(server: Server) -> None:
    status, listed = server.call("GET", "/v1/models")
    assert (status, listed["object"]) == (200, "list")
    assert [card["id"] for card in listed["data"]] == ["tiny-1", "tiny-2"]
    assert server.call("GET", "/v1/models/tiny-1")[1]["object"] == "model"


@pytest.mark.parametrize("model", ["tiny-1", "tiny-2"])
def test_a_whole_completion(server: Server, model: str) -> None:
    status, answer = server.call("POST", CHAT, body(model=model))
    assert status == 200
    assert (answer["object"], answer["model"]) == ("chat.completion", model)
    assert answer["id"].startswith("chatcmpl-")
    choice = answer["choices"][0]
    assert (choice["index"], choice["message"]["role"]) == (0, "assistant")
    assert choice["message"]["content"]
    assert choice["finish_reason"] in ("stop", "length")
    usage = answer["usage"]
    assert usage["prompt_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_the_same_as_the_whole(server: Server) -> None:
    whole = server.call("POST", CHAT, body(seed=3))[1]
    got = events(server, body(seed=3, stream=True))
    assert got[-1] == "[DONE]"
    chunks = [json.loads(data) for data in got[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert "usage" not in chunks[0]


def test_usage_in_a_stream_comes_last_and_only_when_asked(server: Server) -> None:
    chunks = [json.loads(data) for data in events(server, body(stream=True, stream_options={"include_usage": True}))[:-1]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 5
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_limits_stops_and_seeds(server: Server) -> None:
    short = server.call("POST", CHAT, body(max_tokens=3, seed=1))[1]
    assert (short["usage"]["completion_tokens"], short["choices"][0]["finish_reason"]) == (3, "length")
    assert server.call("POST", CHAT, body(max_completion_tokens=2, max_tokens=9))[1]["usage"]["completion_tokens"] == 2
    full = server.call("POST", CHAT, body(seed=1))[1]["choices"][0]["message"]["content"]
    assert server.call("POST", CHAT, body(seed=1))[1]["choices"][0]["message"]["content"] == full
    word = full.split()[3]
    for stream in (False, True):
        if stream:
            chunks = [json.loads(data) for data in events(server, body(seed=1, stop=[word], stream=True))[:-1]]
            text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        else:
            text = server.call("POST", CHAT, body(seed=1, stop=word))[1]["choices"][0]["message"]["content"]
        assert text == full[: full.index(word)]
    assert server.call("POST", CHAT, body(temperature=0))[1]["choices"] == server.call("POST", CHAT, body(temperature=0))[1]["choices"]


BAD: list[tuple[str, Any, int]] = [
    ("no JSON", b"{", 400),
    ("no model", {"messages": [{"role": "user", "content": "x"}]}, 400),
    ("another model", body(model="gpt-9"), 404),
    ("a model that is no string", body(model=7), 400),
    ("no messages", {"model": "tiny-1"}, 400),
    ("empty messages", body(messages=[]), 400),
    ("too many messages", body(messages=[{"role": "user", "content": "x"}] * 257), 400),
    ("an unknown role", body(messages=[{"role": "king", "content": "x"}]), 400),
    ("content of another kind", body(messages=[{"role": "user", "content": 5}]), 400),
    ("a picture", body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]), 400),
    ("no tokens", body(max_tokens=0), 400),
    ("too many tokens", body(max_tokens=10**9), 400),
    ("too hot", body(temperature=3), 400),
    ("two answers", body(n=2), 400),
    ("stream of another kind", body(stream="yes"), 400),
]


@pytest.mark.parametrize(("what", "content", "status"), BAD, ids=[what for what, _, _ in BAD])
def test_errors_have_the_apis_shape(what: str, content: Any, status: int, server: Server) -> None:
    got, answer = server.call("POST", CHAT, content)
    assert got == status
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert (answer["error"]["code"] == "model_not_found") == (status == 404)


def test_paths_and_methods(server: Server) -> None:
    assert server.call("GET", CHAT)[0] == 405
    assert server.call("GET", "/v1/models/none")[0] == 404
    assert server.call("GET", "/v2")[0] == 404
    assert server.call("POST", CHAT, json.dumps(body()), {"content-type": "text/plain"})[0] == 415


def test_text_parts_are_read(server: Server) -> None:
    parts = [{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}]
    assert server.call("POST", CHAT, body(messages=[{"role": "user", "content": parts}]))[1]["usage"]["prompt_tokens"] == 3


def test_pieces_come_one_by_one_and_a_client_that_leaves_ends_the_stream(start: Callable[..., Server]) -> None:
    slow = start("chat_server.py", "--pace-ms", "40")
    content = json.dumps(body(stream=True, max_tokens=20)).encode()
    request = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), len(content))
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(slow.path)
        link.sendall(request + content)
        times = []
        seen = b""
        while seen.count(b"data: ") < 5:
            seen += link.recv(65536)
            times.append(time.monotonic())
        assert times[-1] - times[0] >= 0.08
        assert b"[DONE]" not in seen
    assert slow.call("GET", "/v1/models")[0] == 200
