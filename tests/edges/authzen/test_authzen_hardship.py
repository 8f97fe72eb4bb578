"""What is not a question, too much of it, and peers that are slow, greedy or broken."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from authzen_world import Client, Stand, example
from flows_world import ALICE, DIGITS
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.edges.authzen import bodies, desk, recording, server
from vouchgate.vocabulary.errors import InvalidInput

AT = "/access/v1"
WHOLE: dict[str, Any] = {
    "subject": {"type": "service", "id": ALICE},
    "action": {"name": "infer"},
    "resource": {"type": "endpoint", "id": DIGITS},
}
JSON = "content-type: application/json\r\n"


def without(*path: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(WHOLE))
    at = made
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    return made


def deep(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return WHOLE | {"context": value}


BAD: list[Any] = [
    b"", b"{", b"[]", b"null", b'"x"', b"7", b"\xff\xfe", b'{"subject": NaN}', b"{}", b'{"a":1}{"b":2}',
    *(without(*path) for path in (("subject",), ("action",), ("resource",), ("subject", "type"), ("subject", "id"), ("action", "name"), ("resource", "type"), ("resource", "id"))),
    WHOLE | {"subject": "alice"}, WHOLE | {"subject": [1]}, WHOLE | {"action": {"name": 123}}, WHOLE | {"action": "infer"},
    WHOLE | {"subject": {"type": "", "id": ALICE}}, WHOLE | {"resource": {"type": "endpoint", "id": "x" * 1_025}}, WHOLE | {"action": {"name": "x" * 129}},
    WHOLE | {"context": []}, WHOLE | {"context": "x"}, WHOLE | {"subject": {"type": "service", "id": ALICE, "properties": 7}},
    WHOLE | {"options": {"obligations": "redaction"}}, WHOLE | {"options": {"obligations": ["x"] * 17}}, deep(40),
    b'{"subject":{"type":"service","id":"a"},"subject":{"type":"service","id":"b"},"action":{"name":"infer"},"resource":{"type":"endpoint","id":"c"}}',
    b'{"subject":{"type":"service","id":"a","id" : "b"},"action":{"name":"infer"},"resource":{"type":"endpoint","id":"c"}}',
    b'{"subject":{"type":"service","id":"a","i\\u0064":"b"},"action":{"name":"infer"},"resource":{"type":"endpoint","id":"c"}}',
    b'{"subject":{"type":"service","id":"\\ud800"},"action":{"name":"infer"},"resource":{"type":"endpoint","id":"c"}}',
    (json.dumps(WHOLE)[:-1] + "}" * 3).encode(), b"[" * 50_000, b'{"a":' * 50_000,
]  # fmt: skip


def test_what_is_no_question_is_400_and_the_connection_goes_on() -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        for body in BAD:
            for path in ("evaluation", "evaluations"):
                answer = await client.post(f"{AT}/{path}", body)
                assert answer.status == 400, body
                assert answer.body and answer.headers["content-type"].startswith("text/plain")
        assert await client.evaluate(WHOLE)

    stand.run(story)
    assert len(stand.decisions) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"evaluations": [WHOLE] * 257}, {"evaluations": {"a": 1}}, {"evaluations": [1]}, {"evaluations": [WHOLE], "options": {"evaluations_semantic": "maybe"}},
        {"evaluations": [WHOLE], "options": []},
    ],
)  # fmt: skip
def test_evaluations_that_are_none_or_too_many_are_400(body: Any) -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        assert (await client.post(f"{AT}/evaluations", body)).status == 400
        answer = (await client.post(f"{AT}/evaluations", {"evaluations": [WHOLE] * 256})).json
        assert len(answer["evaluations"]) == 256

    stand.run(story)
    assert len(stand.decisions) == 256


@pytest.mark.parametrize(
    "page", [{"limit": -1}, {"limit": "7"}, {"limit": 1.5}, {"limit": True}, {"token": 7}, {"token": "x" * 5_000}, [], "x"]
)
def test_a_page_that_is_none_is_400(page: Any) -> None:
    async def story(client: Client) -> None:
        assert (await client.post(f"{AT}/search/action", WHOLE | {"page": page})).status == 400

    Stand().run(story)


@pytest.mark.parametrize(
    "body",
    [
        ("subject", without("action")), ("resource", without("subject")), ("action", without("resource")), ("subject", without("resource", "id")),
        ("resource", without("subject", "id")), ("subject", without("subject")),
    ],
)  # fmt: skip
def test_a_search_without_what_it_needs_is_400(body: tuple[str, Any]) -> None:
    async def story(client: Client) -> None:
        assert (await client.post(f"{AT}/search/{body[0]}", body[1])).status == 400

    Stand().run(story)


@pytest.mark.parametrize(
    "headers",
    [
        "", "content-type: text/plain\r\n", "content-type: application/jsonx\r\n", JSON + "content-encoding: gzip\r\n", JSON + JSON,
        JSON + "x-request-id: a\r\nx-request-id: b\r\n", JSON + f"x-request-id: {'x' * 257}\r\n", JSON + "x: y\r\n" * 65,
    ],
)  # fmt: skip
def test_a_body_that_is_not_declared_as_json_and_odd_heads_are_400(headers: str) -> None:
    async def story(client: Client) -> None:
        answer = await client.post(f"{AT}/evaluation", WHOLE, headers)
        assert answer.status == 400
        assert await client.evaluate(WHOLE)

    Stand().run(story)


def test_the_request_id_comes_back() -> None:
    async def story(client: Client) -> None:
        for path, body, status in ((f"{AT}/evaluation", WHOLE, 200), (f"{AT}/evaluation", {}, 400), ("/x", {}, 404)):
            answer = await client.post(path, body, JSON + "X-Request-ID: bfe9eb29 ab87\r\n")
            assert (answer.status, answer.headers["x-request-id"]) == (status, "bfe9eb29 ab87")
        assert "x-request-id" not in (await client.post(f"{AT}/evaluation", WHOLE)).headers

    Stand().run(story)


@pytest.mark.parametrize(
    "head",
    [
        "GET /access/v1/evaluation",
        "PUT /access/v1/evaluation",
        "DELETE /access/v1/search/subject",
        "POST /.well-known/authzen-configuration",
    ],
)
def test_another_method_is_405(head: str) -> None:
    async def story(client: Client) -> None:
        data = json.dumps(WHOLE)
        assert (await client.raw(f"{head} HTTP/1.1\r\nhost: a\r\n{JSON}content-length: {len(data)}\r\n\r\n{data}".encode())).status == 405

    Stand().run(story)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/access/v1",
        "/access/v2/evaluation",
        "/access/v1/evaluation/",
        "/applications/",
        "/applications//access/v1/evaluation",
        "//access/v1/evaluation",
        "/access/v1/%65valuation",
    ],
)
def test_what_is_not_there_is_404(path: str) -> None:
    async def story(client: Client) -> None:
        assert (await client.post(path, WHOLE)).status == 404

    Stand(applications={"todo": example()}).run(story)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n", b"POST /x HTTP/9.9\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_not_http_ends_the_connection(data: bytes) -> None:
    async def story(client: Client) -> None:
        reader, writer = await client.streams()
        writer.write(data)
        said = await reader.read()
        assert said == b"" or said.startswith(b"HTTP/1.1 4")
        assert b"200 OK" not in said

    stand = Stand()
    stand.run(story)
    assert stand.decisions == []


def test_a_body_and_a_head_over_the_bound_end_the_connection() -> None:
    async def story(client: Client) -> None:
        answer = await client.post(f"{AT}/evaluation", WHOLE | {"context": {"x": "y" * bodies.MAX_BODY_BYTES}})
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        reader, writer = await client.streams()
        writer.write(b"GET /" + b"x" * (server.MAX_HEAD_BYTES + 1))
        assert await reader.read() == b""

    Stand().run(story)


def test_chunks_and_single_bytes_are_one_question() -> None:
    async def story(client: Client) -> None:
        _, writer = await client.streams()
        writer.write(f"POST {AT}/evaluation HTTP/1.1\r\nhost: a\r\n{JSON}transfer-encoding: chunked\r\n\r\n".encode())
        for byte in json.dumps(WHOLE).encode():
            writer.write(b"1\r\n%c\r\n" % byte)
        writer.write(b"0\r\n\r\n")
        assert (await client.hear()).json["decision"] is True

    Stand().run(story)


def test_requests_that_follow_each_other_are_answered_in_order_and_too_many_cut_off() -> None:
    async def story(client: Client) -> None:
        def one(action: str, number: int) -> bytes:
            data = json.dumps(WHOLE | {"action": {"name": action}})
            return f"POST {AT}/evaluation HTTP/1.1\r\nhost: a\r\n{JSON}x-request-id: {number}\r\ncontent-length: {len(data)}\r\n\r\n{data}".encode()

        _, writer = await client.streams()
        wanted = ["infer", "train", "infer", "train"] * 4
        writer.write(b"".join(one(action, number) for number, action in enumerate(wanted)))
        for number, action in enumerate(wanted):
            answer = await client.hear()
            assert answer.headers["x-request-id"] == str(number)
            assert answer.json["decision"] is (action == "infer")
        reader, writer = await client.streams()
        writer.write(one("infer", 1) * (server.MAX_PIPELINED + 1))
        assert await reader.read() == b""

    Stand().run(story)


def test_a_peer_that_never_ends_its_request_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.05)
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.02)

    async def story(client: Client) -> None:
        reader, writer = await client.streams()
        writer.write(b"POST /access/v1/evaluation HTTP/1.1\r\nhost: a\r\n")
        assert await reader.read() == b""
        client.close()
        idle, _ = await client.streams()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(idle.read(1), 0.15)

    Stand().run(story)


def test_connections_of_one_peer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_OF_PEER", 3)

    async def story(client: Client) -> None:
        opened = [await asyncio.open_unix_connection(str(client.path)) for _ in range(5)]
        for reader, _ in opened[3:]:
            assert await reader.read() == b""
        for _, writer in opened:
            writer.close()
        while stand.listeners.open:
            await asyncio.sleep(0.001)
        assert await client.evaluate(WHOLE)

    stand = Stand()
    stand.run(story)


def test_a_flood_is_503_and_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_LANE", 8)
    stand = Stand()

    async def story(client: Client) -> None:
        stand.gate = asyncio.Event()
        monkeypatch.setattr(recording, "MAX_WAITING", 4)
        clients = [Client(client.path) for _ in range(40)]
        waiting = [asyncio.ensure_future(one.post(f"{AT}/evaluation", WHOLE)) for one in clients]
        refused = 0
        while not refused:
            await asyncio.sleep(0.001)
            refused = sum(one.done() and one.result().status == 503 for one in waiting)
        stand.gate.set()
        answers = await asyncio.gather(*waiting)
        assert {one.status for one in answers} == {200, 503}
        assert sum(one.status == 200 for one in answers) == len(stand.decisions)
        for one in clients:
            one.close()

    stand.run(story)


def test_a_caller_over_its_rate_is_503() -> None:
    stand = Stand()
    stand.per_second = 3

    async def story(client: Client) -> None:
        assert [(await client.post(f"{AT}/evaluation", WHOLE)).status for _ in range(5)] == [200, 200, 200, 503, 503]

    stand.run(story)


def test_a_peer_that_goes_away_leaves_nothing_behind() -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        stand.gate = asyncio.Event()
        _, writer = await client.streams()
        data = json.dumps(WHOLE)
        writer.write(f"POST {AT}/evaluation HTTP/1.1\r\nhost: a\r\n{JSON}content-length: {len(data)}\r\n\r\n{data}".encode())
        await writer.drain()
        while not stand.desk._recorder._on_way:
            await asyncio.sleep(0.001)
        writer.close()
        while stand.listeners.open:
            await asyncio.sleep(0.001)
        stand.gate.set()
        assert await Client(client.path).evaluate(WHOLE)

    stand.run(story)
    assert len(stand.decisions) == 2


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["subject", "action", "resource", "context", "evaluations", "options", "page", "x"]), PLAIN, max_size=6)
)
@settings(max_examples=150)
def test_any_object_is_a_question_or_is_refused_with_a_reason(said: dict[str, Any]) -> None:
    whole = bodies.read_object(json.dumps(said).encode())
    assert whole == said
    for read in (bodies.read_evaluation, bodies.read_evaluations, lambda one: bodies.read_search(one, "subject")):
        try:
            read(whole)
        except InvalidInput as error:
            assert error.reason


@given(st.binary(max_size=60))
@settings(max_examples=150)
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    try:
        assert isinstance(bodies.read_object(body), dict)
    except InvalidInput as error:
        assert error.reason
    except ValueError as error:
        pytest.fail(f"another error: {error}")


@given(st.dictionaries(st.text(max_size=6), PLAIN, min_size=1, max_size=4), st.randoms())
def test_a_name_that_is_there_twice_is_found_wherever_it_stands(said: dict[str, Any], chance: Any) -> None:
    name = chance.choice(sorted(said))
    twice = json.dumps(said)[:-1] + "," + json.dumps(name) + " :1}"
    with pytest.raises(InvalidInput, match="twice"):
        bodies.read_object(twice.encode())
