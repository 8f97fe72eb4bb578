"""The server that Envoy asks, by itself: what it takes for a question, and what becomes of trouble."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.edges.envoy import ext_authz
from vouchgate.edges.envoy.ext_authz import read_check
from vouchgate.vocabulary.requests import Request

FACTS = {
    "x-vg-endpoint": "e",
    "x-vg-action": "a",
    "x-vg-zone": "z",
    "x-vg-peer": "127.0.0.1:1",
    "x-vg-request-id": "r",
    "x-vg-key": "e|a|-|-|s|a|-|-|-|-",
}
HEAD = "POST /p?q HTTP/1.1\r\nhost: h\r\n" + "".join(f"{name}: {value}\r\n" for name, value in FACTS.items())


async def yes(request: Request) -> ext_authz.Answer:
    return 200, {"x-vg-decision-id": "d1"}, b""


def talk(decide: ext_authz.Decide, story: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    async def main() -> None:
        folder = Path(tempfile.mkdtemp(prefix="vg"))
        server = await ext_authz.serve(str(folder / "s"), decide, allowed_uids={os.getuid()})
        reader, writer = await asyncio.open_unix_connection(str(folder / "s"))
        try:
            await asyncio.wait_for(story(reader, writer), 5)
        finally:
            writer.close()
            server.close()
            shutil.rmtree(folder)

    asyncio.run(main())


async def hear(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split(" ")[1]), headers, await reader.readexactly(int(headers["content-length"]))


def test_questions_follow_each_other_on_one_connection():
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write((HEAD + "\r\n").encode())
            assert await hear(reader) == (200, {"content-length": "0", "x-vg-decision-id": "d1"}, b"")

    talk(yes, story)


def test_a_question_in_pieces_is_one_question():
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in (HEAD + "\r\n").encode():
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await hear(reader))[0] == 200

    talk(yes, story)


@pytest.mark.parametrize("name", list(FACTS))
def test_a_question_without_a_fact_is_refused(name: str):
    assert read_check("GET", "/", [(known, value) for known, value in FACTS.items() if known != name]) is None


@pytest.mark.parametrize("name", [*FACTS, "x-vg-san", "x-vg-sub"])
def test_a_fact_said_twice_is_refused(name: str):
    assert read_check("GET", "/", [*FACTS.items(), (name, "one"), (name, "two")]) is None


def test_a_dash_is_absent():
    made = read_check("GET", "/", [*FACTS.items(), ("x-vg-san", "-"), ("x-vg-model", "m")])
    assert made is not None
    assert (made.san, made.model, made.subject) == ("", "m", "")


@pytest.mark.parametrize("prefix", ["x-vg-", "x-vouchgate-", "x-", ""])
@pytest.mark.parametrize(
    "name", ["purpose", "usual-network", "usual_hour", "weekday", "hour", "run", "stage", "declared", "risk", "source-ip"]
)
def test_what_a_policy_is_told_of_a_request_is_never_a_header(prefix: str, name: str):
    plain = read_check("GET", "/", [*FACTS.items()])
    told = read_check("GET", "/", [*FACTS.items(), (prefix + name, "true"), ("x-forwarded-for", "10.0.0.1"), ("x-real-ip", "10.0.0.1")])
    assert told == plain


@given(st.lists(st.tuples(st.sampled_from(["x-vg-san", "x-vg-endpoint", "host", "authorization", "x"]), st.text(max_size=10)), max_size=8))
def test_any_headers_give_a_question_or_nothing(headers: list[tuple[str, str]]):
    made = read_check("GET", "/", headers)
    assert made is None or made.endpoint


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000,
        (HEAD + "content-length: 5\r\ncontent-length: 6\r\n\r\n").encode(),
        (HEAD + "\r\n" + HEAD + "\r\n").encode(),
    ],
)
def test_what_envoy_never_sends_ends_the_connection(data: bytes):
    asked: list[Request] = []

    async def slow(request: Request) -> ext_authz.Answer:
        asked.append(request)
        await asyncio.sleep(0.2)
        return 200, {}, b""

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""

    talk(slow, story)


def test_a_failed_or_late_decision_is_503_without_its_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ext_authz, "DECIDE_SECONDS", 0.05)

    async def broken(request: Request) -> ext_authz.Answer:
        if request.method == "POST":
            raise RuntimeError("s3cret")
        await asyncio.sleep(5)
        return 200, {}, b""

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for head, code in ((HEAD, "pdp-failed"), (HEAD.replace("POST", "GET"), "pdp-late")):
            writer.write((head + "\r\n").encode())
            status, headers, body = await hear(reader)
            assert (status, headers["content-type"]) == (503, "application/problem+json")
            assert json.loads(body)["type"].endswith(code)
            assert json.loads(body)["request_id"] == "r"
            assert b"s3cret" not in body

    talk(broken, story)


def test_an_answer_s_header_cannot_start_another_line():
    async def split(request: Request) -> ext_authz.Answer:
        return 403, {"x-vg-decision-id": "d\r\nx-evil: 1"}, b""

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((HEAD + "\r\n").encode())
        _, headers, _ = await hear(reader)
        assert "x-evil" not in headers

    talk(split, story)


def test_too_many_at_once_are_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ext_authz, "MAX_AT_ONCE", 0)

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((HEAD + "\r\n").encode())
        status, _, body = await hear(reader)
        assert (status, json.loads(body)["type"].rpartition("/")[2]) == (503, "pdp-busy")

    talk(yes, story)


@pytest.mark.parametrize(
    "key", ["e|a|-|-|s|a|-|-|-|x", "e|a|-|-|s|a|1|-|-|-", "e|a|-|-|s|a|-|-|-|x|-|-|-|-", "-|-|-|-", "", "e|a|-|-|s|a|-|-|-|"]
)
def test_a_key_that_is_not_plain_is_beyond(key: str):
    made = read_check("GET", "/", [*(FACTS | {"x-vg-key": key}).items()])
    assert made is not None
    assert made.beyond


def test_a_plain_key_is_not_beyond():
    made = read_check("GET", "/", [*FACTS.items()])
    assert made is not None
    assert not made.beyond


@pytest.mark.parametrize(
    ("model", "asked"), [("call-tool/search", ("call-tool", "search")), ("describe/-", ("describe", "")), ("-", None), ("", None)]
)
def test_an_mcp_message_that_nobody_read_is_no_question(model: str, asked: tuple[str, str] | None):
    made = read_check("POST", "/", [*(FACTS | {"x-vg-action": "mcp", "x-vg-model": model}).items()])
    assert (made and (made.action, made.tool)) == asked
